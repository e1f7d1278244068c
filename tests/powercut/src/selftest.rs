//! The medium under the kernel, used through the crate that the broker uses.

use std::io::{ErrorKind, IoSlice};
use std::path::Path;

use anyhow::{Context, ensure};
use rocket_mapped_file::disk::DiskDirectory;
use rocket_mapped_file::{Directory, Fill, SegmentOptions};

use crate::disk::{Disk, Faults};
use crate::mount::{Mounted, now_us};

const LEN: u64 = 64 << 10;
const FILE: &str = "commitlog/0";

/// Mounts, works, cuts, mounts again, looks.
///
/// # Errors
/// What does not hold.
pub fn run() -> anyhow::Result<()> {
    let work = tempfile::tempdir()?;
    for seed in 0..8 {
        once(work.path(), seed).with_context(|| format!("seed {seed}"))?;
    }
    Ok(())
}

fn once(at: &Path, seed: u64) -> anyhow::Result<()> {
    let mounted = Mounted::new(Disk::new(seed), at, 200, seed).context("mount")?;
    work(at, &mounted)?;
    mounted.disk().cut(now_us());
    let frozen = mounted.disk().take_frozen().context("a cut")?;
    mounted.unmount().context("unmount")?;
    let mounted = Mounted::new(*frozen.after, at, 200, seed).context("mount again")?;
    look(at)?;
    mounted.unmount().context("unmount again")
}

fn options(lanes: usize) -> SegmentOptions {
    SegmentOptions {
        fill: Fill::Reserve,
        lanes,
    }
}

fn work(at: &Path, mounted: &Mounted) -> anyhow::Result<()> {
    let dir = DiskDirectory::open(&at.join("data"))?;
    dir.create_folder("commitlog")?;
    let lock = dir.lock("lock")?;
    ensure!(
        dir.lock("lock").is_err(),
        "a second lock on the mounted medium"
    );
    let segment = dir.create(FILE, LEN, options(2))?;
    segment.write_at(0, &[IoSlice::new(b"synced "), IoSlice::new(b"bytes")])?;
    segment.flush(1)?;
    segment.publish(12);
    let lease = segment.lease(0, 12)?.context("a lease")?;
    ensure!(*lease == *b"synced bytes", "a map shows {lease:?}");
    segment.write_at(4096, &[IoSlice::new(&[7; 4096])])?;
    segment.zero(4096, 8192)?;
    let mut read = [1; 16];
    segment.read_at(4096, &mut read)?;
    ensure!(read == [0; 16], "zeroed bytes are {read:?}");
    segment.flush(0)?;
    dir.replace("note", b"one")?;
    dir.replace("note", b"two")?;
    ensure!(dir.read("note")?.as_deref() == Some(b"two"), "replace");

    mounted.disk().arm(Faults {
        sync_error_at: Some(1),
        ..Faults::default()
    });
    segment.write_at(8192, &[IoSlice::new(&[9; 512])])?;
    ensure!(segment.flush(0).is_err(), "the planned sync did not fail");
    // Clean now, as Linux has it: the next one says nothing and brings nothing.
    segment.flush(0)?;

    let capacity = mounted.disk().used() + 4096;
    mounted.disk().set_capacity(Some(capacity));
    let full = dir.create("commitlog/1", LEN, options(1));
    ensure!(
        full.is_err_and(|error| error.kind() == ErrorKind::StorageFull),
        "a file was made on a full medium"
    );
    mounted.disk().set_capacity(None);
    // Whoever opens the file after the failure is not told of it.
    dir.open(FILE, options(1))?.forget_cache()?;
    segment.write_at(12_288, &[IoSlice::new(&[5; 1024])])?;
    drop((segment, lease, lock));
    Ok(())
}

fn look(at: &Path) -> anyhow::Result<()> {
    let dir = DiskDirectory::open(&at.join("data"))?;
    ensure!(
        dir.read("note")?.as_deref() == Some(b"two"),
        "a synced replacement is lost"
    );
    let segment = dir.open(FILE, options(1))?;
    ensure!(segment.len() == LEN, "the length is {}", segment.len());
    let mut read = [0; 12];
    segment.read_at(0, &mut read)?;
    ensure!(read == *b"synced bytes", "synced bytes are lost");
    let mut sector = [0; 512];
    for at in [12_288, 12_800] {
        segment.read_at(at, &mut sector)?;
        ensure!(
            sector == [0; 512] || sector == [5; 512],
            "half a sector at {at}"
        );
    }
    Ok(())
}

//! The medium as a mounted file system, through the kernel's FUSE.
//!
//! The kernel keeps its page cache over it as over any file system: reads, read-only maps and `fadvise` work on that,
//! writes come through at once. So what a process sees survives its death and not the cut, which is a new mount.
//! Syncs take a while, so that several are on their way at a time.

mod layer;
mod syncer;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{BackgroundSession, Config, Errno, MountOption, ReplyEmpty};
use parking_lot::Mutex;
use rocket_mapped_file::memory::Dice;

use crate::disk::Disk;
use layer::Layer;
use syncer::Syncer;

/// Microseconds since 1970.
pub fn now_us() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

/// A medium that is mounted; dropped, it is not any more.
pub struct Mounted {
    disk: Arc<Mutex<Disk>>,
    session: Option<BackgroundSession>,
    /// Told when the power goes.
    gone: Receiver<()>,
    /// Answers that are held back while the power is gone.
    held: Arc<Mutex<Vec<ReplyEmpty>>>,
}

impl Mounted {
    /// Mounts `disk` at `at`; a sync takes up to `sync_us`.
    ///
    /// # Errors
    /// What the kernel says: no `/dev/fuse`, no right to mount.
    pub fn new(disk: Disk, at: &Path, sync_us: u64, seed: u64) -> io::Result<Self> {
        let disk = Arc::new(Mutex::new(disk));
        let (tell, gone) = channel();
        let held = Arc::default();
        let (late, due) = channel();
        let syncer = Syncer {
            disk: Arc::clone(&disk),
            tell: tell.clone(),
            held: Arc::clone(&held),
        };
        std::thread::Builder::new()
            .name("syncs".to_owned())
            .spawn(move || syncer.run(&due))?;
        let layer = Layer {
            disk: Arc::clone(&disk),
            late,
            tell,
            dice: Mutex::new(Dice::new(seed)),
            sync_us,
        };
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("powercut".to_owned())];
        let session = fuser::spawn_mount(layer, at, &config)?;
        Ok(Self {
            disk,
            session: Some(session),
            gone,
            held,
        })
    }

    /// The medium, under its lock.
    pub fn disk(&self) -> parking_lot::MutexGuard<'_, Disk> {
        self.disk.lock()
    }

    /// Waits until the power goes as planned; false when it did not in this time.
    pub fn wait_for_cut(&self, patience: Duration) -> bool {
        self.gone.recv_timeout(patience).is_ok()
    }

    /// Answers the syncs that were held back since the power went: with an error, to who is already killed.
    pub fn release(&self) {
        for reply in self.held.lock().drain(..) {
            reply.error(Errno::EIO);
        }
    }

    /// Unmounts. Nobody may use it any more.
    ///
    /// # Errors
    /// It is in use.
    pub fn unmount(mut self) -> io::Result<()> {
        self.release();
        match self.session.take().map(BackgroundSession::umount_and_join) {
            // Depending on the moment the kernel tells the end of the mount as ENODEV or so.
            Some(Err(error)) if error.kind() == io::ErrorKind::ConnectionAborted => Ok(()),
            Some(result) => result,
            None => Ok(()),
        }
    }
}

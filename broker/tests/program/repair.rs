//! Bytes that rot on the disk of one process of a group: it has them from another one while it runs, and is ready again.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::task::TaskTracker;

use crate::group::{Group, Producer, check, until};

/// Bytes of a block that has a checksum.
const BLOCK: usize = 64 << 10;
/// In the first block.
const ROTTEN: usize = 1_000;

fn file(group: &Group, n: usize, folder: &str) -> PathBuf {
    group.data(n).join(folder).join("00000000000000000000")
}

/// Whether the first block of a replica's log has its checksum on the disk.
fn is_summed(group: &Group, n: usize) -> bool {
    let sums = fs::read(file(group, n, "rocket/checksums")).unwrap_or_default();
    sums.get(64..72)
        .is_some_and(|entry| entry.iter().any(|byte| *byte != 0))
}

#[tokio::test(flavor = "multi_thread")]
async fn slave_whose_disk_rots_has_the_bytes_from_another_replica_while_it_runs() {
    let mut group = Group::start();
    let master = group.settled().await;
    let slave = (master + 1) % 3;
    let stop = Arc::new(AtomicBool::new(false));
    let tasks = TaskTracker::new();
    let sending = tasks.spawn(Producer::new(&group).run(Arc::clone(&stop)));
    until("the first block is summed", || {
        is_summed(&group, slave).then_some(())
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    let producer = sending.await.unwrap();
    group.same_everywhere().await;
    group.kill(slave);
    let log = file(&group, slave, "commitlog");
    let before = fs::read(&log).unwrap();
    let mut bytes = before[ROTTEN..][..4].to_vec();
    for byte in &mut bytes {
        *byte ^= 0x55;
    }
    let disk = OpenOptions::new().write(true).open(&log).unwrap();
    disk.write_all_at(&bytes, ROTTEN as u64).unwrap();
    group.run(slave);
    until("the scrubber found it, and it was repaired", || {
        let repaired = group.gauge(slave, "rocket_log_repaired_bytes");
        (repaired >= BLOCK as u64).then_some(())
    })
    .await;
    group.settled().await;
    assert_eq!(group.gauge(slave, "rocket_log_damaged_bytes"), 0);
    let after = fs::read(&log).unwrap();
    assert_eq!(after[..BLOCK], before[..BLOCK], "as it was written");
    assert!(group.ready(slave).starts_with(r#"{"ready":true"#));
    group.same_everywhere().await;
    check(&group, &producer).await;
}

//! Replicas that must not go on: the process leaves with a status of its own and says what a person is to do, the others go on,
//! and when that is done it is one of them again.

use std::fs::OpenOptions;

use rustix::process::Resource;

use crate::disks::{STORE_FAILED, limit};
use crate::group::{Group, Producer, check};

/// What the process leaves with when its replica is halted.
const HALTED: Option<i32> = Some(4);
/// No file may grow beyond it: less than what is sent here.
const FILE_BYTES_MAX: u64 = 50_000;

async fn send_some(producer: &mut Producer) {
    producer.send_many(60).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_whose_disk_fails_twice_soon_starts_no_more_until_a_person_says_so() {
    let mut group = Group::start();
    let mut producer = Producer::new(&group);
    let slave = (group.settled().await + 1) % 3;
    for failure in 0..2 {
        limit(group.replica(slave), Resource::Fsize, Some(FILE_BYTES_MAX));
        send_some(&mut producer).await;
        assert_eq!(group.status(slave), STORE_FAILED, "failure {failure}");
        if failure == 0 {
            group.run(slave);
            group.slave(slave).await;
        }
    }
    for _ in 0..2 {
        let (status, said) = group.ended(slave);
        assert_eq!(status, HALTED);
        assert!(said.contains("its disk failed twice"), "{said}");
        assert!(said.contains("diskFailWindow = 0"), "{said}");
    }
    send_some(&mut producer).await;
    group.run_with(slave, &["diskFailWindow=0"]);
    group.slave(slave).await;
    // And from then on as if it had never failed.
    group.stop(slave);
    group.run(slave);
    group.slave(slave).await;
    group.same_everywhere().await;
    check(&group, &producer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_whose_log_file_ends_elsewhere_than_the_masters_says_so_and_leaves() {
    let mut group = Group::start();
    let mut producer = Producer::new(&group);
    let slave = (group.settled().await + 1) % 3;
    send_some(&mut producer).await;
    group.same_everywhere().await;
    group.stop(slave);
    // As of a broker that was configured with half the size, brought here by hand.
    let log = group.data(slave).join("commitlog");
    let first = log.join("00000000000000000000");
    for entry in std::fs::read_dir(log).unwrap() {
        let path = entry.unwrap().path();
        // Made ahead, and empty.
        if path != first {
            std::fs::remove_file(path).unwrap();
        }
    }
    let file = OpenOptions::new().write(true).open(first).unwrap();
    file.set_len(512 << 10).unwrap();
    drop(file);
    group.run(slave);
    send_some(&mut producer).await;
    assert_eq!(group.status(slave), HALTED);

    let aside = group.data(slave).with_extension("aside");
    std::fs::rename(group.data(slave), aside).unwrap();
    group.run(slave);
    group.slave(slave).await;
    group.same_everywhere().await;
    check(&group, &producer).await;
}

//! A group of three processes with a fixed master: it alone takes sends, however often it is killed, and a slave that was away or
//! the master itself copies back what it lacks.

use std::path::Path;

use rocket_protocol::{RequestCode, ResponseCode};
use rocket_replication::State;

use crate::disks::STORE_FAILED;
use crate::group::{Group, Producer, check, state, until};
use crate::messages::{ask, send};

/// No send is taken by a slave.
async fn refuses(group: &Group, slave: usize) {
    let address = group.replica(slave).address("broker");
    let refused = ask(address, RequestCode::SEND_MESSAGE, &send("T"), b"x").await;
    assert_eq!(refused.response_code(), ResponseCode::SERVICE_NOT_AVAILABLE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_survives_every_kill_of_a_fixed_master_and_no_slave_takes_a_send() {
    let mut group = Group::with_fixed_master();
    let mut producer = Producer::new(&group);
    assert_eq!(group.settled().await, 0);
    producer.send_many(100).await;
    refuses(&group, 1).await;
    assert_eq!(group.gauge(0, "rocket_in_sync_replicas"), 3);
    // One is away, and the others are enough.
    group.kill(2);
    producer.send_many(50).await;
    for _ in 0..2 {
        let epoch = group.gauge(0, "rocket_epoch");
        group.kill(0);
        refuses(&group, 1).await;
        group.run(0);
        assert_eq!(group.master().await, 0);
        assert!(
            group.gauge(0, "rocket_epoch") > epoch,
            "every start has its epoch"
        );
        check(&group, &producer).await;
        group.slave(1).await;
        refuses(&group, 1).await;
        producer.send_many(50).await;
    }
    group.run(2);
    group.slave(2).await;
    refuses(&group, 2).await;
    producer.send_many(20).await;
    group.same_everywhere().await;
    // In order it is no other.
    let epoch = group.gauge(0, "rocket_epoch");
    group.stop(0);
    refuses(&group, 1).await;
    refuses(&group, 2).await;
    group.run(0);
    assert_eq!(group.settled().await, 0);
    assert_eq!(group.gauge(0, "rocket_epoch"), epoch + 1);
    check(&group, &producer).await;
    let state = state(&group.coordinator().await).await;
    assert_eq!(state.unclean, []);
}

/// All that is in a folder but `kept`, as a person moves it aside.
pub(crate) fn empty_but(folder: &Path, kept: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path == kept {
            continue;
        }
        if kept.starts_with(&path) {
            empty_but(&path, kept);
        } else if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap();
        } else {
            std::fs::remove_file(path).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fixed_master_without_its_log_copies_everything_back_before_it_serves() {
    let mut group = Group::with_fixed_master();
    let mut producer = Producer::new(&group);
    group.settled().await;
    producer.send_many(100).await;
    group.kill(0);
    let data = group.data(0);
    empty_but(&data, &data.join("rocket/coordinator"));
    group.run(0);
    assert_eq!(group.master().await, 0, "nobody else serves meanwhile");
    check(&group, &producer).await;
    let coordinator = group.coordinator().await;
    let found = state(&coordinator).await;
    assert_eq!(found.unclean, [], "nothing was given up");
    assert_eq!(found.replicas.len(), 4, "it is another replica now");
    producer.send_many(50).await;
    for n in [1, 2] {
        group.slave(n).await;
        refuses(&group, n).await;
    }
    group.same_everywhere().await;
    check(&group, &producer).await;
}

/// An empty folder beside slaves that hold a log begins no new group.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fixed_master_that_lost_its_whole_folder_serves_nobody() {
    let mut group = Group::with_fixed_master();
    let mut producer = Producer::new(&group);
    group.settled().await;
    producer.send_many(10).await;
    group.kill(0);
    std::fs::remove_dir_all(group.data(0)).unwrap();
    group.run(0);
    let says = |n: usize, why: &str| {
        let (status, said) = group.replica(n).http("/readyz");
        (status != 200 && said.contains(why)).then_some(())
    };
    until("it says that it waits", || {
        says(0, "its group has no master")
    })
    .await;
    // The slaves find that this is not their group: they stay, and register nowhere.
    for n in [1, 2] {
        let outside = "it is not registered with its group";
        until("it is outside", || says(n, outside)).await;
        refuses(&group, n).await;
    }
    let coordinator = group.coordinator().await;
    let found = state(&coordinator).await;
    assert_eq!((found.master, found.replicas.len()), (None, 1));
}

/// It has other ports, so that the folder is what stands in its way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_start_on_a_fixed_masters_folder_asks_the_group_for_nothing() {
    let group = Group::with_fixed_master();
    group.settled().await;
    let coordinator = group.coordinator().await;
    let asked = |state: &State| (state.min_in_sync, state.policy);
    let before = asked(state(&coordinator).await.as_ref());
    let address = format!("replicationAddress={}:10912", group.host(0));
    let (status, said) = group.ended_with(
        0,
        &[
            "listenPort=10921",
            "haListenPort=10922",
            &address,
            "minInSyncReplicas=1",
            "flushDiskType=ASYNC_FLUSH",
            "weakenGroup=true",
        ],
    );
    assert_eq!(status, STORE_FAILED, "{said}");
    assert!(said.contains("locked by another broker"), "{said}");
    assert_eq!(asked(state(&coordinator).await.as_ref()), before);
}

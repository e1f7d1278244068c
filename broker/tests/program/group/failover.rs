//! What a producer was told is kept stays, at its offset, whichever process dies, is restarted, hands over or stands still.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rocket_protocol::header::{
    OffsetResponseHeader, QueryConsumerOffsetHeader, UpdateConsumerOffsetHeader,
};
use rocket_protocol::{Command, RequestCode, ResponseCode};
use rustix::process::Signal;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::producer::{TOPIC, consumed};
use super::{Group, PATIENCE, Producer, check, until};
use crate::messages::{ask, pull, send};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_survives_a_killed_master_which_comes_back_as_a_slave() {
    let mut group = Group::start();
    let mut producer = Producer::new(&group);
    let first = group.settled().await;
    producer.send_many(200).await;
    let epoch = group.gauge(first, "rocket_epoch");
    assert_eq!(group.gauge(first, "rocket_role"), 1);
    assert_eq!(group.gauge(first, "rocket_in_sync_replicas"), 3);
    assert_eq!(group.gauge(first, "rocket_min_in_sync_replicas"), 2);
    let slave = (first + 1) % 3;
    let refused = ask(
        group.replica(slave).address("broker"),
        RequestCode::SEND_MESSAGE,
        &send(TOPIC),
        b"x",
    )
    .await;
    assert_eq!(refused.response_code(), ResponseCode::SERVICE_NOT_AVAILABLE);

    group.kill(first);
    let second = group.master().await;
    assert!(group.gauge(second, "rocket_epoch") > epoch);
    check(&group, &producer).await;
    producer.send_many(200).await;

    group.run(first);
    group.slave(first).await;
    assert!(group.is_master(second), "nobody is replaced for a slave");
    producer.send_many(50).await;
    group.same_everywhere().await;
    check(&group, &producer).await;
    // What one that is gone lacks is told, also when it is not waited for any more.
    group.kill(first);
    until("it is out of the in-sync set", || {
        (group.gauge(second, "rocket_in_sync_replicas") == 2).then_some(())
    })
    .await;
    producer.send_many(20).await;
    let lag = group.gauge(second, "rocket_replication_lag_bytes");
    assert!(lag > 20 * 2_000, "{lag}");
    // With two of three gone, nothing is promised any more.
    group.kill(3 - first - second);
    let address = group.replica(second).address("broker").to_owned();
    until_refused(&mut producer, &address).await;
}

/// Sends until the group says that too few are in sync.
async fn until_refused(producer: &mut Producer, address: &str) {
    let refusing = async {
        loop {
            let kept = producer.kept.len();
            producer.send_to(address).await;
            assert_eq!(producer.kept.len(), kept, "one copy is not two");
            let answer = ask(address, RequestCode::SEND_MESSAGE, &send(TOPIC), b"x").await;
            if answer.response_code() == ResponseCode::SYSTEM_ERROR {
                return answer;
            }
        }
    };
    let answer = timeout(PATIENCE, refusing).await.expect("it is refused");
    let remark = answer.remark.unwrap_or_default();
    assert!(remark.contains("in-sync replicas not enough"), "{remark}");
}

/// A group of consumers has come to `position` in queue 0.
async fn commit(broker: &str, position: i64) {
    let header = UpdateConsumerOffsetHeader {
        consumer_group: "consumers".into(),
        topic: TOPIC.into(),
        queue_id: 0,
        commit_offset: position,
    };
    let answer = ask(broker, RequestCode::UPDATE_CONSUMER_OFFSET, &header, b"").await;
    assert_eq!(answer.response_code(), ResponseCode::SUCCESS, "{answer:?}");
}

/// Where it has come to.
async fn committed(broker: &str) -> i64 {
    let header = QueryConsumerOffsetHeader {
        consumer_group: "consumers".into(),
        topic: TOPIC.into(),
        ..QueryConsumerOffsetHeader::default()
    };
    let answer = ask(broker, RequestCode::QUERY_CONSUMER_OFFSET, &header, b"").await;
    assert_eq!(answer.response_code(), ResponseCode::SUCCESS, "{answer:?}");
    answer.header::<OffsetResponseHeader>().unwrap().offset
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_restart_of_all_three_loses_nothing_and_hands_the_mastership_over() {
    let mut group = Group::start();
    group.master().await;
    let mut producer = Producer::new(&group);
    producer.send_many(5).await;
    // Makes the group of consumers known.
    let master = group.master().await;
    consumed(group.replica(master).address("broker")).await;
    let stop = Arc::new(AtomicBool::new(false));
    let tasks = TaskTracker::new();
    let sending = tasks.spawn(producer.run(Arc::clone(&stop)));
    for n in 0..3 {
        let master = group.master().await;
        let epoch = group.gauge(master, "rocket_epoch");
        let position = i64::try_from(n).unwrap() + 1;
        commit(group.replica(master).address("broker"), position).await;
        group.stop(n);
        let now = group.master().await;
        let handed_over = u64::from(n == master);
        assert_eq!(group.gauge(now, "rocket_epoch"), epoch + handed_over);
        let committed = committed(group.replica(now).address("broker")).await;
        assert_eq!(committed, position, "told to the group before the handover");
        group.run(n);
        group.slave(n).await;
    }
    stop.store(true, Ordering::Release);
    let producer = sending.await.unwrap();
    assert!(producer.kept.len() > 10, "{}", producer.kept.len());
    group.same_everywhere().await;
    check(&group, &producer).await;
    group.stop(0);
    let (status, reason) = group.alone(0);
    assert_eq!(status, Some(2), "{reason}");
    assert!(reason.contains("name its coordinator"), "{reason}");
}

/// No residence proof, and nobody's connection is closed because it is silent.
const NO_IDLE_TIME: &[&str] = &[
    "residenceProofPath=",
    "serverChannelMaxIdleTimeSeconds=86400",
];

/// Until one waits at `n`.
async fn pull_waits(group: &Group, n: usize) {
    until("the pull waits", || {
        let metrics = group.replica(n).http("/metrics").1;
        let waits = metrics.lines().any(|line| {
            line.starts_with("rocketmq_processor_watermark{")
                && line.contains("\"pull\"")
                && line.ends_with("} 1")
        });
        waits.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn master_that_is_replaced_answers_the_pulls_that_wait_and_closes_its_connections() {
    let group = Group::start_with(NO_IDLE_TIME);
    let mut producer = Producer::new(&group);
    let old = group.settled().await;
    producer.send_many(10).await;
    let client = group.client(old).await;
    let hold = Duration::from_mins(1);
    let end = producer.kept.keys().last().unwrap() + 1;
    let waiting = Command::request(RequestCode::PULL_MESSAGE).with_header(&pull(TOPIC, end, hold));
    let handing_over = async {
        pull_waits(&group, old).await;
        group.ask_handover().await;
    };
    let (answer, ()) = tokio::join!(client.call(waiting, hold), handing_over);
    assert_eq!(
        answer.unwrap().response_code(),
        ResponseCode::PULL_NOT_FOUND
    );
    until("its connections are closed", || {
        (!client.is_open()).then_some(())
    })
    .await;
    let new = group.master().await;
    assert_ne!(new, old);
    group.slave(old).await;
    producer.send().await;
    assert_eq!(group.gauge(old, "rocket_role"), 0);
    check(&group, &producer).await;
}

/// One that does not learn of the next master, as the address that it knows follows the mastership a moment late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn producer_that_stays_connected_is_refused_nothing_while_the_master_hands_over() {
    let mut group = Group::start();
    for is_stopped in [false, true] {
        let old = group.settled().await;
        let address = group.replica(old).address("broker").to_owned();
        let epoch = group.gauge(old, "rocket_epoch");
        let mut producer = Producer::new(&group);
        assert!(producer.send_to(&address).await);
        let mut stopped = None;
        if is_stopped {
            stopped = group.replicas[old].take();
            stopped.as_ref().unwrap().signal(Signal::TERM);
        } else {
            group.ask_handover().await;
        }
        // While it moves, and then to the master that is none any more, until that closes the connection.
        while producer.is_connected() {
            producer.send_to(&address).await;
        }
        assert_eq!(producer.refused, Vec::<String>::new());
        let new = group.master().await;
        assert_eq!(group.gauge(new, "rocket_epoch"), epoch + 1);
        let found = consumed(group.replica(new).address("broker")).await;
        for (offset, number) in &producer.kept {
            assert_eq!(found.get(offset), Some(number), "offset {offset}");
        }
        if let Some(mut stopped) = stopped {
            assert_eq!(stopped.exit_status(), Some(0));
        }
    }
}

/// How many brokers the name server takes for alive.
fn registered(group: &Group) -> u64 {
    let text = group.name_server.http("/metrics").1;
    let mut lines = text.lines();
    let line = lines.find(|line| line.starts_with("rocket_namesrv_brokers{"));
    let value = line.and_then(|line| line.rsplit(' ').next());
    value.unwrap().parse().unwrap()
}

/// It learns that it was replaced when it goes on: then it answers the pulls that wait, closes its connections and has the name server forget it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn master_that_stood_still_and_was_replaced_acknowledges_nothing_and_follows() {
    let group = Group::start_with(NO_IDLE_TIME);
    let mut producer = Producer::new(&group);
    let old = group.settled().await;
    producer.send_many(20).await;
    let (client, idle) = (group.client(old).await, group.client(old).await);
    let tasks = TaskTracker::new();
    let hold = Duration::from_mins(1);
    let end = producer.kept.keys().last().unwrap() + 1;
    let pulling = Command::request(RequestCode::PULL_MESSAGE).with_header(&pull(TOPIC, end, hold));
    let consumer = Arc::new(group.client(old).await);
    let waiting = tasks.spawn({
        let consumer = Arc::clone(&consumer);
        async move { consumer.call(pulling, hold).await }
    });
    pull_waits(&group, old).await;
    group.replica(old).pause();
    // Waits in its socket until it goes on.
    let request = Command::request(RequestCode::SEND_MESSAGE)
        .with_header(&send(TOPIC))
        .with_body(b"not there".to_vec());
    let late = tasks.spawn(async move { client.call(request, PATIENCE).await });
    let others: Vec<usize> = (0..3).filter(|n| *n != old).collect();
    let new = until("another one is elected", || {
        others.iter().copied().find(|n| group.is_master(*n))
    })
    .await;
    producer.client = None;
    producer.send_many(20).await;
    until("the name server knows both", || {
        (registered(&group) == 2).then_some(())
    })
    .await;
    assert!(idle.is_open());
    group.replica(old).signal(Signal::CONT);
    if let Ok(answer) = late.await.unwrap() {
        assert_ne!(answer.response_code(), ResponseCode::SUCCESS);
    }
    let answer = waiting.await.unwrap().unwrap();
    assert_eq!(answer.response_code(), ResponseCode::PULL_NOT_FOUND);
    until("its connections are closed", || {
        (!idle.is_open() && !consumer.is_open()).then_some(())
    })
    .await;
    until("the name server knows the next one alone", || {
        (registered(&group) == 1).then_some(())
    })
    .await;
    group.slave(old).await;
    // Where the route leads now.
    producer.client = None;
    producer.send_many(20).await;
    group.same_everywhere().await;
    assert!(group.is_master(new));
    check(&group, &producer).await;
}

//! A replica that joins when retention has taken the last message of a queue: it has never had one of that queue, and gives none of
//! the offsets again when it is master.

use std::sync::Arc;
use std::time::Duration;

use rocket_protocol::header::{
    GetMaxOffsetHeader, GetMinOffsetHeader, OffsetResponseHeader, SendMessageHeader,
    SendMessageResponseHeader,
};
use rocket_protocol::{Command, RecordView, RequestCode, ResponseCode};
use rocket_remoting::{Client, ClientConfig, NoRequests};
use tokio::time::interval;

use crate::fixed::empty_but;
use crate::group::{Group, state, until};
use crate::messages::{ask, pull, send};

/// The topic of delayed messages, and its second level.
const SCHEDULE: &str = "SCHEDULE_TOPIC_XXXX";
const LEVEL: &str = "DELAY\u{1}2\u{2}";
/// Where delayed messages come to.
const DELIVERED: &str = "T";
/// A topic with few messages, and one with many.
const SELDOM: &str = "seldom";
const OFTEN: &str = "often";

/// Files of 1 MiB, of which three stay at the most; levels of a moment.
const SMALL: &[&str] = &[
    "residenceProofPath=",
    "commitLogBytesMax=3145728",
    "cleanResourceInterval=100",
    "unconsumedExtraTime=0",
    "messageDelayLevel=1s 1s",
];

/// Sends a message; its offset.
async fn put(broker: &str, topic: &'static str, properties: &'static str, body: &[u8]) -> i64 {
    let config = ClientConfig::default();
    let client = Client::connect(broker, config, Arc::new(NoRequests))
        .await
        .unwrap();
    let header = SendMessageHeader {
        properties: Some(properties.into()),
        ..send(topic)
    };
    let request = Command::request(RequestCode::SEND_MESSAGE)
        .with_header(&header)
        .with_body(body.to_vec());
    let answer = client.call(request, Duration::from_secs(30)).await.unwrap();
    assert_eq!(answer.response_code(), ResponseCode::SUCCESS, "{answer:?}");
    client.close().await;
    answer
        .header::<SendMessageResponseHeader>()
        .unwrap()
        .queue_offset
}

/// First and last offset of a queue.
async fn range(broker: &str, topic: &'static str, queue_id: i32) -> (i64, i64) {
    let min = GetMinOffsetHeader {
        topic: topic.into(),
        queue_id,
    };
    let max = GetMaxOffsetHeader {
        topic: topic.into(),
        queue_id,
        ..GetMaxOffsetHeader::default()
    };
    let min = ask(broker, RequestCode::GET_MIN_OFFSET, &min, b"").await;
    let max = ask(broker, RequestCode::GET_MAX_OFFSET, &max, b"").await;
    let of = |answer: Command| answer.header::<OffsetResponseHeader>().unwrap().offset;
    (of(min), of(max))
}

/// Waits until so many delayed messages were delivered.
async fn until_delivered(broker: &str, count: i64) {
    let mut ticks = interval(Duration::from_millis(50));
    while range(broker, DELIVERED, 0).await.1 < count {
        ticks.tick().await;
    }
}

/// Sends to another topic until nothing is left of these queues, which had three messages each.
async fn until_expired(broker: &str, queues: &[(&'static str, i32)]) {
    let mut ticks = interval(Duration::from_millis(50));
    for (topic, queue) in queues {
        while range(broker, topic, *queue).await != (3, 3) {
            for _ in 0..20 {
                put(broker, OFTEN, "", &vec![b'x'; 60_000]).await;
            }
            ticks.tick().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_that_joined_after_retention_gives_no_offset_again_and_delivers_what_is_delayed() {
    let mut group = Group::start_with(SMALL);
    let first = group.settled().await;
    let broker = group.replica(first).address("broker").to_owned();
    for number in 0..3 {
        assert_eq!(put(&broker, SELDOM, "", b"x").await, number);
        put(&broker, DELIVERED, LEVEL, b"early").await;
    }
    until_delivered(&broker, 3).await;
    until_expired(&broker, &[(SELDOM, 0), (SCHEDULE, 1)]).await;

    // Another disk in the place of a slave's.
    let joined = (first + 1) % 3;
    group.kill(joined);
    std::fs::remove_dir_all(group.data(joined)).unwrap();
    group.run(joined);
    group.slave(joined).await;
    let coordinator = group.coordinator().await;
    until("everybody is in sync", || {
        (group.gauge(first, "rocket_in_sync_replicas") == 3).then_some(())
    })
    .await;
    group
        .change(|state, proposal| {
            // The one that registered last.
            let last = state.in_sync.iter().map(|member| member.replica_id).max();
            state.handover_asked(proposal, last)
        })
        .await;
    until("the mastership is handed over", || {
        group.is_master(joined).then_some(())
    })
    .await;
    assert_eq!(state(&coordinator).await.unclean, []);

    let broker = group.replica(joined).address("broker").to_owned();
    assert_eq!(range(&broker, SELDOM, 0).await, (3, 3));
    assert_eq!(put(&broker, SELDOM, "", b"y").await, 3);
    let before = range(&broker, DELIVERED, 0).await.1;
    put(&broker, DELIVERED, LEVEL, b"late").await;
    until_delivered(&broker, before + 1).await;
    let wanted = pull(DELIVERED, before, Duration::ZERO);
    let answer = ask(&broker, RequestCode::PULL_MESSAGE, &wanted, b"").await;
    let records = answer.body.contiguous();
    let (record, _) = RecordView::parse(&records).unwrap();
    assert_eq!(record.body(), b"late");
    group.same_everywhere().await;
    for n in 0..3 {
        assert_eq!(group.gauge(n, "rocket_log_misplaced_messages"), 0, "{n}");
    }
}

/// As docs/replication.md has it (§14, static): all of its folder is moved aside but the record of the group.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fixed_master_that_lost_its_log_after_retention_gives_no_offset_again() {
    let mut group = Group::with_fixed_master_and(SMALL);
    group.settled().await;
    let broker = group.replica(0).address("broker").to_owned();
    for number in 0..3 {
        assert_eq!(put(&broker, SELDOM, "", b"x").await, number);
    }
    until_expired(&broker, &[(SELDOM, 0)]).await;
    group.kill(0);
    let data = group.data(0);
    empty_but(&data, &data.join("rocket/coordinator"));
    group.run(0);
    assert_eq!(group.settled().await, 0);
    let broker = group.replica(0).address("broker").to_owned();
    assert_eq!(range(&broker, SELDOM, 0).await, (3, 3));
    assert_eq!(put(&broker, SELDOM, "", b"y").await, 3);
    group.same_everywhere().await;
    for n in 0..3 {
        assert_eq!(group.gauge(n, "rocket_log_misplaced_messages"), 0, "{n}");
    }
}

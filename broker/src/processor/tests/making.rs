//! What clients make: bounded, on disk before the answer, and in nobody's way. What they read from the disk is neither.

use std::sync::Arc;

use rocket_protocol::header::{
    ConsumerSendMsgBackHeader, GetConsumeStatsHeader, GetEarliestMsgStoretimeHeader,
    GroupTopicHeader, QueryConsumerOffsetHeader, QueryMessageHeader, ResetOffsetHeader,
    SearchOffsetHeader, TopicHeader, UpdateConsumerOffsetHeader, ViewMessageHeader,
};
use rocket_protocol::{Command, HeaderFields, RequestCode, ResponseCode, UnixMillis};

use super::{START, World, pull_header};
use crate::config::BrokerConfig;
use crate::metadata::Metadata;

#[tokio::test]
async fn a_client_cannot_make_more_topics_groups_and_positions_than_it_may() {
    let world = World::new().await;
    let metadata = &world.processor.deps.metadata;
    let groups = || metadata.groups.to_body().subscription_group_table.len();
    let groups_max = groups() + 2;
    let max = format!(
        "autoCreateTopicsMax={}\nautoCreateGroupsMax={groups_max}",
        metadata.topics.names().len() + 3
    );
    world.processor.deps.config.update(&max).unwrap();
    let client = world.client().await;
    let mut refused = Vec::new();
    for number in 0..6 {
        let answer = client.send(&format!("t{number}"), 0, "x", "").await;
        if answer.response_code() != ResponseCode::SUCCESS {
            assert_eq!(answer.response_code(), ResponseCode::TOPIC_NOT_EXIST);
            refused.push(answer.remark.as_deref().unwrap_or_default().to_owned());
        }
    }
    assert_eq!(refused.len(), 3);
    assert!(
        refused[0].contains("raise autoCreateTopicsMax"),
        "{refused:?}"
    );
    client.send_ok("t0", 1, "x", "").await;

    for number in 0..4 {
        let group = format!("g{number}");
        client.heartbeat("c", &group, "t0", "*").await;
    }
    assert_eq!(groups(), groups_max);
    let mut header = pull_header("t0", 0, 0, 4);
    header.consumer_group = "g3".into();
    let pull = Command::request(RequestCode::PULL_MESSAGE).with_header(&header);
    let missing = ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST;
    let answer = client.expect(pull, missing).await;
    let remark = answer.remark.as_deref().unwrap_or_default();
    assert!(remark.contains("raise autoCreateGroupsMax"), "{remark}");

    let commit = |queue_id| {
        let header = UpdateConsumerOffsetHeader {
            consumer_group: "g0".into(),
            topic: "t0".into(),
            queue_id,
            commit_offset: 1,
        };
        Command::request(RequestCode::UPDATE_CONSUMER_OFFSET).with_header(&header)
    };
    client.expect(commit(3), ResponseCode::SUCCESS).await;
    let illegal = ResponseCode::INVALID_PARAMETER;
    client.expect(commit(4), illegal).await;
    world.stop().await;
}

#[tokio::test]
async fn a_client_makes_no_retry_or_dead_letter_topic_without_its_group() {
    for auto_create in ["true", "false"] {
        let world = World::with(&[("autoCreateTopicEnable", auto_create)]).await;
        let metadata = &world.processor.deps.metadata;
        let groups = metadata.groups.to_body().subscription_group_table.len();
        let config = &world.processor.deps.config;
        let allow = |more| {
            let max = format!("autoCreateGroupsMax={}", groups + more);
            config.update(&max).unwrap();
        };
        allow(0);
        let client = world.client().await;
        let missing = ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST;
        let before = metadata.topics.names().len();
        for number in 0..10 {
            for kind in ["RETRY", "DLQ"] {
                let topic = format!("%{kind}%n{number}");
                let answer = client.send(&topic, 0, "x", "").await;
                assert_eq!(answer.response_code(), missing, "{topic} {auto_create}");
            }
        }
        // Nobody's.
        let answer = client.send("%RETRY%", 0, "x", "").await;
        assert_eq!(answer.response_code(), missing);
        assert_eq!(metadata.topics.names().len(), before);
        // With room for its group it is made, and the group.
        allow(1);
        client.send_ok("%RETRY%g", 0, "x", "").await;
        assert!(metadata.groups.contains("g"));
        assert_eq!(metadata.topics.names().len(), before + 1);
        config.update("autoCreateSubscriptionGroup=false").unwrap();
        allow(2);
        let answer = client.send("%RETRY%h", 0, "x", "").await;
        assert_eq!(answer.response_code(), missing);
        assert_eq!(metadata.topics.names().len(), before + 1);
        world.stop().await;
    }
}

/// On a runtime with workers as in the program: who makes something gives its worker away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_make_topics_and_groups_at_once_are_all_served_and_all_is_on_disk() {
    let world = World::new().await;
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..32 {
        let client = world.client().await;
        clients.spawn(async move {
            let topic = format!("t{number}");
            client.send_ok(&topic, 0, "x", "").await;
            client
                .heartbeat(&topic, &format!("g{number}"), &topic, "*")
                .await;
        });
    }
    clients.join_all().await;
    let config = BrokerConfig::default();
    let again = Metadata::open(world.dir.path(), &config, UnixMillis(START)).unwrap();
    for number in 0..32 {
        assert!(again.topics.contains(&format!("t{number}")));
        assert!(again.topics.contains(&format!("%RETRY%g{number}")));
        assert!(again.groups.contains(&format!("g{number}")));
    }
    world.stop().await;
}

#[tokio::test]
async fn who_may_make_something_is_told_to_wait_when_too_many_do() {
    let world = World::new().await;
    let all = u32::try_from(super::super::making::WAITING_MAX).unwrap();
    let busy = world.processor.writers.acquire_many(all).await.unwrap();
    let client = world.client().await;
    let answer = client.send("t", 0, "x", "").await;
    assert_eq!(answer.response_code(), ResponseCode::SYSTEM_BUSY);
    drop(busy);
    client.send_ok("t", 0, "x", "").await;
    world.stop().await;
}

#[tokio::test]
async fn a_group_lives_for_retention_while_a_member_subscribes_to_the_topic() {
    let world = World::new().await;
    let client = world.client().await;
    client.send_ok("t", 0, "x", "").await;
    client.heartbeat("c", "g", "t", "*").await;
    let header = UpdateConsumerOffsetHeader {
        consumer_group: "g".into(),
        topic: "t".into(),
        queue_id: 0,
        commit_offset: 0,
    };
    let commit = Command::request(RequestCode::UPDATE_CONSUMER_OFFSET).with_header(&header);
    client.expect(commit, ResponseCode::SUCCESS).await;
    let deps = &world.processor.deps;
    let is_live = |hours: i64| {
        use rocket_store::Readers as _;
        let readers = deps.readers.readers(UnixMillis(START + hours * 3_600_000));
        let found = readers.iter().find(|reader| reader.group.as_str() == "g");
        found.map(|reader| reader.is_live)
    };
    assert_eq!(is_live(0), Some(true));
    assert_eq!(is_live(1000), Some(true), "its member subscribes");
    client.heartbeat("c", "g", "other", "*").await;
    assert_eq!(is_live(2000), Some(false), "to something else by now");
    world.stop().await;
}

/// Requests that read messages wherever they are.
fn reading_requests() -> Vec<Command> {
    fn with(code: RequestCode, header: &impl HeaderFields) -> Command {
        Command::request(code).with_header(header)
    }
    let (topic, consumer_group) = (|| "t".into(), || "g".into());
    vec![
        with(
            RequestCode::SEARCH_OFFSET_BY_TIMESTAMP,
            &SearchOffsetHeader {
                topic: topic(),
                ..SearchOffsetHeader::default()
            },
        ),
        with(
            RequestCode::GET_EARLIEST_MSG_STORETIME,
            &GetEarliestMsgStoretimeHeader {
                topic: topic(),
                ..GetEarliestMsgStoretimeHeader::default()
            },
        ),
        with(
            RequestCode::INVOKE_BROKER_TO_RESET_OFFSET,
            &ResetOffsetHeader {
                topic: topic(),
                group: consumer_group(),
                ..ResetOffsetHeader::default()
            },
        ),
        with(
            RequestCode::VIEW_MESSAGE_BY_ID,
            &ViewMessageHeader::default(),
        ),
        with(
            RequestCode::QUERY_MESSAGE,
            &QueryMessageHeader {
                topic: topic(),
                key: "k".into(),
                max_num: 1,
                end_timestamp: i64::MAX,
                ..QueryMessageHeader::default()
            },
        ),
        with(
            RequestCode::GET_TOPIC_STATS_INFO,
            &TopicHeader { topic: topic() },
        ),
        with(
            RequestCode::GET_CONSUME_STATS,
            &GetConsumeStatsHeader {
                consumer_group: consumer_group(),
                ..GetConsumeStatsHeader::default()
            },
        ),
        with(
            RequestCode::QUERY_CONSUME_TIME_SPAN,
            &GroupTopicHeader {
                group: consumer_group(),
                topic: Some(topic()),
            },
        ),
        Command::request(RequestCode::GET_BROKER_CONSUME_STATS).with_ext("isOrder", "false"),
        Command::request(RequestCode::GET_BROKER_RUNTIME_INFO),
        with(
            RequestCode::QUERY_CONSUMER_OFFSET,
            &QueryConsumerOffsetHeader {
                consumer_group: consumer_group(),
                topic: topic(),
                ..QueryConsumerOffsetHeader::default()
            },
        ),
        with(
            RequestCode::CONSUMER_SEND_MSG_BACK,
            &ConsumerSendMsgBackHeader {
                group: consumer_group(),
                ..ConsumerSendMsgBackHeader::default()
            },
        ),
    ]
}

#[tokio::test]
async fn who_reads_from_the_disk_is_told_to_wait_when_too_many_do() {
    let world = World::new().await;
    let client = world.client().await;
    client.send_ok("t", 0, "x", "KEYS\u{1}k\u{2}").await;
    client.heartbeat("c", "g", "t", "*").await;
    let all = u32::try_from(super::super::making::WAITING_MAX).unwrap();
    let busy = world.processor.readers.acquire_many(all).await.unwrap();
    for request in reading_requests() {
        client.expect(request, ResponseCode::SYSTEM_BUSY).await;
    }
    // Others are served meanwhile.
    assert_eq!(client.pull("t", 0, 0).await.bodies, ["x"]);
    drop(busy);
    for request in reading_requests() {
        client.expect(request, ResponseCode::SUCCESS).await;
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_reads_from_the_disk_keeps_nobody_else_from_the_only_worker() {
    let world = World::new().await;
    let (tell, told) = std::sync::mpsc::channel();
    let (began, begun) = tokio::sync::oneshot::channel();
    let mut tasks = tokio::task::JoinSet::new();
    let processor = Arc::clone(&world.processor);
    tasks.spawn(async move {
        let read = processor.reading(|| {
            began.send(()).unwrap();
            told.recv_timeout(super::PATIENCE)
        });
        read.unwrap().unwrap();
    });
    tasks.spawn(async move {
        begun.await.unwrap();
        tell.send(()).unwrap();
    });
    tasks.join_all().await;
    world.stop().await;
}

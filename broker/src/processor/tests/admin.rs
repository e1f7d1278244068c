use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus::core::Collector as _;
use rocket_namesrv::RouteTable;
use rocket_namesrv::table::{Queues, Registration, Rules, Version};
use rocket_protocol::body::{
    BrokerConsumeStats, ConsumeStats, GroupList, KvTable, QuerySubscription, RegisterBrokerBody,
    SubscriptionGroupTable, TopicConfigTable, TopicStats,
};
use rocket_protocol::header::{CreateTopicHeader, QueryMessageHeader, UpdateConsumerOffsetHeader};
use rocket_protocol::{Command, RequestCode, ResponseCode, UnixMillis};

use super::{World, pull_header};
use crate::announcement::BrokerAnnouncement;
use crate::metrics::Metrics;
use crate::registration::Announcement as _;

fn create(topic: &'static str, queues: i32, attributes: Option<&'static str>) -> Command {
    let header = CreateTopicHeader {
        topic: topic.into(),
        default_topic: "TBW102".into(),
        read_queue_nums: queues,
        write_queue_nums: queues,
        perm: 6,
        topic_filter_type: "SINGLE_TAG".into(),
        attributes: attributes.map(Into::into),
        ..CreateTopicHeader::default()
    };
    Command::request(RequestCode::UPDATE_AND_CREATE_TOPIC).with_header(&header)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_made_told_and_deleted() {
    let world = World::new().await;
    let client = world.client().await;
    for (request, code) in [
        (
            create("made", 3, Some("+message.type=FIFO")),
            ResponseCode::SUCCESS,
        ),
        (create("a b", 3, None), ResponseCode::INVALID_PARAMETER),
        (create("TBW102", 3, None), ResponseCode::INVALID_PARAMETER),
        (
            create("DefaultCluster", 3, None),
            ResponseCode::INVALID_PARAMETER,
        ),
        (create("made", -1, None), ResponseCode::INVALID_PARAMETER),
        (
            create("made", 3, Some("+cleanup.policy=COMPACTION")),
            ResponseCode::INVALID_PARAMETER,
        ),
    ] {
        client.expect(request, code).await;
    }
    let all = Command::request(RequestCode::GET_ALL_TOPIC_CONFIG);
    let response = client.expect(all, ResponseCode::SUCCESS).await;
    let table = TopicConfigTable::parse(&response.body.contiguous()).unwrap();
    let made = &table.topic_config_table["made"];
    assert_eq!(made.write_queue_nums, 3);
    assert_eq!(made.attributes["message.type"], "FIFO");
    assert!(table.data_version.counter > 0);
    client.send_ok("made", 0, "x", "").await;
    let delete = || Command::request(RequestCode::DELETE_TOPIC_IN_BROKER).with_ext("topic", "made");
    client.expect(delete(), ResponseCode::SUCCESS).await;
    let get = Command::request(RequestCode::GET_TOPIC_CONFIG).with_ext("topic", "made");
    client.expect(get, ResponseCode::TOPIC_NOT_EXIST).await;
    client
        .expect(create("made", 3, None), ResponseCode::SUCCESS)
        .await;
    assert_eq!(client.send_ok("made", 0, "y", "").await.queue_offset, 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_are_made_told_and_deleted() {
    let world = World::new().await;
    let client = world.client().await;
    let put = Command::request(RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP)
        .with_body(br#"{"groupName":"made","retryMaxTimes":3}"#.to_vec());
    client.expect(put, ResponseCode::SUCCESS).await;
    for queues in [-1, 65_537] {
        let body = format!(r#"{{"groupName":"large","retryQueueNums":{queues}}}"#);
        let put = Command::request(RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP)
            .with_body(body.into_bytes());
        client.expect(put, ResponseCode::INVALID_PARAMETER).await;
    }
    let all = || Command::request(RequestCode::GET_ALL_SUBSCRIPTIONGROUP_CONFIG);
    let groups = async || {
        let response = client.expect(all(), ResponseCode::SUCCESS).await;
        SubscriptionGroupTable::parse(&response.body.contiguous())
            .unwrap()
            .subscription_group_table
    };
    let table = groups().await;
    assert_eq!(table["made"].retry_max_times, 3);
    assert!(table.contains_key("TOOLS_CONSUMER"));
    let (stats, metrics) = (&world.processor.stats, &world.processor.deps.metrics);
    stats.got("t", "made", 1, 10, true);
    metrics.given("t", "made", false, 1, 10);
    let counted = || format!("{:?}", metrics.series.messages_out.collect()).contains("made");
    assert!(counted());
    let delete = Command::request(RequestCode::DELETE_SUBSCRIPTIONGROUP)
        .with_ext("groupName", "made")
        .with_ext("cleanOffset", "true");
    client.expect(delete, ResponseCode::SUCCESS).await;
    assert!(!groups().await.contains_key("made"));
    assert!(stats.view("GROUP_GET_NUMS", "t@made", "c").is_none() && !counted());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_and_rates_are_told() {
    let world = World::new().await;
    let client = world.client().await;
    for body in ["a", "b", "c"] {
        client.send_ok("orders", 1, body, "").await;
    }
    let mut header = pull_header("orders", 1, 0, 1 | 4);
    header.commit_offset = 1;
    header.max_msg_nums = 2;
    let pull = Command::request(RequestCode::PULL_MESSAGE).with_header(&header);
    client.expect(pull, ResponseCode::SUCCESS).await;
    let request = Command::request(RequestCode::GET_CONSUME_STATS).with_ext("consumerGroup", "g");
    let response = client.expect(request, ResponseCode::SUCCESS).await;
    let stats = ConsumeStats::parse(&response.body.contiguous()).unwrap();
    assert_eq!(stats.offset_table.0.len(), 4);
    let (queue, row) = stats
        .offset_table
        .0
        .iter()
        .find(|(queue, _)| queue.queue_id == 1)
        .unwrap();
    assert_eq!(queue.broker_name, "broker-a");
    assert_eq!(
        (row.broker_offset, row.consumer_offset, row.pull_offset),
        (3, 1, 2)
    );
    assert_eq!(row.last_timestamp, super::START);
    let request = Command::request(RequestCode::GET_TOPIC_STATS_INFO).with_ext("topic", "orders");
    let response = client.expect(request, ResponseCode::SUCCESS).await;
    let stats = TopicStats::parse(&response.body.contiguous()).unwrap();
    let max: i64 = stats
        .offset_table
        .0
        .values()
        .map(|row| row.max_offset)
        .sum();
    assert_eq!(max, 3);
    let request =
        Command::request(RequestCode::QUERY_TOPIC_CONSUME_BY_WHO).with_ext("topic", "orders");
    let response = client.expect(request, ResponseCode::SUCCESS).await;
    let groups = GroupList::parse(&response.body.contiguous()).unwrap();
    assert_eq!(groups.group_list, ["g"]);
    let registry = prometheus::Registry::new();
    let series = Metrics::new(&registry).unwrap().series;
    world.processor.observe(&series);
    let labels = ["orders", "g", "false", "false"];
    let lag = series.consumer_lag_messages.with_label_values(&labels);
    assert_eq!(lag.get(), 2);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_asked_for_more_than_once_counts_once() {
    let world = World::new().await;
    let client = world.client().await;
    for body in ["a", "b", "c"] {
        client.send_ok("orders", 0, body, "").await;
    }
    assert_eq!(client.pull("orders", 0, 0).await.bodies.len(), 3);
    world
        .processor
        .stats
        .tick(UnixMillis(super::START + 10_000));
    let stats = async |topics: &'static str| {
        let request = Command::request(RequestCode::GET_CONSUME_STATS)
            .with_ext("consumerGroup", "g")
            .with_ext("topicList", topics);
        let response = client.expect(request, ResponseCode::SUCCESS).await;
        ConsumeStats::parse(&response.body.contiguous()).unwrap()
    };
    let once = stats("orders").await;
    assert!(once.consume_tps > 0.0);
    assert_eq!(once.offset_table.0.len(), 4);
    assert_eq!(stats("orders;orders;none;orders").await, once);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_configuration_is_told_and_only_what_may_change_changes() {
    let world = World::new().await;
    let client = world.client().await;
    let update = |text: &str| {
        Command::request(RequestCode::UPDATE_BROKER_CONFIG).with_body(text.as_bytes().to_vec())
    };
    client
        .expect(
            update("autoCreateTopicEnable=false\n"),
            ResponseCode::SUCCESS,
        )
        .await;
    for (text, code) in [
        ("listenPort=1\n", ResponseCode::SYSTEM_ERROR),
        ("nothingLikeThis=1\n", ResponseCode::SYSTEM_ERROR),
        ("brokerConfigPath=/tmp/x\n", ResponseCode::NO_PERMISSION),
    ] {
        client.expect(update(text), code).await;
    }
    let request = Command::request(RequestCode::GET_BROKER_CONFIG);
    let response = client.expect(request, ResponseCode::SUCCESS).await;
    assert!(response.ext.get("version").unwrap().contains("counter"));
    let text = String::from_utf8(response.body.contiguous().to_vec()).unwrap();
    assert!(text.contains("autoCreateTopicEnable=false\n"));
    assert!(!world.processor.deps.metadata.topics.contains("TBW102"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_runtime_table_has_what_tools_read() {
    let world = World::new().await;
    let client = world.client().await;
    client.send_ok("orders", 0, "x", "").await;
    let request = Command::request(RequestCode::GET_BROKER_RUNTIME_INFO);
    let response = client.expect(request, ResponseCode::SUCCESS).await;
    let table = KvTable::parse(&response.body.contiguous()).unwrap().table;
    assert_eq!(table["msgPutTotalTodayNow"], "1");
    assert_eq!(table["earliestMessageTimeStamp"], super::START.to_string());
    assert_eq!(table["brokerActive"], "true");
    for key in ["putTps", "getTransferredTps"] {
        assert_eq!(table[key].split(' ').count(), 3, "{key}");
    }
    assert!(table["commitLogDirCapacity"].starts_with("Total : "));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_found_by_key_and_by_unique_key() {
    let world = World::new().await;
    let client = world.client().await;
    client
        .send_ok("orders", 0, "x", "KEYS\u{1}k1 k2\u{2}UNIQ_KEY\u{1}u1\u{2}")
        .await;
    let query = |key: &'static str, unique| {
        let header = QueryMessageHeader {
            topic: "orders".into(),
            key: key.into(),
            max_num: 8,
            begin_timestamp: 0,
            end_timestamp: i64::MAX,
            unique_key_query: unique,
            ..QueryMessageHeader::default()
        };
        Command::request(RequestCode::QUERY_MESSAGE).with_header(&header)
    };
    // The index is built behind the log; a visible message is in it.
    for (key, unique) in [("k2", false), ("u1", true)] {
        let response = client
            .expect(query(key, unique), ResponseCode::SUCCESS)
            .await;
        assert!(!response.body.is_empty());
        assert!(response.ext.get("indexLastUpdatePhyoffset").is_some());
    }
    client
        .expect(query("k3", false), ResponseCode::QUERY_NOT_FOUND)
        .await;
    world.stop().await;
}

/// What name servers make of what the broker tells them now.
fn told(world: &World) -> Registration {
    let deps = &world.processor.deps;
    let metadata = Arc::clone(&deps.metadata);
    let announcement = BrokerAnnouncement {
        identity: Arc::clone(&deps.identity),
        config: Arc::clone(&deps.config),
        topics: Arc::new(move || metadata.topics.to_body()),
        epoch: Arc::default(),
    };
    let body = announcement.register().body.contiguous();
    let table = RegisterBrokerBody::parse(&body)
        .unwrap()
        .topic_config_serialize_wrapper;
    let queues = |perm| Queues {
        read: 1,
        write: 1,
        perm,
        sys_flag: 0,
    };
    let topics: BTreeMap<_, _> = table
        .topic_config_table
        .iter()
        .map(|(name, topic)| (name.clone(), queues(u32::try_from(topic.perm).unwrap())))
        .collect();
    Registration {
        cluster: "C".to_owned(),
        name: "broker-a".to_owned(),
        addr: "a:1".to_owned(),
        id: 0,
        ha_addr: "a:2".to_owned(),
        expiry: None,
        acting_master: None,
        zone: None,
        topics: Some(topics),
        version: Version {
            state: table.data_version.state_version,
            timestamp: table.data_version.timestamp,
            counter: table.data_version.counter,
        },
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_permission_of_the_broker_changes_its_routes_at_once() {
    let world = World::new().await;
    let client = world.client().await;
    client.send_ok("orders", 0, "x", "").await;
    let mut table = RouteTable::new(Rules::default());
    let mut perm = || {
        table.register(told(&world), 1, UnixMillis(0)).unwrap();
        table.route("orders").unwrap().queues["broker-a"].perm
    };
    assert_eq!(perm(), 6);
    let nudges = || world.topics_changed.load(Ordering::SeqCst);
    for (value, expected) in [("4", 4), ("6", 6)] {
        let before = nudges();
        let update = Command::request(RequestCode::UPDATE_BROKER_CONFIG)
            .with_body(format!("brokerPermission={value}\n").into_bytes());
        client.expect(update, ResponseCode::SUCCESS).await;
        assert_eq!(perm(), expected);
        assert!(nudges() > before, "name servers are told at once");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statistics_bear_any_position_that_clients_commit() {
    let world = World::new().await;
    let client = world.client().await;
    client.send_ok("orders", 0, "x", "").await;
    client.heartbeat("c", "g", "orders", "*").await;
    for queue_id in 0..4 {
        let header = UpdateConsumerOffsetHeader {
            consumer_group: "g".into(),
            topic: "orders".into(),
            queue_id,
            commit_offset: i64::MAX,
        };
        let commit = Command::request(RequestCode::UPDATE_CONSUMER_OFFSET).with_header(&header);
        client.expect(commit, ResponseCode::SUCCESS).await;
    }
    let request =
        Command::request(RequestCode::GET_BROKER_CONSUME_STATS).with_ext("isOrder", "false");
    let response = client.expect(request, ResponseCode::SUCCESS).await;
    let stats = BrokerConsumeStats::parse(&response.body.contiguous()).unwrap();
    assert_eq!(stats.total_diff, i64::MIN);
    for (code, group) in [
        (RequestCode::GET_CONSUME_STATS, "consumerGroup"),
        (RequestCode::QUERY_CONSUME_TIME_SPAN, "group"),
    ] {
        let request = Command::request(code)
            .with_ext(group, "g")
            .with_ext("topic", "orders");
        client.expect(request, ResponseCode::SUCCESS).await;
    }
    let registry = prometheus::Registry::new();
    world
        .processor
        .observe(&Metrics::new(&registry).unwrap().series);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_group_subscribes_to_is_told() {
    let world = World::new().await;
    let client = world.client().await;
    client.heartbeat("c", "g", "orders", "a||b").await;
    let subscription = async |topic| {
        let request = Command::request(RequestCode::QUERY_SUBSCRIPTION_BY_CONSUMER)
            .with_ext("group", "g")
            .with_ext("topic", topic);
        let response = client.expect(request, ResponseCode::SUCCESS).await;
        let body = QuerySubscription::parse(&response.body.contiguous()).unwrap();
        assert_eq!((body.group.as_str(), body.topic.as_str()), ("g", topic));
        body.subscription_data.map(|data| data.sub_string)
    };
    assert_eq!(subscription("orders").await.as_deref(), Some("a||b"));
    assert_eq!(subscription("other").await, None);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cleaning_says_what_it_does_not_clean() {
    let world = World::new().await;
    let client = world.client().await;
    client.send_ok("orders", 0, "x", "").await;
    let clean = || Command::request(RequestCode::CLEAN_UNUSED_TOPIC);
    client.expect(clean(), ResponseCode::SUCCESS).await;
    let queues = Command::request(RequestCode::CLEAN_EXPIRED_CONSUMEQUEUE);
    client.expect(queues, ResponseCode::SUCCESS).await;
    let topics = &world.processor.deps.metadata.topics;
    topics.delete("orders", UnixMillis(super::START)).unwrap();
    let answer = client.expect(clean(), ResponseCode::SYSTEM_ERROR).await;
    let remark = answer.remark.as_deref().unwrap_or_default();
    assert!(remark.ends_with("deleteTopic: orders"), "{remark}");
    world.stop().await;
}

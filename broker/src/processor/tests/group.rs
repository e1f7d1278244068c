use std::sync::Arc;
use std::time::Duration;

use rocket_protocol::body::{
    ConsumerConnection, ConsumerData, ConsumerList, HeartbeatData, LockBatchRequest,
    LockBatchResponse, MessageQueue, ProducerData, SubscriptionData,
};
use rocket_protocol::header::{
    ConsumerGroupHeader, GetConsumerRunningInfoHeader, UnregisterClientHeader,
};
use rocket_protocol::{Command, RequestCode, ResponseCode};

use super::super::making::WAITING_MAX;
use super::{Listener, Peer, World, next};
use crate::clients::Consumers;

pub(super) async fn members(client: &Peer) -> Vec<String> {
    let header = ConsumerGroupHeader {
        consumer_group: "g".into(),
    };
    let request = Command::request(RequestCode::GET_CONSUMER_LIST_BY_GROUP).with_header(&header);
    let response = client.call(request).await;
    if response.response_code() == ResponseCode::SYSTEM_ERROR {
        return Vec::new();
    }
    let body = response.body.contiguous();
    let mut ids = ConsumerList::parse(&body).unwrap().consumer_id_list;
    ids.sort();
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_hear_of_those_who_come_leave_and_vanish() {
    let world = World::new().await;
    let (listener, mut notices) = Listener::new();
    let first = world.client_with(listener).await;
    first.heartbeat("c1", "g", "orders", "*").await;
    let is_notice = |notice: Command| {
        assert_eq!(
            notice.request_code(),
            RequestCode::NOTIFY_CONSUMER_IDS_CHANGED
        );
        assert_eq!(notice.ext.get("consumerGroup"), Some("g"));
        assert!(notice.is_oneway());
    };
    is_notice(next(&mut notices).await);
    let second = world.client().await;
    second.heartbeat("c2", "g", "orders", "*").await;
    is_notice(next(&mut notices).await);
    assert_eq!(members(&first).await, ["c1", "c2"]);
    let header = UnregisterClientHeader {
        client_id: "c2".into(),
        producer_group: None,
        consumer_group: Some("g".into()),
    };
    let request = Command::request(RequestCode::UNREGISTER_CLIENT).with_header(&header);
    second.expect(request, ResponseCode::SUCCESS).await;
    is_notice(next(&mut notices).await);
    assert_eq!(members(&first).await, ["c1"]);
    let third = world.client().await;
    third.heartbeat("c3", "g", "orders", "*").await;
    is_notice(next(&mut notices).await);
    drop(third);
    is_notice(next(&mut notices).await);
    assert_eq!(members(&first).await, ["c1"]);
    // The heartbeat made the group and its retry topic.
    assert!(world.processor.deps.metadata.groups.contains("g"));
    assert!(world.processor.deps.metadata.topics.contains("%RETRY%g"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_without_members_has_no_list_and_is_not_online() {
    let world = World::new().await;
    let client = world.client().await;
    assert!(members(&client).await.is_empty());
    let request = || {
        Command::request(RequestCode::GET_CONSUMER_CONNECTION_LIST).with_ext("consumerGroup", "g")
    };
    client
        .expect(request(), ResponseCode::CONSUMER_NOT_ONLINE)
        .await;
    client.heartbeat("c1", "g", "orders", "a||b").await;
    let response = client.expect(request(), ResponseCode::SUCCESS).await;
    let body = ConsumerConnection::parse(&response.body.contiguous()).unwrap();
    assert_eq!(body.connection_set.first().unwrap().client_id, "c1");
    assert_eq!(body.subscription_table["orders"].sub_string, "a||b");
    world.stop().await;
}

fn lock(client_id: &str, group: &str, topic: &str, queues: &[i32]) -> Command {
    let queue = |id: &i32| MessageQueue {
        broker_name: "broker-a".to_owned(),
        queue_id: *id,
        topic: topic.to_owned(),
    };
    let body = LockBatchRequest {
        client_id: client_id.to_owned(),
        consumer_group: group.to_owned(),
        mq_set: queues.iter().map(queue).collect(),
        only_this_broker: false,
    };
    Command::request(RequestCode::LOCK_BATCH_MQ).with_body(body.to_json())
}

async fn locked(client: &Peer, request: Command) -> Vec<i32> {
    let response = client.expect(request, ResponseCode::SUCCESS).await;
    let body = LockBatchResponse::parse(&response.body.contiguous()).unwrap();
    let ids = body.lock_ok_mq_set.iter().map(|queue| queue.queue_id);
    ids.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queue_locks_have_one_owner_and_expire() {
    let world = World::new().await;
    let client = world.client().await;
    client.send_ok("orders", 0, "x", "").await;
    client.heartbeat("c1", "g", "orders", "*").await;
    let lock = async |client_id| locked(&client, lock(client_id, "g", "orders", &[1])).await;
    assert_eq!(lock("a").await, [1]);
    assert!(lock("b").await.is_empty());
    world.advance(Duration::from_mins(1));
    assert!(lock("b").await.is_empty());
    world.advance(Duration::from_millis(1));
    assert_eq!(lock("b").await, [1]);
    assert!(lock("a").await.is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_queues_and_groups_that_are_there_are_locked() {
    let world = World::new().await;
    let client = world.client().await;
    client.send_ok("orders", 0, "x", "").await;
    client
        .expect(
            lock("a", "g", "orders", &[0]),
            ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST,
        )
        .await;
    client.heartbeat("c1", "g", "orders", "*").await;
    assert_eq!(
        locked(&client, lock("a", "g", "orders", &[0, 3, 4, -1])).await,
        [0, 3]
    );
    assert!(
        locked(&client, lock("a", "g", "nothing", &[0]))
            .await
            .is_empty()
    );
    let giant = "c".repeat(1025);
    client
        .expect(
            lock(&giant, "g", "orders", &[0]),
            ResponseCode::INVALID_PARAMETER,
        )
        .await;
    let many: Vec<i32> = (0..65_537).collect();
    client
        .expect(
            lock("a", "g", "orders", &many),
            ResponseCode::INVALID_PARAMETER,
        )
        .await;
    world.stop().await;
}

fn heartbeat(client_id: &str, groups: usize, subscriptions: usize) -> Command {
    let producer = |index| ProducerData {
        group_name: format!("p{index}"),
    };
    let subscription = |index| SubscriptionData {
        topic: format!("t{index}"),
        ..SubscriptionData::default()
    };
    let data = HeartbeatData {
        client_id: client_id.to_owned(),
        producer_data_set: (0..groups).map(producer).collect(),
        consumer_data_set: vec![ConsumerData {
            group_name: "g".to_owned(),
            subscription_data_set: (0..subscriptions).map(subscription).collect(),
            ..ConsumerData::default()
        }],
        ..HeartbeatData::default()
    };
    Command::request(RequestCode::HEART_BEAT).with_body(serde_json::to_vec(&data).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_heartbeat_makes_the_broker_keep_is_bounded() {
    let world = World::new().await;
    let client = world.client().await;
    for (request, code) in [
        (
            heartbeat(&"c".repeat(1025), 1, 1),
            ResponseCode::INVALID_PARAMETER,
        ),
        (heartbeat("c", 4096, 1), ResponseCode::INVALID_PARAMETER),
    ] {
        client.expect(request, code).await;
        let producers = world.processor.deps.clients.producers.read();
        assert_eq!(producers.groups().count(), 0);
    }
    client
        .expect(
            heartbeat(&"c".repeat(1024), 4095, 4096),
            ResponseCode::SUCCESS,
        )
        .await;
    let ids: Vec<Arc<str>> = {
        let producers = world.processor.deps.clients.producers.read();
        ["p0", "p4094"]
            .iter()
            .flat_map(|group| producers.members(group))
            .map(|member| Arc::clone(&member.client_id))
            .collect()
    };
    assert!(Arc::ptr_eq(&ids[0], &ids[1]), "one text for all groups");
    world.stop().await;
}

/// Whose other groups consumed nothing, else, and were told of it nowhere but in the client's log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_with_too_many_subscriptions_does_not_keep_the_client_out_of_its_others() {
    let world = World::new().await;
    let client = world.client().await;
    let parsed = |request: Command| HeartbeatData::parse(&request.body.contiguous()).unwrap();
    let mut data = parsed(heartbeat("c", 1, 4097));
    data.consumer_data_set[0].group_name = "a".to_owned();
    data.consumer_data_set
        .extend(parsed(heartbeat("c", 1, 1)).consumer_data_set);
    let request =
        Command::request(RequestCode::HEART_BEAT).with_body(serde_json::to_vec(&data).unwrap());
    client
        .expect(request, ResponseCode::INVALID_PARAMETER)
        .await;
    assert_eq!(members(&client).await, ["c"]);
    let clients = &world.processor.deps.clients;
    assert!(clients.consumers.read().group("a").is_none());
    assert_eq!(clients.producers.read().members("p0").count(), 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_beyond_what_may_be_kept_of_all_groups_is_refused_as_busy() {
    let world = World::new().await;
    let client = world.client().await;
    *world.processor.deps.clients.consumers.write() = Consumers::bounded(10_000);
    client
        .expect(heartbeat("c", 1, 100), ResponseCode::SYSTEM_BUSY)
        .await;
    assert!(members(&client).await.is_empty());
    client
        .expect(heartbeat("c", 1, 10), ResponseCode::SUCCESS)
        .await;
    assert_eq!(members(&client).await, ["c"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_is_too_long_is_not_kept() {
    let world = World::new().await;
    let client = world.client().await;
    let short = SubscriptionData {
        topic: "orders".to_owned(),
        sub_string: "t".repeat(16 << 10),
        ..SubscriptionData::default()
    };
    let with = |change: fn(&mut SubscriptionData)| {
        let mut changed = short.clone();
        change(&mut changed);
        changed
    };
    for (subscription, code) in [
        (
            with(|data| data.sub_string.push('t')),
            ResponseCode::INVALID_PARAMETER,
        ),
        (
            with(|data| data.tags_set = vec!["t".repeat(9 << 10); 2]),
            ResponseCode::INVALID_PARAMETER,
        ),
        (
            with(|data| data.code_set = vec![0; 1_025]),
            ResponseCode::INVALID_PARAMETER,
        ),
        (short.clone(), ResponseCode::SUCCESS),
    ] {
        let data = HeartbeatData {
            client_id: "c".to_owned(),
            consumer_data_set: vec![ConsumerData {
                group_name: "g".to_owned(),
                subscription_data_set: vec![subscription],
                ..ConsumerData::default()
            }],
            ..HeartbeatData::default()
        };
        let body = serde_json::to_vec(&data).unwrap();
        let request = Command::request(RequestCode::HEART_BEAT).with_body(body);
        client.expect(request, code).await;
    }
    world.stop().await;
}

/// Nothing can be made here: all who may write do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn group_that_cannot_be_made_keeps_nobody_out_of_others() {
    let world = World::new().await;
    let client = world.client().await;
    client.heartbeat("c1", "g", "orders", "*").await;
    let writers = u32::try_from(WAITING_MAX).unwrap();
    let busy = world.processor.writers.acquire_many(writers).await.unwrap();
    let (other, groups) = (world.client().await, ["fresh", "g", "fresher"]);
    let data = HeartbeatData {
        client_id: "c2".to_owned(),
        consumer_data_set: groups
            .map(|group| ConsumerData {
                group_name: group.to_owned(),
                ..ConsumerData::default()
            })
            .into(),
        producer_data_set: ["a b", "producers"]
            .map(|group| ProducerData {
                group_name: group.to_owned(),
            })
            .into(),
        ..HeartbeatData::default()
    };
    let body = serde_json::to_vec(&data).unwrap();
    let request = Command::request(RequestCode::HEART_BEAT).with_body(body.clone());
    other.expect(request, ResponseCode::SYSTEM_BUSY).await;
    assert_eq!(members(&client).await, ["c1", "c2"]);
    let clients = &world.processor.deps.clients;
    assert_eq!(clients.producers.read().members("producers").count(), 2);
    drop(busy);
    // What is wrong with a name does not pass.
    let request = Command::request(RequestCode::HEART_BEAT).with_body(body);
    let refused = other.call(request).await;
    assert_ne!(refused.response_code(), ResponseCode::SUCCESS);
    for group in groups {
        assert!(clients.consumers.read().group(group).is_some(), "{group}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_for_a_client_is_passed_on_and_its_answer_back() {
    let world = World::new().await;
    let (listener, mut asked) = Listener::new();
    let consumer = world.client_with(listener).await;
    consumer.heartbeat("c1", "g", "orders", "*").await;
    next(&mut asked).await;
    let admin = world.client().await;
    let header = |client_id: &'static str| GetConsumerRunningInfoHeader {
        consumer_group: "g".into(),
        client_id: client_id.into(),
        jstack_enable: true,
    };
    let request = |client_id| {
        Command::request(RequestCode::GET_CONSUMER_RUNNING_INFO)
            .with_header(&header(client_id))
            .with_body(b"echo".to_vec())
    };
    let response = admin.expect(request("c1"), ResponseCode::SUCCESS).await;
    assert_eq!(response.body.contiguous(), "echo");
    assert_eq!(next(&mut asked).await.ext.get("jstackEnable"), Some("true"));
    admin
        .expect(request("c2"), ResponseCode::SYSTEM_ERROR)
        .await;
    world.stop().await;
}

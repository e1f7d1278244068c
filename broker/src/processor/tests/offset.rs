use rocket_protocol::body::ResetOffset;
use rocket_protocol::header::{
    PullMessageHeader, QueryConsumerOffsetHeader, ResetOffsetHeader, UpdateConsumerOffsetHeader,
};
use rocket_protocol::{Command, RequestCode, ResponseCode};

use super::{Peer, Pulled, START, World, pull_header, pull_request};

pub(super) async fn committed(client: &Peer, zero: Option<bool>) -> Option<i64> {
    let header = QueryConsumerOffsetHeader {
        consumer_group: "g".into(),
        topic: "orders".into(),
        queue_id: 0,
        set_zero_if_not_found: zero,
    };
    let request = Command::request(RequestCode::QUERY_CONSUMER_OFFSET).with_header(&header);
    let response = client.call(request).await;
    match response.response_code() {
        ResponseCode::SUCCESS => Some(response.ext.get("offset").unwrap().parse().unwrap()),
        ResponseCode::QUERY_NOT_FOUND => None,
        other => panic!("{other}"),
    }
}

fn commit(topic: &'static str, group: &'static str, offset: i64) -> Command {
    let header = UpdateConsumerOffsetHeader {
        consumer_group: group.into(),
        topic: topic.into(),
        queue_id: 0,
        commit_offset: offset,
    };
    Command::request(RequestCode::UPDATE_CONSUMER_OFFSET).with_header(&header)
}

async fn number(client: &Peer, code: RequestCode, fields: &[(&'static str, &str)]) -> i64 {
    let mut request = Command::request(code)
        .with_ext("topic", "orders")
        .with_ext("queueId", "0");
    for (name, value) in fields {
        request = request.with_ext(*name, (*value).to_owned());
    }
    let response = client.expect(request, ResponseCode::SUCCESS).await;
    let text = response
        .ext
        .get("offset")
        .or_else(|| response.ext.get("timestamp"));
    text.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_without_a_position_begins_at_zero_on_a_young_queue_only() {
    let world = World::new().await;
    let client = world.client().await;
    assert_eq!(committed(&client, None).await, None);
    client.send_ok("orders", 0, "x", "").await;
    assert_eq!(committed(&client, None).await, Some(0));
    assert_eq!(committed(&client, Some(false)).await, None);
    client.pull("orders", 0, 0).await;
    client
        .expect(commit("orders", "g", 1), ResponseCode::SUCCESS)
        .await;
    assert_eq!(committed(&client, Some(false)).await, Some(1));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_for_what_does_not_exist_are_refused() {
    let world = World::new().await;
    let client = world.client().await;
    client.send_ok("orders", 0, "x", "").await;
    client
        .expect(
            commit("orders", "g", 1),
            ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST,
        )
        .await;
    client.heartbeat("c", "g", "orders", "*").await;
    client
        .expect(commit("none", "g", 1), ResponseCode::TOPIC_NOT_EXIST)
        .await;
    client
        .expect(commit("orders", "g", -1), ResponseCode::INVALID_PARAMETER)
        .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_with_the_commit_bit_commits() {
    let world = World::new().await;
    let client = world.client().await;
    client.send_ok("orders", 0, "x", "").await;
    let mut header = pull_header("orders", 0, 0, 4);
    header.commit_offset = 1;
    let request = |header: &PullMessageHeader| {
        Command::request(RequestCode::PULL_MESSAGE).with_header(header)
    };
    client.call(request(&header)).await;
    assert_eq!(committed(&client, Some(false)).await, None);
    header.sys_flag |= 1;
    client.call(request(&header)).await;
    assert_eq!(committed(&client, Some(false)).await, Some(1));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_and_times_of_a_queue_are_told() {
    let world = World::new().await;
    let client = world.client().await;
    assert_eq!(number(&client, RequestCode::GET_MAX_OFFSET, &[]).await, 0);
    for second in 0..3 {
        client.send_ok("orders", 0, &second.to_string(), "").await;
        world.advance(std::time::Duration::from_secs(1));
    }
    assert_eq!(number(&client, RequestCode::GET_MAX_OFFSET, &[]).await, 3);
    assert_eq!(number(&client, RequestCode::GET_MIN_OFFSET, &[]).await, 0);
    let earliest = number(&client, RequestCode::GET_EARLIEST_MSG_STORETIME, &[]).await;
    assert_eq!(earliest, START);
    let search = async |time: i64, boundary: &str| {
        let time = time.to_string();
        let fields = [("timestamp", &*time), ("boundaryType", boundary)];
        number(&client, RequestCode::SEARCH_OFFSET_BY_TIMESTAMP, &fields).await
    };
    assert_eq!(search(START + 1000, "lower").await, 1);
    assert_eq!(search(START + 1001, "lower").await, 2);
    assert_eq!(search(START + 9000, "lower").await, 3);
    assert_eq!(search(START + 9000, "upper").await, 2);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_sends_the_next_pull_back_and_voids_commits_until_then() {
    let world = World::new().await;
    let client = world.client().await;
    for body in ["a", "b", "c"] {
        client.send_ok("orders", 0, body, "").await;
    }
    client.heartbeat("c", "g", "orders", "*").await;
    client
        .expect(commit("orders", "g", 3), ResponseCode::SUCCESS)
        .await;
    let header = ResetOffsetHeader {
        topic: "orders".into(),
        group: "g".into(),
        queue_id: 0,
        offset: Some(1),
        timestamp: -1,
        is_force: true,
    };
    let reset = |header: &ResetOffsetHeader| {
        Command::request(RequestCode::INVOKE_BROKER_TO_RESET_OFFSET).with_header(header)
    };
    let response = client.expect(reset(&header), ResponseCode::SUCCESS).await;
    let body = ResetOffset::parse(&response.body.contiguous()).unwrap();
    assert_eq!(body.offset_table.0.values().collect::<Vec<_>>(), [&1]);
    client
        .expect(commit("orders", "g", 3), ResponseCode::SUCCESS)
        .await;
    let pulled = Pulled::of(&client.call(pull_request("orders", 0, 3, 4)).await);
    assert_eq!(
        (pulled.code, pulled.header.next_begin_offset),
        (ResponseCode::PULL_OFFSET_MOVED, 1)
    );
    assert_eq!(committed(&client, None).await, Some(1));
    assert_eq!(client.pull("orders", 0, 1).await.bodies, ["b", "c"]);
    client
        .expect(commit("orders", "g", 2), ResponseCode::SUCCESS)
        .await;
    assert_eq!(committed(&client, None).await, Some(2));
    let outside = ResetOffsetHeader {
        offset: Some(9),
        ..header
    };
    client
        .expect(reset(&outside), ResponseCode::SYSTEM_ERROR)
        .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_is_not_there_is_not_reset() {
    let world = World::new().await;
    let client = world.client().await;
    client.send_ok("orders", 0, "x", "").await;
    client.heartbeat("c", "g", "orders", "*").await;
    let reset = |queue_id, offset| {
        let header = ResetOffsetHeader {
            topic: "orders".into(),
            group: "g".into(),
            queue_id,
            offset,
            timestamp: 0,
            is_force: true,
        };
        Command::request(RequestCode::INVOKE_BROKER_TO_RESET_OFFSET).with_header(&header)
    };
    for queue_id in [4, 70_000] {
        for offset in [None, Some(0)] {
            client
                .expect(reset(queue_id, offset), ResponseCode::INVALID_PARAMETER)
                .await;
        }
    }
    let positions = &world.processor.deps.metadata.offsets;
    assert!(positions.topics_of("g").is_empty());
    for queue_id in [3, -1] {
        client
            .expect(reset(queue_id, None), ResponseCode::SUCCESS)
            .await;
    }
    world.stop().await;
}

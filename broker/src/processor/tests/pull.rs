use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rocket_protocol::header::{CreateTopicHeader, PullMessageHeader};
use rocket_protocol::{Command, RequestCode, ResponseCode};
use rocket_remoting::{
    Client, ClientConfig, Connection, NoRequests, Processor, Reply, Server, ServerConfig,
};
use rocket_store::GetStatus;

use super::super::BrokerProcessor;
use super::super::pull::{HOLD_MS, code_of, name_of};
use super::{PATIENCE, Pulled, START, World, pull_header, pull_request, until};

/// Suspend, subscription in the request.
const WAIT: i32 = 2 | 4;

fn request(header: &PullMessageHeader) -> Command {
    Command::request(RequestCode::PULL_MESSAGE).with_header(header)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_that_waits_is_answered_by_the_next_message() {
    let world = World::new().await;
    let (producer, consumer) = (world.client().await, world.client().await);
    producer.send_ok("orders", 0, "first", "").await;
    let waiting = consumer.call(pull_request("orders", 0, 1, WAIT));
    let sending = async {
        until(|| world.processor.deps.long_polling.len() == 1).await;
        producer.send_ok("orders", 1, "elsewhere", "").await;
        producer.send_ok("orders", 0, "second", "").await;
    };
    let (response, ()) = tokio::join!(waiting, sending);
    let pulled = Pulled::of(&response);
    assert_eq!(pulled.code, ResponseCode::SUCCESS);
    assert_eq!(pulled.bodies, ["second"]);
    assert_eq!(pulled.header.next_begin_offset, 2);
    assert!(world.processor.deps.long_polling.is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_that_waited_in_vain_is_answered_with_all_its_fields() {
    let world = World::new().await;
    let client = world.client().await;
    client.send_ok("orders", 0, "first", "").await;
    let waiting = client.call(pull_request("orders", 0, 1, WAIT));
    let time = async {
        until(|| world.processor.deps.long_polling.len() == 1).await;
        world.advance(Duration::from_millis(14_999));
        until(|| world.processor.deps.long_polling.ticked().0 == START + 14_999).await;
        assert_eq!(world.processor.deps.long_polling.len(), 1);
        world.advance(Duration::from_millis(1));
    };
    let (response, ()) = tokio::join!(waiting, time);
    for field in [
        "suggestWhichBrokerId",
        "nextBeginOffset",
        "minOffset",
        "maxOffset",
    ] {
        assert!(response.ext.get(field).is_some(), "{field}");
    }
    let pulled = Pulled::of(&response);
    assert_eq!(pulled.code, ResponseCode::PULL_NOT_FOUND);
    assert_eq!(pulled.remark, "OFFSET_OVERFLOW_ONE");
    assert_eq!(
        (pulled.header.next_begin_offset, pulled.header.max_offset),
        (1, 1)
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_waits_no_longer_when_somebody_sets_the_clock_back() {
    let world = World::new().await;
    let client = world.client().await;
    client.send_ok("orders", 0, "first", "").await;
    let waiting = client.call(pull_request("orders", 0, 1, WAIT));
    let time = async {
        until(|| world.processor.deps.long_polling.len() == 1).await;
        world.set_back(Duration::from_hours(1));
        world.advance(Duration::from_secs(15));
    };
    let (response, ()) = tokio::join!(waiting, time);
    assert_eq!(response.response_code(), ResponseCode::PULL_NOT_FOUND);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_answers_waiting_pulls_at_once() {
    let world = World::new().await;
    let client = world.client().await;
    client.send_ok("orders", 0, "first", "").await;
    let stop = world.stop.clone();
    let waiting = client.call(pull_request("orders", 0, 1, WAIT));
    let stopping = async {
        until(|| world.processor.deps.long_polling.len() == 1).await;
        stop.cancel();
    };
    let (response, ()) = tokio::join!(waiting, stopping);
    assert_eq!(response.response_code(), ResponseCode::PULL_NOT_FOUND);
    world.stop().await;
}

/// Sends all pulls to the readers of what is not in memory.
struct AllFromDisk(Arc<BrokerProcessor>);

impl Processor for AllFromDisk {
    fn process(&self, connection: &Connection, request: Command, reply: Reply) {
        let config = self.0.deps.config.load();
        let pull = self
            .0
            .check_pull(connection, &request, &config, Instant::now());
        let Ok((pull, header)) = pull else {
            panic!("a good pull");
        };
        let deadline = self.0.elapsed().plus(header.suspend_timeout_millis);
        self.0
            .catch_up(pull, reply, (header.sys_flag & 2 != 0).then_some(deadline));
    }
}

/// What cannot be read for the moment (here: its file is elsewhere) holds the pull, which would come back at once if it were
/// told that there is nothing.
async fn what_cannot_be_read_now_is_tried_again(is_from_disk: bool) {
    let world = World::new().await;
    let body = "b".repeat(1 << 20);
    for _ in 0..20 {
        let client = world.client().await;
        client.send_ok("orders", 0, &body, "").await;
    }
    // A new process, which has not looked at the first file yet.
    let world = World::on(world.stop().await, ServerConfig::default(), &[]).await;
    let file = world.dir.path().join("commitlog/00000000000000000000");
    let elsewhere = world.dir.path().join("elsewhere");
    fs::rename(&file, &elsewhere).unwrap();
    let server = Server::bind(
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        ServerConfig::default(),
        Arc::new(AllFromDisk(Arc::clone(&world.processor))),
        &world.tasks,
        world.stop.clone(),
    );
    let from_disk = server.unwrap().local_addr().to_string();
    let from_disk = Client::connect(&from_disk, ClientConfig::default(), Arc::new(NoRequests));
    let (from_disk, client) = (from_disk.await.unwrap(), world.client().await);
    let consumer = if is_from_disk { &from_disk } else { &client.0 };
    let polling = &world.processor.deps.long_polling;

    // Who does not want to wait is told so at once, and is sent nowhere else.
    let told = consumer
        .call(pull_request("orders", 0, 0, 4), PATIENCE)
        .await;
    let told = Pulled::of(&told.unwrap());
    assert_eq!(told.code, ResponseCode::PULL_NOT_FOUND);
    let header = &told.header;
    assert_eq!((header.next_begin_offset, header.max_offset), (0, 20));

    let waiting = consumer.call(pull_request("orders", 0, 0, WAIT), PATIENCE);
    let time = async {
        until(|| polling.len() == 1).await;
        // The next message is not what it waits for.
        client.send_ok("orders", 0, "one more", "").await;
        for _ in 0..3 {
            world.advance(Duration::from_millis(HOLD_MS.unsigned_abs()));
            until(|| polling.ticked() == world.processor.elapsed() && polling.len() == 1).await;
        }
        fs::rename(&elsewhere, &file).unwrap();
        world.advance(Duration::from_millis(HOLD_MS.unsigned_abs()));
    };
    let (response, ()) = tokio::join!(waiting, time);
    let pulled = Pulled::of(&response.unwrap());
    assert_eq!(pulled.code, ResponseCode::SUCCESS);
    assert_eq!(pulled.bodies.first(), Some(&body));
    assert!(polling.is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_of_what_cannot_be_read_now_is_held_and_tried_again() {
    what_cannot_be_read_now_is_tried_again(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_is_one_that_has_to_read_from_the_disk() {
    what_cannot_be_read_now_is_tried_again(true).await;
}

/// What waits does not count as work: a client with one connection has a pull open for each of its queues.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_with_one_connection_waits_for_thousands_of_queues() {
    let mut server = ServerConfig::default();
    server.limits.inflight_max = 16;
    server.limits.parked_max = 2000;
    let world = World::behind(server, &[]).await;
    let client = world.client().await;
    let queues = 2000;
    let mut header = CreateTopicHeader {
        topic: "wide".into(),
        topic_filter_type: "SINGLE_TAG".into(),
        ..CreateTopicHeader::default()
    };
    (header.read_queue_nums, header.write_queue_nums, header.perm) = (queues, queues, 6);
    let make = Command::request(RequestCode::UPDATE_AND_CREATE_TOPIC).with_header(&header);
    client.expect(make, ResponseCode::SUCCESS).await;
    let polling = &world.processor.deps.long_polling;
    let mut waiting = Vec::new();
    for queue in 0..queues {
        let pull = pull_request("wide", queue, 0, WAIT);
        let connection = client.0.connection().clone();
        waiting.push(
            world
                .tasks
                .spawn(async move { connection.call(pull, PATIENCE).await.unwrap() }),
        );
        if queue % 8 == 0 {
            until(|| polling.len() == waiting.len()).await;
        }
    }
    until(|| polling.len() == 2000).await;
    client.send_ok("wide", 1234, "here", "").await;
    let answer = waiting.swap_remove(1234).await.unwrap();
    assert_eq!(Pulled::of(&answer).bodies, ["here"]);
    let again = client.0.call(pull_request("wide", 1234, 1, WAIT), PATIENCE);
    let one_too_many = async {
        until(|| polling.len() == 2000).await;
        client
            .expect(
                pull_request("wide", 1234, 1, WAIT),
                ResponseCode::SYSTEM_BUSY,
            )
            .await
    };
    tokio::pin!(again);
    let refused = tokio::select! {
        refused = one_too_many => refused,
        _ = &mut again => panic!("nothing has come"),
    };
    assert_eq!(
        refused.remark.as_deref(),
        Some("[OVERLOAD]system busy, too many pulls of this connection wait")
    );
    drop(waiting);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tags_decide_what_is_given_and_what_wakes() {
    let world = World::new().await;
    let (producer, consumer) = (world.client().await, world.client().await);
    for tag in ["a", "b", "c"] {
        let properties = format!("TAGS\u{1}{tag}\u{2}");
        producer.send_ok("orders", 0, tag, &properties).await;
    }
    let tagged = |expression: &'static str, offset, flags| {
        let mut header = pull_header("orders", 0, offset, flags);
        header.subscription = Some(expression.into());
        request(&header)
    };
    let pulled = Pulled::of(&consumer.call(tagged("a || c", 0, 4)).await);
    assert_eq!(pulled.bodies, ["a", "c"]);
    let none = Pulled::of(&consumer.call(tagged("z", 0, 4)).await);
    assert_eq!(none.code, ResponseCode::PULL_RETRY_IMMEDIATELY);
    assert_eq!(
        (&*none.remark, none.header.next_begin_offset),
        ("NO_MATCHED_MESSAGE", 3)
    );
    let waiting = consumer.call(tagged("z", 3, WAIT));
    let sending = async {
        until(|| world.processor.deps.long_polling.len() == 1).await;
        producer.send_ok("orders", 0, "no", "TAGS\u{1}y\u{2}").await;
        producer
            .send_ok("orders", 0, "yes", "TAGS\u{1}z\u{2}")
            .await;
    };
    let (response, ()) = tokio::join!(waiting, sending);
    assert_eq!(Pulled::of(&response).bodies, ["yes"]);
    consumer
        .expect(tagged("||", 0, 4), ResponseCode::SUBSCRIPTION_PARSE_FAILED)
        .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_subscription_in_the_request_the_heartbeat_counts() {
    let world = World::new().await;
    let client = world.client().await;
    client.send_ok("orders", 0, "no", "TAGS\u{1}a\u{2}").await;
    client.send_ok("orders", 0, "yes", "TAGS\u{1}b\u{2}").await;
    let bare = || pull_request("orders", 0, 0, 0);
    client
        .expect(bare(), ResponseCode::SUBSCRIPTION_NOT_EXIST)
        .await;
    client.heartbeat("c1", "g", "orders", "b").await;
    assert_eq!(Pulled::of(&client.call(bare()).await).bodies, ["yes"]);
    let mut newer = pull_header("orders", 0, 0, 0);
    newer.sub_version = 2;
    client
        .expect(request(&newer), ResponseCode::SUBSCRIPTION_NOT_LATEST)
        .await;
    client.send_ok("other", 0, "x", "").await;
    client
        .expect(
            pull_request("other", 0, 0, 0),
            ResponseCode::SUBSCRIPTION_NOT_EXIST,
        )
        .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_outside_the_queue_are_sent_back_into_it() {
    let world = World::new().await;
    let client = world.client().await;
    client.send_ok("orders", 0, "x", "").await;
    let beyond = client.pull("orders", 0, 9).await;
    assert_eq!(beyond.code, ResponseCode::PULL_OFFSET_MOVED);
    assert_eq!(beyond.remark, "OFFSET_OVERFLOW_BADLY");
    let empty = client.pull("orders", 3, 0).await;
    assert_eq!(empty.code, ResponseCode::PULL_NOT_FOUND);
    let moved = client.pull("orders", 3, 5).await;
    assert_eq!(
        (moved.code, moved.header.next_begin_offset),
        (ResponseCode::PULL_OFFSET_MOVED, 0)
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulls_that_may_not_be_are_refused() {
    let world = World::with(&[("autoCreateSubscriptionGroup", "false")]).await;
    let client = world.client().await;
    client.send_ok("orders", 0, "x", "").await;
    let group = "{\"groupName\":\"g\"}";
    client
        .expect(
            pull_request("orders", 0, 0, 4),
            ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST,
        )
        .await;
    let put = |body: &str| {
        Command::request(RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP)
            .with_body(body.as_bytes().to_vec())
    };
    client.expect(put(group), ResponseCode::SUCCESS).await;
    assert_eq!(client.pull("orders", 0, 0).await.bodies, ["x"]);
    client
        .expect(pull_request("none", 0, 0, 4), ResponseCode::TOPIC_NOT_EXIST)
        .await;
    for queue in [-1, 4] {
        client
            .expect(
                pull_request("orders", queue, 0, 4),
                ResponseCode::INVALID_PARAMETER,
            )
            .await;
    }
    let mut sql = pull_header("orders", 0, 0, 4);
    sql.expression_type = Some("SQL92".into());
    let response = client
        .expect(request(&sql), ResponseCode::SYSTEM_ERROR)
        .await;
    assert_eq!(
        response.remark.as_deref(),
        Some("The broker does not support consumer to filter message by SQL92")
    );
    client
        .expect(
            put("{\"groupName\":\"g\",\"consumeEnable\":false}"),
            ResponseCode::SUCCESS,
        )
        .await;
    let response = client
        .expect(pull_request("orders", 0, 0, 4), ResponseCode::NO_PERMISSION)
        .await;
    assert_eq!(response.ext.get("forbiddenType"), Some("2"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_gives_no_more_than_it_asks_for() {
    let world = World::new().await;
    let client = world.client().await;
    for _ in 0..40 {
        client.send_ok("orders", 0, "x", "").await;
    }
    assert_eq!(client.pull("orders", 0, 0).await.bodies.len(), 32);
    let mut two = pull_header("orders", 0, 5, 4);
    two.max_msg_nums = 2;
    let pulled = Pulled::of(&client.call(request(&two)).await);
    assert_eq!(
        (pulled.bodies.len(), pulled.header.next_begin_offset),
        (2, 7)
    );
    world.stop().await;
}

#[test]
fn every_outcome_of_a_read_has_its_code() {
    for (status, at_zero, elsewhere) in [
        (GetStatus::Found, 0, 0),
        (GetStatus::NoMatchedMessage, 20, 20),
        (GetStatus::MessageWasRemoving, 20, 20),
        (GetStatus::NoMatchedLogicQueue, 19, 21),
        (GetStatus::NoMessageInQueue, 19, 21),
        (GetStatus::OffsetFoundNull, 19, 19),
        (GetStatus::OffsetOverflowOne, 19, 19),
        (GetStatus::OffsetOverflowBadly, 21, 21),
        (GetStatus::OffsetTooSmall, 21, 21),
    ] {
        assert_eq!(code_of(status, 0).0, at_zero, "{}", name_of(status));
        assert_eq!(code_of(status, 1).0, elsewhere, "{}", name_of(status));
    }
}

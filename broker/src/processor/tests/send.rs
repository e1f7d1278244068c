use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use rocket_protocol::header::{SendMessageHeader, SendMessageV2Header, ViewMessageHeader};
use rocket_protocol::message::{BatchMessage, OffsetMessageId, property};
use rocket_protocol::{
    Command, HeaderFormat, PhysicalOffset, QueueOffset, RecordView, RequestCode, ResponseCode,
    UnixMillis,
};
use rocket_remoting::{Client, ClientConfig, NoRequests};
use rocket_store::{Appended, PutOutcome, PutStatus};

use super::super::pending::{put_answer, stored};
use super::{START, World, send_header, send_request};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sent_message_comes_back_as_it_was_sent_and_stamped_by_the_broker() {
    let world = World::new().await;
    let client = world.client().await;
    let mut request = send_request("orders", 1, "hello", "TAGS\u{1}a\u{2}KEYS\u{1}k1\u{2}");
    request.format = HeaderFormat::Compact;
    let response = client.expect(request, ResponseCode::SUCCESS).await;
    assert_eq!(response.ext.get("MSG_REGION"), Some("DefaultRegion"));
    assert_eq!(response.ext.get("TRACE_ON"), Some("true"));
    let sent: rocket_protocol::header::SendMessageResponseHeader = response.header().unwrap();
    assert_eq!((sent.queue_id, sent.queue_offset), (1, 0));
    let id: OffsetMessageId = sent.msg_id.parse().unwrap();
    assert_eq!(id.store_host, world.processor.deps.identity.store_host);
    let view = ViewMessageHeader {
        topic: None,
        offset: id.offset.to_wire(),
    };
    let request = Command::request(RequestCode::VIEW_MESSAGE_BY_ID).with_header(&view);
    let answer = client.expect(request, ResponseCode::SUCCESS).await;
    let bytes = answer.body.contiguous();
    let (record, _) = RecordView::parse(&bytes).unwrap();
    assert_eq!((record.topic(), record.body()), ("orders", &b"hello"[..]));
    assert_eq!(record.born_timestamp().0, START);
    assert_eq!(record.property(property::TAGS), Some("a"));
    assert_eq!(record.property(property::CLUSTER), Some("DefaultCluster"));
    assert_eq!(record.property(property::MSG_REGION), Some("DefaultRegion"));
    let unique_key = record.property(property::UNIQ_KEY);
    assert_eq!(unique_key.map(str::len), Some(32));
    assert_eq!(sent.transaction_id.as_deref(), unique_key);
    let pulled = client.pull("orders", 1, 0).await;
    assert_eq!(pulled.bodies, ["hello"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_long_names_of_old_clients_are_understood_and_a_negative_queue_is_chosen() {
    let world = World::new().await;
    let client = world.client().await;
    let request = Command::request(RequestCode::SEND_MESSAGE)
        .with_header(&send_header("orders", -1, ""))
        .with_body(b"x".to_vec());
    let response = client.expect(request, ResponseCode::SUCCESS).await;
    let queue: i32 = response.ext.get("queueId").unwrap().parse().unwrap();
    assert!((0..4).contains(&queue));
    assert_eq!(client.pull("orders", queue, 0).await.bodies, ["x"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_gets_adjacent_offsets_and_an_id_for_each_message() {
    let world = World::new().await;
    let client = world.client().await;
    let mut batch = BytesMut::new();
    for body in ["a", "b", "c"] {
        BatchMessage {
            flag: 7,
            body: body.as_bytes().into(),
            properties: "A\u{1}1".into(),
        }
        .encode(&mut batch);
    }
    client.send_ok("orders", 0, "before", "").await;
    let mut header: SendMessageV2Header = send_header("orders", 0, "").into();
    header.batch = true;
    let request = Command::request(RequestCode::SEND_BATCH_MESSAGE)
        .with_header(&header)
        .with_body(batch.freeze());
    let response = client.expect(request.clone(), ResponseCode::SUCCESS).await;
    let sent: rocket_protocol::header::SendMessageResponseHeader = response.header().unwrap();
    assert_eq!(sent.queue_offset, 1);
    assert_eq!(sent.msg_id.split(',').count(), 3);
    assert_eq!(
        client.pull("orders", 0, 0).await.bodies,
        ["before", "a", "b", "c"]
    );
    // client-go's messages of a batch have no unique key and are known by their places.
    let view = Command::request(RequestCode::PULL_MESSAGE)
        .with_header(&super::pull_header("orders", 0, 1, 4));
    let bytes = client.call(view).await.body.contiguous();
    let (record, _) = RecordView::parse(&bytes).unwrap();
    assert_eq!(record.property(property::UNIQ_KEY), None);
    assert_eq!(record.property("A"), Some("1"));
    assert_eq!(record.property(property::CLUSTER), Some("DefaultCluster"));
    let torn = request.clone().with_body(b"\0\0\0\x20".to_vec());
    client.expect(torn, ResponseCode::MESSAGE_ILLEGAL).await;
    header.topic = "%RETRY%g".into();
    let retry = request.with_header(&header);
    client.expect(retry, ResponseCode::MESSAGE_ILLEGAL).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_has_as_many_messages_as_its_answer_can_name() {
    let world = World::new().await;
    let client = world.client().await;
    let mut one = BytesMut::new();
    BatchMessage {
        flag: 0,
        body: "x".into(),
        properties: "".into(),
    }
    .encode(&mut one);
    let mut header: SendMessageV2Header = send_header("orders", 0, "").into();
    header.batch = true;
    let batch = |messages| {
        Command::request(RequestCode::SEND_BATCH_MESSAGE)
            .with_header(&header)
            .with_body(one.repeat(messages))
    };
    client
        .expect(batch(65_537), ResponseCode::MESSAGE_ILLEGAL)
        .await;
    // RocketMQ's clients take any header.
    let mut config = ClientConfig::default();
    config.limits.frame.header_bytes_max = 16 << 20;
    let address = world.address.to_string();
    let client = Client::connect(&address, config, Arc::new(NoRequests)).await;
    let answer = client.unwrap().call(batch(65_536), super::PATIENCE).await;
    let sent: rocket_protocol::header::SendMessageResponseHeader =
        answer.unwrap().header().unwrap();
    assert_eq!(sent.msg_id.split(',').count(), 65_536);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_created_by_its_first_send_and_told_at_once() {
    let world = World::new().await;
    let client = world.client().await;
    client.send_ok("fresh", 3, "x", "").await;
    client.send_ok("fresh", 0, "x", "").await;
    let topic = world.processor.deps.metadata.topics.get("fresh").unwrap();
    assert_eq!((topic.write_queue_nums, topic.perm), (4, 6));
    assert_eq!(world.topics_changed.load(Ordering::SeqCst), 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_auto_create_an_unknown_topic_is_refused() {
    let world = World::with(&[("autoCreateTopicEnable", "false")]).await;
    let client = world.client().await;
    let response = client.send("fresh", 0, "x", "").await;
    assert_eq!(response.response_code(), ResponseCode::TOPIC_NOT_EXIST);
    assert!(
        response
            .remark
            .as_deref()
            .unwrap()
            .starts_with("topic[fresh] not exist, apply first please!")
    );
    // Java's client reads these from refusals too.
    assert!(response.ext.get("MSG_REGION").is_some() && response.ext.get("TRACE_ON").is_some());
    assert!(!world.processor.deps.metadata.topics.contains("fresh"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_stored_is_refused_with_rocketmqs_codes() {
    let world = World::with(&[("maxMessageSize", "2048")]).await;
    let client = world.client().await;
    client.send_ok("orders", 0, "x", "").await;
    let long = "x".repeat(128);
    let big = "x".repeat(2049);
    let properties = format!("A\u{1}{}\u{2}", "x".repeat(32_767));
    for (topic, queue, body, properties, code) in [
        ("a b", 0, "x", "", ResponseCode::INVALID_PARAMETER),
        (&*long, 0, "x", "", ResponseCode::INVALID_PARAMETER),
        ("SELF_TEST_TOPIC", 0, "x", "", ResponseCode::NO_PERMISSION),
        (
            "SCHEDULE_TOPIC_XXXX",
            0,
            "x",
            "",
            ResponseCode::NO_PERMISSION,
        ),
        ("orders", 4, "x", "", ResponseCode::INVALID_PARAMETER),
        ("orders", 0, "", "", ResponseCode::MESSAGE_ILLEGAL),
        ("orders", 0, &*big, "", ResponseCode::MESSAGE_ILLEGAL),
        (
            "orders",
            0,
            "x",
            &*properties,
            ResponseCode::MESSAGE_ILLEGAL,
        ),
        (
            "orders",
            0,
            "x",
            "TRAN_MSG\u{1}true\u{2}",
            ResponseCode::MESSAGE_ILLEGAL,
        ),
        (
            "orders",
            0,
            "x",
            "TIMER_DELAY_SEC\u{1}5\u{2}",
            ResponseCode::MESSAGE_ILLEGAL,
        ),
        (
            "orders",
            0,
            "x",
            "CORRELATION_ID\u{1}1\u{2}REPLY_TO_CLIENT\u{1}c\u{2}TTL\u{1}3000\u{2}",
            ResponseCode::MESSAGE_ILLEGAL,
        ),
        // One that Apache's broker took, and that a consumer sends back by itself.
        (
            "%RETRY%g",
            0,
            "x",
            "REPLY_TO_CLIENT\u{1}c\u{2}",
            ResponseCode::SUCCESS,
        ),
    ] {
        let response = client.send(topic, queue, body, properties).await;
        assert_eq!(
            response.response_code(),
            code,
            "{topic} {queue} {:?}",
            response.remark
        );
    }
    assert_eq!(client.pull("orders", 0, 0).await.bodies, ["x"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_oneway_send_is_stored_and_gets_no_answer() {
    let world = World::new().await;
    let client = world.client().await;
    client.send_ok("orders", 0, "first", "").await;
    let before = client.0.stats().snapshot().frames_in;
    let mut request = send_request("orders", 0, "second", "");
    request.set_oneway();
    client.0.send_oneway(request).unwrap();
    // Requests of one connection are served in order, so the next answer would come behind one to the one-way.
    client.send_ok("orders", 0, "third", "").await;
    assert_eq!(client.0.stats().snapshot().frames_in, before + 1);
    assert_eq!(
        client.pull("orders", 0, 0).await.bodies,
        ["first", "second", "third"]
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_and_a_too_early_broker_take_nothing() {
    let later = (START + 1000).to_string();
    for (key, value, code) in [
        ("brokerRole", "SLAVE", ResponseCode::SYSTEM_BUSY),
        (
            "startAcceptSendRequestTimeStamp",
            &*later,
            ResponseCode::SYSTEM_ERROR,
        ),
    ] {
        let world = World::with(&[(key, value)]).await;
        let client = world.client().await;
        let response = client.send("orders", 0, "x", "").await;
        assert_eq!(response.response_code(), code);
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_header_and_an_unknown_code_are_answered() {
    let world = World::new().await;
    let client = world.client().await;
    let mut header: SendMessageHeader = send_header("orders", 0, "");
    header.topic = "".into();
    let no_fields = Command::request(RequestCode::SEND_MESSAGE_V2).with_body(b"x".to_vec());
    client.expect(no_fields, ResponseCode::SYSTEM_ERROR).await;
    let blank = Command::request(RequestCode::SEND_MESSAGE)
        .with_header(&header)
        .with_body(b"x".to_vec());
    client.expect(blank, ResponseCode::INVALID_PARAMETER).await;
    let unknown = Command::request(RequestCode(4_711));
    let response = client
        .expect(unknown, ResponseCode::REQUEST_CODE_NOT_SUPPORTED)
        .await;
    assert_eq!(
        response.remark.as_deref(),
        Some(" request type 4711 not supported")
    );
    world.stop().await;
}

#[test]
fn every_outcome_of_an_append_has_its_code() {
    let reason: Arc<str> = "why".into();
    for (status, stored, code) in [
        (PutStatus::Ok, true, 0),
        (PutStatus::FlushDiskTimeout, true, 10),
        (PutStatus::FlushSlaveTimeout, true, 12),
        (PutStatus::SlaveNotAvailable, true, 11),
        (PutStatus::InSyncReplicasNotEnough, false, 1),
        (PutStatus::MessageIllegal(Arc::clone(&reason)), false, 13),
        (PutStatus::PropertiesTooLong, false, 13),
        (PutStatus::ServiceNotAvailable(reason), false, 14),
        (PutStatus::Busy, false, 2),
        (PutStatus::Unknown, false, 1),
    ] {
        let answer = put_answer(&status, || 4096);
        assert_eq!(answer.is_ok(), stored, "{status:?}");
        let found = answer.unwrap_or_else(|refusal| refusal.code);
        assert_eq!(found.0, code, "{status:?}");
    }
}

/// A replica that passes a send on takes this code for "not stored", and tries again.
#[test]
fn what_was_appended_is_never_said_to_be_unavailable() {
    let reason: Arc<str> = "why".into();
    let appended = Appended {
        physical_offset: PhysicalOffset(7),
        queue_offset: QueueOffset(0),
        len: 100,
        store_timestamp: UnixMillis(1),
        count: 1,
        physical_offsets: Vec::new(),
    };
    for status in [
        PutStatus::Ok,
        PutStatus::FlushDiskTimeout,
        PutStatus::FlushSlaveTimeout,
        PutStatus::SlaveNotAvailable,
        PutStatus::InSyncReplicasNotEnough,
        PutStatus::MessageIllegal(Arc::clone(&reason)),
        PutStatus::PropertiesTooLong,
        PutStatus::ServiceNotAvailable(reason),
        PutStatus::Busy,
        PutStatus::Unknown,
    ] {
        let mut outcome = PutOutcome {
            status,
            appended: Some(appended.clone()),
        };
        let code = |outcome: &PutOutcome| match stored(outcome, || 4096) {
            Ok((code, _)) => code,
            Err(refusal) => refusal.code,
        };
        let unavailable = ResponseCode::SERVICE_NOT_AVAILABLE;
        assert_ne!(code(&outcome), unavailable, "{:?}", outcome.status);
        outcome.appended = None;
        let is_said = matches!(outcome.status, PutStatus::ServiceNotAvailable(_));
        assert_eq!(code(&outcome) == unavailable, is_said);
    }
}

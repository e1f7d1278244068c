use std::time::Duration;

use rocket_protocol::header::{ConsumerSendMsgBackHeader, SendMessageV2Header};
use rocket_protocol::message::record::body_crc;
use rocket_protocol::message::{OffsetMessageId, property};
use rocket_protocol::{
    Command, Message, PhysicalOffset, QueueId, QueueOffset, RecordView, RequestCode, ResponseCode,
    SysFlag, TopicName, UnixMillis,
};

use super::{Peer, START, World, pull_request, send_header, until};

fn send_back(msg_id: &str, level: i32, max: Option<i32>) -> Command {
    let id: OffsetMessageId = msg_id.parse().unwrap();
    let header = ConsumerSendMsgBackHeader {
        offset: id.offset.to_wire(),
        group: "g".into(),
        delay_level: level,
        max_reconsume_times: max,
        ..ConsumerSendMsgBackHeader::default()
    };
    Command::request(RequestCode::CONSUMER_SEND_MSG_BACK).with_header(&header)
}

async fn end_of(client: &Peer, topic: &'static str) -> String {
    let request = Command::request(RequestCode::GET_MAX_OFFSET)
        .with_ext("topic", topic)
        .with_ext("queueId", "0");
    let response = client.expect(request, ResponseCode::SUCCESS).await;
    response.ext.get("offset").unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delayed_message_is_given_after_its_level_and_not_before() {
    let world = World::new().await;
    let client = world.client().await;
    client
        .send_ok("orders", 2, "later", "DELAY\u{1}3\u{2}TAGS\u{1}a\u{2}")
        .await;
    assert_eq!(end_of(&client, "SCHEDULE_TOPIC_XXXX").await, "0");
    assert_eq!(
        client.pull("orders", 2, 0).await.code,
        ResponseCode::PULL_NOT_FOUND
    );
    world.advance(Duration::from_millis(9_999));
    until(|| world.processor.delays_seen().0 == START + 9_999).await;
    assert_eq!(
        client.pull("orders", 2, 0).await.code,
        ResponseCode::PULL_NOT_FOUND
    );
    world.advance(Duration::from_millis(1));
    let waiting = client.call(pull_request("orders", 2, 0, 2 | 4)).await;
    let bytes = waiting.body.contiguous();
    let (record, _) = RecordView::parse(&bytes).unwrap();
    assert_eq!(record.body(), b"later");
    assert_eq!(record.property(property::TAGS), Some("a"));
    for gone in [
        property::DELAY,
        property::REAL_TOPIC,
        property::REAL_QUEUE_ID,
    ] {
        assert_eq!(record.property(gone), None);
    }
    until(|| world.processor.deps.metadata.delay.get(3) == 1).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_sent_back_comes_again_under_the_groups_retry_topic() {
    let world = World::new().await;
    let client = world.client().await;
    let sent = client
        .send_ok("orders", 0, "hard", "UNIQ_KEY\u{1}key\u{2}")
        .await;
    client
        .expect(send_back(&sent.msg_id, 0, None), ResponseCode::SUCCESS)
        .await;
    // Level 3, as it is the first time: 10 s.
    world.advance(Duration::from_secs(10));
    let response = client.call(pull_request("%RETRY%g", 0, 0, 2 | 4)).await;
    let bytes = response.body.contiguous();
    let (record, _) = RecordView::parse(&bytes).unwrap();
    assert_eq!((record.body(), record.reconsume_times()), (&b"hard"[..], 1));
    assert_eq!(record.property(property::RETRY_TOPIC), Some("orders"));
    assert_eq!(
        record.property(property::ORIGIN_MESSAGE_ID),
        Some(sent.msg_id.as_str())
    );
    assert_eq!(record.property(property::UNIQ_KEY), Some("key"));
    client
        .expect(
            send_back(
                &OffsetMessageId {
                    store_host: ([127, 0, 0, 1], 1).into(),
                    offset: PhysicalOffset(3),
                }
                .to_string(),
                0,
                None,
            ),
            ResponseCode::SYSTEM_ERROR,
        )
        .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_was_tried_too_often_becomes_a_dead_letter_that_can_be_read() {
    let world = World::new().await;
    let client = world.client().await;
    let sent = client.send_ok("orders", 0, "dead", "").await;
    let mut request = send_back(&sent.msg_id, 0, Some(0));
    request.version = 401;
    client.expect(request, ResponseCode::SUCCESS).await;
    assert_eq!(client.pull("%DLQ%g", 0, 0).await.bodies, ["dead"]);
    // A retry that the client sends by itself after code 36 failed.
    let mut header: SendMessageV2Header = send_header("%RETRY%g", 0, "DELAY\u{1}3\u{2}").into();
    header.reconsume_times = Some(17);
    let request = Command::request(RequestCode::SEND_MESSAGE_V2)
        .with_header(&header)
        .with_body(b"too".to_vec());
    client.expect(request, ResponseCode::SUCCESS).await;
    assert_eq!(client.pull("%DLQ%g", 0, 0).await.bodies, ["dead", "too"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_lie_in_queues_that_the_retry_topic_has() {
    let world = World::new().await;
    let client = world.client().await;
    client.heartbeat("c1", "g", "orders", "*").await;
    let sent = client.send_ok("orders", 0, "hard", "").await;
    let (topics, now) = (&world.processor.deps.metadata.topics, world.processor.now());
    let retry = TopicName::parse("%RETRY%g").unwrap();
    let queues = || {
        let topic = topics.get(retry.as_str()).unwrap();
        (topic.read_queue_nums, topic.write_queue_nums)
    };
    assert_eq!(queues(), (1, 1));
    let more = Command::request(RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP)
        .with_body(br#"{"groupName":"g","retryQueueNums":4}"#.to_vec());
    client.expect(more, ResponseCode::SUCCESS).await;
    assert_eq!(queues(), (4, 4));

    let ends = || [0, 1, 2, 3, 4, 5].map(|id| world.processor.queue_end(&retry, QueueId(id)));
    let all_come = async |sum: i64| {
        for _ in 0..32 {
            let back = send_back(&sent.msg_id, 0, None);
            client.expect(back, ResponseCode::SUCCESS).await;
        }
        world.advance(Duration::from_secs(10));
        until(|| ends().iter().sum::<i64>() == sum).await;
        ends()
    };
    let [.., beyond, far_beyond] = all_come(32).await;
    assert_eq!((beyond, far_beyond), (0, 0));
    // A topic that was made smaller by hand, or never grew under an earlier version.
    let mut narrow = (*topics.get(retry.as_str()).unwrap()).clone();
    (narrow.read_queue_nums, narrow.write_queue_nums) = (2, 3);
    topics.update([(retry.clone(), narrow)], now).unwrap();
    let [_, _, before @ ..] = ends();
    let [_, _, after @ ..] = all_come(64).await;
    assert_eq!(before, after);
    world.stop().await;
}

/// Apache's broker takes what this store does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn message_with_a_zero_byte_in_a_property_is_taken_back_without_it() {
    let world = World::new().await;
    let body = "hard";
    let message = Message {
        topic: TopicName::parse("orders").unwrap(),
        queue_id: QueueId(2),
        flag: 0,
        sys_flag: SysFlag(0),
        born_timestamp: UnixMillis(1),
        born_host: "127.0.0.1:1".parse().unwrap(),
        store_host: "127.0.0.1:2".parse().unwrap(),
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body_crc: body_crc(body.as_bytes()),
        body: body.into(),
        properties: "A\u{1}1\u{2}B\u{1}b\0b\u{2}".into(),
    };
    let mut bytes = Vec::new();
    message.encode(QueueOffset(0), PhysicalOffset(0), UnixMillis(2), &mut bytes);
    let (record, _) = RecordView::parse_trusting(&bytes).unwrap();
    let retry = TopicName::parse("%RETRY%g").unwrap();
    let copy = world.processor.copy_of(&record, retry);
    let properties = String::from_utf8(copy.properties.to_vec()).unwrap();
    assert!(properties.contains("A\u{1}1\u{2}"), "{properties:?}");
    let is_left = |text: &str| properties.contains(text);
    assert!(!is_left("\0") && !is_left("B\u{1}"), "{properties:?}");
    world.stop().await;
}

use std::time::Duration;

use bytes::Bytes;
use rocket_protocol::message::record::body_crc;
use rocket_protocol::{
    Message, PhysicalOffset, QueueId, RecordView, SysFlag, TopicName, UnixMillis,
};
use rocket_remoting::ServerConfig;

use super::{Peer, START, World, pull_request, until};

impl World {
    fn delivered(&self, level: i32) -> i64 {
        self.processor.deps.metadata.delay.get(level)
    }

    /// The end of a queue of `orders`.
    fn end(&self, queue: u32) -> i64 {
        let topic = TopicName::parse("orders").unwrap();
        self.processor.queue_end(&topic, QueueId(queue))
    }
}

impl Peer {
    async fn delay(&self, queue: i32, level: u32, body: &str) {
        let properties = format!("DELAY\u{1}{level}\u{2}");
        self.send_ok("orders", queue, body, &properties).await;
    }

    /// A message of `orders`: where it lies, and the first letter of its body.
    async fn letter(&self, queue: i32, offset: i64) -> (PhysicalOffset, u8) {
        let response = self.call(pull_request("orders", queue, offset, 4)).await;
        let bytes = response.body.contiguous();
        let (record, _) = RecordView::parse(&bytes).unwrap();
        (record.physical_offset(), record.body()[0])
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_in_a_delay_level_is_passed_over_and_the_others_come_once() {
    let world = World::new().await;
    let client = world.client().await;
    for (level, letter) in [(1, "a"), (1, "b"), (1, "c"), (2, "d")] {
        client.delay(0, level, &letter.repeat(200 << 10)).await;
    }
    drop(client);
    let dir = world.stop().await;
    let path = dir.path().join("commitlog/00000000000000000000");
    let mut log = std::fs::read(&path).unwrap();
    for letter in [b'b', b'd'] {
        let body = log.windows(64).position(|bytes| bytes == [letter; 64]);
        log[body.unwrap() + (100 << 10)] ^= 1;
    }
    std::fs::write(&path, log).unwrap();
    let world = World::on(dir, ServerConfig::default(), &[]).await;
    world.advance(Duration::from_secs(5));
    until(|| world.delivered(1) >= 3 && world.delivered(2) >= 1).await;
    until(|| world.processor.delays_seen().0 == START + 5_000).await;
    assert_eq!((world.delivered(1), world.delivered(2)), (3, 1));
    let client = world.client().await;
    assert_eq!(client.letter(0, 0).await.1, b'a');
    assert_eq!(client.letter(0, 1).await.1, b'c');
    assert_eq!(world.end(0), 2);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_clock_was_set_back_delayed_messages_come_after_their_delay() {
    let world = World::new().await;
    let client = world.client().await;
    client.delay(0, 3, "before").await;
    world.set_back(Duration::from_hours(1));
    let back = START - 3_600_000;
    until(|| world.processor.delays_seen().0 == back).await;
    client.delay(0, 3, "after").await;
    world.advance(Duration::from_millis(9_999));
    until(|| world.processor.delays_seen().0 == back + 9_999).await;
    assert_eq!(world.end(0), 0);
    world.advance(Duration::from_millis(1));
    until(|| world.end(0) == 1).await;
    until(|| world.processor.delays_seen().0 == back + 10_000).await;
    assert_eq!(world.end(0), 1, "the second one has not waited for 10 s");
    world.advance(Duration::from_secs(10));
    until(|| world.end(0) == 2).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delay_level_does_not_wait_for_the_backlog_of_another_one() {
    let world = World::new().await;
    let client = world.client().await;
    for _ in 0..150 {
        client.delay(0, 1, "many").await;
    }
    client.delay(1, 2, "one").await;
    world.advance(Duration::from_secs(5));
    until(|| world.end(0) == 150 && world.end(1) == 1).await;
    let (last, _) = client.letter(0, 149).await;
    let (one, _) = client.letter(1, 0).await;
    assert!(one < last, "{one} {last}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stop_finds_on_its_way_is_counted_as_delivered() {
    let world = World::new().await;
    let client = world.client().await;
    for _ in 0..64 {
        client.delay(0, 1, "x").await;
    }
    let before = world.store.positions().appended;
    world.advance(Duration::from_secs(1));
    while world.store.positions().appended == before {
        tokio::task::yield_now().await;
    }
    drop(client);
    let world = World::on(world.stop().await, ServerConfig::default(), &[]).await;
    assert!(world.end(0) > 0);
    assert_eq!(world.delivered(1), world.end(0));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_store_refuses_is_not_counted_as_delivered_and_nothing_behind_it_is_appended() {
    let world = World::new().await;
    let message = |properties: &'static str| Message {
        topic: TopicName::parse("orders").unwrap(),
        queue_id: QueueId(0),
        flag: 0,
        sys_flag: SysFlag(0),
        born_timestamp: UnixMillis(START),
        born_host: "127.0.0.1:1".parse().unwrap(),
        store_host: "127.0.0.1:2".parse().unwrap(),
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body_crc: body_crc(b"body"),
        body: "body".into(),
        properties: Bytes::from_static(properties.as_bytes()),
    };
    let due = ["A\u{1}1\u{2}", "A\u{1}\0\u{2}", "A\u{1}2\u{2}"];
    let due = (1..).zip(due.map(|properties| Some(message(properties))));
    let copies = world.processor.deliver(due);
    world.store.write_out();
    let mut kept = Vec::new();
    for (behind, copy) in copies {
        kept.push((behind, copy.kept().await));
    }
    assert_eq!(kept, [(1, true), (2, false)]);
    until(|| world.end(0) == 1).await;
    world.stop().await;
}

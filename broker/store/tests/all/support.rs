//! What several tests need.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use bytes::Bytes;
use rocket_protocol::{Message, QueueId, RecordView, TopicName, UnixMillis};
use rocket_store::{
    Clock, Completion, Flush, LocalPolicy, NoEvents, Promise, PutOutcome, QueueLogConfig,
    ReadLimits, Store, StoreConfig,
};

/// The builders of messages are those of the tests within the package.
#[path = "../../src/test_support.rs"]
mod test_support;
pub(crate) use self::test_support::{message as message_of, message_with as message};

/// A clock that a test sets.
pub(crate) struct TestClock(pub(crate) AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::Relaxed))
    }
}

/// A clock that stands at `now`.
pub(crate) fn clock(now: i64) -> Arc<TestClock> {
    Arc::new(TestClock(AtomicI64::new(now)))
}

/// Sends the outcome to whoever waits.
#[derive(Debug)]
pub(crate) struct Tell(pub(crate) Sender<PutOutcome>);

impl Completion for Tell {
    fn complete(self, outcome: PutOutcome) {
        // A test that ended does not listen any more.
        let _unheard = self.0.send(outcome);
    }
}

pub(crate) fn topic(name: &str) -> TopicName {
    TopicName::parse(name).unwrap()
}

/// Settings with small files.
pub(crate) fn small(dir: &Path) -> StoreConfig {
    StoreConfig {
        dir: dir.to_owned(),
        segment_bytes: 1 << 20,
        consume_queue_file_bytes: 2000,
        queue_log: QueueLogConfig {
            file_bytes: 20_000,
            journal_bytes: 10_000,
            extent_units: 16,
            table_units: 100,
        },
        index_slots: 128,
        index_entries: 512,
        ..StoreConfig::default()
    }
}

/// A store that stands alone and flushes before it answers.
pub(crate) fn open(config: StoreConfig) -> Store<Tell> {
    let policy = LocalPolicy { flush: Flush::Sync };
    Store::open(
        config,
        clock(1_800_000_000_000),
        Arc::new(policy),
        Arc::new(NoEvents),
    )
    .unwrap()
    .0
}

/// Appends; the outcome comes on the channel.
pub(crate) fn send(store: &Store<Tell>, message: &Message) -> Receiver<PutOutcome> {
    send_batch(store, std::slice::from_ref(message))
}

/// Appends all at once.
pub(crate) fn send_batch(store: &Store<Tell>, messages: &[Message]) -> Receiver<PutOutcome> {
    let (tell, told) = channel();
    let messages: Vec<_> = messages.iter().map(Message::as_ref).collect();
    store
        .append(&messages, Promise::Kept, Tell(tell))
        .map_err(|_| "refused")
        .unwrap();
    store.write_out();
    told
}

/// Every record of a queue, from its first offset to its last.
pub(crate) fn read_all(store: &Store<Tell>, topic: &TopicName, queue_id: QueueId) -> Vec<Bytes> {
    let range = store.queue_range(topic, queue_id).unwrap();
    let mut records = Vec::new();
    let mut next = range.min.to_wire();
    while next < range.max.to_wire() {
        let limits = ReadLimits {
            messages_max: 32,
            bytes_max: 256 << 10,
        };
        let result = store.get(topic, queue_id, next, limits, &|_, _| true);
        assert!(result.next_begin > next, "{result:?}");
        next = result.next_begin;
        for chunk in result.chunks {
            let mut at = 0;
            while at < chunk.len() {
                let (_, len) = RecordView::parse(&chunk[at..]).unwrap();
                records.push(chunk.slice(at..at + len));
                at += len;
            }
        }
    }
    records
}

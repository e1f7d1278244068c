//! What a message's way through the store takes from the allocator: nothing, once buffers, queues and vectors have their
//! size. Counted, so the same on every machine.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::sync::Arc;

use rocket_mapped_file::disk::DiskDirectory;
use rocket_protocol::message::MessageRef;
use rocket_protocol::{QueueId, SysFlag, TopicName, UnixMillis};
use rocket_store::{
    Clock, Completion, Engine, Flush, LocalPolicy, NoEvents, Promise, PutOutcome, PutStatus, Step,
    StoreConfig,
};

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

const MESSAGES: u64 = 10_000;
/// Messages of one write and flush.
const TOGETHER: u64 = 16;
const QUEUES: u64 = 8;
/// Calls of the allocator for 10 000 messages: units of queues and entries of the index that wait in memory for their next
/// saving grow by doubling, and one saving of the index may fall among them.
const CALLS_MAX: u64 = 64;

struct Still;

impl Clock for Still {
    fn now(&self) -> UnixMillis {
        UnixMillis(1_700_000_000_000)
    }
}

struct Must;

impl Completion for Must {
    fn complete(self, outcome: PutOutcome) {
        assert_eq!(outcome.status, PutStatus::Ok);
    }
}

fn send(engine: &Engine<Must>, topic: &TopicName, messages: u64) {
    let body = [b'x'; 128];
    for number in 0..messages {
        let message = MessageRef {
            topic,
            queue_id: QueueId(u32::try_from(number % QUEUES).unwrap()),
            flag: 0,
            sys_flag: SysFlag(0),
            born_timestamp: UnixMillis(0),
            born_host: ([127, 0, 0, 1], 1).into(),
            store_host: ([127, 0, 0, 1], 2).into(),
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body: &body,
            body_crc: None,
            properties: b"UNIQ_KEY\x017F0000010FA41B2A\x02WAIT\x01true\x02TAGS\x01TagA\x02",
            more_properties: b"CLUSTER\x01c\x02",
        };
        let taken = engine.append(&[message], Promise::Kept, Must);
        assert!(taken.is_ok());
        if number % TOGETHER == TOGETHER - 1 {
            assert_eq!(engine.write_step(), Step::Worked);
            while engine.flush_step(0) == Step::Worked {}
            while engine.dispatch_step() == Step::Worked {}
        }
    }
    assert_eq!(engine.stats().pending, 0, "all are answered");
    assert!(!engine.is_behind(), "all are dispatched");
}

fn calls_in_a_steady_state(flush: Flush) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        flush,
        segment_bytes: 64 << 20,
        ..StoreConfig::default()
    };
    let (engine, _) = Engine::open(
        config,
        Arc::new(DiskDirectory::open(dir.path()).unwrap()),
        Arc::new(Still),
        Arc::new(LocalPolicy { flush }),
        Arc::new(NoEvents),
    )
    .unwrap();
    let topic = TopicName::parse("orders").unwrap();
    send(&engine, &topic, 2 * MESSAGES);
    let before = counting::counted();
    send(&engine, &topic, MESSAGES);
    counting::counted().calls - before.calls
}

#[test]
fn a_message_is_appended_written_flushed_answered_and_dispatched_without_an_allocation() {
    counting::count_this_thread();
    for flush in [Flush::Sync, Flush::Async] {
        let calls = calls_in_a_steady_state(flush);
        assert!(
            calls <= CALLS_MAX,
            "{calls} allocations for {MESSAGES} messages, {flush:?}"
        );
    }
}

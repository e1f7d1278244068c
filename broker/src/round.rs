//! Messages are written to the log once for all connections that a thread of the runtime served in a row: when the runtime has
//! nothing left for that thread to do. Many connections with one message each then share one write, one flush and the answers.
//!
//! Nobody waits for more to come: the thread would sleep otherwise. On threads of a runtime that does not call [`end`] every
//! connection's messages are written as soon as they were served, and so they are on a thread that gave its place in the
//! runtime away ([`aside`]), until it has one again.

use std::cell::RefCell;
use std::sync::Arc;

use crate::processor::BrokerStore;

/// Turns of connections after which a thread writes though it has more to do.
const TURNS_MAX: u32 = 32;

#[derive(Default)]
struct Round {
    /// Whether this thread's runtime calls [`end`].
    ends: bool,
    turns: u32,
    /// What was appended to.
    store: Option<Arc<BrokerStore>>,
}

thread_local! {
    static ROUND: RefCell<Round> = RefCell::default();
}

/// To be called by a runtime before one of its threads sleeps ([`tokio::runtime::Builder::on_thread_park`]).
pub(crate) fn end() {
    let store = ROUND.with_borrow_mut(|round| {
        round.ends = true;
        round.turns = 0;
        round.store.take()
    });
    if let Some(store) = store {
        store.write_out();
    }
}

/// Does what waits for the disk, on this thread, while others take over its tasks ([`tokio::task::block_in_place`]). What
/// connections appended is written before, since this thread may never come to the end of its round.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that knows what to do before"
)]
pub(crate) fn aside<T>(work: impl FnOnce() -> T) -> T {
    end();
    ROUND.with_borrow_mut(|round| round.ends = false);
    tokio::task::block_in_place(work)
}

/// A connection was served, and may have appended to `store`.
pub(crate) fn served(store: &Arc<BrokerStore>) {
    let due = ROUND.with_borrow_mut(|round| {
        let before = round.store.replace(Arc::clone(store));
        round.turns += 1;
        if round.ends && round.turns < TURNS_MAX {
            // That of another broker in this process.
            return before.filter(|before| !Arc::ptr_eq(before, store));
        }
        round.turns = 0;
        round.store.take()
    });
    if let Some(due) = due {
        due.write_out();
    }
}

#[cfg(test)]
mod tests {
    use rocket_protocol::message::record::body_crc;
    use rocket_protocol::{Message, QueueId, SysFlag, TopicName, UnixMillis};
    use rocket_store::{Clock, Flush, LocalPolicy, NoEvents, Promise, Store, StoreConfig};

    use super::*;
    use crate::processor::PendingSend;

    struct Noon;

    impl Clock for Noon {
        fn now(&self) -> UnixMillis {
            UnixMillis(1)
        }
    }

    fn append(store: &BrokerStore) {
        let message = Message {
            topic: TopicName::parse("t").unwrap(),
            queue_id: QueueId(0),
            flag: 0,
            sys_flag: SysFlag(0),
            born_timestamp: UnixMillis(1),
            born_host: "127.0.0.1:1".parse().unwrap(),
            store_host: "127.0.0.1:2".parse().unwrap(),
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body_crc: body_crc(b"body"),
            body: "body".into(),
            properties: "".into(),
        };
        let nobody = PendingSend::Broker(Box::new(|_| ()));
        let taken = store.append(&[message.as_ref()], Promise::Kept, nobody);
        assert!(taken.is_ok());
    }

    #[test]
    fn connections_that_are_served_in_a_row_share_a_write_where_the_runtime_tells_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let config = StoreConfig {
            dir: dir.path().to_owned(),
            segment_bytes: 1 << 20,
            flush: Flush::Async,
            ..StoreConfig::default()
        };
        let policy = LocalPolicy {
            flush: Flush::Async,
        };
        let opened = Store::open(config, Arc::new(Noon), Arc::new(policy), Arc::new(NoEvents));
        let store = Arc::new(opened.unwrap().0);
        let turn = |writes: u64| {
            append(&store);
            served(&store);
            assert_eq!(store.stats().batches_appended, writes);
        };
        turn(1);
        turn(2);
        end();
        (1..TURNS_MAX).for_each(|_| turn(2));
        end();
        assert_eq!(store.stats().batches_appended, 3);
        // A thread that never has nothing to do.
        (1..TURNS_MAX).for_each(|_| turn(3));
        turn(4);
        assert_eq!(Arc::strong_count(&store), 1, "nothing is kept");
    }
}

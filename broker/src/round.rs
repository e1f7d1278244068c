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
    ROUND.with_borrow_mut(|round| round.ends = true);
    write_out();
}

fn write_out() {
    let store = ROUND.with_borrow_mut(|round| {
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
    write_out();
    ROUND.with_borrow_mut(|round| round.ends = false);
    tokio::task::block_in_place(work)
}

/// A connection was served, and may have appended to `store`.
pub(crate) fn served(store: &Arc<BrokerStore>) {
    let (other, is_over) = ROUND.with_borrow_mut(|round| {
        let is_same = |known: &Arc<BrokerStore>| Arc::ptr_eq(known, store);
        // That of another broker in this process is written now.
        let other = match &round.store {
            Some(known) if is_same(known) => None,
            _ => round.store.replace(Arc::clone(store)),
        };
        round.turns += 1;
        (other, !round.ends || round.turns >= TURNS_MAX)
    });
    if let Some(other) = other {
        other.write_out();
    }
    if is_over {
        write_out();
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

    fn open() -> (tempfile::TempDir, Arc<BrokerStore>) {
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
        (dir, Arc::new(opened.unwrap().0))
    }

    fn writes(store: &BrokerStore) -> u64 {
        store.stats().batches_appended
    }

    #[test]
    fn connections_that_are_served_in_a_row_share_a_write_where_the_runtime_tells_the_end() {
        let (_dir, store) = open();
        let turn = |expected: u64| {
            append(&store);
            served(&store);
            assert_eq!(writes(&store), expected);
        };
        turn(1);
        turn(2);
        end();
        (1..TURNS_MAX).for_each(|_| turn(2));
        end();
        assert_eq!(writes(&store), 3);
        // A thread that never has nothing to do.
        (1..TURNS_MAX).for_each(|_| turn(3));
        turn(4);
        assert_eq!(Arc::strong_count(&store), 1, "nothing is kept");
    }

    #[test]
    fn what_was_appended_to_another_store_of_the_process_is_written_too() {
        let ((_dir, one), (_other_dir, other)) = (open(), open());
        end();
        for _ in 1..TURNS_MAX {
            append(&one);
            served(&one);
        }
        assert_eq!((writes(&one), writes(&other)), (0, 0));
        // Its turn is the last of the round, and it takes the place of the first.
        append(&other);
        served(&other);
        assert_eq!((writes(&one), writes(&other)), (1, 1));
    }

    #[test]
    fn what_was_appended_is_written_before_a_thread_waits_for_the_disk() {
        let (_dir, store) = open();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let of_task = Arc::clone(&store);
        let served_inside = runtime.spawn(async move {
            end();
            append(&of_task);
            served(&of_task);
            let before = writes(&of_task);
            (before, aside(|| writes(&of_task)))
        });
        assert_eq!(runtime.block_on(served_inside).unwrap(), (0, 1));
        assert_eq!(writes(&store), 1);
    }
}

//! Who dispatches, and how much of it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, ThreadId};

use rocket_protocol::QueueId;
use rocket_store::{Arrival, Flush, FlushFailure, LocalPolicy, Removed, Store, StoreEvents};

use crate::support::{Tell, clock, message, send, small, topic};

/// Answers each arrival with another message, for a while.
struct Echo {
    store: OnceLock<Weak<Store<Tell>>>,
    left: AtomicUsize,
    reader: ThreadId,
    /// Steps of dispatching that the reader was made to do.
    by_reader: AtomicUsize,
}

impl StoreEvents for Echo {
    fn arrived(&self, _: &[Arrival]) {
        if thread::current().id() == self.reader {
            self.by_reader.fetch_add(1, Ordering::SeqCst);
        }
        let store = self.store.get().and_then(Weak::upgrade);
        let is_more = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            });
        if let (Some(store), Ok(_)) = (store, is_more) {
            send(&store, &message("t", 0, "echo", ""));
        }
    }

    fn is_awaited(&self) -> bool {
        false
    }

    fn failed(&self, failure: &FlushFailure) {
        panic!("{failure:?}");
    }

    fn removed(&self, _: &Removed) {}
}

#[test]
fn a_reader_dispatches_what_it_found_and_not_what_comes_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let echo = Arc::new(Echo {
        store: OnceLock::new(),
        left: AtomicUsize::new(2_000),
        reader: thread::current().id(),
        by_reader: AtomicUsize::new(0),
    });
    let mut config = small(dir.path());
    config.flush = Flush::Async;
    let policy = LocalPolicy {
        flush: Flush::Async,
    };
    let opened = Store::open(
        config,
        clock(1_800_000_000_000),
        Arc::new(policy),
        Arc::clone(&echo) as _,
    );
    let store = Arc::new(opened.unwrap().0);
    echo.store.set(Arc::downgrade(&store)).unwrap();
    send(&store, &message("t", 0, "first", ""));
    let range = store.queue_range(&topic("t"), QueueId(0)).unwrap();
    assert!(range.max.0 >= 1);
    let steps = echo.by_reader.load(Ordering::SeqCst);
    assert!(steps <= 1, "the reader was held for {steps} steps");
    echo.left.store(0, Ordering::SeqCst);
    assert!(store.catch_up());
    store.close().unwrap();
}

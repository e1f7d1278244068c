//! Stores whose modes change while they are open, with their threads, on a real file system.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, RwLock};
use rocket_protocol::PhysicalOffset;
use rocket_store::{
    CommitPolicy, Completion, Ends, Flush, LocalEnds, NoEvents, Promise, PutOutcome, PutStatus,
    Store, StoreConfig, Terms,
};

use crate::support::{clock, message, small};

const PATIENCE: Duration = Duration::from_secs(30);
const SENDERS: u64 = 3;
const MESSAGES: u64 = 300;

/// Promises what its mode says, to each send what it said when that was appended.
#[derive(Default)]
struct Modes {
    is_sync: AtomicBool,
    durable: AtomicU64,
    lock: Mutex<()>,
    moved: Condvar,
}

impl Modes {
    fn end(terms: Terms, local: LocalEnds) -> PhysicalOffset {
        match terms {
            Terms::Durable => local.durable,
            _ => local.appended,
        }
    }

    fn flushed_to(&self, end: PhysicalOffset) {
        let mut held = self.lock.lock();
        while self.durable.load(Ordering::Acquire) < end.0 {
            let waited = self.moved.wait_for(&mut held, PATIENCE);
            assert!(!waited.timed_out(), "it is flushed in time");
        }
    }
}

impl CommitPolicy for Modes {
    fn ends(&self, local: LocalEnds) -> Ends {
        self.durable.fetch_max(local.durable.0, Ordering::AcqRel);
        let _held = self.lock.lock();
        self.moved.notify_all();
        Ends {
            committed: local.durable,
            answered: Self::end(self.terms(), local),
            visible: local.durable,
        }
    }

    fn may_append(&self) -> Result<(), PutStatus> {
        Ok(())
    }

    fn terms(&self) -> Terms {
        if self.is_sync.load(Ordering::Acquire) {
            Terms::Durable
        } else {
            Terms::Appended
        }
    }

    fn answered_on(&self, terms: Terms, local: LocalEnds, _: Ends) -> PhysicalOffset {
        Self::end(terms, local)
    }
}

/// Looks how much was flushed when the answer came.
struct Judge {
    modes: Arc<Modes>,
    was_sync: bool,
    told: Sender<bool>,
}

impl Completion for Judge {
    fn complete(self, outcome: PutOutcome) {
        assert_eq!(outcome.status, PutStatus::Ok);
        let end = outcome.appended.map_or(u64::MAX, |appended| {
            appended.physical_offset.0 + appended.len
        });
        let is_kept = !self.was_sync || self.modes.durable.load(Ordering::Acquire) >= end;
        // A test that ended does not listen any more.
        let _unheard = self.told.send(is_kept);
    }
}

fn open(config: StoreConfig) -> (Arc<Modes>, Store<Judge>) {
    let modes = Arc::new(Modes::default());
    modes
        .is_sync
        .store(config.flush == Flush::Sync, Ordering::Release);
    let policy = Arc::clone(&modes) as Arc<dyn CommitPolicy>;
    let opened = Store::open(config, clock(1_800_000_000_000), policy, Arc::new(NoEvents));
    (modes, opened.unwrap().0)
}

fn set(modes: &Modes, store: &Store<Judge>, flush: Flush) {
    modes.is_sync.store(flush == Flush::Sync, Ordering::Release);
    store.set_flush(flush);
    store.re_evaluate();
}

fn send(modes: &Arc<Modes>, store: &Store<Judge>, told: Sender<bool>) {
    let judge = Judge {
        modes: Arc::clone(modes),
        was_sync: modes.is_sync.load(Ordering::Acquire),
        told,
    };
    let message = message("t", 0, vec![7; 500], "");
    let taken = store.append(&[message.as_ref()], Promise::Kept, judge);
    assert!(taken.is_ok());
}

#[test]
fn modes_change_while_messages_come_and_each_answer_keeps_what_was_promised() {
    let dir = tempfile::tempdir().unwrap();
    let (modes, store) = open(small(dir.path()));
    // The mode does not change between the look at it and the append.
    let mode = RwLock::new(());
    let (told, answers) = channel();
    std::thread::scope(|scope| {
        for _ in 0..SENDERS {
            let told = told.clone();
            scope.spawn(|| {
                let told = told;
                for _ in 0..MESSAGES {
                    {
                        let _same = mode.read();
                        send(&modes, &store, told.clone());
                    }
                    store.write_out();
                }
            });
        }
        for n in 0..40 {
            let next = [Flush::Async, Flush::Sync][n % 2];
            // Somewhere among the answers, wherever that is.
            for _ in 0..10 {
                assert!(answers.recv_timeout(PATIENCE).unwrap());
            }
            let _alone = mode.write();
            set(&modes, &store, next);
        }
    });
    for _ in 400..SENDERS * MESSAGES {
        assert!(answers.recv_timeout(PATIENCE).unwrap());
    }
    store.close().unwrap();
}

#[test]
fn store_flushes_at_intervals_or_before_answers_whichever_mode_it_was_opened_with() {
    for first in [Flush::Sync, Flush::Async] {
        let dir = tempfile::tempdir().unwrap();
        let (modes, store) = open(StoreConfig {
            flush: first,
            flush_interval: Duration::from_millis(20),
            ..small(dir.path())
        });
        let (told, answers) = channel();
        for flush in [Flush::Async, Flush::Sync, Flush::Async, Flush::Sync] {
            set(&modes, &store, flush);
            for _ in 0..3 {
                send(&modes, &store, told.clone());
                store.write_out();
                assert!(answers.recv_timeout(PATIENCE).unwrap());
                modes.flushed_to(store.positions().appended);
            }
        }
        store.close().unwrap();
    }
}

//! All interleavings, up to a bound of preemptions, of what several threads of the store do at once (`tests/loom`): asking a
//! [`Relay`] for work, and flushing in two lanes while more is appended and answers are given.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot go on ends by panicking"
)]

use std::time::Duration;

use loom::sync::Arc;
use loom::thread;

use crate::LocalPolicy;
use crate::config::Flush;
use crate::progress::{Placed, Progress};
use crate::relay::Relay;
use crate::sync::{AtomicBool, AtomicUsize, Mutex, Ordering};

const ASKING: usize = 2;

#[test]
fn who_asks_for_work_gets_it_by_somebody_and_nobody_works_beside_another() {
    loom::model(|| {
        let relay = Arc::new(Relay::<[usize; ASKING]>::default());
        // Plain news: the relay alone must make them seen.
        let news = Arc::new([(); ASKING].map(|()| AtomicUsize::new(0)));
        let is_busy = Arc::new(AtomicBool::new(false));
        let ask = |who: usize| {
            let (relay, news) = (Arc::clone(&relay), Arc::clone(&news));
            let is_busy = Arc::clone(&is_busy);
            move || {
                for round in 1..=ASKING - who {
                    news[who].store(round, Ordering::Relaxed);
                    let work = |seen: &mut [usize; ASKING]| {
                        assert!(!is_busy.swap(true, Ordering::Relaxed), "two at once");
                        for (seen, news) in seen.iter_mut().zip(news.iter()) {
                            *seen = news.load(Ordering::Relaxed);
                        }
                        is_busy.store(false, Ordering::Relaxed);
                    };
                    if round == ASKING {
                        relay.run_after(work);
                    } else {
                        relay.run(work);
                    }
                }
            }
        };
        let other = thread::spawn(ask(1));
        ask(0)();
        other.join().unwrap();
        let mut left = [0; ASKING];
        relay.run(|seen| left = *seen);
        // Asked again only now, after all: what was seen before is what the work saw by itself.
        assert_eq!(left, [2, 1], "somebody was forgotten");
    });
}

#[test]
fn work_that_panics_is_told_to_all_who_look_later() {
    loom::model(|| {
        let relay = Arc::new(Relay::<()>::default());
        let other = Arc::clone(&relay);
        let broken = thread::spawn(move || {
            let run = || other.run(|()| std::panic::resume_unwind(Box::new("on purpose")));
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err()
        });
        let is_told_early = relay.is_broken();
        let panicked = broken.join().unwrap();
        assert!(panicked && relay.is_broken(), "told early: {is_told_early}");
    });
}

/// What the engine is made of as far as flushing goes; each unit is one byte of the log.
struct Log {
    progress: Mutex<Progress>,
    waiters: Mutex<Vec<u64>>,
    answering: Relay<()>,
    /// What a flush has brought to the disk.
    on_disk: [AtomicBool; 2],
}

impl Log {
    fn append(&self, end: u64) {
        self.waiters.lock().push(end);
        self.progress.lock().appended(Placed { end, appends: end });
    }

    fn flush(&self) {
        let begun = self.progress.lock().flush_begin(2);
        let Some(flight) = begun else { return };
        for at in flight.from..flight.to {
            self.on_disk[usize::try_from(at).unwrap()].store(true, Ordering::Relaxed);
        }
        let moved = self.progress.lock().flush_end(flight.id, Duration::ZERO, 2);
        if moved {
            self.settle();
        }
    }

    fn settle(&self) {
        self.answering.run(|()| {
            let policy = LocalPolicy { flush: Flush::Sync };
            let due = self.progress.lock().settle(&policy).unwrap();
            self.waiters.lock().retain(|&end| end > due.answered);
            let answered = usize::try_from(due.answered).unwrap();
            for byte in &self.on_disk[..answered] {
                assert!(
                    byte.load(Ordering::Relaxed),
                    "answered before it was flushed"
                );
            }
        });
    }
}

#[test]
fn flushes_that_overlap_answer_everyone_and_nobody_early() {
    loom::model(|| {
        let log = Arc::new(Log {
            progress: Mutex::new(Progress::new(0)),
            waiters: Mutex::new(Vec::new()),
            answering: Relay::default(),
            on_disk: [AtomicBool::new(false), AtomicBool::new(false)],
        });
        log.append(1);
        let lane = Arc::clone(&log);
        let lane = thread::spawn(move || lane.flush());
        log.append(2);
        log.flush();
        lane.join().unwrap();
        let durable = log.progress.lock().local().durable.0;
        let left = log.waiters.lock().clone();
        assert!(
            left.iter().all(|&end| end > durable),
            "forgotten: {left:?} of {durable}"
        );
    });
}

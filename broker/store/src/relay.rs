//! Work that whoever finds it free does for all.
//!
//! Several threads ask for the same work (write what waits, answer who can be answered). One of them does it; the
//! others go on at once, since the one that works looks again before it leaves. Nobody waits and nothing is forgotten:
//! who asks is counted, and the count falls to zero only when no one asked after the last round began.

use crate::sync::{AtomicBool, AtomicUsize, Mutex, Ordering};

/// See the module. `T` is what the work needs and keeps between its rounds.
#[derive(Default)]
pub(crate) struct Relay<T> {
    asked: AtomicUsize,
    /// Contended only by [`Relay::run_after`]: else only who raised `asked` from zero comes here.
    kept: Mutex<T>,
    broken: AtomicBool,
}

/// Tells that the work was left by a panic.
struct Leaving<'a>(&'a AtomicBool);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Release);
        }
    }
}

impl<T> Relay<T> {
    /// Does `work` at least once from now on, on this thread unless another one is at it. May be called from within the
    /// work, which then goes on for another round.
    pub(crate) fn run(&self, mut work: impl FnMut(&mut T)) {
        if self.asked.fetch_add(1, Ordering::AcqRel) > 0 {
            return;
        }
        let _leaving = Leaving(&self.broken);
        let mut answered = 1;
        loop {
            work(&mut self.kept.lock());
            let asked = self.asked.fetch_sub(answered, Ordering::AcqRel);
            if asked == answered {
                return;
            }
            answered = asked - answered;
        }
    }

    /// Does `work` on this thread, when whoever is at it has ended a round. Not to be called from within the work.
    pub(crate) fn run_after(&self, work: impl FnOnce(&mut T)) {
        let _leaving = Leaving(&self.broken);
        work(&mut self.kept.lock());
    }

    /// Whether the work panicked: nobody will ever do it again.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }
}

#[cfg(test)]
#[cfg(not(feature = "loom"))]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn work_that_panicked_is_told() {
        let relay = Relay::<u32>::default();
        relay.run(|_| {});
        assert!(!relay.is_broken());
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            relay.run(|_| std::panic::resume_unwind(Box::new("on purpose")));
        }));
        assert!(panicked.is_err() && relay.is_broken());
    }

    #[test]
    fn who_asks_from_within_gets_another_round_and_not_a_deadlock() {
        let relay = Relay::<u32>::default();
        let mut left = 3;
        relay.run(|rounds| {
            *rounds += 1;
            if left > 0 {
                left -= 1;
                relay.run(|_| unreachable!("another one is at it"));
            }
        });
        assert_eq!(*relay.kept.lock(), 4);
    }

    #[test]
    fn nothing_put_before_asking_is_left_when_all_have_asked() {
        let relay = Relay::<u64>::default();
        let waiting = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        waiting.fetch_add(1, Ordering::Relaxed);
                        relay.run(|done| *done += waiting.swap(0, Ordering::Relaxed));
                    }
                });
            }
        });
        assert_eq!(waiting.load(Ordering::Relaxed), 0);
        assert_eq!(*relay.kept.lock(), 80_000);
    }
}

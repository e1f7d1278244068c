//! Who waits for an answer, in log order. Pure: no I/O, no clock.
//!
//! An append enters together with its record and leaves once: with `Ok` when the end it waits for is reached, or with
//! "unknown" when that takes too long, fails, or the store stops. Nobody enters after the store was closed or failed.
//! Each waits on the terms on which it was taken, beside the others who were taken on the same.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::api::{Appended, Completion, Promise, PutOutcome, PutStatus, Terms};

/// Someone who waits for the promise to be kept.
pub(crate) struct Waiter<C> {
    /// Its answer is due when this end is reached.
    pub(crate) end: u64,
    /// After this time, by [`crate::Clock::elapsed`], it is told "unknown".
    pub(crate) deadline: Duration,
    /// Gets the outcome.
    pub(crate) completion: C,
    /// Where its messages lie.
    pub(crate) appended: Appended,
}

impl<C: Completion> Waiter<C> {
    /// Answers; to be called outside of all locks.
    pub(crate) fn answer(self, status: PutStatus) {
        self.completion.complete(PutOutcome {
            status,
            appended: Some(self.appended),
        });
    }

    /// Answers that the outcome is unknown, where all before `durable` was flushed.
    pub(crate) fn answer_unknown(self, durable: u64) {
        let status = if self.end <= durable {
            PutStatus::FlushSlaveTimeout
        } else {
            PutStatus::FlushDiskTimeout
        };
        self.answer(status);
    }
}

/// Why nobody may enter any more.
#[derive(Debug, Clone)]
pub(crate) enum Closed {
    /// The store is being closed.
    Stopping,
    /// A write or flush failed.
    Failed(Arc<str>),
}

/// See the module.
pub(crate) struct Waiters<C> {
    /// They wait for what the modes promised when they came, by [`Terms::ALL`].
    kept: [VecDeque<Waiter<C>>; Terms::ALL.len()],
    /// They only wait for the write.
    written: VecDeque<Waiter<C>>,
    closed: Option<Closed>,
}

impl<C> Waiters<C> {
    pub(crate) fn new() -> Self {
        Self {
            kept: std::array::from_fn(|_| VecDeque::new()),
            written: VecDeque::new(),
            closed: None,
        }
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        let kept: usize = self.kept.iter().map(VecDeque::len).sum();
        kept + self.written.len()
    }

    pub(crate) fn closed(&self) -> Option<&Closed> {
        self.closed.as_ref()
    }

    /// Nobody enters from now on. A failure is never forgotten for an orderly stop.
    pub(crate) fn close(&mut self, why: Closed) {
        if !matches!(self.closed, Some(Closed::Failed(_))) {
            self.closed = Some(why);
        }
    }

    /// Enters; the ends of those who enter never fall.
    #[expect(
        clippy::indexing_slicing,
        reason = "each of the terms has its place among all of them"
    )]
    pub(crate) fn push(&mut self, promise: Promise, terms: Terms, waiter: Waiter<C>) {
        match promise {
            Promise::Kept => self.kept[terms as usize].push_back(waiter),
            Promise::AppendOnly => self.written.push_back(waiter),
        }
    }

    /// Moves at most `max` of those to `out` whose time has come: all is written to `appended`, and answered on each of
    /// [`Terms::ALL`] to `answered`.
    pub(crate) fn take_due(
        &mut self,
        appended: u64,
        answered: &[u64; Terms::ALL.len()],
        max: usize,
        out: &mut Vec<Waiter<C>>,
    ) {
        let kept = self.kept.iter_mut().zip(answered);
        let all = std::iter::once((&mut self.written, &appended)).chain(kept);
        for (queue, &end) in all {
            while out.len() < max
                && let Some(waiter) = queue.pop_front_if(|waiter| waiter.end <= end)
            {
                out.push(waiter);
            }
        }
    }

    /// Takes out those whose deadline is before `now`.
    pub(crate) fn take_expired(&mut self, now: Duration) -> Vec<Waiter<C>> {
        let mut out = Vec::new();
        for queue in std::iter::once(&mut self.written).chain(&mut self.kept) {
            while let Some(waiter) = queue.pop_front_if(|waiter| waiter.deadline < now) {
                out.push(waiter);
            }
        }
        out
    }

    /// Takes out everyone.
    pub(crate) fn take_all(&mut self) -> Vec<Waiter<C>> {
        let all = std::iter::once(&mut self.written).chain(&mut self.kept);
        all.flat_map(|queue| queue.drain(..)).collect()
    }
}

#[cfg(test)]
mod tests {
    use rocket_protocol::{PhysicalOffset, QueueOffset, UnixMillis};

    use super::*;

    fn waiter(end: u64) -> Waiter<u64> {
        Waiter {
            end,
            deadline: Duration::from_millis(100),
            completion: end,
            appended: Appended {
                physical_offset: PhysicalOffset(end - 1),
                queue_offset: QueueOffset(0),
                len: 1,
                store_timestamp: UnixMillis(0),
                count: 1,
                physical_offsets: Vec::new(),
            },
        }
    }

    fn waiters(ends: &[u64]) -> Waiters<u64> {
        let mut waiters = Waiters::new();
        for &end in ends {
            waiters.push(Promise::Kept, Terms::Standing, waiter(end));
        }
        waiters
    }

    fn ends(waiters: &[Waiter<u64>]) -> Vec<u64> {
        waiters.iter().map(|waiter| waiter.completion).collect()
    }

    #[test]
    fn who_waits_leaves_in_log_order_when_its_end_is_reached_and_no_more_at_once_than_asked() {
        let mut waiters = waiters(&[10, 20, 30]);
        let mut due = Vec::new();
        waiters.take_due(30, &[9; 5], 9, &mut due);
        assert!(due.is_empty());
        waiters.take_due(30, &[25; 5], 1, &mut due);
        assert_eq!(ends(&due), [10]);
        waiters.take_due(30, &[25; 5], 9, &mut due);
        assert_eq!((ends(&due), waiters.len()), (vec![10, 20], 1));
    }

    #[test]
    fn who_waits_only_for_the_write_does_not_wait_behind_those_who_wait_for_the_flush() {
        let mut waiters = waiters(&[10]);
        waiters.push(Promise::AppendOnly, Terms::Standing, waiter(20));
        let mut due = Vec::new();
        waiters.take_due(20, &[0; 5], 9, &mut due);
        assert_eq!(ends(&due), [20]);
    }

    #[test]
    fn who_was_promised_more_does_not_hold_up_those_who_were_promised_less() {
        let mut waiters = waiters(&[]);
        waiters.push(Promise::Kept, Terms::CommittedDurable, waiter(10));
        waiters.push(Promise::Kept, Terms::Appended, waiter(20));
        let mut due = Vec::new();
        waiters.take_due(20, &[0, 20, 0, 0, 9], 9, &mut due);
        assert_eq!((ends(&due), waiters.len()), (vec![20], 1));
        waiters.take_due(20, &[0, 20, 0, 0, 10], 9, &mut due);
        assert_eq!(ends(&due), [20, 10]);
    }

    #[test]
    fn who_waits_too_long_leaves_after_its_deadline() {
        let mut waiters = waiters(&[10]);
        assert!(waiters.take_expired(Duration::from_millis(100)).is_empty());
        assert_eq!(
            ends(&waiters.take_expired(Duration::from_millis(101))),
            [10]
        );
    }

    #[test]
    fn a_stop_does_not_hide_a_failure() {
        let mut waiters = waiters(&[]);
        waiters.close(Closed::Stopping);
        waiters.close(Closed::Failed("EIO".into()));
        waiters.close(Closed::Stopping);
        assert!(matches!(waiters.closed(), Some(Closed::Failed(_))));
    }
}

//! How far the log is appended, flushed, committed and visible, and who waits for that. Pure: no I/O, no clock; threads
//! or a simulation drive it.
//!
//! Group commit is here: a flush takes everything appended when it begins and nothing waits for a batch to fill.
//! Flushes overlap; `durable` is the contiguous prefix of those that succeeded, since a later success says nothing
//! about the bytes of an earlier flush that has not reported yet. A failed flush is final.

use std::collections::VecDeque;
use std::sync::Arc;

use rocket_protocol::{PhysicalOffset, UnixMillis};

use crate::api::{Appended, CommitPolicy, Ends, LocalEnds, PutOutcome, PutStatus};

/// Someone who waits for the promise to be kept.
pub(crate) struct Waiter<C> {
    /// Its answer is due when this end is answered.
    pub(crate) end: u64,
    /// After this time it is told "unknown".
    pub(crate) deadline: UnixMillis,
    /// Gets the outcome.
    pub(crate) completion: C,
    /// Where its messages lie.
    pub(crate) appended: Appended,
}

impl<C> Waiter<C> {
    fn answer(self, status: PutStatus) -> Answer<C> {
        (
            self.completion,
            PutOutcome {
                status,
                appended: Some(self.appended),
            },
        )
    }
}

/// A completion and its outcome, to be called outside of all locks.
pub(crate) type Answer<C> = (C, PutOutcome);

/// A flush in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flight {
    /// Names it.
    pub(crate) id: u64,
    /// It covers from here,
    pub(crate) from: u64,
    /// to here.
    pub(crate) to: u64,
    done: bool,
}

/// See the module.
pub(crate) struct Progress<C> {
    appended: u64,
    durable: u64,
    ends: Ends,
    flights: VecDeque<Flight>,
    flight_next: u64,
    waiters: VecDeque<Waiter<C>>,
    failed: Option<Arc<str>>,
}

impl<C> Progress<C> {
    /// Everything below `end` is appended and flushed, and was committed at least to `committed`.
    pub(crate) fn new(end: u64) -> Self {
        Self {
            appended: end,
            durable: end,
            ends: Ends::default(),
            flights: VecDeque::new(),
            flight_next: 0,
            waiters: VecDeque::new(),
            failed: None,
        }
    }

    pub(crate) fn local(&self) -> LocalEnds {
        LocalEnds {
            appended: PhysicalOffset(self.appended),
            durable: PhysicalOffset(self.durable),
        }
    }

    pub(crate) fn ends(&self) -> Ends {
        self.ends
    }

    pub(crate) fn failed(&self) -> Option<&Arc<str>> {
        self.failed.as_ref()
    }

    /// The log was written to `end`; these wait for it, in log order. When the store failed meanwhile they come back.
    pub(crate) fn appended(
        &mut self,
        end: u64,
        waiters: impl IntoIterator<Item = Waiter<C>>,
    ) -> Vec<Answer<C>> {
        assert!(
            end >= self.appended,
            "the log never shrinks while it is open"
        );
        if self.failed.is_some() {
            return waiters
                .into_iter()
                .map(|waiter| waiter.answer(PutStatus::FlushDiskTimeout))
                .collect();
        }
        self.appended = end;
        self.waiters.extend(waiters);
        Vec::new()
    }

    /// Begins a flush of all that is appended and not covered by one in flight; `None` when there is nothing, when
    /// `flights_max` are in flight, or after a failure.
    pub(crate) fn flush_begin(&mut self, flights_max: usize) -> Option<Flight> {
        let from = self.flights.back().map_or(self.durable, |flight| flight.to);
        if self.failed.is_some() || self.flights.len() >= flights_max || from >= self.appended {
            return None;
        }
        let flight = Flight {
            id: self.flight_next,
            from,
            to: self.appended,
            done: false,
        };
        self.flight_next += 1;
        self.flights.push_back(flight);
        Some(flight)
    }

    /// A flush succeeded. Returns whether `durable` moved.
    pub(crate) fn flush_end(&mut self, id: u64) -> bool {
        if self.failed.is_some() {
            return false;
        }
        if let Some(flight) = self.flights.iter_mut().find(|flight| flight.id == id) {
            flight.done = true;
        }
        let before = self.durable;
        while let Some(first) = self.flights.front()
            && first.done
        {
            self.durable = first.to;
            self.flights.pop_front();
        }
        assert!(
            self.durable <= self.appended,
            "flushed more than was appended"
        );
        self.durable > before
    }

    /// Asks the policy and takes out everyone whose promise is kept.
    pub(crate) fn settle(&mut self, policy: &dyn CommitPolicy) -> Vec<Answer<C>> {
        if self.failed.is_some() {
            return Vec::new();
        }
        let ends = policy.ends(self.local());
        assert!(
            ends.committed >= self.ends.committed,
            "the committed end fell"
        );
        assert!(
            ends.committed.0.max(ends.answered.0).max(ends.visible.0) <= self.appended,
            "ends beyond the log"
        );
        self.ends = Ends {
            visible: ends.visible.max(self.ends.visible),
            ..ends
        };
        let mut answers = Vec::new();
        while let Some(waiter) = self
            .waiters
            .pop_front_if(|waiter| waiter.end <= ends.answered.0)
        {
            answers.push(waiter.answer(PutStatus::Ok));
        }
        answers
    }

    /// Takes out everyone whose time is over: their outcome is unknown.
    pub(crate) fn expire(&mut self, now: UnixMillis) -> Vec<Answer<C>> {
        let durable = self.durable;
        let mut answers = Vec::new();
        while let Some(waiter) = self.waiters.pop_front_if(|waiter| waiter.deadline < now) {
            let flushed = waiter.end <= durable;
            answers.push(waiter.answer(if flushed {
                PutStatus::FlushSlaveTimeout
            } else {
                PutStatus::FlushDiskTimeout
            }));
        }
        answers
    }

    /// A write or flush failed: final. Everyone who waits is told "unknown".
    pub(crate) fn fail(&mut self, reason: Arc<str>) -> Vec<Answer<C>> {
        self.failed.get_or_insert(reason);
        self.waiters
            .drain(..)
            .map(|waiter| waiter.answer(PutStatus::FlushDiskTimeout))
            .collect()
    }

    /// The store stops: everyone who still waits is told "unknown".
    pub(crate) fn abandon(&mut self) -> Vec<Answer<C>> {
        self.expire(UnixMillis(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::LocalPolicy;
    use crate::config::Flush;

    const SYNC: LocalPolicy = LocalPolicy { flush: Flush::Sync };

    fn waiter(end: u64) -> Waiter<u64> {
        let appended = Appended {
            physical_offset: PhysicalOffset(end - 1),
            queue_offset: rocket_protocol::QueueOffset(0),
            len: 1,
            store_timestamp: UnixMillis(0),
            count: 1,
            physical_offsets: Vec::new(),
        };
        Waiter {
            end,
            deadline: UnixMillis(100),
            completion: end,
            appended,
        }
    }

    fn ends<C: Copy>(answers: &[Answer<C>]) -> Vec<(C, PutStatus)> {
        answers
            .iter()
            .map(|(completion, outcome)| (*completion, outcome.status.clone()))
            .collect()
    }

    #[test]
    fn a_later_flush_does_not_make_an_earlier_one_durable() {
        let mut progress = Progress::new(0);
        progress.appended(10, [waiter(10)]);
        let first = progress.flush_begin(2).unwrap();
        progress.appended(20, [waiter(20)]);
        let second = progress.flush_begin(2).unwrap();
        assert_eq!((second.from, second.to), (10, 20));
        assert_eq!(progress.flush_begin(2), None, "two are in flight");
        assert!(!progress.flush_end(second.id));
        assert!(progress.settle(&SYNC).is_empty());
        assert!(progress.flush_end(first.id));
        assert_eq!(
            ends(&progress.settle(&SYNC)),
            [(10, PutStatus::Ok), (20, PutStatus::Ok)]
        );
    }

    #[test]
    fn nothing_is_acknowledged_after_a_failed_flush() {
        let mut progress = Progress::new(0);
        progress.appended(10, [waiter(10)]);
        let first = progress.flush_begin(2).unwrap();
        progress.appended(20, [waiter(20)]);
        let second = progress.flush_begin(2).unwrap();
        let told = progress.fail("EIO".into());
        assert_eq!(
            ends(&told),
            [
                (10, PutStatus::FlushDiskTimeout),
                (20, PutStatus::FlushDiskTimeout)
            ]
        );
        assert!(!progress.flush_end(first.id) && !progress.flush_end(second.id));
        assert!(progress.settle(&SYNC).is_empty());
        assert_eq!(
            progress.flush_begin(2),
            None,
            "a failed flush is not tried again"
        );
        assert_eq!(
            ends(&progress.appended(30, [waiter(30)])),
            [(30, PutStatus::FlushDiskTimeout)]
        );
        assert_eq!(progress.ends().visible, PhysicalOffset(0));
    }

    #[test]
    fn who_waits_too_long_is_told_that_the_outcome_is_unknown() {
        let mut progress = Progress::new(0);
        progress.appended(10, [waiter(10)]);
        assert!(progress.expire(UnixMillis(100)).is_empty());
        assert_eq!(
            ends(&progress.expire(UnixMillis(101))),
            [(10, PutStatus::FlushDiskTimeout)]
        );
        progress.appended(20, [waiter(20)]);
        let flight = progress.flush_begin(1).unwrap();
        progress.flush_end(flight.id);
        assert_eq!(
            ends(&progress.expire(UnixMillis(101))),
            [(20, PutStatus::FlushSlaveTimeout)]
        );
    }
}

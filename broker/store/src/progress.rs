//! How far the log is appended, flushed, committed and visible. Pure: no I/O, no clock; threads or a simulation drive it.
//!
//! Group commit is here: a flush takes everything appended when it begins. Nothing waits for a batch to fill but those who
//! come back after one flush for the rest of them ([`crate::cohort`]).
//! Flushes overlap; `durable` is the contiguous prefix of those that succeeded, since a later success says nothing
//! about the bytes of an earlier flush that has not reported yet. A failed flush is final.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rocket_protocol::PhysicalOffset;

use crate::api::{CommitPolicy, Ends, LocalEnds, Terms};
use crate::cohort::{Cohort, Expected};

/// See [`Progress::is_flush_due`].
const QUICK: Duration = Duration::from_micros(400);

/// How much was placed in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Placed {
    /// It ends here.
    pub(crate) end: u64,
    /// Appends since the store was opened.
    pub(crate) appends: u64,
}

/// A flush in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flight {
    /// Names it.
    pub(crate) id: u64,
    /// It covers from here,
    pub(crate) from: u64,
    /// to here.
    pub(crate) to: u64,
    appends: u64,
    done: bool,
}

/// Whose answers are due: `Ok` for those who wait for an end at or below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due {
    /// Everything to here is written.
    pub(crate) appended: u64,
    /// To here the promise of the present modes is kept.
    pub(crate) answered: u64,
    /// And to here what was promised besides to those who were taken on each of [`Terms::ALL`].
    pub(crate) on: [u64; Terms::ALL.len()],
}

/// See the module.
pub(crate) struct Progress {
    appended: u64,
    /// Appends to there.
    appends: u64,
    /// Those of them that a flush began to cover.
    appends_begun: u64,
    cohort: Cohort,
    durable: u64,
    ends: Ends,
    flights: VecDeque<Flight>,
    flight_next: u64,
    /// What a flush takes, of late.
    flush_time: Duration,
    failed: Option<Arc<str>>,
}

impl Progress {
    /// Everything below `end` is appended and flushed.
    pub(crate) fn new(end: u64) -> Self {
        Self {
            appended: end,
            appends: 0,
            appends_begun: 0,
            cohort: Cohort::default(),
            durable: end,
            ends: Ends::default(),
            flights: VecDeque::new(),
            flight_next: 0,
            flush_time: Duration::ZERO,
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

    /// The log was written to there. Counts for nothing after a failure.
    pub(crate) fn appended(&mut self, placed: Placed) {
        assert!(
            placed.end >= self.appended,
            "the log never shrinks while it is open"
        );
        if self.failed.is_none() {
            self.appended = placed.end;
            self.appends = placed.appends;
        }
    }

    /// The log ends at `to` now: nothing behind it was visible, nobody waits for it, and what is written there next is
    /// flushed anew. Flushes in flight say nothing any more.
    pub(crate) fn cut(&mut self, to: u64) {
        let shown = self.ends.visible.max(self.ends.committed);
        assert!(to >= shown.0, "what was visible is cut");
        self.appended = self.appended.min(to);
        self.durable = self.durable.min(to);
        self.ends.answered = self.ends.answered.min(PhysicalOffset(to));
        self.flights.clear();
    }

    /// The log is empty and begins at `at`.
    pub(crate) fn begin_at(&mut self, at: u64) {
        self.cut(self.appended);
        (self.appended, self.durable) = (at, at);
    }

    /// Whether a flush should begin, with everything placed up to `placed` about to be written for it.
    ///
    /// With nothing in the air as soon as the cohort is complete: one request in flight waits for nobody. Beside another
    /// flush only where flushes are not [`QUICK`] and it would carry as much as that one does. A flush costs the processor as
    /// much as the messages of a connection or two, so the few that come just after one began, and all where it is over in no
    /// time, are better served by the next full one; where a flush takes long, several that overlap shorten the wait.
    pub(crate) fn is_flush_due(&self, placed: Placed, flights_max: usize) -> bool {
        let begun = self.flights.back().map_or(self.durable, |flight| flight.to);
        let waiting = placed.end.saturating_sub(begun);
        if self.failed.is_some() || waiting == 0 || self.flights.len() >= flights_max {
            return false;
        }
        let appends = placed.appends.saturating_sub(self.appends_begun);
        let in_the_air = self.flights.iter().rfind(|flight| !flight.done);
        match in_the_air {
            Some(last) => self.flush_time > QUICK && waiting >= last.to - last.from,
            None => self.cohort.is_complete(appends),
        }
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
            appends: self.appends - self.appends_begun,
            done: false,
        };
        self.appends_begun = self.appends;
        self.cohort.begun();
        self.flight_next += 1;
        self.flights.push_back(flight);
        Some(flight)
    }

    /// Whether the flush has not ended, and no cut made it void.
    pub(crate) fn is_in_flight(&self, id: u64) -> bool {
        self.flights
            .iter()
            .any(|flight| flight.id == id && !flight.done)
    }

    /// A flush succeeded, after so long, when so many appends were placed. Returns whether `durable` moved.
    pub(crate) fn flush_end(&mut self, id: u64, took: Duration, appends: u64) -> bool {
        if self.failed.is_some() {
            return false;
        }
        self.flush_time = (self.flush_time * 7 + took) / 8;
        if let Some(flight) = self.flights.iter_mut().find(|flight| flight.id == id) {
            flight.done = true;
        }
        let before = self.durable;
        while let Some(first) = self.flights.front()
            && first.done
        {
            self.durable = first.to;
            // Who counted them looked before this, and another lane may have begun a flush of more since.
            let waiting = appends.saturating_sub(self.appends_begun);
            self.cohort
                .answered(first.id, first.appends, waiting, self.flush_time);
            self.flights.pop_front();
        }
        assert!(
            self.durable <= self.appended,
            "flushed more than was appended"
        );
        self.durable > before
    }

    /// Whom the next flush waits for.
    pub(crate) fn expected(&self) -> Option<Expected> {
        self.cohort.expected()
    }

    /// They were waited for long enough.
    pub(crate) fn give_up(&mut self, on: Expected) {
        self.cohort.give_up(on);
    }

    /// Asks the policy how far the log counts; `None` after a failure.
    pub(crate) fn settle(&mut self, policy: &dyn CommitPolicy) -> Option<Due> {
        if self.failed.is_some() {
            return None;
        }
        let local = self.local();
        let ends = policy.ends(local);
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
        // Modes that became stronger bind those too who were taken on weaker terms.
        let on = Terms::ALL.map(|terms| {
            let theirs = policy.answered_on(terms, local, ends);
            theirs.min(ends.answered).0
        });
        Some(Due {
            appended: self.appended,
            answered: ends.answered.0,
            on,
        })
    }

    /// A write or flush failed: final. Whether it is the first failure.
    pub(crate) fn fail(&mut self, reason: Arc<str>) -> bool {
        let is_first = self.failed.is_none();
        self.failed.get_or_insert(reason);
        is_first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::LocalPolicy;
    use crate::config::Flush;

    const SLOW: Duration = Duration::from_secs(1);
    const SYNC: LocalPolicy = LocalPolicy { flush: Flush::Sync };

    /// Of no append that counts.
    const fn placed(end: u64) -> Placed {
        Placed { end, appends: 0 }
    }

    fn answered(progress: &mut Progress) -> Option<u64> {
        progress.settle(&SYNC).map(|due| due.answered)
    }

    #[test]
    fn a_later_flush_does_not_make_an_earlier_one_durable() {
        let mut progress = Progress::new(0);
        progress.appended(placed(10));
        let first = progress.flush_begin(2).unwrap();
        progress.appended(placed(20));
        let second = progress.flush_begin(2).unwrap();
        assert_eq!((second.from, second.to), (10, 20));
        assert_eq!(progress.flush_begin(2), None, "two are in flight");
        assert!(!progress.flush_end(second.id, SLOW, 0));
        assert_eq!(answered(&mut progress), Some(0));
        assert!(progress.flush_end(first.id, SLOW, 0));
        assert_eq!(answered(&mut progress), Some(20));
    }

    #[test]
    fn a_flush_ends_with_a_count_that_is_older_than_the_next_one_s_begin() {
        let mut progress = Progress::new(0);
        let appended = |end: u64| Placed { end, appends: end };
        progress.appended(appended(10));
        let first = progress.flush_begin(2).unwrap();
        progress.appended(appended(20));
        progress.flush_begin(2).unwrap();
        assert!(progress.flush_end(first.id, SLOW, 15));
        assert_eq!(answered(&mut progress), Some(10));
    }

    #[test]
    fn the_first_flush_begins_at_once_and_a_second_beside_a_slow_one_when_it_carries_as_much() {
        let mut progress = Progress::new(0);
        assert!(!progress.is_flush_due(placed(0), 3) && progress.is_flush_due(placed(1), 1));
        progress.appended(placed(100));
        let first = progress.flush_begin(3).unwrap();
        assert!(!progress.is_flush_due(placed(500), 3), "flushes are quick");
        progress.flush_time = SLOW;
        assert!(!progress.is_flush_due(placed(199), 3) && progress.is_flush_due(placed(200), 3));
        assert!(!progress.is_flush_due(placed(200), 1));
        progress.appended(placed(300));
        let second = progress.flush_begin(3).unwrap();
        progress.flush_end(second.id, SLOW, 0);
        assert!(
            !progress.is_flush_due(placed(301), 3),
            "the first one is in the air"
        );
        progress.flush_end(first.id, SLOW, 0);
        assert!(
            progress.is_flush_due(placed(301), 3),
            "nothing is in the air"
        );
        progress.fail("EIO".into());
        assert!(!progress.is_flush_due(placed(500), 3));
    }

    #[test]
    fn a_flush_from_before_a_cut_says_nothing_of_what_was_written_since() {
        let mut progress = Progress::new(0);
        progress.appended(placed(10));
        let begun = progress.flush_begin(2).unwrap();
        progress.cut(4);
        progress.appended(placed(12));
        assert!(!progress.flush_end(begun.id, SLOW, 0));
        assert_eq!(answered(&mut progress), Some(0));
        let again = progress.flush_begin(2).unwrap();
        assert_eq!((again.from, again.to), (0, 12));
        assert!(progress.flush_end(again.id, SLOW, 0));
        assert_eq!(answered(&mut progress), Some(12));
        progress.cut(12);
        assert_eq!(progress.local().durable, PhysicalOffset(12));
    }

    #[test]
    #[should_panic(expected = "visible is cut")]
    fn what_was_visible_is_never_cut() {
        let mut progress = Progress::new(10);
        progress.settle(&SYNC);
        progress.cut(9);
    }

    #[test]
    fn nothing_counts_after_a_failed_flush() {
        let mut progress = Progress::new(0);
        progress.appended(placed(10));
        let first = progress.flush_begin(2).unwrap();
        progress.appended(placed(20));
        let second = progress.flush_begin(2).unwrap();
        assert!(progress.fail("EIO".into()));
        assert!(!progress.fail("later".into()));
        assert!(!progress.flush_end(first.id, SLOW, 0) && !progress.flush_end(second.id, SLOW, 0));
        assert_eq!(progress.settle(&SYNC), None);
        assert_eq!(
            progress.flush_begin(2),
            None,
            "a failed flush is not tried again"
        );
        progress.appended(placed(30));
        assert_eq!(progress.local().appended, PhysicalOffset(20));
        assert_eq!(progress.ends().visible, PhysicalOffset(0));
    }
}

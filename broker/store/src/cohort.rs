//! Senders that were answered together and come back together. Pure: no clock.
//!
//! A flush answers several senders at once. In a closed loop all of them send again soon, and a flush that begins with the first
//! of them leaves the others to the next one: twice the flushes, and each writes its last page again. So the next flush waits
//! for as many as were answered **when almost nobody else is there**: a single sender is its own cohort and waits for nobody.
//!
//! It waits no longer than a flush takes. Senders that need more than that to come back are better served by flushes that
//! overlap with their coming; these fall apart into two cohorts that take turns by themselves. Where others came while a flush
//! was in the air the next one begins at once, and senders that do not depend on answers never wait; now and then it waits all
//! the same, to find out whether the two are halves of one cohort.

use std::time::Duration;

/// The longest that is waited, where flushes take longer.
const PATIENCE_MAX: Duration = Duration::from_millis(1);
/// Flushes with company between two that wait all the same.
const PROBE_EVERY: u32 = 64;

/// Names what is expected, for whoever waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expected {
    flight: u64,
    appends: u64,
    /// How long to wait for them.
    pub(crate) patience: Duration,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Cohort {
    expected: Option<Expected>,
    with_company: u32,
}

impl Cohort {
    /// A flush ended that carried `answered` appends; `waiting` came while it was in the air. `flush_time`: what one takes of late.
    pub(crate) fn answered(
        &mut self,
        flight: u64,
        answered: u64,
        waiting: u64,
        flush_time: Duration,
    ) {
        let is_alone = waiting <= answered / 4;
        self.with_company = if is_alone { 0 } else { self.with_company + 1 };
        let is_probe = self.with_company.is_multiple_of(PROBE_EVERY);
        self.expected = (is_alone || is_probe).then_some(Expected {
            flight,
            appends: answered + waiting,
            patience: flush_time.min(PATIENCE_MAX),
        });
    }

    /// Whom the next flush waits for.
    pub(crate) fn expected(&self) -> Option<Expected> {
        self.expected
    }

    /// Whether `waiting` appends are enough to begin.
    pub(crate) fn is_complete(&self, waiting: u64) -> bool {
        self.expected
            .is_none_or(|expected| waiting >= expected.appends)
    }

    /// Patience is over, unless others are expected by now.
    pub(crate) fn give_up(&mut self, on: Expected) {
        if self.expected == Some(on) {
            self.expected = None;
        }
    }

    /// The next flush began.
    pub(crate) fn begun(&mut self) {
        self.expected = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLUSH: Duration = Duration::from_micros(100);

    #[test]
    fn those_who_were_answered_are_waited_for_until_all_are_there_or_patience_is_over() {
        let mut cohort = Cohort::default();
        assert!(cohort.is_complete(1), "nobody is expected at the beginning");
        cohort.answered(1, 64, 3, FLUSH);
        assert!(!cohort.is_complete(66) && cohort.is_complete(67));
        let expected = cohort.expected().unwrap();
        assert_eq!(expected.patience, FLUSH);
        cohort.answered(2, 64, 0, FLUSH);
        cohort.give_up(expected);
        assert!(!cohort.is_complete(63), "others are expected by now");
        cohort.give_up(cohort.expected().unwrap());
        assert!(cohort.is_complete(1));
    }

    #[test]
    fn a_single_sender_waits_for_nobody() {
        let mut cohort = Cohort::default();
        cohort.answered(1, 1, 0, FLUSH);
        assert!(cohort.is_complete(1));
    }

    #[test]
    fn those_who_come_while_a_flush_is_in_the_air_do_not_wait_but_for_a_probe() {
        let mut cohort = Cohort::default();
        let waits = (1..=2 * PROBE_EVERY)
            .filter(|&flight| {
                cohort.answered(flight.into(), 4, 4, FLUSH);
                !cohort.is_complete(4)
            })
            .collect::<Vec<_>>();
        assert_eq!(waits, [PROBE_EVERY, 2 * PROBE_EVERY]);
    }
}

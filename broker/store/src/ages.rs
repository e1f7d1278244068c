//! By what time messages are old enough to go. Pure: both clocks are arguments.
//!
//! A message's age is told by the wall clock, which someone may set: a jump of a week forward would make everything older
//! than it may become, at once. So the wall clock is watched against one that cannot be set. While the two disagree nothing
//! goes by age; the limits by size hold all the while. After as long as messages are kept anyway, everything that was there
//! when they parted has been there so long by either clock, and the wall clock is believed again.

use std::time::Duration;

use rocket_protocol::UnixMillis;

/// As far as the two may part between two looks, which are seconds apart.
const JUMP_MS: u64 = 3_600_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Ages {
    /// When the two last agreed, by each.
    agreed: (UnixMillis, Duration),
    /// When they were first seen to disagree.
    parted: Option<Duration>,
}

impl Ages {
    /// They agree at the start.
    pub(crate) fn new(wall: UnixMillis, elapsed: Duration) -> Self {
        Self {
            agreed: (wall, elapsed),
            parted: None,
        }
    }

    /// The time to tell ages by; `None` while the clocks disagree and messages are not `kept` long enough since.
    pub(crate) fn now(
        &mut self,
        wall: UnixMillis,
        elapsed: Duration,
        kept: Duration,
    ) -> Option<UnixMillis> {
        let (wall_then, elapsed_then) = self.agreed;
        let passed = elapsed.saturating_sub(elapsed_then).as_millis();
        let passed = i64::try_from(passed).unwrap_or(i64::MAX);
        let jump = wall.since(wall_then).saturating_sub(passed);
        if jump.unsigned_abs() > JUMP_MS {
            let parted = *self.parted.get_or_insert_with(|| {
                tracing::error!(
                    seconds = jump / 1000,
                    "the clock was set; nothing is removed by its age until it is back, or as long as messages are kept"
                );
                elapsed
            });
            if elapsed.saturating_sub(parted) < kept {
                return None;
            }
        }
        if self.parted.take().is_some() {
            tracing::warn!("messages are removed by their age again");
        }
        self.agreed = (wall, elapsed);
        Some(wall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: Duration = Duration::from_hours(72);

    fn at(hours: u64) -> Duration {
        Duration::from_hours(hours)
    }

    fn wall(hours: i64) -> UnixMillis {
        UnixMillis(hours * 3_600_000)
    }

    #[test]
    fn a_clock_that_is_set_makes_nothing_old_until_it_is_set_back() {
        for jump in [200, -200] {
            let mut ages = Ages::new(wall(1000), at(5));
            assert_eq!(ages.now(wall(1001), at(6), KEPT), Some(wall(1001)));
            assert_eq!(ages.now(wall(1002 + jump), at(7), KEPT), None);
            assert_eq!(ages.now(wall(1051 + jump), at(56), KEPT), None);
            assert_eq!(ages.now(wall(1052), at(57), KEPT), Some(wall(1052)));
        }
    }

    #[test]
    fn a_clock_that_stays_set_is_believed_when_everything_is_as_old_by_the_other_one() {
        let mut ages = Ages::new(wall(1000), at(5));
        assert_eq!(ages.now(wall(1200), at(5), KEPT), None);
        assert_eq!(ages.now(wall(1271), at(76), KEPT), None);
        assert_eq!(ages.now(wall(1272), at(77), KEPT), Some(wall(1272)));
        assert_eq!(ages.now(wall(1273), at(78), KEPT), Some(wall(1273)));
    }

    #[test]
    fn small_corrections_do_not_add_up() {
        let mut ages = Ages::new(wall(0), at(0));
        for hour in 1..100 {
            let slow = UnixMillis(wall(hour).0 * 2 / 3);
            let elapsed = at(u64::try_from(hour).unwrap());
            assert_eq!(ages.now(slow, elapsed, KEPT), Some(slow));
        }
    }
}

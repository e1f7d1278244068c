//! When the actor does something although nothing happened. No safety hangs on any of it (P5): every one of these moments is
//! an input that the state machine takes at any time.

use rocket_replication::timers::Limits;

/// The intervals of §15, in milliseconds of the caller's monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// A sign of life on every link, and a look at who keeps up. Default 200 ms.
    pub beat_interval_ms: u64,
    /// When members are asked out of S.
    pub limits: Limits,
    /// Pause before what failed is tried again. Doubled while that means asking the coordinator, up to the next. Default 20 ms: a new
    /// master opens when its slaves have found it, and they look for it before it takes them. While nothing has failed it is looked
    /// after at each sign of life.
    pub retry_min_ms: u64,
    /// Longest such pause. Default 2 s.
    pub retry_max_ms: u64,
    /// How long a planned handover may stop writes (§8.12). Default 2 s.
    pub handover_wait_ms: u64,
    /// Between two steps of repairing a damaged log (§8.15), each of which fetches at most 256 KiB. Default 50 ms.
    pub repair_interval_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            beat_interval_ms: 200,
            limits: Limits::default(),
            retry_min_ms: 20,
            retry_max_ms: 2_000,
            handover_wait_ms: 2_000,
            repair_interval_ms: 50,
        }
    }
}

/// What is due at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    Beat,
    Retry,
    HandoverWaited,
    Repair,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Timers {
    timing: Timing,
    beat_at: u64,
    retry_at: u64,
    retry_pause: u64,
    handover_at: Option<u64>,
    repair_at: Option<u64>,
}

impl Timers {
    pub(crate) fn new(timing: Timing, now_ms: u64) -> Self {
        Self {
            timing,
            beat_at: now_ms + timing.beat_interval_ms,
            retry_at: now_ms + timing.retry_min_ms,
            retry_pause: timing.retry_min_ms,
            handover_at: None,
            repair_at: None,
        }
    }

    /// The next thing that is due, if any is; to be called until there is none.
    pub(crate) fn due(&mut self, now_ms: u64) -> Option<Due> {
        if now_ms >= self.beat_at {
            self.beat_at = now_ms + self.timing.beat_interval_ms;
            return Some(Due::Beat);
        }
        if now_ms >= self.retry_at {
            self.retry_at = now_ms + self.retry_pause;
            return Some(Due::Retry);
        }
        if self.handover_at.is_some_and(|at| now_ms >= at) {
            self.handover_at = Some(now_ms + self.timing.handover_wait_ms);
            return Some(Due::HandoverWaited);
        }
        if self.repair_at.is_some_and(|at| now_ms >= at) {
            self.repair_at = Some(now_ms + self.timing.repair_interval_ms);
            return Some(Due::Repair);
        }
        None
    }

    /// Whether the last try asked the coordinator: then the next one waits longer. If not, nothing has failed.
    pub(crate) fn tried(&mut self, now_ms: u64, has_asked: bool) {
        if has_asked {
            self.retry_pause = (self.retry_pause * 2).min(self.timing.retry_max_ms);
            self.retry_at = now_ms + self.retry_pause;
        } else {
            self.retry_pause = self.timing.retry_min_ms;
            self.retry_at = now_ms + self.timing.beat_interval_ms.max(self.retry_pause);
        }
    }

    /// Something became known: tries are worth it again.
    pub(crate) fn hope(&mut self, now_ms: u64) {
        self.retry_pause = self.timing.retry_min_ms;
        self.retry_at = self.retry_at.min(now_ms + self.retry_pause);
    }

    /// Whether the master waits to hand over.
    pub(crate) fn handing_over(&mut self, now_ms: u64, is_so: bool) {
        match (is_so, self.handover_at) {
            (true, None) => self.handover_at = Some(now_ms + self.timing.handover_wait_ms),
            (false, Some(_)) => self.handover_at = None,
            _ => {}
        }
    }

    /// Whether something of the log is damaged.
    pub(crate) fn repairing(&mut self, now_ms: u64, is_so: bool) {
        match (is_so, self.repair_at) {
            (true, None) => self.repair_at = Some(now_ms + self.timing.repair_interval_ms),
            (false, Some(_)) => self.repair_at = None,
            _ => {}
        }
    }

    /// When something is due next.
    pub(crate) fn next_ms(&self) -> u64 {
        let times = [
            Some(self.beat_at),
            Some(self.retry_at),
            self.handover_at,
            self.repair_at,
        ];
        times.into_iter().flatten().min().unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing() -> Timing {
        Timing {
            retry_min_ms: 200,
            ..Timing::default()
        }
    }

    fn all_due(timers: &mut Timers, now_ms: u64) -> Vec<Due> {
        std::iter::from_fn(|| timers.due(now_ms)).collect()
    }

    #[test]
    fn each_is_due_once_at_its_time() {
        let mut timers = Timers::new(timing(), 1_000);
        assert_eq!(timers.next_ms(), 1_200);
        assert_eq!(all_due(&mut timers, 1_199), []);
        assert_eq!(all_due(&mut timers, 1_200), [Due::Beat, Due::Retry]);
        timers.handing_over(1_250, true);
        timers.handing_over(1_300, true);
        assert!(all_due(&mut timers, 3_249).contains(&Due::Beat));
        assert!(all_due(&mut timers, 3_250).contains(&Due::HandoverWaited));
        timers.handing_over(3_250, false);
        assert!(!all_due(&mut timers, 9_000).contains(&Due::HandoverWaited));
    }

    #[test]
    fn tries_that_ask_the_coordinator_become_rare_until_there_is_hope() {
        let mut timers = Timers::new(timing(), 0);
        for expected in [400, 800, 1_600, 2_000, 2_000] {
            timers.tried(0, true);
            assert_eq!(timers.retry_at, expected);
        }
        timers.hope(100);
        assert_eq!(timers.retry_at, 300);
        timers.tried(300, false);
        assert_eq!(timers.retry_at, 500);
    }
}

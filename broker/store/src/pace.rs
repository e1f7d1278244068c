//! How fast catch-up readers may fetch what is not in memory, so that senders do not wait for them. Pure: time comes in as an
//! argument.
//!
//! Senders wait for flushes, or, where these are asynchronous, for writes: both are called *waits* here. A disk that serves a
//! reader at full speed may make them ten times as long, and half that speed often costs nothing. Where that point lies is the
//! disk's secret, and it moves. So the rate is found as TCP finds its own: a step up for each moment in which no wait was much
//! longer than waits are without readers, a quarter less for one in which one was, and half for each further one. Close to where
//! a wait was long the steps are small at first and then grow: each time that the point is found again senders wait for some
//! hundred milliseconds, and a wait that was long by chance is not to slow readers for minutes. While nobody sends the rate
//! doubles until it is none; beside senders it has a bound of its own, since they share more than the disk with readers.

use std::time::Duration;

/// A moment: the rate is looked at once in each.
const MOMENT: Duration = Duration::from_millis(100);
/// Bytes per second that readers have in any case.
pub(crate) const RATE_MIN: u64 = 16 << 20;
/// Twice as much in a moment counts as no reader.
const QUIET_BYTES: u64 = 2 * RATE_MIN / 10;
const RATE_AT_FIRST: u64 = 128 << 20;
/// The part of the rate by which it grows in a moment: it doubles in 4.5 s.
const STEP_PART: u64 = 64;
/// Where a wait was long before, `calm / CAREFUL_PART` of the rate, after so many calm moments: a third more in half a minute, four
/// times as much in a minute.
const CAREFUL_PART: u64 = 1 << 17;
/// No bound in effect.
const RATE_MAX: u64 = 8 << 30;
/// For so long after much was fetched waits may be long because of it.
const ECHO: Duration = Duration::from_secs(2);
/// The part of [`Pace::usual`] that is forgotten in each moment in which somebody waits.
const FORGOTTEN_PART: u32 = 256;
/// By which a wait may be longer than usual, besides half of it. Disks do that without readers, too.
const SLACK: Duration = Duration::from_millis(3);
/// What readers did not use of their rate they may use within this time.
const CREDIT: Duration = Duration::from_millis(50);
/// How long a reader pauses when a wait that is long already has not ended.
const HOLD: Duration = Duration::from_millis(10);
/// The longest pause of a reader, and the longest wait for whose end it pauses.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// See the module. Times are of a clock that nobody sets.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Bytes per second.
    rate: u64,
    /// The most of them beside senders.
    beside_max: u64,
    /// From here on a wait may be long: three quarters of the rate at which one was.
    careful_from: u64,
    /// Moments since then.
    calm: u64,
    /// What has been fetched is paid for at this time.
    paid_at: Duration,
    /// The longest wait of late while nobody was read for.
    usual: Duration,
    /// Waits that have not ended, and since when at least one has not.
    waiting: u32,
    since: Duration,
    moment_ends: Duration,
    this: Moment,
    /// Waits that end until then say nothing of what is usual.
    loud_until: Duration,
}

#[derive(Debug, Default, Clone, Copy)]
struct Moment {
    fetched_bytes: u64,
    longest_wait: Duration,
    was_slow: bool,
}

impl Pace {
    /// For readers that fetch at most `beside_max` bytes a second while somebody sends.
    pub(crate) fn new(beside_max: u64) -> Self {
        Self {
            rate: RATE_AT_FIRST.min(beside_max),
            beside_max,
            careful_from: RATE_MAX,
            calm: 0,
            paid_at: Duration::ZERO,
            usual: Duration::ZERO,
            waiting: 0,
            since: Duration::ZERO,
            moment_ends: Duration::ZERO,
            this: Moment::default(),
            loud_until: Duration::ZERO,
        }
    }

    /// How long a reader is to wait before it fetches more.
    pub(crate) fn pause(&mut self, now: Duration) -> Duration {
        self.look(now);
        let so_far = self.so_far(now);
        let holds = self.is_long(so_far) && !self.is_quiet(now) && so_far < PAUSE_MAX;
        let pause = self.paid_at.saturating_sub(now).min(PAUSE_MAX);
        if holds { pause.max(HOLD) } else { pause }
    }

    /// So many bytes were fetched, or are being.
    pub(crate) fn fetched(&mut self, now: Duration, bytes: u64) {
        self.look(now);
        self.this.fetched_bytes += bytes;
        if self.this.fetched_bytes > QUIET_BYTES {
            self.loud_until = now + ECHO;
        }
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.paid_at = self.paid_at.max(now.saturating_sub(CREDIT)) + cost;
    }

    /// A wait of senders begins.
    pub(crate) fn begins(&mut self, now: Duration) {
        if self.waiting == 0 {
            self.since = now;
        }
        self.waiting += 1;
    }

    /// A wait of senders ended that was so long.
    pub(crate) fn ended(&mut self, now: Duration, wait: Duration) {
        self.waiting = self.waiting.saturating_sub(1);
        self.since = now;
        self.look(now);
        self.judge(now, wait);
    }

    /// How long senders have been waiting by now.
    fn so_far(&self, now: Duration) -> Duration {
        match self.waiting {
            0 => Duration::ZERO,
            _ => now.saturating_sub(self.since),
        }
    }

    fn is_long(&self, wait: Duration) -> bool {
        wait > self.usual + self.usual / 2 + SLACK
    }

    fn judge(&mut self, now: Duration, wait: Duration) {
        self.this.longest_wait = wait.max(self.this.longest_wait);
        if !wait.is_zero() {
            self.rate = self.rate.min(self.beside_max);
        }
        if self.is_long(wait) && !self.is_quiet(now) && !self.this.was_slow {
            self.this.was_slow = true;
            self.careful_from = self.rate / 4 * 3;
            let less = if self.calm == 0 {
                self.rate / 2
            } else {
                self.careful_from
            };
            self.rate = less.max(RATE_MIN);
            self.calm = 0;
        }
    }

    /// Whether waits are what they are without readers.
    fn is_quiet(&self, now: Duration) -> bool {
        now >= self.loud_until
    }

    /// Looks at the wait that has not ended, and ends the moment when it is over.
    fn look(&mut self, now: Duration) {
        self.judge(now, self.so_far(now));
        if now < self.moment_ends {
            return;
        }
        if self.is_quiet(now) && !self.this.longest_wait.is_zero() {
            let remembered = self.usual.saturating_sub(self.usual / FORGOTTEN_PART);
            self.usual = remembered.max(self.this.longest_wait);
        }
        // A rate that is not made use of shows nothing.
        let is_used = self.this.fetched_bytes.saturating_mul(20) >= self.rate;
        if is_used && !self.this.was_slow {
            let mut step = self.rate / STEP_PART;
            if self.rate >= self.careful_from {
                step = step.min(self.rate * self.calm / CAREFUL_PART);
            }
            self.rate = match self.this.longest_wait {
                Duration::ZERO => (self.rate * 2).min(RATE_MAX),
                _ => (self.rate + step).min(self.beside_max),
            };
            self.calm += 1;
        }
        self.this = Moment::default();
        self.moment_ends = now + MOMENT;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A disk on which a flush takes 4 ms, and 40 ms in a tenth of a second in which more than `knee` bytes per second were read.
    /// Reads for `seconds` while flushes follow each other; returns bytes read per second and the part of flushes that were slow.
    fn read(pace: &mut Pace, from: Duration, seconds: u64, knee: Option<u64>) -> (u64, f64) {
        let (mut now, mut fetched, mut flushes, mut slow) = (from, 0, 0_u32, 0_u32);
        let mut recent = std::collections::VecDeque::new();
        let end = from + Duration::from_secs(seconds);
        while now < end {
            while now < end && pace.pause(now).is_zero() {
                pace.fetched(now, MIB);
                fetched += MIB;
                recent.push_back(now);
                if knee.is_none() {
                    // As fast as a disk can.
                    now += Duration::from_millis(1);
                }
            }
            let Some(knee) = knee else {
                now += pace.pause(now);
                continue;
            };
            recent.retain(|at| *at + MOMENT > now);
            let took = if recent.len() as u64 * MIB * 10 > knee {
                slow += 1;
                Duration::from_millis(40)
            } else {
                Duration::from_millis(4)
            };
            flushes += 1;
            pace.begins(now);
            now += took;
            pace.ended(now, took);
        }
        (
            fetched / seconds,
            f64::from(slow) / f64::from(flushes.max(1)),
        )
    }

    fn used_to(took: Duration) -> (Pace, Duration) {
        let mut pace = Pace::new(RATE_MAX);
        let mut now = Duration::ZERO;
        for _ in 0..1000 {
            pace.begins(now);
            now += took;
            pace.ended(now, took);
        }
        (pace, now)
    }

    #[test]
    fn readers_find_the_rate_at_which_flushes_do_not_suffer() {
        for knee in [40 * MIB, 100 * MIB, 400 * MIB] {
            let (mut pace, now) = used_to(Duration::from_millis(4));
            read(&mut pace, now, 300, Some(knee));
            let (rate, slow) = read(&mut pace, now + Duration::from_mins(5), 600, Some(knee));
            assert!(rate > knee / 2, "{rate} of {knee}");
            assert!(slow < 0.001, "{slow} at {knee}");
        }
    }

    #[test]
    fn readers_have_the_least_rate_however_slow_flushes_are() {
        let (mut pace, now) = used_to(Duration::from_millis(4));
        let (rate, _) = read(&mut pace, now, 30, Some(0));
        assert!(rate >= RATE_MIN * 9 / 10, "{rate}");
    }

    #[test]
    fn readers_pause_while_senders_wait_long_and_do_not_take_that_for_nobody_sending() {
        let (mut pace, mut now) = used_to(Duration::from_millis(4));
        read(&mut pace, now, 10, Some(400 * MIB));
        now += Duration::from_secs(10) + Duration::from_millis(1);
        let before = pace.rate;
        pace.begins(now);
        for _ in 0..50 {
            now += HOLD;
            assert!(pace.pause(now) >= HOLD);
        }
        assert!(pace.rate < before);
        now += Duration::from_secs(1);
        assert!(pace.pause(now).is_zero(), "no longer than that");
    }

    #[test]
    fn a_disk_that_became_slower_by_itself_is_not_the_readers_fault() {
        let (mut pace, mut now) = used_to(Duration::from_millis(4));
        for _ in 0..20_000 {
            while pace.pause(now).is_zero() {
                pace.fetched(now, MIB);
            }
            now += Duration::from_millis(20);
            pace.ended(now, Duration::from_millis(20));
        }
        assert!(pace.rate > 100 * MIB, "{}", pace.rate);
    }

    #[test]
    fn a_wait_that_is_long_by_chance_twice_a_minute_leaves_readers_more_than_half() {
        let (mut pace, mut now) = used_to(Duration::from_millis(4));
        let mut rate = 0;
        for _ in 0..40 {
            rate = read(&mut pace, now, 30, Some(400 * MIB)).0;
            now += Duration::from_secs(30);
            pace.begins(now);
            now += Duration::from_millis(80);
            pace.ended(now, Duration::from_millis(80));
        }
        assert!(rate > 200 * MIB, "{}", rate / MIB);
    }

    #[test]
    fn beside_senders_readers_have_their_bound_also_when_they_were_alone() {
        let mut pace = Pace::new(100 * MIB);
        let (alone, _) = read(&mut pace, Duration::ZERO, 10, None);
        // What waits are without readers has to be learnt first.
        let now = Duration::from_secs(10);
        let (learning, _) = read(&mut pace, now, 120, Some(400 * MIB));
        let now = now + Duration::from_mins(2);
        let (beside, _) = read(&mut pace, now, 60, Some(400 * MIB));
        assert!(alone > 800 * MIB, "{alone}");
        assert!(learning < beside, "{learning}");
        assert!((90 * MIB..=104 * MIB).contains(&beside), "{beside}");
    }

    #[test]
    fn where_nobody_waits_for_flushes_the_disk_alone_is_the_bound() {
        let mut pace = Pace::new(RATE_MAX);
        let (rate, _) = read(&mut pace, Duration::ZERO, 10, None);
        assert!(rate > 900 * MIB, "{rate}");
    }
}

//! How fast catch-up readers may fetch what is not in memory, so that senders who wait for a flush do not wait for them. Pure: time
//! comes in as an argument.
//!
//! A disk that serves a reader at full speed makes a flush wait ten times as long, and half that speed often costs the flush
//! nothing. Where that point lies is the disk's secret, and it moves. So the rate is found as TCP finds its own: a step up for
//! each moment in which no flush took longer than flushes take without readers, half for one in which one did. Where nobody
//! waits for flushes the rate doubles until it is none.

use std::time::Duration;

/// A moment: the rate is looked at once in each.
const MOMENT: Duration = Duration::from_millis(100);
/// Bytes per second that readers have in any case; so little counts as no reader.
const RATE_MIN: u64 = 16 << 20;
const RATE_AT_FIRST: u64 = 64 << 20;
const RATE_STEP: u64 = 4 << 20;
/// No bound in effect.
const RATE_MAX: u64 = 8 << 30;
/// The part of [`Pace::usual`] that is forgotten with each flush: it follows what one in some hundred takes.
const FORGOTTEN_PART: u32 = 256;
/// By which a flush may take longer than usual, besides a quarter.
const SLACK: Duration = Duration::from_millis(1);
/// The longest pause of a reader.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// See the module. Times are of a clock that nobody sets.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Bytes per second.
    rate: u64,
    /// What has been fetched is paid for at this time.
    paid_at: Duration,
    /// What long flushes take while nobody is read for.
    usual: Duration,
    moment_ends: Duration,
    this: Moment,
    last: Moment,
}

#[derive(Debug, Default, Clone, Copy)]
struct Moment {
    fetched_bytes: u64,
    flushes: u32,
    was_slow: bool,
}

impl Moment {
    fn is_quiet(self) -> bool {
        u128::from(self.fetched_bytes) * 1000 <= u128::from(RATE_MIN) * MOMENT.as_millis()
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            rate: RATE_AT_FIRST,
            paid_at: Duration::ZERO,
            usual: Duration::ZERO,
            moment_ends: Duration::ZERO,
            this: Moment::default(),
            last: Moment::default(),
        }
    }
}

impl Pace {
    /// How long a reader is to wait before it fetches more.
    pub(crate) fn pause(&self, now: Duration) -> Duration {
        self.paid_at.saturating_sub(now).min(PAUSE_MAX)
    }

    /// So many bytes were fetched, or are being.
    pub(crate) fn fetched(&mut self, now: Duration, bytes: u64) {
        self.look(now);
        self.this.fetched_bytes += bytes;
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.paid_at = self.paid_at.max(now) + cost;
    }

    /// A flush that senders wait for ended and took so long.
    pub(crate) fn flushed(&mut self, now: Duration, took: Duration) {
        self.look(now);
        self.this.flushes += 1;
        if self.this.is_quiet() && self.last.is_quiet() {
            self.usual = took.max(self.usual.saturating_sub(self.usual / FORGOTTEN_PART));
        } else if took > self.usual + self.usual / 4 + SLACK && !self.this.was_slow {
            self.this.was_slow = true;
            self.rate = (self.rate / 2).max(RATE_MIN);
        }
    }

    /// Ends the moment when it is over.
    fn look(&mut self, now: Duration) {
        if now < self.moment_ends {
            return;
        }
        let Moment {
            fetched_bytes,
            flushes,
            was_slow,
        } = self.this;
        if fetched_bytes > 0 && !was_slow {
            let faster = match flushes {
                0 => self.rate * 2,
                _ => self.rate + RATE_STEP,
            };
            self.rate = faster.min(RATE_MAX);
        }
        self.last = std::mem::take(&mut self.this);
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
            now += took;
            pace.flushed(now, took);
        }
        (
            fetched / seconds,
            f64::from(slow) / f64::from(flushes.max(1)),
        )
    }

    fn used_to(took: Duration) -> (Pace, Duration) {
        let mut pace = Pace::default();
        let mut now = Duration::ZERO;
        for _ in 0..1000 {
            now += took;
            pace.flushed(now, took);
        }
        (pace, now)
    }

    #[test]
    fn readers_find_the_rate_at_which_flushes_do_not_suffer() {
        for knee in [40 * MIB, 100 * MIB, 400 * MIB] {
            let (mut pace, now) = used_to(Duration::from_millis(4));
            let (_, _) = read(&mut pace, now, 20, Some(knee));
            let (rate, slow) = read(&mut pace, now + Duration::from_secs(20), 60, Some(knee));
            assert!(rate > knee / 2, "{rate} of {knee}");
            assert!(slow < 0.02, "{slow} at {knee}");
        }
    }

    #[test]
    fn readers_have_the_least_rate_however_slow_flushes_are() {
        let (mut pace, now) = used_to(Duration::from_millis(4));
        let (rate, _) = read(&mut pace, now, 30, Some(0));
        assert!(rate >= RATE_MIN * 9 / 10, "{rate}");
    }

    #[test]
    fn a_disk_that_became_slower_by_itself_is_not_the_readers_fault() {
        let (mut pace, mut now) = used_to(Duration::from_millis(4));
        for _ in 0..20_000 {
            while pace.pause(now).is_zero() {
                pace.fetched(now, MIB);
            }
            now += Duration::from_millis(20);
            pace.flushed(now, Duration::from_millis(20));
        }
        assert!(pace.rate > 100 * MIB, "{}", pace.rate);
    }

    #[test]
    fn where_nobody_waits_for_flushes_the_disk_alone_is_the_bound() {
        let mut pace = Pace::default();
        let (rate, _) = read(&mut pace, Duration::ZERO, 10, None);
        assert!(rate > 900 * MIB, "{rate}");
    }
}

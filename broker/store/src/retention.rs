//! Which log files go, and why. Pure: the time, the fullness of the disk and the files are arguments.
//!
//! A file's age is that of its newest message (RocketMQ takes the file's modification time, which a copy or a restore
//! changes). The file that is being written never goes.

use rocket_protocol::UnixMillis;

use crate::api::RemovalReason;
use crate::config::{Retention, Watermarks};

/// A log file that may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Nothing in the file was stored after this.
    pub(crate) newest: UnixMillis,
}

/// How many of `files`, which are the oldest ones in order, go now, and why. `used` is the fullness of the disk, 0 to 1.
pub(crate) fn decide(
    now: UnixMillis,
    used: f64,
    files: &[Candidate],
    retention: &Retention,
    marks: Watermarks,
) -> Option<(usize, RemovalReason)> {
    let above = |mark: u8| used * 100.0 > f64::from(mark);
    let reserved = i64::try_from(retention.reserved.as_millis()).unwrap_or(i64::MAX);
    let is_expired = |file: &&Candidate| now.since(file.newest) > reserved;
    let expired = files
        .iter()
        .take(retention.files_per_round)
        .take_while(is_expired)
        .count();
    if expired > 0 && is_time(now, retention) {
        return Some((expired, RemovalReason::Expired));
    }
    if expired > 0 && above(marks.clean) {
        return Some((expired, RemovalReason::ExpiredUnderPressure));
    }
    if above(marks.force) && !files.is_empty() {
        // One at a time: the disk is looked at again before the next one goes.
        return Some((1, RemovalReason::Forced));
    }
    None
}

fn is_time(now: UnixMillis, retention: &Retention) -> bool {
    let local = now.plus_millis(i64::from(retention.utc_offset_minutes) * 60_000);
    let hour = local.0.div_euclid(3_600_000).rem_euclid(24);
    retention
        .delete_when
        .iter()
        .any(|&when| i64::from(when) == hour)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::StoreConfig;

    const HOUR: i64 = 3_600_000;

    fn decided(now_hours: i64, used: f64, newest_hours: &[i64]) -> Option<(usize, RemovalReason)> {
        let config = StoreConfig::default();
        let retention = Retention {
            reserved: Duration::from_hours(72),
            ..config.retention
        };
        let files: Vec<_> = newest_hours
            .iter()
            .map(|hours| Candidate {
                newest: UnixMillis(hours * HOUR),
            })
            .collect();
        decide(
            UnixMillis(now_hours * HOUR),
            used,
            &files,
            &retention,
            config.watermarks,
        )
    }

    #[test]
    fn expired_files_wait_for_their_hour() {
        assert_eq!(decided(240 + 3, 0.5, &[10, 20, 240]), None);
        assert_eq!(
            decided(240 + 4, 0.5, &[10, 20, 240]),
            Some((2, RemovalReason::Expired))
        );
        assert_eq!(decided(240 + 5, 0.5, &[10, 20, 240]), None);
    }

    #[test]
    fn expired_files_go_at_once_when_the_disk_fills() {
        assert_eq!(
            decided(240 + 3, 0.76, &[10, 20, 240]),
            Some((2, RemovalReason::ExpiredUnderPressure))
        );
        assert_eq!(decided(240 + 3, 0.75, &[10, 20, 240]), None);
    }

    #[test]
    fn the_oldest_file_goes_regardless_of_age_when_the_disk_is_nearly_full() {
        assert_eq!(
            decided(240, 0.86, &[239, 240]),
            Some((1, RemovalReason::Forced))
        );
        assert_eq!(decided(240, 0.85, &[239, 240]), None);
        assert_eq!(
            decided(240, 0.99, &[]),
            None,
            "the file being written is no candidate"
        );
    }
}

//! Which log files go, and why. Pure: the time, the fullness of the disk, the files and what consumers still need are
//! arguments.
//!
//! A file's age is that of its newest message (RocketMQ takes the file's modification time, which a copy or a restore
//! changes). The file that is being written never goes.
//!
//! Two steps, so that nobody looks for what consumers need while nothing is due: [`due`] says what would go if nobody
//! read, [`granted`] how much of that consumers let go. A file that holds a message which a group has not consumed stays,
//! until it is [`Retention::unconsumed_extra`] older than an expired one. Only above [`Watermarks::force`] the oldest file
//! goes whatever it holds: that is the hard limit.

use rocket_protocol::UnixMillis;

use crate::api::RemovalReason;
use crate::config::{Retention, Watermarks};

/// A log file that may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Nothing in the file was stored after this.
    pub(crate) newest: UnixMillis,
    /// One behind its last byte.
    pub(crate) end: u64,
    /// Its size.
    pub(crate) bytes: u64,
}

/// What a decision goes by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scene<'a> {
    /// The time.
    pub(crate) now: UnixMillis,
    /// Whether a file's age can be told by it.
    pub(crate) has_ages: bool,
    /// How full the disk is, 0 to 1.
    pub(crate) used: f64,
    /// Senders are refused because the next log file has no room.
    pub(crate) is_short: bool,
    /// Bytes of all files of the log, those included that are no candidates.
    pub(crate) log_bytes: u64,
    /// The oldest files in order.
    pub(crate) files: &'a [Candidate],
    /// Files that were due wait for consumers: they go when they are let go, at whatever hour.
    pub(crate) is_held: bool,
}

/// The first so many files would go now if nobody read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) count: usize,
    pub(crate) reason: RemovalReason,
}

/// What would go by age, by the mark of cleaning, or by size.
pub(crate) fn due(scene: &Scene<'_>, retention: &Retention, marks: Watermarks) -> Option<Due> {
    let files = scene.files.iter().take(retention.files_per_round);
    let is_expired = |file: &&Candidate| {
        scene.has_ages && scene.now.since(file.newest) > millis(retention.reserved)
    };
    let expired = files.clone().take_while(is_expired).count();
    let mut left = scene.log_bytes;
    let oversize = files
        .take_while(|file| {
            let is_too_much = left > retention.bytes_max;
            left = left.saturating_sub(file.bytes);
            is_too_much
        })
        .count();
    let by_age = if scene.is_held || is_time(scene.now, retention) {
        Some(RemovalReason::Expired)
    } else {
        is_above(scene.used, marks.clean).then_some(RemovalReason::ExpiredUnderPressure)
    };
    let (count, reason) = match by_age {
        Some(reason) if expired >= oversize => (expired, reason),
        _ => (oversize, RemovalReason::Oversize),
    };
    (count > 0).then_some(Due { count, reason })
}

/// How many of the first `count` files may go when a consumer needs what lies at `needed` and behind it.
pub(crate) fn granted(
    scene: &Scene<'_>,
    count: usize,
    needed: u64,
    retention: &Retention,
) -> usize {
    let longest = retention
        .reserved
        .saturating_add(retention.unconsumed_extra);
    let may_go = |file: &&Candidate| {
        file.end <= needed || scene.has_ages && scene.now.since(file.newest) > millis(longest)
    };
    let files = scene.files.iter().take(count);
    files.take_while(may_go).count()
}

/// Whether the oldest file goes whatever it holds.
pub(crate) fn is_forced(scene: &Scene<'_>, marks: Watermarks) -> bool {
    let is_reached = |mark| scene.is_short || is_above(scene.used, mark);
    marks.force.is_some_and(is_reached)
}

/// Whether the disk is fuller than a mark.
pub(crate) fn is_above(used: f64, mark: u8) -> bool {
    used * 100.0 > f64::from(mark)
}

fn millis(time: std::time::Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
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

    fn retention() -> Retention {
        Retention {
            reserved: Duration::from_hours(72),
            unconsumed_extra: Duration::from_hours(24),
            ..StoreConfig::default().retention
        }
    }

    /// Files of 100 bytes, from 0 on.
    fn files(newest_hours: &[i64]) -> Vec<Candidate> {
        let files = newest_hours.iter().zip(1..);
        files
            .map(|(hours, number)| Candidate {
                newest: UnixMillis(hours * HOUR),
                end: number * 100,
                bytes: 100,
            })
            .collect()
    }

    fn scene(now_hours: i64, used: f64, files: &[Candidate]) -> Scene<'_> {
        Scene {
            now: UnixMillis(now_hours * HOUR),
            has_ages: true,
            used,
            is_short: false,
            log_bytes: files.len() as u64 * 100 + 100,
            files,
            is_held: false,
        }
    }

    fn decided(now_hours: i64, used: f64, newest_hours: &[i64]) -> Option<(usize, RemovalReason)> {
        let files = files(newest_hours);
        let marks = StoreConfig::default().watermarks;
        due(&scene(now_hours, used, &files), &retention(), marks).map(|due| (due.count, due.reason))
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
    fn expired_files_that_waited_for_consumers_do_not_wait_for_the_next_hour() {
        let files = files(&[10, 240]);
        let decided = |is_held| {
            let scene = Scene {
                is_held,
                ..scene(240 + 5, 0.5, &files)
            };
            due(&scene, &retention(), StoreConfig::default().watermarks)
        };
        assert_eq!(decided(false), None);
        assert_eq!(decided(true).map(|due| due.count), Some(1));
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
    fn only_above_the_hard_mark_the_oldest_file_goes_whatever_it_holds() {
        let marks = StoreConfig::default().watermarks;
        let used = |used| scene(0, used, &[]);
        assert!(is_forced(&used(0.86), marks) && !is_forced(&used(0.85), marks));
        let short = Scene {
            is_short: true,
            ..used(0.1)
        };
        assert!(
            is_forced(&short, marks),
            "no room for a file is a full disk"
        );
        let never = Watermarks {
            force: None,
            ..marks
        };
        assert!(!is_forced(&used(1.0), never) && !is_forced(&short, never));
    }

    #[test]
    fn a_log_that_is_too_large_loses_its_oldest_files_at_any_hour_and_age() {
        let small = |bytes_max| Retention {
            bytes_max,
            ..retention()
        };
        let marks = StoreConfig::default().watermarks;
        let by_size = |bytes_max, newest: &[i64]| {
            let files = files(newest);
            due(&scene(240 + 3, 0.1, &files), &small(bytes_max), marks)
        };
        // 500 bytes, the file being written included.
        let young = [239, 240, 240, 240];
        let oversize = |count| {
            Some(Due {
                count,
                reason: RemovalReason::Oversize,
            })
        };
        assert_eq!(by_size(500, &young), None);
        assert_eq!(by_size(499, &young), oversize(1));
        assert_eq!(by_size(300, &young), oversize(2));
        assert_eq!(
            by_size(0, &young),
            oversize(4),
            "never the one that is written"
        );
    }

    #[test]
    fn a_needed_file_and_all_behind_it_stay_until_they_are_long_overdue() {
        let files = files(&[10, 20, 30, 40]);
        let may_go = |now, needed| granted(&scene(now, 0.5, &files), 4, needed, &retention());
        assert_eq!(may_go(120, u64::MAX), 4);
        assert_eq!(may_go(100, 400), 4);
        assert_eq!(may_go(100, 399), 3);
        assert_eq!(may_go(100, 250), 2);
        assert_eq!(may_go(100, 0), 0);
        assert_eq!(may_go(10 + 72 + 24, 0), 0);
        assert_eq!(may_go(10 + 72 + 25, 0), 1);
        assert_eq!(may_go(10 + 72 + 25, 150), 1);
    }
}

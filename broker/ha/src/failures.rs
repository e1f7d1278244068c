//! Disks that fail again (docs/replication.md §8.15): after a write or flush that failed a replica comes back, once. When the
//! next one fails soon after, the disk is taken for broken, and no start goes on by itself.
//!
//! ```text
//! failed   time of the last failure 8 (ms since 1970) · it was the second one within the window 1
//! ```

use bytes::{Buf, BufMut};

use crate::disk::Items;
use crate::start::StartError;

/// What is noted of the failures of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failures {
    /// When the last one was, in milliseconds since 1970.
    pub last_ms: u64,
    /// Whether another one had been shortly before: the replica is halted.
    pub is_second: bool,
}

impl Failures {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut body = Vec::new();
        body.put_u64(self.last_ms);
        body.put_u8(u8::from(self.is_second));
        body
    }

    pub(crate) fn decode(body: &mut &[u8]) -> Option<Self> {
        let last_ms = body.try_get_u64().ok()?;
        let is_second = match body.try_get_u8().ok()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        Some(Self { last_ms, is_second })
    }

    /// With the one at `at_ms`. A clock that went back in between makes it no later than the one before. At the same time as that it
    /// is the same one, told again: who counted it ended before the note of it was removed.
    fn and(before: Option<Self>, at_ms: u64, window_ms: u64) -> Self {
        if let Some(same) = before.filter(|before| before.last_ms == at_ms) {
            return Self {
                is_second: window_ms > 0 && same.is_second,
                ..same
            };
        }
        let is_soon = |before: Self| at_ms.saturating_sub(before.last_ms) <= window_ms;
        Self {
            last_ms: at_ms,
            is_second: window_ms > 0 && before.is_some_and(|it| it.is_second || is_soon(it)),
        }
    }
}

/// To be asked at a start, before anything else is done with the folder, and again when the replica begins. `failed_ms`: when a write or flush of the run before failed, if
/// one did. `window_ms` is `disk_fail_window`; with 0 a disk may fail as often as it likes, and what was noted is forgotten.
///
/// # Errors
/// [`StartError::DiskFails`] from the second failure within the window on; or a small file cannot be read or written.
pub fn look_at_failures(
    items: &Items,
    failed_ms: Option<u64>,
    window_ms: u64,
) -> Result<(), StartError> {
    // A folder that is no replica's yet has promised nothing.
    if items.disk_id().is_none() {
        return Ok(());
    }
    let before = items.failures()?;
    let now = match (failed_ms, before) {
        (Some(at_ms), before) => Some(Failures::and(before, at_ms, window_ms)),
        (None, Some(before)) if window_ms == 0 => Some(Failures {
            is_second: false,
            ..before
        }),
        (None, before) => before,
    };
    if let Some(now) = now.filter(|now| before != Some(*now)) {
        items.save_failures(now)?;
    }
    match now {
        Some(Failures {
            is_second: true, ..
        }) => Err(StartError::DiskFails),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rocket_mapped_file::memory::MemoryDirectory;
    use rocket_replication::DiskId;
    use rocket_replication::epochs::Epochs;

    use super::*;

    const MINUTE_MS: u64 = 60_000;
    const WINDOW_MS: u64 = 10 * MINUTE_MS;
    /// When a disk fails first.
    const FIRST_MS: u64 = 1_000 * MINUTE_MS;

    fn formatted() -> (MemoryDirectory, Items) {
        let dir = MemoryDirectory::default();
        let items = Items::new(Arc::new(dir.clone()));
        items.format(DiskId(9), &Epochs::default()).unwrap();
        (dir, items)
    }

    fn is_halted(items: &Items, failed_ms: Option<u64>, window_ms: u64) -> bool {
        match look_at_failures(items, failed_ms, window_ms) {
            Ok(()) => false,
            Err(StartError::DiskFails) => true,
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn second_failure_within_the_window_halts_every_later_start() {
        let (dir, items) = formatted();
        assert!(!is_halted(&items, None, WINDOW_MS));
        assert!(!is_halted(&items, Some(FIRST_MS), WINDOW_MS));
        // Starts in between, and losses of power, forget nothing.
        let items = Items::new(Arc::new(dir.crashed(1)));
        assert!(!is_halted(&items, None, WINDOW_MS));
        assert!(is_halted(&items, Some(FIRST_MS + WINDOW_MS), WINDOW_MS));
        for _ in 0..2 {
            assert!(is_halted(&items, None, WINDOW_MS), "time heals no disk");
        }
    }

    #[test]
    fn failures_further_apart_than_the_window_are_first_ones() {
        let (_, items) = formatted();
        for n in 0..3 {
            let at_ms = FIRST_MS + n * (WINDOW_MS + 1);
            assert!(!is_halted(&items, Some(at_ms), WINDOW_MS), "failure {n}");
        }
        // One whose time says that it was before the last one is a second one: clocks may jump.
        assert!(is_halted(&items, Some(1), WINDOW_MS));
    }

    /// The process that counted it ended before its store removed the note of it.
    #[test]
    fn failure_that_is_told_again_is_counted_once() {
        let (_, items) = formatted();
        for _ in 0..3 {
            assert!(!is_halted(&items, Some(FIRST_MS), WINDOW_MS));
        }
        for _ in 0..2 {
            assert!(is_halted(&items, Some(FIRST_MS + 1), WINDOW_MS));
        }
    }

    #[test]
    fn window_of_zero_never_halts_and_forgets_what_had() {
        let (_, items) = formatted();
        for n in 0..3 {
            assert!(!is_halted(&items, Some(FIRST_MS + n), 0));
        }
        assert!(is_halted(&items, Some(FIRST_MS + 10), WINDOW_MS));
        assert!(!is_halted(&items, None, 0));
        assert!(!is_halted(&items, None, WINDOW_MS));
    }

    #[test]
    fn folder_that_is_no_replicas_yet_is_not_looked_at() {
        let items = Items::new(Arc::new(MemoryDirectory::default()));
        for _ in 0..2 {
            assert!(!is_halted(&items, Some(FIRST_MS), WINDOW_MS));
        }
    }
}

//! The flush mode, which may change while the store is open.
//!
//! It decides who writes and when a flush begins, and nothing else: what an answer waits for is the commit policy's affair, and
//! holds in either mode.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::Flush;

/// Counts the changes; an even number of them leaves the mode that the store was opened with.
pub(crate) struct FlushMode {
    first: Flush,
    changes: AtomicU64,
}

impl FlushMode {
    pub(crate) fn new(first: Flush) -> Self {
        Self {
            first,
            changes: AtomicU64::new(0),
        }
    }

    pub(crate) fn now(&self) -> Flush {
        self.after(self.changes())
    }

    /// How often it has changed.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// The mode after so many changes.
    pub(crate) fn after(&self, changes: u64) -> Flush {
        match (self.first, changes.is_multiple_of(2)) {
            (mode, true) => mode,
            (Flush::Sync, false) => Flush::Async,
            (Flush::Async, false) => Flush::Sync,
        }
    }

    /// Whether that is another one than before. To be called by one thread at a time.
    pub(crate) fn set(&self, mode: Flush) -> bool {
        let is_other = self.now() != mode;
        if is_other {
            self.changes.fetch_add(1, Ordering::AcqRel);
        }
        is_other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_only_when_it_is_one() {
        let mode = FlushMode::new(Flush::Sync);
        assert!(!mode.set(Flush::Sync) && mode.now() == Flush::Sync);
        assert!(mode.set(Flush::Async) && !mode.set(Flush::Async));
        assert_eq!((mode.now(), mode.changes()), (Flush::Async, 1));
        assert!(mode.set(Flush::Sync));
        assert_eq!((mode.now(), mode.changes()), (Flush::Sync, 2));
    }
}

//! An upper bound of what was ever written to the log, durable before anything is written beyond it.
//!
//! Recovery makes zero what lies behind the last good record: an old record there could otherwise be taken for a new one
//! when a new one ends just where it begins. How far it has to go is what the ceiling tells; without it the whole rest of
//! the file, whose zeros were written ahead so that flushes are quick, would have to be read or made anew. It is raised by
//! the house in good time, and by the writer only when that did not happen.

use std::io;

use crate::api::Completion;
use crate::checkpoint::Bounds;
use crate::engine::Engine;

/// How far the ceiling is raised at a time: a part of a file, so that it is raised seldom and little is made zero.
pub(crate) fn step(segment_bytes: u64) -> u64 {
    (segment_bytes / 16).max(512)
}

impl<C: Completion> Engine<C> {
    /// To be called before anything is written to the log that ends at `end`.
    pub(crate) fn admit(&self, end: u64) -> io::Result<()> {
        if end <= self.log.ceiling() {
            return Ok(());
        }
        self.raise_ceiling(end)
    }

    /// Raises the ceiling to a step beyond `end`, durably.
    pub(crate) fn raise_ceiling(&self, end: u64) -> io::Result<()> {
        let ceiling = end.saturating_add(step(self.config.segment_bytes));
        let mut checkpoint = self.checkpoint.lock();
        let bounds = checkpoint.bounds;
        if bounds.ceiling < ceiling {
            checkpoint.set(Bounds { ceiling, ..bounds });
            checkpoint.flush()?;
        }
        self.log.set_ceiling(ceiling.max(bounds.ceiling));
        Ok(())
    }

    /// Raises the ceiling when half a step is left. Not to be able to is no failure: the writer will try.
    pub(crate) fn raise_ceiling_ahead(&self, end: u64) {
        let half = step(self.config.segment_bytes) / 2;
        if end.saturating_add(half) > self.log.ceiling()
            && let Err(error) = self.raise_ceiling(end)
        {
            tracing::warn!(%error, "the ceiling of the log could not be raised ahead");
        }
    }
}

//! The engine's steps that keep the index: writing and merging its runs, and reading the log again for what is missing.

use std::ops::Range;

use rocket_protocol::message::RecordFacts;
use rocket_protocol::message::hash::IndexPrefix;
use rocket_protocol::{RecordError, RecordView};

use crate::api::Completion;
use crate::dispatch::keys_of;
use crate::engine::{Engine, Step};
use crate::index::Add;

/// Bytes of the log that one step reads again.
const READ_STEP: u64 = 16 << 20;

impl<C: Completion> Engine<C> {
    /// One piece of the index's upkeep: a full table is written, runs are merged, missing keys are read from the log.
    pub fn index_step(&self) -> Step {
        let Some(index) = &self.index else {
            return Step::Idle;
        };
        if self.has_failed() {
            return Step::Idle;
        }
        let min = self.log.min();
        let worked = index
            .step(self.positions().durable.0, min)
            .and_then(|worked| {
                Ok(worked || index.fill_step(min, |range, add| self.keys_in(range, add))?)
            });
        match worked {
            Ok(true) => Step::Worked,
            Ok(false) => Step::Idle,
            Err(error) => {
                self.derived(Err(error));
                Step::Idle
            }
        }
    }

    /// Writes a full table at once when keys come faster than the house is kept.
    pub(crate) fn relieve_index(&self) {
        let Some(index) = &self.index else {
            return;
        };
        if index.lock().is_crowded() {
            let written = index.relieve(self.positions().durable.0);
            self.derived(written);
        }
    }

    /// Hands over the keys of whole messages from the start of `range` on. Where it stopped.
    fn keys_in(&self, range: Range<u64>, add: &mut Add<'_>) -> u64 {
        let Some(file) = self.log.file_at(range.start) else {
            return range.start;
        };
        let end = range.end.min(file.published_end()).min(
            range
                .start
                .saturating_add(READ_STEP.max(2 * self.config.record_bytes_max() as u64)),
        );
        let len = usize::try_from(end.saturating_sub(range.start)).unwrap_or(0);
        let lease = file.segment.lease(range.start - file.start, len);
        let Some(bytes) = lease.ok().flatten() else {
            return range.start;
        };
        let mut at = range.start;
        while at < end {
            let done = usize::try_from(at - range.start).unwrap_or(usize::MAX);
            match RecordView::parse_trusting(bytes.get(done..).unwrap_or_default()) {
                Ok((view, len)) => {
                    let offset = view.physical_offset().0;
                    if !self.deleted.covers(view.topic(), offset) {
                        let facts = RecordFacts::read(view.properties());
                        let prefix = IndexPrefix::new(view.topic());
                        keys_of(&view, &facts, prefix, |hash| {
                            add(hash, offset, view.store_timestamp().0);
                        });
                    }
                    at += len as u64;
                }
                Err(RecordError::Blank { .. }) => return file.end().min(range.end),
                Err(_) => break,
            }
        }
        at
    }
}

//! The engine's steps that keep the index: writing and merging its runs, and reading the log again for what is missing.

use std::ops::Range;

use rocket_protocol::message::RecordFacts;
use rocket_protocol::message::hash::IndexPrefix;
use rocket_protocol::{RecordError, RecordView};

use crate::api::Completion;
use crate::commit_log::TailRule;
use crate::dispatch::keys_of;
use crate::engine::{Engine, Step};
use crate::index::Add;
use crate::room::Writer;
use crate::sound::Unsound;
use crate::tail;

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
                Ok(worked || index.fill_step(min, |range, add| self.keys_in(&range, add))?)
            });
        match worked {
            Ok(worked) => {
                self.no_room.clear(Writer::Index);
                if worked { Step::Worked } else { Step::Idle }
            }
            Err(error) => {
                self.derived(Writer::Index, Err(error));
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
            self.derived(Writer::Index, written);
        }
    }

    /// Hands over the keys of whole messages from the start of `range` on. Where it stopped: behind a message, or behind
    /// damage. `None` when the log cannot be read now.
    fn keys_in(&self, range: &Range<u64>, add: &mut Add<'_>) -> Option<u64> {
        let from = range.start;
        let Some(file) = self.log.file_at(from) else {
            return self.resume(from, range.end);
        };
        let last = range.end.min(file.published_end());
        let step = READ_STEP.max(2 * self.config.record_bytes_max() as u64);
        let mut end = last.min(from.saturating_add(step));
        let mut damage_end = None;
        loop {
            // Written by an earlier process, most likely: not to be looked at before it was compared.
            match self.log.is_sound(&file, from, len_of(from, end)) {
                Ok(()) => {}
                Err(Unsound::Damaged) => {
                    let damaged = self.log.damage().within(from, end)?;
                    end = damaged.from.0;
                    damage_end = Some(damaged.to.0);
                    if end <= from {
                        return self.behind(from, damaged.to.0 - 1, range.end);
                    }
                    continue;
                }
                Err(Unsound::Later) => return None,
            }
            self.heat
                .fetch_on(&file, range.end, from, len_of(from, end) as u64);
            let bytes = file
                .segment
                .lease(from - file.start, len_of(from, end))
                .ok()??;
            let (done, need) = self.add_keys(&bytes, add);
            return match need {
                Need::File => Some(file.end().min(range.end)),
                Need::Nothing => Some(from + done as u64),
                _ if done > 0 => Some(from + done as u64),
                // Larger than a step.
                Need::Bytes(need)
                    if damage_end.is_none() && (0..=len_of(from, last)).contains(&need) =>
                {
                    end = from + need as u64;
                    continue;
                }
                // It reaches into damage.
                Need::Bytes(_) => {
                    let at = damage_end.map_or(from, |end: u64| end - 1);
                    self.behind(from, at, range.end)
                }
                Need::Another => self.behind(from, from, range.end),
            };
        }
    }

    /// The same, and nothing from `from` on to there may be had from another copy.
    fn behind(&self, from: u64, at: u64, end: u64) -> Option<u64> {
        let next = self.resume(at, end)?;
        self.log.sound().held(from, next).is_none().then_some(next)
    }

    /// Where good records go on behind `at`.
    fn resume(&self, at: u64, end: u64) -> Option<u64> {
        let next = tail::resume(&self.log, at, end, TailRule::Ours);
        if let Err(error) = &next {
            tracing::warn!(%error, "the log behind damage cannot be read now");
        }
        next.ok()
    }

    /// Hands over the keys of the whole messages in `bytes`. How many bytes that were, and what is missing for more.
    fn add_keys(&self, bytes: &[u8], add: &mut Add<'_>) -> (usize, Need) {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            match RecordView::parse_trusting(rest) {
                Ok((view, len)) => {
                    let offset = view.physical_offset().0;
                    if !self.deleted.covers(view.topic(), offset) {
                        let facts = RecordFacts::read(view.properties());
                        let prefix = IndexPrefix::new(view.topic());
                        keys_of(&view, &facts, prefix, |hash| {
                            add(hash, offset, view.store_timestamp().0);
                        });
                    }
                    done += len;
                }
                Err(RecordError::Blank { .. }) => return (done, Need::File),
                Err(RecordError::Torn { need, .. }) => return (done, Need::Bytes(need)),
                Err(_) => return (done, Need::Another),
            }
        }
        (done, Need::Nothing)
    }
}

/// What is missing to go on behind some messages.
enum Need {
    Nothing,
    /// The next file.
    File,
    /// So many bytes of the next record.
    Bytes(usize),
    /// A record: there is none.
    Another,
}

fn len_of(from: u64, end: u64) -> usize {
    usize::try_from(end.saturating_sub(from)).unwrap_or(0)
}

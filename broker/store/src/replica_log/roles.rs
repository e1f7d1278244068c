//! Who is master no more leaves nobody waiting (§8.13), and who becomes it gives places behind all records that it has (§8.11).

use std::sync::Arc;

use rocket_protocol::{PhysicalOffset, QueueId, RecordView, TopicName, UnixMillis};

use crate::api::{Completion, Damaged, PutStatus};
use crate::appender::{Role, is_queued};
use crate::commit_log::TailRule;
use crate::engine::{Engine, Step};
use crate::error::OpenError;
use crate::mutant::{self, Mutant};
use crate::tail;
use crate::waiters::Waiter;

/// Whether a copy takes messages now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// It does.
    Open,
    /// Not yet, and why: what it must know is damaged, and another copy may have it, or cannot be read at the moment. Nothing is
    /// wrong with the disk for that; it is to be asked again.
    Later(String),
}

impl<C: Completion> Engine<C> {
    /// Writes everything that was taken. To be called when the policy refuses appends: none is under way then. Returns where
    /// the log ends.
    ///
    /// # Errors
    /// The store failed; the reason.
    pub fn quiesce(&self) -> Result<PhysicalOffset, Arc<str>> {
        let appender = self.written()?;
        Ok(PhysicalOffset(appender.end()))
    }

    /// No longer master: what was taken is written, nothing is taken any more, and everybody who still waits is told that
    /// the outcome is unknown. Returns where the log ends.
    ///
    /// # Errors
    /// The store failed, and everybody was told so; the reason.
    pub fn step_down(&self) -> Result<PhysicalOffset, Arc<str>> {
        let (end, waiting) = {
            let mut appender = self.written()?;
            let end = appender.end();
            if appender.role() == Role::Writes {
                let file_end = appender.file_end();
                appender.follow(end, file_end);
            }
            (end, self.waiters.lock().take_all())
        };
        answer_unknown(waiting);
        Ok(PhysicalOffset(end))
    }

    /// Takes messages from here on, if the policy does: dispatches what is visible, lets the next queue offsets follow all
    /// records of the log, visible or not, and the store time the latest of theirs. Where that is [`Opening::Later`], or fails,
    /// messages are not taken.
    ///
    /// # Errors
    /// The store failed, or is to be opened again.
    pub fn become_writer(&self) -> Result<Opening, OpenError> {
        while self.is_behind() && self.dispatch_step() == Step::Worked {}
        let mut appender = self.written().map_err(OpenError::Failed)?;
        if appender.role() == Role::Waits {
            return Err(OpenError::Failed("a cut waits for the next start".into()));
        }
        // Held so that what is put and what is read here join.
        let dispatcher = self.dispatcher.lock();
        let (from, end) = (dispatcher.position, appender.end());
        if let Some(later) = self.offsets_unknown(from, end) {
            return Ok(later);
        }
        self.queues.reset_next();
        if self.carried.is_pending() {
            self.carried.raise(&self.queues, end);
        }
        let mut time = dispatcher.time;
        if from < end && !mutant::is_on(Mutant::OffsetsOfVisible) {
            let followed = tail::follow(&self.log, from, end, TailRule::Ours, |offset, view, _| {
                time = time.max(view.store_timestamp().0);
                self.raise_next(offset, view);
                Ok(())
            });
            match followed {
                Ok(followed) => self.note_unknown(&followed.damaged),
                // What is damaged is no error there: it may be readable a moment later.
                Err(error @ OpenError::Io { .. }) => return Ok(Opening::Later(error.to_string())),
                Err(error) => return Err(error),
            }
            if let Some(later) = self.offsets_unknown(from, end) {
                return Ok(later);
            }
        }
        appender.lead(UnixMillis(time));
        Ok(Opening::Open)
    }

    /// Why no queue offsets may be given: those of the messages in damage come back with a repair.
    fn offsets_unknown(&self, from: u64, end: u64) -> Option<Opening> {
        let Damaged { file, from, to, .. } = self.log.sound().held(from, end)?;
        Some(Opening::Later(format!(
            "which queue offsets were given in {file} from {from} to {to} is not known: it is damaged"
        )))
    }

    /// What was no record, and where nothing is known to be damaged.
    fn note_unknown(&self, found: &[Damaged]) {
        for damaged in found {
            if self
                .log
                .damage()
                .within(damaged.from.0, damaged.to.0)
                .is_none()
            {
                self.log.damage().note(damaged);
            }
        }
    }

    fn raise_next(&self, offset: u64, view: &RecordView<'_>) {
        if let Some((topic, queue_id)) = self.queue_of(offset, view) {
            let queue = self.queues.get_or_make(&topic, queue_id);
            queue.raise_next(view.queue_offset().0.saturating_add(1));
        }
    }

    /// The queue in which the record at `offset` has a place.
    pub(crate) fn queue_of(
        &self,
        offset: u64,
        view: &RecordView<'_>,
    ) -> Option<(TopicName, QueueId)> {
        if !is_queued(view.sys_flag()) || self.deleted.covers(view.topic(), offset) {
            return None;
        }
        let topic = TopicName::parse(view.topic()).ok()?;
        Some((topic, view.queue_id()))
    }
}

/// To be called with no lock held.
pub(crate) fn answer_unknown<C: Completion>(waiting: Vec<Waiter<C>>) {
    for waiter in waiting {
        waiter.answer(PutStatus::FlushSlaveTimeout);
    }
}

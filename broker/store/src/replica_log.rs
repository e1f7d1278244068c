//! The log as replication needs it (replication protocol §8.6, §8.11, §8.13): a master hands out whole records and, when it
//! is none any more, leaves nobody waiting; a slave appends what it was handed, byte for byte at the same offsets; a slave
//! that becomes master gives places to messages behind all records that it has.
//!
//! What must stay true:
//! - What is copied is whole records of one file, each at its own offset; anything else is refused, and nothing of it is
//!   written. Bodies are not looked at: links have their checksum, and recovery has the records'.
//! - Files end where the master's do, so that files and their blocks of checksums are the same everywhere.
//! - While records are copied nobody gets a place here: [`Engine::become_writer`] first follows all there is (D1).
//! - Bytes that are not visible are read by `pread`, never lent nor looked at through the map: a cut may take them back.

use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::Bytes;
use rocket_mapped_file::Fill;
use rocket_protocol::message::record::BLANK_HEAD_BYTES;
use rocket_protocol::{PhysicalOffset, QueueId, RecordError, RecordView, TopicName, UnixMillis};
use thiserror::Error;

use crate::api::{Completion, Damaged, PutStatus};
use crate::append::page_rest;
use crate::appender::{Role, is_queued};
use crate::checkpoint;
use crate::commit_log::{FOLDER, Fit, LogFile, TailRule};
use crate::cut::CutError;
use crate::engine::{Engine, Step};
use crate::error::{OpenError, is_no_room};
use crate::mutant::{self, Mutant};
use crate::sound::Unsound;
use crate::tail;
use crate::waiters::Waiter;

/// The largest log file: a filler's size is an i32.
const FILE_BYTES_MAX: u64 = 1 << 31;
/// What a page holds behind the end of the log.
const ZEROS: [u8; 4096] = [0; 4096];

/// Why a copy was not appended. Nothing of it was written, but where the store failed.
#[derive(Debug, Error)]
pub enum CopyError {
    /// It does not go on where the log ends.
    #[error("the log ends at {end}")]
    Elsewhere {
        /// Where it ends.
        end: PhysicalOffset,
    },
    /// It is not whole records of one file: the link is to be closed.
    #[error("what was copied is no record at {at}: {reason}")]
    NotRecords {
        /// The first byte that is none of a good record.
        at: PhysicalOffset,
        /// What is wrong there.
        reason: String,
    },
    /// The file that the log ends in has another end than the master's: this copy has to be made anew.
    #[error("the log's file ends at {end} here")]
    OtherFile {
        /// Where it ends.
        end: PhysicalOffset,
    },
    /// No file could be made now: to be tried again.
    #[error("no room for another log file: {0}")]
    NoRoom(#[source] io::Error),
    /// A cut waits for the next start.
    #[error("the store is to be closed and opened again")]
    NeedsRestart,
    /// A write or flush failed, now or earlier: final.
    #[error("the store failed: {0}")]
    Failed(Arc<str>),
}

/// Whole records of one file, in log order; or the filler at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Records {
    /// As they lie in the log.
    pub bytes: Bytes,
    /// One behind the last one.
    pub to: PhysicalOffset,
    /// Where their file ends.
    pub file_end: PhysicalOffset,
}

/// Why no records are handed out.
#[derive(Debug, Error)]
pub enum RecordsError {
    /// There is none between the offsets.
    #[error("no record begins there and ends before the limit")]
    Nothing,
    /// Retention took them.
    #[error("the log begins at {min}")]
    Gone {
        /// Where it begins.
        min: PhysicalOffset,
    },
    /// They are damaged here, and not handed out.
    #[error("{} is damaged from {} to {}: {}", .0.file, .0.from, .0.to, .0.reason)]
    Damaged(Damaged),
    /// They cannot be read now, for a reason that may pass.
    #[error("the log cannot be read now: {0}")]
    Later(String),
}

/// Whether a copy takes messages now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// It does.
    Open,
    /// Not yet, and why: what it must know is damaged, and another copy may have it, or cannot be read at the moment. Nothing is
    /// wrong with the disk for that; it is to be asked again.
    Later(String),
}

/// How a copy was not written.
enum NotWritten {
    Refused(CopyError),
    /// The first file of an empty log has another length.
    Refit,
    Failed(String, io::Error),
}

impl From<CopyError> for NotWritten {
    fn from(error: CopyError) -> Self {
        Self::Refused(error)
    }
}

impl<C: Completion> Engine<C> {
    /// Appends what a master has at `at`, the end of the log: whole records, or the filler, of a file that ends at
    /// `file_end` there. Returns where the log ends then. Gives no queue offsets and answers nobody. One caller at a time.
    ///
    /// # Errors
    /// See [`CopyError`].
    pub fn append_copied(
        &self,
        at: PhysicalOffset,
        file_end: PhysicalOffset,
        bytes: &[u8],
    ) -> Result<PhysicalOffset, CopyError> {
        let end = whole_records(at.0, file_end.0, bytes)?;
        let mut written = self.write_copied(at.0, file_end.0, end, bytes);
        if let Err(NotWritten::Refit) = written {
            self.refit(at.0, file_end.0)?;
            written = self.write_copied(at.0, file_end.0, end, bytes);
        }
        match written {
            Ok(()) => {
                self.settle();
                Ok(PhysicalOffset(end))
            }
            Err(NotWritten::Refused(error)) => Err(error),
            Err(NotWritten::Refit) => Err(CopyError::OtherFile { end: at }),
            Err(NotWritten::Failed(path, error)) => {
                self.fail(&path, &error);
                Err(CopyError::Failed(self.reason_of(&error)))
            }
        }
    }

    fn refit(&self, at: u64, file_end: u64) -> Result<(), CopyError> {
        self.may_make_file().map_err(CopyError::NoRoom)?;
        self.refit_first(at, file_end - at)
            .map_err(|error| match error {
                CutError::NotThere { end, .. } => CopyError::Elsewhere { end },
                CutError::Aside(error) => CopyError::NoRoom(error),
                CutError::NeedsRestart => CopyError::NeedsRestart,
                CutError::Failed(reason) => CopyError::Failed(reason),
            })
    }

    fn write_copied(
        &self,
        at: u64,
        file_end: u64,
        end: u64,
        bytes: &[u8],
    ) -> Result<(), NotWritten> {
        let mut appender = self.appender.lock();
        if let Some(reason) = self.failed() {
            return Err(CopyError::Failed(reason).into());
        }
        if appender.role() == Role::Waits {
            return Err(CopyError::NeedsRestart.into());
        }
        let appended = self.progress.lock().local().appended.0;
        if (at, at) != (appender.end(), appended) {
            let end = PhysicalOffset(appender.end());
            return Err(CopyError::Elsewhere { end }.into());
        }
        let fit = self.log.fit(at, file_end, &|| self.may_make_file());
        // Also where one was removed and no other could be made.
        let ends_now = self.log.file_at(at).map_or(at, |file| file.end());
        appender.follow(at, ends_now);
        let file = match fit {
            Ok(Fit::File(file)) => file,
            Ok(Fit::First) => return Err(NotWritten::Refit),
            Ok(Fit::Other(end)) => {
                let end = PhysicalOffset(end);
                return Err(CopyError::OtherFile { end }.into());
            }
            Err(error) if is_no_room(&error) => return Err(CopyError::NoRoom(error).into()),
            Err(error) => return Err(NotWritten::Failed(FOLDER.to_owned(), error)),
        };
        match file.segment.ready_to_write() {
            Err(error) if is_no_room(&error) => return Err(CopyError::NoRoom(error).into()),
            Err(error) => return Err(NotWritten::Failed(file.path(), error)),
            Ok(()) => {}
        }
        self.admit(end)
            .map_err(|error| NotWritten::Failed(checkpoint::PATH.to_owned(), error))?;
        let rest = match self.config.fill() {
            // Whole pages, so that none of them is read first. Behind the end there are zeros.
            Fill::Zeros => page_rest(end).min(usize::try_from(file_end - end).unwrap_or(0)),
            Fill::Reserve | Fill::Sparse => 0,
        };
        let rest = ZEROS.get(..rest).unwrap_or_default();
        file.segment
            .write_at(at - file.start, &[IoSlice::new(bytes), IoSlice::new(rest)])
            .map_err(|error| NotWritten::Failed(file.path(), error))?;
        file.segment.publish(end - file.start);
        appender.follow(end, file_end);
        self.progress.lock().appended(appender.placed());
        Ok(())
    }

    /// Whole records from `from` on, not beyond `to`, which lies between records: about `bytes_target` bytes of one file,
    /// at least one record. The filler at the end of a file comes alone. What is visible is lent, the rest read into memory.
    ///
    /// # Errors
    /// See [`RecordsError`].
    pub fn read_records(
        &self,
        from: PhysicalOffset,
        to: PhysicalOffset,
        bytes_target: usize,
    ) -> Result<Records, RecordsError> {
        let appended = self.progress.lock().local().appended;
        let (from, to) = (from.0, to.min(appended).0);
        let min = self.log.min();
        if from < min {
            let min = PhysicalOffset(min);
            return Err(RecordsError::Gone { min });
        }
        if from >= to {
            return Err(RecordsError::Nothing);
        }
        let Some(file) = self.log.file_at(from) else {
            let missing = self.log.damage().within(from, to);
            return Err(missing.map_or(RecordsError::Nothing, RecordsError::Damaged));
        };
        let limit = to.min(file.end()) - from;
        let mut wanted = (bytes_target.max(BLANK_HEAD_BYTES) as u64).min(limit);
        loop {
            let sound = self.sound_len(&file, from, wanted)?;
            let bytes = self.records_in(&file, from, sound)?;
            let (len, why) = whole_prefix(&bytes);
            if len > 0 {
                return Ok(Records {
                    bytes: bytes.slice(..len),
                    to: PhysicalOffset(from + len as u64),
                    file_end: PhysicalOffset(file.end()),
                });
            }
            let need = match why {
                Some(RecordError::Blank { len }) if from + len as u64 == file.end() => {
                    return self.filler(&file, from, limit);
                }
                Some(RecordError::Torn { need, .. }) => need as u64,
                _ => 0,
            };
            if need <= sound || need > limit {
                return Err(RecordsError::Nothing);
            }
            if sound < wanted {
                // It reaches into damage.
                let damaged = self.log.damage().within(from, from + need);
                return Err(damaged.map_or(RecordsError::Nothing, RecordsError::Damaged));
            }
            wanted = need;
        }
    }

    /// How many of `len` bytes at `from` may be handed out; not 0.
    fn sound_len(&self, file: &LogFile, from: u64, len: u64) -> Result<u64, RecordsError> {
        let mut len = len;
        loop {
            let bytes = usize::try_from(len).unwrap_or(usize::MAX);
            match self.log.is_sound(file, from, bytes) {
                Ok(()) => return Ok(len),
                Err(Unsound::Later) => {
                    return Err(RecordsError::Later("a block cannot be compared".to_owned()));
                }
                Err(Unsound::Damaged) => match self.log.damage().within(from, from + len) {
                    Some(damaged) if damaged.from.0 > from => len = damaged.from.0 - from,
                    Some(damaged) => return Err(RecordsError::Damaged(damaged)),
                    // It was healed meanwhile.
                    None => {}
                },
            }
        }
    }

    fn records_in(&self, file: &LogFile, from: u64, len: u64) -> Result<Bytes, RecordsError> {
        let (at, bytes) = (
            from - file.start,
            usize::try_from(len).unwrap_or(usize::MAX),
        );
        if from + len > self.visible() {
            return read_plain(file, at, bytes);
        }
        match file.segment.lease(at, bytes) {
            Ok(Some(bytes)) => Ok(bytes),
            // Of a filler only the head is published.
            Ok(None) => read_plain(file, at, bytes),
            Err(error) => Err(RecordsError::Later(error.to_string())),
        }
    }

    fn filler(&self, file: &LogFile, from: u64, limit: u64) -> Result<Records, RecordsError> {
        let len = file.end() - from;
        if len > limit {
            return Err(RecordsError::Nothing);
        }
        if self.sound_len(file, from, len)? < len {
            let damaged = self.log.damage().within(from, file.end());
            return Err(damaged.map_or(RecordsError::Nothing, RecordsError::Damaged));
        }
        let bytes = usize::try_from(len).unwrap_or(usize::MAX);
        Ok(Records {
            bytes: read_plain(file, from - file.start, bytes)?,
            to: PhysicalOffset(file.end()),
            file_end: PhysicalOffset(file.end()),
        })
    }

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

/// Where `bytes` end in the log, if they are whole records, or a filler, that belong at `at` in a file that ends at
/// `file_end`.
fn whole_records(at: u64, file_end: u64, bytes: &[u8]) -> Result<u64, CopyError> {
    let refuse = |at: u64, reason: &str| {
        Err(CopyError::NotRecords {
            at: PhysicalOffset(at),
            reason: reason.to_owned(),
        })
    };
    if bytes.is_empty() {
        return refuse(at, "there are no bytes");
    }
    let end = at.checked_add(bytes.len() as u64);
    let Some(end) = end.filter(|end| *end <= file_end && file_end - at <= FILE_BYTES_MAX) else {
        return refuse(at, "they do not fit into one file");
    };
    // So that a filler fits.
    if (1..BLANK_HEAD_BYTES as u64).contains(&(file_end - end)) {
        return refuse(end, "too few bytes are left of the file");
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        let here = end - rest.len() as u64;
        let len = match RecordView::parse_trusting(rest) {
            Ok((view, len)) if view.physical_offset().0 == here => len,
            Ok(_) => return refuse(here, "the record belongs elsewhere"),
            Err(RecordError::Blank { len }) if len == rest.len() && end == file_end => len,
            Err(RecordError::Blank { .. }) => {
                return refuse(here, "the filler does not end with the file");
            }
            Err(error) => return refuse(here, &error.to_string()),
        };
        rest = rest.get(len..).unwrap_or_default();
    }
    Ok(end)
}

/// How many bytes are whole records, and what follows them.
fn whole_prefix(bytes: &[u8]) -> (usize, Option<RecordError>) {
    let mut done = 0;
    while done < bytes.len() {
        match RecordView::parse_trusting(bytes.get(done..).unwrap_or_default()) {
            Ok((_, len)) => done += len,
            Err(error) => return (done, Some(error)),
        }
    }
    (done, None)
}

pub(crate) fn read_plain(file: &LogFile, at: u64, len: usize) -> Result<Bytes, RecordsError> {
    let mut bytes = vec![0; len];
    file.segment
        .read_at(at, &mut bytes)
        .map_err(|error| RecordsError::Later(error.to_string()))?;
    Ok(bytes.into())
}

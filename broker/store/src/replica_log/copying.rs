//! A slave appends what it was handed, byte for byte at the same offsets (§8.6).

use std::io::{self, IoSlice};
use std::sync::Arc;

use rocket_mapped_file::Fill;
use rocket_protocol::message::record::BLANK_HEAD_BYTES;
use rocket_protocol::{PhysicalOffset, RecordError, RecordView};
use thiserror::Error;

use crate::api::Completion;
use crate::append::page_rest;
use crate::appender::Role;
use crate::checkpoint;
use crate::commit_log::{FOLDER, Fit};
use crate::cut::CutError;
use crate::engine::Engine;
use crate::error::is_no_room;
use crate::room::Writer;

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
        self.may_make_file()
            .map_err(|error| self.refused_copy(error))?;
        self.refit_first(at, file_end - at)
            .map_err(|error| match error {
                CutError::NotThere { end, .. } => CopyError::Elsewhere { end },
                CutError::Aside(error) | CutError::NoRoom { source: error, .. } => {
                    CopyError::NoRoom(error)
                }
                CutError::NeedsRestart => CopyError::NeedsRestart,
                CutError::Failed(reason) => CopyError::Failed(reason),
            })
    }

    /// A file could not be made for a copy. That is noted as where it was to be made for a message: the hard limit of retention
    /// is reached, and the next file is tried ahead.
    fn refused_copy(&self, error: io::Error) -> CopyError {
        if is_no_room(&error) && self.no_room.set(Writer::Log) {
            tracing::warn!(%error, "no room for another log file; nothing is copied until there is");
        }
        CopyError::NoRoom(error)
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
            Err(error) if is_no_room(&error) => return Err(self.refused_copy(error).into()),
            Err(error) => return Err(NotWritten::Failed(FOLDER.to_owned(), error)),
        };
        self.no_room.clear(Writer::Log);
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

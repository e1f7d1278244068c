//! A master hands out whole records, and its bytes only as long as they are sound (§8.6).

use std::sync::atomic::Ordering;

use bytes::Bytes;
use rocket_protocol::message::record::BLANK_HEAD_BYTES;
use rocket_protocol::{PhysicalOffset, RecordError, RecordView};
use thiserror::Error;

use crate::api::{Completion, Damaged};
use crate::commit_log::LogFile;
use crate::engine::Engine;
use crate::sound::Unsound;

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

impl<C: Completion> Engine<C> {
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
        self.heat
            .fetch_on(file, self.dispatched.load(Ordering::Acquire), from, len);
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

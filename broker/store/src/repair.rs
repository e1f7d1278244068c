//! Damage that is made good with the bytes of another copy of the log (replication protocol §8.15).
//!
//! ```text
//! bytes of another copy ─▶ are they what was written here? ─▶ written over, flushed ─▶ checksum ─▶ the note of the damage goes
//! ```
//!
//! What must stay true:
//! - Only what is known to be damaged is written over, in whole blocks.
//! - What comes is held to this copy's own checksum of the block. Where there is none, to what of the block is sound here and
//!   to the records that begin in the damage.
//! - The note goes last: whatever ends it before leaves damage that is known, and that the next start knows too.
//! - A write or flush that fails here is as final as any other.

use std::io::ErrorKind::WouldBlock;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use rocket_protocol::{PhysicalOffset, RecordError, RecordView};
use thiserror::Error;

use crate::api::{Completion, Damaged};
use crate::checksums::is_damage;
use crate::commit_log::LogFile;
use crate::engine::Engine;
use crate::error::is_too_many_open;
use crate::mutant::{self, Mutant};
use crate::replica_log::{RecordsError, read_plain};
use crate::sound::{Through, Unsound};

/// A part of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Its first byte.
    pub from: PhysicalOffset,
    /// One behind its last byte.
    pub to: PhysicalOffset,
}

/// Why nothing was repaired.
#[derive(Debug, Error)]
pub enum RepairError {
    /// It is not whole blocks of one file, below the durable end. Of a file that is missing nothing can be repaired.
    #[error("no blocks of one file lie from {from} to {to}")]
    NotThere {
        /// The first byte of what came.
        from: PhysicalOffset,
        /// One behind its last byte.
        to: PhysicalOffset,
    },
    /// It is not what was written here: of another log, or damaged too.
    #[error("what came for the log at {at} is not what was written here: {reason}")]
    Otherwise {
        /// The first place that shows it, or its block.
        at: PhysicalOffset,
        /// What is wrong with it.
        reason: String,
    },
    /// Somebody still reads there, or what lies around it cannot be read now: to be tried again.
    #[error("the log cannot be written at {at} now: {reason}")]
    Later {
        /// The first byte of what came.
        at: PhysicalOffset,
        /// Why.
        reason: String,
    },
    /// A write or flush failed, now or earlier: final.
    #[error("the store failed: {0}")]
    Failed(Arc<str>),
}

/// See [`Engine::damaged_spans`] and [`Engine::missing_spans`].
#[derive(Default)]
struct Wanted {
    spans: Vec<Span>,
    missing: Vec<Span>,
}

impl<C: Completion> Engine<C> {
    /// What is to be had from another copy, in log order: the blocks in which damage lies, each part within one file, and not
    /// beyond what is durable.
    pub fn damaged_spans(&self) -> Vec<Span> {
        self.wanted().spans
    }

    /// What of the damage nothing can be written over, in log order: its file is missing or too short.
    pub fn missing_spans(&self) -> Vec<Span> {
        self.wanted().missing
    }

    fn wanted(&self) -> Wanted {
        let durable = self.positions().durable.0;
        let mut wanted = Wanted::default();
        for damaged in self.log.damage().all() {
            let mut at = damaged.from.0.max(self.log.min());
            while at < damaged.to.0 {
                let (parts, from, to) = if let Some(file) = self.log.file_at(at) {
                    let (from, to) = blocks_around(&file, at, damaged.to.0, durable);
                    (&mut wanted.spans, from, to)
                } else {
                    let to = self
                        .next_file(at)
                        .map_or(damaged.to.0, |next| next.min(damaged.to.0));
                    (&mut wanted.missing, at, to)
                };
                at = to.max(at + 1);
                match parts.last_mut() {
                    Some(last) if from < last.to.0 => last.to = last.to.max(PhysicalOffset(to)),
                    _ => parts.push(Span {
                        from: PhysicalOffset(from),
                        to: PhysicalOffset(to),
                    }),
                }
            }
        }
        wanted
    }

    /// Where the first file behind `at` begins.
    fn next_file(&self, at: u64) -> Option<u64> {
        let files = self.log.files();
        let mut starts = files.iter().map(|file| file.start);
        starts.find(|&start| start > at)
    }

    /// Another number whenever something was found damaged, or sound again.
    pub fn damage_changes(&self) -> u64 {
        self.log.damage().changes()
    }

    /// From here on readers who wait for damage ([`crate::OnDamage::Hold`]) pass over what lies within `given_up`, of which no
    /// other copy has all, and for nothing else.
    pub fn pass_over(&self, given_up: &[Span]) {
        self.log.sound().pass_over(given_up);
    }

    /// `len` bytes of one file at `at`, for a copy whose own are damaged there. Blocks that have a checksum are compared with it
    /// now, whatever was found before.
    ///
    /// # Errors
    /// See [`RecordsError`].
    pub fn read_range(&self, at: PhysicalOffset, len: usize) -> Result<Bytes, RecordsError> {
        // No cut meanwhile: of a block that is half cut the checksum is not right.
        let _alone = self.alone.read_recursive();
        let appended = self.progress.lock().local().appended.0;
        let min = self.log.min();
        if at.0 < min {
            let min = PhysicalOffset(min);
            return Err(RecordsError::Gone { min });
        }
        let end = at.0.saturating_add(len as u64);
        let file = self.log.file_at(at.0);
        let file = file.filter(|file| len > 0 && end <= file.end().min(appended));
        let file = file.ok_or(RecordsError::Nothing)?;
        let (first, last) = blocks_of(&file, at.0, end);
        let sealed = self.log.sound().sealed();
        let compared = (first..=last)
            .filter(|block| file.start + file.sums.range(*block).1 <= sealed)
            .try_for_each(|block| {
                let sound = self.log.sound();
                sound.compare(&file, block, Through::Cache).map(drop)
            });
        match compared.and_then(|()| self.log.is_sound(&file, at.0, len)) {
            Ok(()) => read_plain(&file, at.0 - file.start, len),
            Err(Unsound::Later) => Err(RecordsError::Later("a block cannot be compared".into())),
            Err(Unsound::Damaged) => {
                let damaged = self.log.damage().within(at.0, end);
                Err(damaged.map_or(RecordsError::Nothing, RecordsError::Damaged))
            }
        }
    }

    /// Writes `bytes`, which another copy has at `at`, over what is damaged here: blocks from the first to the last byte, or to the
    /// durable end in the last one. Durable on return, and served from then on. Nothing is done where nothing is damaged.
    ///
    /// # Errors
    /// See [`RepairError`].
    pub fn repair(&self, at: PhysicalOffset, bytes: &[u8]) -> Result<(), RepairError> {
        // No cut meanwhile, and no retention: a file without a name would fail the write, for good.
        let _alone = self.alone.read_recursive();
        let _repairing = self.repairing.lock();
        if let Some(reason) = self.failed() {
            return Err(RepairError::Failed(reason));
        }
        let (from, to) = (at.0, at.0.saturating_add(bytes.len() as u64));
        let durable = self.positions().durable.0;
        let file = self.log.file_at(from);
        let file = file.filter(|file| from < to && to <= file.end().min(durable));
        let begins = |file: &Arc<LogFile>| {
            let (first, _) = blocks_of(file, from, to);
            file.start + file.sums.range(first).0 == from
        };
        let not_there = RepairError::NotThere {
            from: at,
            to: PhysicalOffset(to),
        };
        let file = file.filter(begins).ok_or(not_there)?;
        let (_, last) = blocks_of(&file, from, to);
        let end = file.start + file.sums.range(last).1;
        if to < end && end <= durable {
            // It was asked for up to the durable end.
            let reason = "its last block has grown since".to_owned();
            return Err(RepairError::Later { at, reason });
        }
        if self.log.damage().within(from, to).is_none() {
            return Ok(());
        }
        if !mutant::is_on(Mutant::RepairUnchecked) {
            self.vouch(&file, from, bytes)?;
        }
        self.events.flush_begins();
        match file.segment.replace_at(from - file.start, bytes) {
            Ok(()) => self.events.flush_succeeded(),
            // The kernel was not asked to write, or has written.
            Err(error) if is_too_many_open(&error) || error.kind() == WouldBlock => {
                self.events.flush_succeeded();
                // What is sound in these blocks is not hidden until the next try.
                if let Err(error) = file.segment.show_all() {
                    tracing::warn!(file = %file.path(), %error, "what is sound beside damage cannot be shown yet");
                }
                let reason = match error.kind() {
                    WouldBlock => "somebody still reads there".to_owned(),
                    _ => error.to_string(),
                };
                return Err(RepairError::Later { at, reason });
            }
            Err(error) => {
                self.fail(&file.path(), &error);
                return Err(RepairError::Failed(self.reason_of(&error)));
            }
        }
        self.sum_again(&file, from, to)?;
        self.log.damage().heal(from, to);
        let repaired = to - from;
        self.counters
            .repaired_bytes
            .fetch_add(repaired, Ordering::Relaxed);
        tracing::info!(file = %file.path(), %at, bytes = repaired, "damage was repaired from another copy");
        Ok(())
    }

    /// Whether `bytes` are what was written at `from` of the log.
    fn vouch(&self, file: &LogFile, from: u64, bytes: &[u8]) -> Result<(), RepairError> {
        let to = from + bytes.len() as u64;
        let mut damage = self.log.damage().all();
        damage.retain(|damaged| damaged.from.0 < to && from < damaged.to.0);
        let (first, last) = blocks_of(file, from, to);
        let (mut rest, mut unknown) = (bytes, Vec::new());
        for block in first..=last {
            let (begin, end) = file.sums.range(block);
            let len = usize::try_from(end - begin).unwrap_or(usize::MAX);
            let (piece, behind) = rest.split_at(len.min(rest.len()));
            rest = behind;
            let at = file.start + begin;
            let known = file.sums.known(block).map_err(|error| RepairError::Later {
                at: PhysicalOffset(at),
                reason: error.to_string(),
            })?;
            match known.filter(|_| piece.len() == len) {
                Some(known) if known == crc32c::crc32c(piece) => {}
                Some(_) => return Err(otherwise(at, "its checksum is another one")),
                None => {
                    unknown.push((at, at + piece.len() as u64));
                    is_same_around(file, &damage, (at, piece))?;
                }
            }
        }
        let is_unknown = |damaged: &&Damaged| {
            let mut blocks = unknown.iter();
            blocks.any(|(begin, end)| damaged.from.0 < *end && *begin < damaged.to.0)
        };
        damage
            .iter()
            .filter(is_unknown)
            .try_for_each(|damaged| holds_records(file, damaged, (from, bytes)))
    }

    /// Blocks that are new on the disk get the checksums that they had none of.
    fn sum_again(&self, file: &Arc<LogFile>, from: u64, to: u64) -> Result<(), RepairError> {
        let (first, last) = blocks_of(file, from, to);
        let sealed = self.log.sound().sealed();
        let mut has_entered = false;
        for block in first..=last {
            if file.start + file.sums.range(block).1 > to.min(sealed) {
                continue;
            }
            let at = PhysicalOffset(file.start + file.sums.range(block).0);
            match self.log.sound().compare(file, block, Through::Cache) {
                Ok(None) => {}
                Ok(Some(sum)) => has_entered |= Self::enter(file, block, &[sum]),
                Err(Unsound::Damaged) => {
                    return Err(otherwise(at.0, "it reads otherwise than it was written"));
                }
                Err(Unsound::Later) => {
                    let reason = "it cannot be read again".to_owned();
                    return Err(RepairError::Later { at, reason });
                }
            }
        }
        if has_entered && let Err(error) = file.sums.flush() {
            tracing::warn!(file = %file.path(), %error, "checksums were not flushed");
        }
        Ok(())
    }
}

/// The blocks of `file`, which holds `at`, that meet `at..to`.
fn blocks_around(file: &LogFile, at: u64, to: u64, durable: u64) -> (u64, u64) {
    let end = to.min(file.end());
    let (first, last) = blocks_of(file, at, end);
    let from = file.start + file.sums.range(first).0;
    let to = file.start + file.sums.range(last).1;
    (from, to.min(durable.max(end)))
}

fn otherwise(at: u64, reason: &str) -> RepairError {
    RepairError::Otherwise {
        at: PhysicalOffset(at),
        reason: reason.to_owned(),
    }
}

/// Numbers of the first and the last block of `file` that meet `from..to`, which is not empty.
fn blocks_of(file: &LogFile, from: u64, to: u64) -> (u64, u64) {
    let block_of = |offset: u64| file.sums.block_of(offset - file.start);
    (block_of(from), block_of(to - 1))
}

/// Whether what of a piece that belongs at `at` lies outside of the damage, which is in log order, is the same here.
fn is_same_around(
    file: &LogFile,
    damage: &[Damaged],
    (at, piece): (u64, &[u8]),
) -> Result<(), RepairError> {
    let end = at + piece.len() as u64;
    let mut sound_from = at;
    for damaged in damage {
        let sound_to = damaged.from.0.min(end);
        is_same(file, (sound_from, sound_to), (at, piece))?;
        sound_from = sound_from.max(damaged.to.0);
    }
    is_same(file, (sound_from, end), (at, piece))
}

/// Whether `piece`, which belongs at `at`, has what lies in `file` at `from..to`.
fn is_same(
    file: &LogFile,
    (from, to): (u64, u64),
    (at, piece): (u64, &[u8]),
) -> Result<(), RepairError> {
    if from >= to {
        return Ok(());
    }
    let index = |offset: u64| usize::try_from(offset.saturating_sub(at)).unwrap_or(usize::MAX);
    let theirs = piece.get(index(from)..index(to)).unwrap_or_default();
    let mut ours = vec![0; theirs.len()];
    match file.segment.read_at(from - file.start, &mut ours) {
        Ok(()) if ours == theirs => Ok(()),
        Ok(()) => Err(otherwise(from, "what is sound here is another")),
        Err(error) if is_damage(&error) => {
            Err(otherwise(from, "what is around it cannot be read here"))
        }
        Err(error) => Err(RepairError::Later {
            at: PhysicalOffset(from),
            reason: error.to_string(),
        }),
    }
}

/// Whether records begin where the damage does, and follow one another to its end, as far as the piece goes that belongs at `at`.
/// Of damage that begins elsewhere (a block that cannot be read, or the rest of a longer one) nothing here says what it was.
fn holds_records(
    file: &LogFile,
    damaged: &Damaged,
    (at, piece): (u64, &[u8]),
) -> Result<(), RepairError> {
    let from = damaged.from.0;
    if from < at {
        return Err(otherwise(at, "nothing here says what was written there"));
    }
    let end = at + piece.len() as u64;
    let (_, last) = blocks_of(file, at, end);
    // A record may end in the next block, as the damage does or did, and not behind the end of the log.
    let goes_on = end <= damaged.to.0 && file.start + file.sums.range(last).1 == end;
    let mut here = from;
    while here < damaged.to.0.min(end) {
        let index = usize::try_from(here - at).unwrap_or(usize::MAX);
        let rest = piece.get(index..).unwrap_or_default();
        match RecordView::parse(rest) {
            Ok((view, len)) if view.physical_offset().0 == here => here += len as u64,
            Ok(_) => return Err(otherwise(here, "the record belongs elsewhere")),
            Err(RecordError::Torn { .. }) if goes_on => return Ok(()),
            Err(RecordError::Blank { len }) if here + len as u64 == file.end() => return Ok(()),
            Err(RecordError::Blank { .. }) => {
                return Err(otherwise(here, "the filler does not end with the file"));
            }
            Err(error) => return Err(otherwise(here, &error.to_string())),
        }
    }
    if !goes_on && here != damaged.to.0 {
        return Err(otherwise(here, "no record ends where the damage does"));
    }
    Ok(())
}

//! What the store remembers of its positions: lower bounds, which may be lost, and one upper bound, which may not.
//!
//! ```text
//! rocket/checkpoint, two slots of 4096 bytes, the newer good one counts; big-endian
//!   0 magic "RKC1" · 4 version u32 = 2 · 8 sequence u64 · 16 confirm u64 · 24 flushed floor u64
//!  32 dispatched u64 · 40 store time at dispatched i64 · 48 ceiling u64 · 56 sealed u64 · 64 scrubbed u64
//!  72 CRC32 of bytes 0..72
//! version 1 ends with the CRC32 at 48; a file of 1024 bytes has slots of 512 bytes, and is made anew when it is opened
//! ```
//!
//! Each slot is a page and a sector of its own, of the largest that disks have: what takes one of them leaves the other.
//!
//! A lower bound stays true when it is old, so whoever keeps house writes a slot ten times a second without a flush: a
//! killed process leaves a floor that is close. It is flushed about once a second.
//!
//! The ceiling is the upper bound. It is flushed before anything is written beyond it ([`crate::ceiling`]), and must not be
//! lost to what is written later without a flush. So **the slot that was flushed last is never written**: writes go to the
//! other one, again and again, until a flush makes that the last flushed one. A loss of power then leaves the flushed slot
//! as it was, and the other as it was, as any write since made it, or torn, which its checksum tells; all that is newer
//! than the flushed slot has a ceiling at least as high. That needs of the device only that a write cut short harms no other
//! 4096 bytes than those that it changes. It does not need that a sector is written all or nothing, and could not have it:
//! the kernel may be sending the page to the device while a slot in it is being written.
//!
//! A flush that failed tells nothing of what is on the disk, and a second one would succeed without doing anything. The slot
//! is written anew before it is flushed again; nothing else depends on the first try.
//!
//! Beside it the file `checkpoint` that Apache's broker reads when it recovers (`StoreCheckpoint`): five i64 in a page.

use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::BufMut as _;
use rocket_mapped_file::{Directory, Segment, SegmentOptions};

use crate::checksums::is_damage;

#[cfg(test)]
mod tests;

/// Our folder beside Apache's.
pub(crate) const FOLDER: &str = "rocket";
pub(crate) const PATH: &str = "rocket/checkpoint";
const APACHE_PATH: &str = "checkpoint";
const APACHE_BYTES: usize = 4096;
const SLOT: usize = 4096;
const SLOT_BYTES: u64 = SLOT as u64;
/// Bytes of a slot in the files of earlier versions.
const SLOT_BYTES_OLD: u64 = 512;
const MAGIC: [u8; 4] = *b"RKC1";
/// Bytes before the checksum, by version.
const CRC_AT: [(u32, usize); 2] = [(1, 48), (VERSION, SUMMED)];
const SUMMED: usize = 72;
const VERSION: u32 = 2;
/// Apache's file is written when the time that it secures has moved by so much.
const APACHE_STEP_MS: i64 = 10_000;

/// Lower bounds of positions, and one upper bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Committed at least to here.
    pub(crate) confirm: u64,
    /// Flushed at least to here.
    pub(crate) floor: u64,
    /// Queues and index hold, flushed, everything to here.
    pub(crate) dispatched: u64,
    /// Store time of the last message before `dispatched`.
    pub(crate) dispatched_time: i64,
    /// Nothing was ever written to the log at or beyond this; `u64::MAX` when that is not known.
    pub(crate) ceiling: u64,
    /// Blocks before this have their checksums.
    pub(crate) sealed: u64,
    /// The scrubber is here.
    pub(crate) scrubbed: u64,
}

impl Bounds {
    /// Of the log cut at `to`, with blocks summed to `sealed`, and zeros at and behind `to`.
    pub(crate) fn cut(self, to: u64, sealed: u64) -> Self {
        Self {
            confirm: self.confirm.min(to),
            floor: self.floor.min(to),
            dispatched: self.dispatched.min(to),
            ceiling: self.ceiling.min(to),
            sealed: self.sealed.min(sealed),
            scrubbed: self.scrubbed.min(to),
            ..self
        }
    }

    /// Of a log without a byte that begins at `at`.
    pub(crate) fn empty(self, at: u64) -> Self {
        Self {
            confirm: self.confirm.min(at),
            floor: at,
            dispatched: at,
            dispatched_time: 0,
            ceiling: at,
            sealed: at,
            scrubbed: at,
        }
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            confirm: 0,
            floor: 0,
            dispatched: 0,
            dispatched_time: 0,
            ceiling: u64::MAX,
            sealed: 0,
            scrubbed: 0,
        }
    }
}

/// The file.
pub(crate) struct Checkpoint {
    dir: Arc<dyn Directory>,
    segment: Arc<dyn Segment>,
    sequence: u64,
    /// The slot to be written: not the one that was flushed last.
    next: u64,
    /// As last set.
    pub(crate) bounds: Bounds,
    /// As last written.
    written: Option<Bounds>,
    /// As last flushed.
    flushed: Option<Bounds>,
    /// What Apache's file says.
    apache_time: i64,
}

impl Checkpoint {
    /// Opens the file or makes it; the second value is what it says, if it says something.
    pub(crate) fn open(dir: Arc<dyn Directory>) -> io::Result<(Self, Option<Bounds>)> {
        dir.create_folder(FOLDER)?;
        let known = dir
            .list(FOLDER)?
            .into_iter()
            .find(|entry| entry.name == "checkpoint");
        let options = SegmentOptions::default();
        let mut segment = match &known {
            Some(entry) if [2 * SLOT_BYTES, 2 * SLOT_BYTES_OLD].contains(&entry.len) => {
                dir.open(PATH, options)?
            }
            _ => {
                dir.remove(PATH)?;
                dir.create(PATH, 2 * SLOT_BYTES, options)?
            }
        };
        // What an earlier process wrote may be in the page cache only, for now or, after a failed flush, for ever; what is
        // read from here on is on the disk.
        segment.forget_cache()?;
        let is_old = segment.len() < 2 * SLOT_BYTES;
        let slot_bytes = if is_old { SLOT_BYTES_OLD } else { SLOT_BYTES };
        let (sequence, bounds, mut next) = newest(&*segment, slot_bytes)?;
        if is_old {
            let mut content =
                bounds.map_or_else(Vec::new, |bounds| encode(sequence, bounds).to_vec());
            content.resize(2 * SLOT, 0);
            dir.replace(PATH, &content)?;
            (segment, next) = (dir.open(PATH, options)?, 1);
        }
        Ok((
            Self {
                dir,
                segment,
                sequence,
                next,
                bounds: bounds.unwrap_or_default(),
                written: bounds,
                flushed: bounds,
                apache_time: i64::MIN,
            },
            bounds,
        ))
    }

    /// Remembers `bounds` for the next [`Checkpoint::flush`].
    pub(crate) fn set(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// Writes what was set: a killed process leaves it, a crash of the machine may not.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        if self.written == Some(self.bounds) {
            return Ok(());
        }
        self.sequence += 1;
        // The whole page: one that cannot be read any more would have to be read before a part of it is written.
        let mut bytes = [0; SLOT];
        bytes
            .iter_mut()
            .zip(encode(self.sequence, self.bounds))
            .for_each(|(place, byte)| *place = byte);
        self.written = None;
        self.segment
            .write_at(self.next * SLOT_BYTES, &[IoSlice::new(&bytes)])?;
        self.written = Some(self.bounds);
        Ok(())
    }

    /// Writes what was set and makes it survive a crash of the machine.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.write()?;
        if self.flushed == Some(self.bounds) {
            return Ok(());
        }
        if let Err(error) = self.segment.flush(0) {
            self.written = None;
            return Err(error);
        }
        self.flushed = Some(self.bounds);
        self.next = 1 - self.next;
        Ok(())
    }

    /// Whether the file still has a name.
    pub(crate) fn is_named(&self) -> io::Result<bool> {
        self.segment.is_named()
    }

    /// As [`Checkpoint::flush`], and tells Apache's file now and then, or `at_last`.
    pub(crate) fn secure(&mut self, flushed_time: i64, at_last: bool) -> io::Result<()> {
        self.flush()?;
        let moved = flushed_time.saturating_sub(self.apache_time);
        if moved == 0 || moved < APACHE_STEP_MS && !at_last {
            return Ok(());
        }
        self.apache_time = flushed_time;
        let bounds = self.bounds;
        let confirm = i64::try_from(bounds.confirm).unwrap_or(i64::MAX);
        let mut page = vec![0; APACHE_BYTES];
        let fields = [
            flushed_time,
            bounds.dispatched_time,
            bounds.dispatched_time,
            0,
            confirm,
        ];
        page.chunks_exact_mut(8)
            .zip(fields)
            .for_each(|(place, field)| place.copy_from_slice(&field.to_be_bytes()));
        self.dir.replace(APACHE_PATH, &page)
    }
}

/// What the newest good slot says, with its number and which slot is to be written next. A slot that cannot be read is none.
fn newest(segment: &dyn Segment, slot_bytes: u64) -> io::Result<(u64, Option<Bounds>, u64)> {
    let mut newest = (0, None, 1);
    for (at, other) in [(0, 1), (slot_bytes, 0)] {
        let mut bytes = [0; SUMMED + 4];
        match segment.read_at(at, &mut bytes) {
            Err(error) if is_damage(&error) => {
                tracing::error!(file = PATH, at, %error, "a slot of the checkpoint cannot be read");
            }
            read => read?,
        }
        if let Some((sequence, bounds)) = decode(&bytes)
            && (newest.1.is_none() || sequence > newest.0)
        {
            newest = (sequence, Some(bounds), other);
        }
    }
    Ok(newest)
}

fn encode(sequence: u64, bounds: Bounds) -> [u8; SUMMED + 4] {
    let mut bytes = [0; SUMMED + 4];
    let (covered, crc) = bytes.split_at_mut(SUMMED);
    let mut rest: &mut [u8] = covered;
    rest.put_slice(&MAGIC);
    rest.put_u32(VERSION);
    rest.put_u64(sequence);
    rest.put_u64(bounds.confirm);
    rest.put_u64(bounds.floor);
    rest.put_u64(bounds.dispatched);
    rest.put_i64(bounds.dispatched_time);
    rest.put_u64(bounds.ceiling);
    rest.put_u64(bounds.sealed);
    rest.put_u64(bounds.scrubbed);
    crc.copy_from_slice(&crc32fast::hash(covered).to_be_bytes());
    bytes
}

fn decode(slot: &[u8]) -> Option<(u64, Bounds)> {
    let version = u32::from_be_bytes(*slot.strip_prefix(&MAGIC)?.first_chunk()?);
    let (_, crc_at) = CRC_AT.into_iter().find(|(of, _)| *of == version)?;
    let (covered, rest) = slot.split_at_checked(crc_at)?;
    if crc32fast::hash(covered).to_be_bytes() != *rest.first_chunk()? {
        return None;
    }
    let mut fields = covered
        .get(8..)?
        .chunks_exact(8)
        .filter_map(|field| field.first_chunk())
        .copied();
    let mut next = || fields.next();
    let sequence = u64::from_be_bytes(next()?);
    // No store ever came so far, and none could go on from there.
    if sequence == u64::MAX {
        return None;
    }
    let old = Bounds {
        confirm: u64::from_be_bytes(next()?),
        floor: u64::from_be_bytes(next()?),
        dispatched: u64::from_be_bytes(next()?),
        dispatched_time: i64::from_be_bytes(next()?),
        ..Bounds::default()
    };
    if version == 1 {
        return Some((sequence, old));
    }
    let bounds = Bounds {
        ceiling: u64::from_be_bytes(next()?),
        sealed: u64::from_be_bytes(next()?),
        scrubbed: u64::from_be_bytes(next()?),
        ..old
    };
    Some((sequence, bounds))
}

/// The time that Apache's checkpoint secures: everything stored 3 s before it is in log and queues
/// (`StoreCheckpoint.getMinTimestamp`). `None` without such a file.
pub(crate) fn apache_time(dir: &dyn Directory) -> io::Result<Option<i64>> {
    let Some(page) = dir.read(APACHE_PATH)? else {
        return Ok(None);
    };
    let mut fields = page
        .chunks_exact(8)
        .filter_map(|field| field.first_chunk())
        .map(|field| i64::from_be_bytes(*field));
    let (Some(log), Some(queues)) = (fields.next(), fields.next()) else {
        return Ok(None);
    };
    Ok(Some(log.min(queues).saturating_sub(3000).max(0)))
}

//! What the store remembers of its positions. Ours is only ever a lower bound, so it needs no flush of its own:
//!
//! ```text
//! rocket/checkpoint, two slots of 512 bytes, written in turn, the newer good one counts; big-endian
//!   0 magic "RKC1" · 4 version u32 = 2 · 8 sequence u64 · 16 confirm u64 · 24 flushed floor u64
//!  32 dispatched u64 · 40 store time at dispatched i64 · 48 ceiling u64 · 56 sealed u64 · 64 scrubbed u64
//!  72 CRC32 of bytes 0..72
//! version 1 ends with the CRC32 at 48
//! ```
//!
//! The slot is written after each flush of the log, so that a killed process leaves a floor that is close, and flushed
//! by whoever keeps house, about once a second.
//!
//! Beside it the file `checkpoint` that Apache's broker reads when it recovers (`StoreCheckpoint`): five i64 in a page.

use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::BufMut as _;
use rocket_mapped_file::{Directory, Segment, SegmentOptions};

/// Our folder beside Apache's.
pub(crate) const FOLDER: &str = "rocket";
pub(crate) const PATH: &str = "rocket/checkpoint";
const APACHE_PATH: &str = "checkpoint";
const APACHE_BYTES: usize = 4096;
const SLOT: usize = 512;
const SLOT_BYTES: u64 = SLOT as u64;
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
        let segment = match known {
            Some(entry) if entry.len >= 2 * SLOT_BYTES => {
                dir.open(PATH, SegmentOptions::default())?
            }
            _ => {
                dir.remove(PATH)?;
                dir.create(PATH, 2 * SLOT_BYTES, SegmentOptions::default())?
            }
        };
        let mut newest: Option<(u64, Bounds)> = None;
        for slot in 0..2 {
            let mut bytes = [0; SLOT];
            segment.read_at(slot * SLOT_BYTES, &mut bytes)?;
            newest = newest.max_by_sequence(decode(&bytes));
        }
        let (sequence, bounds) =
            newest.map_or((0, None), |(sequence, bounds)| (sequence, Some(bounds)));
        Ok((
            Self {
                dir,
                segment,
                sequence,
                bounds: bounds.unwrap_or_default(),
                written: bounds,
                flushed: None,
                apache_time: i64::MIN,
            },
            bounds,
        ))
    }

    /// Remembers `bounds` for the next [`Checkpoint::flush`].
    pub(crate) fn set(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// Writes what was set over the older slot: a killed process leaves it, a crash of the machine may not.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        if self.written == Some(self.bounds) {
            return Ok(());
        }
        self.sequence += 1;
        let bytes = encode(self.sequence, self.bounds);
        self.segment
            .write_at(self.sequence % 2 * SLOT_BYTES, &[IoSlice::new(&bytes)])?;
        self.written = Some(self.bounds);
        Ok(())
    }

    /// Writes what was set and makes it survive a crash of the machine.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.write()?;
        if self.flushed == Some(self.bounds) {
            return Ok(());
        }
        self.segment.flush(0)?;
        self.flushed = Some(self.bounds);
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

trait Newest {
    fn max_by_sequence(self, other: Self) -> Self;
}

impl Newest for Option<(u64, Bounds)> {
    fn max_by_sequence(self, other: Self) -> Self {
        [self, other]
            .into_iter()
            .flatten()
            .max_by_key(|(sequence, _)| *sequence)
    }
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

#[cfg(test)]
mod tests {
    use rocket_mapped_file::memory::MemoryDirectory;

    use super::*;

    #[test]
    fn a_torn_slot_leaves_the_older_one() {
        let dir = MemoryDirectory::default();
        let bounds = |floor| Bounds {
            confirm: 1,
            floor,
            dispatched: 3,
            dispatched_time: -4,
            ceiling: 5,
            sealed: 6,
            scrubbed: 7,
        };
        let (mut checkpoint, found) = Checkpoint::open(Arc::new(dir.clone())).unwrap();
        assert_eq!(found, None);
        for floor in [10, 20] {
            checkpoint.set(bounds(floor));
            checkpoint.flush().unwrap();
        }
        assert_eq!(
            Checkpoint::open(Arc::new(dir.killed())).unwrap().1,
            Some(bounds(20))
        );
        dir.flip(PATH, 20);
        assert_eq!(
            Checkpoint::open(Arc::new(dir.killed())).unwrap().1,
            Some(bounds(10))
        );
        dir.flip(PATH, 512 + 30);
        assert_eq!(Checkpoint::open(Arc::new(dir.killed())).unwrap().1, None);
    }

    #[test]
    fn what_was_set_and_not_flushed_is_not_known_later() {
        let dir = MemoryDirectory::default();
        let (mut checkpoint, _) = Checkpoint::open(Arc::new(dir.clone())).unwrap();
        checkpoint.set(Bounds {
            floor: 10,
            ..Bounds::default()
        });
        assert_eq!(Checkpoint::open(Arc::new(dir.killed())).unwrap().1, None);
        checkpoint.flush().unwrap();
        let known = Checkpoint::open(Arc::new(dir.crashed(1))).unwrap().1;
        assert_eq!(known.map(|bounds| bounds.floor), Some(10));
    }

    #[test]
    fn a_slot_of_the_first_version_is_read_and_knows_no_ceiling() {
        let mut slot = Vec::new();
        slot.extend_from_slice(&MAGIC);
        slot.extend_from_slice(&1_u32.to_be_bytes());
        for field in [9_u64, 1, 2, 3, 4] {
            slot.extend_from_slice(&field.to_be_bytes());
        }
        slot.extend_from_slice(&crc32fast::hash(&slot).to_be_bytes());
        slot.resize(SLOT, 0);
        let (sequence, bounds) = decode(&slot).unwrap();
        assert_eq!((sequence, bounds.floor, bounds.dispatched_time), (9, 2, 4));
        assert_eq!(bounds.ceiling, u64::MAX);
    }
}

//! What the store remembers of its positions. Ours is only ever a lower bound, so it needs no flush of its own:
//!
//! ```text
//! rocket/checkpoint, two slots of 512 bytes, written in turn, the newer good one counts; big-endian
//!   0 magic "RKC1" · 4 version u32 = 1 · 8 sequence u64 · 16 confirm u64 · 24 flushed floor u64
//!  32 dispatched u64 · 40 store time at dispatched i64 · 48 CRC32 of bytes 0..48
//! ```
//!
//! Beside it the file `checkpoint` that Apache's broker reads when it recovers (`StoreCheckpoint`): five i64 in a page.

use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::BufMut as _;
use rocket_mapped_file::{Directory, Segment, SegmentOptions};

/// Our folder beside Apache's.
pub(crate) const FOLDER: &str = "rocket";
const PATH: &str = "rocket/checkpoint";
const APACHE_PATH: &str = "checkpoint";
const APACHE_BYTES: usize = 4096;
const SLOT: usize = 512;
const SLOT_BYTES: u64 = SLOT as u64;
const CRC_AT: usize = 48;
const MAGIC: [u8; 4] = *b"RKC1";
const VERSION: u32 = 1;

/// Lower bounds of positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Bounds {
    /// Committed at least to here.
    pub(crate) confirm: u64,
    /// Flushed at least to here.
    pub(crate) floor: u64,
    /// Queues and index hold, flushed, everything to here.
    pub(crate) dispatched: u64,
    /// Store time of the last message before `dispatched`.
    pub(crate) dispatched_time: i64,
}

/// The file.
pub(crate) struct Checkpoint {
    dir: Arc<dyn Directory>,
    segment: Arc<dyn Segment>,
    sequence: u64,
    /// As last written.
    pub(crate) bounds: Bounds,
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
            },
            bounds,
        ))
    }

    /// Writes `bounds` over the older slot.
    pub(crate) fn write(&mut self, bounds: Bounds) -> io::Result<()> {
        self.sequence += 1;
        let bytes = encode(self.sequence, bounds);
        self.segment
            .write_at(self.sequence % 2 * SLOT_BYTES, &[IoSlice::new(&bytes)])?;
        self.bounds = bounds;
        Ok(())
    }

    /// Makes what was written survive a crash of the machine.
    pub(crate) fn flush(&self) -> io::Result<()> {
        self.segment.flush(0)
    }

    /// Makes what was written survive a crash of the machine, and tells Apache's file as much.
    pub(crate) fn secure(&self, flushed_time: i64) -> io::Result<()> {
        self.segment.flush(0)?;
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

fn encode(sequence: u64, bounds: Bounds) -> [u8; CRC_AT + 4] {
    let mut bytes = [0; CRC_AT + 4];
    let (covered, crc) = bytes.split_at_mut(CRC_AT);
    let mut rest: &mut [u8] = covered;
    rest.put_slice(&MAGIC);
    rest.put_u32(VERSION);
    rest.put_u64(sequence);
    rest.put_u64(bounds.confirm);
    rest.put_u64(bounds.floor);
    rest.put_u64(bounds.dispatched);
    rest.put_i64(bounds.dispatched_time);
    crc.copy_from_slice(&crc32fast::hash(covered).to_be_bytes());
    bytes
}

fn decode(slot: &[u8]) -> Option<(u64, Bounds)> {
    let (covered, rest) = slot.split_at_checked(CRC_AT)?;
    if crc32fast::hash(covered).to_be_bytes() != *rest.first_chunk()? {
        return None;
    }
    let rest = covered
        .strip_prefix(&MAGIC)?
        .strip_prefix(&VERSION.to_be_bytes())?;
    let mut fields = rest
        .chunks_exact(8)
        .filter_map(|field| field.first_chunk())
        .copied();
    let mut next = || fields.next();
    let sequence = u64::from_be_bytes(next()?);
    Some((
        sequence,
        Bounds {
            confirm: u64::from_be_bytes(next()?),
            floor: u64::from_be_bytes(next()?),
            dispatched: u64::from_be_bytes(next()?),
            dispatched_time: i64::from_be_bytes(next()?),
        },
    ))
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
        };
        let (mut checkpoint, found) = Checkpoint::open(Arc::new(dir.clone())).unwrap();
        assert_eq!(found, None);
        checkpoint.write(bounds(10)).unwrap();
        checkpoint.write(bounds(20)).unwrap();
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
}

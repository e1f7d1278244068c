//! A table of all queues as a file: where each begins and ends, and where its newest extent is. With the journals from
//! then on it is all that a start needs.
//!
//! ```text
//! rocket/queues/<20-digit number>.table
//!   0 magic "RKT1" · 4 CRC32 of 8..80 · 8 number u64 · 16 position u64 · 24 upper u64 · 32 end of the unit log u64
//!  40 first journal u64 · 48 next queue u32 · 52 zero u32 · 56 bytes of entries u64 · 64 CRC32 of the entries u32
//!  68 zero · 512 entries                                                                             all big-endian
//! entry: 1, bytes u16, topic                                   the queues that follow are this topic's
//!        2, queue u32, queueId u32, min u64, offset at min u64, max u64, offset of the last message u64,
//!           extents u32, positions of the newest extent and the three levels (see the extent), u64 each
//! ```
//!
//! All messages before *position* have their units in the extents below *end*, or they come again in the journals;
//! some later ones, all before *upper*, may have too. The entries are written and flushed, with all extents that they
//! name, before the head; and the head only once the commit log is durable to *upper*. So a table with a good head is
//! true whatever a crash took.

use std::io::{self, IoSlice};
use std::sync::Arc;

use rocket_mapped_file::{Directory, Segment, SegmentOptions};
use rocket_protocol::{QueueId, TopicName};

use super::extent::Chain;
use super::open::is_damage;
use super::queue::Saved;
use super::{FOLDER, damaged};

const MAGIC: [u8; 4] = *b"RKT1";
const HEAD: usize = 512;
const COVERED: std::ops::Range<usize> = 8..80;
const SUFFIX: &str = ".table";
const TOPIC: u8 = 1;
const QUEUE: u8 = 2;
const QUEUE_BYTES: usize = 1 + 76;
const GATHER_BYTES: usize = 256 << 10;

/// What stands before the entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Head {
    pub(super) number: u64,
    pub(super) position: u64,
    pub(super) upper: u64,
    pub(super) units_end: u64,
    pub(super) journal: u64,
    pub(super) slot_next: u32,
}

/// A table that is being written.
pub(super) struct Writer {
    segment: Arc<dyn Segment>,
    at: u64,
    gathered: Vec<u8>,
    crc: crc32fast::Hasher,
    topic: Option<TopicName>,
}

impl Writer {
    /// A file for `queues` entries whose topics' names have `names` bytes, one for each entry.
    pub(super) fn create(
        dir: &dyn Directory,
        number: u64,
        queues: usize,
        names: usize,
    ) -> io::Result<Self> {
        let len = HEAD + queues * (QUEUE_BYTES + 3) + names;
        let options = SegmentOptions::default();
        Ok(Self {
            segment: dir.create(&path(number), len as u64, options)?,
            at: HEAD as u64,
            gathered: Vec::new(),
            crc: crc32fast::Hasher::new(),
            topic: None,
        })
    }

    /// Adds a queue; those of a topic should come together.
    pub(super) fn add(&mut self, topic: &TopicName, queue: &Saved) -> io::Result<()> {
        let out = &mut self.gathered;
        if self.topic.as_ref() != Some(topic) {
            let name = topic.as_str().as_bytes();
            out.push(TOPIC);
            out.extend_from_slice(&u16::try_from(name.len()).unwrap_or(0).to_be_bytes());
            out.extend_from_slice(name);
            self.topic = Some(topic.clone());
        }
        out.push(QUEUE);
        out.extend_from_slice(&queue.slot.to_be_bytes());
        out.extend_from_slice(&queue.queue_id.0.to_be_bytes());
        for field in [queue.min, queue.min_offset, queue.max, queue.last] {
            out.extend_from_slice(&field.to_be_bytes());
        }
        out.extend_from_slice(&queue.chain.depth.to_be_bytes());
        let [low, middle, high] = queue.chain.levels;
        for field in [queue.chain.last, low, middle, high] {
            out.extend_from_slice(&field.to_be_bytes());
        }
        if out.len() >= GATHER_BYTES {
            self.save()?;
        }
        Ok(())
    }

    fn save(&mut self) -> io::Result<()> {
        self.crc.update(&self.gathered);
        self.segment
            .write_at(self.at, &[IoSlice::new(&self.gathered)])?;
        self.at += self.gathered.len() as u64;
        self.gathered.clear();
        Ok(())
    }

    /// Flushes the entries.
    pub(super) fn finish(mut self, head: Head) -> io::Result<Written> {
        self.save()?;
        self.segment.flush(0)?;
        let mut bytes = Vec::with_capacity(HEAD);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[0; 4]);
        for field in [
            head.number,
            head.position,
            head.upper,
            head.units_end,
            head.journal,
        ] {
            bytes.extend_from_slice(&field.to_be_bytes());
        }
        bytes.extend_from_slice(&head.slot_next.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&(self.at - HEAD as u64).to_be_bytes());
        bytes.extend_from_slice(&self.crc.finalize().to_be_bytes());
        bytes.resize(HEAD, 0);
        let crc = crc32fast::hash(bytes.get(COVERED).unwrap_or_default());
        if let Some(place) = bytes.get_mut(4..8) {
            place.copy_from_slice(&crc.to_be_bytes());
        }
        Ok(Written {
            segment: self.segment,
            bytes,
            head,
        })
    }
}

/// A table whose entries are flushed, and which does not count yet.
pub(super) struct Written {
    segment: Arc<dyn Segment>,
    bytes: Vec<u8>,
    pub(super) head: Head,
}

impl Written {
    /// Makes it count, durably.
    pub(super) fn commit(&self) -> io::Result<()> {
        self.segment.write_at(0, &[IoSlice::new(&self.bytes)])?;
        self.segment.flush(0)
    }
}

/// The newest table that counts; calls `each` with its queues.
pub(super) fn load(
    dir: &dyn Directory,
    mut each: impl FnMut(&TopicName, &Saved),
) -> io::Result<Option<Head>> {
    for number in numbers(dir)?.into_iter().rev() {
        let found = dir
            .open(&path(number), SegmentOptions::default())
            .and_then(|segment| read(&*segment, number));
        let (head, entries) = match found {
            Ok(Some(found)) => found,
            Err(error) if !is_damage(&error) => return Err(error),
            _ => {
                tracing::warn!(
                    file = path(number),
                    "a table of the queues cannot be believed"
                );
                continue;
            }
        };
        let mut rest = &entries[..];
        let mut topic = None;
        while !rest.is_empty() {
            read_entry(&mut rest, &mut topic, &mut each).ok_or_else(|| damaged("a table"))?;
        }
        return Ok(Some(head));
    }
    Ok(None)
}

fn read(segment: &dyn Segment, number: u64) -> io::Result<Option<(Head, Vec<u8>)>> {
    let mut bytes = [0; HEAD];
    if segment.len() < HEAD as u64 {
        return Ok(None);
    }
    segment.read_at(0, &mut bytes)?;
    let crc = crc32fast::hash(bytes.get(COVERED).unwrap_or_default());
    let long = |at: usize| {
        let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
        field.map_or(0, |field| u64::from_be_bytes(*field))
    };
    let high = |at: usize| u32::try_from(long(at) >> 32).unwrap_or(0);
    let len = long(56);
    let is_ours = bytes.starts_with(&MAGIC)
        && high(4) == crc
        && long(8) == number
        && len <= segment.len() - HEAD as u64;
    if !is_ours {
        return Ok(None);
    }
    let mut entries = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
    segment.read_at(HEAD as u64, &mut entries)?;
    let head = Head {
        number,
        position: long(16),
        upper: long(24),
        units_end: long(32),
        journal: long(40),
        slot_next: high(48),
    };
    Ok((crc32fast::hash(&entries) == high(64)).then_some((head, entries)))
}

fn read_entry(
    rest: &mut &[u8],
    topic: &mut Option<TopicName>,
    each: &mut impl FnMut(&TopicName, &Saved),
) -> Option<()> {
    let (kind, after) = rest.split_first()?;
    if *kind == TOPIC {
        let (len, after) = after.split_first_chunk()?;
        let (name, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        *topic = Some(TopicName::parse(std::str::from_utf8(name).ok()?).ok()?);
        *rest = after;
        return Some(());
    }
    let (entry, after) = after.split_at_checked(QUEUE_BYTES - 1)?;
    *rest = after;
    let short = |at: usize| Some(u32::from_be_bytes(*entry.get(at..)?.first_chunk()?));
    let long = |at: usize| Some(u64::from_be_bytes(*entry.get(at..)?.first_chunk()?));
    let saved = Saved {
        slot: short(0)?,
        queue_id: QueueId(short(4)?),
        min: long(8)?,
        min_offset: long(16)?,
        max: long(24)?,
        last: long(32)?,
        chain: Chain {
            depth: short(40)?,
            last: long(44)?,
            levels: [long(52)?, long(60)?, long(68)?],
        },
    };
    // An offset in a queue is signed on the wire.
    i64::try_from(saved.min.max(saved.max)).ok()?;
    each(topic.as_ref()?, &saved);
    (*kind == QUEUE).then_some(())
}

/// Removes the tables whose numbers are `unwanted`.
pub(super) fn remove(dir: &dyn Directory, unwanted: impl Fn(u64) -> bool) -> io::Result<()> {
    let mut any = false;
    for number in numbers(dir)? {
        if unwanted(number) {
            dir.remove(&path(number))?;
            any = true;
        }
    }
    if any { dir.sync(FOLDER) } else { Ok(()) }
}

fn path(number: u64) -> String {
    format!("{FOLDER}/{number:020}{SUFFIX}")
}

fn numbers(dir: &dyn Directory) -> io::Result<Vec<u64>> {
    let entries = dir.list(FOLDER)?;
    let names = entries
        .iter()
        .filter_map(|entry| entry.name.strip_suffix(SUFFIX));
    Ok(names.filter_map(|name| name.parse().ok()).collect())
}

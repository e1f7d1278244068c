//! Every unit since the last table, in the order of the log: what a start reads to have again what was in memory.
//!
//! ```text
//! rocket/queues/<20-digit number>.journal: frames, one behind the other; zero behind the last
//! frame:  0 magic "RKJ1" · 4 CRC32 of 8..end · 8 bytes of entries u32 · 12 zero u32
//!        16 number of the file u64 · 24 from u64 · 32 to u64, big-endian · 40 entries
//! entry:  numbers of 7 bits per byte, the lowest first; ± is zigzag
//!         queue + 2, index, ± physical offset less the end of the message before, size, ± tags code
//!         0, queue, queueId, bytes of the topic, topic         the number stands for this queue
//!         1, queue                                             this queue is no more
//! ```
//!
//! A frame holds all units of the messages from `from` to `to` in the commit log; the next one goes on there. A frame
//! counts only if `to` is not beyond what the checkpoint says to be dispatched: then it was flushed before that was
//! written, and so was the log. Reading ends at the first frame that does not count, and writing goes on in its place.

use std::io::{self, IoSlice};
use std::sync::Arc;

use rocket_mapped_file::{Directory, Segment, SegmentOptions};
use rocket_protocol::{QueueId, TopicName};

use super::FOLDER;
use crate::unit::Unit;

const MAGIC: [u8; 4] = *b"RKJ1";
const FRAME_HEAD: usize = 40;
const SUFFIX: &str = ".journal";
const DECLARE: u64 = 0;
const DROP: u64 = 1;
const UNITS_FROM: u64 = 2;

/// What the journal tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// A message got its place.
    Put { slot: u32, index: u64, unit: Unit },
    /// A number stands for this queue from here on.
    Declare {
        slot: u32,
        topic: TopicName,
        queue_id: QueueId,
    },
    /// A queue was removed.
    Drop { slot: u32 },
}

/// See the module.
pub(super) struct Journal {
    dir: Arc<dyn Directory>,
    file_bytes: u64,
    number: u64,
    segment: Option<Arc<dyn Segment>>,
    at: u64,
    /// All units of messages before this offset are in files.
    covered: u64,
    /// The frame that is being gathered, behind room for its head.
    frame: Vec<u8>,
    /// End of the last message in it.
    message_end: u64,
    /// Units since the last table.
    pub(super) units: u64,
    unflushed: Vec<(String, Arc<dyn Segment>)>,
}

impl Journal {
    /// Begins with file `number`, which must not exist, at `covered`.
    pub(super) fn new(dir: Arc<dyn Directory>, file_bytes: u64, number: u64, covered: u64) -> Self {
        Self {
            dir,
            file_bytes,
            number,
            segment: None,
            at: 0,
            covered,
            frame: vec![0; FRAME_HEAD],
            message_end: 0,
            units: 0,
            unflushed: Vec::new(),
        }
    }

    /// Notes that units were put from `first` on.
    pub(super) fn put(&mut self, slot: u32, first: u64, units: &[Unit]) {
        for (index, unit) in (first..).zip(units) {
            write(&mut self.frame, u64::from(slot) + UNITS_FROM);
            write(&mut self.frame, index);
            let distance = unit.physical_offset.wrapping_sub(self.message_end);
            write(&mut self.frame, zigzag(distance.cast_signed()));
            write(&mut self.frame, u64::from(unit.size));
            write(&mut self.frame, zigzag(unit.tags_code));
            self.message_end = unit.physical_offset.wrapping_add(u64::from(unit.size));
        }
        self.units += units.len() as u64;
    }

    /// Notes what queue `slot` is; to come before its first unit.
    pub(super) fn declare(&mut self, slot: u32, topic: &TopicName, queue_id: QueueId) {
        let name = topic.as_str().as_bytes();
        for number in [
            DECLARE,
            u64::from(slot),
            u64::from(queue_id.0),
            name.len() as u64,
        ] {
            write(&mut self.frame, number);
        }
        self.frame.extend_from_slice(name);
    }

    /// Notes that queue `slot` is removed.
    pub(super) fn drop_queue(&mut self, slot: u32) {
        write(&mut self.frame, DROP);
        write(&mut self.frame, u64::from(slot));
    }

    /// Bytes that wait to be written.
    pub(super) fn unsaved(&self) -> usize {
        self.frame.len() - FRAME_HEAD
    }

    /// Writes what was noted since the last call: all units of messages before `to`.
    pub(super) fn save(&mut self, to: u64) -> io::Result<()> {
        if self.unsaved() == 0 && to <= self.covered {
            return Ok(());
        }
        let len = self.frame.len() as u64;
        let (number, at, segment) = match &self.segment {
            Some(segment) if self.at + len <= segment.len() => {
                (self.number, self.at, Arc::clone(segment))
            }
            full => {
                let number = self.number + u64::from(full.is_some());
                let bytes = self.file_bytes.max(len);
                let options = SegmentOptions::default();
                (number, 0, self.dir.create(&path(number), bytes, options)?)
            }
        };
        // Kept at once: a file that was made is not made again when the write fails.
        (self.number, self.at, self.segment) = (number, at, Some(Arc::clone(&segment)));
        let entries = u32::try_from(self.unsaved()).unwrap_or(u32::MAX);
        let mut head = Vec::with_capacity(FRAME_HEAD);
        head.extend_from_slice(&MAGIC);
        head.extend_from_slice(&[0; 4]);
        head.extend_from_slice(&entries.to_be_bytes());
        head.extend_from_slice(&[0; 4]);
        for field in [number, self.covered, to] {
            head.extend_from_slice(&field.to_be_bytes());
        }
        if let Some(place) = self.frame.get_mut(..FRAME_HEAD) {
            place.copy_from_slice(&head);
        }
        let crc = crc32fast::hash(self.frame.get(8..).unwrap_or_default());
        if let Some(place) = self.frame.get_mut(4..8) {
            place.copy_from_slice(&crc.to_be_bytes());
        }
        segment.write_at(at, &[IoSlice::new(&self.frame)])?;
        let path = path(number);
        if self.unflushed.last().is_none_or(|(last, _)| *last != path) {
            self.unflushed.push((path, segment));
        }
        self.at += len;
        self.covered = to;
        self.frame.truncate(FRAME_HEAD);
        self.frame.shrink_to(1 << 20);
        self.message_end = 0;
        Ok(())
    }

    /// Goes on in a new file, whose number is returned: everything before `to` is in the files before it.
    pub(super) fn rotate(&mut self, to: u64) -> io::Result<u64> {
        self.save(to)?;
        if self.segment.take().is_some() {
            self.number += 1;
        }
        self.at = 0;
        Ok(self.number)
    }

    /// The files that were written since the last call; to be flushed.
    pub(super) fn take_unflushed(&mut self) -> Vec<(String, Arc<dyn Segment>)> {
        std::mem::take(&mut self.unflushed)
    }

    /// Reads what was noted from file `first` on, where the units of messages before `covered` are known, and goes on
    /// behind it. A frame with units of messages at or behind `limit` does not count.
    pub(super) fn replay(
        dir: Arc<dyn Directory>,
        file_bytes: u64,
        first: u64,
        covered: u64,
        limit: u64,
        mut each: impl FnMut(Entry) -> io::Result<()>,
    ) -> io::Result<Self> {
        let mut journal = Self::new(dir, file_bytes, first, covered);
        let mut numbers = numbers(&*journal.dir)?;
        numbers.retain(|number| *number >= first);
        for (expected, number) in (first..).zip(numbers) {
            if number != expected {
                break;
            }
            let segment = journal.dir.open(&path(number), SegmentOptions::default())?;
            let mut at = 0;
            while let Some(frame) = journal.frame_at(&*segment, number, at, limit)? {
                at += frame.bytes.len() as u64;
                journal.covered = frame.to;
                journal.units += read_entries(&frame.bytes, &mut each)?;
            }
            if number > first && at == 0 {
                break;
            }
            (journal.number, journal.at, journal.segment) = (number, at, Some(segment));
        }
        journal.remove(|number| number > journal.number)?;
        Ok(journal)
    }

    /// All units of messages before this offset are in files.
    pub(super) fn covered(&self) -> u64 {
        self.covered
    }

    fn frame_at(
        &self,
        segment: &dyn Segment,
        number: u64,
        at: u64,
        limit: u64,
    ) -> io::Result<Option<Frame>> {
        if at + FRAME_HEAD as u64 > segment.len() {
            return Ok(None);
        }
        let mut bytes = vec![0; FRAME_HEAD];
        segment.read_at(at, &mut bytes)?;
        let long = |at: usize| {
            let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
            field.map_or(u64::MAX, |field| u64::from_be_bytes(*field))
        };
        let (entries, to) = ((long(8) >> 32), long(32));
        let len = FRAME_HEAD as u64 + entries;
        let counts = bytes.starts_with(&MAGIC)
            && long(16) == number
            && long(24) == self.covered
            && to >= self.covered
            && (to <= limit || ignores_limit())
            && at + len <= segment.len();
        if !counts {
            return Ok(None);
        }
        bytes.resize(usize::try_from(len).unwrap_or(usize::MAX), 0);
        segment.read_at(at, &mut bytes)?;
        let crc = crc32fast::hash(bytes.get(8..).unwrap_or_default());
        let is_whole = bytes.get(4..8) == Some(&crc.to_be_bytes()[..]);
        Ok(is_whole.then_some(Frame { to, bytes }))
    }

    /// Removes the files whose numbers are `unwanted`.
    pub(super) fn remove(&self, unwanted: impl Fn(u64) -> bool) -> io::Result<()> {
        let mut any = false;
        for number in numbers(&*self.dir)? {
            if unwanted(number) {
                self.dir.remove(&path(number))?;
                any = true;
            }
        }
        if any { self.dir.sync(FOLDER) } else { Ok(()) }
    }
}

struct Frame {
    to: u64,
    bytes: Vec<u8>,
}

fn ignores_limit() -> bool {
    crate::mutant::is_on(crate::mutant::Mutant::JournalAheadOfLog)
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

/// Calls `each` with the entries of a frame. Returns how many units that were.
fn read_entries(frame: &[u8], each: &mut impl FnMut(Entry) -> io::Result<()>) -> io::Result<u64> {
    let mut rest = frame.get(FRAME_HEAD..).unwrap_or_default();
    let (mut end, mut units) = (0, 0);
    while !rest.is_empty() {
        let entry = read_entry(&mut rest, &mut end).ok_or_else(|| super::damaged("a frame"))?;
        units += u64::from(matches!(entry, Entry::Put { .. }));
        each(entry)?;
    }
    Ok(units)
}

fn read_entry(rest: &mut &[u8], message_end: &mut u64) -> Option<Entry> {
    let kind = read(rest)?;
    if kind >= UNITS_FROM {
        let slot = u32::try_from(kind - UNITS_FROM).ok()?;
        let index = read(rest)?;
        let distance = unzigzag(read(rest)?);
        let unit = Unit {
            physical_offset: message_end.wrapping_add(distance.cast_unsigned()),
            size: u32::try_from(read(rest)?).ok()?,
            tags_code: unzigzag(read(rest)?),
        };
        *message_end = unit.physical_offset.wrapping_add(u64::from(unit.size));
        return Some(Entry::Put { slot, index, unit });
    }
    let slot = u32::try_from(read(rest)?).ok()?;
    if kind == DROP {
        return Some(Entry::Drop { slot });
    }
    let queue_id = QueueId(u32::try_from(read(rest)?).ok()?);
    let len = usize::try_from(read(rest)?).ok()?;
    let (name, after) = rest.split_at_checked(len)?;
    *rest = after;
    let topic = TopicName::parse(std::str::from_utf8(name).ok()?).ok()?;
    Some(Entry::Declare {
        slot,
        topic,
        queue_id,
    })
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

fn write(out: &mut Vec<u8>, mut number: u64) {
    while let Some(rest) = Some(number >> 7).filter(|rest| *rest > 0) {
        let [low, ..] = number.to_le_bytes();
        out.push(low | 0x80);
        number = rest;
    }
    let [low, ..] = number.to_le_bytes();
    out.push(low);
}

fn read(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use rocket_mapped_file::memory::MemoryDirectory;

    use super::*;

    fn unit(physical_offset: u64) -> Unit {
        Unit {
            physical_offset,
            size: 100,
            tags_code: -3,
        }
    }

    fn replayed(dir: &MemoryDirectory, limit: u64) -> (Vec<Entry>, Journal) {
        let mut entries = Vec::new();
        let journal = Journal::replay(Arc::new(dir.clone()), 100, 0, 0, limit, |entry| {
            entries.push(entry);
            Ok(())
        });
        (entries, journal.unwrap())
    }

    fn put(slot: u32, index: u64, offset: u64) -> Entry {
        let unit = unit(offset);
        Entry::Put { slot, index, unit }
    }

    #[test]
    fn entries_are_read_back_over_several_files_up_to_the_limit() {
        let dir = MemoryDirectory::default();
        let mut journal = Journal::new(Arc::new(dir.clone()), 100, 0, 0);
        let topic = TopicName::parse("t").unwrap();
        journal.declare(7, &topic, QueueId(3));
        journal.put(7, 1 << 60, &[unit(50)]);
        journal.save(150).unwrap();
        journal.put(7, 5, &[unit(150), unit(u64::MAX / 2)]);
        journal.drop_queue(7);
        journal.save(300).unwrap();
        journal.save(400).unwrap();
        let declare = Entry::Declare {
            slot: 7,
            topic,
            queue_id: QueueId(3),
        };
        let first = vec![declare, put(7, 1 << 60, 50)];
        let second = [
            put(7, 5, 150),
            put(7, 6, u64::MAX / 2),
            Entry::Drop { slot: 7 },
        ];
        let all: Vec<_> = first.iter().cloned().chain(second).collect();
        let (found, after) = replayed(&dir, 400);
        assert_eq!((found, after.covered(), after.units), (all, 400, 3));
        let (found, mut after) = replayed(&dir, 299);
        assert_eq!((found, after.covered()), (first.clone(), 150));
        // What did not count is written over, and does not come back behind something shorter.
        after.save(200).unwrap();
        assert_eq!(replayed(&dir, 400).1.covered(), 200);
        assert_eq!(replayed(&dir, 400).0, first);
    }

    #[test]
    fn a_changed_byte_ends_the_reading() {
        let dir = MemoryDirectory::default();
        let mut journal = Journal::new(Arc::new(dir.clone()), 1000, 0, 0);
        for n in 0..3 {
            journal.put(0, n, &[unit(n * 100)]);
            journal.save(n * 100 + 100).unwrap();
        }
        dir.flip(&path(0), 60);
        let (found, after) = replayed(&dir, 300);
        assert_eq!((found, after.covered()), (vec![put(0, 0, 0)], 100));
    }
}

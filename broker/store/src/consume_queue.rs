//! One ConsumeQueue in Apache's form, to be taken over from or exported to; and the [`Unit`], which says where the n-th
//! message of a queue lies. Our own form is in [`crate::queues`].
//!
//! ```text
//! consumequeue/<topic>/<queueId>/<20-digit byte offset of the file's first unit>
//! unit:  0 physical offset i64 · 8 record size i32 · 12 tags code i64      big-endian
//! ```
//!
//! A queue follows from the log. New units stay in memory until [`ConsumeQueue::save`].

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;

use rocket_mapped_file::{Directory, Segment, SegmentOptions};
use rocket_protocol::{QueueId, TopicName};

/// The folder of all queues.
pub(crate) const FOLDER: &str = "consumequeue";
/// Bytes of a unit.
pub(crate) const UNIT_BYTES: u64 = UNIT as u64;
pub(crate) const UNIT: usize = 20;
/// Saved units that stay in memory for consumers at the end of a queue.
const RECENT_MAX: usize = 1024;

/// Units that a queue may miss at once. More is a damaged record, not a damaged queue.
const GAP_MAX: u64 = 1 << 20;

/// Where one message lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Offset of its record in the log.
    pub(crate) physical_offset: u64,
    /// Bytes of its record.
    pub(crate) size: u32,
    /// Hash of its tags, or the time of delivery in the topic of delayed messages.
    pub(crate) tags_code: i64,
}

impl Unit {
    /// Fills the place before the first message of a queue that was made late (`ConsumeQueue.fillPreBlank`).
    pub(crate) const PADDING: Self = Self {
        physical_offset: 0,
        size: i32::MAX as u32,
        tags_code: 0,
    };

    fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.pack());
    }

    /// As 20 bytes.
    pub(crate) fn pack(self) -> [u8; UNIT] {
        let mut bytes = [0; UNIT];
        let (offset, rest) = bytes.split_at_mut(8);
        let (size, tags_code) = rest.split_at_mut(4);
        offset.copy_from_slice(&self.physical_offset.to_be_bytes());
        size.copy_from_slice(&self.size.to_be_bytes());
        tags_code.copy_from_slice(&self.tags_code.to_be_bytes());
        bytes
    }

    /// From 20 bytes.
    pub(crate) fn unpack(bytes: [u8; UNIT]) -> Self {
        Self::decode(&bytes).unwrap_or(Self::PADDING)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (physical_offset, rest) = bytes.split_first_chunk()?;
        let (size, rest) = rest.split_first_chunk()?;
        Some(Self {
            physical_offset: u64::from_be_bytes(*physical_offset),
            size: u32::from_be_bytes(*size),
            tags_code: i64::from_be_bytes(*rest.first_chunk()?),
        })
    }

    /// Whether anything was written here.
    fn is_written(self) -> bool {
        self.size > 0
            && i32::try_from(self.size).is_ok()
            && i64::try_from(self.physical_offset).is_ok()
    }

    /// Whether this unit stands for a message that lies at or beyond `min`.
    fn is_at_least(self, min: u64) -> bool {
        self != Self::PADDING && self.physical_offset >= min
    }
}

/// See the module.
pub(crate) struct ConsumeQueue {
    dir: Arc<dyn Directory>,
    folder: String,
    units_per_file: u64,
    /// Index of the first unit, and the file.
    files: VecDeque<(u64, Arc<dyn Segment>)>,
    /// First index whose message is still in the log.
    min: u64,
    /// All before this index is written to files.
    saved: u64,
    /// Index of the first unit in `recent`.
    recent_start: u64,
    /// The newest units, all unsaved ones among them.
    recent: VecDeque<Unit>,
    /// Files written since they were last flushed, by first index.
    unflushed: Vec<u64>,
}

impl ConsumeQueue {
    /// A queue without messages and files.
    pub(crate) fn new(
        dir: Arc<dyn Directory>,
        topic: &TopicName,
        queue_id: QueueId,
        file_bytes: u64,
    ) -> Self {
        Self {
            dir,
            folder: folder_of(topic.as_str(), queue_id),
            units_per_file: file_bytes / UNIT_BYTES,
            files: VecDeque::new(),
            min: 0,
            saved: 0,
            recent_start: 0,
            recent: VecDeque::new(),
            unflushed: Vec::new(),
        }
    }

    /// Opens the files that are there. [`ConsumeQueue::cut`] must follow.
    pub(crate) fn open(
        dir: Arc<dyn Directory>,
        topic: &TopicName,
        queue_id: QueueId,
        file_bytes: u64,
    ) -> io::Result<Self> {
        let mut queue = Self::new(dir, topic, queue_id, file_bytes);
        for entry in queue.dir.list(&queue.folder)? {
            let Ok(offset) = entry.name.parse::<u64>() else {
                continue;
            };
            if entry.is_folder || entry.name.len() != 20 || offset % file_bytes != 0 {
                continue;
            }
            if entry.len == 0 {
                // Its maker was killed before it had its length; left there, it could never be made.
                queue
                    .dir
                    .remove(&format!("{}/{}", queue.folder, entry.name))?;
            }
            if entry.len != file_bytes {
                continue;
            }
            let first = offset / UNIT_BYTES;
            // A gap cannot be read over: only the newest unbroken run of files counts.
            if queue
                .files
                .back()
                .is_some_and(|(before, _)| before + queue.units_per_file != first)
            {
                queue.files.clear();
            }
            let segment = queue.dir.open(
                &format!("{}/{}", queue.folder, entry.name),
                SegmentOptions::default(),
            )?;
            queue.files.push_back((first, segment));
        }
        queue.min = queue.files.front().map_or(0, |(first, _)| *first);
        queue.saved = queue
            .files
            .back()
            .map_or(0, |(first, _)| first + queue.units_per_file);
        queue.recent_start = queue.saved;
        Ok(queue)
    }

    /// Keeps the units of messages before `end` and cuts away all others, in the files too if `wipe`. Returns the last
    /// unit kept and its index.
    pub(crate) fn cut(&mut self, end: u64, wipe: bool) -> io::Result<Option<(u64, Unit)>> {
        let first = self.files.front().map_or(0, |(first, _)| *first);
        let all = self
            .files
            .back()
            .map_or(first, |(last, _)| last + self.units_per_file);
        let max = partition(first, all, |index| {
            Ok(self
                .read_file(index)?
                .is_some_and(|unit| unit.is_written() && unit.physical_offset < end))
        })?;
        self.saved = max;
        self.recent_start = max;
        self.recent.clear();
        self.min = self.min.min(max);
        let stale = max < all
            && self
                .read_file(max)?
                .is_some_and(|unit| unit.physical_offset != 0 || unit.size != 0);
        if wipe || stale {
            self.wipe_from(max)?;
        }
        if max == first {
            return Ok(None);
        }
        Ok(self.read_file(max - 1)?.map(|unit| (max - 1, unit)))
    }

    fn wipe_from(&mut self, index: u64) -> io::Result<()> {
        while let Some((first, _)) = self.files.back()
            && *first > index
        {
            let path = self.path(*first);
            self.dir.remove(&path)?;
            self.files.pop_back();
        }
        self.dir.sync(&self.folder)?;
        if let Some((first, segment)) = self.files.back()
            && index < first + self.units_per_file
        {
            segment.zero((index - first) * UNIT_BYTES, segment.len())?;
            segment.flush(0)?;
        }
        Ok(())
    }

    /// First index whose message is still in the log.
    pub(crate) fn min(&self) -> u64 {
        self.min.min(self.max())
    }

    /// One behind the last index.
    pub(crate) fn max(&self) -> u64 {
        self.recent_start + self.recent.len() as u64
    }

    /// Puts the unit of a message; one that is there already is passed over. A gap, which a damaged queue can show, is
    /// filled with padding.
    pub(crate) fn put(&mut self, index: u64, unit: Unit) {
        if index < self.max() {
            return;
        }
        if self.max() == 0 && index > 0 {
            self.min = index;
            self.saved = index;
            self.recent_start = index;
        }
        if self.min == self.max() && index - self.min <= GAP_MAX {
            // Nothing readable is left before: the first message that is still there begins the queue.
            self.min = index;
        }
        if self.max() > 0 && index - self.max() > GAP_MAX {
            tracing::error!(
                queue = self.folder,
                index,
                end = self.max(),
                "a record's queue offset cannot be; it is left out"
            );
            return;
        }
        while self.max() < index {
            self.recent.push_back(Unit::PADDING);
        }
        self.recent.push_back(unit);
    }

    /// The unit at `index`.
    pub(crate) fn get(&self, index: u64) -> io::Result<Option<Unit>> {
        if let Some(recent) = index.checked_sub(self.recent_start) {
            return Ok(usize::try_from(recent)
                .ok()
                .and_then(|recent| self.recent.get(recent))
                .copied());
        }
        Ok(self.read_file(index)?.filter(|unit| unit.is_written()))
    }

    /// At most `count` units from `index` on; fewer at the end of a file or of the queue.
    pub(crate) fn read(&self, index: u64, count: usize) -> io::Result<Vec<Unit>> {
        if let Some(skip) = index.checked_sub(self.recent_start) {
            let skip = usize::try_from(skip).unwrap_or(usize::MAX);
            return Ok(self.recent.iter().skip(skip).take(count).copied().collect());
        }
        let Some((first, segment)) = self.file_of(index) else {
            return Ok(Vec::new());
        };
        let left = (first + self.units_per_file).min(self.recent_start) - index;
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(count);
        let mut bytes = vec![0; count * UNIT];
        segment.read_at((index - first) * UNIT_BYTES, &mut bytes)?;
        let units = bytes.chunks_exact(UNIT).filter_map(Unit::decode);
        Ok(units.take_while(|unit| unit.is_written()).collect())
    }

    fn file_of(&self, index: u64) -> Option<(u64, &Arc<dyn Segment>)> {
        let (start, _) = self.files.front()?;
        let at = usize::try_from(index.checked_sub(*start)? / self.units_per_file).ok()?;
        self.files.get(at).map(|(first, segment)| (*first, segment))
    }

    fn read_file(&self, index: u64) -> io::Result<Option<Unit>> {
        let Some((first, segment)) = self.file_of(index) else {
            return Ok(None);
        };
        let mut bytes = [0; UNIT];
        segment.read_at((index - first) * UNIT_BYTES, &mut bytes)?;
        Ok(Unit::decode(&bytes))
    }

    fn path(&self, first: u64) -> String {
        format!("{}/{:020}", self.folder, first * UNIT_BYTES)
    }

    /// Writes what is only in memory to files, which [`ConsumeQueue::take_unflushed`] then names.
    pub(crate) fn save(&mut self) -> io::Result<()> {
        while self.saved < self.max() {
            let first = self.saved / self.units_per_file * self.units_per_file;
            let segment = self.file_for(first)?;
            let end = self.max().min(first + self.units_per_file);
            let skip = usize::try_from(self.saved - self.recent_start).unwrap_or(usize::MAX);
            let count = usize::try_from(end - self.saved).unwrap_or(usize::MAX);
            let mut bytes = Vec::with_capacity(count * UNIT);
            self.recent
                .iter()
                .skip(skip)
                .take(count)
                .for_each(|unit| unit.encode(&mut bytes));
            segment.write_at((self.saved - first) * UNIT_BYTES, &[IoSlice::new(&bytes)])?;
            if self.unflushed.last() != Some(&first) {
                self.unflushed.push(first);
            }
            self.saved = end;
        }
        let saved = usize::try_from(self.saved - self.recent_start).unwrap_or(usize::MAX);
        let surplus = saved.min(self.recent.len().saturating_sub(RECENT_MAX));
        self.recent.drain(..surplus);
        self.recent_start += surplus as u64;
        Ok(())
    }

    fn file_for(&mut self, first: u64) -> io::Result<Arc<dyn Segment>> {
        if let Some((at, segment)) = self.files.back()
            && *at == first
        {
            return Ok(Arc::clone(segment));
        }
        if self.files.is_empty() {
            self.dir.create_folder(&self.folder)?;
        }
        let segment = self.dir.create(
            &self.path(first),
            self.units_per_file * UNIT_BYTES,
            SegmentOptions::default(),
        )?;
        if self.files.is_empty() && self.saved > first {
            let mut bytes = Vec::new();
            (first..self.saved).for_each(|_| Unit::PADDING.encode(&mut bytes));
            segment.write_at(0, &[IoSlice::new(&bytes)])?;
        }
        self.files.push_back((first, Arc::clone(&segment)));
        Ok(segment)
    }

    /// The files that were written since the last call, with their paths; to be flushed before the position that the
    /// units stand for is called secured.
    pub(crate) fn take_unflushed(&mut self) -> Vec<(String, Arc<dyn Segment>)> {
        let firsts = std::mem::take(&mut self.unflushed);
        let files = self
            .files
            .iter()
            .filter(|(first, _)| firsts.contains(first));
        files
            .map(|(first, segment)| (self.path(*first), Arc::clone(segment)))
            .collect()
    }

    /// The log begins at `log_min` now: moves the first index there and removes files before it. Returns how many
    /// messages went.
    pub(crate) fn remove_before(&mut self, log_min: u64) -> io::Result<u64> {
        let before = self.min();
        let start = self
            .files
            .front()
            .map_or(self.recent_start, |(first, _)| *first)
            .max(before);
        self.min = partition(start, self.max(), |index| {
            Ok(!self
                .get(index)?
                .is_some_and(|unit| unit.is_at_least(log_min)))
        })?;
        let mut any = false;
        while let (Some((first, _)), true) = (self.files.front(), self.files.len() > 1) {
            if first + self.units_per_file > self.min {
                break;
            }
            self.dir.remove(&self.path(*first))?;
            self.files.pop_front();
            any = true;
        }
        if any {
            self.dir.sync(&self.folder)?;
        }
        Ok(self.min() - before)
    }
}

/// `consumequeue/<topic>/<queueId>`.
pub(crate) fn folder_of(topic: &str, queue_id: QueueId) -> String {
    format!("{FOLDER}/{topic}/{queue_id}")
}

/// The first index in `low..high` for which `before` is false, `high` if there is none; `before` must not become true
/// again.
pub(crate) fn partition(
    low: u64,
    high: u64,
    before: impl Fn(u64) -> io::Result<bool>,
) -> io::Result<u64> {
    let (mut low, mut high) = (low, high);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle)? {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
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

    fn queue(dir: &MemoryDirectory) -> ConsumeQueue {
        let topic = TopicName::parse("t").unwrap();
        ConsumeQueue::open(Arc::new(dir.clone()), &topic, QueueId(0), 200).unwrap()
    }

    #[test]
    fn units_are_read_back_from_memory_and_from_files() {
        let dir = MemoryDirectory::default();
        let mut first = queue(&dir);
        (0..25).for_each(|index| first.put(index, unit(index * 100)));
        assert_eq!(first.get(24).unwrap(), Some(unit(2400)));
        first.save().unwrap();
        let mut again = queue(&dir);
        assert_eq!(again.cut(u64::MAX, false).unwrap(), Some((24, unit(2400))));
        assert_eq!((again.min(), again.max()), (0, 25));
        assert_eq!(
            again.read(8, 10).unwrap(),
            [unit(800), unit(900)],
            "a read ends with its file"
        );
        assert_eq!(again.get(25).unwrap(), None);
    }

    #[test]
    fn a_file_whose_maker_was_killed_before_it_had_its_length_is_made_again() {
        let dir = MemoryDirectory::default();
        let mut first = queue(&dir);
        (0..10).for_each(|index| first.put(index, unit(index * 100)));
        first.save().unwrap();
        let next = "consumequeue/t/0/00000000000000000200";
        dir.create(next, 0, SegmentOptions::default()).unwrap();
        let mut again = queue(&dir);
        again.cut(u64::MAX, false).unwrap();
        again.put(10, unit(1000));
        again.save().unwrap();
        assert_eq!(queue(&dir).files.len(), 2);
    }

    #[test]
    fn a_cut_removes_units_of_messages_beyond_it_from_the_files() {
        let dir = MemoryDirectory::default();
        let mut first = queue(&dir);
        (0..25).for_each(|index| first.put(index, unit(index * 100)));
        first.save().unwrap();
        let mut again = queue(&dir);
        assert_eq!(again.cut(500, true).unwrap(), Some((4, unit(400))));
        let mut third = queue(&dir);
        assert_eq!(third.cut(u64::MAX, false).unwrap(), Some((4, unit(400))));
    }

    #[test]
    fn a_queue_that_begins_late_is_padded_as_apache_does() {
        let dir = MemoryDirectory::default();
        let mut first = queue(&dir);
        first.put(13, unit(700));
        first.save().unwrap();
        assert_eq!((first.min(), first.max()), (13, 14));
        let mut again = queue(&dir);
        again.cut(u64::MAX, false).unwrap();
        assert_eq!(again.get(12).unwrap(), Some(Unit::PADDING));
        again.remove_before(0).unwrap();
        assert_eq!((again.min(), again.max()), (13, 14));
    }

    #[test]
    fn retention_moves_the_first_index_and_removes_whole_files() {
        let dir = MemoryDirectory::default();
        let mut queue = queue(&dir);
        (0..25).for_each(|index| queue.put(index, unit(index * 100)));
        queue.save().unwrap();
        assert_eq!(queue.remove_before(1550).unwrap(), 16);
        assert_eq!((queue.min(), queue.max(), queue.files.len()), (16, 25, 2));
        assert_eq!(queue.remove_before(10_000).unwrap(), 9);
        assert_eq!((queue.min(), queue.max(), queue.files.len()), (25, 25, 1));
    }

    /// Found by the model: retention had removed messages whose units were never written.
    #[test]
    fn a_queue_whose_messages_are_all_gone_begins_with_the_next_one() {
        let dir = MemoryDirectory::default();
        let mut queue = queue(&dir);
        (0..3).for_each(|index| queue.put(index, unit(index * 100)));
        queue.remove_before(5000).unwrap();
        queue.put(7, unit(5000));
        assert_eq!((queue.min(), queue.max()), (7, 8));
        assert_eq!(queue.read(7, 10).unwrap(), [unit(5000)]);
    }
}

//! One ConsumeQueue in Apache's form: read when a store that Apache's broker wrote is taken over ([`crate::import`]), and
//! written by an export ([`crate::export`]). Our own form is in [`crate::queues`].
//!
//! ```text
//! consumequeue/<topic>/<queueId>/<20-digit byte offset of the file's first unit>      units one after the other
//! ```
//!
//! All files of a queue are of one size, which the broker's configuration says. What was not written yet is zero.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;
use rocket_mapped_file::{Directory, Segment, SegmentOptions};
use rocket_protocol::{QueueId, TopicName};

use crate::search::partition;
use crate::unit::{UNIT, UNIT_BYTES, Unit};

/// The folder of all queues.
pub(crate) const FOLDER: &str = "consumequeue";

/// `consumequeue/<topic>/<queueId>`.
pub(crate) fn folder_of(topic: &TopicName, queue_id: QueueId) -> String {
    format!("{FOLDER}/{topic}/{queue_id}")
}

fn is_written(unit: Unit) -> bool {
    unit.size > 0 && i32::try_from(unit.size).is_ok() && i64::try_from(unit.physical_offset).is_ok()
}

/// The one file of all queues that is open: the one that was read last. Folders with more files than a process may open are
/// read all the same.
pub(crate) struct LastRead {
    dir: Arc<dyn Directory>,
    file: Mutex<Option<(String, Arc<dyn Segment>)>>,
}

impl LastRead {
    /// None so far.
    pub(crate) fn new(dir: Arc<dyn Directory>) -> Arc<Self> {
        Arc::new(Self {
            dir,
            file: Mutex::default(),
        })
    }

    fn read_at(&self, path: &str, len: u64, at: u64, into: &mut [u8]) -> io::Result<()> {
        let mut last = self.file.lock();
        if last.as_ref().is_none_or(|(of, _)| of != path) {
            // Closed before another one is opened.
            *last = None;
            let file = self.dir.open_later(path, len, SegmentOptions::default())?;
            *last = Some((path.to_owned(), file));
        }
        match &*last {
            Some((_, file)) => file.read_at(at, into),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// The files of a queue. They are left as they are.
pub(crate) struct Reader {
    last: Arc<LastRead>,
    folder: String,
    file_bytes: u64,
    units_per_file: u64,
    /// The index of the first unit of the first file.
    first: u64,
    /// How many files follow one another from there on.
    files: u64,
    /// The index of the first unit of the newest file that does not count, if that is the newest of all.
    unread: Option<u64>,
}

impl Reader {
    /// Looks which files are there. A gap cannot be read over: only the newest unbroken run of whole files counts.
    pub(crate) fn open(
        last: &Arc<LastRead>,
        topic: &TopicName,
        queue_id: QueueId,
        file_bytes: u64,
    ) -> io::Result<Self> {
        let mut reader = Self {
            last: Arc::clone(last),
            folder: folder_of(topic, queue_id),
            file_bytes,
            units_per_file: file_bytes / UNIT_BYTES,
            first: 0,
            files: 0,
            unread: None,
        };
        for entry in last.dir.list(&reader.folder)? {
            let Ok(offset) = entry.name.parse::<u64>() else {
                continue;
            };
            if entry.is_folder || entry.name.len() != 20 {
                continue;
            }
            let first = offset / UNIT_BYTES;
            if !offset.is_multiple_of(file_bytes) || entry.len != file_bytes {
                reader.unread = Some(first);
                continue;
            }
            reader.unread = None;
            if reader.end_of_files() != first {
                (reader.first, reader.files) = (first, 0);
            }
            reader.files += 1;
        }
        Ok(reader)
    }

    /// Whether the newest file counts.
    pub(crate) fn is_whole(&self) -> bool {
        self.unread.is_none()
    }

    /// So many messages the queue had at least when its newest file was made.
    pub(crate) fn named(&self) -> u64 {
        self.unread.unwrap_or(0)
    }

    fn end_of_files(&self) -> u64 {
        self.first + self.files * self.units_per_file
    }

    /// The indexes of the units of messages from `log_min` to `log_end`; only what lies before the first message beyond
    /// counts as written.
    pub(crate) fn range(&self, log_min: u64, log_end: u64) -> io::Result<Range<u64>> {
        let end = partition(self.first, self.end_of_files(), |index| {
            let unit = self.get(index)?;
            Ok(unit.is_some_and(|unit| unit.physical_offset < log_end))
        })?;
        let start = partition(self.first, end, |index| {
            let unit = self.get(index)?;
            Ok(!unit.is_some_and(|unit| unit.is_at_least(log_min)))
        })?;
        Ok(start..end)
    }

    /// The unit at `index`, if one was written.
    pub(crate) fn get(&self, index: u64) -> io::Result<Option<Unit>> {
        Ok(self.read(index, 1)?.first().copied())
    }

    /// At most `count` units from `index` on; fewer at the end of a file or of what was written.
    pub(crate) fn read(&self, index: u64, count: usize) -> io::Result<Vec<Unit>> {
        if !(self.first..self.end_of_files()).contains(&index) {
            return Ok(Vec::new());
        }
        // Whole files from the beginning of the queue, whether they are there or not.
        let place = index % self.units_per_file;
        let path = format!("{}/{:020}", self.folder, (index - place) * UNIT_BYTES);
        let left = usize::try_from(self.units_per_file - place).unwrap_or(usize::MAX);
        let mut bytes = vec![0; count.min(left) * UNIT];
        let at = place * UNIT_BYTES;
        self.last.read_at(&path, self.file_bytes, at, &mut bytes)?;
        let (units, _) = bytes.as_chunks();
        let units = units.iter().copied().map(Unit::unpack);
        Ok(units.take_while(|unit| is_written(*unit)).collect())
    }
}

/// A queue that is being written.
pub(crate) struct Writer {
    dir: Arc<dyn Directory>,
    folder: String,
    units_per_file: u64,
    /// The index of the next unit.
    next: u64,
    /// With the index of the first unit of the last one.
    files: Vec<Arc<dyn Segment>>,
    last: u64,
}

impl Writer {
    /// A queue without files, whose first message has the index `first`.
    pub(crate) fn new(
        dir: Arc<dyn Directory>,
        topic: &TopicName,
        queue_id: QueueId,
        file_bytes: u64,
        first: u64,
    ) -> io::Result<Self> {
        let folder = folder_of(topic, queue_id);
        dir.create_folder(&folder)?;
        Ok(Self {
            dir,
            folder,
            units_per_file: file_bytes / UNIT_BYTES,
            next: first,
            files: Vec::new(),
            last: 0,
        })
    }

    /// Writes the units of the next messages.
    pub(crate) fn append(&mut self, mut units: &[Unit]) -> io::Result<()> {
        while !units.is_empty() {
            let place = self.next % self.units_per_file;
            let room = usize::try_from(self.units_per_file - place).unwrap_or(usize::MAX);
            let (now, later) = units.split_at(room.min(units.len()));
            self.write(self.next - place, place, now)?;
            self.next += now.len() as u64;
            units = later;
        }
        Ok(())
    }

    /// Writes `units` to their `place` in the file that begins with the unit `first`.
    fn write(&mut self, first: u64, place: u64, units: &[Unit]) -> io::Result<()> {
        let file = match self.files.last() {
            Some(file) if self.last == first => Arc::clone(file),
            before => {
                // A queue that begins late is padded from the beginning of its first file on, as Apache's broker does.
                let padding = if before.is_none() { place } else { 0 };
                let path = format!("{}/{:020}", self.folder, first * UNIT_BYTES);
                let len = self.units_per_file * UNIT_BYTES;
                let file = self.dir.create(&path, len, SegmentOptions::default())?;
                let padding: Vec<u8> = (0..padding).flat_map(|_| Unit::PADDING.pack()).collect();
                file.write_at(0, &[IoSlice::new(&padding)])?;
                self.files.push(Arc::clone(&file));
                self.last = first;
                file
            }
        };
        let bytes: Vec<u8> = units.iter().flat_map(|unit| unit.pack()).collect();
        file.write_at(place * UNIT_BYTES, &[IoSlice::new(&bytes)])
    }

    /// Flushes the files and gives them.
    pub(crate) fn finish(self) -> io::Result<Vec<Arc<dyn Segment>>> {
        self.files.iter().try_for_each(|file| file.flush(0))?;
        Ok(self.files)
    }
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

    /// Ten units a file; the message of index `n` lies at `100 * n`.
    fn write(dir: &MemoryDirectory, indexes: Range<u64>) -> Vec<Arc<dyn Segment>> {
        let topic = TopicName::parse("t").unwrap();
        let dir = Arc::new(dir.clone());
        let mut writer = Writer::new(dir, &topic, QueueId(0), 200, indexes.start).unwrap();
        let units: Vec<Unit> = indexes.map(|index| unit(index * 100)).collect();
        // Runs that do not end where files do.
        for run in units.chunks(7) {
            writer.append(run).unwrap();
        }
        writer.finish().unwrap()
    }

    fn read(dir: &MemoryDirectory) -> Reader {
        let topic = TopicName::parse("t").unwrap();
        let last = LastRead::new(Arc::new(dir.clone()));
        Reader::open(&last, &topic, QueueId(0), 200).unwrap()
    }

    #[test]
    fn units_are_read_back() {
        let dir = MemoryDirectory::default();
        assert_eq!(write(&dir, 0..25).len(), 3);
        let queue = read(&dir.crashed(1));
        assert_eq!(queue.range(0, u64::MAX).unwrap(), 0..25);
        assert_eq!(queue.get(24).unwrap(), Some(unit(2400)));
        assert_eq!(queue.get(25).unwrap(), None);
        assert_eq!(queue.get(30).unwrap(), None);
        let to_its_files_end = queue.read(8, 10).unwrap();
        assert_eq!(to_its_files_end, [unit(800), unit(900)]);
    }

    #[test]
    fn only_messages_that_the_log_has_count() {
        let dir = MemoryDirectory::default();
        write(&dir, 0..25);
        let queue = read(&dir);
        assert_eq!(queue.range(1550, 2000).unwrap(), 16..20);
        assert_eq!(queue.range(0, 500).unwrap(), 0..5);
        assert_eq!(queue.range(10_000, u64::MAX).unwrap(), 25..25);
    }

    #[test]
    fn a_queue_that_begins_late_is_padded_as_apache_does() {
        let dir = MemoryDirectory::default();
        assert_eq!(write(&dir, 13..22).len(), 2);
        assert_eq!(dir.list_names("consumequeue/t/0").len(), 2);
        let queue = read(&dir);
        assert_eq!(queue.get(9).unwrap(), None);
        assert_eq!(queue.get(10).unwrap(), Some(Unit::PADDING));
        assert_eq!(queue.range(0, u64::MAX).unwrap(), 13..22);
    }

    /// A file whose maker was killed before it had its length, say.
    #[test]
    fn only_the_newest_unbroken_run_of_files_counts() {
        let dir = MemoryDirectory::default();
        write(&dir, 0..45);
        let folder = "consumequeue/t/0/";
        dir.remove(&format!("{folder}{:020}", 200)).unwrap();
        let short = format!("{folder}{:020}", 200);
        dir.create(&short, 0, SegmentOptions::default()).unwrap();
        assert_eq!(read(&dir).range(0, u64::MAX).unwrap(), 20..45);
    }

    #[test]
    fn a_queue_without_files_has_no_messages() {
        let queue = read(&MemoryDirectory::default());
        assert_eq!(queue.range(0, u64::MAX).unwrap(), 0..0);
    }
}

//! Index files as Apache's broker keeps them. Those of an imported folder are read where they are, and never added to;
//! an export makes new ones from the log.
//!
//! ```text
//! index/<yyyyMMddHHmmssSSS>                                                     big-endian
//!  0 begin timestamp i64 · 8 end timestamp i64 · 16 begin offset i64 · 24 end offset i64 · 32 used slots i32 · 36 next entry i32
//! 40 slots: number of the newest entry, i32 each
//!  … entries: key hash i32 · physical offset i64 · seconds after the begin timestamp i32 · number of the entry before i32
//! ```
//!
//! Entry 0 is never used. After an Apache broker that did not stop in order, the slots of the newest file are made anew
//! from its entries, of which those before the secured position are whole.

use std::io::{self, IoSlice};
use std::sync::Arc;

use rocket_mapped_file::{Directory, Segment, SegmentOptions};

use crate::checksums::is_damage;

pub(crate) const FOLDER: &str = "index";
const HEADER: usize = 40;
pub(super) const HEADER_BYTES: u64 = HEADER as u64;
const SLOT: usize = 4;
const SLOT_BYTES: u64 = SLOT as u64;
pub(super) const ENTRY: usize = 20;
const ENTRY_BYTES: u64 = ENTRY as u64;
/// Entries looked at in one chain at most: a chain in a damaged file could be a circle.
const CHAIN_MAX: usize = 1 << 20;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) begin_timestamp: i64,
    pub(super) end_timestamp: i64,
    pub(super) begin_offset: i64,
    pub(super) end_offset: i64,
    pub(super) used_slots: i32,
    pub(super) next_entry: i32,
}

impl Header {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER);
        for field in [
            self.begin_timestamp,
            self.end_timestamp,
            self.begin_offset,
            self.end_offset,
        ] {
            bytes.extend_from_slice(&field.to_be_bytes());
        }
        bytes.extend_from_slice(&self.used_slots.to_be_bytes());
        bytes.extend_from_slice(&self.next_entry.to_be_bytes());
        bytes
    }

    /// When the message of an entry was stored, in whole seconds. Nothing vouches for either, so it may be any time.
    fn time_of(&self, entry: &Entry) -> i64 {
        self.begin_timestamp
            .saturating_add(i64::from(entry.seconds) * 1000)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut longs = bytes
            .chunks_exact(8)
            .filter_map(|field| field.first_chunk())
            .map(|field| i64::from_be_bytes(*field));
        let mut next = || longs.next();
        let (begin_timestamp, end_timestamp, begin_offset, end_offset) =
            (next()?, next()?, next()?, next()?);
        let (used_slots, rest) = bytes.get(32..)?.split_first_chunk()?;
        Some(Self {
            begin_timestamp,
            end_timestamp,
            begin_offset,
            end_offset,
            used_slots: i32::from_be_bytes(*used_slots),
            next_entry: i32::from_be_bytes(*rest.first_chunk()?).max(1),
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) hash: i32,
    pub(super) physical_offset: i64,
    pub(super) seconds: i32,
    pub(super) before: i32,
}

impl Entry {
    pub(super) fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.hash.to_be_bytes());
        out.extend_from_slice(&self.physical_offset.to_be_bytes());
        out.extend_from_slice(&self.seconds.to_be_bytes());
        out.extend_from_slice(&self.before.to_be_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (hash, rest) = bytes.split_first_chunk()?;
        let (physical_offset, rest) = rest.split_first_chunk()?;
        let (seconds, rest) = rest.split_first_chunk()?;
        Some(Self {
            hash: i32::from_be_bytes(*hash),
            physical_offset: i64::from_be_bytes(*physical_offset),
            seconds: i32::from_be_bytes(*seconds),
            before: i32::from_be_bytes(*rest.first_chunk()?),
        })
    }
}

/// How many slots and entries a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) slots: u32,
    pub(crate) entries: u32,
}

impl Sizes {
    pub(crate) fn file_bytes(self) -> u64 {
        HEADER_BYTES + u64::from(self.slots) * SLOT_BYTES + u64::from(self.entries) * ENTRY_BYTES
    }

    pub(super) fn entry_at(self, number: u64) -> u64 {
        HEADER_BYTES + u64::from(self.slots) * SLOT_BYTES + number * ENTRY_BYTES
    }

    pub(super) fn slot_of(self, hash: i32) -> u64 {
        u64::from(hash.unsigned_abs()) % u64::from(self.slots)
    }
}

/// A file of Apache's.
struct ApacheFile {
    path: String,
    segment: Arc<dyn Segment>,
    header: Header,
}

/// All files of Apache's, oldest first. Clones share the files.
#[derive(Clone)]
pub(crate) struct ApacheFiles {
    sizes: Sizes,
    files: Vec<Arc<ApacheFile>>,
}

impl ApacheFiles {
    /// Opens the files that have the size that the settings ask for; others are left alone and not used.
    pub(crate) fn open(dir: &dyn Directory, sizes: Sizes) -> io::Result<Self> {
        let mut files = Vec::new();
        for entry in dir.list(FOLDER)? {
            if entry.is_folder
                || entry.len != sizes.file_bytes()
                || entry.name.parse::<u64>().is_err()
            {
                tracing::warn!(
                    file = entry.name,
                    bytes = entry.len,
                    "index file of another size is not used"
                );
                continue;
            }
            let path = format!("{FOLDER}/{}", entry.name);
            let segment = dir.open(&path, SegmentOptions::default())?;
            let mut bytes = [0; HEADER];
            match segment.read_at(0, &mut bytes) {
                Err(error) if is_damage(&error) => {
                    tracing::error!(file = path, %error, "index file that cannot be read is not used");
                    continue;
                }
                read => read?,
            }
            let header = Header::decode(&bytes).unwrap_or_default();
            files.push(Arc::new(ApacheFile {
                path,
                segment,
                header,
            }));
        }
        Ok(Self { sizes, files })
    }

    /// Store time and offset of the newest message with an entry.
    pub(crate) fn newest(&self) -> Option<(i64, u64)> {
        let last = self.files.last()?.header;
        Some((
            last.end_timestamp,
            u64::try_from(last.end_offset).unwrap_or(0),
        ))
    }

    /// Removes files that hold nothing before `secured` and makes the slots of the last one anew.
    pub(crate) fn keep_before(&mut self, dir: &dyn Directory, secured: u64) -> io::Result<()> {
        let signed = i64::try_from(secured).unwrap_or(i64::MAX);
        while let Some(last) = self.files.last() {
            let kept = self.entries_before(last, signed)?;
            if kept.is_empty() {
                dir.remove(&last.path)?;
                dir.sync(FOLDER)?;
                self.files.pop();
                continue;
            }
            return self.make_slots(&kept);
        }
        Ok(())
    }

    /// The entries of messages before `secured`: those that a flush covered.
    fn entries_before(&self, file: &ApacheFile, secured: i64) -> io::Result<Vec<Entry>> {
        let mut kept: Vec<Entry> = Vec::new();
        let end = u64::try_from(file.header.next_entry)
            .unwrap_or(1)
            .min(u64::from(self.sizes.entries));
        let mut number = 1;
        while number < end {
            let count = (end - number).min(1 << 16);
            let mut bytes = vec![0; usize::try_from(count * ENTRY_BYTES).unwrap_or(0)];
            file.segment
                .read_at(self.sizes.entry_at(number), &mut bytes)?;
            for entry in bytes.chunks_exact(ENTRY).filter_map(Entry::decode) {
                let before = kept
                    .last()
                    .map_or(file.header.begin_offset, |last| last.physical_offset);
                if entry.physical_offset >= secured
                    || entry.physical_offset < before
                    || entry.hash < 0
                {
                    return Ok(kept);
                }
                kept.push(entry);
            }
            number += count;
        }
        Ok(kept)
    }

    fn make_slots(&mut self, kept: &[Entry]) -> io::Result<()> {
        let (table, used) = slots_of(self.sizes, kept.iter().map(|entry| entry.hash));
        let bytes: Vec<u8> = table.into_iter().flat_map(i32::to_be_bytes).collect();
        let wipe_from = self.sizes.entry_at(kept.len() as u64 + 1);
        let (Some(file), Some(last)) = (self.files.pop(), kept.last()) else {
            return Ok(());
        };
        let header = Header {
            end_timestamp: file.header.time_of(last),
            end_offset: last.physical_offset,
            used_slots: used,
            next_entry: i32::try_from(kept.len() + 1).unwrap_or(i32::MAX),
            ..file.header
        };
        let segment = Arc::clone(&file.segment);
        segment.zero(wipe_from.min(segment.len()), segment.len())?;
        segment.write_at(HEADER_BYTES, &[IoSlice::new(&bytes)])?;
        segment.write_at(0, &[IoSlice::new(&header.encode())])?;
        segment.flush(0)?;
        self.files.push(Arc::new(ApacheFile {
            path: file.path.clone(),
            segment,
            header,
        }));
        Ok(())
    }

    /// The newest counted entry of a slot. A write that failed halfway leaves slots that name entries which are written
    /// but not counted; those lead back to the counted ones.
    fn read_slot(&self, file: &ApacheFile, slot: u64) -> io::Result<i32> {
        let mut bytes = [0; SLOT];
        file.segment
            .read_at(HEADER_BYTES + slot * SLOT_BYTES, &mut bytes)?;
        let mut number = i32::from_be_bytes(bytes);
        while number >= file.header.next_entry && i64::from(number) < i64::from(self.sizes.entries)
        {
            match self.read_entry(file, number)? {
                Some(entry) if entry.before < number => number = entry.before,
                _ => return Ok(0),
            }
        }
        Ok(number)
    }

    fn read_entry(&self, file: &ApacheFile, number: i32) -> io::Result<Option<Entry>> {
        let mut bytes = [0; ENTRY];
        let at = self.sizes.entry_at(u64::try_from(number).unwrap_or(0));
        file.segment.read_at(at, &mut bytes)?;
        Ok(Entry::decode(&bytes))
    }

    /// As [`super::Index::lookup`]; `hash` is not scattered.
    pub(crate) fn lookup(
        &self,
        hash: i32,
        begin: i64,
        end: i64,
        mut wanted: impl FnMut(u64) -> bool,
    ) -> io::Result<()> {
        for file in self.files.iter().rev() {
            if file.header.begin_timestamp > end {
                continue;
            }
            // The end of a file whose slots were made anew is known in whole seconds.
            if file.header.end_timestamp.saturating_add(999) < begin
                || !self.lookup_file(file, hash, (begin, end), &mut wanted)?
            {
                break;
            }
        }
        Ok(())
    }

    fn lookup_file(
        &self,
        file: &ApacheFile,
        hash: i32,
        (begin, end): (i64, i64),
        wanted: &mut impl FnMut(u64) -> bool,
    ) -> io::Result<bool> {
        let mut number = self.read_slot(file, self.sizes.slot_of(hash))?;
        for _ in 0..CHAIN_MAX {
            if number <= 0 || number >= file.header.next_entry {
                break;
            }
            let Some(entry) = self.read_entry(file, number)? else {
                break;
            };
            // Whole seconds are all that an entry knows: the record decides at the edges.
            let time = file.header.time_of(&entry);
            let last = time.saturating_add(999);
            let matches = entry.hash == hash && time <= end && last >= begin;
            if matches && !wanted(u64::try_from(entry.physical_offset).unwrap_or(u64::MAX)) {
                return Ok(false);
            }
            if last < begin || entry.before >= number {
                break;
            }
            number = entry.before;
        }
        Ok(true)
    }

    /// Removes files all of whose messages lie before `min`. What is left, if that is less.
    pub(crate) fn remove_before(&self, dir: &dyn Directory, min: u64) -> io::Result<Option<Self>> {
        let min = i64::try_from(min).unwrap_or(i64::MAX);
        let mut rest = self.clone();
        rest.files.retain(|file| file.header.end_offset >= min);
        if rest.files.len() == self.files.len() {
            return Ok(None);
        }
        for file in self
            .files
            .iter()
            .filter(|file| file.header.end_offset < min)
        {
            dir.remove(&file.path)?;
        }
        dir.sync(FOLDER)?;
        Ok(Some(rest))
    }
}

/// The slots of a file with entries of these hashes, and how many are used.
fn slots_of(sizes: Sizes, hashes: impl Iterator<Item = i32>) -> (Vec<i32>, i32) {
    let mut table = vec![0_i32; sizes.slots as usize];
    let mut used = 0;
    for (number, hash) in (1_i32..).zip(hashes) {
        let slot = usize::try_from(sizes.slot_of(hash)).unwrap_or(0);
        if let Some(place) = table.get_mut(slot) {
            used += i32::from(*place == 0);
            *place = number;
        }
    }
    (table, used)
}

#[cfg(test)]
mod tests {
    use rocket_mapped_file::memory::MemoryDirectory;

    use super::*;
    use crate::index::apache_files::ApacheWriter;

    const SIZES: Sizes = Sizes {
        slots: 7,
        entries: 20,
    };

    fn written(keys: u64, time: impl Fn(u64) -> i64) -> MemoryDirectory {
        let dir = MemoryDirectory::default();
        let mut writer = ApacheWriter::new(&dir, SIZES).unwrap();
        for number in 0..keys {
            let hash = i32::try_from(number % 9).unwrap();
            writer.add(hash, number * 100, time(number)).unwrap();
        }
        writer.finish().unwrap();
        dir
    }

    fn find(files: &ApacheFiles, hash: i32, begin: i64, end: i64) -> Vec<u64> {
        let mut found = Vec::new();
        files
            .lookup(hash, begin, end, |offset| {
                found.push(offset);
                true
            })
            .unwrap();
        found
    }

    #[test]
    fn keys_are_found_newest_first_across_files() {
        let dir = written(50, |number| 1000 * i64::try_from(number).unwrap());
        let files = ApacheFiles::open(&dir, SIZES).unwrap();
        assert_eq!(files.files.len(), 3, "19 entries fit in a file of 20");
        assert_eq!(
            find(&files, 3, 0, i64::MAX),
            [4800, 3900, 3000, 2100, 1200, 300]
        );
        assert_eq!(find(&files, 3, 12_000, 21_500), [2100, 1200]);
        assert_eq!(files.newest(), Some((49_000, 4900)));
    }

    #[test]
    fn after_a_crash_only_what_was_secured_is_kept_and_the_slots_are_right() {
        let dir = written(30, |_| 5);
        let mut files = ApacheFiles::open(&dir, SIZES).unwrap();
        files.keep_before(&dir, 2500).unwrap();
        assert_eq!(find(&files, 7, 0, i64::MAX), [1600, 700]);
        assert_eq!(files.newest(), Some((5, 2400)));
        let again = ApacheFiles::open(&dir, SIZES).unwrap();
        assert_eq!(find(&again, 7, 0, i64::MAX), [1600, 700]);
    }

    #[test]
    fn a_file_whose_times_cannot_be_is_looked_through_all_the_same() {
        let dir = written(3, |_| 5);
        let path = format!("{FOLDER}/{}", dir.list(FOLDER).unwrap()[0].name);
        let mut content = dir.read(&path).unwrap().unwrap();
        content[..16].copy_from_slice(&[i64::MAX.to_be_bytes(); 2].concat());
        dir.replace(&path, &content).unwrap();
        let mut files = ApacheFiles::open(&dir, SIZES).unwrap();
        assert_eq!(find(&files, 1, 0, i64::MAX), [100]);
        files.keep_before(&dir, 150).unwrap();
        assert_eq!(find(&files, 1, 0, i64::MAX), [100]);
    }

    #[test]
    fn a_file_goes_when_all_its_messages_are_gone() {
        let dir = written(50, |_| 5);
        let files = ApacheFiles::open(&dir, SIZES).unwrap();
        assert!(files.remove_before(&dir, 1800).unwrap().is_none());
        let rest = files.remove_before(&dir, 1900).unwrap().unwrap();
        assert_eq!(find(&rest, 3, 0, i64::MAX), [4800, 3900, 3000, 2100]);
    }
}

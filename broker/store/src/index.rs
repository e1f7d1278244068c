//! The index by key, in files as Apache's broker keeps them:
//!
//! ```text
//! index/<yyyyMMddHHmmssSSS>                                                     big-endian
//!  0 begin timestamp i64 · 8 end timestamp i64 · 16 begin offset i64 · 24 end offset i64 · 32 used slots i32 · 36 next entry i32
//! 40 slots: number of the newest entry, i32 each
//!  … entries: key hash i32 · physical offset i64 · seconds after the begin timestamp i32 · number of the entry before i32
//! ```
//!
//! Entry 0 is never used. A lookup is by hash only: who asks verifies the key on the record. New keys wait in memory and
//! are written in bulk: entries in one piece, then the slots, then the header. After a crash the slots of the newest
//! file are made anew from its entries, of which those before the secured position are whole.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::sync::Arc;

use rocket_mapped_file::{Directory, Segment, SegmentOptions};
use rocket_protocol::{PhysicalOffset, UnixMillis};

const FOLDER: &str = "index";
const HEADER: usize = 40;
const HEADER_BYTES: u64 = HEADER as u64;
const SLOT: usize = 4;
const SLOT_BYTES: u64 = SLOT as u64;
const ENTRY: usize = 20;
const ENTRY_BYTES: u64 = ENTRY as u64;
/// Keys that wait in memory at most before they are written.
const PENDING_MAX: usize = 8192;
/// Entries looked at in one chain at most: a chain in a damaged file could be a circle.
const CHAIN_MAX: usize = 1 << 20;

#[derive(Debug, Clone, Copy)]
struct Key {
    hash: i32,
    physical_offset: u64,
    store_timestamp: i64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Header {
    begin_timestamp: i64,
    end_timestamp: i64,
    begin_offset: i64,
    end_offset: i64,
    used_slots: i32,
    next_entry: i32,
}

impl Header {
    fn encode(self) -> Vec<u8> {
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
struct Entry {
    hash: i32,
    physical_offset: i64,
    seconds: i32,
    before: i32,
}

impl Entry {
    fn encode(self, out: &mut Vec<u8>) {
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

struct IndexFile {
    path: String,
    segment: Arc<dyn Segment>,
    header: Header,
    is_flushed: bool,
}

/// See the module.
pub(crate) struct Index {
    dir: Arc<dyn Directory>,
    slots: u32,
    entries: u32,
    files: Vec<IndexFile>,
    pending: Vec<Key>,
    newest: (UnixMillis, PhysicalOffset),
}

impl Index {
    /// Opens the files that have the size that the settings ask for; others are left alone and not used. After a stop
    /// without order only what was indexed before `secured` is kept.
    pub(crate) fn open(
        dir: Arc<dyn Directory>,
        slots: u32,
        entries: u32,
        secured: Option<u64>,
    ) -> io::Result<Self> {
        dir.create_folder(FOLDER)?;
        let mut index = Self {
            dir,
            slots,
            entries,
            files: Vec::new(),
            pending: Vec::new(),
            newest: Default::default(),
        };
        for entry in index.dir.list(FOLDER)? {
            if !entry.is_folder && entry.len == 0 {
                // Its maker was stopped before it had its length; left there, it could never be made again.
                index.dir.remove(&format!("{FOLDER}/{}", entry.name))?;
                continue;
            }
            if entry.is_folder
                || entry.len != index.file_bytes()
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
            let segment = index.dir.open(&path, SegmentOptions::default())?;
            let mut bytes = [0; HEADER];
            segment.read_at(0, &mut bytes)?;
            let header = Header::decode(&bytes).unwrap_or_default();
            index.files.push(IndexFile {
                path,
                segment,
                header,
                is_flushed: true,
            });
        }
        if let Some(secured) = secured {
            index.keep_before(secured)?;
        }
        if let Some(last) = index.files.last() {
            let end = u64::try_from(last.header.end_offset).unwrap_or(0);
            index.newest = (UnixMillis(last.header.end_timestamp), PhysicalOffset(end));
        }
        Ok(index)
    }

    fn file_bytes(&self) -> u64 {
        HEADER_BYTES + u64::from(self.slots) * SLOT_BYTES + u64::from(self.entries) * ENTRY_BYTES
    }

    fn entry_at(&self, number: u64) -> u64 {
        HEADER_BYTES + u64::from(self.slots) * SLOT_BYTES + number * ENTRY_BYTES
    }

    fn slot_of(&self, hash: i32) -> u64 {
        u64::from(hash.unsigned_abs()) % u64::from(self.slots)
    }

    /// Removes files that hold nothing before `secured` and makes the slots of the last one anew.
    fn keep_before(&mut self, secured: u64) -> io::Result<()> {
        let signed = i64::try_from(secured).unwrap_or(i64::MAX);
        while let Some(last) = self.files.last() {
            let kept = self.entries_before(last, signed)?;
            if kept.is_empty() {
                self.dir.remove(&last.path)?;
                self.dir.sync(FOLDER)?;
                self.files.pop();
                continue;
            }
            return self.make_slots(&kept);
        }
        Ok(())
    }

    /// The entries of messages before `secured`: those that a flush covered.
    fn entries_before(&self, file: &IndexFile, secured: i64) -> io::Result<Vec<Entry>> {
        let mut kept: Vec<Entry> = Vec::new();
        let end = u64::try_from(file.header.next_entry)
            .unwrap_or(1)
            .min(u64::from(self.entries));
        let mut number = 1;
        while number < end {
            let count = (end - number).min(1 << 16);
            let mut bytes = vec![0; usize::try_from(count * ENTRY_BYTES).unwrap_or(0)];
            file.segment.read_at(self.entry_at(number), &mut bytes)?;
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
        let mut table = vec![0_i32; self.slots as usize];
        let mut used = 0;
        for (number, entry) in (1_i32..).zip(kept) {
            let slot = usize::try_from(self.slot_of(entry.hash)).unwrap_or(0);
            if let Some(place) = table.get_mut(slot) {
                used += i32::from(*place == 0);
                *place = number;
            }
        }
        let bytes: Vec<u8> = table.into_iter().flat_map(i32::to_be_bytes).collect();
        let next_entry = i32::try_from(kept.len() + 1).unwrap_or(i32::MAX);
        let wipe_from = self.entry_at(kept.len() as u64 + 1);
        let Some(file) = self.files.last_mut() else {
            return Ok(());
        };
        let last = kept.last().copied().unwrap_or(Entry {
            hash: 0,
            physical_offset: 0,
            seconds: 0,
            before: 0,
        });
        let end_timestamp = file.header.begin_timestamp + i64::from(last.seconds) * 1000;
        file.header = Header {
            end_timestamp,
            end_offset: last.physical_offset,
            used_slots: used,
            next_entry,
            ..file.header
        };
        file.segment
            .zero(wipe_from.min(file.segment.len()), file.segment.len())?;
        file.segment
            .write_at(HEADER_BYTES, &[IoSlice::new(&bytes)])?;
        file.segment
            .write_at(0, &[IoSlice::new(&file.header.encode())])?;
        file.segment.flush(0)
    }

    /// Adds a key of a message; kept in memory until it is written with others.
    pub(crate) fn add(&mut self, hash: i32, physical_offset: u64, store_timestamp: UnixMillis) {
        if self.newest.1.0 > physical_offset {
            return;
        }
        self.newest = (store_timestamp, PhysicalOffset(physical_offset));
        self.pending.push(Key {
            hash,
            physical_offset,
            store_timestamp: store_timestamp.0,
        });
    }

    /// Store time and offset of the newest message with a key.
    pub(crate) fn newest(&self) -> (UnixMillis, PhysicalOffset) {
        self.newest
    }

    /// Writes the waiting keys if there are many.
    pub(crate) fn save_if_many(&mut self) -> io::Result<()> {
        if self.pending.len() < PENDING_MAX {
            Ok(())
        } else {
            self.save()
        }
    }

    /// Writes the waiting keys. What failed can be tried again.
    pub(crate) fn save(&mut self) -> io::Result<()> {
        while let Some(first) = self.pending.first().copied() {
            let is_full = self
                .files
                .last()
                .is_none_or(|file| i64::from(file.header.next_entry) >= i64::from(self.entries));
            if is_full {
                self.make_file(first.store_timestamp)?;
            }
            let done = self.write_pending()?;
            self.pending.drain(..done);
        }
        Ok(())
    }

    fn make_file(&mut self, timestamp: i64) -> io::Result<()> {
        let mut timestamp = timestamp;
        let path = loop {
            let path = format!("{FOLDER}/{}", file_name(timestamp));
            if self.files.last().is_none_or(|last| last.path < path) {
                break path;
            }
            timestamp += 1;
        };
        let segment = self
            .dir
            .create(&path, self.file_bytes(), SegmentOptions::default())?;
        let header = Header {
            next_entry: 1,
            ..Header::default()
        };
        self.files.push(IndexFile {
            path,
            segment,
            header,
            is_flushed: false,
        });
        Ok(())
    }

    fn write_pending(&mut self) -> io::Result<usize> {
        let Some(file) = self.files.last() else {
            return Ok(0);
        };
        let mut header = file.header;
        let room =
            usize::try_from(i64::from(self.entries) - i64::from(header.next_entry)).unwrap_or(0);
        let batch = self
            .pending
            .get(..self.pending.len().min(room))
            .unwrap_or_default();
        let mut slots: HashMap<u64, i32> = HashMap::new();
        let mut entries = Vec::with_capacity(batch.len() * ENTRY);
        let first_entry = u64::try_from(header.next_entry).unwrap_or(1);
        for key in batch {
            let slot = self.slot_of(key.hash);
            let before = match slots.get(&slot) {
                Some(before) => *before,
                None => self.read_slot(file, slot)?,
            };
            let before = if before < 0 || before >= header.next_entry {
                0
            } else {
                before
            };
            let physical_offset = i64::try_from(key.physical_offset).unwrap_or(i64::MAX);
            if header.next_entry == 1 {
                header.begin_timestamp = key.store_timestamp;
                header.begin_offset = physical_offset;
            }
            let seconds = (key.store_timestamp - header.begin_timestamp).max(0) / 1000;
            let seconds = i32::try_from(seconds).unwrap_or(i32::MAX);
            Entry {
                hash: key.hash,
                physical_offset,
                seconds,
                before,
            }
            .encode(&mut entries);
            slots.insert(slot, header.next_entry);
            header.used_slots += i32::from(before == 0);
            header.next_entry += 1;
            header.end_timestamp = key.store_timestamp;
            header.end_offset = physical_offset;
        }
        file.segment
            .write_at(self.entry_at(first_entry), &[IoSlice::new(&entries)])?;
        for (slot, number) in slots {
            file.segment.write_at(
                HEADER_BYTES + slot * SLOT_BYTES,
                &[IoSlice::new(&number.to_be_bytes())],
            )?;
        }
        file.segment
            .write_at(0, &[IoSlice::new(&header.encode())])?;
        let done = batch.len();
        if let Some(file) = self.files.last_mut() {
            file.header = header;
            file.is_flushed = false;
        }
        Ok(done)
    }

    /// The newest counted entry of a slot. A write that failed halfway leaves slots that name entries which are written
    /// but not counted; those lead back to the counted ones.
    fn read_slot(&self, file: &IndexFile, slot: u64) -> io::Result<i32> {
        let mut bytes = [0; SLOT];
        file.segment
            .read_at(HEADER_BYTES + slot * SLOT_BYTES, &mut bytes)?;
        let mut number = i32::from_be_bytes(bytes);
        while number >= file.header.next_entry && i64::from(number) < i64::from(self.entries) {
            match self.read_entry(file, number)? {
                Some(entry) if entry.before < number => number = entry.before,
                _ => return Ok(0),
            }
        }
        Ok(number)
    }

    fn read_entry(&self, file: &IndexFile, number: i32) -> io::Result<Option<Entry>> {
        let mut bytes = [0; ENTRY];
        file.segment.read_at(
            self.entry_at(u64::try_from(number).unwrap_or(0)),
            &mut bytes,
        )?;
        Ok(Entry::decode(&bytes))
    }

    /// The files that were written since the last call; to be flushed.
    pub(crate) fn take_unflushed(&mut self) -> Vec<(String, Arc<dyn Segment>)> {
        let unflushed = self.files.iter_mut().filter(|file| !file.is_flushed);
        unflushed
            .map(|file| {
                file.is_flushed = true;
                (file.path.clone(), Arc::clone(&file.segment))
            })
            .collect()
    }

    /// Offsets of messages whose key has this hash and that were stored within `begin..=end`, newest first; `wanted`
    /// verifies each and tells whether to go on.
    pub(crate) fn lookup(
        &self,
        hash: i32,
        begin: i64,
        end: i64,
        mut wanted: impl FnMut(u64) -> bool,
    ) -> io::Result<()> {
        for key in self.pending.iter().rev() {
            let matches = key.hash == hash && (begin..=end).contains(&key.store_timestamp);
            if matches && !wanted(key.physical_offset) {
                return Ok(());
            }
        }
        for file in self.files.iter().rev() {
            if file.header.begin_timestamp > end {
                continue;
            }
            if file.header.end_timestamp < begin
                || !self.lookup_file(file, hash, begin, end, &mut wanted)?
            {
                break;
            }
        }
        Ok(())
    }

    fn lookup_file(
        &self,
        file: &IndexFile,
        hash: i32,
        begin: i64,
        end: i64,
        wanted: &mut impl FnMut(u64) -> bool,
    ) -> io::Result<bool> {
        let mut number = self.read_slot(file, self.slot_of(hash))?;
        for _ in 0..CHAIN_MAX {
            if number <= 0 || number >= file.header.next_entry {
                break;
            }
            let Some(entry) = self.read_entry(file, number)? else {
                break;
            };
            // Whole seconds are all that an entry knows: the record decides at the edges.
            let time = file.header.begin_timestamp + i64::from(entry.seconds) * 1000;
            let matches = entry.hash == hash && time <= end && time + 999 >= begin;
            if matches && !wanted(u64::try_from(entry.physical_offset).unwrap_or(u64::MAX)) {
                return Ok(false);
            }
            if time + 999 < begin || entry.before >= number {
                break;
            }
            number = entry.before;
        }
        Ok(true)
    }

    /// Removes files all of whose messages lie before `log_min`; never the last one.
    pub(crate) fn remove_before(&mut self, log_min: u64) -> io::Result<()> {
        let min = i64::try_from(log_min).unwrap_or(i64::MAX);
        while self.files.len() > 1
            && let Some(first) = self.files.first()
            && first.header.end_offset < min
        {
            self.dir.remove(&first.path)?;
            self.dir.sync(FOLDER)?;
            self.files.remove(0);
        }
        Ok(())
    }
}

/// `yyyyMMddHHmmssSSS` in UTC; Apache's broker uses local time, and both only sort by it.
fn file_name(timestamp: i64) -> String {
    let days = timestamp.div_euclid(86_400_000);
    let millis = timestamp.rem_euclid(86_400_000);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (millis / 3_600_000, millis / 60_000 % 60, millis / 1000 % 60);
    format!(
        "{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}{:03}",
        millis % 1000
    )
}

/// The date of a day counted from 1970-01-01, in the proleptic Gregorian calendar (years of 365.2425 days that begin in
/// March, so that the leap day is the last of its year).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use rocket_mapped_file::memory::MemoryDirectory;

    use super::*;

    fn open(dir: &MemoryDirectory, secured: Option<u64>) -> Index {
        Index::open(Arc::new(dir.clone()), 7, 20, secured).unwrap()
    }

    fn find(index: &Index, hash: i32, begin: i64, end: i64) -> Vec<u64> {
        let mut found = Vec::new();
        index
            .lookup(hash, begin, end, |offset| {
                found.push(offset);
                true
            })
            .unwrap();
        found
    }

    #[test]
    fn a_file_whose_maker_was_stopped_before_it_had_its_length_is_made_again() {
        let dir = MemoryDirectory::default();
        let mut first = open(&dir, None);
        first.add(1, 100, UnixMillis(1000));
        first.save().unwrap();
        let path = first.files.last().unwrap().path.clone();
        dir.remove(&path).unwrap();
        dir.create(&path, 0, SegmentOptions::default()).unwrap();
        let mut again = open(&dir, None);
        again.add(1, 100, UnixMillis(1000));
        again.save().unwrap();
        assert_eq!(find(&again, 1, 0, i64::MAX), [100]);
    }

    #[test]
    fn keys_are_found_newest_first_across_files_and_memory() {
        let dir = MemoryDirectory::default();
        let mut index = open(&dir, None);
        for number in 0..50_u64 {
            index.add(
                i32::try_from(number % 5).unwrap(),
                number * 100,
                UnixMillis(1000 * i64::try_from(number).unwrap()),
            );
            if number == 40 {
                index.save().unwrap();
            }
        }
        let expected: Vec<u64> = (0..10).rev().map(|n| (n * 5 + 3) * 100).collect();
        assert_eq!(find(&index, 3, 0, i64::MAX), expected);
        index.save().unwrap();
        assert_eq!(index.files.len(), 3, "19 entries fit in a file of 20");
        assert_eq!(find(&open(&dir, None), 3, 0, i64::MAX), expected);
        assert_eq!(find(&index, 3, 8_000, 13_500), [1300, 800]);
    }

    #[test]
    fn after_a_crash_only_what_was_secured_is_kept_and_the_slots_are_right() {
        let dir = MemoryDirectory::default();
        let mut index = open(&dir, None);
        for number in 0..30_u64 {
            index.add(
                i32::try_from(number % 9).unwrap(),
                number * 100,
                UnixMillis(5),
            );
        }
        index.save().unwrap();
        let mut again = open(&dir, Some(2500));
        assert_eq!(find(&again, 7, 0, i64::MAX), [1600, 700]);
        assert_eq!(again.newest().1, PhysicalOffset(2400));
        again.add(7, 2500, UnixMillis(5));
        again.save().unwrap();
        assert_eq!(find(&again, 7, 0, i64::MAX), [2500, 1600, 700]);
    }

    #[test]
    fn file_names_are_dates() {
        assert_eq!(file_name(0), "19700101000000000");
        assert_eq!(file_name(1_709_164_799_999), "20240228235959999");
        assert_eq!(file_name(1_709_164_800_000), "20240229000000000");
    }
}

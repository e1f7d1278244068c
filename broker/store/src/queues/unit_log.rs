//! The extents of all queues, one behind the other, in a few files.
//!
//! ```text
//! rocket/queues/<20-digit position of the file>.units
//!   0 magic "RKU1" · 4 CRC32 of 8..24 · 8 position u64 · 16 before u64 · 64 extents, none of them across two files
//! ```
//!
//! *before*: every unit in earlier files stands for a message before this offset of the commit log. As units are
//! written in the order in which their messages come, a file goes as a whole once the log begins behind that; nothing
//! is ever moved.
//!
//! What lies behind the end that a table names ([`super::snapshot`]) is not looked at and written over.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;

use rocket_mapped_file::{Directory, Segment, SegmentOptions};

use super::extent::{self, Chain, HEAD, Head, PackedUnit};
use super::{FOLDER, damaged};

const MAGIC: [u8; 4] = *b"RKU1";
const FILE_HEAD: usize = 64;
const SUFFIX: &str = ".units";
/// Bytes that are gathered before they are written.
const GATHER_BYTES: usize = 256 << 10;

struct File {
    start: u64,
    before: u64,
    segment: Arc<dyn Segment>,
}

impl File {
    fn end(&self) -> u64 {
        self.start + self.segment.len()
    }
}

/// See the module.
pub(super) struct UnitLog {
    dir: Arc<dyn Directory>,
    file_bytes: u64,
    files: VecDeque<File>,
    /// All before this position is written.
    written: u64,
    /// What comes at `written`.
    gathered: Vec<u8>,
    unflushed: Vec<(String, Arc<dyn Segment>)>,
}

/// Where some bytes of the log are.
pub(super) enum Place {
    /// In a file, at an offset.
    File(Arc<dyn Segment>, u64),
    /// Not written yet.
    Memory(Vec<u8>),
}

impl UnitLog {
    /// An empty log; files that are there are not looked at.
    pub(super) fn new(dir: Arc<dyn Directory>, file_bytes: u64) -> Self {
        Self {
            dir,
            file_bytes,
            files: VecDeque::new(),
            written: 0,
            gathered: Vec::new(),
            unflushed: Vec::new(),
        }
    }

    /// Opens the log that ends at `end`. Fails with `InvalidData` if a file with units of messages at or behind `log_min`
    /// is missing or not ours.
    pub(super) fn open(
        dir: Arc<dyn Directory>,
        file_bytes: u64,
        end: u64,
        log_min: u64,
    ) -> io::Result<Self> {
        let mut log = Self::new(dir, file_bytes);
        log.written = end;
        for entry in log.dir.list(FOLDER)? {
            let Some(start) = entry.name.strip_suffix(SUFFIX) else {
                continue;
            };
            let start: u64 = start.parse().map_err(|_| damaged(&entry.name))?;
            let path = path(start);
            if start >= end {
                log.dir.remove(&path)?;
                continue;
            }
            let segment = log.dir.open(&path, SegmentOptions::default())?;
            let mut head = [0; FILE_HEAD];
            segment.read_at(0, &mut head)?;
            let before = before_of(&head, start).ok_or_else(|| damaged(&path))?;
            if log.files.back().is_some_and(|last| last.end() != start) {
                return Err(damaged(&path));
            }
            log.files.push_back(File {
                start,
                before,
                segment,
            });
        }
        log.dir.sync(FOLDER)?;
        let is_whole = match (log.files.front(), log.files.back()) {
            (Some(first), Some(last)) => {
                (first.start == 0 || first.before <= log_min) && last.end() >= end
            }
            _ => end == 0,
        };
        if is_whole {
            Ok(log)
        } else {
            Err(damaged(FOLDER))
        }
    }

    /// Where the next extent comes, unless it needs a new file.
    pub(super) fn end(&self) -> u64 {
        self.written + self.gathered.len() as u64
    }

    /// Appends an extent. `upper` lies behind all messages of units so far, those of other queues that came meanwhile not
    /// excepted: it is to be read with this log locked. Returns its position and the physical offset of its last message, which
    /// is `last` of the queue's next one.
    pub(super) fn append(
        &mut self,
        slot: u32,
        first: u64,
        units: &[PackedUnit],
        last: u64,
        before: Chain,
        upper: u64,
    ) -> io::Result<(u64, u64)> {
        let len = (HEAD + size_of_val(units)) as u64;
        if self
            .files
            .back()
            .is_none_or(|last| self.end() + len > last.end())
        {
            self.begin_file(len, upper)?;
        }
        if self.gathered.len() >= GATHER_BYTES {
            self.save()?;
        }
        let position = self.end();
        let last = extent::encode(slot, first, units, last, before, &mut self.gathered);
        Ok((position, last))
    }

    fn begin_file(&mut self, len: u64, before: u64) -> io::Result<()> {
        self.save()?;
        let start = self.files.back().map_or(self.written, File::end);
        let bytes = self.file_bytes.max(FILE_HEAD as u64 + len);
        let path = path(start);
        let segment = self.dir.create(&path, bytes, SegmentOptions::default())?;
        let mut head = Vec::with_capacity(FILE_HEAD);
        head.extend_from_slice(&MAGIC);
        head.extend_from_slice(&[0; 4]);
        head.extend_from_slice(&start.to_be_bytes());
        head.extend_from_slice(&before.to_be_bytes());
        let crc = crc32fast::hash(head.get(8..).unwrap_or_default());
        if let Some(place) = head.get_mut(4..8) {
            place.copy_from_slice(&crc.to_be_bytes());
        }
        head.resize(FILE_HEAD, 0);
        if let Err(error) = segment.write_at(0, &[IoSlice::new(&head)]) {
            self.dir.remove(&path)?;
            return Err(error);
        }
        self.written = start + FILE_HEAD as u64;
        self.unflushed.push((path, Arc::clone(&segment)));
        self.files.push_back(File {
            start,
            before,
            segment,
        });
        Ok(())
    }

    /// Writes what was gathered.
    pub(super) fn save(&mut self) -> io::Result<()> {
        let Some(file) = self.files.back().filter(|_| !self.gathered.is_empty()) else {
            return Ok(());
        };
        let parts = [IoSlice::new(&self.gathered)];
        file.segment.write_at(self.written - file.start, &parts)?;
        let path = path(file.start);
        if self.unflushed.last().is_none_or(|(last, _)| *last != path) {
            self.unflushed.push((path, Arc::clone(&file.segment)));
        }
        self.written += self.gathered.len() as u64;
        self.gathered.clear();
        Ok(())
    }

    /// The files that were written since the last call; to be flushed.
    pub(super) fn take_unflushed(&mut self) -> Vec<(String, Arc<dyn Segment>)> {
        std::mem::take(&mut self.unflushed)
    }

    /// Where `len` bytes at `position` are; `None` if they are gone or never were.
    pub(super) fn place(&self, position: u64, len: usize) -> Option<Place> {
        if position >= self.written {
            let from = usize::try_from(position - self.written).ok()?;
            let bytes = self.gathered.get(from..from.checked_add(len)?)?;
            return Some(Place::Memory(bytes.to_vec()));
        }
        let after = self.files.partition_point(|file| file.start <= position);
        let file = self.files.get(after.checked_sub(1)?)?;
        let end = position.checked_add(len as u64)?;
        (end <= file.end()).then(|| Place::File(Arc::clone(&file.segment), position - file.start))
    }

    /// Whether there still is, or may be, an extent at `position`.
    pub(super) fn reaches(&self, position: u64) -> bool {
        let start = self.files.front().map_or(self.written, |file| file.start);
        (start..self.end()).contains(&position)
    }

    /// Removes files all of whose units stand for messages before `log_min`, oldest first. Each is gone for good before the next
    /// one goes: one that came back behind a gap would be taken for damage.
    pub(super) fn remove_before(&mut self, log_min: u64) -> io::Result<()> {
        while let Some(next) = self.files.get(1)
            && next.before <= log_min
            && let Some(first) = self.files.front()
        {
            self.dir.remove(&path(first.start))?;
            self.dir.sync(FOLDER)?;
            self.files.pop_front();
        }
        Ok(())
    }
}

impl Place {
    /// The bytes.
    pub(super) fn read(self, len: usize) -> io::Result<Vec<u8>> {
        match self {
            Self::Memory(bytes) => Ok(bytes),
            Self::File(segment, offset) => {
                let mut bytes = vec![0; len];
                segment.read_at(offset, &mut bytes)?;
                Ok(bytes)
            }
        }
    }
}

/// The head of an extent of `slot`.
pub(super) fn head_of(bytes: &[u8], slot: u32) -> io::Result<Head> {
    Head::decode(bytes)
        .filter(|head| head.slot == slot)
        .ok_or_else(|| damaged("an extent"))
}

fn path(start: u64) -> String {
    format!("{FOLDER}/{start:020}{SUFFIX}")
}

fn before_of(head: &[u8], start: u64) -> Option<u64> {
    let covered = head.get(8..24)?;
    let is_ours = head.starts_with(&MAGIC)
        && crc32fast::hash(covered).to_be_bytes() == *head.get(4..)?.first_chunk()?
        && covered.starts_with(&start.to_be_bytes());
    is_ours.then_some(u64::from_be_bytes(*covered.last_chunk()?))
}

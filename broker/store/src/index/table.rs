//! The newest keys, in memory, in the order of the log. Adding is two stores; looking up goes through the hashes from the
//! newest on, which for the bounded number of keys is a pass over at most a few hundred KiB.

use std::io;

use rocket_mapped_file::Directory;

use super::fields::{varint_len, width_of};
use super::run::{FENCE, Head, Run, RunWriter, SECTIONS_MAX};
use super::spans::Spans;

/// Sections of a full table.
const SECTIONS: usize = 64;
/// Hashes compared at once.
const STRIDE: usize = 64;

/// See the module.
pub(crate) struct Table {
    /// Where in the log its stretch begins.
    pub(crate) from: u64,
    /// Keys that it is made for; it holds more only while it cannot be written.
    keys_max: usize,
    hashes: Vec<u32>,
    offsets: Vec<u64>,
    spans: Spans,
    newest_time: i64,
}

impl Table {
    pub(crate) fn new(from: u64, keys_max: usize) -> Self {
        Self {
            from,
            keys_max,
            hashes: Vec::with_capacity(keys_max),
            offsets: Vec::with_capacity(keys_max),
            spans: Spans::default(),
            newest_time: 0,
        }
    }

    /// Empties the table for the stretch that begins at `from`; what it grew by is given back.
    pub(crate) fn restart(&mut self, from: u64) {
        self.from = from;
        self.hashes.clear();
        self.offsets.clear();
        self.spans.clear();
        self.hashes.shrink_to(self.keys_max);
        self.offsets.shrink_to(self.keys_max);
    }

    pub(crate) fn len(&self) -> usize {
        self.hashes.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.keys_max
    }

    /// Of the newest key.
    pub(crate) fn last_offset(&self) -> Option<u64> {
        self.offsets.last().copied()
    }

    /// Store time and offset of the newest key.
    pub(crate) fn newest(&self) -> Option<(i64, u64)> {
        Some((self.newest_time, self.last_offset()?))
    }

    /// Adds a key of a message that is not before the last one's.
    pub(crate) fn add(&mut self, hash: u32, offset: u64, time: i64) {
        if self.len().is_multiple_of(self.keys_max.div_ceil(SECTIONS)) {
            self.spans.begin(offset, time);
        } else {
            self.spans.widen(time);
        }
        self.newest_time = time;
        self.hashes.push(hash);
        self.offsets.push(offset);
    }

    /// Counts another time of the last key's section: a tail file knows only ranges.
    pub(crate) fn widen(&mut self, time: i64) {
        self.spans.widen(time);
        self.newest_time = time;
    }

    /// Scattered hash and offset of the keys from number `from` on.
    pub(crate) fn keys(&self, from: usize) -> impl Iterator<Item = (u32, u64)> {
        let hashes = self.hashes.get(from..).unwrap_or_default();
        let offsets = self.offsets.get(from..).unwrap_or_default();
        hashes.iter().copied().zip(offsets.iter().copied())
    }

    /// Appends the offsets of keys with this scattered hash that may have been stored within the times, newest first.
    pub(crate) fn lookup(&self, hash: u32, (begin, end): (i64, i64), found: &mut Vec<u64>) {
        if !self.spans.overlap(begin, end) {
            return;
        }
        let strides = self.hashes.chunks(STRIDE).zip(self.offsets.chunks(STRIDE));
        for (hashes, offsets) in strides.rev() {
            // Compares many at a time, since it need not say where.
            if !hashes.contains(&hash) {
                continue;
            }
            let equal = hashes.iter().zip(offsets).rev();
            found.extend(
                equal
                    .filter(|&(&other, &offset)| {
                        other == hash && self.spans.may_hold(offset, begin, end)
                    })
                    .map(|(_, &offset)| offset),
            );
        }
    }

    /// Writes the keys as a run of level 0 for the stretch up to `to`; it is durable on return.
    pub(crate) fn write(&self, dir: &dyn Directory, to: u64) -> io::Result<Run> {
        let mut order: Vec<u64> = Vec::with_capacity(self.len());
        // Hashes upwards, those of one hash from the newest: by the number counted down.
        let numbers = (0..=u32::MAX).rev();
        order.extend(
            self.hashes
                .iter()
                .zip(numbers)
                .map(|(&hash, number)| u64::from(hash) << 32 | u64::from(number)),
        );
        order.sort_unstable();
        let base = self.offsets.first().copied().unwrap_or(self.from);
        let width = width_of(self.last_offset().unwrap_or(base) - base);
        let mut payload = 0;
        let mut before = 0;
        for hash in order.iter().map(|key| key >> 32) {
            payload += varint_len(hash - before) + width as u64;
            before = hash;
        }
        let head = Head {
            level: 0,
            width,
            from: self.from,
            to,
            base,
            keys: 0,
            blocks: 0,
            payload: 0,
            newest: self.newest().unwrap_or((i64::MIN, 0)),
            fence: vec![0; FENCE],
            spans: self.spans.thinned(SECTIONS_MAX),
        };
        let mut writer = RunWriter::create(dir, head, payload)?;
        for key in order {
            let number = u32::MAX - low_half(key);
            let at = usize::try_from(number).unwrap_or(usize::MAX);
            if let Some(&offset) = self.offsets.get(at) {
                writer.push(low_half(key >> 32), offset)?;
            }
        }
        writer.finish()
    }
}

fn low_half(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

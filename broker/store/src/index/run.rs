//! A run: the keys of one stretch of the log in a file that never changes, in order of their scattered hash.
//!
//! ```text
//! rocket/index/run-<from, 20 digits>-<to, 20 digits>-<level>                                   big-endian
//!    0 magic "RKIR" · 4 version u32 = 1 · 8 level u32 · 12 bytes of an offset u32
//!   16 from u64 · 24 to u64: the stretch of the log · 32 base u64: offsets in the blocks count from here
//!   40 keys u64 · 48 blocks u64 · 56 bytes of keys u64 · 64 newest store time i64 · 72 newest offset u64
//!   80 sections u32 · 84 CRC32 of the page without this field
//!   88 fence: for each first byte of a hash the first block that begins with it or a larger one, 256 × u32
//! 1112 sections: first offset u64 · earliest store time i64 · latest i64, at most 120
//! 4096 blocks of 4096 bytes
//! ```
//!
//! The first page is written last, after a flush of the blocks: a file whose first page is zero was never finished and is
//! no run. Hashes are scattered first, since those of ids that count upwards lie close together: with even hashes the
//! fence and a guess within it find the block, whatever the size of the run.

use std::io::{self, IoSlice};
use std::sync::Arc;

use rocket_mapped_file::{Directory, Segment, SegmentOptions};

use super::FOLDER;
use super::block::{BLOCK, BLOCK_BYTES, Keys, Place};
use super::fields::Fields;
use super::spans::{Section, Spans};
use crate::checksums::is_damage;

const MAGIC: [u8; 4] = *b"RKIR";
const VERSION: u32 = 1;
const CRC_AT: usize = 84;
pub(crate) const FENCE: usize = 256;
/// Sections of a run at most.
pub(crate) const SECTIONS_MAX: usize = 120;

/// Spreads a key's hash evenly and reversibly over 32 bits (the finalizer of MurmurHash3).
pub(crate) fn scatter(hash: i32) -> u32 {
    let mut mixed = hash.cast_unsigned();
    mixed = (mixed ^ (mixed >> 16)).wrapping_mul(0x85eb_ca6b);
    mixed = (mixed ^ (mixed >> 13)).wrapping_mul(0xc2b2_ae35);
    mixed ^ (mixed >> 16)
}

/// The first page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// How often the keys were merged.
    pub(crate) level: u32,
    /// Bytes of an offset.
    pub(crate) width: usize,
    /// The stretch of the log whose keys these are.
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// Offsets count from here.
    pub(crate) base: u64,
    pub(crate) keys: u64,
    pub(crate) blocks: u64,
    /// Bytes of the keys in the blocks.
    pub(crate) payload: u64,
    /// Store time and offset of the newest message with a key.
    pub(crate) newest: (i64, u64),
    pub(crate) fence: Vec<u32>,
    pub(crate) spans: Spans,
}

impl Head {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut page = Vec::with_capacity(BLOCK);
        page.extend_from_slice(&MAGIC);
        page.extend_from_slice(&VERSION.to_be_bytes());
        page.extend_from_slice(&self.level.to_be_bytes());
        page.extend_from_slice(&u32::try_from(self.width).unwrap_or(8).to_be_bytes());
        for field in [
            self.from,
            self.to,
            self.base,
            self.keys,
            self.blocks,
            self.payload,
            self.newest.0.cast_unsigned(),
            self.newest.1,
        ] {
            page.extend_from_slice(&field.to_be_bytes());
        }
        let sections = self.spans.sections();
        assert!(
            sections.len() <= SECTIONS_MAX && self.fence.len() == FENCE,
            "a run's first page has room for so many"
        );
        let count = u32::try_from(sections.len()).unwrap_or(0);
        page.extend_from_slice(&count.to_be_bytes());
        let crc_at = page.len();
        page.extend_from_slice(&[0; 4]);
        for block in &self.fence {
            page.extend_from_slice(&block.to_be_bytes());
        }
        for section in sections {
            page.extend_from_slice(&section.offset.to_be_bytes());
            page.extend_from_slice(&section.earliest.to_be_bytes());
            page.extend_from_slice(&section.latest.to_be_bytes());
        }
        page.resize(BLOCK, 0);
        let crc = crc32fast::hash(&page);
        if let Some(field) = page.get_mut(crc_at..crc_at + 4) {
            field.copy_from_slice(&crc.to_be_bytes());
        }
        page
    }

    fn decode(page: &[u8]) -> Option<Self> {
        let mut cleared = page.to_vec();
        let field = cleared.get_mut(CRC_AT..CRC_AT + 4)?;
        let crc = u32::from_be_bytes(*field.first_chunk()?);
        field.fill(0);
        if crc32fast::hash(&cleared) != crc {
            return None;
        }
        let mut fields = Fields(page.strip_prefix(&MAGIC)?);
        if fields.u32()? != VERSION {
            return None;
        }
        let (level, width) = (fields.u32()?, fields.u32()?);
        let (from, to, base) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let (keys, blocks, payload) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let newest = (fields.i64()?, fields.u64()?);
        let (sections, _) = (fields.u32()?, fields.u32()?);
        let fence = (0..FENCE)
            .map(|_| fields.u32())
            .collect::<Option<Vec<_>>>()?;
        let mut section = || {
            Some(Section {
                offset: fields.u64()?,
                earliest: fields.i64()?,
                latest: fields.i64()?,
            })
        };
        let spans = (0..sections)
            .map(|_| section())
            .collect::<Option<Vec<_>>>()?;
        let width = usize::try_from(width).ok().filter(|width| *width <= 8)?;
        Some(Self {
            level,
            width,
            from,
            to,
            base,
            keys,
            blocks,
            payload,
            newest,
            fence,
            spans: Spans::new(spans),
        })
    }
}

/// See the module.
pub(crate) struct Run {
    pub(crate) path: String,
    pub(crate) head: Head,
    segment: Arc<dyn Segment>,
}

/// What a file of a run's name is.
pub(crate) enum Opened {
    Run(Run),
    /// Its making was interrupted; nothing depends on it.
    Unfinished,
    /// Its first page is not what was written.
    Damaged,
}

/// The path of a run.
pub(crate) fn path_of(from: u64, to: u64, level: u32) -> String {
    format!("{FOLDER}/run-{from:020}-{to:020}-{level}")
}

/// The error of bytes that are not what was written.
pub(crate) fn damaged(path: &str, number: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{path}: block {number} is damaged"),
    )
}

impl Run {
    pub(crate) fn new(path: String, head: Head, segment: Arc<dyn Segment>) -> Self {
        Self {
            path,
            head,
            segment,
        }
    }

    /// Reads the first page, and no other.
    pub(crate) fn open(dir: &dyn Directory, path: String) -> io::Result<Opened> {
        match Self::opened(dir, path) {
            Err(error) if is_damage(&error) => Ok(Opened::Damaged),
            opened => opened,
        }
    }

    fn opened(dir: &dyn Directory, path: String) -> io::Result<Opened> {
        let segment = dir.open(&path, SegmentOptions::default())?;
        if segment.len() < BLOCK_BYTES {
            return Ok(Opened::Unfinished);
        }
        let mut page = [0; BLOCK];
        segment.read_at(0, &mut page)?;
        if page.iter().all(|&byte| byte == 0) {
            return Ok(Opened::Unfinished);
        }
        let fits = |head: &Head| {
            (head.blocks.checked_add(1))
                .and_then(|pages| pages.checked_mul(BLOCK_BYTES))
                .is_some_and(|len| len <= segment.len())
        };
        Ok(match Head::decode(&page).filter(fits) {
            Some(head) => Opened::Run(Self::new(path, head, segment)),
            None => Opened::Damaged,
        })
    }

    /// Reads block `number` and checks it.
    ///
    /// # Errors
    /// `InvalidData` when it is damaged.
    pub(crate) fn read<'a>(&self, number: u64, into: &'a mut [u8; BLOCK]) -> io::Result<Keys<'a>> {
        self.segment.read_at((number + 1) * BLOCK_BYTES, into)?;
        let place = Place {
            run: self.head.from,
            number,
        };
        Keys::open(into, place, self.head.width).ok_or_else(|| damaged(&self.path, number))
    }

    /// The first block, within what the fence leaves, that begins with `hash` or a larger one. The first guess is where
    /// even hashes would put it; from there in growing steps, and when that does not end soon, by halves.
    fn first_block(&self, hash: u32, page: &mut [u8; BLOCK]) -> io::Result<u64> {
        let [bucket, ..] = hash.to_be_bytes();
        let fence = |at: usize| {
            self.head
                .fence
                .get(at)
                .map_or(self.head.blocks, |&block| u64::from(block))
        };
        let (mut low, mut high) = (
            fence(usize::from(bucket)),
            fence(usize::from(bucket) + 1).min(self.head.blocks),
        );
        let within = u64::from(hash & 0x00ff_ffff);
        let mut guess = low + ((within * high.saturating_sub(low)) >> 24);
        let mut tries = 0;
        while low < high {
            guess = guess.clamp(low, high - 1);
            let step = (1 << tries) - 1;
            tries += 1;
            if self.read(guess, page)?.first() < hash {
                low = guess + 1;
                guess = low.saturating_add(step);
            } else {
                high = guess;
                guess = high.saturating_sub(1 + step);
            }
            if tries > 8 {
                guess = low.midpoint(high);
            }
        }
        Ok(low)
    }

    /// Offsets of keys with this scattered hash that may have been stored within `begin..=end`, newest first, until
    /// `wanted` wants no more. Whether it still wants more.
    pub(crate) fn lookup(
        &self,
        hash: u32,
        (begin, end): (i64, i64),
        wanted: &mut impl FnMut(u64) -> bool,
    ) -> io::Result<bool> {
        if !self.head.spans.overlap(begin, end) {
            return Ok(true);
        }
        let mut page = [0; BLOCK];
        // Keys of the hash may begin at the end of the block before.
        let first = self.first_block(hash, &mut page)?.saturating_sub(1);
        for number in first..self.head.blocks {
            let keys = self.read(number, &mut page)?;
            for (found, offset) in keys {
                if found > hash {
                    return Ok(true);
                }
                let offset = self.head.base.saturating_add(offset);
                if found == hash && self.head.spans.may_hold(offset, begin, end) && !wanted(offset)
                {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

/// Writes the blocks of a run in order and makes it one.
pub(crate) struct RunWriter {
    run: Run,
    filler: super::block::Filler,
    /// Whole blocks not yet written.
    out: Vec<u8>,
    /// Where `out` goes.
    at: u64,
    fence_end: usize,
}

/// Bytes that one write gathers.
const OUT_MAX: usize = 256 << 10;

impl RunWriter {
    /// Makes the file; `head` says what is known, `payload` how many bytes the keys take at most.
    pub(crate) fn create(dir: &dyn Directory, head: Head, payload: u64) -> io::Result<Self> {
        let path = path_of(head.from, head.to, head.level);
        dir.remove(&path)?;
        let len = (1 + super::block::blocks_for(payload)) * BLOCK_BYTES;
        let segment = dir.create(&path, len, SegmentOptions::default())?;
        let width = head.width;
        let head = Head {
            fence: vec![0; FENCE],
            keys: 0,
            blocks: 0,
            payload: 0,
            ..head
        };
        Ok(Self {
            run: Run::new(path, head, segment),
            filler: super::block::Filler::new(width),
            out: Vec::with_capacity(OUT_MAX + BLOCK),
            at: BLOCK_BYTES,
            fence_end: 0,
        })
    }

    /// The path of the file, for removing what is not finished.
    pub(crate) fn path(&self) -> &str {
        &self.run.path
    }

    /// Adds a key that is not before the last one.
    pub(crate) fn push(&mut self, hash: u32, offset: u64) -> io::Result<()> {
        let offset = offset.saturating_sub(self.run.head.base);
        if !self.filler.push(hash, offset) {
            self.end_block();
            if self.out.len() >= OUT_MAX {
                self.write_out()?;
            }
            self.filler.push(hash, offset);
        }
        self.run.head.keys += 1;
        Ok(())
    }

    fn end_block(&mut self) {
        if self.filler.is_empty() {
            return;
        }
        let number = self.run.head.blocks;
        self.raise_fence(self.filler.first(), number);
        let place = Place {
            run: self.run.head.from,
            number,
        };
        self.run.head.payload += self.filler.payload();
        self.filler.finish(place, &mut self.out);
        self.run.head.blocks += 1;
    }

    /// Block `number` begins with `first`.
    fn raise_fence(&mut self, first: u32, number: u64) {
        let [bucket, ..] = first.to_be_bytes();
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let reached = usize::from(bucket) + 1;
        if let Some(places) = self.run.head.fence.get_mut(self.fence_end..reached) {
            places.fill(number);
        }
        self.fence_end = self.fence_end.max(reached);
    }

    fn write_out(&mut self) -> io::Result<()> {
        if !self.out.is_empty() {
            self.run
                .segment
                .write_at(self.at, &[IoSlice::new(&self.out)])?;
            self.at += self.out.len() as u64;
            self.out.clear();
        }
        Ok(())
    }

    /// Writes and flushes the whole blocks so far, so that the end has little left to flush.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.write_out()?;
        self.run.segment.flush(0)
    }

    /// Ends the run; it is durable on return.
    pub(crate) fn finish(mut self) -> io::Result<Run> {
        self.end_block();
        let blocks = u32::try_from(self.run.head.blocks).unwrap_or(u32::MAX);
        if let Some(rest) = self.run.head.fence.get_mut(self.fence_end..) {
            rest.fill(blocks);
        }
        self.flush()?;
        let page = self.run.head.encode();
        self.run.segment.write_at(0, &[IoSlice::new(&page)])?;
        self.run.segment.flush(0)?;
        Ok(self.run)
    }
}

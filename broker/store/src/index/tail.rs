//! The tail: what the table in memory got since its last run, appended to a file each time positions are secured, so
//! that a crash costs no reading of the log.
//!
//! ```text
//! rocket/index/tail-0, tail-1, of fixed size, used in turn and over again, one per table; frames, big-endian
//!  0 magic "RKIT" · 4 bytes of keys u32 · 8 generation u64: the larger one is the later table's
//! 16 from u64 · 24 to u64: the stretch of the log whose keys follow; it begins where the frame before ends
//! 32 earliest store time i64 · 40 latest i64 · 48 keys u32 · 52 CRC32 u32 of the frame without this field
//! 56 keys: scattered hash u32 · offset less the one before, the first one's less `from`, as a varint
//! ```
//!
//! A frame is only ever appended, so what an earlier flush covered stays. The list of frames ends where one is not whole,
//! is of another generation or does not begin where the one before ended. What it holds beyond the secured position is
//! not to be believed: the log may have lost it and got other messages there. So a file that is not gone on with is emptied
//! at the start; it would be believed where a later run is damaged.

use std::io::{self, IoSlice};

use rocket_mapped_file::Segment;

use super::fields::{Fields, put_varint};
use super::table::Table;

const MAGIC: [u8; 4] = *b"RKIT";
const HEAD: usize = 56;
const CRC_AT: usize = 52;
/// Bytes read at once, unless a frame is longer.
const WINDOW_BYTES: usize = 16 << 10;
/// Bytes of the file for each key that a table is made for: a key takes six or so, and at low rates a frame holds few.
const BYTES_PER_KEY: usize = 24;

/// The size of a tail file.
pub(crate) fn file_bytes(keys_max: usize) -> u64 {
    (keys_max * BYTES_PER_KEY + 4096) as u64
}

/// What of a table is written where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chain {
    /// Number of the file.
    pub(crate) file: usize,
    pub(crate) generation: u64,
    /// Where the next frame goes.
    pub(crate) at: u64,
    /// Keys written.
    pub(crate) keys: usize,
    /// All keys of messages before are written.
    pub(crate) to: u64,
}

impl Chain {
    /// Nothing written yet of a table that begins at `from`.
    pub(crate) const fn new(file: usize, generation: u64, from: u64) -> Self {
        Self {
            file,
            generation,
            at: 0,
            keys: 0,
            to: from,
        }
    }

    /// Appends a frame with what is new in `table`, complete up to `to`. `false` when the file has no room for it.
    pub(crate) fn save(
        &mut self,
        table: &Table,
        times: (i64, i64),
        to: u64,
        segment: &dyn Segment,
        buffer: &mut Vec<u8>,
    ) -> io::Result<bool> {
        if to <= self.to {
            return Ok(true);
        }
        encode(self, table, times, to, buffer);
        if self.at + buffer.len() as u64 > segment.len() {
            return Ok(false);
        }
        segment.write_at(self.at, &[IoSlice::new(buffer)])?;
        self.at += buffer.len() as u64;
        self.keys = table.len();
        self.to = to;
        Ok(true)
    }
}

fn encode(chain: &Chain, table: &Table, times: (i64, i64), to: u64, out: &mut Vec<u8>) {
    out.clear();
    out.resize(HEAD, 0);
    let mut before = chain.to;
    for (hash, offset) in table.keys(chain.keys) {
        out.extend_from_slice(&hash.to_be_bytes());
        put_varint(out, offset.wrapping_sub(before));
        before = offset;
    }
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let payload = count(out.len() - HEAD);
    let mut head = Vec::with_capacity(HEAD);
    head.extend_from_slice(&MAGIC);
    head.extend_from_slice(&payload.to_be_bytes());
    for field in [
        chain.generation,
        chain.to,
        to,
        times.0.cast_unsigned(),
        times.1.cast_unsigned(),
    ] {
        head.extend_from_slice(&field.to_be_bytes());
    }
    head.extend_from_slice(&count(table.len() - chain.keys).to_be_bytes());
    let crc = checksum(&head, out.get(HEAD..).unwrap_or_default());
    head.extend_from_slice(&crc.to_be_bytes());
    if let Some(place) = out.get_mut(..HEAD) {
        place.copy_from_slice(&head);
    }
}

fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(payload);
    hasher.finalize()
}

/// A frame as read.
pub(crate) struct Frame {
    pub(crate) generation: u64,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) times: (i64, i64),
    /// Scattered hash and offset.
    pub(crate) keys: Vec<(u32, u64)>,
    /// Where the next frame begins in the file.
    pub(crate) end: u64,
}

/// The frames of a file. Reads little more than they take.
pub(crate) fn load(segment: &dyn Segment) -> io::Result<Vec<Frame>> {
    let mut frames: Vec<Frame> = Vec::new();
    let mut window = Vec::new();
    let (mut start, mut at) = (0, 0);
    loop {
        let have = window.get(at..).unwrap_or_default();
        let left = segment.len() - start - at as u64;
        let need = needed(have).filter(|&need| need as u64 <= left);
        let Some(need) = need else {
            return Ok(frames);
        };
        if have.len() < need {
            start += at as u64;
            at = 0;
            let len = (need.max(WINDOW_BYTES) as u64).min(left);
            window.resize(usize::try_from(len).unwrap_or(need), 0);
            segment.read_at(start, &mut window)?;
            continue;
        }
        let Some(mut frame) = decode(&window, at) else {
            return Ok(frames);
        };
        let follows = frames
            .last()
            .is_none_or(|last| last.generation == frame.generation && last.to == frame.from);
        if !follows {
            return Ok(frames);
        }
        at += need;
        frame.end = start + at as u64;
        frames.push(frame);
    }
}

/// Makes a file one without frames; durable on return.
pub(crate) fn forget(segment: &dyn Segment) -> io::Result<()> {
    let mut begin = [0; MAGIC.len()];
    if segment.len() < HEAD as u64 {
        return Ok(());
    }
    segment.read_at(0, &mut begin)?;
    if begin != MAGIC {
        return Ok(());
    }
    segment.write_at(0, &[IoSlice::new(&[0; HEAD])])?;
    segment.flush(0)
}

/// How many bytes the frame at the start of `bytes` takes, or its head if that is not there; `None` if none begins there.
fn needed(bytes: &[u8]) -> Option<usize> {
    if bytes.len() < HEAD {
        return Some(HEAD);
    }
    let payload = Fields(bytes.strip_prefix(&MAGIC)?).u32()?;
    Some(HEAD + usize::try_from(payload).ok()?)
}

fn decode(bytes: &[u8], at: usize) -> Option<Frame> {
    let bytes = bytes.get(at..)?;
    let mut fields = Fields(bytes.strip_prefix(&MAGIC)?);
    let payload = usize::try_from(fields.u32()?).ok()?;
    let (generation, from, to) = (fields.u64()?, fields.u64()?, fields.u64()?);
    let times = (fields.i64()?, fields.i64()?);
    let count = fields.u32()?;
    let crc = fields.u32()?;
    let payload = fields.0.get(..payload)?;
    if crc != checksum(bytes.get(..CRC_AT)?, payload) {
        return None;
    }
    let mut fields = Fields(payload);
    let mut offset = from;
    let mut key = || {
        let hash = fields.u32()?;
        offset = offset.wrapping_add(fields.varint()?);
        Some((hash, offset))
    };
    let keys = (0..count).map(|_| key()).collect::<Option<Vec<_>>>()?;
    Some(Frame {
        generation,
        from,
        to,
        times,
        keys,
        end: (at + HEAD + payload.len()) as u64,
    })
}

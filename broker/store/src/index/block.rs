//! A block of a run: keys in order of their scattered hash, those of one hash newest first.
//!
//! ```text
//!  0 CRC32 u32, of the run's first offset, the block's number and all bytes behind this field
//!  4 first hash u32 · 8 keys u16 · 10 bytes used u16
//! 12 keys: hash less the hash before as a varint · offset less the run's base in as many bytes as the run says
//! ```

use super::fields::{Fields, put_varint, put_wide};

/// Bytes of a block: what the page cache reads at least.
pub(crate) const BLOCK: usize = 4096;
/// Bytes of a block as a file offset.
pub(crate) const BLOCK_BYTES: u64 = BLOCK as u64;
const HEAD: usize = 12;
/// A varint of 32 bits and an offset.
const KEY_MAX: usize = 5 + 8;

/// Blocks that `payload` bytes of keys need at most.
pub(crate) fn blocks_for(payload: u64) -> u64 {
    payload.div_ceil((BLOCK - HEAD - KEY_MAX) as u64)
}

/// CRC32 of a block.
fn checksum(place: Place, covered: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&place.run.to_be_bytes());
    hasher.update(&place.number.to_be_bytes());
    hasher.update(covered);
    hasher.finalize()
}

/// Which block it is: a good block at a wrong place is a bad one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Where the run begins in the log.
    pub(crate) run: u64,
    /// Of the block within the run, from 0.
    pub(crate) number: u64,
}

/// Fills one block after the other.
pub(crate) struct Filler {
    width: usize,
    bytes: Vec<u8>,
    first: u32,
    last: u32,
    keys: u16,
}

impl Filler {
    pub(crate) fn new(width: usize) -> Self {
        Self {
            width,
            bytes: vec![0; HEAD],
            first: 0,
            last: 0,
            keys: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys == 0
    }

    /// The first hash in the block.
    pub(crate) fn first(&self) -> u32 {
        self.first
    }

    /// Bytes of the keys in the block.
    pub(crate) fn payload(&self) -> u64 {
        (self.bytes.len() - HEAD) as u64
    }

    /// Adds a key that is not before the last one. `false` when the block is full.
    pub(crate) fn push(&mut self, hash: u32, offset: u64) -> bool {
        if self.bytes.len() + KEY_MAX > BLOCK {
            return false;
        }
        if self.keys == 0 {
            (self.first, self.last) = (hash, hash);
        }
        put_varint(&mut self.bytes, u64::from(hash.wrapping_sub(self.last)));
        put_wide(&mut self.bytes, offset, self.width);
        self.last = hash;
        self.keys += 1;
        true
    }

    /// Appends the block to `out` and begins another.
    pub(crate) fn finish(&mut self, place: Place, out: &mut Vec<u8>) {
        let used = u16::try_from(self.bytes.len()).unwrap_or(u16::MAX);
        self.bytes.resize(BLOCK, 0);
        let head = [
            &self.first.to_be_bytes()[..],
            &self.keys.to_be_bytes(),
            &used.to_be_bytes(),
        ]
        .concat();
        if let Some(at) = self.bytes.get_mut(4..HEAD) {
            at.copy_from_slice(&head);
        }
        let crc = checksum(place, self.bytes.get(4..).unwrap_or_default());
        if let Some(at) = self.bytes.get_mut(..4) {
            at.copy_from_slice(&crc.to_be_bytes());
        }
        out.extend_from_slice(&self.bytes);
        self.bytes.truncate(HEAD);
        self.keys = 0;
    }
}

/// The keys of a block.
pub(crate) struct Keys<'a> {
    fields: Fields<'a>,
    width: usize,
    left: u16,
    hash: u32,
}

impl<'a> Keys<'a> {
    /// Checks the block and begins at its first key. `None`: damage.
    pub(crate) fn open(bytes: &'a [u8], place: Place, width: usize) -> Option<Self> {
        let mut fields = Fields(bytes);
        let crc = fields.u32()?;
        if crc != checksum(place, fields.0) {
            return None;
        }
        let (hash, left, used) = (fields.u32()?, fields.u16()?, fields.u16()?);
        Some(Self {
            fields: Fields(bytes.get(HEAD..usize::from(used))?),
            width,
            left,
            hash,
        })
    }

    /// The hash of the first key, before any was taken.
    pub(crate) fn first(&self) -> u32 {
        self.hash
    }
}

impl Iterator for Keys<'_> {
    /// Scattered hash, and offset less the run's base.
    type Item = (u32, u64);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let more = u32::try_from(self.fields.varint()?).ok()?;
        self.hash = self.hash.wrapping_add(more);
        Some((self.hash, self.fields.wide(self.width)?))
    }
}

//! A run of units of one queue as it lies in the unit log, and the way back to earlier ones.
//!
//! ```text
//!  0 magic "RKX1" · 4 CRC32 of 8..72 · 8 CRC32 of the units · 12 slot u32
//! 16 index of the first unit u64 · 24 units u32 · 28 depth u32 · 32 key u64
//! 40 position of the extent before u64 · 48, 56, 64 positions of the last extents whose depth is a multiple of
//!    32, 1024, 32768, u64 each; u64::MAX for none · 72 units of 20 bytes each          all big-endian
//! ```
//!
//! The depth of an extent is the number of extents that its queue had before. So an extent that is far back is found in
//! few steps, and the queue itself needs to remember only where the way begins ([`Chain`]). The key is the physical
//! offset of the first message, for the search by offset; where there are only fillers, that of the last message before.

use crate::unit::{UNIT, Unit};

/// Bytes before the units.
pub(super) const HEAD: usize = 72;
/// No extent.
pub(super) const NONE: u64 = u64::MAX;
/// Levels of the way back beside the next extent.
const LEVELS: usize = 3;
const MAGIC: [u8; 4] = *b"RKX1";
const COVERED_FROM: usize = 8;
/// Each level skips so many times more than the one below.
const FAN_OUT: u32 = 32;

/// Units as they are kept, in memory and in files.
pub(super) type PackedUnit = [u8; UNIT];

/// Where the way back begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chain {
    /// Position of the newest extent.
    pub(super) last: u64,
    /// Positions of the newest extents of each level, the lowest level first.
    pub(super) levels: [u64; LEVELS],
    /// Extents so far.
    pub(super) depth: u32,
}

impl Chain {
    /// No extents.
    pub(super) const EMPTY: Self = Self {
        last: NONE,
        levels: [NONE; LEVELS],
        depth: 0,
    };

    /// The way back once an extent was put at `position`.
    pub(super) fn with(mut self, position: u64) -> Self {
        let mut step = FAN_OUT;
        for level in &mut self.levels {
            if self.depth.is_multiple_of(step) {
                *level = position;
            }
            step = step.saturating_mul(FAN_OUT);
        }
        self.last = position;
        self.depth = self.depth.saturating_add(1);
        self
    }

    /// Steps back, the longest first.
    pub(super) fn steps(&self) -> [u64; LEVELS + 1] {
        let [low, middle, high] = self.levels;
        [high, middle, low, self.last]
    }
}

/// What stands before the units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Number of the queue.
    pub(super) slot: u32,
    /// Index of the first unit.
    pub(super) first: u64,
    /// How many units.
    pub(super) count: u32,
    /// Physical offset of the first message; where there are only fillers, that of the last message before.
    pub(super) key: u64,
    /// The extents before.
    pub(super) before: Chain,
    units_crc: u32,
}

impl Head {
    /// Index behind the last unit.
    pub(super) fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }

    /// Bytes of the extent.
    pub(super) fn len(&self) -> usize {
        HEAD + self.count as usize * UNIT
    }

    /// The head in `bytes`; `None` if none that was written is there.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let covered = bytes.get(COVERED_FROM..HEAD)?;
        let crc = bytes.get(4..)?.first_chunk()?;
        if !bytes.starts_with(&MAGIC) || crc32fast::hash(covered).to_be_bytes() != *crc {
            return None;
        }
        let short = |at: usize| Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
        let long = |at: usize| Some(u64::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
        // An offset in a queue is signed on the wire.
        let first = long(16).filter(|first| i64::try_from(*first).is_ok())?;
        Some(Self {
            units_crc: short(8)?,
            slot: short(12)?,
            first,
            count: short(24)?,
            key: long(32)?,
            before: Chain {
                depth: short(28)?,
                last: long(40)?,
                levels: [long(48)?, long(56)?, long(64)?],
            },
        })
    }

    /// The units behind this head, if they are those that were written.
    pub(super) fn units<'a>(&self, bytes: &'a [u8]) -> Option<&'a [PackedUnit]> {
        let units = bytes.get(..self.count as usize * UNIT)?;
        (crc32fast::hash(units) == self.units_crc).then_some(units.as_chunks().0)
    }
}

/// Appends an extent to `out`. `last` is the physical offset of the last message in earlier extents; returns the one for
/// the next.
pub(super) fn encode(
    slot: u32,
    first: u64,
    units: &[PackedUnit],
    last: u64,
    before: Chain,
    out: &mut Vec<u8>,
) -> u64 {
    let mut offsets = units
        .iter()
        .map(|unit| Unit::unpack(*unit))
        .filter(|unit| *unit != Unit::PADDING)
        .map(|unit| unit.physical_offset);
    let key = offsets.next().unwrap_or(last);
    let last = offsets.next_back().unwrap_or(key);
    let [low, middle, high] = before.levels;
    let start = out.len();
    let units = units.as_flattened();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[0; 4]);
    let count = u32::try_from(units.len() / UNIT).unwrap_or(u32::MAX);
    out.extend_from_slice(&crc32fast::hash(units).to_be_bytes());
    out.extend_from_slice(&slot.to_be_bytes());
    out.extend_from_slice(&first.to_be_bytes());
    out.extend_from_slice(&count.to_be_bytes());
    out.extend_from_slice(&before.depth.to_be_bytes());
    for field in [key, before.last, low, middle, high] {
        out.extend_from_slice(&field.to_be_bytes());
    }
    let crc = crc32fast::hash(out.get(start + COVERED_FROM..).unwrap_or_default());
    if let Some(place) = out.get_mut(start + 4..start + 8) {
        place.copy_from_slice(&crc.to_be_bytes());
    }
    out.extend_from_slice(units);
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extent_is_read_back_and_a_changed_byte_is_seen() {
        let unit = |physical_offset| Unit {
            physical_offset,
            size: 7,
            tags_code: -1,
        };
        let units = [Unit::PADDING.pack(), unit(900).pack(), unit(950).pack()];
        let before = Chain::EMPTY.with(5).with(17);
        let mut bytes = Vec::new();
        assert_eq!(encode(3, 40, &units, 1, before, &mut bytes), 950);
        let head = Head::decode(&bytes).unwrap();
        assert_eq!(
            (head.slot, head.first, head.end(), head.key),
            (3, 40, 43, 900)
        );
        assert_eq!((head.before, head.len()), (before, bytes.len()));
        assert_eq!(head.units(&bytes[HEAD..]), Some(&units[..]));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 4;
            let units =
                Head::decode(&bad).and_then(|head| head.units(&bad[HEAD..]).map(<[_]>::len));
            assert_eq!(units, None, "byte {at}");
        }
    }

    #[test]
    fn each_level_remembers_the_newest_extent_at_a_multiple_of_its_step() {
        let chain = (0..1100).fold(Chain::EMPTY, |chain, n| chain.with(n * 10));
        assert_eq!(chain.last, 10_990);
        assert_eq!(chain.levels, [10_880, 10_240, 0]);
    }
}

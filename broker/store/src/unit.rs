//! Where one message of a queue lies, in the 20 bytes that Apache's consume queues have for it and our extents took over.
//!
//! ```text
//! 0 physical offset i64 · 8 record size i32 · 12 tags code i64      big-endian
//! ```

use bytes::{Buf as _, BufMut as _};

/// Bytes of a unit.
pub(crate) const UNIT: usize = 20;
pub(crate) const UNIT_BYTES: u64 = UNIT as u64;

/// See the module.
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

    /// As 20 bytes.
    pub(crate) fn pack(self) -> [u8; UNIT] {
        let mut bytes = [0; UNIT];
        let mut rest: &mut [u8] = &mut bytes;
        rest.put_u64(self.physical_offset);
        rest.put_u32(self.size);
        rest.put_i64(self.tags_code);
        bytes
    }

    /// From 20 bytes.
    pub(crate) fn unpack(bytes: [u8; UNIT]) -> Self {
        let mut rest: &[u8] = &bytes;
        Self {
            physical_offset: rest.get_u64(),
            size: rest.get_u32(),
            tags_code: rest.get_i64(),
        }
    }

    /// Whether this unit stands for a message that lies at or beyond `min`.
    pub(crate) fn is_at_least(self, min: u64) -> bool {
        self != Self::PADDING && self.physical_offset >= min
    }
}

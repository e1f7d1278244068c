//! Numbers in the index's own files: big-endian ones of fixed width, and varints of seven bits a byte, low bits first.

/// Takes numbers off the front of a slice; `None` where it ends.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_be_bytes)
    }

    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.take()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// A number of `width` bytes, at most 8.
    pub(crate) fn wide(&mut self, width: usize) -> Option<u64> {
        let (field, rest) = self.0.split_at_checked(width)?;
        self.0 = rest;
        Some(
            field
                .iter()
                .fold(0, |value, &byte| value << 8 | u64::from(byte)),
        )
    }
}

/// Appends `value` as a varint.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(low_byte(value) | 0x80);
        value >>= 7;
    }
    out.push(low_byte(value));
}

/// Bytes of `value` as a varint.
pub(crate) fn varint_len(value: u64) -> u64 {
    u64::from((64 - (value | 1).leading_zeros()).div_ceil(7))
}

/// Appends the low `width` bytes of `value`, at most 8.
pub(crate) fn put_wide(out: &mut Vec<u8>, value: u64, width: usize) {
    let bytes = value.to_be_bytes();
    out.extend_from_slice(bytes.get(8 - width.min(8)..).unwrap_or_default());
}

/// Bytes that hold `value`, at least 1.
pub(crate) fn width_of(value: u64) -> usize {
    (64 - (value | 1).leading_zeros()).div_ceil(8) as usize
}

fn low_byte(value: u64) -> u8 {
    let [low, ..] = value.to_le_bytes();
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for value in [
            0,
            1,
            127,
            128,
            16_383,
            16_384,
            u64::from(u32::MAX),
            u64::MAX,
        ] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out.len() as u64, varint_len(value));
            let width = width_of(value);
            put_wide(&mut out, value, width);
            let mut fields = Fields(&out);
            assert_eq!(fields.varint(), Some(value));
            assert_eq!(fields.wide(width), Some(value));
            assert!(fields.0.is_empty());
        }
        assert_eq!(Fields(&[0x80]).varint(), None, "cut short");
    }
}

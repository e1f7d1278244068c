//! Numbers as texts, put straight into a buffer.

use bytes::{BufMut as _, BytesMut};

/// Letters of the longest 64-bit number with its sign.
pub(crate) const LETTERS_MAX: usize = 20;

/// A number's decimal letters.
pub(crate) struct Decimal {
    letters: [u8; LETTERS_MAX],
    start: usize,
}

impl Decimal {
    pub(crate) fn new(number: i64) -> Self {
        let mut decimal = Self {
            letters: [b'0'; LETTERS_MAX],
            start: LETTERS_MAX,
        };
        let mut rest = number.unsigned_abs();
        loop {
            // A digit fits in a byte.
            decimal.push(b'0' + (rest % 10).to_le_bytes()[0]);
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if number < 0 {
            decimal.push(b'-');
        }
        decimal
    }

    fn push(&mut self, letter: u8) {
        self.start -= 1;
        if let Some(place) = self.letters.get_mut(self.start) {
            *place = letter;
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.letters.get(self.start..).unwrap_or_default()
    }
}

/// Appends `number`.
pub(crate) fn put_decimal(number: i64, out: &mut BytesMut) {
    out.put_slice(Decimal::new(number).as_bytes());
}

/// The sixteen upper-case hexadecimal letters of a number.
pub(crate) fn hex16(number: u64) -> [u8; 16] {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut letters = [0; 16];
    for (index, letter) in letters.iter_mut().enumerate() {
        let nibble = (number >> (60 - 4 * index)) & 0xf;
        *letter = HEX
            .get(usize::from(nibble.to_le_bytes()[0]))
            .copied()
            .unwrap_or(b'0');
    }
    letters
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_print_as_the_standard_library_prints_them(number: i64) {
            for number in [number, number >> 40, 0, 9, 10, i64::MAX, i64::MIN, -1] {
                let printed = number.to_string();
                let decimal = Decimal::new(number);
                prop_assert_eq!(decimal.as_bytes(), printed.as_bytes());
                let bits = number.cast_unsigned();
                let hex = format!("{bits:016X}");
                prop_assert_eq!(&hex16(bits)[..], hex.as_bytes());
            }
        }
    }
}

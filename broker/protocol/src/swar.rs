//! Looks for single bytes eight at a time: headers and properties are short texts with a separator every dozen bytes, where a
//! loop over bytes costs more than all the rest of reading them.

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Marks the bytes of `word` that are zero. Exact up to the first of them, which is all that is asked.
const fn zeros(word: u64) -> u64 {
    word.wrapping_sub(LOW) & !word & HIGH
}

const fn equal(word: u64, byte: u8) -> u64 {
    zeros(word ^ (LOW * byte as u64))
}

/// Marks the bytes below `bound`, which is at most 128; exact up to the first of them.
const fn below(word: u64, bound: u8) -> u64 {
    word.wrapping_sub(LOW * bound as u64) & !word & HIGH
}

#[inline]
fn find(bytes: &[u8], mark: impl Fn(u64) -> u64, is_hit: impl Fn(u8) -> bool) -> Option<usize> {
    let mut at = 0;
    let mut rest = bytes;
    while let Some((chunk, tail)) = rest.split_first_chunk::<8>() {
        let marks = mark(u64::from_le_bytes(*chunk));
        if marks != 0 {
            return Some(at + marks.trailing_zeros() as usize / 8);
        }
        at += 8;
        rest = tail;
    }
    rest.iter()
        .position(|&byte| is_hit(byte))
        .map(|found| at + found)
}

/// Where the first `byte` lies.
#[inline]
pub(crate) fn find_byte(bytes: &[u8], byte: u8) -> Option<usize> {
    find(bytes, |word| equal(word, byte), |other| other == byte)
}

/// Where the first of two bytes lies.
#[inline]
pub(crate) fn find_either(bytes: &[u8], one: u8, other: u8) -> Option<usize> {
    find(
        bytes,
        |word| equal(word, one) | equal(word, other),
        |byte| byte == one || byte == other,
    )
}

/// Where the first byte lies that a JSON text cannot hold as it is: a quote, a backslash or a control character.
#[inline]
pub(crate) fn find_json_special(bytes: &[u8]) -> Option<usize> {
    find(
        bytes,
        |word| equal(word, b'"') | equal(word, b'\\') | below(word, 0x20),
        |byte| byte == b'"' || byte == b'\\' || byte < 0x20,
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_found_is_what_a_loop_finds(
            bytes in proptest::collection::vec(prop_oneof![any::<u8>(), 0..4_u8, Just(b'"'), Just(b'\\'), 0x1e..0x22_u8, 0x7e..0x83_u8], 0..40),
            byte: u8,
        ) {
            prop_assert_eq!(find_byte(&bytes, byte), bytes.iter().position(|&other| other == byte));
            prop_assert_eq!(find_either(&bytes, 1, 2), bytes.iter().position(|&other| other == 1 || other == 2));
            prop_assert_eq!(
                find_json_special(&bytes),
                bytes.iter().position(|&other| other < 0x20 || other == b'"' || other == b'\\')
            );
        }
    }
}

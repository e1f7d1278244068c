//! The hashes that RocketMQ writes into consume queues and index files: Java's `String.hashCode`, which runs over UTF-16
//! code units with 32-bit wrap-around.

/// `String.hashCode` of `text`.
pub fn java_hash_code(text: &str) -> i32 {
    extend(0, text)
}

/// The tags code of a consume queue entry: the hash of the whole TAGS value, sign-extended; 0 for no tags.
pub fn tags_code(tags: &str) -> i64 {
    i64::from(java_hash_code(tags))
}

/// The key hash of an index entry: the absolute hash of `topic#key`, where the one number without an absolute value is 0.
pub fn index_key_hash(topic: &str, key: &str) -> i32 {
    IndexPrefix::new(topic).key_hash(key)
}

/// The part of an index entry's hash that all keys of a topic share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexPrefix(i32);

impl IndexPrefix {
    /// That of `topic`.
    pub fn new(topic: &str) -> Self {
        Self(extend(extend(0, topic), "#"))
    }

    /// As [`index_key_hash`].
    pub fn key_hash(self, key: &str) -> i32 {
        extend(self.0, key).checked_abs().unwrap_or(0)
    }
}

fn extend(seed: i32, text: &str) -> i32 {
    if text.is_ascii() {
        extend_ascii(seed, text.as_bytes())
    } else {
        text.encode_utf16()
            .fold(seed, |hash, unit| step(hash, i32::from(unit)))
    }
}

const fn step(hash: i32, unit: i32) -> i32 {
    hash.wrapping_mul(31).wrapping_add(unit)
}

/// Four bytes a turn: byte by byte each multiplication waits for the one before.
fn extend_ascii(seed: i32, text: &[u8]) -> i32 {
    const P2: i32 = 31 * 31;
    const P3: i32 = P2 * 31;
    const P4: i32 = P3 * 31;
    let mut hash = seed;
    let mut rest = text;
    while let Some((&[a, b, c, d], tail)) = rest.split_first_chunk::<4>() {
        let four = i32::from(a) * P3 + i32::from(b) * P2 + i32::from(c) * 31 + i32::from(d);
        hash = hash.wrapping_mul(P4).wrapping_add(four);
        rest = tail;
    }
    rest.iter()
        .fold(hash, |hash, &byte| step(hash, i32::from(byte)))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    // Values computed with a Java virtual machine's definition, by hand for the short ones.
    #[rstest]
    #[case("", 0)]
    #[case("a", 97)]
    #[case("ab", 97 * 31 + 98)]
    #[case("TagA", 2_598_919)]
    #[case("polygenelubricants", i32::MIN)]
    #[case("ü", 0xfc)]
    #[case("😀", 0xd83d * 31 + 0xde00)]
    fn hashes_are_javas(#[case] text: &str, #[case] hash: i32) {
        assert_eq!(java_hash_code(text), hash);
    }

    #[test]
    fn four_bytes_a_turn_give_the_same_hash_as_one() {
        let text = "The quick brown fox jumps over the lazy dog; 0123456789";
        for len in 0..text.len() {
            let one_by_one = text[..len]
                .bytes()
                .fold(7, |hash, byte| step(hash, i32::from(byte)));
            assert_eq!(extend(7, &text[..len]), one_by_one);
        }
    }

    #[test]
    fn a_negative_tags_code_is_sign_extended() {
        assert_eq!(tags_code("polygenelubricants"), i64::from(i32::MIN));
    }

    #[test]
    fn an_index_hash_is_never_negative() {
        assert_eq!(index_key_hash("T", "k"), java_hash_code("T#k").abs());
        // "polygenelubricants" with its 12th letter cut out as the separator hashes to the smallest number.
        assert_eq!(extend(extend(0, "polygene"), "lubricants"), i32::MIN);
        assert_eq!(i32::MIN.checked_abs().unwrap_or(0), 0);
    }
}

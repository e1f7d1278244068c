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
    let hash = extend(extend(extend(0, topic), "#"), key);
    hash.checked_abs().unwrap_or(0)
}

fn extend(seed: i32, text: &str) -> i32 {
    let step = |hash: i32, unit: i32| hash.wrapping_mul(31).wrapping_add(unit);
    if text.is_ascii() {
        text.bytes()
            .fold(seed, |hash, byte| step(hash, i32::from(byte)))
    } else {
        text.encode_utf16()
            .fold(seed, |hash, unit| step(hash, i32::from(unit)))
    }
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

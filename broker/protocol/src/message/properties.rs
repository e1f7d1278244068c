//! The properties of a message: one string on the wire, `name 0x01 value 0x02` repeated, at most 32767 bytes.
//!
//! The hot path only looks single names up with [`scan`] and allocates nothing; [`Properties`] is for those who change
//! some. As in `MessageDecoder.string2messageProperties` a piece with an empty name or value is dropped, the last
//! separator may be missing, and of two pieces with one name the later counts.

use bytes::{BufMut, Bytes, BytesMut};

use crate::byte_str::ByteStr;

/// Between a name and its value.
pub const NAME_VALUE_SEPARATOR: u8 = 1;
/// Behind a value.
pub const PROPERTY_SEPARATOR: u8 = 2;
/// Longest properties in bytes: the length field is a signed 16-bit number.
pub const PROPERTIES_BYTES_MAX: usize = 32_767;
/// So many names are compared one by one: the usual message has fewer, and needs no room for a sort.
const COMPARED_MAX: usize = 32;

/// Names of properties (`MessageConst.java`).
#[allow(
    missing_docs,
    reason = "the names are RocketMQ's own; the wire reference says what each is for"
)]
pub mod property {
    pub const KEYS: &str = "KEYS";
    pub const TAGS: &str = "TAGS";
    pub const WAIT: &str = "WAIT";
    pub const DELAY: &str = "DELAY";
    pub const UNIQ_KEY: &str = "UNIQ_KEY";
    pub const SHARDING_KEY: &str = "__SHARDINGKEY";
    pub const TRAN_MSG: &str = "TRAN_MSG";
    pub const PRODUCER_GROUP: &str = "PGROUP";
    pub const CHECK_IMMUNITY_TIME: &str = "CHECK_IMMUNITY_TIME_IN_SECONDS";
    pub const TRAN_PREPARED_QUEUE_OFFSET: &str = "TRAN_PREPARED_QUEUE_OFFSET";
    pub const TRANSACTION_CHECK_TIMES: &str = "TRANSACTION_CHECK_TIMES";
    pub const TRANSACTION_ID: &str = "__transactionId__";
    pub const REAL_TOPIC: &str = "REAL_TOPIC";
    pub const REAL_QUEUE_ID: &str = "REAL_QID";
    pub const RETRY_TOPIC: &str = "RETRY_TOPIC";
    pub const ORIGIN_MESSAGE_ID: &str = "ORIGIN_MESSAGE_ID";
    pub const RECONSUME_TIME: &str = "RECONSUME_TIME";
    pub const MAX_RECONSUME_TIMES: &str = "MAX_RECONSUME_TIMES";
    pub const DLQ_ORIGIN_TOPIC: &str = "DLQ_ORIGIN_TOPIC";
    pub const DLQ_ORIGIN_MESSAGE_ID: &str = "DLQ_ORIGIN_MESSAGE_ID";
    pub const TIMER_DELAY_SEC: &str = "TIMER_DELAY_SEC";
    pub const TIMER_DELAY_MS: &str = "TIMER_DELAY_MS";
    pub const TIMER_DELIVER_MS: &str = "TIMER_DELIVER_MS";
    pub const TIMER_OUT_MS: &str = "TIMER_OUT_MS";
    pub const TIMER_ENQUEUE_MS: &str = "TIMER_ENQUEUE_MS";
    pub const TIMER_DEQUEUE_MS: &str = "TIMER_DEQUEUE_MS";
    pub const TIMER_ROLL_TIMES: &str = "TIMER_ROLL_TIMES";
    pub const TIMER_DEL_UNIQKEY: &str = "TIMER_DEL_UNIQKEY";
    pub const TIMER_DELAY_LEVEL: &str = "TIMER_DELAY_LEVEL";
    pub const POP_CK: &str = "POP_CK";
    pub const POP_CK_OFFSET: &str = "POP_CK_OFFSET";
    pub const FIRST_POP_TIME: &str = "1ST_POP_TIME";
    pub const INNER_NUM: &str = "INNER_NUM";
    pub const INNER_BASE: &str = "INNER_BASE";
    pub const INNER_MULTI_DISPATCH: &str = "INNER_MULTI_DISPATCH";
    pub const INNER_MULTI_QUEUE_OFFSET: &str = "INNER_MULTI_QUEUE_OFFSET";
    pub const MSG_TYPE: &str = "MSG_TYPE";
    pub const CORRELATION_ID: &str = "CORRELATION_ID";
    pub const REPLY_TO_CLIENT: &str = "REPLY_TO_CLIENT";
    pub const TTL: &str = "TTL";
    pub const ARRIVE_TIME: &str = "ARRIVE_TIME";
    pub const PUSH_REPLY_TIME: &str = "PUSH_REPLY_TIME";
    pub const CLUSTER: &str = "CLUSTER";
    pub const MSG_REGION: &str = "MSG_REGION";
    pub const TRACE_ON: &str = "TRACE_ON";
    pub const MIN_OFFSET: &str = "MIN_OFFSET";
    pub const MAX_OFFSET: &str = "MAX_OFFSET";
    pub const BORN_TIMESTAMP: &str = "BORN_TIMESTAMP";
    pub const BORN_HOST: &str = "__BORNHOST";
    pub const TRACE_CONTEXT: &str = "TRACE_CONTEXT";
    pub const INSTANCE_ID: &str = "INSTANCE_ID";
    pub const EXTEND_UNIQ_INFO: &str = "EXTEND_UNIQ_INFO";
    pub const DUP_INFO: &str = "DUP_INFO";
    pub const REDIRECT: &str = "REDIRECT";
    pub const TRANSFER_FLAG: &str = "TRANSFER_FLAG";
    pub const CORRECTION_FLAG: &str = "CORRECTION_FLAG";
    pub const BUYER_ID: &str = "BUYER_ID";
    pub const MQ2_FLAG: &str = "MQ2_FLAG";
    pub const CONSUME_START_TIME: &str = "CONSUME_START_TIME";
    pub const FORWARD_QUEUE_ID: &str = "PROPERTY_FORWARD_QUEUE_ID";
    pub const CRC32: &str = "__CRC32#";
    pub const TRANSIENT_PREFIX: &str = "__RMQ.TRANSIENT.";
}

/// The value of `name` in a properties string; `None` when it is absent or no UTF-8. Allocates nothing.
pub fn scan<'a>(properties: &'a [u8], name: &str) -> Option<&'a str> {
    properties
        .rsplit(|&byte| byte == PROPERTY_SEPARATOR)
        .find_map(|piece| {
            let value = piece
                .strip_prefix(name.as_bytes())?
                .strip_prefix(&[NAME_VALUE_SEPARATOR])?;
            (!value.is_empty()).then_some(value)
        })
        .and_then(|value| std::str::from_utf8(value).ok())
}

/// All pairs of a properties string in their order, repeated names included. Pieces that are no UTF-8 are passed over.
pub fn pairs(properties: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    properties
        .split(|&byte| byte == PROPERTY_SEPARATOR)
        .filter_map(|piece| {
            let (name, value) = split_pair(piece)?;
            Some((
                std::str::from_utf8(name).ok()?,
                std::str::from_utf8(value).ok()?,
            ))
        })
}

fn split_pair(piece: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = piece
        .iter()
        .position(|&byte| byte == NAME_VALUE_SEPARATOR)?;
    let (name, value) = piece.split_at(at);
    let value = value.get(1..)?;
    (!name.is_empty() && !value.is_empty()).then_some((name, value))
}

/// Properties that can be changed. Keeps the order of first appearance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties(Vec<(ByteStr, ByteStr)>);

impl Properties {
    /// No properties.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Reads a properties string; names and values share its bytes.
    pub fn parse(source: &Bytes) -> Self {
        let shared = |part: &[u8]| ByteStr::new(source.slice_ref(part)).ok();
        let pairs = source
            .split(|&byte| byte == PROPERTY_SEPARATOR)
            .filter_map(|piece| {
                let (name, value) = split_pair(piece)?;
                Some((shared(name)?, shared(value)?))
            });
        Self(gather(pairs))
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }

    /// Gives `name` the value `value`. The two separator bytes cannot be part of a value: they are left out. An empty
    /// value removes the property, as it could not be read back.
    pub fn set(&mut self, name: impl Into<ByteStr>, value: impl Into<ByteStr>) {
        let is_separator = |letter: char| letter == '\u{1}' || letter == '\u{2}';
        let name = name.into();
        let mut value = value.into();
        if value.contains(is_separator) {
            value = value.replace(is_separator, "").into();
        }
        if value.is_empty() {
            self.remove(&name);
        } else {
            put(&mut self.0, name, value);
        }
    }

    /// Takes `name` out and returns its value.
    pub fn remove(&mut self, name: &str) -> Option<ByteStr> {
        let at = self.0.iter().position(|(other, _)| other == name)?;
        Some(self.0.remove(at).1)
    }

    /// All pairs, each name once.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// How many properties there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The properties string, every value with its separator behind it.
    pub fn to_bytes(&self) -> Bytes {
        let len = self
            .0
            .iter()
            .map(|(name, value)| name.as_bytes().len() + value.as_bytes().len() + 2)
            .sum();
        let mut out = BytesMut::with_capacity(len);
        for (name, value) in &self.0 {
            out.put_slice(name.as_bytes());
            out.put_u8(NAME_VALUE_SEPARATOR);
            out.put_slice(value.as_bytes());
            out.put_u8(PROPERTY_SEPARATOR);
        }
        out.freeze()
    }
}

/// Each name once: where it first was, with the value that it had last. However many there are, it takes a sort's time and no more:
/// properties may have thousands of names, and whoever compares each with all before it is kept busy by one small message.
fn gather<N: Ord, V>(pairs: impl Iterator<Item = (N, V)>) -> Vec<(N, V)> {
    let mut gathered = Vec::new();
    for (name, value) in pairs {
        if gathered.len() < COMPARED_MAX {
            put(&mut gathered, name, value);
        } else {
            gathered.push((name, value));
        }
    }
    if gathered.len() > COMPARED_MAX {
        gathered = each_once(gathered);
    }
    gathered
}

fn each_once<N: Ord, V>(pairs: Vec<(N, V)>) -> Vec<(N, V)> {
    let mut placed: Vec<(usize, (N, V))> = pairs.into_iter().enumerate().collect();
    // Stable: of one name the first stays in front.
    placed.sort_by(|(_, (name, _)), (_, (other, _))| name.cmp(other));
    placed.dedup_by(|(_, (name, later)), (_, (first, value))| {
        let is_again = name == first;
        if is_again {
            std::mem::swap(value, later);
        }
        is_again
    });
    placed.sort_unstable_by_key(|(place, _)| *place);
    placed.into_iter().map(|(_, pair)| pair).collect()
}

fn put<N: PartialEq, V>(pairs: &mut Vec<(N, V)>, name: N, value: V) {
    match pairs.iter_mut().find(|(other, _)| *other == name) {
        Some((_, old)) => *old = value,
        None => pairs.push((name, value)),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::cmp::Ordering;

    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(b"TAGS\x01a\x02KEYS\x01k1 k2\x02", "KEYS", Some("k1 k2"))]
    #[case(b"TAGS\x01a\x02KEYS\x01k1 k2", "KEYS", Some("k1 k2"))]
    #[case(b"TAGS\x01a\x02TAGS\x01b\x02", "TAGS", Some("b"))]
    #[case(b"TAGS\x01\x02", "TAGS", None)]
    #[case(b"XTAGS\x01a\x02", "TAGS", None)]
    #[case(b"TAGSX\x01a\x02", "TAGS", None)]
    #[case(b"TAGS", "TAGS", None)]
    #[case(b"", "TAGS", None)]
    #[case(b"TAGS\x01\xff\x02", "TAGS", None)]
    #[case(b"A\x01b\x01c\x02", "A", Some("b\u{1}c"))]
    fn scan_finds_what_a_full_parse_finds(
        #[case] text: &'static [u8],
        #[case] name: &str,
        #[case] value: Option<&str>,
    ) {
        assert_eq!(scan(text, name), value);
        assert_eq!(
            Properties::parse(&Bytes::from_static(text)).get(name),
            value
        );
    }

    #[test]
    fn a_value_cannot_smuggle_a_property_in() {
        let mut properties = Properties::new();
        properties.set("A", "x\u{2}TRAN_MSG\u{1}true".to_owned());
        assert_eq!(scan(&properties.to_bytes(), "TRAN_MSG"), None);
        assert_eq!(properties.get("A"), Some("xTRAN_MSGtrue"));
    }

    #[test]
    fn setting_and_removing_keep_the_order() {
        let mut properties =
            Properties::parse(&Bytes::from_static(b"A\x011\x02B\x012\x02C\x013\x02"));
        properties.set("A", "9");
        assert_eq!(properties.remove("B").as_deref(), Some("2"));
        assert_eq!(properties.to_bytes(), "A\u{1}9\u{2}C\u{1}3\u{2}");
    }

    /// A name that counts with how many others it was compared.
    #[derive(Debug, Clone, Copy)]
    struct Counted<'a>(usize, &'a Cell<usize>);

    impl PartialEq for Counted<'_> {
        fn eq(&self, other: &Self) -> bool {
            self.cmp(other).is_eq()
        }
    }

    impl Eq for Counted<'_> {}

    impl PartialOrd for Counted<'_> {
        fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
            Some(self.cmp(other))
        }
    }

    impl Ord for Counted<'_> {
        fn cmp(&self, other: &Self) -> Ordering {
            self.1.set(self.1.get() + 1);
            self.0.cmp(&other.0)
        }
    }

    #[test]
    fn as_many_names_as_fit_are_not_each_compared_with_all_others() {
        // The shortest pairs that differ: `ab`, its value, and two separators.
        let many = PROPERTIES_BYTES_MAX / 5;
        let compared = Cell::new(0);
        // In an order that no sort finds easy.
        let names = (0..many).map(|index| (Counted(index * 7_919 % many, &compared), index));
        assert_eq!(gather(names).len(), many);
        let of_a_sort = many * (many.ilog2() as usize + 2);
        assert!(compared.get() < 2 * of_a_sort, "{compared:?} of {many}");
    }

    proptest! {
        #[test]
        fn each_name_is_there_once_however_many_there_are(names in proptest::collection::vec(0..60_u8, 0..200)) {
            let pairs: Vec<(u8, usize)> = names.into_iter().zip(0..).collect();
            let mut expected = Vec::new();
            for &(name, value) in &pairs {
                put(&mut expected, name, value);
            }
            prop_assert_eq!(gather(pairs.into_iter()), expected);
        }

        #[test]
        fn properties_come_back(map in proptest::collection::btree_map("[^\u{1}\u{2}]{1,9}", "[^\u{1}\u{2}]{1,20}", 0..9)) {
            let mut properties = Properties::new();
            for (name, value) in &map {
                properties.set(name.clone(), value.clone());
            }
            let bytes = properties.to_bytes();
            for (name, value) in &map {
                prop_assert_eq!(scan(&bytes, name), Some(value.as_str()));
            }
            prop_assert_eq!(pairs(&bytes).count(), map.len());
            prop_assert_eq!(Properties::parse(&bytes), properties);
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>, name in "[A-Z]{1,3}") {
            let bytes = Bytes::from(bytes);
            let scanned = scan(&bytes, &name).map(str::to_owned);
            let parsed = Properties::parse(&bytes);
            if scanned.is_some() {
                prop_assert_eq!(parsed.get(&name), scanned.as_deref());
            }
        }
    }
}

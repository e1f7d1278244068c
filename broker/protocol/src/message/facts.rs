//! What the path of a send, and what follows from a stored record, asks of a message's properties, found in one pass over
//! them.

use super::properties::{NAME_VALUE_SEPARATOR, PROPERTY_SEPARATOR, property};
use crate::swar::{find_byte, find_either};

/// See the module. Each value is what [`super::properties::scan`] finds under the name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SendFacts<'a> {
    /// `UNIQ_KEY`: the id that the producer gave the message.
    pub unique_key: Option<&'a str>,
    /// `WAIT`: whether the producer waits for the flush.
    pub wait: Option<&'a str>,
    /// `DELAY`: the delay level.
    pub delay: Option<&'a str>,
    /// `TRAN_MSG`: whether this is half of a transaction.
    pub transaction: Option<&'a str>,
    /// The first of the names that ask for an arbitrary delivery time, of those that are there.
    pub timer: Option<&'static str>,
    /// Whether its producer waits for a reply of whoever consumes it: a request.
    pub is_request: bool,
    /// Whether there is a sharding key, the mark of a message group.
    pub has_sharding_key: bool,
    /// Whether something is there that only the broker may set: a receipt of POP, the region, the trace switch, the cluster.
    pub has_broker_properties: bool,
}

/// Names of arbitrary delivery times, in the order in which they are refused.
const TIMERS: [&str; 4] = [
    property::TIMER_DELAY_SEC,
    property::TIMER_DELAY_MS,
    property::TIMER_DELIVER_MS,
    property::TIMER_DEL_UNIQKEY,
];

/// The last value of each name.
#[derive(Default)]
struct Found<'a> {
    unique_key: Option<&'a [u8]>,
    wait: Option<&'a [u8]>,
    delay: Option<&'a [u8]>,
    transaction: Option<&'a [u8]>,
    sharding_key: Option<&'a [u8]>,
    reply_to: Option<&'a [u8]>,
    timers: [Option<&'a [u8]>; TIMERS.len()],
    broker: [Option<&'a [u8]>; 4],
}

impl<'a> Found<'a> {
    fn put(&mut self, name: &[u8], value: &'a [u8]) {
        let [delay_sec, delay_ms, deliver_ms, del_key] = &mut self.timers;
        let [receipt, region, trace, cluster] = &mut self.broker;
        let place = match name {
            b"UNIQ_KEY" => &mut self.unique_key,
            b"WAIT" => &mut self.wait,
            b"DELAY" => &mut self.delay,
            b"TRAN_MSG" => &mut self.transaction,
            b"__SHARDINGKEY" => &mut self.sharding_key,
            b"REPLY_TO_CLIENT" => &mut self.reply_to,
            b"TIMER_DELAY_SEC" => delay_sec,
            b"TIMER_DELAY_MS" => delay_ms,
            b"TIMER_DELIVER_MS" => deliver_ms,
            b"TIMER_DEL_UNIQKEY" => del_key,
            b"POP_CK" => receipt,
            b"MSG_REGION" => region,
            b"TRACE_ON" => trace,
            b"CLUSTER" => cluster,
            _ => return,
        };
        *place = Some(value);
    }
}

impl<'a> SendFacts<'a> {
    /// Reads a properties string. Allocates nothing.
    pub fn read(properties: &'a [u8]) -> Self {
        let mut found = Found::default();
        each(properties, |name, value| found.put(name, value));
        Self {
            unique_key: text(found.unique_key),
            wait: text(found.wait),
            delay: text(found.delay),
            transaction: text(found.transaction),
            timer: TIMERS
                .into_iter()
                .zip(found.timers)
                .find_map(|(name, value)| text(value).map(|_| name)),
            is_request: text(found.reply_to).is_some(),
            has_sharding_key: text(found.sharding_key).is_some(),
            has_broker_properties: found.broker.into_iter().any(|value| text(value).is_some()),
        }
    }
}

/// What places a record in queues and index: found as [`SendFacts`] are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecordFacts<'a> {
    /// `TAGS`: what consumers filter by.
    pub tags: Option<&'a str>,
    /// `KEYS`: words to find the message by.
    pub keys: Option<&'a str>,
    /// `UNIQ_KEY`: the id that the producer gave the message.
    pub unique_key: Option<&'a str>,
    /// `DELAY`: the delay level.
    pub delay: Option<&'a str>,
}

impl<'a> RecordFacts<'a> {
    /// Reads a properties string. Allocates nothing.
    pub fn read(properties: &'a [u8]) -> Self {
        let [mut tags, mut keys, mut unique_key, mut delay] = [None; 4];
        each(properties, |name, value| {
            let place = match name {
                b"TAGS" => &mut tags,
                b"KEYS" => &mut keys,
                b"UNIQ_KEY" => &mut unique_key,
                b"DELAY" => &mut delay,
                _ => return,
            };
            *place = Some(value);
        });
        Self {
            tags: text(tags),
            keys: text(keys),
            unique_key: text(unique_key),
            delay: text(delay),
        }
    }
}

/// Calls `visit` with every name and its value, in their order; those without a value are passed over.
#[inline]
fn each<'a>(properties: &'a [u8], mut visit: impl FnMut(&'a [u8], &'a [u8])) {
    let mut rest = properties;
    while let Some(at) = find_either(rest, NAME_VALUE_SEPARATOR, PROPERTY_SEPARATOR) {
        let (name, tail) = rest.split_at(at);
        let Some((&separator, tail)) = tail.split_first() else {
            break;
        };
        rest = tail;
        if separator == NAME_VALUE_SEPARATOR {
            let end = find_byte(tail, PROPERTY_SEPARATOR).unwrap_or(tail.len());
            let (value, tail) = tail.split_at(end);
            if !value.is_empty() {
                visit(name, value);
            }
            rest = tail.get(1..).unwrap_or_default();
        }
    }
}

fn text(value: Option<&[u8]>) -> Option<&str> {
    std::str::from_utf8(value?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::properties::scan;
    use super::*;

    fn expected(properties: &[u8]) -> SendFacts<'_> {
        let has = |name| scan(properties, name).is_some();
        SendFacts {
            unique_key: scan(properties, property::UNIQ_KEY),
            wait: scan(properties, property::WAIT),
            delay: scan(properties, property::DELAY),
            transaction: scan(properties, property::TRAN_MSG),
            timer: TIMERS.into_iter().find(|name| has(name)),
            is_request: has(property::REPLY_TO_CLIENT),
            has_sharding_key: has(property::SHARDING_KEY),
            has_broker_properties: has(property::POP_CK)
                || has(property::MSG_REGION)
                || has(property::TRACE_ON)
                || has(property::CLUSTER),
        }
    }

    fn expected_of_record(properties: &[u8]) -> RecordFacts<'_> {
        RecordFacts {
            tags: scan(properties, property::TAGS),
            keys: scan(properties, property::KEYS),
            unique_key: scan(properties, property::UNIQ_KEY),
            delay: scan(properties, property::DELAY),
        }
    }

    fn name() -> impl Strategy<Value = String> {
        let known = [
            "UNIQ_KEY",
            "WAIT",
            "DELAY",
            "TRAN_MSG",
            "__SHARDINGKEY",
            "REPLY_TO_CLIENT",
            "POP_CK",
            "MSG_REGION",
            "TRACE_ON",
            "CLUSTER",
            "TAGS",
            "KEYS",
            "",
            "WAITX",
        ];
        prop_oneof![
            proptest::sample::select(known.to_vec()).prop_map(str::to_owned),
            proptest::sample::select(TIMERS.to_vec()).prop_map(str::to_owned),
        ]
    }

    fn value() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            Just(b"true".to_vec()),
            Just(Vec::new()),
            Just(vec![0xff]),
            Just(b"a\x01b".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..20),
        ]
    }

    proptest! {
        #[test]
        fn one_pass_finds_what_a_scan_for_each_name_finds(
            pairs in proptest::collection::vec((name(), value(), any::<bool>()), 0..12),
        ) {
            let mut properties = Vec::new();
            for (name, value, is_ended) in pairs {
                properties.extend_from_slice(name.as_bytes());
                properties.push(NAME_VALUE_SEPARATOR);
                properties.extend_from_slice(&value);
                if is_ended {
                    properties.push(PROPERTY_SEPARATOR);
                }
            }
            prop_assert_eq!(SendFacts::read(&properties), expected(&properties));
            prop_assert_eq!(RecordFacts::read(&properties), expected_of_record(&properties));
        }

        #[test]
        fn any_bytes_are_read(properties in proptest::collection::vec(prop_oneof![any::<u8>(), 1..3_u8], 0..60)) {
            prop_assert_eq!(SendFacts::read(&properties), expected(&properties));
        }
    }
}

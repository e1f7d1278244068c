//! What the properties of a message say about its send, and how the broker changes them.

use bytes::{BufMut, Bytes, BytesMut};
use rocket_protocol::ResponseCode;
use rocket_protocol::message::properties::{NAME_VALUE_SEPARATOR, PROPERTY_SEPARATOR, scan};
use rocket_protocol::message::{Properties, property};
use rocket_store::Promise;

use super::refusal::Refusal;
use crate::metrics::MessageType;

/// Arbitrary delivery times are not served by this version; delivering such a message at once would be wrong.
pub(super) fn refuse_timer(properties: &[u8]) -> Result<(), Refusal> {
    let names = [
        property::TIMER_DELAY_SEC,
        property::TIMER_DELAY_MS,
        property::TIMER_DELIVER_MS,
        property::TIMER_DEL_UNIQKEY,
    ];
    match names
        .into_iter()
        .find(|name| scan(properties, name).is_some())
    {
        None => Ok(()),
        Some(name) => Err(Refusal::new(
            ResponseCode::MESSAGE_ILLEGAL,
            format!(
                "messages with an arbitrary delivery time ({name}) are not supported by this broker version, use a delay level"
            ),
        )),
    }
}

pub(super) fn promise(properties: &[u8]) -> Promise {
    match scan(properties, property::WAIT) {
        Some(wait) if !wait.eq_ignore_ascii_case("true") => Promise::AppendOnly,
        _ => Promise::Kept,
    }
}

pub(super) fn kind(properties: &[u8], level: usize) -> MessageType {
    if scan(properties, property::SHARDING_KEY).is_some() {
        MessageType::Fifo
    } else if level > 0 {
        MessageType::Delay
    } else {
        MessageType::Normal
    }
}

/// `properties` with `extra` set. What the broker sets usually is not there yet and then only has to be appended.
pub(super) fn with_properties(properties: &Bytes, extra: &[(&'static str, &str)]) -> Bytes {
    let is_plain = scan(properties, property::POP_CK).is_none()
        && extra
            .iter()
            .all(|(name, _)| scan(properties, name).is_none());
    if !is_plain {
        let mut parsed = Properties::parse(properties);
        // A receipt of POP is the broker's own and nothing that a producer may make up.
        parsed.remove(property::POP_CK);
        for (name, value) in extra {
            parsed.set(*name, (*value).to_owned());
        }
        return parsed.to_bytes();
    }
    let extra_bytes: usize = extra
        .iter()
        .map(|(name, value)| name.len() + value.len() + 2)
        .sum();
    let mut out = BytesMut::with_capacity(properties.len() + 1 + extra_bytes);
    out.put_slice(properties);
    if properties
        .last()
        .is_some_and(|last| *last != PROPERTY_SEPARATOR)
    {
        out.put_u8(PROPERTY_SEPARATOR);
    }
    for (name, value) in extra {
        out.put_slice(name.as_bytes());
        out.put_u8(NAME_VALUE_SEPARATOR);
        out.put_slice(value.as_bytes());
        out.put_u8(PROPERTY_SEPARATOR);
    }
    out.freeze()
}

pub(super) fn without(properties: &Bytes, name: &str) -> Bytes {
    let mut parsed = Properties::parse(properties);
    parsed.remove(name);
    parsed.to_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_appended_or_replaced_and_receipts_are_dropped() {
        let stamp = |text: &'static str| {
            with_properties(&Bytes::from_static(text.as_bytes()), &[("CLUSTER", "c")])
        };
        assert_eq!(stamp(""), "CLUSTER\u{1}c\u{2}");
        assert_eq!(stamp("A\u{1}1"), "A\u{1}1\u{2}CLUSTER\u{1}c\u{2}");
        assert_eq!(stamp("A\u{1}1\u{2}"), "A\u{1}1\u{2}CLUSTER\u{1}c\u{2}");
        assert_eq!(
            stamp("CLUSTER\u{1}x\u{2}POP_CK\u{1}y\u{2}A\u{1}1\u{2}"),
            "CLUSTER\u{1}c\u{2}A\u{1}1\u{2}"
        );
    }

    #[test]
    fn only_wait_false_gives_the_promise_up() {
        assert_eq!(promise(b"WAIT\x01false\x02"), Promise::AppendOnly);
        assert_eq!(promise(b"WAIT\x01true\x02"), Promise::Kept);
        assert_eq!(promise(b""), Promise::Kept);
    }
}

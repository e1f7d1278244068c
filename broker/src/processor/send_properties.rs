//! What the properties of a message say about its send, and how the broker changes them.

use bytes::{BufMut, Bytes, BytesMut};
use rocket_protocol::ResponseCode;
use rocket_protocol::message::properties::{PROPERTY_SEPARATOR, pairs};
use rocket_protocol::message::{Properties, SendFacts, property};
use rocket_store::Promise;

use super::refusal::Refusal;
use crate::metrics::MessageType;

/// Arbitrary delivery times and replies are not served by this version: delivering such a message at once would be wrong, and a
/// producer that waits for a reply would wait in vain. A retry was taken before, by another broker perhaps.
pub(super) fn refuse_unserved(facts: &SendFacts<'_>, is_retry: bool) -> Result<(), Refusal> {
    let refused = |remark| Err(Refusal::new(ResponseCode::MESSAGE_ILLEGAL, remark));
    match facts.timer {
        Some(name) => refused(format!(
            "messages with an arbitrary delivery time ({name}) are not supported by this broker version, use a delay level"
        )),
        None if facts.is_request && !is_retry => refused(
            "requests (REPLY_TO_CLIENT) are not supported by this broker version: no reply would come"
                .to_owned(),
        ),
        None => Ok(()),
    }
}

pub(super) fn promise(facts: &SendFacts<'_>) -> Promise {
    match facts.wait {
        Some(wait) if !wait.eq_ignore_ascii_case("true") => Promise::AppendOnly,
        _ => Promise::Kept,
    }
}

pub(super) fn kind(facts: &SendFacts<'_>, level: usize) -> MessageType {
    if facts.has_sharding_key {
        MessageType::Fifo
    } else if level > 0 {
        MessageType::Delay
    } else {
        MessageType::Normal
    }
}

/// `properties` with those of `additions` set. What the broker sets usually is not there yet and then only has to be appended.
pub(super) fn with_properties(
    properties: &Bytes,
    facts: &SendFacts<'_>,
    additions: &[u8],
) -> Bytes {
    if facts.has_broker_properties {
        let mut parsed = Properties::parse(properties);
        // A receipt of POP is the broker's own and nothing that a producer may make up.
        parsed.remove(property::POP_CK);
        for (name, value) in pairs(additions) {
            parsed.set(name.to_owned(), value.to_owned());
        }
        return parsed.to_bytes();
    }
    let mut out = BytesMut::with_capacity(properties.len() + 1 + additions.len());
    out.put_slice(properties);
    if properties
        .last()
        .is_some_and(|last| *last != PROPERTY_SEPARATOR)
    {
        out.put_u8(PROPERTY_SEPARATOR);
    }
    out.put_slice(additions);
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
            let properties = Bytes::from_static(text.as_bytes());
            let facts = SendFacts::read(&properties);
            with_properties(&properties, &facts, b"CLUSTER\x01c\x02")
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
        let promise = |properties| promise(&SendFacts::read(properties));
        assert_eq!(promise(b"WAIT\x01false\x02"), Promise::AppendOnly);
        assert_eq!(promise(b"WAIT\x01true\x02"), Promise::Kept);
        assert_eq!(promise(b""), Promise::Kept);
    }
}

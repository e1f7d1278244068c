//! Builders of messages, for the tests here and those of `tests/all`.

use bytes::Bytes;
use rocket_protocol::message::record::body_crc;
use rocket_protocol::{Message, QueueId, SysFlag, TopicName, UnixMillis};

/// A message with `body` bytes.
pub(crate) fn message(topic: &str, queue_id: u32, body: usize) -> Message {
    message_with(topic, queue_id, vec![b'x'; body], "")
}

/// A message with this body and these properties.
pub(crate) fn message_with(
    topic: &str,
    queue_id: u32,
    body: impl Into<Bytes>,
    properties: &str,
) -> Message {
    let body = body.into();
    Message {
        topic: TopicName::parse(topic).unwrap(),
        queue_id: QueueId(queue_id),
        flag: 0,
        sys_flag: SysFlag(0),
        born_timestamp: UnixMillis(1),
        born_host: "127.0.0.1:1".parse().unwrap(),
        store_host: "127.0.0.1:2".parse().unwrap(),
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body_crc: body_crc(&body),
        body,
        properties: Bytes::copy_from_slice(properties.as_bytes()),
    }
}

//! The writing side of a record: a message before it has a place, and the one function that gives it its bytes.
//!
//! [`MessageRef`] borrows everything, so that a message travels from the socket's buffer into the buffer of the next
//! write by one copy; [`Message`] is the same for those who own what they send.

use std::net::{IpAddr, SocketAddr};

use bytes::{BufMut, Bytes};
use thiserror::Error;

use super::properties::{PROPERTIES_BYTES_MAX, PROPERTY_SEPARATOR};
use super::record::{
    BLANK_HEAD_BYTES, MAGIC_BLANK, MAGIC_V1, MAGIC_V2, RECORD_BYTES_MIN, body_crc,
};
use super::sys_flag::SysFlag;
use crate::ids::{PhysicalOffset, QueueId, QueueOffset, UnixMillis};
use crate::name::TopicName;

/// Longest topic that is written with a one-byte length (`Byte.MAX_VALUE` in `MessageVersion` selection).
const V1_TOPIC_BYTES_MAX: usize = 127;
/// Bytes that an IPv6 host has more than an IPv4 one.
const V6_MORE_BYTES: usize = 12;
/// Bytes before the body, with IPv4 hosts: the record without its two text lengths.
const HEAD_BYTES: usize = RECORD_BYTES_MIN - 3;

/// A message about to be stored whose bytes belong to someone else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageRef<'a> {
    /// The topic.
    pub topic: &'a TopicName,
    /// The queue.
    pub queue_id: QueueId,
    /// The user's own number.
    pub flag: i32,
    /// Everything but the two host bits, which follow from the hosts.
    pub sys_flag: SysFlag,
    /// When the producer made the message.
    pub born_timestamp: UnixMillis,
    /// The producer's address.
    pub born_host: SocketAddr,
    /// The broker's advertised address.
    pub store_host: SocketAddr,
    /// How often the message was delivered in vain.
    pub reconsume_times: i32,
    /// Queue or physical offset of the prepared message, in transactions; else 0.
    pub prepared_transaction_offset: i64,
    /// The body as the producer sent it.
    pub body: &'a [u8],
    /// [`body_crc`] of the body where it is known from elsewhere, so that a body that is copied on keeps the checksum it
    /// came with; `None`: computed when the record is written.
    pub body_crc: Option<u32>,
    /// The properties string as the producer sent it.
    pub properties: &'a [u8],
    /// More of the same, which goes behind `properties`, after a separator where that one has none at its end.
    pub more_properties: &'a [u8],
}

/// A message before it is appended: all of a record but what the store decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The topic.
    pub topic: TopicName,
    /// The queue.
    pub queue_id: QueueId,
    /// The user's own number.
    pub flag: i32,
    /// Everything but the two host bits, which follow from the hosts.
    pub sys_flag: SysFlag,
    /// When the producer made the message.
    pub born_timestamp: UnixMillis,
    /// The producer's address.
    pub born_host: SocketAddr,
    /// The broker's advertised address.
    pub store_host: SocketAddr,
    /// How often the message was delivered in vain.
    pub reconsume_times: i32,
    /// Queue or physical offset of the prepared message, in transactions; else 0.
    pub prepared_transaction_offset: i64,
    /// The body as the producer sent it.
    pub body: Bytes,
    /// [`body_crc`] of the body.
    pub body_crc: u32,
    /// The properties string.
    pub properties: Bytes,
}

/// Why a message has no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// More than 32767 bytes of properties.
    #[error("the properties have {0} bytes, at most 32767 fit")]
    PropertiesTooLong(usize),
    /// A body that no record can hold.
    #[error("the body has {0} bytes, more than a record can say")]
    BodyTooLong(usize),
}

impl Message {
    /// The message with its bytes left where they are.
    pub fn as_ref(&self) -> MessageRef<'_> {
        MessageRef {
            topic: &self.topic,
            queue_id: self.queue_id,
            flag: self.flag,
            sys_flag: self.sys_flag,
            born_timestamp: self.born_timestamp,
            born_host: self.born_host,
            store_host: self.store_host,
            reconsume_times: self.reconsume_times,
            prepared_transaction_offset: self.prepared_transaction_offset,
            body: &self.body,
            body_crc: Some(self.body_crc),
            properties: &self.properties,
            more_properties: &[],
        }
    }

    /// As [`MessageRef::check`].
    pub fn check(&self) -> Result<(), EncodeError> {
        self.as_ref().check()
    }

    /// As [`MessageRef::encoded_len`].
    pub fn encoded_len(&self) -> usize {
        self.as_ref().encoded_len()
    }

    /// As [`MessageRef::encode`].
    ///
    /// # Panics
    /// When [`Message::check`] refuses the message.
    pub fn encode(
        &self,
        queue_offset: QueueOffset,
        physical_offset: PhysicalOffset,
        store_timestamp: UnixMillis,
        out: &mut Vec<u8>,
    ) {
        self.as_ref()
            .encode(queue_offset, physical_offset, store_timestamp, out);
    }
}

impl MessageRef<'_> {
    /// Whether the message fits in a record. The store checks this before it reserves an offset.
    pub fn check(&self) -> Result<(), EncodeError> {
        if self.properties_len() > PROPERTIES_BYTES_MAX {
            return Err(EncodeError::PropertiesTooLong(self.properties_len()));
        }
        if i32::try_from(self.encoded_len()).is_err() {
            return Err(EncodeError::BodyTooLong(self.body.len()));
        }
        Ok(())
    }

    /// Size of the record in bytes.
    pub fn encoded_len(&self) -> usize {
        let topic = self.topic.as_str().len();
        self.head_len()
            + self.body.len()
            + 1
            + usize::from(topic > V1_TOPIC_BYTES_MAX)
            + topic
            + 2
            + self.properties_len()
    }

    fn head_len(&self) -> usize {
        let more = |host: &SocketAddr| if host.is_ipv6() { V6_MORE_BYTES } else { 0 };
        HEAD_BYTES + more(&self.born_host) + more(&self.store_host)
    }

    fn properties_len(&self) -> usize {
        self.properties.len() + usize::from(self.needs_separator()) + self.more_properties.len()
    }

    fn needs_separator(&self) -> bool {
        !self.more_properties.is_empty()
            && self
                .properties
                .last()
                .is_some_and(|last| *last != PROPERTY_SEPARATOR)
    }

    /// The sysFlag that the record carries: the message's with the bits of its hosts.
    pub fn record_sys_flag(&self) -> SysFlag {
        let bit = |host: &SocketAddr, bit: i32| if host.is_ipv6() { bit } else { 0 };
        self.sys_flag
            .without(SysFlag::BORN_HOST_V6 | SysFlag::STORE_HOST_V6)
            .with(
                bit(&self.born_host, SysFlag::BORN_HOST_V6)
                    | bit(&self.store_host, SysFlag::STORE_HOST_V6),
            )
    }

    /// Writes the record behind what `out` holds.
    ///
    /// # Panics
    /// When [`MessageRef::check`] refuses the message.
    pub fn encode(
        &self,
        queue_offset: QueueOffset,
        physical_offset: PhysicalOffset,
        store_timestamp: UnixMillis,
        out: &mut Vec<u8>,
    ) {
        let len = self.encoded_len();
        let topic = self.topic.as_str().as_bytes();
        let is_v2 = topic.len() > V1_TOPIC_BYTES_MAX;
        out.reserve(len);
        // The head is put together on the stack: one look at the buffer's room instead of fifteen.
        let mut head = [0; HEAD_BYTES + 2 * V6_MORE_BYTES];
        let mut rest: &mut [u8] = &mut head;
        rest.put_i32(wire_len(len));
        rest.put_i32(if is_v2 { MAGIC_V2 } else { MAGIC_V1 });
        rest.put_u32(self.body_crc.unwrap_or_else(|| body_crc(self.body)));
        rest.put_i32(self.queue_id.to_wire());
        rest.put_i32(self.flag);
        rest.put_i64(queue_offset.to_wire());
        rest.put_i64(physical_offset.to_wire());
        rest.put_i32(self.record_sys_flag().0);
        rest.put_i64(self.born_timestamp.0);
        put_host(self.born_host, &mut rest);
        rest.put_i64(store_timestamp.0);
        put_host(self.store_host, &mut rest);
        rest.put_i32(self.reconsume_times);
        rest.put_i64(self.prepared_transaction_offset);
        rest.put_i32(wire_len(self.body.len()));
        let unused = rest.len();
        out.extend_from_slice(head.get(..head.len() - unused).unwrap_or_default());
        out.extend_from_slice(self.body);
        if is_v2 {
            out.put_i16(wire_len(topic.len()));
        } else {
            out.put_i8(wire_len(topic.len()));
        }
        out.extend_from_slice(topic);
        out.put_i16(wire_len(self.properties_len()));
        out.extend_from_slice(self.properties);
        if self.needs_separator() {
            out.push(PROPERTY_SEPARATOR);
        }
        out.extend_from_slice(self.more_properties);
    }
}

/// Writes the filler for the last `remaining` bytes of a segment: only its head, the rest stays as it is.
///
/// # Panics
/// When `remaining` is less than [`BLANK_HEAD_BYTES`] or more than an i32 can say: segments leave that room.
pub fn write_blank(remaining: usize, out: &mut impl BufMut) {
    assert!(
        remaining >= BLANK_HEAD_BYTES,
        "a segment always ends with room for a blank record's head"
    );
    out.put_i32(wire_len(remaining));
    out.put_i32(MAGIC_BLANK);
}

#[expect(
    clippy::expect_used,
    reason = "`MessageRef::check` is the caller's duty and bounds every length"
)]
fn wire_len<T: TryFrom<usize, Error: std::fmt::Debug>>(len: usize) -> T {
    T::try_from(len).expect("a length within its field")
}

fn put_host(host: SocketAddr, out: &mut impl BufMut) {
    match host.ip() {
        IpAddr::V4(ip) => out.put_slice(&ip.octets()),
        IpAddr::V6(ip) => out.put_slice(&ip.octets()),
    }
    out.put_i32(i32::from(host.port()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::RecordView;

    #[test]
    fn more_properties_go_behind_the_others_after_a_separator() {
        let topic = TopicName::parse("t").unwrap();
        let with = |properties: &[u8], more: &[u8]| {
            let message = MessageRef {
                topic: &topic,
                queue_id: QueueId(3),
                flag: 0,
                sys_flag: SysFlag(0),
                born_timestamp: UnixMillis(1),
                born_host: "[::1]:1".parse().unwrap(),
                store_host: "127.0.0.1:2".parse().unwrap(),
                reconsume_times: 0,
                prepared_transaction_offset: 0,
                body: b"body",
                body_crc: None,
                properties,
                more_properties: more,
            };
            let mut out = Vec::new();
            message.encode(QueueOffset(1), PhysicalOffset(2), UnixMillis(3), &mut out);
            assert_eq!(out.len(), message.encoded_len());
            // Parsing checks the checksum that encoding computed.
            let (view, _) = RecordView::parse(&out).unwrap();
            assert_eq!((view.body(), view.topic()), (&b"body"[..], "t"));
            view.properties().to_vec()
        };
        assert_eq!(with(b"A\x011", b"B\x012\x02"), b"A\x011\x02B\x012\x02");
        assert_eq!(with(b"A\x011\x02", b"B\x012"), b"A\x011\x02B\x012");
        assert_eq!(with(b"", b"B\x012"), b"B\x012");
        assert_eq!(with(b"A\x011", b""), b"A\x011");
    }
}

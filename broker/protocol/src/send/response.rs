//! The answer to a send that was stored, as one frame without a body.

use bytes::{BufMut as _, BytesMut};

use crate::code::ResponseCode;
use crate::command::{HeaderFormat, Language, VERSION};
use crate::decimal::{Decimal, hex16, put_decimal};
use crate::frame::put_frame_words;
use crate::frame::put_json_string;
use crate::ids::PhysicalOffset;

/// What an answer to a send says. Its frame is byte for byte that of a [`crate::Command`] with a
/// [`crate::header::SendMessageResponseHeader`] and the two fields that Java reads from every such answer.
#[derive(Debug, Clone, Copy)]
pub struct SendResponse<'a> {
    /// The outcome.
    pub code: ResponseCode,
    /// The store host's part of message ids: [`crate::message::id::host_letters`].
    pub host_letters: &'a str,
    /// Where the messages lie, one after another.
    pub offsets: &'a [PhysicalOffset],
    /// The queue.
    pub queue_id: i32,
    /// Index of the first message in its queue.
    pub queue_offset: i64,
    /// The unique key of the message.
    pub unique_key: Option<&'a str>,
    /// The broker's region.
    pub region: &'a str,
    /// Whether clients shall trace.
    pub trace_on: bool,
}

/// Bytes of a frame of ours without its texts, at most.
const FIXED_BYTES: usize = 320;

impl SendResponse<'_> {
    /// Appends the frame of the answer to the request `opaque`, in the request's form.
    pub fn encode(&self, opaque: i32, format: HeaderFormat, out: &mut BytesMut) {
        let key = self.unique_key.map_or(0, str::len);
        out.reserve(FIXED_BYTES + self.ids_len() + key + self.region.len());
        let start = out.len();
        out.put_u64(0);
        let is_compact = format == HeaderFormat::Compact && self.compact(opaque, out).is_some();
        if !is_compact {
            out.truncate(start + 8);
            self.json(opaque, out);
        }
        let format = if is_compact {
            HeaderFormat::Compact
        } else {
            HeaderFormat::Json
        };
        put_frame_words(start, format, 0, out);
    }

    fn ids_len(&self) -> usize {
        self.offsets.len() * (self.host_letters.len() + 17)
    }

    fn put_ids(&self, out: &mut BytesMut) {
        for (index, offset) in self.offsets.iter().enumerate() {
            if index > 0 {
                out.put_u8(b',');
            }
            out.put_slice(self.host_letters.as_bytes());
            out.put_slice(&hex16(offset.0));
        }
    }

    fn json(&self, opaque: i32, out: &mut BytesMut) {
        out.put_slice(b"{\"code\":");
        put_decimal(i64::from(self.code.0), out);
        out.put_slice(b",\"extFields\":{\"msgId\":\"");
        self.put_ids(out);
        out.put_slice(b"\",\"queueId\":\"");
        put_decimal(i64::from(self.queue_id), out);
        out.put_slice(b"\",\"queueOffset\":\"");
        put_decimal(self.queue_offset, out);
        if let Some(key) = self.unique_key {
            out.put_slice(b"\",\"transactionId\":");
            put_json_string(key.as_bytes(), out);
            out.put_slice(b",\"MSG_REGION\":");
        } else {
            out.put_slice(b"\",\"MSG_REGION\":");
        }
        put_json_string(self.region.as_bytes(), out);
        out.put_slice(if self.trace_on {
            b",\"TRACE_ON\":\"true\"},\"flag\":1,\"language\":\"JAVA\",\"opaque\":"
        } else {
            b",\"TRACE_ON\":\"false\"},\"flag\":1,\"language\":\"JAVA\",\"opaque\":"
        });
        put_decimal(i64::from(opaque), out);
        out.put_slice(b",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":");
        put_decimal(i64::from(VERSION), out);
        out.put_u8(b'}');
    }

    /// `None` when something does not fit in this form.
    fn compact(&self, opaque: i32, out: &mut BytesMut) -> Option<()> {
        out.put_i16(i16::try_from(self.code.0).ok()?);
        out.put_i8(Language::JAVA.0);
        out.put_i16(i16::try_from(VERSION).ok()?);
        out.put_i32(opaque);
        out.put_i32(1);
        // No remark; the length of the fields follows when it is known.
        out.put_i32(0);
        let at = out.len();
        out.put_i32(0);
        let ids = self.ids_len().saturating_sub(1);
        put_name(b"\0\x05msgId", ids, out);
        self.put_ids(out);
        let queue_id = Decimal::new(i64::from(self.queue_id));
        put_field(b"\0\x07queueId", queue_id.as_bytes(), out);
        let queue_offset = Decimal::new(self.queue_offset);
        put_field(b"\0\x0bqueueOffset", queue_offset.as_bytes(), out);
        if let Some(key) = self.unique_key {
            put_field(b"\0\x0dtransactionId", key.as_bytes(), out);
        }
        put_field(b"\0\x0aMSG_REGION", self.region.as_bytes(), out);
        let trace_on: &[u8] = if self.trace_on { b"true" } else { b"false" };
        put_field(b"\0\x08TRACE_ON", trace_on, out);
        let len = out.len() - at - 4;
        out.get_mut(at..)?.put_u32(u32::try_from(len).ok()?);
        Some(())
    }
}

/// `name` with its length in front.
fn put_name(name: &[u8], value_len: usize, out: &mut BytesMut) {
    out.put_slice(name);
    out.put_u32(u32::try_from(value_len).unwrap_or(u32::MAX));
}

fn put_field(name: &[u8], value: &[u8], out: &mut BytesMut) {
    put_name(name, value.len(), out);
    out.put_slice(value);
}

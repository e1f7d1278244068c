//! One prebuilt send frame for each connection, patched for each message.
//!
//! What changes from message to message is written over: opaque, queue id, born timestamp, UNIQ_KEY, and, with many topics,
//! the digits of the topic's name. Fields, their order and the properties are those of Java's client 5.4.0 (captured in
//! `tests/fixtures/wire/java-5.4.0`), so a broker has the same work as with that client.

use rocket_protocol::code::RequestCode;
use rocket_protocol::command::HeaderFormat;

use super::{Head, patch, patch_decimal, patch_hex, patch_opaque};

/// `UNIQ_KEY` has 32 digits with an IPv4 address (`MessageClientIDSetter.java`); the last 12 are patched.
const KEY_DIGITS: usize = 32;
const SEQUENCE_DIGITS: usize = 12;

/// Digits of a topic's number when there are several topics.
pub const TOPIC_DIGITS: usize = 6;

/// Queue ids have at most this many digits.
const QUEUE_DIGITS_MAX: usize = 7;

/// Room in front of a body's filling for [`Message::stamp`].
pub const STAMP_BYTES: usize = 8;

/// What all messages of one connection have in common.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Form of the header.
    pub format: HeaderFormat,
    /// Topic, or what all topics' names begin with.
    pub topic: String,
    /// Number of topics; with more than one the names are `<topic>-000000` and so on.
    pub topics: u32,
    /// Queues of each topic.
    pub queues: u32,
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Messages of one request; above 1 the request is SEND_BATCH_MESSAGE.
    pub batch: u32,
    /// Begin of the unique keys; another one for each connection of each run.
    pub origin: u64,
}

/// What is different in each request.
#[derive(Debug, Clone, Copy)]
pub struct Message {
    /// Number that the answer carries.
    pub opaque: i32,
    /// Which topic, from 0.
    pub topic: u32,
    /// Which queue of it, from 0.
    pub queue: u32,
    /// Milliseconds since 1970.
    pub born: u64,
    /// Number of its first message on this connection.
    pub sequence: u64,
    /// Eight bytes at the begin of each body, if bodies have room for it.
    pub stamp: Option<u64>,
}

/// The frames of one connection: one for each number of digits that a queue id may have.
#[derive(Debug)]
pub struct SendFrames {
    format: HeaderFormat,
    by_digits: Vec<Frame>,
    body_bytes: usize,
    born: u64,
}

#[derive(Debug, Clone)]
struct Frame {
    bytes: Vec<u8>,
    opaque: usize,
    topic: Option<usize>,
    queue: usize,
    queue_digits: usize,
    born: usize,
    /// First place and distance of the sequences of unique keys; the request's own key when it is no batch.
    keys: (usize, usize),
    /// First place and distance of the bodies.
    bodies: (usize, usize),
    messages: usize,
}

impl SendFrames {
    /// Builds them.
    pub fn new(shape: &Shape) -> Self {
        let widest = digits(shape.queues.saturating_sub(1)).min(QUEUE_DIGITS_MAX);
        Self {
            format: shape.format,
            by_digits: (1..=widest).map(|digits| build(shape, digits)).collect(),
            body_bytes: shape.body_bytes,
            born: 0,
        }
    }

    /// Bytes of the longest frame.
    pub fn bytes_max(&self) -> usize {
        self.by_digits.last().map_or(0, |frame| frame.bytes.len())
    }

    /// Appends the frame of `message`. Allocates nothing when `out` has the room.
    pub fn write(&mut self, message: &Message, out: &mut Vec<u8>) {
        if self.born != message.born {
            self.born = message.born;
            for frame in &mut self.by_digits {
                patch_decimal(&mut frame.bytes, frame.born, 13, message.born);
            }
        }
        let slot = digits(message.queue) - 1;
        let Some(frame) = self.by_digits.get_mut(slot) else {
            return;
        };
        let bytes = &mut frame.bytes;
        patch_opaque(bytes, frame.opaque, self.format, message.opaque);
        patch_decimal(
            bytes,
            frame.queue,
            frame.queue_digits,
            u64::from(message.queue),
        );
        if let Some(at) = frame.topic {
            patch_decimal(bytes, at, TOPIC_DIGITS, u64::from(message.topic));
        }
        for index in 0..frame.messages {
            let at = frame.keys.0 + index * frame.keys.1;
            patch_hex(bytes, at, SEQUENCE_DIGITS, message.sequence + index as u64);
            if let Some(stamp) = message.stamp.filter(|_| self.body_bytes >= STAMP_BYTES) {
                let at = frame.bodies.0 + index * frame.bodies.1;
                patch(bytes, at, &stamp.to_be_bytes());
            }
        }
        out.extend_from_slice(bytes);
    }
}

/// Name of the topic with this number.
pub fn topic_name(base: &str, topics: u32, number: u32) -> String {
    if topics > 1 {
        format!("{base}-{number:0TOPIC_DIGITS$}")
    } else {
        base.to_owned()
    }
}

/// The filling of bodies: lower-case letters in no short cycle, as text that does not compress to nothing.
pub fn filling(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..bytes)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            b'a' + (state % 26) as u8
        })
        .collect()
}

fn digits(number: u32) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

fn key(origin: u64) -> String {
    // IPv4 address, then process and class loader in Java's client: here the run and the connection.
    format!("7F000001{:012X}{:012X}", origin & 0xffff_ffff_ffff, 0)
}

fn properties(key: &str) -> String {
    format!("UNIQ_KEY\u{1}{key}\u{2}WAIT\u{1}true\u{2}")
}

fn build(shape: &Shape, queue_digits: usize) -> Frame {
    let batch = shape.batch > 1;
    let key = key(shape.origin);
    let properties = properties(&key);
    let code = if batch {
        RequestCode::SEND_BATCH_MESSAGE
    } else {
        RequestCode::SEND_MESSAGE_V2
    };
    let mut head = Head::new(shape.format, i16::try_from(code.0).unwrap_or_default());
    let name = topic_name(&shape.topic, shape.topics, 0);
    head.field("a", "rocket-bench");
    let topic = head.field("b", &name);
    head.field("c", "TBW102");
    head.field("d", "4");
    let queue = head.field("e", &"0".repeat(queue_digits));
    head.field("f", "0");
    let born = head.field("g", "1000000000000");
    head.field("h", "0");
    let properties_at = head.field("i", &properties);
    head.field("j", "0");
    head.field("k", "false");
    head.field("m", if batch { "true" } else { "false" });
    head.field("n", "broker-a");
    let escape = match shape.format {
        HeaderFormat::Json => "\\u0001".len(),
        HeaderFormat::Compact => 1,
    };
    let own_key = properties_at + "UNIQ_KEY".len() + escape + KEY_DIGITS - SEQUENCE_DIGITS;
    let body = if batch {
        batch_body(shape, &properties)
    } else {
        filling(shape.body_bytes)
    };
    let (bytes, opaque) = head.finish(body.len());
    let start = bytes.len();
    let mut bytes = bytes.to_vec();
    bytes.extend_from_slice(&body);
    let stride = BATCH_FIXED + shape.body_bytes + properties.len();
    let in_properties = "UNIQ_KEY\u{1}".len() + KEY_DIGITS - SEQUENCE_DIGITS;
    let (keys, bodies) = if batch {
        let first = start + BATCH_FIXED + shape.body_bytes + in_properties;
        ((first, stride), (start + BATCH_FIXED - 2, stride))
    } else {
        ((own_key, 0), (start, 0))
    };
    Frame {
        bytes,
        opaque,
        topic: (shape.topics > 1).then_some(topic + name.len() - TOPIC_DIGITS),
        queue,
        queue_digits,
        born,
        keys,
        bodies,
        messages: if batch { shape.batch as usize } else { 1 },
    }
}

/// Bytes of a message of a batch besides body and properties; the last two are the properties' length, behind the body.
const BATCH_FIXED: usize = 22;

fn batch_body(shape: &Shape, properties: &str) -> Vec<u8> {
    use rocket_protocol::message::batch::BatchMessage;
    let message = BatchMessage {
        flag: 0,
        body: filling(shape.body_bytes).into(),
        properties: properties.to_owned().into_bytes().into(),
    };
    let mut body = Vec::new();
    for _ in 0..shape.batch {
        message.encode(&mut body);
    }
    body
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;

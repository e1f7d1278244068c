//! One request of a lane: a message or a batch of them, and what an answer says about each.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use rocket_protocol::code::{RequestCode, ResponseCode};
use rocket_protocol::command::Command;
use rocket_protocol::message::OffsetMessageId;
use rocket_protocol::message::batch::BatchMessage;

use crate::history::Event;
use crate::produce::crc32;
use crate::route::{self, remark};

/// Messages of one lane for one queue.
pub(crate) struct Request {
    pub(crate) producer: u32,
    /// Sequence number of the first message.
    pub(crate) first: u64,
    pub(crate) queue: u32,
    /// Keys and bodies.
    pub(crate) messages: Vec<(String, Bytes)>,
}

impl Request {
    fn is_batch(&self) -> bool {
        self.messages.len() > 1
    }

    /// What is noted before the request leaves.
    pub(crate) fn sent(&self) -> impl Iterator<Item = Event> {
        (self.first..)
            .zip(&self.messages)
            .map(|(sequence, (key, body))| Event::Sent {
                key: key.clone(),
                producer: self.producer,
                sequence,
                queue: self.queue,
                crc: crc32(body),
                batch: self.is_batch().then_some(self.first),
            })
    }

    /// What is noted when no answer came.
    pub(crate) fn unknown(self, why: &str) -> Vec<Event> {
        let unknown = |(key, _)| Event::Unknown {
            key,
            why: why.to_owned(),
        };
        self.messages.into_iter().map(unknown).collect()
    }

    fn refused(self, why: &str) -> Vec<Event> {
        let refused = |(key, _)| Event::Refused {
            key,
            why: why.to_owned(),
        };
        self.messages.into_iter().map(refused).collect()
    }

    /// What is noted upon `answer`.
    pub(crate) fn outcome(self, answer: &Command) -> Vec<Event> {
        let code = answer.response_code();
        match code {
            ResponseCode::SUCCESS => self.acked(answer),
            ResponseCode::FLUSH_DISK_TIMEOUT
            | ResponseCode::FLUSH_SLAVE_TIMEOUT
            | ResponseCode::SLAVE_NOT_AVAILABLE => self.unknown(&code.to_string()),
            _ => self.refused(&format!("{code} {}", remark(answer))),
        }
    }

    fn acked(self, answer: &Command) -> Vec<Event> {
        let number = |name| {
            answer
                .ext
                .get(name)
                .and_then(|text| text.parse::<u64>().ok())
        };
        let queue = number("queueId").and_then(|id| u32::try_from(id).ok());
        let (Some(queue), Some(offset)) = (queue, number("queueOffset")) else {
            return self.unknown("SEND_OK without queue id and offset");
        };
        let ids = answer.ext.get("msgId").map(ToString::to_string);
        let mut places = ids
            .iter()
            .flat_map(|ids| ids.split(','))
            .map(|id| id.parse::<OffsetMessageId>().ok().map(|id| id.offset.0));
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_micros();
        (offset..)
            .zip(self.messages)
            .map(|(offset, (key, _))| Event::Acked {
                key,
                queue,
                offset,
                physical: places.next().flatten(),
                at_us: u64::try_from(now).ok(),
            })
            .collect()
    }

    /// SEND_MESSAGE_V2 or SEND_BATCH_MESSAGE as the Java client sends them: letters for names; each message has
    /// `UNIQ_KEY` and `WAIT` as properties, of a batch `WAIT` is the request's.
    pub(crate) fn command(&self, topic: &str) -> Command {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_millis();
        let (code, properties, body) = match self.messages.as_slice() {
            [(key, body)] => (RequestCode::SEND_MESSAGE_V2, properties(key), body.clone()),
            messages => (
                RequestCode::SEND_BATCH_MESSAGE,
                "WAIT\u{1}true\u{2}".to_owned(),
                batch_body(messages),
            ),
        };
        Command::request(code)
            .with_ext("a", "rocket-bench")
            .with_ext("b", topic.to_owned())
            .with_ext("c", route::TEMPLATE)
            .with_ext("d", route::TEMPLATE_QUEUES.to_string())
            .with_ext("e", self.queue.to_string())
            .with_ext("f", "0")
            .with_ext("g", now.to_string())
            .with_ext("h", "0")
            .with_ext("i", properties)
            .with_ext("j", "0")
            .with_ext("k", "false")
            .with_ext("m", self.is_batch().to_string())
            .with_body(body)
    }
}

fn properties(key: &str) -> String {
    format!("UNIQ_KEY\u{1}{key}\u{2}WAIT\u{1}true\u{2}")
}

fn batch_body(messages: &[(String, Bytes)]) -> Bytes {
    let mut encoded = BytesMut::new();
    for (key, body) in messages {
        BatchMessage {
            flag: 0,
            body: body.clone(),
            properties: properties(key).into(),
        }
        .encode(&mut encoded);
    }
    encoded.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Request {
        Request {
            producer: 3,
            first: 10,
            queue: 1,
            messages: vec![("a".into(), "x".into()), ("b".into(), "y".into())],
        }
    }

    #[test]
    fn every_message_of_an_acknowledged_batch_has_its_own_place() {
        let id = |offset| {
            OffsetMessageId {
                store_host: ([127, 0, 0, 1], 10911).into(),
                offset: rocket_protocol::PhysicalOffset(offset),
            }
            .to_string()
        };
        let mut answer = Command::request(RequestCode::SEND_MESSAGE_V2)
            .with_ext("queueId", "1")
            .with_ext("queueOffset", "40")
            .with_ext("msgId", format!("{},{}", id(100), id(300)));
        answer.code = 0;
        let places: Vec<_> = batch()
            .outcome(&answer)
            .into_iter()
            .map(|event| match event {
                Event::Acked {
                    key,
                    queue,
                    offset,
                    physical,
                    ..
                } => (key, queue, offset, physical),
                other => panic!("{other:?}"),
            })
            .collect();
        let expected = [
            ("a".to_owned(), 1, 40, Some(100)),
            ("b".to_owned(), 1, 41, Some(300)),
        ];
        assert_eq!(places, expected);
    }

    #[test]
    fn messages_of_a_batch_are_noted_with_their_first_sequence_number() {
        let sent: Vec<_> = batch()
            .sent()
            .map(|event| match event {
                Event::Sent {
                    sequence, batch, ..
                } => (sequence, batch),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(sent, [(10, Some(10)), (11, Some(10))]);
    }
}

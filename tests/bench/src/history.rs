//! What a producer saw, one line per fact, so that another process can check later what became of it.
//!
//! A history is a text file of JSON lines. A line `sent` is written before the request leaves; a line `acked` after a
//! `SEND_OK` arrived; `unknown` after any answer or silence that leaves the outcome open (a timeout, a broken
//! connection, a flush or slave timeout); `refused` after an answer that says the message was not stored.
//! A process that is killed leaves `sent` lines without an outcome: these are unknown too.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

/// One fact about one message. `key` is unique in a history and is also the message's `UNIQ_KEY`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// The request is about to leave on queue `queue`; `producer` and `sequence` give the order in which one
    /// producer sent to one queue.
    Sent {
        /// Unique key of the message.
        key: String,
        /// Number of the producing connection.
        producer: u32,
        /// Position in that producer's order.
        sequence: u64,
        /// Queue id asked for.
        queue: u32,
        /// CRC32 of the body.
        crc: u32,
        /// The sequence number of the first message of the request, when the request carried several (a batch). They
        /// have consecutive numbers, go to one queue, and get consecutive offsets or none at all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        batch: Option<u64>,
    },
    /// `SEND_OK` with the queue and the queue offset that the broker told.
    Acked {
        /// Unique key of the message.
        key: String,
        /// Queue id of the answer.
        queue: u32,
        /// Queue offset of the answer; of a message of a batch, the answer's plus its place in the batch.
        offset: u64,
        /// Where in the log the broker said that the record begins (in the answer's message id).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        physical: Option<u64>,
        /// When the answer was read, in microseconds since 1970.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at_us: Option<u64>,
    },
    /// The outcome is open: the message may or may not have been stored.
    Unknown {
        /// Unique key of the message.
        key: String,
        /// Why it is open.
        why: String,
    },
    /// The broker said that it did not store the message.
    Refused {
        /// Unique key of the message.
        key: String,
        /// Code and remark.
        why: String,
    },
}

/// Reads a history; a torn last line (its writer was killed) is left out.
///
/// # Errors
/// The reader's, and `InvalidData` for a broken line that is not the last.
pub fn read(input: impl BufRead) -> io::Result<Vec<Event>> {
    let mut events = Vec::new();
    let mut torn: Option<(usize, serde_json::Error)> = None;
    for (number, line) in input.lines().enumerate() {
        if let Some((number, error)) = torn.take() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("line {}: {error}", number + 1),
            ));
        }
        match serde_json::from_str(&line?) {
            Ok(event) => events.push(event),
            Err(error) => torn = Some((number, error)),
        }
    }
    Ok(events)
}

/// Adds the history of a further run. Its producers are others than those of the runs before, though each run counts from 0.
pub fn append(events: &mut Vec<Event>, further: Vec<Event>) {
    let producers = |event: &Event| match event {
        Event::Sent { producer, .. } => Some(producer + 1),
        _ => None,
    };
    let taken = events.iter().filter_map(producers).max().unwrap_or(0);
    events.extend(further.into_iter().map(|mut event| {
        if let Event::Sent { producer, .. } = &mut event {
            *producer += taken;
        }
        event
    }));
}

/// Writes one line.
///
/// # Errors
/// The writer's.
pub fn write(output: &mut impl Write, event: &Event) -> io::Result<()> {
    serde_json::to_writer(&mut *output, event)?;
    output.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_and_an_answer_come_back_as_they_were_written() {
        let events = [
            Event::Sent {
                key: "k".into(),
                producer: 1,
                sequence: 7,
                queue: 2,
                crc: 3,
                batch: Some(6),
            },
            Event::Acked {
                key: "k".into(),
                queue: 2,
                offset: 9,
                physical: Some(4096),
                at_us: Some(1),
            },
        ];
        let mut text = Vec::new();
        for event in &events {
            write(&mut text, event).unwrap();
        }
        assert_eq!(read(&text[..]).unwrap(), events);
    }

    #[test]
    fn producers_of_two_runs_are_different_ones() {
        let sent = |producer| Event::Sent {
            key: "k".into(),
            producer,
            sequence: 0,
            queue: 0,
            crc: 0,
            batch: None,
        };
        let mut events = vec![sent(0), sent(3)];
        append(&mut events, vec![sent(0), sent(1)]);
        assert_eq!(events, [sent(0), sent(3), sent(4), sent(5)]);
    }

    #[test]
    fn a_torn_last_line_is_left_out_and_a_broken_middle_line_is_an_error() {
        let mut text = Vec::new();
        write(
            &mut text,
            &Event::Acked {
                key: "a".into(),
                queue: 1,
                offset: 2,
                physical: None,
                at_us: None,
            },
        )
        .unwrap();
        let whole = text.clone();
        text.extend_from_slice(b"{\"event\":\"ack");
        assert_eq!(read(&text[..]).unwrap().len(), 1);
        text.extend_from_slice(b"\n");
        text.extend_from_slice(&whole);
        assert_eq!(
            read(&text[..]).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }
}

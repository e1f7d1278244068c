//! What brokers keep beside messages, as far as the places of messages depend on it (docs/replication.md §10, T2, T4, T8): snapshots
//! in the log that tell where queues go on. Here one part each, in plain text; who takes them and who follows is as in
//! `metadata` of rocket-broker.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use rocket_protocol::{QueueId, QueueOffset, TopicName};
use rocket_store::QueueEnd;

/// How far a replica followed them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Snapshots {
    /// Queue offset of the next one.
    pub(crate) next: i64,
    /// Place of the last one, which retention leaves.
    pub(crate) base: Option<u64>,
    /// Place of the last one that this master took.
    pub(crate) asked: u64,
}

/// A snapshot.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// All before is counted.
    pub(crate) physical: u64,
    /// Where queues go on.
    pub(crate) ends: Vec<QueueEnd>,
}

impl Snapshot {
    /// The message's body: the same for the same ends, in whatever order they come.
    pub(crate) fn body(&self) -> Vec<u8> {
        let mut lines: Vec<String> = (self.ends.iter())
            .map(|end| format!("{} {} {}", end.topic, end.queue_id, end.next.0))
            .collect();
        lines.sort_unstable();
        let mut body = self.physical.to_string();
        for line in lines {
            // Writing to a String cannot fail.
            let _infallible = write!(body, "\n{line}");
        }
        body.into_bytes()
    }

    /// What [`Snapshot::body`] gave.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(body).ok()?.lines();
        let physical = lines.next()?.parse().ok()?;
        let end = |line: &str| {
            let mut words = line.split(' ');
            Some(QueueEnd {
                topic: TopicName::parse(words.next()?).ok()?,
                queue_id: QueueId(words.next()?.parse().ok()?),
                next: QueueOffset(words.next()?.parse().ok()?),
            })
        };
        let ends = lines.map(end).collect::<Option<_>>()?;
        Some(Self { physical, ends })
    }
}

/// Where the next message of each queue belongs, of a log from its very beginning on.
#[derive(Default)]
pub(crate) struct Places(BTreeMap<(String, u32), u64>);

impl Places {
    /// I11, for the next message.
    pub(crate) fn count(&mut self, topic: &str, queue: u32, offset: u64) -> Result<(), String> {
        let next = self.0.entry((topic.to_owned(), queue)).or_default();
        if *next != offset {
            return Err(format!(
                "I11: offset {offset} of queue {queue} of {topic} was given where {next} is the next one"
            ));
        }
        *next += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_read_as_it_was_written() {
        let end = |topic: &str, queue, next| QueueEnd {
            topic: TopicName::parse(topic).unwrap(),
            queue_id: QueueId(queue),
            next: QueueOffset(next),
        };
        let snapshot = |ends| Snapshot {
            physical: 4096,
            ends,
        };
        let (a, b) = (end("orders", 1, 7), end("rmq_sys_rocket_metadata", 0, 3));
        let written = snapshot(vec![b.clone(), a.clone()]).body();
        assert_eq!(written, snapshot(vec![a.clone(), b.clone()]).body());
        assert_eq!(Snapshot::read(&written), Some(snapshot(vec![a, b])));
        assert_eq!(Snapshot::read(b"x"), None);
    }

    #[test]
    fn places_that_are_given_twice_or_left_out_are_seen() {
        let mut places = Places::default();
        for (queue, offset) in [(0, 0), (0, 1), (1, 0), (0, 2)] {
            places.count("t", queue, offset).unwrap();
        }
        assert!(places.count("t", 0, 2).is_err());
        assert!(places.count("t", 1, 2).is_err());
        assert!(places.count("u", 0, 1).is_err());
    }
}

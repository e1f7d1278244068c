//! Where the queues of a group go on, as its snapshots tell it.
//!
//! Of a queue whose messages all expired the log tells nothing, and a replica that began behind them would give their offsets again. So
//! the master that takes a snapshot says of each queue which offset comes next: after the snapshot's place in the log was fixed, so that
//! nothing before that is missing, and before its first part is appended, so that all that is counted lies before each part.
//!
//! ```text
//! {"orders":{"0":[1200,0,77]},"%RETRY%g":{"0":[3]}}      of each topic: neighbouring queues by the number of the first
//! ```

use std::collections::BTreeMap;

use rocket_protocol::{QueueId, QueueOffset, TopicName};
use rocket_store::QueueEnd;
use serde::{Deserialize, Serialize};

/// What an offset takes, at most.
const OFFSET_BYTES: usize = 21;
/// What surrounds a topic's name, or a row of offsets, at most.
const ROW_BYTES: usize = 20;

/// See the module. A queue that never had a message is in none, or goes on at 0.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct QueueEnds(BTreeMap<String, BTreeMap<u32, Vec<u64>>>);

impl QueueEnds {
    /// In parts of about so many bytes each; at least one.
    pub(super) fn split(mut ends: Vec<QueueEnd>, bytes_max: usize) -> Vec<Self> {
        ends.sort_unstable_by(|a, b| (&a.topic, a.queue_id).cmp(&(&b.topic, b.queue_id)));
        let (mut parts, mut part, mut bytes) = (Vec::new(), Self::default(), 0);
        for end in ends {
            if bytes >= bytes_max {
                parts.push(std::mem::take(&mut part));
                bytes = 0;
            }
            bytes += part.add(end.topic.as_str(), end.queue_id.0, end.next.0);
        }
        parts.push(part);
        parts
    }

    /// Adds a queue behind all those of its topic. About how many bytes that takes.
    fn add(&mut self, topic: &str, queue: u32, next: u64) -> usize {
        let mut bytes = OFFSET_BYTES;
        if !self.0.contains_key(topic) {
            self.0.insert(topic.to_owned(), BTreeMap::new());
            bytes += topic.len() + ROW_BYTES;
        }
        let Some(rows) = self.0.get_mut(topic) else {
            return bytes;
        };
        let behind = |(first, row): (&u32, &Vec<u64>)| u64::from(*first) + row.len() as u64;
        if rows.last_key_value().map(behind) == Some(u64::from(queue)) {
            if let Some(mut row) = rows.last_entry() {
                row.get_mut().push(next);
            }
        } else {
            rows.insert(queue, vec![next]);
            bytes += ROW_BYTES;
        }
        bytes
    }

    /// As the store takes them, without what no store has.
    pub(super) fn iter(&self) -> impl Iterator<Item = QueueEnd> {
        let topics = self.0.iter();
        let rows = topics.flat_map(|(topic, rows)| rows.iter().map(move |row| (topic, row)));
        let all = rows.flat_map(|(topic, (first, row))| {
            (0..)
                .zip(row)
                .map(move |(number, next)| (topic, first.checked_add(number), *next))
        });
        all.filter_map(|(topic, queue, next)| {
            // The first offset of all is no news, and beyond the last one there is none.
            let next = i64::try_from(next).ok().filter(|next| *next > 0)?;
            Some(QueueEnd {
                topic: TopicName::parse(topic).ok()?,
                queue_id: QueueId(queue?),
                next: QueueOffset(u64::try_from(next).ok()?),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(topic: &str, queue: u32, next: u64) -> QueueEnd {
        QueueEnd {
            topic: TopicName::parse(topic).unwrap(),
            queue_id: QueueId(queue),
            next: QueueOffset(next),
        }
    }

    fn all() -> Vec<QueueEnd> {
        let mut all = vec![
            end("orders", 0, 1200),
            end("orders", 2, 77),
            end("orders", 3, 1),
            end("orders", u32::MAX, 9),
            end("%RETRY%g", 0, 3),
        ];
        all.extend((0..300).map(|queue| end("wide", queue, u64::from(queue) + (1 << 60))));
        all
    }

    #[test]
    fn ends_are_read_as_they_were_split() {
        let mut expected = all();
        expected.sort_by(|a, b| (&a.topic, a.queue_id).cmp(&(&b.topic, b.queue_id)));
        for bytes in [1, 100, 1000, 1 << 20] {
            let parts = QueueEnds::split(all(), bytes);
            let mut read = Vec::new();
            for part in parts {
                let text = serde_json::to_vec(&part).unwrap();
                assert!(text.len() < bytes + 200, "{} of {bytes}", text.len());
                read.extend(serde_json::from_slice::<QueueEnds>(&text).unwrap().iter());
            }
            assert_eq!(read, expected);
        }
        assert_eq!(QueueEnds::split(Vec::new(), 10).len(), 1);
    }

    #[test]
    fn neighbours_stand_in_one_row() {
        let parts = QueueEnds::split(all()[..5].to_vec(), 1 << 20);
        let text = serde_json::to_string(&parts).unwrap();
        let expected =
            r#"[{"%RETRY%g":{"0":[3]},"orders":{"0":[1200],"2":[77,1],"4294967295":[9]}}]"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn very_many_queues_take_a_few_bytes_each() {
        let of_retries = (0..20_000).map(|n| end(&format!("%RETRY%group-{n:06}"), 0, 1_000_000));
        let of_one = (0..80_000).map(|queue| end("wide", queue, 1_000_000));
        let parts = QueueEnds::split(of_retries.chain(of_one).collect(), 128 << 10);
        let lens = parts
            .iter()
            .map(|part| serde_json::to_vec(part).unwrap().len());
        let lens: Vec<usize> = lens.collect();
        assert!(lens.iter().all(|len| *len < 130 << 10), "{lens:?}");
        let all: usize = lens.iter().sum();
        assert!(all < 100_000 * 16, "{all}");
        // No more parts than those bytes need, and a little for what is guessed too high.
        assert!(
            lens.len() < 3 * all / (128 << 10),
            "{} of {all}",
            lens.len()
        );
    }

    #[test]
    fn what_no_queue_can_be_is_left_out() {
        let text = format!(
            r#"{{"bad topic!":{{"0":[1]}},"t":{{"{}":[5,6],"1":[0,{},7]}}}}"#,
            u32::MAX,
            u64::MAX
        );
        let ends: QueueEnds = serde_json::from_str(&text).unwrap();
        let found: Vec<QueueEnd> = ends.iter().collect();
        assert_eq!(found, [end("t", 3, 7), end("t", u32::MAX, 5)]);
    }
}

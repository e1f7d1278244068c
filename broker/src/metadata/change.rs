//! What the log of a group says about metadata: each message of the topic [`METADATA`](rocket_protocol::name::system_topic::METADATA)
//! is one change.
//!
//! ```text
//! body = JSON, at most 4 MiB
//! {"v":1, "writer":u64, "number":u64, "stamp":{"at":ms,"counter":i64}, "change":{KIND:{...}}}
//! ```
//!
//! `writer` and `number` name the change: a random number for each time that a replica becomes master, and a count. What has another version
//! is of a newer program and is not passed over: a state without it would be another one than the others have.

use std::collections::{BTreeMap, BTreeSet};

use rocket_protocol::UnixMillis;
use rocket_protocol::body::{DataVersion, SubscriptionGroupConfig, TopicConfig};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::ends::QueueEnds;

/// The form above.
pub(super) const VERSION: u32 = 1;
/// Bytes of a change.
const BYTES_MAX: usize = 4 << 20;
/// Bytes of a change that somebody asks for, so that what it makes has room in a part of a snapshot. Administrators' lists are the longest ones.
pub(super) const ASKED_BYTES_MAX: usize = 2 << 20;
/// Parts of a snapshot.
const PARTS_MAX: u32 = 1 << 20;

/// Offsets by queue by `topic@group`, as `consumerOffset.json` has them. In a change a negative one says that there is none any more.
pub(super) type Positions = BTreeMap<String, BTreeMap<i32, i64>>;

/// Queues by `topic@group`.
pub(super) type Queues = BTreeMap<String, BTreeSet<i32>>;

/// One change as it lies in the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) v: u32,
    pub(super) writer: u64,
    pub(super) number: u64,
    pub(super) stamp: Stamp,
    pub(super) change: Change,
}

/// When a change was asked for, and how often the writer knew that its table was changed: versions must grow over a promotion.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    pub(super) at: i64,
    pub(super) counter: i64,
}

impl Stamp {
    /// Of a broker that stands alone.
    pub(super) fn at(now: UnixMillis) -> Self {
        Self {
            at: now.0,
            counter: 0,
        }
    }

    /// The version of a table of `version` after this change.
    pub(super) fn next(self, version: DataVersion) -> DataVersion {
        DataVersion {
            counter: version.counter.max(self.counter).saturating_add(1),
            state_version: version.state_version,
            timestamp: self.at,
        }
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Change {
    Topics(TopicChange),
    Groups(GroupChange),
    Positions(Moved),
    Part(Box<Part>),
}

/// A change of the topics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum TopicChange {
    /// Made unless it is there, or `max` are.
    Create { topic: TopicConfig, max: u64 },
    /// Made or changed.
    Put(Vec<TopicConfig>),
    /// Removed with all positions in it; its messages before this change are hidden.
    Delete(String),
    /// Counted as changed.
    Renew,
}

/// A change of the consumer groups.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum GroupChange {
    /// Made unless it is there, or `max` are.
    Create {
        group: Box<SubscriptionGroupConfig>,
        max: u64,
    },
    /// Made or changed.
    Put(Vec<SubscriptionGroupConfig>),
    /// Removed, with its positions if wanted.
    #[serde(rename_all = "camelCase")]
    Delete {
        group: String,
        forgets_positions: bool,
    },
}

/// Positions that moved since the writer told of them last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Moved {
    pub(super) rows: Positions,
    /// Those of `rows` that an administrator set and that the group was not told of yet. Of all others it was, or needs not be.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) orders: Queues,
    /// What is delivered next of each delay level.
    pub(super) delay: BTreeMap<i32, i64>,
}

impl Moved {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.delay.is_empty()
    }
}

/// A part of a snapshot, which counts when all parts are there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Part {
    /// Of the snapshot.
    pub(super) id: u64,
    /// All changes at queue offsets before this are in it, and none behind.
    pub(super) at: i64,
    /// Changes that are not in it lie here in the log or behind.
    pub(super) physical: u64,
    /// Counted from 0.
    pub(super) number: u32,
    pub(super) of: u32,
    pub(super) content: Content,
    /// Where queues go on; see [`QueueEnds`]. Each part's are true at its place, whatever becomes of the others. `None`: of a program
    /// that did not tell it. Programs that do not know it pass it over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) queues: Option<QueueEnds>,
}

/// A state, or a part of one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Content {
    pub(super) topics_version: DataVersion,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) topics: Vec<TopicConfig>,
    pub(super) groups_version: DataVersion,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) groups: Vec<SubscriptionGroupConfig>,
    /// Bits by topic by group.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) forbidden: BTreeMap<String, BTreeMap<String, i32>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) positions: Positions,
    /// Those of `positions` that an administrator set and that the group was not told of yet.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) orders: Queues,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) delay: BTreeMap<i32, i64>,
    /// Before which offset of the log the messages of a topic are hidden.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) hidden: BTreeMap<String, u64>,
}

/// Why a message is no change.
#[derive(Debug, Error)]
pub(super) enum DecodeError {
    /// This program is too old.
    #[error("a change of metadata has version {0}, which this program does not know")]
    Newer(u32),
    /// Nobody wrote that as a change.
    #[error("no change of metadata: {0}")]
    Shape(#[from] serde_json::Error),
    /// Nobody wrote that as a change.
    #[error("no change of metadata: {0}")]
    Bounds(&'static str),
}

#[derive(Deserialize)]
struct Versioned {
    v: u32,
}

impl Record {
    /// Bytes that its body may have.
    pub(super) fn bytes_max(&self) -> usize {
        match self.change {
            Change::Part(_) => BYTES_MAX,
            _ => ASKED_BYTES_MAX,
        }
    }

    /// The message's body.
    ///
    /// # Errors
    /// Never with what is made here: maps have texts and numbers as keys.
    pub(super) fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// What [`Record::encode`] gave.
    pub(super) fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        if body.len() > BYTES_MAX {
            return Err(DecodeError::Bounds("it is too long"));
        }
        let Versioned { v } = serde_json::from_slice(body)?;
        if v > VERSION {
            return Err(DecodeError::Newer(v));
        }
        let record: Self = serde_json::from_slice(body)?;
        match &record.change {
            Change::Part(part) if part.number >= part.of || part.of > PARTS_MAX || part.at < 0 => {
                Err(DecodeError::Bounds("a part that cannot be"))
            }
            _ => Ok(record),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(change: Change) -> Record {
        Record {
            v: VERSION,
            writer: u64::MAX,
            number: 3,
            stamp: Stamp { at: 7, counter: 2 },
            change,
        }
    }

    fn topic() -> TopicConfig {
        TopicConfig {
            topic_name: "t".to_owned(),
            attributes: BTreeMap::from([("message.type".to_owned(), "FIFO".to_owned())]),
            ..TopicConfig::default()
        }
    }

    fn all() -> Vec<Change> {
        let group = SubscriptionGroupConfig {
            group_name: "g".to_owned(),
            ..SubscriptionGroupConfig::default()
        };
        let rows = Positions::from([("t@g".to_owned(), BTreeMap::from([(0, 5), (1, -1)]))]);
        let orders = Queues::from([("t@g".to_owned(), BTreeSet::from([0]))]);
        let content = Content {
            topics: vec![topic()],
            groups: vec![group.clone()],
            forbidden: BTreeMap::from([("g".to_owned(), BTreeMap::from([("t".to_owned(), 4)]))]),
            positions: rows.clone(),
            orders: orders.clone(),
            delay: BTreeMap::from([(3, 9)]),
            hidden: BTreeMap::from([("t".to_owned(), u64::MAX)]),
            ..Content::default()
        };
        vec![
            Change::Topics(TopicChange::Create {
                topic: topic(),
                max: 9,
            }),
            Change::Topics(TopicChange::Put(vec![topic()])),
            Change::Topics(TopicChange::Delete("t".to_owned())),
            Change::Topics(TopicChange::Renew),
            Change::Groups(GroupChange::Create {
                group: Box::new(group.clone()),
                max: 9,
            }),
            Change::Groups(GroupChange::Put(vec![group])),
            Change::Groups(GroupChange::Delete {
                group: "g".to_owned(),
                forgets_positions: true,
            }),
            Change::Positions(Moved {
                rows,
                orders,
                delay: BTreeMap::from([(1, 2)]),
            }),
            Change::Part(Box::new(Part {
                id: 1,
                at: 2,
                physical: 3,
                number: 0,
                of: 1,
                content,
                queues: serde_json::from_str(r#"{"t":{"0":[3,4]}}"#).unwrap(),
            })),
        ]
    }

    #[test]
    fn a_change_is_read_as_it_was_written() {
        for change in all() {
            let written = record(change);
            let read = Record::decode(&written.encode().unwrap()).unwrap();
            assert_eq!(read, written);
        }
    }

    /// What an earlier version of this program wrote, and what such a one reads of this.
    #[test]
    fn positions_without_orders_are_as_they_were() {
        let body = br#"{"v":1,"writer":1,"number":2,"stamp":{"at":3,"counter":0},"change":{"positions":{"rows":{"t@g":{"0":5}},"delay":{}}}}"#;
        let read = Record::decode(body).unwrap();
        assert_eq!(read.encode().unwrap(), body);
    }

    #[test]
    fn a_change_of_a_newer_program_is_told_from_one_that_is_none() {
        let newer = br#"{"v":2,"whatever":[1]}"#;
        assert!(matches!(Record::decode(newer), Err(DecodeError::Newer(2))));
        let none = [&b"{\"v\":1}"[..], b"", b"[]", b"{\"v\":1,\"change\":{}}"];
        for body in none {
            assert!(matches!(Record::decode(body), Err(DecodeError::Shape(_))));
        }
        assert!(Record::decode(&vec![b' '; BYTES_MAX + 1]).is_err());
    }

    /// Earlier programs told no ends of queues, and pass over what they do not know.
    #[test]
    fn a_part_of_a_program_that_told_no_ends_is_read() {
        let Some(Change::Part(part)) = all().pop() else {
            panic!("the last one is a part");
        };
        let of_new = Record::decode(&record(Change::Part(part.clone())).encode().unwrap());
        let older = Part {
            queues: None,
            ..*part
        };
        let text = record(Change::Part(Box::new(older.clone()))).encode();
        let text = String::from_utf8(text.unwrap()).unwrap();
        assert!(!text.contains("queues"), "{text}");
        let read = Record::decode(text.as_bytes()).unwrap();
        assert_eq!(read.change, Change::Part(Box::new(older)));
        assert_ne!(read.change, of_new.unwrap().change);
        let of_later = text.replace(r#""of":1,"#, r#""of":1,"later":{"x":[1]},"#);
        assert_ne!(of_later, text);
        assert_eq!(Record::decode(of_later.as_bytes()).unwrap(), read);
    }

    #[test]
    fn a_part_beyond_its_snapshot_is_none() {
        let Some(Change::Part(mut part)) = all().pop() else {
            panic!("the last one is a part");
        };
        (part.number, part.of) = (1, 1);
        let bytes = record(Change::Part(part)).encode().unwrap();
        assert!(matches!(
            Record::decode(&bytes),
            Err(DecodeError::Bounds(_))
        ));
    }
}

//! A queue of a topic on a broker, tables keyed by it, and the requests that lock queues.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::{Deserialize as DeriveDeserialize, Serialize};

use super::lenient;
use crate::json;

/// One queue.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, DeriveDeserialize,
)]
#[serde(rename_all = "camelCase", default)]
pub struct MessageQueue {
    /// The broker group.
    pub broker_name: String,
    /// The queue.
    #[serde(deserialize_with = "lenient::integer")]
    pub queue_id: i32,
    /// The topic.
    pub topic: String,
}

/// A table keyed by a queue, whose keys fastjson writes as objects: `{{"brokerName":"a","queueId":0,"topic":"T"}:…}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueTable<T>(pub BTreeMap<MessageQueue, T>);

impl<T> Default for QueueTable<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> FromIterator<(MessageQueue, T)> for QueueTable<T> {
    fn from_iter<I: IntoIterator<Item = (MessageQueue, T)>>(rows: I) -> Self {
        Self(rows.into_iter().collect())
    }
}

impl<T: Serialize> QueueTable<T> {
    /// Appends the table in fastjson's dialect.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        for (index, (queue, value)) in self.0.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(&json::to_json(queue));
            out.push(b':');
            out.extend_from_slice(&json::to_json(value));
        }
        out.push(b'}');
    }
}

// The dialect's reader has turned the objects into texts that hold them.
impl<'de, T: Deserialize<'de>> Deserialize<'de> for QueueTable<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Rows<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Rows<T> {
            type Value = QueueTable<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table keyed by message queues")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<QueueTable<T>, A::Error> {
                let mut table = QueueTable::default();
                while let Some((queue, value)) = map.next_entry::<String, T>()? {
                    let queue = serde_json::from_str(&queue).map_err(de::Error::custom)?;
                    table.0.insert(queue, value);
                }
                Ok(table)
            }
        }

        deserializer.deserialize_map(Rows(std::marker::PhantomData))
    }
}

/// Body of LOCK_BATCH_MQ and UNLOCK_BATCH_MQ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, DeriveDeserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LockBatchRequest {
    /// Who locks.
    pub client_id: String,
    /// For which group.
    pub consumer_group: String,
    /// The queues.
    pub mq_set: Vec<MessageQueue>,
    /// Whether the broker shall not ask its replicas.
    pub only_this_broker: bool,
}

/// Response to LOCK_BATCH_MQ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, DeriveDeserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LockBatchResponse {
    /// The queues that are locked for the asker now.
    #[serde(rename = "lockOKMQSet")]
    pub lock_ok_mq_set: Vec<MessageQueue>,
}

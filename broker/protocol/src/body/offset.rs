//! Tables of consumer offsets.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::queue::{MessageQueue, QueueTable};
use super::topic::DataVersion;
use crate::json;

/// All offsets of a broker: what each group reads next. The file `consumerOffset.json` has the same shape.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerOffsetTable {
    /// The version of the table.
    pub data_version: DataVersion,
    /// Topics by group, from 5.4 on; follows from the other table.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub group_topic_map: BTreeMap<String, Vec<String>>,
    /// Offsets by queue by `topic@group`.
    pub offset_table: BTreeMap<String, BTreeMap<i32, i64>>,
}

/// Progress of delayed messages by delay level.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DelayOffsetTable {
    /// The version of the table.
    pub data_version: DataVersion,
    /// Offset by level.
    pub offset_table: BTreeMap<i32, i64>,
}

/// Response to INVOKE_BROKER_TO_RESET_OFFSET, and body of RESET_CONSUMER_CLIENT_OFFSET.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResetOffset {
    /// The new offset of each queue.
    pub offset_table: QueueTable<i64>,
}

/// A row of the list that the C++ client expects in place of the table.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListedOffset<'a> {
    broker_name: &'a str,
    offset: i64,
    queue_id: i32,
    topic: &'a str,
}

impl ResetOffset {
    /// The text in fastjson's dialect.
    pub fn to_json(&self) -> Bytes {
        let mut out = b"{\"offsetTable\":".to_vec();
        self.offset_table.write(&mut out);
        out.push(b'}');
        out.into()
    }

    /// The text for a C++ client: a list (`ResetOffsetBodyForC`).
    pub fn to_json_list(&self) -> Bytes {
        let row = |(queue, &offset): (&'_ MessageQueue, &i64)| {
            let MessageQueue {
                broker_name,
                queue_id,
                topic,
            } = queue;
            json::to_json(&ListedOffset {
                broker_name,
                offset,
                queue_id: *queue_id,
                topic,
            })
        };
        let rows: Vec<Bytes> = self.offset_table.0.iter().map(row).collect();
        let mut out = b"{\"offsetTable\":[".to_vec();
        out.extend_from_slice(&rows.join(&b','));
        out.extend_from_slice(b"]}");
        out.into()
    }
}

/// Response to INVOKE_BROKER_TO_GET_CONSUMER_STATUS and, with the first table alone, to GET_CONSUMER_STATUS_FROM_CLIENT.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerStatus {
    /// Offsets by queue by client.
    pub consumer_table: BTreeMap<String, QueueTable<i64>>,
    /// Offsets by queue of one client.
    pub message_queue_table: QueueTable<i64>,
}

impl ConsumerStatus {
    /// The text in fastjson's dialect.
    pub fn to_json(&self) -> Bytes {
        let mut out = b"{\"consumerTable\":{".to_vec();
        for (index, (client, table)) in self.consumer_table.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(&json::to_json(client));
            out.push(b':');
            table.write(&mut out);
        }
        out.extend_from_slice(b"},\"messageQueueTable\":");
        self.message_queue_table.write(&mut out);
        out.push(b'}');
        out.into()
    }
}

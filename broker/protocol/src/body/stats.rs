//! Offsets and rates that administration tools ask for.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::queue::{MessageQueue, QueueTable};
use crate::json;

/// Response to GET_TOPIC_STATS_INFO (`TopicStatsTable`).
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicStats {
    /// Offsets of each queue.
    pub offset_table: QueueTable<TopicOffset>,
    /// Messages a second.
    pub topic_put_tps: f64,
}

impl TopicStats {
    /// The text in fastjson's dialect.
    pub fn to_json(&self) -> Bytes {
        let mut out = b"{\"offsetTable\":".to_vec();
        self.offset_table.write(&mut out);
        out.extend_from_slice(b",\"topicPutTps\":");
        out.extend_from_slice(&json::to_json(&self.topic_put_tps));
        out.push(b'}');
        out.into()
    }
}

/// Offsets of one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicOffset {
    /// Store time of the last message in milliseconds; 0 without messages.
    pub last_update_timestamp: i64,
    /// One past the last message.
    pub max_offset: i64,
    /// The first message.
    pub min_offset: i64,
}

/// Response to GET_CONSUME_STATS.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumeStats {
    /// Messages a second.
    pub consume_tps: f64,
    /// Offsets of each queue.
    pub offset_table: QueueTable<ConsumeOffset>,
}

impl ConsumeStats {
    /// The text in fastjson's dialect.
    pub fn to_json(&self) -> Bytes {
        let mut out = Vec::new();
        self.write(&mut out);
        out.into()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"consumeTps\":");
        out.extend_from_slice(&json::to_json(&self.consume_tps));
        out.extend_from_slice(b",\"offsetTable\":");
        self.offset_table.write(out);
        out.push(b'}');
    }
}

/// Offsets of one queue and one group (`OffsetWrapper`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumeOffset {
    /// One past the queue's last message.
    pub broker_offset: i64,
    /// What the group reads next.
    pub consumer_offset: i64,
    /// Store time of the last message that the group read, in milliseconds.
    pub last_timestamp: i64,
    /// What the group was sent last.
    pub pull_offset: i64,
}

/// Response to GET_BROKER_CONSUME_STATS.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BrokerConsumeStats {
    /// The broker.
    pub broker_addr: String,
    /// Maps of one group to its topics' offsets.
    pub consume_stats_list: Vec<BTreeMap<String, Vec<ConsumeStats>>>,
    /// All messages that wait.
    pub total_diff: i64,
    /// All messages sent and not yet committed.
    pub total_inflight_diff: i64,
}

impl BrokerConsumeStats {
    /// The text in fastjson's dialect.
    pub fn to_json(&self) -> Bytes {
        let mut out = b"{\"brokerAddr\":".to_vec();
        out.extend_from_slice(&json::to_json(&self.broker_addr));
        out.extend_from_slice(b",\"consumeStatsList\":");
        write_list(&self.consume_stats_list, &mut out, |groups, out| {
            out.push(b'{');
            for (index, (group, stats)) in groups.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(&json::to_json(group));
                out.push(b':');
                write_list(stats, out, ConsumeStats::write);
            }
            out.push(b'}');
        });
        let tail = format!(
            ",\"totalDiff\":{},\"totalInflightDiff\":{}}}",
            self.total_diff, self.total_inflight_diff
        );
        out.extend_from_slice(tail.as_bytes());
        out.into()
    }
}

fn write_list<T>(items: &[T], out: &mut Vec<u8>, mut write: impl FnMut(&T, &mut Vec<u8>)) {
    out.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(b']');
}

/// Response to VIEW_BROKER_STATS_DATA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BrokerStatsData {
    /// The last day.
    pub stats_day: BrokerStatsItem,
    /// The last hour.
    pub stats_hour: BrokerStatsItem,
    /// The last minute.
    pub stats_minute: BrokerStatsItem,
}

/// A sum over one span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BrokerStatsItem {
    /// The mean of one event.
    pub avgpt: f64,
    /// The sum.
    pub sum: i64,
    /// The sum by second.
    pub tps: f64,
}

/// Response to QUERY_CONSUME_TIME_SPAN.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QueryConsumeTimeSpan {
    /// One for each queue.
    pub consume_time_span_set: Vec<QueueTimeSpan>,
}

/// How far behind a group is in one queue, in time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QueueTimeSpan {
    /// Store time of what the group reads next, in milliseconds.
    pub consume_time_stamp: i64,
    /// Milliseconds behind the newest message.
    pub delay_time: i64,
    /// Store time of the newest message.
    pub max_time_stamp: i64,
    /// The queue.
    pub message_queue: MessageQueue,
    /// Store time of the oldest message.
    pub min_time_stamp: i64,
}

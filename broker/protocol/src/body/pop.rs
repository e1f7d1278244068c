//! Bodies of server-side assignment and of POP consumption.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::heartbeat::MessageModel;
use super::queue::MessageQueue;

/// How the members of a group get their messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MessageRequestMode {
    /// Each member pulls its queues.
    #[default]
    Pull,
    /// Members share queues.
    Pop,
}

/// Body of QUERY_ASSIGNMENT.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QueryAssignmentRequest {
    /// Who asks.
    pub client_id: String,
    /// For which group.
    pub consumer_group: String,
    /// Who of the group gets a message.
    pub message_model: MessageModel,
    /// How queues are shared: `AVG`, …
    pub strategy_name: String,
    /// The topic.
    pub topic: String,
}

/// Response to QUERY_ASSIGNMENT.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QueryAssignmentResponse {
    /// The queues of the asker.
    pub message_queue_assignments: Vec<MessageQueueAssignment>,
}

/// A queue for a member; queue -1 is any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MessageQueueAssignment {
    /// Free settings.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attachments: BTreeMap<String, String>,
    /// The queue.
    pub message_queue: MessageQueue,
    /// How to read it.
    pub mode: MessageRequestMode,
}

/// Body of SET_MESSAGE_REQUEST_MODE.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SetMessageRequestMode {
    /// The group.
    pub consumer_group: String,
    /// How it shall read.
    pub mode: MessageRequestMode,
    /// How many members share a queue.
    pub pop_share_queue_num: i32,
    /// The topic.
    pub topic: String,
}

/// Body of BATCH_ACK_MESSAGE.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BatchAck {
    /// The receipts.
    pub acks: Vec<BatchAckItem>,
    /// The broker.
    pub broker_name: String,
}

/// Receipts of one pop.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BatchAckItem {
    /// The acknowledged messages as bits: Java's `BitSet.toByteArray` in Base64.
    #[serde(rename = "b")]
    pub bit_set: String,
    /// The group.
    #[serde(rename = "c")]
    pub consumer_group: String,
    /// How long the messages were to stay invisible, in milliseconds.
    #[serde(rename = "it")]
    pub invisible_time: i64,
    /// When they were popped, in milliseconds.
    #[serde(rename = "pt")]
    pub pop_time: i64,
    /// The queue.
    #[serde(rename = "q")]
    pub queue_id: i32,
    /// "1" when they came from the retry topic.
    #[serde(rename = "r")]
    pub retry: String,
    /// The revive queue.
    #[serde(rename = "rq")]
    pub revive_queue_id: i32,
    /// Offset of the first message of the pop.
    #[serde(rename = "so")]
    pub start_offset: i64,
    /// The topic.
    #[serde(rename = "t")]
    pub topic: String,
}

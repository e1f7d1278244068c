//! What a client says of itself in HEART_BEAT, and what of it others ask for.

use serde::{Deserialize, Serialize};

use super::lenient;

/// How a consumer gets its messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConsumeType {
    /// By pulls of the application.
    #[serde(rename = "CONSUME_ACTIVELY")]
    Actively,
    /// By pulls of the client library.
    #[default]
    #[serde(rename = "CONSUME_PASSIVELY")]
    Passively,
    /// By POP.
    #[serde(rename = "CONSUME_POP")]
    Pop,
}

/// Who of a group gets a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MessageModel {
    /// Every member.
    Broadcasting,
    /// One member.
    #[default]
    Clustering,
}

/// Where a new group begins. The three obsolete names are still accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ConsumeFromWhere {
    /// With messages sent from now on.
    #[default]
    ConsumeFromLastOffset,
    /// Obsolete.
    ConsumeFromLastOffsetAndFromMinWhenBootFirst,
    /// Obsolete.
    ConsumeFromMinOffset,
    /// Obsolete.
    ConsumeFromMaxOffset,
    /// With the oldest message.
    ConsumeFromFirstOffset,
    /// With messages from a time on.
    ConsumeFromTimestamp,
}

/// Body of HEART_BEAT.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HeartbeatData {
    /// The client.
    #[serde(rename = "clientID")]
    pub client_id: String,
    /// Its consumers.
    pub consumer_data_set: Vec<ConsumerData>,
    /// Stands for the subscriptions, in the second form of heartbeats; else 0.
    pub heartbeat_fingerprint: i32,
    /// Its producers.
    pub producer_data_set: Vec<ProducerData>,
    /// The subscriptions were left out, as they have not changed.
    pub without_sub: bool,
}

/// One producer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProducerData {
    /// Its group.
    pub group_name: String,
}

/// One consumer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerData {
    /// Where the group begins if it is new.
    pub consume_from_where: ConsumeFromWhere,
    /// How it gets its messages.
    pub consume_type: ConsumeType,
    /// Its group.
    pub group_name: String,
    /// Who of the group gets a message.
    pub message_model: MessageModel,
    /// What it reads.
    pub subscription_data_set: Vec<SubscriptionData>,
    /// Obsolete.
    pub unit_mode: bool,
}

/// The expression type of tags.
pub const EXPRESSION_TAG: &str = "TAG";
/// The expression type of SQL92 filters.
pub const EXPRESSION_SQL92: &str = "SQL92";
/// The expression that matches everything.
pub const SUB_ALL: &str = "*";

/// What a consumer reads of one topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SubscriptionData {
    /// Obsolete.
    pub class_filter_mode: bool,
    /// Hashes of the tags; empty for all.
    #[serde(deserialize_with = "lenient::integers")]
    pub code_set: Vec<i32>,
    /// `TAG` or `SQL92`; missing or empty means `TAG`.
    pub expression_type: String,
    /// The expression.
    pub sub_string: String,
    /// The client's time of the subscription: the newer of two counts.
    #[serde(deserialize_with = "lenient::integer")]
    pub sub_version: i64,
    /// The tags; empty for all.
    pub tags_set: Vec<String>,
    /// The topic.
    pub topic: String,
}

impl Default for SubscriptionData {
    fn default() -> Self {
        Self {
            class_filter_mode: false,
            code_set: Vec::new(),
            expression_type: EXPRESSION_TAG.to_owned(),
            sub_string: String::new(),
            sub_version: 0,
            tags_set: Vec::new(),
            topic: String::new(),
        }
    }
}

/// Body of CHECK_CLIENT_CONFIG.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CheckClientConfig {
    /// The client.
    pub client_id: String,
    /// Its group.
    pub group: String,
    /// Its namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// What is to be checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_data: Option<SubscriptionData>,
}

//! Settings of consumer groups.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::topic::DataVersion;

/// Settings of one group on one broker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(clippy::struct_excessive_bools, reason = "the shape is RocketMQ\'s")]
pub struct SubscriptionGroupConfig {
    /// Free settings.
    pub attributes: BTreeMap<String, String>,
    /// The broker that serves the group.
    pub broker_id: i64,
    /// Whether broadcasting is allowed.
    pub consume_broadcast_enable: bool,
    /// Whether the group may consume.
    pub consume_enable: bool,
    /// Whether a new group may begin with the oldest message.
    pub consume_from_min_enable: bool,
    /// Whether POP keeps order.
    pub consume_message_orderly: bool,
    /// Minutes after which a message counts as not consumed.
    pub consume_timeout_minute: i32,
    /// The group.
    pub group_name: String,
    /// How long retries wait.
    pub group_retry_policy: GroupRetryPolicy,
    /// The group's system flag.
    pub group_sys_flag: i32,
    /// Whether members are told of each other.
    pub notify_consumer_ids_changed_enable: bool,
    /// Deliveries before a message becomes a dead letter.
    pub retry_max_times: i32,
    /// Queues of the retry topic.
    pub retry_queue_nums: i32,
    /// Fixed subscriptions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_data_set: Option<Vec<SimpleSubscriptionData>>,
    /// The broker that a slow group is sent to.
    pub which_broker_when_consume_slowly: i64,
}

impl Default for SubscriptionGroupConfig {
    fn default() -> Self {
        Self {
            attributes: BTreeMap::new(),
            broker_id: 0,
            consume_broadcast_enable: true,
            consume_enable: true,
            consume_from_min_enable: true,
            consume_message_orderly: false,
            consume_timeout_minute: 15,
            group_name: String::new(),
            group_retry_policy: GroupRetryPolicy::default(),
            group_sys_flag: 0,
            notify_consumer_ids_changed_enable: true,
            retry_max_times: 16,
            retry_queue_nums: 1,
            subscription_data_set: None,
            which_broker_when_consume_slowly: 1,
        }
    }
}

/// How long the retries of a group wait.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupRetryPolicy {
    /// Waits of a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customized_retry_policy: Option<CustomizedRetryPolicy>,
    /// Waits that grow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exponential_retry_policy: Option<ExponentialRetryPolicy>,
    /// Which of the two; the first, with its default list, when neither is given.
    #[serde(rename = "type")]
    pub kind: RetryPolicyKind,
}

/// The kind of a retry policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RetryPolicyKind {
    /// Waits of a list.
    #[default]
    Customized,
    /// Waits that grow.
    Exponential,
}

/// Waits of a list, in milliseconds; empty is the default list of delay levels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CustomizedRetryPolicy {
    /// The wait before each retry.
    pub next: Vec<i64>,
}

/// Waits that grow by a factor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExponentialRetryPolicy {
    /// The first wait in milliseconds.
    pub initial: i64,
    /// The longest wait in milliseconds.
    pub max: i64,
    /// The factor.
    pub multiplier: i64,
}

impl Default for ExponentialRetryPolicy {
    fn default() -> Self {
        Self {
            initial: 5_000,
            max: 7_200_000,
            multiplier: 2,
        }
    }
}

/// A fixed subscription of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SimpleSubscriptionData {
    /// The expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
    /// `TAG` or `SQL92`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expression_type: Option<String>,
    /// The topic.
    pub topic: String,
    /// The newer of two counts.
    pub version: i64,
}

/// All groups of a broker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SubscriptionGroupTable {
    /// The version of the table.
    pub data_version: DataVersion,
    /// What a group may not do with a topic: bits by topic by group.
    pub forbidden_table: BTreeMap<String, BTreeMap<String, i32>>,
    /// Settings by group.
    pub subscription_group_table: BTreeMap<String, SubscriptionGroupConfig>,
}

/// Request UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SubscriptionGroupList {
    /// The groups.
    pub group_config_list: Vec<SubscriptionGroupConfig>,
}

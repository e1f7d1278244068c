//! Who is connected: answers about the members of groups.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::heartbeat::{ConsumeFromWhere, ConsumeType, MessageModel, SubscriptionData};

/// Response to GET_CONSUMER_LIST_BY_GROUP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerList {
    /// Ids of the group's clients.
    pub consumer_id_list: Vec<String>,
}

/// One connected client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientConnection {
    /// Its address.
    pub client_addr: String,
    /// Its id.
    pub client_id: String,
    /// Its language's name.
    pub language: String,
    /// Its version's ordinal.
    pub version: i32,
}

/// Response to GET_CONSUMER_CONNECTION_LIST.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerConnection {
    /// The members.
    pub connection_set: Vec<ClientConnection>,
    /// Where the group begins if it is new.
    pub consume_from_where: ConsumeFromWhere,
    /// How it gets its messages.
    pub consume_type: ConsumeType,
    /// Who of the group gets a message.
    pub message_model: MessageModel,
    /// What it reads, by topic.
    pub subscription_table: BTreeMap<String, SubscriptionData>,
}

/// Response to QUERY_SUBSCRIPTION_BY_CONSUMER.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QuerySubscription {
    /// The group.
    pub group: String,
    /// What it reads of the topic, as its members said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_data: Option<SubscriptionData>,
    /// The topic.
    pub topic: String,
}

/// Response to GET_PRODUCER_CONNECTION_LIST.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProducerConnection {
    /// The members.
    pub connection_set: Vec<ClientConnection>,
}

/// Response to GET_ALL_PRODUCER_INFO.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProducerTable {
    /// Producers by group.
    pub data: BTreeMap<String, Vec<ProducerInfo>>,
}

/// One connected producer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProducerInfo {
    /// Its id.
    pub client_id: String,
    /// Its language's name.
    pub language: String,
    /// When it was heard last, in milliseconds.
    pub last_update_timestamp: i64,
    /// Its address.
    #[serde(rename = "remoteIP")]
    pub remote_ip: String,
    /// Its version's ordinal.
    pub version: i32,
}

/// Response to QUERY_TOPIC_CONSUME_BY_WHO.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupList {
    /// The groups.
    pub group_list: Vec<String>,
}

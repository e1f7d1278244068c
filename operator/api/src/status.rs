//! What the operator tells about a cluster. It is written only when it changes, and holds no clock and no live number.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::condition::{Condition, ConditionType};

/// A short word for the whole, derived from the conditions; never the source of truth.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
)]
pub enum Phase {
    /// Made for the first time, not yet serving.
    #[default]
    Creating,
    /// All is well.
    Healthy,
    /// Something needs a person, or does not serve.
    Degraded,
    /// Pods are being replaced.
    Updating,
    /// Groups, brokers, name servers or volumes are changing in number or size.
    Scaling,
    /// Told not to change anything.
    Paused,
    /// The specification cannot be carried out.
    Blocked,
    /// Being deleted.
    Deleting,
}

impl Phase {
    /// All phases.
    pub const ALL: [Self; 8] = [
        Self::Creating,
        Self::Healthy,
        Self::Degraded,
        Self::Updating,
        Self::Scaling,
        Self::Paused,
        Self::Blocked,
        Self::Deleting,
    ];

    /// The word in the object.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "Creating",
            Self::Healthy => "Healthy",
            Self::Degraded => "Degraded",
            Self::Updating => "Updating",
            Self::Scaling => "Scaling",
            Self::Paused => "Paused",
            Self::Blocked => "Blocked",
            Self::Deleting => "Deleting",
        }
    }
}

/// One broker group at a glance. The whole truth is in the RocketBrokerGroup of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupSummary {
    /// Index of the group.
    pub index: i32,
    /// Name of its RocketBrokerGroup, StatefulSet and master Service.
    pub name: String,
    /// Pod that takes writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<String>,
    /// Epoch of that master.
    pub epoch: i64,
    /// Pods that have everything that was acknowledged.
    #[serde(default)]
    pub in_sync: Vec<String>,
    /// Pods that do not have everything that was acknowledged: they catch up, or hold no data where the master is fixed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub standbys: Vec<String>,
    /// Brokers asked for.
    pub replicas: i32,
    /// Brokers that are ready.
    pub ready: i32,
    /// Whether it has ever taken writes. A group that is still to come does not make the cluster unavailable.
    #[serde(default)]
    pub joined: bool,
}

/// Where clients connect.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Endpoints {
    /// Name server address for clients inside the Kubernetes cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internal: Option<String>,
}

/// What the operator chose where the specification left it open.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Effective {
    /// Image of broker and name server.
    pub image: String,
    /// Copies without which a group refuses writes; in the group that needs the fewest, as long as replicas that were added copy.
    pub min_in_sync: i32,
}

/// What is true of a RocketCluster.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RocketClusterStatus {
    /// Generation of the specification that this status speaks of.
    #[serde(default)]
    pub observed_generation: i64,
    /// A short word for the whole.
    #[serde(default, deserialize_with = "known_or_default")]
    #[schemars(with = "String")]
    pub phase: Phase,
    /// Release that every pod runs; during an update the former one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The broker groups, by index.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["index"]))]
    pub groups: Vec<GroupSummary>,
    /// Groups that exist, for the scale subresource.
    #[serde(default)]
    pub group_count: i32,
    /// Groups with a serving master, of all: `3/3`.
    #[serde(default)]
    pub groups_ready: String,
    /// Brokers that are ready, of all: `9/9`.
    #[serde(default)]
    pub brokers_ready: String,
    /// Name servers that are ready, of all: `2/2`.
    #[serde(default)]
    pub name_servers_ready: String,
    /// Where clients connect.
    #[serde(default)]
    pub endpoints: Endpoints,
    /// What the operator chose where the specification left it open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<Effective>,
    /// Label selector of the broker pods, for the scale subresource.
    #[serde(default)]
    pub selector: String,
    /// Conditions, one of each type.
    #[serde(default, deserialize_with = "known")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

impl RocketClusterStatus {
    /// The condition of a type, if it was ever written.
    pub fn condition(&self, type_: ConditionType) -> Option<&Condition> {
        self.conditions
            .iter()
            .find(|condition| condition.type_ == type_)
    }
}

/// A word that a later operator wrote is read as if nothing was written, rather than making the whole object unreadable.
pub(crate) fn known_or_default<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(deserializer)?).unwrap_or_default())
}

/// Those items that this version knows.
fn known<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let items = Vec::<Value>::deserialize(deserializer)?;
    Ok(items
        .into_iter()
        .filter_map(|item| serde_json::from_value(item).ok())
        .collect())
}

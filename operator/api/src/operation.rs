//! `RocketOperation`: one request to do something once, and what became of it.
//!
//! A specification says how a cluster should be; a request says what should happen now. It is immutable, so that it can be read
//! later as it was made, and a finished one never changes. Deleting one at any time is safe: what it began is either finished
//! or taken back by those who do it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::Truth;
use crate::status::known_or_default;

/// What is asked for. It cannot be changed afterwards: delete the request, or make another one.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "rocketcluster.io",
    version = "v1alpha1",
    kind = "RocketOperation",
    namespaced,
    shortname = "rop",
    category = "rocketmq",
    status = "OperationStatus",
    derive = "PartialEq",
    doc = "One request to a RocketCluster: hand a group's mastership over, restart its brokers, or, by a person's decision, elect a replica or make a lost record anew.",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.cluster"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "Target", type_ = "string", json_path = ".status.target"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Progress", type_ = "string", json_path = ".status.progress"),
    printcolumn(
        name = "Write-Pause",
        type_ = "string",
        json_path = ".status.writePause"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self == oldSelf").message("a request cannot be changed after it was made: delete it, or make another one"),
    validation = Rule::new("self.type == 'Restart' || has(self.group)").message("a Switchover, a ForceElect and a Rebuild are about one group: write its index as group"),
    validation = Rule::new("!(self.type in ['Restart', 'Rebuild']) || !has(self.to)").message("a Restart and a Rebuild have no target: leave to out"),
    validation = Rule::new("self.type != 'Rebuild' || has(self.requestedBy)").message("a Rebuild makes the record of a group anew, so it names who decided (requestedBy)"),
    validation = Rule::new("self.type != 'ForceElect' || (has(self.to) && has(self.epoch) && has(self.requestedBy))")
        .message("a ForceElect may lose messages, so it names the replica (to), the epoch of the record that you looked at (epoch) and who decided (requestedBy)"),
    validation = Rule::new("self.type == 'ForceElect' || !has(self.epoch)").message("epoch is for a ForceElect only: leave it out"),
    validation = Rule::new("!has(self.to) || self.to.startsWith(self.cluster)")
        .message("to is the name of a broker pod of the group, such as orders-0-2 for the third broker of group 0 of the cluster orders"),
)]
pub struct RocketOperationSpec {
    /// Name of the RocketCluster in the same namespace.
    #[schemars(
        length(min = 1, max = 40),
        regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub cluster: String,
    /// What to do. `Switchover`: the master of a group hands over to another replica that has everything; nothing is lost and nobody is restarted. `Restart`: every broker of a group or of the cluster is restarted, one at a time, slaves first, masters after they handed over. `ForceElect`: a replica that may lack acknowledged messages becomes master, because those that have them are gone for good. `Rebuild`: the record of a group is lost or unusable, and is made anew from what all its replicas hold.
    #[serde(rename = "type")]
    pub type_: OperationType,
    /// Index of the broker group. A `Restart` without it restarts all groups of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1023))]
    pub group: Option<i32>,
    /// Pod that shall be master, such as `orders-0-2`. A `Switchover` without it takes a replica that has everything; a `ForceElect` must name one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub to: Option<String>,
    /// For a `ForceElect`: the epoch of the RocketBrokerGroup that you looked at when you decided. If it has moved on since, nothing is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub epoch: Option<i64>,
    /// Who asks, for those who read it later; a `ForceElect` writes it into the group's record for ever. It is not checked: the API server's audit log knows the account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub requested_by: Option<String>,
    /// Seconds after its creation within which it must be done; afterwards it fails with what it waited for. Default 60, and none for a `Restart`, which leaves the rest as it is when its time is over, and for a `Rebuild`, which may wait for people to bring replicas back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604_800))]
    pub deadline_seconds: Option<i32>,
    /// Seconds after its end at which the operator deletes this request. Default seven days (604800). A `ForceElect` or a `Rebuild` without it is kept until a person deletes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub ttl_seconds_after_finished: Option<i32>,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OperationType {
    /// The master of a group hands over.
    Switchover,
    /// Brokers are restarted, one at a time.
    Restart,
    /// A replica is elected although it may lack acknowledged messages.
    ForceElect,
    /// A record that is lost is made anew.
    Rebuild,
}

impl OperationType {
    /// The word in the object.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Switchover => "Switchover",
            Self::Restart => "Restart",
            Self::ForceElect => "ForceElect",
            Self::Rebuild => "Rebuild",
        }
    }
}

/// How far a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum OperationPhase {
    /// It waits; the message says for what.
    #[default]
    Pending,
    /// It is being done.
    Running,
    /// It is done.
    Succeeded,
    /// It was not done, or not wholly; the message says why and what to do.
    Failed,
}

impl OperationPhase {
    /// The word in the object.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }
}

/// How a request ended, in Kubernetes' form, so that `kubectl wait --for=condition=Complete` works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationCondition {
    /// `Complete` or `Failed`.
    #[serde(rename = "type")]
    pub type_: String,
    /// Whether it holds.
    pub status: Truth,
    /// Why, in one word.
    pub reason: String,
    /// The same for people, in one sentence.
    pub message: String,
    /// When it came to hold.
    pub last_transition_time: Time,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(oldSelf.finishedAt) || (has(self.finishedAt) && self.phase == oldSelf.phase && self.message == oldSelf.message)").message("a request that has ended does not change"))]
pub struct OperationStatus {
    /// How far it is: `Pending`, `Running`, `Succeeded` or `Failed`.
    #[serde(default, deserialize_with = "known_or_default")]
    #[schemars(with = "String")]
    pub phase: OperationPhase,
    /// What it is about: `group 0`, `all groups`, or `orders-0-0 -> orders-0-2`.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub target: String,
    /// Brokers restarted, of all: `2/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub progress: Option<String>,
    /// How long at most no replica of the group took sends while the master handed over, such as `43ms`; the longest one if there were several. Absent when it was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub write_pause: Option<String>,
    /// What it does or waits for, or how it ended and what to do now, in one sentence.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    pub message: String,
    /// When it was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// Pod that was master when it was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub from: Option<String>,
    /// Pod that is to be master.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub to: Option<String>,
    /// Epoch of the group when it was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
    /// Pods that are to be restarted, each with the UID that it had at the beginning: a pod of another UID was restarted since.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 1024))]
    pub restarting: BTreeMap<String, String>,
    /// How it ended: `Complete` or `Failed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<OperationCondition>,
}

impl RocketOperation {
    /// Whether it has ended. The phase is not asked: a later operator may know more of them.
    pub fn has_ended(&self) -> bool {
        let status = self.status.as_ref();
        status.is_some_and(|status| status.finished_at.is_some())
    }
}

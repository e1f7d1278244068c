//! `RocketBrokerGroup`: the coordinator object of one broker group.
//!
//! Its status is the state of the replication protocol (docs/replication.md §4.3). It is changed by compare-and-set only,
//! and the rules W1 to W5 and W7 to W9 are checked by the API server on every write. No heartbeat ever goes through it: it changes
//! when a role, a set or an address changes.
//!
//! Under the *static* rule the operator records the first replica as master once and keeps it; no broker writes it. Under the
//! *elected* rule (docs/failover.md) brokers and electors write it. A group keeps the rule that it began with.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cluster::{Flush, ReplicationMode};

/// Version of the state's shape.
pub const GROUP_FORMAT: i32 = 1;

/// Which group of which cluster this is.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "rocketcluster.io",
    version = "v1alpha1",
    kind = "RocketBrokerGroup",
    namespaced,
    shortname = "rbg",
    category = "rocketmq",
    status = "GroupState",
    derive = "PartialEq",
    doc = "The coordinator object of one broker group: who is master, in which epoch, with which copies. Made by rocket-operator; read it, do not edit it.",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.cluster"),
    printcolumn(name = "Group", type_ = "integer", json_path = ".spec.index"),
    printcolumn(name = "Master", type_ = "string", json_path = ".status.masterName"),
    printcolumn(name = "Epoch", type_ = "integer", json_path = ".status.epoch"),
    printcolumn(name = "In-Sync", type_ = "string", json_path = ".status.inSyncNames"),
    printcolumn(
        name = "Min-In-Sync",
        type_ = "integer",
        json_path = ".status.minInSync"
    ),
    printcolumn(name = "Flush", type_ = "string", json_path = ".status.inForce.flush"),
    printcolumn(
        name = "Replication",
        type_ = "string",
        json_path = ".status.inForce.replication"
    ),
    printcolumn(name = "Rule", type_ = "string", json_path = ".status.rule"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "Version",
        type_ = "integer",
        json_path = ".status.version",
        priority = 1
    ),
    printcolumn(
        name = "Group-UID",
        type_ = "string",
        json_path = ".status.groupUid",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf").message("the cluster and the index of a RocketBrokerGroup cannot change: the operator makes one object per group"))]
pub struct RocketBrokerGroupSpec {
    /// Name of the RocketCluster.
    #[schemars(length(min = 1, max = 63))]
    pub cluster: String,
    /// Index of the group in its cluster.
    #[schemars(range(min = 0, max = 1023))]
    pub index: i32,
}

/// One start of one replica on one disk, as 32 hexadecimal digits.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
#[schemars(inline, extend("pattern" = "^[0-9a-f]{32}$", "maxLength" = 32))]
pub struct Incarnation(pub String);

impl Incarnation {
    /// The incarnation that the static rule writes: replicas do not register under it.
    pub fn unregistered() -> Self {
        Self("0".repeat(32))
    }
}

/// A replica in one of its incarnations.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Number of the replica, a key of `replicas`.
    #[schemars(range(min = 1))]
    pub replica_id: i64,
    /// Its incarnation.
    pub incarnation: Incarnation,
}

/// A replica that is known to the group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Replica {
    /// Name of its pod, for people: never an identity.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub name: String,
    /// Identity of its disk; empty until it registered.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub disk_id: String,
    /// The incarnation that registered last.
    #[serde(default)]
    pub incarnation: Option<Incarnation>,
    /// Where other replicas reach it.
    #[serde(default)]
    #[schemars(length(max = 300))]
    pub address: String,
    /// Whether its acknowledgements mean flushed.
    #[serde(default)]
    pub durable: bool,
    /// Whether it may not become master.
    #[serde(default)]
    pub cordoned: bool,
    /// Whether its data is gone for good.
    #[serde(default)]
    pub lost: bool,
}

/// The master opened for writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Activated {
    /// In this epoch.
    pub epoch: i64,
    /// From this physical offset on.
    pub start_offset: i64,
}

/// An election outside the complete replicas; kept for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Unclean {
    /// Epoch that began with it.
    pub epoch: i64,
    /// Who was chosen.
    pub chosen: Member,
    /// End of the log that was kept.
    pub kept_end: i64,
    /// Why it had to be, in one sentence.
    #[schemars(length(max = 1024))]
    pub reason: String,
}

/// Modes of a group (docs/replication.md §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Modes {
    /// When an append counts.
    pub flush: Flush,
    /// What the answer to a send waits for.
    pub replication: ReplicationMode,
}

/// What a master has said is in force: it keeps this, and so does every later one until one of them says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InForce {
    /// When an append counts.
    pub flush: Flush,
    /// What the answer to a send waits for.
    pub replication: ReplicationMode,
    /// The epoch in whose course `replication` became that.
    pub since: i64,
    /// Copies without which the master refuses writes.
    #[schemars(range(min = 1, max = 16))]
    pub min_in_sync: i32,
}

/// Who decides about the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum GroupRule {
    /// The operator records the first replica once; it is never moved.
    #[default]
    Static,
    /// Elections by compare-and-set.
    Elected,
}

/// State of the group (docs/replication.md §4.3) and a few names for people.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.version >= oldSelf.version && self.version <= oldSelf.version + 1").message("version grows by exactly one with every write"),
    validation = Rule::new("self.version == oldSelf.version + 1 || self == oldSelf").message("a write that changes the state must raise version by one"),
    validation = Rule::new("self.epoch >= oldSelf.epoch").message("epoch never falls"),
    validation = Rule::new("self.nextReplicaId >= oldSelf.nextReplicaId").message("nextReplicaId never falls"),
    validation = Rule::new("self.groupUid == oldSelf.groupUid").message("groupUid never changes"),
    validation = Rule::new("!has(self.master) || (has(oldSelf.master) && self.master == oldSelf.master) || self.epoch > oldSelf.epoch")
        .message("another master needs a higher epoch"),
    validation = Rule::new("!has(self.master) || self.inSync.exists(member, member.replicaId == self.master.replicaId && member.incarnation == self.master.incarnation)").message("the master is a member of inSync"),
    validation = Rule::new("self.inSync.all(member, string(member.replicaId) in self.replicas && has(self.replicas[string(member.replicaId)].incarnation) && self.replicas[string(member.replicaId)].incarnation == member.incarnation && !self.replicas[string(member.replicaId)].lost)").message("a member of inSync is known under its present incarnation and is not lost"),
    validation = Rule::new("self.eligible.all(member, string(member.replicaId) in self.replicas && has(self.replicas[string(member.replicaId)].incarnation) && self.replicas[string(member.replicaId)].incarnation == member.incarnation && !self.replicas[string(member.replicaId)].lost)").message("a member of eligible is known under its present incarnation and is not lost"),
    validation = Rule::new("self.eligible.size() == 0 || self.inSync.size() < self.minInSync").message("eligible is empty while inSync is complete"),
    validation = Rule::new("!self.eligible.exists(one, self.inSync.exists(other, one.replicaId == other.replicaId && one.incarnation == other.incarnation))").message("nobody is in inSync and in eligible"),
    validation = Rule::new("self.unclean.size() >= oldSelf.unclean.size()").message("unclean only grows"),
    validation = Rule::new("!has(self.inForce) || self.inForce.flush != 'Sync' || (self.inSync.all(member, self.replicas[string(member.replicaId)].durable) && self.eligible.all(member, self.replicas[string(member.replicaId)].durable))").message("flush Sync is in force only while every member of inSync and eligible is durable"),
    validation = Rule::new("(!has(oldSelf.policy) || has(self.policy)) && (!has(oldSelf.inForce) || has(self.inForce))").message("modes do not vanish: an older broker must not write this object"),
)]
pub struct GroupState {
    /// Version of this shape: 1.
    pub format: i32,
    /// Identity of the group; data of another group is never mixed in.
    #[schemars(length(min = 1, max = 64))]
    pub group_uid: String,
    /// Grows by one with every write.
    pub version: i64,
    /// Random mark of the write that made this version.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub proposal: String,
    /// Grows with every change of the master.
    pub epoch: i64,
    /// The replica that takes writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<Member>,
    /// Replicas that have everything that was acknowledged.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub in_sync: Vec<Member>,
    /// Replicas that are complete but not needed for a commit.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub eligible: Vec<Member>,
    /// Copies without which the master refuses writes.
    #[schemars(range(min = 1, max = 16))]
    pub min_in_sync: i32,
    /// The modes that are asked for. Without them each broker's configuration says its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Modes>,
    /// The modes that are in force, written by the master when it keeps them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_force: Option<InForce>,
    /// Known replicas by number.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 64))]
    pub replicas: BTreeMap<String, Replica>,
    /// Number of the next replica that registers.
    pub next_replica_id: i64,
    /// Members of `inSync` and `eligible` whenever there were any.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub last_complete: Vec<i64>,
    /// Written by the master when it opened for writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activated: Option<Activated>,
    /// Replica that a planned handover goes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handover: Option<i64>,
    /// Elections outside the complete replicas.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub unclean: Vec<Unclean>,
    /// Who decides about the master.
    #[serde(default)]
    pub rule: GroupRule,
    /// Pod of the master, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub master_name: Option<String>,
    /// Pods of `inSync`, for people.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    pub in_sync_names: String,
}

impl GroupState {
    /// Pod name of the recorded master.
    pub fn master_pod(&self) -> Option<&str> {
        let master = self.master.as_ref()?;
        self.replicas
            .get(&master.replica_id.to_string())
            .map(|replica| replica.name.as_str())
    }
}

/// Pod behind the address of a replica: the first label of its host name.
pub fn pod_of_address(address: &str) -> &str {
    address.split(['.', ':']).next().unwrap_or_default()
}

//! Conditions: what is true of a cluster, each with a reason from one closed list and a sentence for people.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a condition speaks of.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum ConditionType {
    /// Everything that was asked for runs and serves. Its message is the one sentence to read first.
    Ready,
    /// Every group accepts writes and at least one name server answers.
    Available,
    /// The operator is on its way to what the specification says.
    Progressing,
    /// Something needs a person.
    Degraded,
    /// Every group has the copies that the specification asks for.
    ReplicationHealthy,
    /// Losing any one broker now would cost neither messages nor a manual step.
    FailoverReady,
    /// Every pod runs with the present specification, and the modes that it asks for are in force.
    ConfigApplied,
    /// `spec.paused` is set.
    Paused,
}

impl ConditionType {
    /// All types, in the order in which a status lists them.
    pub const ALL: [Self; 8] = [
        Self::Ready,
        Self::Available,
        Self::Progressing,
        Self::Degraded,
        Self::ReplicationHealthy,
        Self::FailoverReady,
        Self::ConfigApplied,
        Self::Paused,
    ];

    /// The word in the object.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Available => "Available",
            Self::Progressing => "Progressing",
            Self::Degraded => "Degraded",
            Self::ReplicationHealthy => "ReplicationHealthy",
            Self::FailoverReady => "FailoverReady",
            Self::ConfigApplied => "ConfigApplied",
            Self::Paused => "Paused",
        }
    }
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It cannot be told.
    Unknown,
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// Why a condition is as it is. The same words are the reasons of events.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum Reason {
    /// Every group has a serving master.
    AllGroupsServing,
    /// Every group that clients know takes writes; another is still to come.
    GroupsServing,
    /// Some group has no serving master.
    GroupWithoutMaster,
    /// Some group refuses writes, because fewer replicas than it needs have everything that was acknowledged.
    TooFewInSync,
    /// No name server is ready.
    NoNameServer,
    /// Some broker or name server that does not take writes is not ready.
    PodsNotReady,
    /// Objects are being made for the first time.
    Creating,
    /// Pods are being replaced because the specification changed.
    RollingOut,
    /// Groups, brokers or name servers are being added or removed.
    Scaling,
    /// Volumes are being enlarged.
    ResizingVolumes,
    /// Nothing is left to do.
    UpToDate,
    /// Nothing is wrong.
    AsExpected,
    /// The specification asks for something that cannot be done.
    SpecRefused,
    /// An object with a needed name belongs to somebody else.
    NameTaken,
    /// The API server refused an object.
    ApplyRefused,
    /// The storage class refused to enlarge a volume.
    VolumeResizeRefused,
    /// A volume claim is being deleted, and its volume goes when its pod ends.
    VolumeTerminating,
    /// A container does not start.
    PodFailing,
    /// The PodMonitor resource is not installed.
    PodMonitorMissing,
    /// Each group has one replica: its volume is the only copy.
    SingleReplica,
    /// Replicas beyond the master hold no data, because the master is fixed.
    StandbysHoldNoData,
    /// The master is fixed: the cluster was begun so.
    FixedMaster,
    /// A replica was elected master.
    Elected,
    /// The master hands over, so that its pod can be replaced.
    HandingOver,
    /// The modes that the specification asks for are not in force in every group yet.
    ModesChanging,
    /// Objects are not as the operator wrote them, because a mutating webhook changes them.
    ObjectsMutated,
    /// Answers do not wait for other replicas: a master that is lost takes the last of them with it.
    AnsweredByMaster,
    /// A replica that the master handed over to has opened for writes.
    HandedOver,
    /// A RocketOperation was begun.
    OperationStarted,
    /// A RocketOperation is done.
    OperationSucceeded,
    /// A RocketOperation was not done, or not wholly.
    OperationFailed,
    /// Every replica has everything that was acknowledged.
    AllReplicasInSync,
    /// Some replica does not have everything that was acknowledged.
    ReplicasBehind,
    /// Each group has another replica that can take over at once.
    HeirsReady,
    /// Some group has no other replica that can take over at once.
    NoHeir,
    /// Some group has no master, and none of its replicas can be elected without a person.
    NoElectableReplica,
    /// The record of a group is lost or broken.
    RecordUnusable,
    /// The record of a group was made anew by a person's decision.
    RecordRebuilt,
    /// `spec.paused` is true.
    PausedBySpec,
    /// `spec.paused` is false.
    NotPaused,
    /// The cluster is being deleted.
    Deleting,
}

impl Reason {
    /// The word in the object.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllGroupsServing => "AllGroupsServing",
            Self::GroupsServing => "GroupsServing",
            Self::GroupWithoutMaster => "GroupWithoutMaster",
            Self::TooFewInSync => "TooFewInSync",
            Self::NoNameServer => "NoNameServer",
            Self::PodsNotReady => "PodsNotReady",
            Self::Creating => "Creating",
            Self::RollingOut => "RollingOut",
            Self::Scaling => "Scaling",
            Self::ResizingVolumes => "ResizingVolumes",
            Self::UpToDate => "UpToDate",
            Self::AsExpected => "AsExpected",
            Self::SpecRefused => "SpecRefused",
            Self::NameTaken => "NameTaken",
            Self::ApplyRefused => "ApplyRefused",
            Self::VolumeResizeRefused => "VolumeResizeRefused",
            Self::VolumeTerminating => "VolumeTerminating",
            Self::PodFailing => "PodFailing",
            Self::PodMonitorMissing => "PodMonitorMissing",
            Self::SingleReplica => "SingleReplica",
            Self::StandbysHoldNoData => "StandbysHoldNoData",
            Self::FixedMaster => "FixedMaster",
            Self::Elected => "Elected",
            Self::HandingOver => "HandingOver",
            Self::ModesChanging => "ModesChanging",
            Self::ObjectsMutated => "ObjectsMutated",
            Self::AnsweredByMaster => "AnsweredByMaster",
            Self::HandedOver => "HandedOver",
            Self::OperationStarted => "OperationStarted",
            Self::OperationSucceeded => "OperationSucceeded",
            Self::OperationFailed => "OperationFailed",
            Self::AllReplicasInSync => "AllReplicasInSync",
            Self::ReplicasBehind => "ReplicasBehind",
            Self::HeirsReady => "HeirsReady",
            Self::NoHeir => "NoHeir",
            Self::NoElectableReplica => "NoElectableReplica",
            Self::RecordUnusable => "RecordUnusable",
            Self::RecordRebuilt => "RecordRebuilt",
            Self::PausedBySpec => "PausedBySpec",
            Self::NotPaused => "NotPaused",
            Self::Deleting => "Deleting",
        }
    }
}

/// One condition, in Kubernetes' form (`metav1.Condition`). Types and reasons are open in the schema: an operator that knows
/// more of them must be able to write them under an older definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it speaks of.
    #[serde(rename = "type")]
    #[schemars(with = "String")]
    pub type_: ConditionType,
    /// Whether it holds.
    pub status: Truth,
    /// Why, in one word.
    #[schemars(with = "String")]
    pub reason: Reason,
    /// The same for people, in one sentence.
    pub message: String,
    /// Generation of the specification that was looked at.
    pub observed_generation: i64,
    /// When `status` last changed.
    pub last_transition_time: Time,
}

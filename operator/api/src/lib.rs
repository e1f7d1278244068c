//! The custom resources of RocketCluster: what a person writes and reads through the Kubernetes API.
//!
//! They live in a package of their own because three parties need them: the operator, the broker's coordinator and the
//! tests. Everything here is data and rules on data. What the API server can check is a CEL rule on the type, so that a
//! mistake is refused at `kubectl apply` with a sentence that says what to write instead; field documentation is what
//! `kubectl explain` shows.
#![forbid(unsafe_code)]
#![allow(
    clippy::duplicated_attributes,
    reason = "printer columns of one kube attribute share their types and priorities"
)]
#![allow(
    unreachable_pub,
    reason = "kube's KubeSchema derive repeats each type inside a function, with its visibility"
)]

mod cluster;
mod condition;
mod config_key;
mod group;
mod operation;
mod pod;
mod quantity;
mod schema;
mod status;
#[cfg(test)]
mod tests;

pub use cluster::{
    Defaults, Flush, Groups, ImagePullPolicy, NameServers, NetworkPolicy, Reclaim, ReclaimPolicy,
    Replication, ReplicationMode, Retention, RocketCluster, RocketClusterSpec, Storage,
};
pub use condition::{Condition, ConditionType, Reason, Truth};
pub use config_key::{OWNED_KEYS, OwnedKey};
pub use group::{
    Activated, GROUP_FORMAT, GroupRule, GroupState, InForce, Incarnation, Member, Modes, Replica,
    RocketBrokerGroup, RocketBrokerGroupSpec, Unclean, pod_of_address,
};
pub use operation::{
    OperationCondition, OperationPhase, OperationStatus, OperationType, RocketOperation,
    RocketOperationSpec,
};
pub use pod::{
    ClientSelector, EnvVar, Monitoring, ObjectName, PodMetadata, PodTemplate, Resources,
    Scheduling, ZoneSpread,
};
pub use quantity::{Quantity, QuantityError};
pub use status::{Effective, Endpoints, GroupSummary, Phase, RocketClusterStatus};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// The API group of every kind here.
pub const API_GROUP: &str = "rocketcluster.io";
/// The only version that is served and stored.
pub const API_VERSION: &str = "v1alpha1";
/// The release that `spec.version` names when nobody wrote one.
pub const DEFAULT_VERSION: &str = "0.1.0";

/// Label keys and values that objects and pods of a cluster carry.
pub mod label {
    /// Name of the `RocketCluster`.
    pub const CLUSTER: &str = "rocketcluster.io/cluster";
    /// UID of the `RocketCluster`, on volume claims: who may delete this volume.
    pub const CLUSTER_UID: &str = "rocketcluster.io/cluster-uid";
    /// Who decides about the master of the group, on volume claims of groups that elect: a claim outlives the record that says it.
    pub const RULE: &str = "rocketcluster.io/rule";
    /// Value of [`RULE`] where replicas elect their master.
    pub const RULE_ELECTED: &str = "Elected";
    /// Index of the broker group.
    pub const GROUP: &str = "rocketcluster.io/group";
    /// `master` or `standby`, on broker pods, kept by the operator.
    pub const ROLE: &str = "rocketcluster.io/role";
    /// Value of [`ROLE`] on the pod that takes writes.
    pub const ROLE_MASTER: &str = "master";
    /// Value of [`ROLE`] on every other broker pod.
    pub const ROLE_STANDBY: &str = "standby";
    /// Value of [`ROLE`] that no pod has: in the selector of a Service whose endpoint the operator writes.
    pub const ROLE_NOBODY: &str = "see-endpointslice";
    /// Kubernetes' label for the name of a StatefulSet's pod, on that pod.
    pub const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
    /// Kubernetes' label for the Service that an EndpointSlice belongs to.
    pub const SERVICE: &str = "kubernetes.io/service-name";
    /// Kubernetes' label for the controller of an EndpointSlice.
    pub const SLICE_MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
    /// Kubernetes' recommended label for the program.
    pub const NAME: &str = "app.kubernetes.io/name";
    /// Value of [`NAME`].
    pub const NAME_VALUE: &str = "rocketcluster";
    /// Kubernetes' recommended label for the instance: the cluster's name.
    pub const INSTANCE: &str = "app.kubernetes.io/instance";
    /// Kubernetes' recommended label for the part.
    pub const COMPONENT: &str = "app.kubernetes.io/component";
    /// Value of [`COMPONENT`] on name servers.
    pub const COMPONENT_NAMESRV: &str = "namesrv";
    /// Value of [`COMPONENT`] on brokers.
    pub const COMPONENT_BROKER: &str = "broker";
    /// Kubernetes' recommended label for the controller.
    pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
    /// Value of [`MANAGED_BY`].
    pub const MANAGED_BY_VALUE: &str = "rocket-operator";
}

/// All custom resource definitions, in the order in which they are installed.
pub fn custom_resource_definitions() -> Vec<CustomResourceDefinition> {
    vec![
        RocketCluster::crd(),
        RocketBrokerGroup::crd(),
        RocketOperation::crd(),
    ]
}

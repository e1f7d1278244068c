//! The kinds of objects that a cluster owns: how each is addressed, and in which order they are written.

use k8s_openapi::api::{
    apps::v1 as apps, core::v1 as core, discovery::v1 as discovery, networking::v1 as networking,
    policy::v1 as policy, rbac::v1 as rbac,
};
use kube::Resource;
use kube::discovery::ApiResource;
use rocket_api::RocketBrokerGroup;

/// A kind of child object. The order is the order of writing: what others refer to comes first, pods come last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Coordinator object of a group.
    BrokerGroup,
    /// Identity of broker pods.
    ServiceAccount,
    /// What that identity may do.
    Role,
    /// Ties the two.
    RoleBinding,
    /// Configuration files.
    ConfigMap,
    /// Where a Service leads. Before the Service, which may have led there by itself until now.
    EndpointSlice,
    /// Addresses.
    Service,
    /// Who may connect.
    NetworkPolicy,
    /// How many pods may be evicted at once.
    PodDisruptionBudget,
    /// How the Prometheus operator finds the pods.
    PodMonitor,
    /// Name servers and brokers.
    StatefulSet,
}

impl Kind {
    /// All kinds in the order of writing.
    pub const ALL: [Self; 11] = [
        Self::BrokerGroup,
        Self::ServiceAccount,
        Self::Role,
        Self::RoleBinding,
        Self::ConfigMap,
        Self::EndpointSlice,
        Self::Service,
        Self::NetworkPolicy,
        Self::PodDisruptionBudget,
        Self::PodMonitor,
        Self::StatefulSet,
    ];

    /// How the API server addresses the kind.
    pub fn api_resource(self) -> ApiResource {
        match self {
            Self::BrokerGroup => ApiResource::erase::<RocketBrokerGroup>(&()),
            Self::ServiceAccount => ApiResource::erase::<core::ServiceAccount>(&()),
            Self::Role => ApiResource::erase::<rbac::Role>(&()),
            Self::RoleBinding => ApiResource::erase::<rbac::RoleBinding>(&()),
            Self::ConfigMap => ApiResource::erase::<core::ConfigMap>(&()),
            Self::EndpointSlice => ApiResource::erase::<discovery::EndpointSlice>(&()),
            Self::Service => ApiResource::erase::<core::Service>(&()),
            Self::NetworkPolicy => ApiResource::erase::<networking::NetworkPolicy>(&()),
            Self::PodDisruptionBudget => ApiResource::erase::<policy::PodDisruptionBudget>(&()),
            Self::PodMonitor => pod_monitor(),
            Self::StatefulSet => ApiResource::erase::<apps::StatefulSet>(&()),
        }
    }

    /// The kind's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BrokerGroup => "RocketBrokerGroup",
            Self::ServiceAccount => "ServiceAccount",
            Self::Role => "Role",
            Self::RoleBinding => "RoleBinding",
            Self::ConfigMap => "ConfigMap",
            Self::EndpointSlice => "EndpointSlice",
            Self::Service => "Service",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::PodDisruptionBudget => "PodDisruptionBudget",
            Self::PodMonitor => "PodMonitor",
            Self::StatefulSet => "StatefulSet",
        }
    }

    /// Whether the kind may be missing from the API server, or not be granted by roles of an earlier version.
    pub fn is_optional(self) -> bool {
        matches!(self, Self::PodMonitor | Self::EndpointSlice)
    }
}

fn pod_monitor() -> ApiResource {
    ApiResource {
        group: "monitoring.coreos.com".to_owned(),
        version: "v1".to_owned(),
        api_version: "monitoring.coreos.com/v1".to_owned(),
        kind: "PodMonitor".to_owned(),
        plural: "podmonitors".to_owned(),
    }
}

/// Which child object: its kind and its name.
pub type Key = (Kind, String);

/// How a typed kind is called, for messages.
pub fn kind_of<K: Resource<DynamicType = ()>>() -> String {
    K::kind(&()).into_owned()
}

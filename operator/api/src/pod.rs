//! The parts of the specification that shape pods: resources, scheduling, extra metadata, monitoring, network access.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Toleration};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// What each container asks of its node and may use at most.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What the scheduler reserves, by resource name, such as `cpu: 250m` and `memory: 256Mi`. Changing it restarts the pods, one after the other.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::quantities")]
    pub requests: BTreeMap<String, IntOrString>,
    /// What the node allows at most. A container above its memory limit is killed. Changing it restarts the pods, one after the other.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::quantities")]
    pub limits: BTreeMap<String, IntOrString>,
}

impl Resources {
    /// Requests of processor and memory with a memory limit.
    pub(crate) fn of(cpu: &str, memory: &str, memory_limit: &str) -> Self {
        let amount = |text: &str| IntOrString::String(text.to_owned());
        Self {
            requests: BTreeMap::from([
                ("cpu".to_owned(), amount(cpu)),
                ("memory".to_owned(), amount(memory)),
            ]),
            limits: BTreeMap::from([("memory".to_owned(), amount(memory_limit))]),
        }
    }
}

/// The name of an object in the cluster's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ObjectName {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Whether replicas of a group are kept in different zones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum ZoneSpread {
    /// Spread when possible.
    #[default]
    Preferred,
    /// A pod stays pending rather than sharing a zone unevenly.
    Required,
    /// Zones are not looked at.
    Off,
}

/// Where pods run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scheduling {
    /// Labels that a node must have. Empty means any node. Changing it restarts the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that the pods tolerate, in Kubernetes' form. Changing it restarts the pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::tolerations")]
    pub tolerations: Vec<Toleration>,
    /// Node and pod affinity in Kubernetes' form, for name servers and brokers alike. Replicas of one group are spread over nodes without it. Changing it restarts the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::affinity")]
    pub affinity: Option<Affinity>,
    /// Spread of a group's replicas over zones (`topology.kubernetes.io/zone`): `Preferred` (default), `Required` or `Off`. Changing it restarts the pods.
    #[serde(default)]
    pub zone_spread: ZoneSpread,
    /// Name of a PriorityClass. Empty means the namespace's default. Changing it restarts the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
}

/// Labels and annotations added to pods.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, KubeSchema)]
pub struct PodMetadata {
    /// Labels added to every pod. Labels of the operator and of Kubernetes cannot be set here. Changing them restarts the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(validation = Rule::new("self.all(key, key.size() <= 316 && !key.matches('^(rocketcluster\\\\.io|app\\\\.kubernetes\\\\.io)/'))")
        .message("labels below rocketcluster.io/ and app.kubernetes.io/ belong to the operator: choose a prefix of your own"))]
    pub labels: BTreeMap<String, String>,
    /// Annotations added to every pod. Changing them restarts the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(validation = Rule::new("self.all(key, key.size() <= 316 && !key.startsWith('rocketcluster.io/'))")
        .message("annotations below rocketcluster.io/ belong to the operator: choose a prefix of your own"))]
    pub annotations: BTreeMap<String, String>,
}

/// An environment variable with a plain value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct EnvVar {
    /// Name of the variable.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new("self != 'POD_NAME' && self != 'POD_NAMESPACE'")
        .message("POD_NAME and POD_NAMESPACE are set by the operator: choose another name"))]
    pub name: String,
    /// Its value; empty by default.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    pub value: String,
}

/// Additions to the pods of name servers and brokers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// Labels and annotations added to every pod.
    #[serde(default)]
    pub metadata: PodMetadata,
    /// Environment variables of every container, such as `ROCKET_LOG`. Changing them restarts the pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvVar>,
    /// Seconds that a stopping pod gets to drain, flush and write its checkpoint before it is killed: 1 to 3600, default 60. A killed broker loses nothing that it acknowledged under `flush: Sync`, it only starts more slowly. Changing it restarts the pods.
    #[serde(default = "termination_grace_period_seconds")]
    #[schemars(range(min = 1, max = 3600))]
    pub termination_grace_period_seconds: i64,
}

fn termination_grace_period_seconds() -> i64 {
    60
}

impl Default for PodTemplate {
    fn default() -> Self {
        Self {
            metadata: PodMetadata::default(),
            env: Vec::new(),
            termination_grace_period_seconds: termination_grace_period_seconds(),
        }
    }
}

/// How Prometheus finds the pods. Every pod serves `/metrics` on port 5557 and carries the `prometheus.io/*` annotations in any case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Monitoring {
    /// Make a PodMonitor of the Prometheus operator; default `false`. When its resource definition is not installed, the condition ConfigApplied says so and nothing else changes.
    #[serde(default)]
    pub pod_monitor: bool,
    /// Time between two scrapes, default `15s`.
    #[serde(default = "interval")]
    #[schemars(regex(pattern = r"^([0-9]{1,5}(ms|s|m|h))+$"), length(max = 16))]
    pub interval: String,
    /// Labels of the PodMonitor, for a Prometheus that selects its monitors by label.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

fn interval() -> String {
    "15s".to_owned()
}

impl Default for Monitoring {
    fn default() -> Self {
        Self {
            pod_monitor: false,
            interval: interval(),
            labels: BTreeMap::new(),
        }
    }
}

/// Pods that may connect as clients: all labels must match.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.namespaceLabels) && self.namespaceLabels.size() > 0) || (has(self.podLabels) && self.podLabels.size() > 0)")
    .message("a client selector without labels would select every pod: write namespaceLabels or podLabels, or leave clients empty"))]
pub struct ClientSelector {
    /// Labels of the client's namespace. Empty means the cluster's own namespace.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub namespace_labels: BTreeMap<String, String>,
    /// Labels of the client's pod. Empty means every pod of the selected namespaces.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_labels: BTreeMap<String, String>,
}

//! `RocketCluster`: one usable RocketMQ cluster, name servers and broker groups together.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pod::{ClientSelector, Monitoring, ObjectName, PodTemplate, Resources, Scheduling};
use crate::schema;
use crate::status::RocketClusterStatus;

/// What a RocketMQ cluster should be. Every field has a default that keeps what was acknowledged: `spec: {}` is a working cluster of one broker.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "rocketcluster.io",
    version = "v1alpha1",
    kind = "RocketCluster",
    namespaced,
    shortname = "rkt",
    category = "rocketmq",
    status = "RocketClusterStatus",
    derive = "PartialEq",
    doc = "One RocketMQ cluster: name servers and broker groups, made and kept by rocket-operator.",
    scale(spec_replicas_path = ".spec.groups.count", status_replicas_path = ".status.groupCount", label_selector_path = ".status.selector"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Groups", type_ = "string", json_path = ".status.groupsReady"),
    printcolumn(name = "Brokers", type_ = "string", json_path = ".status.brokersReady"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message"),
    printcolumn(name = "Flush", type_ = "string", json_path = ".spec.flush", priority = 1),
    printcolumn(name = "Replication", type_ = "string", json_path = ".spec.replication.mode", priority = 1),
    printcolumn(name = "Min-In-Sync", type_ = "integer", json_path = ".status.effective.minInSync", priority = 1),
    printcolumn(name = "Failover-Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='FailoverReady')].status", priority = 1),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".status.endpoints.internal", priority = 1),
    validation = Rule::new("self.metadata.name.size() <= 40")
        .message("metadata.name is too long: at most 40 characters, so that the names of pods, volumes and labels made from it stay within Kubernetes' limits"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name becomes a host name: write lower-case letters, digits and dashes, starting with a letter and without dots"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.replication.minInSync) || self.replication.minInSync <= self.groups.replicas")
        .message("replication.minInSync is larger than groups.replicas, so no write could ever be acknowledged: lower minInSync or raise groups.replicas"),
)]
pub struct RocketClusterSpec {
    /// Release of broker and name server that runs, such as `0.1.0` (default). The image follows from it. Raising it restarts the pods one after the other; going back to an earlier minor release is refused.
    #[serde(default = "version")]
    #[schemars(
        length(max = 64),
        regex(
            pattern = r"^(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})(-[0-9A-Za-z.-]+)?$"
        )
    )]
    #[x_kube(validation = Rule::new("int(self.split('.')[0]) > int(oldSelf.split('.')[0]) || (int(self.split('.')[0]) == int(oldSelf.split('.')[0]) && int(self.split('.')[1]) >= int(oldSelf.split('.')[1]))")
        .message("version cannot go back to an earlier minor release, because an older broker may not read what a newer one wrote: write the present version or a later one"))]
    pub version: String,
    /// Image that runs instead of the one that follows from `version`, for a private registry or a digest: `registry.example.com/rocketcluster/broker@sha256:…`. It must still be the release that `version` names. Changing it restarts the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("!self.matches('\\\\s')").message("image contains white space: write a reference such as registry.example.com/rocketcluster/broker:0.1.0"))]
    pub image: Option<String>,
    /// When a node pulls the image: `Always`, `IfNotPresent` (default) or `Never`. Changing it restarts the pods.
    #[serde(default)]
    pub image_pull_policy: ImagePullPolicy,
    /// Secrets of the namespace with credentials of a private registry. Changing them restarts the pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub image_pull_secrets: Vec<ObjectName>,
    /// The name servers, which tell clients where brokers are. They keep no messages.
    #[serde(default)]
    pub name_servers: NameServers,
    /// The broker groups, which keep the messages.
    #[serde(default)]
    pub groups: Groups,
    /// When a message counts as stored: `Sync` (default) after it reached the disk, `Async` when it is in the node's memory, which is faster and loses the last fraction of a second if the node loses power. Brokers that elect their masters take a change up while they run, and the condition ConfigApplied says when it is in force; others are restarted.
    #[serde(default)]
    pub flush: Flush,
    /// How replicas of a group take part in a write.
    #[serde(default)]
    pub replication: Replication,
    /// How long messages are kept and what happens when a volume fills up.
    #[serde(default)]
    pub retention: Retention,
    /// Further keys of `broker.conf` by their RocketMQ names, such as `maxMessageSize: "4194304"`. A key that has a field of its own is refused with the name of that field. A key that the broker does not know keeps the new pods from starting, and the condition Degraded says so; brokers that run keep the file that they began with. Changing it restarts the brokers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::config")]
    pub config: BTreeMap<String, String>,
    /// What clients may bring into being by using it.
    #[serde(default)]
    pub defaults: Defaults,
    /// Where pods run.
    #[serde(default)]
    pub scheduling: Scheduling,
    /// Additions to the pods of name servers and brokers.
    #[serde(default)]
    pub pod_template: PodTemplate,
    /// How Prometheus finds the pods.
    #[serde(default)]
    pub monitoring: Monitoring,
    /// Who may connect.
    #[serde(default)]
    pub network_policy: NetworkPolicy,
    /// Stop changing anything: the pods go on running and serving, edits of this specification wait. Default `false`. The condition Paused says since when.
    #[serde(default)]
    pub paused: bool,
}

fn version() -> String {
    crate::DEFAULT_VERSION.to_owned()
}

impl Default for RocketClusterSpec {
    fn default() -> Self {
        Self {
            version: version(),
            image: None,
            image_pull_policy: ImagePullPolicy::default(),
            image_pull_secrets: Vec::new(),
            name_servers: NameServers::default(),
            groups: Groups::default(),
            flush: Flush::default(),
            replication: Replication::default(),
            retention: Retention::default(),
            config: BTreeMap::new(),
            defaults: Defaults::default(),
            scheduling: Scheduling::default(),
            pod_template: PodTemplate::default(),
            monitoring: Monitoring::default(),
            network_policy: NetworkPolicy::default(),
            paused: false,
        }
    }
}

/// When a node pulls an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum ImagePullPolicy {
    /// At every start of a pod.
    Always,
    /// When the node does not have it.
    #[default]
    IfNotPresent,
    /// Never: the node must have it.
    Never,
}

impl ImagePullPolicy {
    /// The word that Kubernetes uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// The name servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NameServers {
    /// How many name servers run: 1 to 7, default 2. Clients and brokers use all of them; any one is enough. Changing it restarts nothing.
    #[serde(default = "name_server_replicas")]
    #[schemars(range(min = 1, max = 7))]
    pub replicas: i32,
    /// Resources of one name server. Default: requests `cpu: 50m`, `memory: 32Mi`; limit `memory: 128Mi`.
    #[serde(default = "name_server_resources")]
    pub resources: Resources,
}

fn name_server_replicas() -> i32 {
    2
}

fn name_server_resources() -> Resources {
    Resources::of("50m", "32Mi", "128Mi")
}

impl Default for NameServers {
    fn default() -> Self {
        Self {
            replicas: name_server_replicas(),
            resources: name_server_resources(),
        }
    }
}

/// The broker groups. A topic's queues are spread over groups; each group has one master that takes writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Groups {
    /// How many groups run: 1 to 64, default 1. `kubectl scale` changes it. A new group takes no messages of a topic until that topic is created on it. Lowering it removes the groups with the highest indexes **with the messages that nobody has consumed yet**; their volumes stay unless `storage.reclaim.onScaleIn` is `Delete`, and are used again when the group comes back.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 64))]
    pub count: i32,
    /// Brokers in each group: 1 to 7, default 1. A cluster that is begun with 2 or more copies every message to all brokers of its group, and another one becomes master when one dies; 3 are advised, so that any one may be lost while two copies are still made. A cluster that is begun with 1 keeps its fixed masters for good: **replicas added later are standbys without data**, and the condition ReplicationHealthy says so. Changing it restarts nothing; it cannot be lowered past the present master of a group.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 7))]
    pub replicas: i32,
    /// Resources of one broker. Default: requests `cpu: 250m`, `memory: 256Mi`; limit `memory: 1Gi`. Messages are read through the page cache, which counts toward the limit and is given back when needed.
    #[serde(default = "broker_resources")]
    pub resources: Resources,
    /// The volume of each broker.
    #[serde(default)]
    pub storage: Storage,
}

fn one() -> i32 {
    1
}

fn broker_resources() -> Resources {
    Resources::of("250m", "256Mi", "1Gi")
}

impl Default for Groups {
    fn default() -> Self {
        Self {
            count: one(),
            replicas: one(),
            resources: broker_resources(),
            storage: Storage::default(),
        }
    }
}

/// The volume of each broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.className) == has(oldSelf.className) && (!has(self.className) || self.className == oldSelf.className)")
        .message("groups.storage.className cannot change, because volumes cannot move between classes: write the former value, or make a new RocketCluster with the other class"),
    validation = Rule::new("!isQuantity(self.size) || !isQuantity(oldSelf.size) || quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0")
        .message("groups.storage.size can only grow, because Kubernetes cannot shrink a volume: write the former size or a larger one"),
)]
pub struct Storage {
    /// Size of one volume, default `20Gi`. It may grow at any time if the storage class allows expansion (the condition Degraded says when it does not); no pod restarts for it unless the class demands that. It can never shrink.
    #[serde(default = "size")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = Rule::new("isQuantity(self) && quantity(self).compareTo(quantity('128Mi')) >= 0")
        .message("groups.storage.size is not a usable size: write an amount of at least 128Mi, such as 100Gi"))]
    pub size: String,
    /// Storage class of the volumes; without it the default class of the Kubernetes cluster. Cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub class_name: Option<String>,
    /// What happens to volumes that are no longer needed.
    #[serde(default)]
    pub reclaim: Reclaim,
}

fn size() -> String {
    "20Gi".to_owned()
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            size: size(),
            class_name: None,
            reclaim: Reclaim::default(),
        }
    }
}

/// What happens to volumes that are no longer needed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reclaim {
    /// When the RocketCluster is deleted: `Retain` (default) keeps all volumes, and a cluster of the same name finds them again; `Delete` deletes them after the brokers have stopped.
    #[serde(default)]
    pub on_delete: ReclaimPolicy,
    /// When `groups.count` or `groups.replicas` is lowered: `Retain` (default) keeps the volumes of the removed brokers, `Delete` deletes them after the brokers have stopped.
    #[serde(default)]
    pub on_scale_in: ReclaimPolicy,
}

/// Keep or delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum ReclaimPolicy {
    /// Volumes stay.
    #[default]
    Retain,
    /// Volumes are deleted once no pod uses them.
    Delete,
}

/// When a message counts as stored on a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Flush {
    /// After a flush that covers it.
    #[default]
    Sync,
    /// When it is in the page cache.
    Async,
}

/// How replicas of a group take part in a write.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Replication {
    /// `Sync` (default): a producer is answered when every in-sync replica has the message. `Async`: when the master has it, so the last answered messages can be lost with it, and the condition FailoverReady says so. With one replica both mean the same. It changes as `flush` does.
    #[serde(default)]
    pub mode: ReplicationMode,
    /// Copies without which a group refuses writes: at least 1, at most `groups.replicas`. Without it the operator chooses 2 for groups of 3 or more replicas, else 1, and `status.effective.minInSync` tells which; where replicas are added, 2 is chosen when two are in sync. With 1 a master that has lost all other replicas goes on alone; with 2 and `mode: Sync` nothing is acknowledged that has fewer than two copies. Where masters are fixed only 1 can be met: a larger number makes the cluster `Blocked`, and it says why. With as many as `groups.replicas` (more than 1) no rolling update replaces a broker, since writes would stop meanwhile, and the condition ConfigApplied says so. It changes as `flush` does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 7))]
    pub min_in_sync: Option<i32>,
}

/// When a producer is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum ReplicationMode {
    /// When every in-sync replica has the message.
    #[default]
    Sync,
    /// When the master has it.
    Async,
}

/// How long messages are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.diskRejectPercent > self.diskHighWatermarkPercent")
        .message("retention.diskRejectPercent must be above diskHighWatermarkPercent, so that old files are deleted before writes are refused"),
)]
pub struct Retention {
    /// Hours that messages are kept, consumed or not: 1 to 8760 (a year), default 72. Changing it restarts the brokers.
    #[serde(default = "hours")]
    #[schemars(range(min = 1, max = 8760))]
    pub hours: i32,
    /// Hours of the day, in UTC, when expired files are deleted: two digits, several separated by semicolons. Default `04`. Changing it restarts the brokers.
    #[serde(default = "delete_at")]
    #[schemars(
        length(max = 71),
        regex(pattern = r"^([01][0-9]|2[0-3])(;([01][0-9]|2[0-3]))*$")
    )]
    pub delete_at: String,
    /// Used part of the volume, in percent, above which expired files are deleted at any hour: 10 to 95, default 75. Changing it restarts the brokers.
    #[serde(default = "disk_high_watermark_percent")]
    #[schemars(range(min = 10, max = 95))]
    pub disk_high_watermark_percent: i32,
    /// Used part of the volume, in percent, above which writes are refused until there is room again: 35 to 98, default 90. From five below it on, the oldest files are deleted whatever their age. Changing it restarts the brokers.
    #[serde(default = "disk_reject_percent")]
    #[schemars(range(min = 35, max = 98))]
    pub disk_reject_percent: i32,
}

fn hours() -> i32 {
    72
}

fn delete_at() -> String {
    "04".to_owned()
}

fn disk_high_watermark_percent() -> i32 {
    75
}

fn disk_reject_percent() -> i32 {
    90
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            hours: hours(),
            delete_at: delete_at(),
            disk_high_watermark_percent: disk_high_watermark_percent(),
            disk_reject_percent: disk_reject_percent(),
        }
    }
}

/// What clients may bring into being by using it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Defaults {
    /// Whether sending to an unknown topic creates it. Default `false`: a misspelt topic is an error. Changing it restarts the brokers.
    #[serde(default)]
    pub auto_create_topics: bool,
    /// Whether an unknown consumer group is created when it first consumes. Default `true`, as in RocketMQ. Changing it restarts the brokers.
    #[serde(default = "yes")]
    pub auto_create_groups: bool,
}

fn yes() -> bool {
    true
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            auto_create_topics: false,
            auto_create_groups: true,
        }
    }
}

/// Who may connect, as a NetworkPolicy. It takes effect only where the network plugin enforces such policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicy {
    /// Make network policies; default `true`. Port 10912 (replication) is then open to brokers of this cluster only, and every port that is not used is closed.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Clients that may reach ports 9876 and 10911. Empty (default) means everybody who can reach the pods. Metrics (5557) stay open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub clients: Vec<ClientSelector>,
}

impl Default for NetworkPolicy {
    fn default() -> Self {
        Self {
            enabled: true,
            clients: Vec::new(),
        }
    }
}

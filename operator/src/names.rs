//! Names, labels and ports of everything that belongs to a cluster, in one place, because Services, pods, volumes and
//! the broker's own configuration must agree on them.

use std::collections::BTreeMap;

use rocket_api::label;

/// Port of a name server.
pub const PORT_NAMESRV: i32 = 9876;
/// Port of a broker for clients.
pub const PORT_BROKER: i32 = 10911;
/// Port of a broker for its replicas.
pub const PORT_HA: i32 = 10912;
/// Port of `/metrics`, `/livez` and `/readyz`, on brokers and name servers.
pub const PORT_METRICS: i32 = 5557;
/// User and group of every container.
pub const USER: i64 = 65532;
/// Field manager of server-side apply.
pub const FIELD_MANAGER: &str = "rocket-operator";
/// Annotation: hash of what was applied.
pub const APPLIED_HASH: &str = "rocketcluster.io/applied-hash";
/// Annotation on pods: hash of the configuration file, so that a changed file restarts them.
pub const CONFIG_HASH: &str = "rocketcluster.io/config-hash";
/// Finalizer that a cluster carries while its volumes are to be deleted with it.
pub const FINALIZER: &str = "rocketcluster.io/volumes";
/// Name of the volume claim template.
pub const CLAIM: &str = "data";

/// Names of one cluster's objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Name of the `RocketCluster`.
    pub cluster: String,
    /// Its namespace.
    pub namespace: String,
    /// DNS domain of the Kubernetes cluster.
    pub domain: String,
}

impl Names {
    /// StatefulSet and client Service of the name servers.
    pub fn namesrv(&self) -> String {
        format!("{}-namesrv", self.cluster)
    }
    /// Headless Service of the name servers.
    pub fn namesrv_replicas(&self) -> String {
        format!("{}-namesrv-replicas", self.cluster)
    }
    /// ConfigMap of the name servers.
    pub fn namesrv_config(&self) -> String {
        format!("{}-namesrv-config", self.cluster)
    }
    /// StatefulSet, master Service, PodDisruptionBudget, ServiceAccount, Role and RocketBrokerGroup of a group.
    pub fn group(&self, index: i32) -> String {
        format!("{}-{index}", self.cluster)
    }
    /// Index of a group, by the name of its StatefulSet.
    pub fn index(&self, set: &str) -> Option<i32> {
        let index = set.strip_prefix(&self.cluster)?.strip_prefix('-')?;
        index.parse().ok()
    }
    /// Headless Service of a group.
    pub fn group_replicas(&self, index: i32) -> String {
        format!("{}-{index}-replicas", self.cluster)
    }
    /// EndpointSlice that leads the Service of a group that elects to its master.
    pub fn group_master(&self, index: i32) -> String {
        format!("{}-{index}-master", self.cluster)
    }
    /// ConfigMap of a group as earlier versions named it, whatever was in its file.
    pub fn group_config(&self, index: i32) -> String {
        format!("{}-{index}-config", self.cluster)
    }
    /// ConfigMap with one file of a group, by the hash of what in it restarts brokers.
    pub fn group_file(&self, index: i32, hash: &str) -> String {
        format!("{}-{hash}", self.group_config(index))
    }
    /// Pod of a group.
    pub fn pod(&self, index: i32, ordinal: i32) -> String {
        format!("{}-{index}-{ordinal}", self.cluster)
    }
    /// Ordinal of a pod of a group, by its name.
    pub fn ordinal(&self, index: i32, pod: &str) -> Option<i32> {
        let ordinal = pod.strip_prefix(&self.group(index))?.strip_prefix('-')?;
        ordinal.parse().ok()
    }
    /// Secret that the brokers prove themselves to each other with.
    pub fn replication_secret(&self) -> String {
        format!("{}-replication", self.cluster)
    }
    /// Volume claim of a pod.
    pub fn claim(&self, index: i32, ordinal: i32) -> String {
        format!("{CLAIM}-{}-{index}-{ordinal}", self.cluster)
    }
    /// Host name of a Service.
    pub fn host(&self, service: &str) -> String {
        format!("{service}.{}.svc.{}", self.namespace, self.domain)
    }
    /// What clients configure as their name server.
    pub fn endpoint(&self) -> String {
        format!("{}.{}.svc:{PORT_NAMESRV}", self.namesrv(), self.namespace)
    }

    /// Labels of every object of the cluster.
    pub fn labels(&self) -> BTreeMap<String, String> {
        pairs(&[
            (label::CLUSTER, &self.cluster),
            (label::INSTANCE, &self.cluster),
            (label::MANAGED_BY, label::MANAGED_BY_VALUE),
            (label::NAME, label::NAME_VALUE),
        ])
    }
    /// Labels of the name servers' objects.
    pub fn namesrv_labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.labels();
        labels.extend(pairs(&[(label::COMPONENT, label::COMPONENT_NAMESRV)]));
        labels
    }
    /// Labels of a group's objects.
    pub fn group_labels(&self, index: i32) -> BTreeMap<String, String> {
        let mut labels = self.labels();
        labels.extend(pairs(&[
            (label::COMPONENT, label::COMPONENT_BROKER),
            (label::GROUP, &index.to_string()),
        ]));
        labels
    }
    /// What selects the name servers' pods.
    pub fn namesrv_selector(&self) -> BTreeMap<String, String> {
        pairs(&[
            (label::CLUSTER, &self.cluster),
            (label::COMPONENT, label::COMPONENT_NAMESRV),
        ])
    }
    /// What selects all broker pods of the cluster.
    pub fn broker_selector(&self) -> BTreeMap<String, String> {
        pairs(&[
            (label::CLUSTER, &self.cluster),
            (label::COMPONENT, label::COMPONENT_BROKER),
        ])
    }
    /// What selects a group's pods.
    pub fn group_selector(&self, index: i32) -> BTreeMap<String, String> {
        let mut labels = self.broker_selector();
        labels.extend(pairs(&[(label::GROUP, &index.to_string())]));
        labels
    }
}

/// What tells EndpointSlices of the operator from those that Kubernetes makes, which carry the labels of their Service.
pub fn slice_selector() -> BTreeMap<String, String> {
    pairs(&[
        (label::MANAGED_BY, label::MANAGED_BY_VALUE),
        (label::SLICE_MANAGED_BY, label::MANAGED_BY_VALUE),
    ])
}

/// A map of labels as a selector's text.
pub fn selector_text(labels: &BTreeMap<String, String>) -> String {
    labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join(",")
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

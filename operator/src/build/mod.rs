//! The objects that should exist, from a checked cluster: pure, one file per kind.
//!
//! Nothing here may depend on the operator's own version or on time: the same cluster gives the same bytes, so an upgrade
//! of the operator restarts no pod.

mod access;
mod broker_conf;
mod broker_group;
mod config_map;
mod disruption_budget;
mod endpoint_slice;
mod network_policy;
pub mod pod;
mod pod_monitor;
mod secret;
mod service;
mod stateful_set;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::Resource;
use rocket_api::{GroupRule, RocketCluster};
use serde::Serialize;
use serde_json::{Value, json};

use crate::address::Address;
use crate::drift::stable_hash;
use crate::kind::{Key, Kind};
use crate::names::{APPLIED_HASH, Names};
use crate::validate::ValidatedCluster;
use config_map::File;

pub use secret::replication_secret;

/// What of the present shapes the objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Present {
    /// Size in the claim template of each group's StatefulSet. A template cannot change, so it is repeated until the StatefulSet is made anew.
    pub template_sizes: BTreeMap<i32, String>,
    /// Whether the PodMonitor resource is installed.
    pub pod_monitors: bool,
    /// Groups whose pods mount their file from the ConfigMap that earlier versions made, with its hash; see [`crate::config_files`].
    pub unhashed: BTreeMap<i32, String>,
    /// Volume claims of each elected group, by name and UID. They own its record too, so that it stays as long as they do.
    pub claims: BTreeMap<i32, Vec<(String, String)>>,
    /// Elected groups that could not spare a replica now.
    pub strained: BTreeSet<i32>,
    /// Where the Services of elected groups lead, each to its master, if the operator says so itself; else their labels do.
    pub addresses: Option<BTreeMap<i32, Address>>,
}

/// An object that should exist.
#[derive(Debug, Clone, PartialEq)]
pub struct Desired {
    /// Kind and name.
    pub key: Key,
    /// The object as it is applied, with the hash of itself in an annotation.
    pub object: Value,
}

/// All objects of a cluster, in the order of writing.
pub fn build(cluster: &ValidatedCluster, present: &Present) -> Vec<Desired> {
    let mut objects = vec![
        seal(Kind::ConfigMap, &config_map::name_servers(cluster)),
        seal(Kind::Service, &service::name_servers(cluster)),
        seal(Kind::Service, &service::name_server_replicas(cluster)),
        seal(
            Kind::PodDisruptionBudget,
            &disruption_budget::name_servers(cluster),
        ),
        seal(Kind::StatefulSet, &stateful_set::name_servers(cluster)),
    ];
    for (index, master) in (0..).zip(&cluster.masters) {
        let size = present
            .template_sizes
            .get(&index)
            .unwrap_or(&cluster.spec.groups.storage.size);
        objects.push(seal(
            Kind::BrokerGroup,
            &broker_group::group(cluster, index, present.claims.get(&index)),
        ));
        objects.push(seal(
            Kind::ServiceAccount,
            &access::service_account(cluster, index),
        ));
        objects.push(seal(Kind::Role, &access::role(cluster, index)));
        objects.push(seal(
            Kind::RoleBinding,
            &access::role_binding(cluster, index),
        ));
        let file = File::of(cluster, index, *master, present.unhashed.get(&index));
        objects.push(seal(
            Kind::ConfigMap,
            &config_map::group(cluster, index, &file),
        ));
        if let Some(address) = present.addresses.as_ref().and_then(|all| all.get(&index)) {
            objects.push(master_address(&cluster.names, &cluster.uid, index, address));
        }
        let is_led = present.addresses.is_some() && cluster.rule == GroupRule::Elected;
        objects.push(seal(
            Kind::Service,
            &service::master(cluster, index, *master, is_led),
        ));
        objects.push(seal(Kind::Service, &service::replicas(cluster, index)));
        let is_strained = present.strained.contains(&index);
        objects.push(evictions(&cluster.names, &cluster.uid, index, is_strained));
        objects.push(seal(
            Kind::StatefulSet,
            &stateful_set::group(cluster, index, &file, size),
        ));
    }
    if cluster.spec.network_policy.enabled {
        objects.push(seal(
            Kind::NetworkPolicy,
            &network_policy::name_servers(cluster),
        ));
        objects.push(seal(Kind::NetworkPolicy, &network_policy::brokers(cluster)));
    }
    if cluster.spec.monitoring.pod_monitor && present.pod_monitors {
        objects.push(seal(Kind::PodMonitor, &pod_monitor::cluster(cluster)));
    }
    objects.sort_by_key(|desired| desired.key.0);
    objects
}

/// The EndpointSlice that leads the Service of a group to its master. `uid`: that of the cluster.
pub fn master_address(names: &Names, uid: &str, index: i32, address: &Address) -> Desired {
    seal(
        Kind::EndpointSlice,
        &endpoint_slice::master(names, uid, index, address),
    )
}

/// The PodDisruptionBudget of a group. `uid`: that of the cluster; `is_strained`: it could not spare a replica now.
pub fn evictions(names: &Names, uid: &str, index: i32, is_strained: bool) -> Desired {
    seal(
        Kind::PodDisruptionBudget,
        &disruption_budget::group((names, uid), index, is_strained),
    )
}

/// An object as JSON with the hash of itself.
fn seal<T: Serialize>(kind: Kind, object: &T) -> Desired {
    let mut object = serde_json::to_value(object).unwrap_or(Value::Null);
    let resource = kind.api_resource();
    let mut sealed = json!({"apiVersion": resource.api_version, "kind": resource.kind});
    if let (Some(sealed), Some(fields)) = (sealed.as_object_mut(), object.as_object_mut()) {
        sealed.append(fields);
    }
    let hash = format!("{:016x}", stable_hash(sealed.to_string().as_bytes()));
    let name = sealed
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    if let Some(metadata) = sealed.get_mut("metadata").and_then(Value::as_object_mut) {
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert(APPLIED_HASH.to_owned(), Value::String(hash));
        }
    }
    Desired {
        key: (kind, name),
        object: sealed,
    }
}

/// Metadata of a child: name, labels, and the cluster as its owner.
fn metadata(
    cluster: &ValidatedCluster,
    name: String,
    labels: BTreeMap<String, String>,
) -> ObjectMeta {
    owned(&cluster.names, &cluster.uid, name, labels)
}

/// The same where no more is known of the cluster.
fn owned(names: &Names, uid: &str, name: String, labels: BTreeMap<String, String>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(names.namespace.clone()),
        labels: Some(labels),
        owner_references: Some(vec![OwnerReference {
            api_version: RocketCluster::api_version(&()).into_owned(),
            kind: RocketCluster::kind(&()).into_owned(),
            name: names.cluster.clone(),
            uid: uid.to_owned(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]),
        ..ObjectMeta::default()
    }
}

fn selector(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector {
        match_labels: Some(labels),
        ..LabelSelector::default()
    }
}

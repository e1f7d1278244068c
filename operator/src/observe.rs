//! Reads all that one reconcile needs, once, from the API server itself: no cache that could be older than a decision.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DynamicObject, ListParams};
use kube::{Api, Client, Resource, ResourceExt};
use rocket_api::{GroupRule, GroupState, RocketBrokerGroup, RocketCluster, RocketOperation, label};
use serde_json::{Value, json};

use crate::kind::{Key, Kind};
use crate::names::{Names, selector_text};
use crate::volumes;

/// What exists of a cluster.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Objects that the cluster owns by UID, and records that a former cluster of the name left with its volumes.
    pub children: BTreeMap<Key, Value>,
    /// The same StatefulSets, typed.
    pub stateful_sets: BTreeMap<String, StatefulSet>,
    /// The same group objects, typed.
    pub groups: BTreeMap<String, RocketBrokerGroup>,
    /// Pods of those StatefulSets, and pods that lost their StatefulSet while it is made anew.
    pub pods: Vec<Pod>,
    /// Pods of groups whose StatefulSets are gone, or were a former cluster's: they take their time to end, and their brokers write to
    /// their volumes until then.
    pub lingering: Vec<Pod>,
    /// Volume claims with the cluster's name on them, whoever made them.
    pub claims: Vec<PersistentVolumeClaim>,
    /// Whether the PodMonitor resource is installed.
    pub pod_monitors: bool,
    /// Whether the operator may read EndpointSlices; where it may not, Kubernetes leads Services to masters by their label.
    pub endpoint_slices: bool,
    /// Groups without pods whose records are still those of a former cluster of the name. Kubernetes is about to take it from their owners,
    /// or to take them away with it.
    pub unreleased: Vec<String>,
    /// UIDs of the pods that requests have begun to restart.
    pub restarting: BTreeSet<String>,
}

/// What could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A list failed; try again.
    #[error("cannot list {what} in namespace {namespace}")]
    List {
        /// Plural of the kind.
        what: String,
        /// Namespace.
        namespace: String,
        /// Cause.
        #[source]
        source: kube::Error,
    },
    /// An object does not have its kind's shape.
    #[error("{kind} {name} is not readable")]
    Shape {
        /// Kind.
        kind: &'static str,
        /// Name.
        name: String,
        /// Cause.
        #[source]
        source: serde_json::Error,
    },
}

impl Observed {
    /// The recorded state of a group.
    pub fn state(&self, group: &str) -> Option<&GroupState> {
        self.groups.get(group)?.status.as_ref()
    }

    /// Indices of the groups that a cluster asks for, and of those that are there all the same: while it is paused or its specification
    /// refused, groups that are not asked for any more go on serving.
    pub fn indices(&self, names: &Names, count: i32) -> BTreeSet<i32> {
        let sets = self.stateful_sets.keys();
        let there = sets.filter_map(|set| names.index(set));
        (0..count).chain(there).collect()
    }

    /// Whether a group elects, whatever its record says: its brokers are told to agree about their master, or its volume claims say so.
    pub fn elects(&self, names: &Names, index: i32) -> bool {
        volumes::have_elected(names, index, self) || self.is_told(names, index)
    }

    fn is_told(&self, names: &Names, index: i32) -> bool {
        let name = names.group_config(index);
        let hashed = names.group_file(index, "");
        let configs = self.children.iter().filter(|((kind, of), _)| {
            *kind == Kind::ConfigMap && (*of == name || of.starts_with(&hashed))
        });
        let files = configs.filter_map(|(_, config)| config.get("data")?.as_object());
        let mut lines = files
            .flat_map(|files| files.values().filter_map(Value::as_str))
            .flat_map(str::lines);
        lines.any(|line| line.starts_with("coordinator="))
    }

    /// Whether a group elects: as its record says, else as its brokers are told or its volume claims say.
    pub fn is_elected(&self, names: &Names, index: i32) -> bool {
        let state = self.state(&names.group(index));
        state.map_or_else(
            || self.elects(names, index),
            |state| state.rule == GroupRule::Elected,
        )
    }

    /// Pods of a group, by name.
    pub fn pods_of(&self, index: i32) -> impl Iterator<Item = &Pod> {
        let index = index.to_string();
        self.pods
            .iter()
            .filter(move |pod| pod.labels().get(label::GROUP) == Some(&index))
    }

    /// The pod of a name.
    pub fn pod(&self, name: &str) -> Option<&Pod> {
        self.pods
            .iter()
            .find(|pod| pod.metadata.name.as_deref() == Some(name))
    }
}

/// Reads everything that belongs to a cluster.
///
/// Pods are read before StatefulSets: a pod that is newer than what we know of its StatefulSet would look outdated.
///
/// # Errors
/// When any list fails.
pub async fn observe(client: &Client, cluster: &RocketCluster) -> Result<Observed, Error> {
    let namespace = cluster.namespace().unwrap_or_default();
    let uid = cluster.uid().unwrap_or_default();
    let by_cluster = ListParams::default().labels(&selector_text(
        &[(label::CLUSTER.to_owned(), cluster.name_any())].into(),
    ));
    let list_error = |what: &str| {
        let (what, namespace) = (what.to_owned(), namespace.clone());
        move |source| Error::List {
            what,
            namespace,
            source,
        }
    };

    let pods = Api::<Pod>::namespaced(client.clone(), &namespace)
        .list(&by_cluster)
        .await
        .map_err(list_error("pods"))?;
    let claims = Api::<PersistentVolumeClaim>::namespaced(client.clone(), &namespace)
        .list(&by_cluster)
        .await
        .map_err(list_error("persistentvolumeclaims"))?;
    let lists = Kind::ALL.map(|kind| list_kind(client, kind, &namespace, &by_cluster));
    let mut observed = Observed {
        claims: claims.items,
        ..Observed::default()
    };
    for (kind, items) in try_join_all(lists).await? {
        observed.pod_monitors |= kind == Kind::PodMonitor && items.is_some();
        observed.endpoint_slices |= kind == Kind::EndpointSlice && items.is_some();
        for item in items.into_iter().flatten() {
            let owners = item.owner_references();
            if is_controlled_by(owners, &uid) || is_left(kind, &item, &cluster.name_any()) {
                observed.add(kind, item)?;
            } else if kind == Kind::BrokerGroup && is_of_former(owners, &cluster.name_any()) {
                observed.unreleased.push(item.name_any());
            }
        }
    }
    let made = &observed.stateful_sets;
    observed
        .unreleased
        .retain(|group| !made.contains_key(group));
    let sets: BTreeSet<String> = observed
        .stateful_sets
        .values()
        .filter_map(ResourceExt::uid)
        .collect();
    observed.restarting = requests(client, &namespace, &cluster.name_any())
        .await
        .map_err(list_error("rocketoperations"))?
        .into_iter()
        .filter(|request| !request.has_ended())
        .filter_map(|request| request.status)
        .flat_map(|status| status.restarting.into_values())
        .collect();
    let (ours, others): (Vec<Pod>, Vec<Pod>) = pods.items.into_iter().partition(|pod| {
        pod.owner_references()
            .iter()
            .filter(|owner| owner.controller == Some(true))
            .all(|owner| sets.contains(&owner.uid))
    });
    observed.pods = ours;
    observed.lingering = others;
    observed
        .lingering
        .retain(|pod| is_of_group(pod, &cluster.name_any()));
    Ok(observed)
}

/// Reads the records, the StatefulSets, the pods and the volume claims of a cluster, whoever owns them: what a request is judged by.
///
/// # Errors
/// When a list fails.
pub async fn observe_groups(
    client: &Client,
    namespace: &str,
    cluster: &str,
) -> Result<Observed, Error> {
    let by_cluster = ListParams::default().labels(&selector_text(
        &[(label::CLUSTER.to_owned(), cluster.to_owned())].into(),
    ));
    let failed = |what: &str| {
        let (what, namespace) = (what.to_owned(), namespace.to_owned());
        move |source| Error::List {
            what,
            namespace,
            source,
        }
    };
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let groups: Api<RocketBrokerGroup> = Api::namespaced(client.clone(), namespace);
    let groups = groups.list(&by_cluster).await;
    let groups = groups.map_err(failed("rocketbrokergroups"))?.items;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let claims = claims.list(&by_cluster).await;
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
    let sets = sets.list(&by_cluster).await;
    let sets = sets.map_err(failed("statefulsets"))?.items;
    Ok(Observed {
        stateful_sets: sets.into_iter().map(|set| (set.name_any(), set)).collect(),
        claims: claims.map_err(failed("persistentvolumeclaims"))?.items,
        pods: pods.list(&by_cluster).await.map_err(failed("pods"))?.items,
        groups: groups
            .into_iter()
            .map(|group| (group.name_any(), group))
            .collect(),
        ..Observed::default()
    })
}

/// All requests about a cluster. Where their kind is not installed, or not granted yet, there are none: a cluster that serves is
/// looked after all the same.
///
/// # Errors
/// When the API server does not tell.
pub async fn requests(
    client: &Client,
    namespace: &str,
    cluster: &str,
) -> kube::Result<Vec<RocketOperation>> {
    let api: Api<RocketOperation> = Api::namespaced(client.clone(), namespace);
    match api.list(&ListParams::default()).await {
        Ok(mut list) => {
            list.items.retain(|request| request.spec.cluster == cluster);
            Ok(list.items)
        }
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Whether a pod was made by a StatefulSet with the name of a group, and so has the volume that its name says.
fn is_of_group(pod: &Pod, cluster: &str) -> bool {
    let mut owners = pod.owner_references().iter();
    owners.any(|owner| {
        let index = owner.name.strip_prefix(cluster);
        let index = index.and_then(|rest| rest.strip_prefix('-'));
        owner.controller == Some(true)
            && owner.kind == "StatefulSet"
            && index.is_some_and(|index| index.parse::<u32>().is_ok())
    })
}

/// Whether an object's controller has this UID.
pub fn is_controlled_by(owners: &[OwnerReference], uid: &str) -> bool {
    owners
        .iter()
        .any(|owner| owner.controller == Some(true) && owner.uid == uid)
}

/// Whether the controller of an object that is not the cluster's is one of its name: another one, which is gone.
fn is_of_former(owners: &[OwnerReference], cluster: &str) -> bool {
    let mut owners = owners.iter().filter(|owner| owner.controller == Some(true));
    owners.any(|owner| owner.kind == RocketCluster::kind(&()) && owner.name == cluster)
}

/// Whether an object is the record of an elected group whose cluster is gone while its volumes stay: the next cluster of the
/// name takes both.
fn is_left(kind: Kind, item: &DynamicObject, cluster: &str) -> bool {
    let text = |pointer| item.data.pointer(pointer).and_then(Value::as_str);
    let mut owners = item.owner_references().iter();
    kind == Kind::BrokerGroup
        && owners.all(|owner| owner.controller != Some(true))
        && text("/spec/cluster") == Some(cluster)
        && text("/status/rule") == Some("Elected")
}

impl Observed {
    fn add(&mut self, kind: Kind, item: DynamicObject) -> Result<(), Error> {
        let name = item.name_any();
        let shape = |source| Error::Shape {
            kind: kind.as_str(),
            name: name.clone(),
            source,
        };
        let resource = kind.api_resource();
        let mut value = serde_json::to_value(item).map_err(shape)?;
        if let Some(fields) = value.as_object_mut() {
            fields.insert("apiVersion".to_owned(), json!(resource.api_version));
            fields.insert("kind".to_owned(), json!(resource.kind));
        }
        match kind {
            Kind::StatefulSet => {
                self.stateful_sets.insert(
                    name.clone(),
                    serde_json::from_value(value.clone()).map_err(shape)?,
                );
            }
            Kind::BrokerGroup => {
                self.groups.insert(
                    name.clone(),
                    serde_json::from_value(value.clone()).map_err(shape)?,
                );
            }
            _ => {}
        }
        self.children.insert((kind, name), value);
        Ok(())
    }
}

/// All objects of a kind, or `None` when an optional kind is not installed.
async fn list_kind(
    client: &Client,
    kind: Kind,
    namespace: &str,
    params: &ListParams,
) -> Result<(Kind, Option<Vec<DynamicObject>>), Error> {
    let resource = kind.api_resource();
    match Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource)
        .list(params)
        .await
    {
        Ok(list) => Ok((kind, Some(list.items))),
        Err(kube::Error::Api(status)) if kind.is_optional() && matches!(status.code, 403 | 404) => {
            Ok((kind, None))
        }
        Err(source) => Err(Error::List {
            what: resource.plural,
            namespace: namespace.to_owned(),
            source,
        }),
    }
}

//! What follows the records of a cluster also while nothing of it is carried out, because it is paused or its specification is refused: the
//! role labels, where the Services of groups that elect lead, and how many of their pods may be evicted, since nodes are drained in the
//! meantime. Electors move the first two at an election; this is for what they did not know then, such as a pod that got its address a moment later. Groups that are not asked for any more are followed as long as they are there.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use rocket_api::{GroupRule, RocketCluster};

use super::{Error, failed};
use crate::address;
use crate::build::{self, Desired};
use crate::drift;
use crate::elected;
use crate::names::{FIELD_MANAGER, Names};
use crate::observe::Observed;
use crate::roles;

/// Writes what of it differs.
///
/// # Errors
/// At the first write that the API server did not take: the rest waits for the next try.
pub async fn follow(
    client: &Client,
    cluster: &RocketCluster,
    names: &Names,
    observed: &Observed,
) -> Result<(), Error> {
    let count = cluster.spec.groups.count;
    let pods: Api<Pod> = Api::namespaced(client.clone(), &names.namespace);
    for change in roles::of_groups(count, names, observed) {
        match roles::write(&pods, &change).await {
            Ok(()) => {}
            // It is gone, or another one by now.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(source) => {
                return Err(Error {
                    verb: "label",
                    kind: "Pod",
                    name: change.pod,
                    source,
                });
            }
        }
    }
    let uid = cluster.uid().unwrap_or_default();
    for index in observed.indices(names, count) {
        if observed.endpoint_slices {
            lead(client, (&uid, index), names, observed).await?;
        }
        spare(client, (&uid, index), names, observed).await?;
    }
    Ok(())
}

/// Has a replica of a group that elects be evicted only when all that it has are in sync, however many are asked for. A
/// PodDisruptionBudget that is not there is not made.
async fn spare(
    client: &Client,
    (uid, index): (&str, i32),
    names: &Names,
    observed: &Observed,
) -> Result<(), Error> {
    let set = observed.stateful_sets.get(&names.group(index));
    let replicas = set.and_then(|set| set.spec.as_ref()?.replicas);
    let Some(replicas) = replicas.filter(|_| observed.is_elected(names, index)) else {
        return Ok(());
    };
    let is_strained = !elected::is_whole(index, replicas, names, observed);
    let desired = build::evictions(names, uid, index, is_strained);
    match observed.children.get(&desired.key) {
        Some(live) if drift::differs(&desired.object, live) => write(client, names, &desired).await,
        _ => Ok(()),
    }
}

/// Has the Service of a group that elects lead to its master, if it leads elsewhere.
async fn lead(
    client: &Client,
    (uid, index): (&str, i32),
    names: &Names,
    observed: &Observed,
) -> Result<(), Error> {
    let state = observed.state(&names.group(index));
    let elects = state.is_some_and(|state| state.rule == GroupRule::Elected);
    let Some(address) = address::of(index, names, observed).filter(|_| elects) else {
        return Ok(());
    };
    let desired = build::master_address(names, uid, index, &address);
    let live = observed.children.get(&desired.key);
    if live.is_some_and(|live| !drift::differs(&desired.object, live)) {
        return Ok(());
    }
    if live.is_none() {
        let api = api(client, names, &desired);
        let present = api.get_metadata_opt(&desired.key.1).await;
        let present = present.map_err(|source| failed("read", &desired.key, source))?;
        if present.is_some() {
            // Somebody else's.
            return Ok(());
        }
    }
    write(client, names, &desired).await
}

async fn write(client: &Client, names: &Names, desired: &Desired) -> Result<(), Error> {
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let api = api(client, names, desired);
    let written = api
        .patch(&desired.key.1, &params, &Patch::Apply(&desired.object))
        .await;
    written.map_err(|source| failed("apply", &desired.key, source))?;
    Ok(())
}

fn api(client: &Client, names: &Names, desired: &Desired) -> Api<DynamicObject> {
    let resource = desired.key.0.api_resource();
    Api::namespaced_with(client.clone(), &names.namespace, &resource)
}

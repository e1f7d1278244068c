//! What follows the records of a cluster also while nothing of it is carried out, because it is paused or its specification is refused: the
//! role labels, and where the Services of groups that elect lead. Electors move both at an election; this is for what they did not know
//! then, such as a pod that got its address a moment later. Groups that are not asked for any more are followed as long as they are there.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use rocket_api::{GroupRule, RocketCluster};

use super::{Error, failed};
use crate::address;
use crate::build;
use crate::drift;
use crate::kind::Kind;
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
    let led = observed.indices(names, count).into_iter();
    for index in led.filter(|_| observed.endpoint_slices) {
        lead(client, (&uid, index), names, observed).await?;
    }
    Ok(())
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
    let resource = Kind::EndpointSlice.api_resource();
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &names.namespace, &resource);
    let name = &desired.key.1;
    if live.is_none() {
        let present = api.get_metadata_opt(name).await;
        let present = present.map_err(|source| failed("read", &desired.key, source))?;
        if present.is_some() {
            // Somebody else's.
            return Ok(());
        }
    }
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let written = api
        .patch(name, &params, &Patch::Apply(&desired.object))
        .await;
    written.map_err(|source| failed("apply", &desired.key, source))?;
    Ok(())
}

//! What a reconcile does about a cluster that is being deleted, until its object is gone: whatever holds that up is said, and groups
//! whose brokers go on are looked after as those of a paused cluster.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Preconditions};
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};
use rocket_api::{ReclaimPolicy, RocketCluster};

use super::{Error, RECHECK, RESYNC, findings, publish_news, set_finalizer, write_status};
use crate::apply;
use crate::context::{Context, spread};
use crate::observe::Observed;
use crate::status::{Deletion, Facts, Pass};
use crate::validate::{self, validate};
use crate::volumes;

/// How often while pods end that volumes are to follow.
const ENDING: Duration = Duration::from_secs(5);

/// Looks after a cluster until it is gone.
pub(super) async fn see_off(
    (context, api): (&Arc<Context>, &Api<RocketCluster>),
    cluster: &RocketCluster,
    observed: &Observed,
    deletion: &Deletion,
) -> Result<Action, Error> {
    let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
    let names = validate::names(cluster, &context.settings);
    if deletion.serves {
        let elections = &context.elections;
        elections.keep(context, cluster, &names, observed);
    } else {
        context.leave(&namespace, &name);
    }
    let rest = |time| Action::requeue(spread(time, &format!("{namespace}/{name}")));
    if context.is_standby() {
        return Ok(if deletion.serves {
            rest(RESYNC)
        } else {
            Action::await_change()
        });
    }
    if deletion.is_ours {
        return finalize(context, api, cluster, observed).await;
    }
    if !deletion.serves {
        tell_end(context, api, cluster, observed).await?;
        return Ok(if deletion.pods.is_empty() {
            Action::await_change()
        } else {
            rest(RECHECK)
        });
    }
    let followed = apply::follow(&context.client, cluster, &names, observed).await;
    let pass = Pass {
        problems: findings(context, cluster, &names, observed),
        now: Timestamp::now(),
        ..Pass::default()
    };
    let facts = gather(context, cluster, observed, pass);
    let status = write_status(context, api, cluster, &facts).await?;
    publish_news(context, cluster, &status, &facts).await;
    followed?;
    Ok(rest(RECHECK))
}

/// Deletes the volumes of a deleted cluster when its policy says so: brokers first, volumes when no pod uses them.
async fn finalize(
    context: &Context,
    api: &Api<RocketCluster>,
    cluster: &RocketCluster,
    observed: &Observed,
) -> Result<Action, Error> {
    let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
    let failed = |source| Error::Cluster {
        verb: "delete the volumes of",
        name: name.clone(),
        source,
    };
    if cluster.spec.groups.storage.reclaim.on_delete == ReclaimPolicy::Delete {
        let sets: Api<StatefulSet> = Api::namespaced(context.client.clone(), &namespace);
        for (set, object) in &observed.stateful_sets {
            let params = DeleteParams::background().preconditions(Preconditions {
                uid: object.uid(),
                resource_version: None,
            });
            ignore_gone(sets.delete(set, &params).await).map_err(failed)?;
        }
        let mut pods = observed.pods.iter().chain(&observed.lingering);
        if pods.next().is_some() || !observed.stateful_sets.is_empty() {
            tell_end(context, api, cluster, observed).await?;
            return Ok(Action::requeue(ENDING));
        }
        let claims: Api<PersistentVolumeClaim> =
            Api::namespaced(context.client.clone(), &namespace);
        let names = validate::names(cluster, &context.settings);
        for claim in
            volumes::of_deleted_cluster(&names, &cluster.uid().unwrap_or_default(), observed)
        {
            let (params, claim) = (volumes::deletion(claim), claim.name_any());
            ignore_gone(claims.delete(&claim, &params).await).map_err(failed)?;
            tracing::info!(
                cluster = name,
                namespace,
                claim,
                "deleted a volume claim with its cluster"
            );
        }
    }
    set_finalizer(api, cluster, false).await?;
    context.metrics.forget(&namespace, &name);
    Ok(Action::await_change())
}

/// Says in the status what the end of a cluster waits for. That it serves nobody any more is no news, and nothing to be alerted of.
async fn tell_end(
    context: &Context,
    api: &Api<RocketCluster>,
    cluster: &RocketCluster,
    observed: &Observed,
) -> Result<(), Error> {
    let pass = Pass {
        now: Timestamp::now(),
        ..Pass::default()
    };
    let facts = gather(context, cluster, observed, pass);
    write_status(context, api, cluster, &facts).await?;
    let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
    context.metrics.forget_series(&namespace, &name);
    Ok(())
}

fn gather(context: &Context, cluster: &RocketCluster, observed: &Observed, pass: Pass) -> Facts {
    let settings = &context.settings;
    let validated = validate(cluster, observed, settings);
    Facts::gather(cluster, settings, &validated, observed, pass)
}

fn ignore_gone<T>(result: kube::Result<T>) -> kube::Result<()> {
    match result {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        other => other.map(|_| ()),
    }
}

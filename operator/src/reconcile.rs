//! One reconcile: read, check, build, write, tell. It reads the present, whatever woke it.

mod deletion;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Api, Resource, ResourceExt};
use rocket_api::{GroupRule, ReclaimPolicy, RocketCluster, RocketClusterStatus};
use serde_json::json;

use crate::address;
use crate::apply::{self, Apply, Outcome};
use crate::build::{self, Present};
use crate::config_files;
use crate::context::{Context, spread};
use crate::elected;
use crate::names::{FIELD_MANAGER, FINALIZER, Names};
use crate::observe::{self, Observed, observe};
use crate::status::{self, Deletion, Facts, Pass, Problem};
use crate::validate::{self, ValidatedCluster, validate};
use crate::volumes;

/// How long one reconcile may take before it is given up and tried again.
pub const DEADLINE: Duration = Duration::from_mins(1);
/// How often a cluster is looked at when nothing happens.
const RESYNC: Duration = Duration::from_mins(5);
/// How often while something is on its way, in case an event was lost.
const RECHECK: Duration = Duration::from_secs(20);
/// How often while a master is to hand over, as its heir may not be able to yet, or a group is yet to be begun.
const SOON: Duration = Duration::from_secs(3);

/// Why a reconcile did not end. All of it is worth another try.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading failed.
    #[error(transparent)]
    Observe(#[from] observe::Error),
    /// Writing failed.
    #[error(transparent)]
    Apply(#[from] apply::Error),
    /// A request about the cluster object itself failed.
    #[error("cannot {verb} RocketCluster {name}")]
    Cluster {
        /// What was tried.
        verb: &'static str,
        /// Name.
        name: String,
        /// Cause.
        #[source]
        source: kube::Error,
    },
    /// It took too long.
    #[error("gave up after {} s", DEADLINE.as_secs())]
    Deadline,
}

impl Error {
    /// A word for the metric.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Observe(_) => "observe",
            Self::Apply(_) => "apply",
            Self::Cluster { .. } => "cluster",
            Self::Deadline => "deadline",
        }
    }
}

/// Brings one cluster closer to its specification.
///
/// # Errors
/// When the API server does not answer; what was done stays done and is found again.
pub async fn reconcile(seen: Arc<RocketCluster>, context: Arc<Context>) -> Result<Action, Error> {
    let (name, namespace) = (seen.name_any(), seen.namespace().unwrap_or_default());
    let api: Api<RocketCluster> = Api::namespaced(context.client.clone(), &namespace);
    // The object that woke us may be old, and an old specification must not delete anything: read it again.
    let present = api.get_opt(&name).await.map_err(|source| Error::Cluster {
        verb: "read",
        name: name.clone(),
        source,
    })?;
    let Some(cluster) = present.filter(|present| present.uid() == seen.uid()) else {
        context.metrics.forget(&namespace, &name);
        context.leave(&namespace, &name);
        return Ok(Action::await_change());
    };
    let observed = observe(&context.client, &cluster).await?;
    let names = validate::names(&cluster, &context.settings);
    if let Some(deletion) = Deletion::of(&cluster, &names, &observed) {
        return deletion::see_off((&context, &api), &cluster, &observed, &deletion).await;
    }
    if let Some(group) = observed.unreleased.first() {
        // How its brokers begin stands there, and it is about to be this cluster's, or gone.
        tracing::info!(
            group,
            namespace,
            "waiting until Kubernetes has taken the former RocketCluster of the name from the owners of the group's record"
        );
        return Ok(Action::requeue(SOON));
    }
    // Also while paused, and whatever the specification says: a group that serves is to go on serving.
    context
        .elections
        .keep(&context, &cluster, &names, &observed);
    if context.is_standby() {
        let key = format!("{namespace}/{name}");
        return Ok(Action::requeue(spread(RESYNC, &key)));
    }
    let validated = validate(&cluster, &observed, &context.settings);
    let mut outcome = Outcome::default();
    if let (Ok(checked), false) = (&validated, cluster.spec.paused) {
        keep_finalizer(&api, &cluster).await?;
        let mut present = shape(checked, &observed);
        leave_stale_addresses(&context, checked, &observed, &mut present);
        outcome = Apply::new(&context, checked, &observed)
            .run(&build::build(checked, &present))
            .await?;
    } else {
        apply::follow(&context.client, &cluster, &names, &observed).await?;
    }
    outcome
        .problems
        .extend(findings(&context, &cluster, &names, &observed));
    let pass = Pass {
        problems: outcome.problems,
        writes: outcome.writes,
        unsettled: outcome.unsettled,
        mutated: outcome.mutated,
        now: Timestamp::now(),
    };
    let facts = Facts::gather(&cluster, &context.settings, &validated, &observed, pass);
    let status = write_status(&context, &api, &cluster, &facts).await?;
    for decision in &outcome.decisions {
        context.publish(&cluster, decision).await;
    }
    publish_news(&context, &cluster, &status, &facts).await;
    let is_calm = observed.restarting.is_empty() && !context.stale.lock().is_any(&names);
    let rest = if outcome.soon {
        SOON
    } else if facts.paused || facts.is_quiet() && is_calm {
        RESYNC
    } else {
        RECHECK
    };
    let key = format!("{namespace}/{name}");
    Ok(Action::requeue(spread(rest, &key)))
}

/// What electors have found that only a person can mend.
fn findings(
    context: &Context,
    cluster: &RocketCluster,
    names: &Names,
    observed: &Observed,
) -> Vec<Problem> {
    let indices = observed.indices(names, cluster.spec.groups.count);
    let found = indices.into_iter().filter_map(|index| {
        let group = names.group(index);
        context.elections.finding(&names.namespace, &group)
    });
    found.map(Problem::NoElectableReplica).collect()
}

/// What of the present shapes the objects.
fn shape(cluster: &ValidatedCluster, observed: &Observed) -> Present {
    let groups = || 0..cluster.spec.groups.count;
    let electing = || groups().filter(|_| cluster.rule == GroupRule::Elected);
    let replicas = cluster.spec.groups.replicas;
    let size = |index| volumes::plan(cluster, index, observed).template_size;
    Present {
        template_sizes: groups()
            .filter_map(|index| Some((index, size(index)?)))
            .collect(),
        pod_monitors: observed.pod_monitors,
        unhashed: groups()
            .filter_map(|index| {
                let hash = config_files::unhashed(&cluster.names, index, observed)?;
                Some((index, hash))
            })
            .collect(),
        claims: electing()
            .map(|index| (index, volumes::owners(&cluster.names, index, observed)))
            .collect(),
        strained: electing()
            .filter(|index| !elected::is_whole(*index, replicas, &cluster.names, observed))
            .collect(),
        addresses: observed.endpoint_slices.then(|| {
            let address = |index| address::of(index, &cluster.names, observed);
            electing()
                .filter_map(|index| Some((index, address(index)?)))
                .collect()
        }),
    }
}

/// Has no Service lead to an address that its pod has left for good, as nobody is elected.
fn leave_stale_addresses(
    context: &Context,
    cluster: &ValidatedCluster,
    observed: &Observed,
    present: &mut Present,
) {
    let Some(addresses) = &mut present.addresses else {
        return;
    };
    let (names, times) = (&cluster.names, (Instant::now(), context.patience));
    let mut stale = context.stale.lock();
    for index in 0..cluster.spec.groups.count {
        let is_stale = addresses
            .get(&index)
            .is_some_and(|address| address::is_stale(address, index, names, observed));
        if stale.has_lasted((names, index), is_stale, times) {
            addresses.remove(&index);
        }
    }
}

/// Writes the status if it changed, and the cluster is still there.
async fn write_status(
    context: &Context,
    api: &Api<RocketCluster>,
    cluster: &RocketCluster,
    facts: &Facts,
) -> Result<RocketClusterStatus, Error> {
    let now = Time(Timestamp::now());
    let generation = cluster.metadata.generation.unwrap_or_default();
    let status = status::compute(facts, cluster.status.as_ref(), generation, &now);
    context.metrics.tell(
        &cluster.namespace().unwrap_or_default(),
        &cluster.name_any(),
        &status,
        (facts.copies_wanted(), facts.heirs()),
    );
    if cluster.status.as_ref() != Some(&status) {
        let patch = json!({"apiVersion": RocketCluster::api_version(&()), "kind": RocketCluster::kind(&()), "status": status});
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let result = api
            .patch_status(&cluster.name_any(), &params, &Patch::Apply(patch))
            .await;
        match result {
            Ok(_) => {}
            Err(kube::Error::Api(answer)) if answer.code == 404 => {}
            Err(source) => {
                return Err(Error::Cluster {
                    verb: "write the status of",
                    name: cluster.name_any(),
                    source,
                });
            }
        }
    }
    Ok(status)
}

/// Tells people what is new in a status.
async fn publish_news(
    context: &Context,
    cluster: &RocketCluster,
    status: &RocketClusterStatus,
    facts: &Facts,
) {
    let troubles = status::troubles(facts);
    for decision in status::news(cluster.status.as_ref(), status, &troubles) {
        context.publish(cluster, &decision).await;
    }
}

/// A cluster carries the finalizer while its volumes are to be deleted with it, and only then.
async fn keep_finalizer(api: &Api<RocketCluster>, cluster: &RocketCluster) -> Result<(), Error> {
    let wanted = cluster.spec.groups.storage.reclaim.on_delete == ReclaimPolicy::Delete;
    let has = cluster
        .finalizers()
        .iter()
        .any(|finalizer| finalizer == FINALIZER);
    if wanted == has {
        Ok(())
    } else {
        set_finalizer(api, cluster, wanted).await
    }
}

async fn set_finalizer(
    api: &Api<RocketCluster>,
    cluster: &RocketCluster,
    wanted: bool,
) -> Result<(), Error> {
    let mut finalizers: Vec<&str> = cluster
        .finalizers()
        .iter()
        .map(String::as_str)
        .filter(|finalizer| *finalizer != FINALIZER)
        .collect();
    if wanted {
        finalizers.push(FINALIZER);
    }
    // The resource version makes it fail rather than undo what somebody else did to the list.
    let patch = json!({"metadata": {"resourceVersion": cluster.resource_version(), "finalizers": finalizers}});
    match api
        .patch(
            &cluster.name_any(),
            &PatchParams::default(),
            &Patch::Merge(patch),
        )
        .await
    {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(source) => Err(Error::Cluster {
            verb: "set the finalizer of",
            name: cluster.name_any(),
            source,
        }),
        Ok(_) => Ok(()),
    }
}

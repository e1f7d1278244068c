//! Requests: a `RocketOperation` asks for one thing, once, and tells what became of it.
//!
//! Each look reads the present and takes the request one step further: [`decide`] is pure, from what was seen to a status and at
//! most one thing to do. What was begun is in the request's own status and in the record of the group, so another operator goes
//! on where this one ended. Nothing that is begun needs this request to end well: a master takes a handover back by itself,
//! and brokers that were not restarted run on. So a request may be deleted at any time.
//!
//! A `Restart` does nothing here but say which pods it means: `roll` restarts them with the same care, and in the same
//! order, as those of an older specification.

mod decide;
mod force;
mod rebuild;
mod restart;
mod switchover;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::controller::Action;
use kube::{Api, Resource, ResourceExt};
use rocket_api::{
    OperationPhase, OperationStatus, OperationType, Reason, RocketCluster, RocketOperation,
};
use serde_json::json;

use crate::context::{Context, Decision};
use crate::elections::{Standing, Task};
use crate::names::{FIELD_MANAGER, Names};
use crate::observe::{self, Observed};

pub use decide::{Effect, Seen, Verdict, ahead, decide};

/// How long a look may take, the work of an elector included.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// How soon something is looked at again that was just asked for.
const SOON: Duration = Duration::from_millis(100);
/// How soon a request is looked at again that is being done.
const RUNNING: Duration = Duration::from_secs(1);
/// How soon one that waits.
const PENDING: Duration = Duration::from_secs(2);
/// Seconds for which a request that has ended is kept.
const TTL_S: i64 = 7 * 24 * 3600;

/// Why a look did not end. All of it is worth another try.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading failed.
    #[error(transparent)]
    Observe(#[from] observe::Error),
    /// A request about the object itself, or its cluster, failed.
    #[error("cannot {verb} RocketOperation {name}")]
    Operation {
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
            Self::Operation { .. } => "operation",
            Self::Deadline => "deadline",
        }
    }
}

/// Takes one request a step further.
///
/// # Errors
/// When the API server does not answer; what was begun goes on.
pub async fn reconcile(
    woken: Arc<RocketOperation>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    let (name, namespace) = (woken.name_any(), woken.namespace().unwrap_or_default());
    let failed = |verb| {
        let name = name.clone();
        move |source| Error::Operation { verb, name, source }
    };
    let api: Api<RocketOperation> = Api::namespaced(context.client.clone(), &namespace);
    let present = api.get_opt(&name).await.map_err(failed("read"))?;
    let is_it = |present: &RocketOperation| {
        present.uid() == woken.uid() && present.metadata.deletion_timestamp.is_none()
    };
    let Some(request) = present.filter(is_it) else {
        return Ok(Action::await_change());
    };
    if request.has_ended() {
        return tidy(&api, &request).await.map_err(failed("delete"));
    }
    let clusters: Api<RocketCluster> = Api::namespaced(context.client.clone(), &namespace);
    let cluster = clusters.get_opt(&request.spec.cluster).await;
    let cluster = cluster.map_err(failed("read the cluster of"))?;
    let names = Names {
        cluster: request.spec.cluster.clone(),
        namespace: namespace.clone(),
        domain: context.settings.domain.clone(),
    };
    let observed = observe::observe_groups(&context.client, &namespace, &names.cluster).await?;
    let others = observe::requests(&context.client, &namespace, &names.cluster).await;
    let others = others.map_err(failed("list the others of"))?;
    let seen = Seen {
        now: Timestamp::now(),
        standings: &standings(&context, &names, &observed),
        ahead: ahead(&request, &others),
        cluster: cluster.as_ref(),
        names: &names,
        observed: &observed,
    };
    let verdict = decide(&request, &seen);
    let is_written = write(&api, &request, &verdict.status).await;
    is_written.map_err(failed("write the status of"))?;
    tell(&context, &request, &verdict.status).await;
    let performed = match verdict.effect {
        Some(effect) => perform(&context, &names, effect).await,
        None => Performed::Nothing,
    };
    Ok(Action::requeue(pause(verdict.status.phase, performed)))
}

/// What became of the one thing that a look asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Performed {
    /// It was done.
    Done,
    /// There was nothing to do, or it was not done.
    Nothing,
}

/// When a request is looked at again. What was refused is not tried again at once: it may be refused for ever.
fn pause(phase: OperationPhase, performed: Performed) -> Duration {
    match (performed, phase) {
        (Performed::Nothing, OperationPhase::Pending) => PENDING,
        (Performed::Nothing, OperationPhase::Running) => RUNNING,
        // After an end the next look keeps or deletes it.
        (Performed::Done, _)
        | (Performed::Nothing, OperationPhase::Succeeded | OperationPhase::Failed) => SOON,
    }
}

/// What the electors of a cluster's groups saw last.
fn standings(context: &Context, names: &Names, observed: &Observed) -> BTreeMap<i32, Standing> {
    let standing = |index: i32| {
        let group = names.group(index);
        Some((index, context.elections.standing(&names.namespace, &group)?))
    };
    let indices = observed.groups.values().map(|group| group.spec.index);
    indices.filter_map(standing).collect()
}

/// Writes the status if it changed.
async fn write(
    api: &Api<RocketOperation>,
    request: &RocketOperation,
    status: &OperationStatus,
) -> kube::Result<()> {
    if request.status.as_ref() == Some(status) {
        return Ok(());
    }
    // The UID makes it fail rather than speak of another request of the same name.
    let patch = json!({
        "apiVersion": RocketOperation::api_version(&()),
        "kind": RocketOperation::kind(&()),
        "metadata": {"uid": request.uid()},
        "status": status,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    api.patch_status(&request.name_any(), &params, &Patch::Apply(patch))
        .await
        .map(drop)
}

/// Has the elector of the group do it. What comes of it is in the group's record, and told by the next look; what was not done is
/// decided anew by it.
async fn perform(context: &Context, names: &Names, effect: Effect) -> Performed {
    let Effect { index, task } = effect;
    let group = names.group(index);
    let Some(answer) = context.elections.ask(&names.namespace, &group, task) else {
        tracing::debug!(group, "the elector of the group is busy");
        return Performed::Nothing;
    };
    match answer.await {
        Ok(Ok(())) => Performed::Done,
        Ok(Err(why)) => {
            tracing::info!(group, why, "a request was not carried out yet");
            Performed::Nothing
        }
        // The elector ended meanwhile.
        Err(_) => Performed::Nothing,
    }
}

/// Events of a request: that it was begun, and how it ended.
async fn tell(context: &Context, request: &RocketOperation, status: &OperationStatus) {
    let former = request.status.as_ref().map(|status| status.phase);
    if former == Some(status.phase) {
        return;
    }
    let (reason, warning) = match status.phase {
        OperationPhase::Pending => return,
        // What may lose messages is said loudly, also before it does.
        OperationPhase::Running => (
            Reason::OperationStarted,
            matches!(
                request.spec.type_,
                OperationType::ForceElect | OperationType::Rebuild
            ),
        ),
        OperationPhase::Succeeded => (Reason::OperationSucceeded, false),
        OperationPhase::Failed => (Reason::OperationFailed, true),
    };
    let decision = Decision {
        warning,
        reason,
        action: request.spec.type_.as_str(),
        note: format!("{}: {}", status.target, status.message),
        about: Some(("RocketCluster", request.spec.cluster.clone())),
    };
    context
        .publish_of(&request.object_ref(&()), &decision)
        .await;
}

/// Keeps a request that has ended for as long as it asks for, and then deletes it.
async fn tidy(api: &Api<RocketOperation>, request: &RocketOperation) -> kube::Result<Action> {
    let ended = request
        .status
        .as_ref()
        .and_then(|status| status.finished_at.as_ref());
    let (Some(ended), Some(ttl_s)) = (ended, ttl_s(request)) else {
        return Ok(Action::await_change());
    };
    let age_s = Timestamp::now().duration_since(ended.0).as_secs();
    let left_s = u64::try_from(ttl_s.saturating_sub(age_s)).unwrap_or_default();
    if left_s > 0 {
        return Ok(Action::requeue(Duration::from_secs(left_s)));
    }
    let this = Preconditions {
        uid: request.uid(),
        resource_version: None,
    };
    let params = DeleteParams::background().preconditions(this);
    match api.delete(&request.name_any(), &params).await {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
        other => drop(other?),
    }
    Ok(Action::await_change())
}

/// Seconds for which it is kept after its end; for ever if there are none. What may have lost messages, or made a record, stays
/// until a person deletes it.
fn ttl_s(request: &RocketOperation) -> Option<i64> {
    let asked = request.spec.ttl_seconds_after_finished.map(i64::from);
    match request.spec.type_ {
        OperationType::Switchover | OperationType::Restart => asked.or(Some(TTL_S)),
        OperationType::ForceElect | OperationType::Rebuild => asked,
    }
}

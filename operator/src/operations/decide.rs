//! What to do about a request now: from what was seen to its status and at most one effect. Pure, time is an argument.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use rocket_api::{
    GroupRule, OperationCondition, OperationPhase, OperationStatus, OperationType, RocketCluster,
    RocketOperation, RocketOperationSpec, Truth,
};
use rocket_coordinator::kubernetes::state_of;
use rocket_replication::identity::Epoch;
use rocket_replication::messages::RoleName;
use rocket_replication::state::State;

use super::{Standing, Task, force, rebuild, restart, switchover};
use crate::names::Names;
use crate::observe::Observed;
use crate::roll::{is_leaving, is_ready};

/// Seconds for which a cluster is waited for that does not exist: the request may have been applied together with it.
const CLUSTER_WAIT_S: i64 = 30;
/// Seconds after which a request that speaks of one group is not begun, or not gone on with.
const DEADLINE_S: i64 = 60;

/// Everything that a request is judged by.
#[derive(Debug, Clone)]
pub struct Seen<'a> {
    /// The time. Only deadlines hang on it, and what people read.
    pub now: Timestamp,
    /// The cluster, if there is one.
    pub cluster: Option<&'a RocketCluster>,
    /// Names of its objects.
    pub names: &'a Names,
    /// Records and pods of its groups.
    pub observed: &'a Observed,
    /// What replicas answered last, by index of the group.
    pub standings: &'a BTreeMap<i32, Standing>,
    /// Name of a request that comes first.
    pub ahead: Option<String>,
}

/// Something that the elector of a group is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// Index of the group.
    pub index: i32,
    /// What.
    pub task: Task,
}

/// What follows from a look.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The status to write, before anything is done.
    pub status: OperationStatus,
    /// What to do then.
    pub effect: Option<Effect>,
}

/// What one kind of request says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// It cannot be done yet.
    Wait(String),
    /// It can be done now, by this.
    Act(Effect, String),
    /// It is being done.
    Going(String),
    /// It was asked for and cannot be taken back from here: its end has to be awaited, however long it takes.
    Bound(String),
    /// It is done.
    Done(String),
    /// It cannot be done, or was not.
    Never(String),
}

/// What to do about a request that has not ended.
pub fn decide(request: &RocketOperation, seen: &Seen<'_>) -> Verdict {
    let mut status = request.status.clone().unwrap_or_default();
    if status.target.is_empty() {
        status.target = target(&request.spec);
    }
    let step = match first(request, &status, seen) {
        Some(step) => step,
        None => match request.spec.type_ {
            OperationType::Switchover => switchover::step(request, &mut status, seen),
            OperationType::Restart => restart::step(&request.spec, &mut status, seen),
            OperationType::ForceElect => force::step(request, &mut status, seen),
            OperationType::Rebuild => rebuild::step(request, &mut status, seen),
        },
    };
    conclude(request, status, step, seen.now)
}

/// The name of the request that comes before this one: an earlier one about the same group that has not ended. A person's choice
/// of a replica, or of a new record, waits for nobody: what it waited for may need a master.
pub fn ahead(request: &RocketOperation, all: &[RocketOperation]) -> Option<String> {
    if matches!(
        request.spec.type_,
        OperationType::ForceElect | OperationType::Rebuild
    ) {
        return None;
    }
    let key = |of: &RocketOperation| (of.creation_timestamp(), of.name_any());
    let meets = |of: &&RocketOperation| {
        let (one, other) = (of.spec.group, request.spec.group);
        of.spec.cluster == request.spec.cluster
            && (one.is_none() || other.is_none() || one == other)
    };
    let earlier = all
        .iter()
        .filter(|of| !of.has_ended() && key(of) < key(request));
    let first = earlier.filter(meets).min_by_key(|of| key(of));
    first.map(ResourceExt::name_any)
}

/// What stands in the way of every kind of request.
fn first(request: &RocketOperation, status: &OperationStatus, seen: &Seen<'_>) -> Option<Step> {
    let spec = &request.spec;
    let Some(cluster) = seen.cluster else {
        let message = format!(
            "there is no RocketCluster {} in this namespace",
            spec.cluster
        );
        return Some(if age_s(request, seen.now) < CLUSTER_WAIT_S {
            Step::Wait(message)
        } else {
            Step::Never(format!(
                "{message}: make another request with its right name"
            ))
        });
    };
    if cluster.metadata.deletion_timestamp.is_some() {
        return Some(Step::Never(format!(
            "RocketCluster {} is being deleted",
            spec.cluster
        )));
    }
    let count = cluster.spec.groups.count;
    if let Some(index) = spec.group.filter(|index| *index >= count) {
        return Some(Step::Never(format!(
            "RocketCluster {} has no group {index}: its groups are 0 to {}",
            spec.cluster,
            count - 1
        )));
    }
    let is_of_group = |to: &str| {
        let ordinal = spec.group.map(|index| seen.names.ordinal(index, to));
        ordinal.flatten().is_some()
    };
    if let Some(to) = spec.to.as_ref().filter(|to| !is_of_group(to)) {
        return Some(Step::Never(format!(
            "{to} is no broker of the group: its pods are {}-0, {0}-1 and so on",
            seen.names.group(spec.group.unwrap_or_default())
        )));
    }
    let ahead = seen
        .ahead
        .as_ref()
        .filter(|_| status.started_at.is_none())?;
    Some(Step::Wait(format!(
        "RocketOperation {ahead} was asked for earlier and comes first"
    )))
}

/// What is written, from what a kind says.
fn conclude(
    request: &RocketOperation,
    mut status: OperationStatus,
    step: Step,
    now: Timestamp,
) -> Verdict {
    let limit_s = deadline_s(&request.spec);
    let is_late = limit_s.is_some_and(|limit_s| age_s(request, now) >= limit_s);
    let limit_s = limit_s.unwrap_or_default();
    let (phase, reason, message, effect) = match step {
        Step::Wait(message) | Step::Going(message) if is_late => (
            OperationPhase::Failed,
            "DeadlineExceeded",
            format!("{message}; given up, {limit_s} s after it was asked for"),
            None,
        ),
        Step::Act(..) if is_late => (
            OperationPhase::Failed,
            "DeadlineExceeded",
            format!(
                "it was not begun within {limit_s} s; it could be now: make another request if it is still wanted"
            ),
            None,
        ),
        Step::Wait(message) if status.started_at.is_none() => {
            (OperationPhase::Pending, "Waiting", message, None)
        }
        Step::Wait(message) | Step::Going(message) | Step::Bound(message) => {
            (OperationPhase::Running, "Running", message, None)
        }
        Step::Act(effect, message) => (OperationPhase::Running, "Running", message, Some(effect)),
        Step::Done(message) => (OperationPhase::Succeeded, "Done", message, None),
        Step::Never(message) => (OperationPhase::Failed, "NotDone", message, None),
    };
    let now = Time(now);
    if phase == OperationPhase::Running && status.started_at.is_none() {
        status.started_at = Some(now.clone());
    }
    let type_ = match phase {
        OperationPhase::Pending | OperationPhase::Running => None,
        OperationPhase::Succeeded => Some("Complete"),
        OperationPhase::Failed => Some("Failed"),
    };
    if let Some(type_) = type_ {
        status.finished_at = Some(now.clone());
        status.conditions = vec![OperationCondition {
            type_: type_.to_owned(),
            status: Truth::True,
            reason: reason.to_owned(),
            message: message.clone(),
            last_transition_time: now,
        }];
    }
    (status.phase, status.message) = (phase, message);
    Verdict { status, effect }
}

fn target(spec: &RocketOperationSpec) -> String {
    spec.group
        .map_or_else(|| "all groups".to_owned(), |index| format!("group {index}"))
}

fn deadline_s(spec: &RocketOperationSpec) -> Option<i64> {
    let asked = spec.deadline_seconds.map(i64::from);
    match spec.type_ {
        OperationType::Switchover | OperationType::ForceElect => asked.or(Some(DEADLINE_S)),
        OperationType::Restart | OperationType::Rebuild => asked,
    }
}

fn age_s(request: &RocketOperation, now: Timestamp) -> i64 {
    let made = request.creation_timestamp();
    made.map_or(0, |made| now.duration_since(made.0).as_secs())
}

/// A number of the protocol as the objects hold it.
pub(super) fn number(epoch: Epoch) -> i64 {
    i64::try_from(epoch.0).unwrap_or(i64::MAX)
}

/// Whether the master itself says that it has opened for writes in the present epoch.
pub(super) fn is_open(state: &State, standing: &Standing) -> bool {
    standing.reports.iter().any(|report| {
        Some(report.member) == state.master
            && report.role == RoleName::Master
            && report.max_epoch == state.epoch
    })
}

impl Seen<'_> {
    /// The record of a group that elects, and what its replicas said.
    pub(super) fn electing(&self, index: i32) -> Result<(State, &Standing), Step> {
        let name = self.names.group(index);
        let Some(group) = self.observed.groups.get(&name) else {
            return Err(Step::Wait(format!(
                "there is no RocketBrokerGroup {name} yet"
            )));
        };
        let rule = group.status.as_ref().map(|state| state.rule);
        match rule {
            None => {
                return Err(Step::Wait(format!(
                    "RocketBrokerGroup {name} has no record yet"
                )));
            }
            Some(GroupRule::Static) => {
                return Err(Step::Never(format!(
                    "the master of group {index} is fixed, because no other replica of it has messages: this is for groups that elect (`kubectl get rbg {name}`, column RULE)"
                )));
            }
            Some(GroupRule::Elected) => {}
        }
        let state = state_of(group).map_err(|error| {
            Step::Never(format!("RocketBrokerGroup {name} cannot be read: {error}"))
        })?;
        match self.standings.get(&index) {
            Some(standing) => Ok((state, standing)),
            None => Err(Step::Wait(format!(
                "the replicas of group {index} were not asked yet how they fare"
            ))),
        }
    }

    /// Why a pod cannot be relied on, in words.
    pub(super) fn pod_obstacle(&self, name: &str) -> Option<String> {
        match self.observed.pod(name) {
            None => Some(format!("there is no pod {name}")),
            Some(pod) if is_leaving(pod) => Some(format!("pod {name} is being deleted")),
            Some(pod) if !is_ready(pod) => Some(format!("pod {name} is not ready")),
            Some(_) => None,
        }
    }
}

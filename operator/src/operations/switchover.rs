//! `Switchover`: the master of a group hands over to another replica that has everything (docs/replication.md §8.12).
//!
//! One request asks once. What it asked for is recognised by the epoch: as long as the group is in the epoch of the asking it
//! may still come, and a later epoch shows who became master.

use kube::ResourceExt;
use rocket_api::{OperationStatus, RocketOperation};
use rocket_replication::identity::ReplicaId;
use rocket_replication::state::State;

use super::decide::{Effect, Seen, Step, is_open, number};
use super::{Standing, Task};
use crate::elections::handover::{self, Course};

pub(super) fn step(
    request: &RocketOperation,
    status: &mut OperationStatus,
    seen: &Seen<'_>,
) -> Step {
    let Some(index) = request.spec.group else {
        return Step::Never("it names no group: make another request with spec.group".to_owned());
    };
    let (state, standing) = match seen.electing(index) {
        Ok(known) => known,
        Err(step) => return step,
    };
    if let (Some(begun), Some(to)) = (status.epoch, status.to.clone()) {
        if number(state.epoch) > begun {
            return moved(status, &to, &state, standing);
        }
        if let Some(asked) = state.handover {
            let asked = handover::pod(&state, asked);
            return Step::Bound(format!("the master is asked to hand over to {asked}"));
        }
        let ended = standing
            .handed
            .as_ref()
            .filter(|handed| handed.by == request.uid());
        if ended.is_some() {
            return Step::Never(format!(
                "the master did not hand over to {to} within its time and takes sends again: {to} may have lagged behind (metric rocket_replication_lag_bytes of the master), or was gone; make another request when it has caught up"
            ));
        }
    }
    let to = match successor(request, &state, standing, seen) {
        Ok(to) => to,
        Err(step) => return step,
    };
    let from = state
        .master
        .map(|master| handover::pod(&state, master.replica_id));
    let (from, name) = (from.unwrap_or_default(), handover::pod(&state, to));
    status.target = format!("{from} -> {name}");
    (status.from, status.to) = (Some(from.clone()), Some(name.clone()));
    status.epoch = Some(number(state.epoch));
    let task = Task::HandOver {
        to,
        at: state.epoch,
        by: request.uid(),
    };
    Step::Act(
        Effect { index, task },
        format!("asking {from} to hand over to {name}"),
    )
}

/// The group is in a later epoch than that of the asking.
fn moved(status: &mut OperationStatus, to: &str, state: &State, standing: &Standing) -> Step {
    let epoch = state.epoch;
    let Some(master) = state.master else {
        return Step::Going(format!("epoch {epoch}: the group has no master at present"));
    };
    let name = handover::pod(state, master.replica_id);
    if name != to {
        return Step::Never(format!(
            "{name} and not {to} became master, in epoch {epoch}: an election came between; make another request if the master shall still move"
        ));
    }
    if !is_open(state, standing) {
        return Step::Going(format!(
            "{to} is master in epoch {epoch} and has not opened for writes yet"
        ));
    }
    let pause = standing
        .handed
        .as_ref()
        .and_then(|handed| match handed.course {
            Course::Opened {
                epoch: in_epoch,
                pause,
            } if in_epoch == epoch => Some(pause),
            _ => None,
        });
    let told = match pause {
        Some(pause) => format!("no sends were taken for {} ms at most", pause.as_millis()),
        None => "the pause was not measured, because the operator began anew meanwhile".to_owned(),
    };
    status.write_pause = pause.map(|pause| format!("{}ms", pause.as_millis()));
    Step::Done(format!("{to} is master in epoch {epoch}; {told}"))
}

/// Who takes over, or what is waited for.
fn successor(
    request: &RocketOperation,
    state: &State,
    standing: &Standing,
    seen: &Seen<'_>,
) -> Result<ReplicaId, Step> {
    let reports = &standing.reports;
    if let Some(why) = handover::master_obstacle(state, reports) {
        return Err(Step::Wait(why));
    }
    let obstacle = |id: ReplicaId| {
        let of_pod = || seen.pod_obstacle(&handover::pod(state, id));
        handover::obstacle(state, reports, id).or_else(of_pod)
    };
    let master = state.master.map(|master| master.replica_id);
    if let Some(to) = &request.spec.to {
        let Some(id) = handover::replica_of(state, to) else {
            return Err(Step::Wait(format!("{to} is not registered with its group")));
        };
        if Some(id) == master {
            return Err(Step::Done(format!(
                "{to} is master already, in epoch {}; nothing was done",
                state.epoch
            )));
        }
        return obstacle(id).map_or(Ok(id), |why| Err(Step::Wait(why)));
    }
    let is_fit = |pod: &str| seen.pod_obstacle(pod).is_none();
    handover::successor(state, reports, is_fit).ok_or_else(|| {
        let others = state.replicas.keys().filter(|id| Some(**id) != master);
        let whys: Vec<String> = others.filter_map(|id| obstacle(*id)).collect();
        Step::Wait(if whys.is_empty() {
            "the group has no other replica".to_owned()
        } else {
            format!("no replica can take over: {}", whys.join("; "))
        })
    })
}

//! `ForceElect`: a person names a replica that becomes master although it may lack acknowledged messages, because those that
//! have them are gone for good (docs/replication.md §8.14). Unclean, and loud: a Warning, an entry in the record that stays for
//! ever, and this request, which the operator does not delete by itself.

use kube::ResourceExt;
use rocket_api::{OperationStatus, RocketOperation};
use rocket_replication::identity::{Epoch, ReplicaId};
use rocket_replication::state::State;

use super::decide::{Effect, Seen, Step, is_open, number};
use super::{Standing, Task};
use crate::elections::force::{Obstacle, given_up, obstacle};
use crate::elections::handover;

/// The most that the record keeps of the reason.
const REASON_MAX: usize = 1_000;

pub(super) fn step(
    request: &RocketOperation,
    status: &mut OperationStatus,
    seen: &Seen<'_>,
) -> Step {
    let spec = &request.spec;
    let (Some(index), Some(name), Some(at), Some(who)) =
        (spec.group, &spec.to, spec.epoch, &spec.requested_by)
    else {
        return Step::Never(
            "it lacks one of group, to, epoch and requestedBy: make another request".to_owned(),
        );
    };
    let (state, standing) = match seen.electing(index) {
        Ok(known) => known,
        Err(step) => return step,
    };
    if let Some(begun) = status.epoch
        && number(state.epoch) > begun
    {
        return moved(name, begun, &state, standing);
    }
    let Some(to) = handover::replica_of(&state, name) else {
        return Step::Wait(format!("{name} is not registered with its group"));
    };
    let at = Epoch(u64::try_from(at).unwrap_or_default());
    match obstacle(&state, &standing.reports, to, at) {
        Some(Obstacle::Yet(why)) => return Step::Wait(why),
        Some(Obstacle::Never(why)) => return Step::Never(why),
        None => {}
    }
    let master = state
        .master
        .map(|master| handover::pod(&state, master.replica_id));
    status.target = format!("{} -> {name}", master.as_deref().unwrap_or("nobody"));
    (status.from, status.to) = (master, Some(name.clone()));
    status.epoch = Some(number(state.epoch));
    let lost = lost(&state, standing, to);
    let mut reason = format!(
        "{who} chose {name} by RocketOperation {} of {}; given up with what they had: {lost}",
        request.name_any(),
        request
            .creation_timestamp()
            .map_or_else(String::new, |made| made.0.to_string()),
    );
    reason.truncate(reason.floor_char_boundary(REASON_MAX));
    let task = Task::Force { to, at, reason };
    let message = format!("electing {name} by the decision of {who}; given up: {lost}");
    Step::Act(Effect { index, task }, message)
}

/// Pods of the replicas that are given up.
fn lost(state: &State, standing: &Standing, to: ReplicaId) -> String {
    let ids = given_up(state, &standing.reports, to);
    let pods: Vec<String> = ids.into_iter().map(|id| handover::pod(state, id)).collect();
    if pods.is_empty() {
        "nobody".to_owned()
    } else {
        pods.join(", ")
    }
}

/// The group is in a later epoch than the one that the person looked at.
fn moved(name: &str, begun: i64, state: &State, standing: &Standing) -> Step {
    let epoch = state.epoch;
    let chosen = state.unclean.iter().find(|unclean| {
        number(unclean.epoch) > begun && handover::pod(state, unclean.chosen.replica_id) == name
    });
    let Some(chosen) = chosen else {
        return Step::Never(format!(
            "the group is in epoch {epoch} by another election: look again at who is master (`kubectl get rbg`)"
        ));
    };
    let is_past = chosen.epoch < epoch;
    if !is_past && !is_open(state, standing) {
        return Step::Going(format!(
            "{name} is elected in epoch {epoch} and has not opened for writes yet"
        ));
    }
    Step::Done(format!(
        "{name} was elected in epoch {}; whatever was acknowledged beyond physical offset {} is lost",
        chosen.epoch, chosen.kept_end
    ))
}

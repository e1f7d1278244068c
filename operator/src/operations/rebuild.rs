//! `Rebuild`: a person decides that the record of a group, which is lost or must not be obeyed, is made anew from what all its
//! replicas hold (docs/replication.md §8.16). Loud, and this request is kept until a person deletes it.
//!
//! It waits until every replica whose volume exists has told what it holds. Then one write makes the record, in which nobody is
//! master; the replicas register, a master that still runs steps down with that, and one of them is elected (§8.14).

use kube::ResourceExt;
use rocket_api::{GroupRule, OperationStatus, RocketOperation};
use rocket_coordinator::kubernetes::{BadStatus, state_of};
use rocket_replication::identity::{GroupUid, Proposal};
use rocket_replication::state::State;

use super::decide::{Effect, Seen, Step, number};
use super::{Standing, Task};
use crate::elections::force::Obstacle;
use crate::elections::{handover, rebuild};
use crate::volumes;

pub(super) fn step(
    request: &RocketOperation,
    status: &mut OperationStatus,
    seen: &Seen<'_>,
) -> Step {
    let (Some(index), Some(who)) = (request.spec.group, &request.spec.requested_by) else {
        return Step::Never("it lacks group or requestedBy: make another request".to_owned());
    };
    let name = seen.names.group(index);
    let Some(group) = seen.observed.groups.get(&name) else {
        return Step::Wait(format!(
            "there is no RocketBrokerGroup {name}: the operator makes the object, unless spec.paused of the RocketCluster is true or its specification is refused"
        ));
    };
    let rule = group.status.as_ref().map(|state| state.rule);
    if rule == Some(GroupRule::Static) {
        return Step::Never(format!(
            "the master of group {index} is fixed and its record says nothing that a replica does not know: this is for groups that elect"
        ));
    }
    let standing = seen.standings.get(&index);
    match state_of(group) {
        Ok(state) => return recorded(index, status, &state, standing),
        Err(BadStatus::Missing) => {}
        Err(error) => {
            return discard(index, &format!("the record cannot be obeyed ({error})"));
        }
    }
    let Some(standing) = standing else {
        return Step::Wait(format!(
            "the replicas of group {index} were not asked yet what they hold"
        ));
    };
    let volumes = volumes::expected(seen.names, index, seen.observed);
    // Only to see whether it can be made: the elector makes it, from what it asks then.
    let planned = rebuild::plan(
        State::new(GroupUid(0), 1, Proposal(0)),
        &volumes,
        &standing.survey,
        |pod| seen.observed.pod(pod).is_some(),
        str::to_owned,
    );
    let state = match planned {
        Ok(state) => state,
        Err(Obstacle::Yet(why)) => return Step::Wait(why),
        Err(Obstacle::Never(why)) => return Step::Never(why),
    };
    status.epoch = Some(number(state.epoch));
    status.progress = Some(format!("{0}/{0}", volumes.len()));
    let reason = format!(
        "{who} decided so by RocketOperation {} of {}",
        request.name_any(),
        request
            .creation_timestamp()
            .map_or_else(String::new, |made| made.0.to_string()),
    );
    let message = format!(
        "all have told what they hold: making the record anew in epoch {}",
        state.epoch
    );
    let task = Task::Rebuild { volumes, reason };
    Step::Act(Effect { index, task }, message)
}

/// There is a record that can be read: it was made by this request, or there is nothing to do, or it went back.
fn recorded(
    index: i32,
    status: &OperationStatus,
    state: &State,
    standing: Option<&Standing>,
) -> Step {
    let epoch = number(state.epoch);
    if let Some(begun) = status.epoch.filter(|begun| epoch >= *begun) {
        let opened = state.activated.map(|opened| opened.epoch);
        let master = state.master.filter(|_| opened == Some(state.epoch));
        let replicas = state.replicas.len();
        return match master {
            Some(master) => Step::Done(format!(
                "the record was made anew in epoch {begun}, and {} is master in epoch {epoch} of {replicas} replicas",
                handover::pod(state, master.replica_id)
            )),
            None => Step::Going(format!(
                "the record was made anew in epoch {begun}; its {replicas} replicas register, and the one that has the most is elected"
            )),
        };
    }
    let reports = standing.iter().flat_map(|standing| &standing.reports);
    let newest = reports.map(|report| report.version).max();
    if let Some(newest) = newest.filter(|newest| *newest > state.version) {
        let version = state.version;
        let why = format!("the record is of version {version}, and a replica has seen {newest}");
        return discard(index, &why);
    }
    Step::Never(format!(
        "the record of group {index} is usable, in epoch {epoch} and version {}, and nobody who answers knows a newer one: nothing was done",
        state.version
    ))
}

fn discard(index: i32, why: &str) -> Step {
    let task = Task::Discard;
    Step::Act(
        Effect { index, task },
        format!("{why}: taking it away, so that it can be made anew"),
    )
}

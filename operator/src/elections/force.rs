//! A person's choice of a replica (docs/replication.md §8.14): when it may be carried out at all. Pure.
//!
//! It is the one way in which acknowledged messages can be lost by a decision, so everything that makes it needless stands in its
//! way: a master that answers, a replica that has everything and answers, a record that moved on since the person looked.

use std::collections::BTreeSet;

use rocket_replication::identity::{Epoch, ReplicaId};
use rocket_replication::messages::{Report, RoleName};
use rocket_replication::state::State;

use super::handover::pod;

/// Why a choice is not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// It may pass.
    Yet(String),
    /// Somebody has to look again.
    Never(String),
}

/// Why `to` is not elected now by the decision of a person who looked at epoch `at`.
pub fn obstacle(state: &State, reports: &[Report], to: ReplicaId, at: Epoch) -> Option<Obstacle> {
    let name = pod(state, to);
    if state.epoch != at {
        return Some(Obstacle::Never(format!(
            "the group is in epoch {} and the request was made for epoch {at}: look again at who has what, and make another request if it is still wanted",
            state.epoch
        )));
    }
    if state.last_complete.is_empty() {
        return Some(Obstacle::Never(
            "nothing was ever acknowledged in this group: its first master is elected by itself"
                .to_owned(),
        ));
    }
    let able =
        |report: &&Report| report.role != RoleName::Halted && state.is_current(report.member);
    let mut answers = reports.iter().filter(able);
    if let Some(master) = state.master
        && answers.clone().any(|report| report.member == master)
    {
        let master = pod(state, master.replica_id);
        return Some(Obstacle::Never(format!(
            "{master} is master and answers: a Switchover loses nothing"
        )));
    }
    // One that is damaged is never elected by itself (§8.15).
    let complete = answers.clone().find(|report| {
        let replica = state.replicas.get(&report.member.replica_id);
        let is_usable = replica.is_some_and(|replica| !replica.cordoned) && !report.damaged;
        state.is_complete(report.member) && is_usable
    });
    if let Some(report) = complete {
        let complete = pod(state, report.member.replica_id);
        return Some(Obstacle::Yet(format!(
            "{complete} has everything that was acknowledged and answers: it is elected by itself"
        )));
    }
    let Some(replica) = state.replicas.get(&to) else {
        return Some(Obstacle::Yet(format!(
            "{name} is not registered with its group"
        )));
    };
    if replica.lost || replica.cordoned {
        return Some(Obstacle::Never(format!(
            "{name} may not become master: it is cordoned or lost"
        )));
    }
    let does_answer = answers.any(|report| report.member.replica_id == to);
    (!does_answer).then(|| {
        Obstacle::Yet(format!(
            "{name} does not answer the operator, or has halted"
        ))
    })
}

/// Replicas that may have more than `to` and are given up with this choice: those that were complete and do not answer.
pub fn given_up(state: &State, reports: &[Report], to: ReplicaId) -> BTreeSet<ReplicaId> {
    let missing = state.last_complete.iter().filter(|id| {
        let answers = reports
            .iter()
            .any(|report| state.is_current(report.member) && report.member.replica_id == **id);
        let is_lost = state.replicas.get(id).is_some_and(|replica| replica.lost);
        **id != to && !answers && !is_lost
    });
    missing.copied().collect()
}

#[cfg(test)]
mod tests {
    use rocket_replication::memory::{group, member};
    use rocket_replication::{PhysicalOffset, Version};

    use super::*;

    /// Three replicas; 1 is master and all that is complete, 2 and 3 lag.
    fn reports(ids: &[u32]) -> Vec<Report> {
        let report = |id: &u32| Report {
            member: member(*id),
            role: RoleName::Idle,
            max_epoch: Epoch(1),
            last: None,
            log_end: PhysicalOffset(100),
            durable_end: PhysicalOffset(100),
            confirm: PhysicalOffset(100),
            version: Version(1),
            master_linked: false,
            damaged: false,
        };
        ids.iter().map(report).collect()
    }

    fn never(obstacle: Option<Obstacle>, sentence: &str) {
        match obstacle {
            Some(Obstacle::Never(said)) => assert!(said.contains(sentence), "{said}"),
            other => panic!("{other:?} is not {sentence:?}"),
        }
    }

    fn yet(obstacle: Option<Obstacle>, sentence: &str) {
        match obstacle {
            Some(Obstacle::Yet(said)) => assert!(said.contains(sentence), "{said}"),
            other => panic!("{other:?} is not {sentence:?}"),
        }
    }

    /// It is waited for and never elected, so it must not stand in the way of a person's choice; it may be chosen, too.
    #[test]
    fn damaged_replica_that_has_everything_keeps_nobody_from_a_choice() {
        let mut state = group(3);
        state.eligible = [member(2)].into();
        state.last_complete = [ReplicaId(1), ReplicaId(2)].into();
        let mut reports = reports(&[2, 3]);
        let ask = |reports: &[Report], to| obstacle(&state, reports, ReplicaId(to), Epoch(1));
        yet(ask(&reports, 3), "it is elected by itself");
        reports[0].damaged = true;
        assert_eq!((ask(&reports, 2), ask(&reports, 3)), (None, None));
    }

    #[test]
    fn choice_is_carried_out_only_when_nothing_better_is_left() {
        let state = group(3);
        let ask = |ids: &[u32], to, at| obstacle(&state, &reports(ids), ReplicaId(to), Epoch(at));
        assert_eq!(ask(&[2, 3], 2, 1), None);
        never(
            ask(&[2, 3], 2, 4),
            "in epoch 1 and the request was made for epoch 4",
        );
        never(ask(&[1, 2, 3], 2, 1), "a Switchover loses nothing");
        yet(ask(&[3], 2, 1), "orders-0-1 does not answer");
        yet(ask(&[2, 3], 8, 1), "not registered");
        let mut spared = state.clone();
        spared.master = None;
        spared.in_sync = [3].map(member).into();
        let answers = reports(&[2, 3]);
        yet(
            obstacle(&spared, &answers, ReplicaId(2), Epoch(1)),
            "orders-0-2 has everything",
        );
        let mut lost = state.clone();
        lost.replicas.get_mut(&ReplicaId(2)).unwrap().lost = true;
        never(
            obstacle(&lost, &answers, ReplicaId(2), Epoch(1)),
            "cordoned or lost",
        );
        let mut fresh = state.clone();
        fresh.last_complete.clear();
        never(
            obstacle(&fresh, &answers, ReplicaId(2), Epoch(1)),
            "elected by itself",
        );
    }

    #[test]
    fn run_of_a_replica_that_is_not_the_recorded_one_counts_for_nothing() {
        let mut state = group(3);
        let restarted = state.replicas.get_mut(&ReplicaId(2)).unwrap();
        restarted.incarnation = rocket_replication::Incarnation(77);
        let answers = reports(&[2, 3]);
        yet(
            obstacle(&state, &answers, ReplicaId(2), Epoch(1)),
            "does not answer",
        );
        assert_eq!(
            given_up(&state, &answers, ReplicaId(3)),
            [ReplicaId(1)].into()
        );
    }
}

//! The elector's decision (§8.10, §8.14): from the object, the reports that came, and what is suspected, to the one write
//! that it may try. It keeps nothing between tries and is trusted with nothing beyond its compare-and-set (P6).

use std::cmp::Reverse;
use std::collections::BTreeSet;

use rocket_protocol::ids::PhysicalOffset;

use crate::identity::{Epoch, Member, Proposal, ReplicaId};
use crate::messages::{Report, RoleName};
use crate::mutations::{Mutant, Mutations};
use crate::state::State;

/// What an elector goes by, besides the object.
#[derive(Clone, Debug, Default)]
pub struct Circumstances<'a> {
    /// The reports that came so far.
    pub reports: &'a [Report],
    /// The master is suspected: nobody reaches it, its process ended, it is not ready.
    pub master_suspected: bool,
    /// `election_wait` is over: those who have not reported will not be waited for.
    pub waited: bool,
    /// Replicas in the order in which they are wanted among equals; others follow by id.
    pub preference: &'a [ReplicaId],
    /// A human's request to elect this replica outside S ∪ E, with the epoch at which they decided (§8.14).
    pub forced: Option<(ReplicaId, Epoch)>,
    /// How many replicas a new group shall have; the first election waits for all of them unless `waited`.
    pub expected_replicas: usize,
}

/// What the elector does next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// There is a master and nothing against it.
    Leave,
    /// More reports are needed.
    Wait,
    /// Somebody has seen a newer object: read it and start again (§8.10.2).
    StartAgain,
    /// Write this by compare-and-set over the state that was read.
    Elect(Box<State>),
    /// No safe candidate will come by itself: a human must decide (§8.14).
    NeedsHuman {
        /// The replicas in `last_complete` that did not report.
        missing: BTreeSet<ReplicaId>,
    },
}

/// §8.10 on the state read. Does nothing about a planned handover: that is the master's (§8.12).
pub fn decide(
    state: &State,
    seen: &Circumstances<'_>,
    proposal: Proposal,
    mutations: Mutations,
) -> Decision {
    if state.master.is_some() && !seen.master_suspected && seen.forced.is_none() {
        return Decision::Leave;
    }
    // §8.10.2: a report of another incarnation is of somebody else.
    let by_replica = mutations.has(Mutant::M26);
    let mut reports: Vec<&Report> = seen
        .reports
        .iter()
        .filter(|r| by_replica || state.is_current(r.member))
        .collect();
    if reports.iter().any(|r| r.version > state.version) {
        return Decision::StartAgain;
    }
    // A halted replica would never open; it has to start again first.
    reports.retain(|r| {
        let replica = state.replicas.get(&r.member.replica_id);
        r.role != RoleName::Halted && replica.is_some_and(|x| !x.cordoned && !x.lost)
    });
    let named = |r: &Report| {
        let recorded = state.member(r.member.replica_id);
        recorded.filter(|_| by_replica).unwrap_or(r.member)
    };
    let reporters: BTreeSet<Member> = reports.iter().map(|r| named(r)).collect();
    if state.complete().next().is_none() || seen.forced.is_some() {
        return outside(state, seen, &reports, proposal);
    }
    if !seen.waited && state.complete().any(|m| !reporters.contains(m)) {
        return Decision::Wait;
    }
    // §8.15: it lacks bytes that others have; it is waited for, and neither chosen nor kept in S.
    let sound: Vec<&Report> = reports.iter().filter(|r| !r.damaged).copied().collect();
    let sound_members: BTreeSet<Member> = sound.iter().map(|r| named(r)).collect();
    let among = |set: &BTreeSet<Member>| {
        best(
            sound.iter().filter(|r| set.contains(&named(r))).copied(),
            seen.preference,
        )
    };
    let mut chosen = among(&state.in_sync).or_else(|| among(&state.eligible));
    if chosen.is_none() && mutations.has(Mutant::M27) {
        chosen = best(reports.iter().copied(), seen.preference);
    }
    let Some(chosen) = chosen else {
        return Decision::Wait;
    };
    let dropped = state
        .in_sync
        .iter()
        .filter(|m| !sound_members.contains(m))
        .copied()
        .collect();
    Decision::Elect(Box::new(state.elected(
        proposal,
        named(chosen),
        &dropped,
        mutations,
    )))
}

/// §8.14: S ∪ E is empty, or a human insists.
fn outside(
    state: &State,
    seen: &Circumstances<'_>,
    reports: &[&Report],
    proposal: Proposal,
) -> Decision {
    if let Some((replica_id, at)) = seen.forced {
        let chosen = reports
            .iter()
            .find(|r| r.member.replica_id == replica_id && at == state.epoch);
        return match chosen {
            Some(r) => {
                let lost = |id: &ReplicaId| state.replicas.get(id).is_some_and(|x| x.lost);
                let answers = |id: &ReplicaId| {
                    let mut all = seen.reports.iter().map(|r| r.member);
                    all.any(|m| m.replica_id == *id && state.is_current(m))
                };
                let missing = state.last_complete.iter();
                let missing = missing.filter(|id| !lost(id) && !answers(id)).copied();
                let reason = "a human chose this replica";
                Decision::Elect(Box::new(state.elected_by_choice(
                    proposal,
                    r.member,
                    r.log_end,
                    &missing.collect(),
                    reason,
                )))
            }
            None => Decision::NeedsHuman {
                missing: BTreeSet::from([replica_id]),
            },
        };
    }
    let Some(chosen) = best(reports.iter().copied(), seen.preference) else {
        return Decision::Wait;
    };
    if state.last_complete.is_empty() && state.epoch == Epoch(0) {
        // Nothing was ever promised. Waiting for the others only avoids that an empty one is chosen over a full one.
        if reports.len() < seen.expected_replicas && !seen.waited {
            return Decision::Wait;
        }
        return Decision::Elect(Box::new(state.elected_first(proposal, chosen.member)));
    }
    let lost = |id: &ReplicaId| state.replicas.get(id).is_some_and(|r| r.lost);
    let reported = |id: &ReplicaId| reports.iter().any(|r| r.member.replica_id == *id);
    let missing: BTreeSet<ReplicaId> = state
        .last_complete
        .iter()
        .filter(|id| !lost(id) && !reported(id))
        .copied()
        .collect();
    if !missing.is_empty() {
        return if seen.waited {
            Decision::NeedsHuman { missing }
        } else {
            Decision::Wait
        };
    }
    let was_complete = |r: &&Report| state.last_complete.contains(&r.member.replica_id);
    if !reports.iter().any(was_complete) {
        return Decision::NeedsHuman {
            missing: state.last_complete.clone(),
        };
    }
    if chosen.damaged && may_a_sound_one_come(state, reports) {
        // It lacks something amid its log, and the others its end: which of them is given up is no elector's choice.
        let missing = BTreeSet::from([chosen.member.replica_id]);
        return if seen.waited {
            Decision::NeedsHuman { missing }
        } else {
            Decision::Wait
        };
    }
    // Of all, since an election may have named one that lost power after its report and left out one that lost nothing. Who is
    // the greatest has no less of what was promised than any other.
    let reason = "no complete member was left; this replica held the most of all that answered";
    Decision::Elect(Box::new(state.elected_unclean(
        proposal,
        chosen.member,
        chosen.log_end,
        reason,
    )))
}

/// Whether there is a replica of which nobody knows that its log is damaged.
fn may_a_sound_one_come(state: &State, reports: &[&Report]) -> bool {
    let is_damaged = |id: &ReplicaId| {
        let mut damaged = reports.iter().filter(|r| r.damaged);
        damaged.any(|r| r.member.replica_id == *id)
    };
    let mut replicas = state.replicas.iter();
    replicas.any(|(id, replica)| !replica.lost && !is_damaged(id))
}

/// §8.10.3: the greatest (last epoch, log end); among equals a sound one, then by preference, then the lowest id.
fn best<'a>(
    reports: impl Iterator<Item = &'a Report>,
    preference: &[ReplicaId],
) -> Option<&'a Report> {
    let rank = |id: ReplicaId| {
        preference
            .iter()
            .position(|p| *p == id)
            .unwrap_or(preference.len())
    };
    let key = |r: &Report| -> (Epoch, PhysicalOffset, Reverse<(bool, usize, ReplicaId)>) {
        let last = r.last.map_or(Epoch(0), |e| e.epoch);
        let id = r.member.replica_id;
        (last, r.log_end, Reverse((r.damaged, rank(id), id)))
    };
    reports.max_by_key(|r| key(r))
}

#[cfg(test)]
#[path = "elector_tests.rs"]
mod tests;

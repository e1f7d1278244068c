//! The static coordinator (§14): a fixed master without failover. The object is a file of the master, which serves it to its
//! slaves; here is what follows from that: whom a start of the master elects, and what a slave may write.
//!
//! The master elects itself. A start that cannot prove that it has everything (§8.2.7) looks at what its slaves have first: it
//! leads when it has as much as one of S ∪ E, which has everything that was committed. Otherwise one of S ∪ E, the *caretaker*,
//! leads until the master has copied back what it lacks, and hands the mastership over then. A caretaker opens for nobody: the
//! only process of the group that appends is that of the fixed master.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use rocket_protocol::ids::PhysicalOffset;

use crate::elector;
use crate::identity::{DiskId, Epoch, Member, Proposal, ReplicaId};
use crate::messages::{Report, RoleName};
use crate::mutations::Mutations;
use crate::state::State;

/// What the fixed master goes by, besides the object.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// What it would report itself.
    pub me: Report,
    /// What the others reported.
    pub reports: &'a [Report],
    /// Those who have not reported will not be waited for.
    pub waited: bool,
    /// Replicas that a new group begins with, this one included.
    pub expected_replicas: usize,
}

/// What the fixed master does next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Write this by compare-and-set over the state that was read.
    Elect(Box<State>),
    /// Somebody has seen a newer object: read it and start again.
    StartAgain,
    /// Nobody may lead yet.
    Wait(Hindrance),
}

/// Why nobody may lead yet.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Hindrance {
    /// The first election of a group. An empty master that waits for nobody would begin anew beside slaves that hold a log.
    #[error(
        "a new group begins when all its replicas are there: {there} of totalReplicas = {expected} have registered and answer"
    )]
    NewGroup {
        /// Those that answer, the master included.
        there: usize,
        /// Those that are waited for.
        expected: usize,
    },
    /// A slave of a new group adopted messages.
    #[error(
        "replica {0} holds messages that the master of this new group does not have: adoptMessages is for the fixed master, whose slaves begin empty"
    )]
    HeldElsewhere(ReplicaId),
    /// Those who may hold what this start cannot prove to have.
    #[error(
        "this master may have lost some of what it acknowledged, as after a power cut with ASYNC_FLUSH, and copies it back from a replica that was in sync: start one of {0:?}"
    )]
    Missing(BTreeSet<ReplicaId>),
}

/// Whom a start of the fixed master elects (§14, F1 to F4).
pub fn decide(
    state: &State,
    seen: &Circumstances<'_>,
    proposal: Proposal,
    mutations: Mutations,
) -> Step {
    let me = seen.me;
    let is_of_another = |r: &&Report| state.is_current(r.member) && r.member != me.member;
    let others: Vec<Report> = seen.reports.iter().filter(is_of_another).copied().collect();
    if !state.is_current(me.member) || others.iter().any(|r| r.version > state.version) {
        return Step::StartAgain;
    }
    let elect = |chosen: Member, dropped: &BTreeSet<Member>| {
        Step::Elect(Box::new(
            state.elected(proposal, chosen, dropped, mutations),
        ))
    };
    if state.is_complete(me.member) && !me.damaged {
        // Who of S is not there is shrunk out when the master has opened.
        return elect(me.member, &BTreeSet::new());
    }
    if state.epoch == Epoch(0) && state.last_complete.is_empty() {
        return begin(state, seen, &others, proposal);
    }
    if state.complete().next().is_none() {
        return outside(state, seen, others, proposal, mutations);
    }
    let may_lead = |r: &Report| {
        let replica = state.replicas.get(&r.member.replica_id);
        !r.damaged && r.role != RoleName::Halted && replica.is_some_and(|x| !x.cordoned && !x.lost)
    };
    let is_silent = |m: &&Member| !others.iter().any(|r| r.member == **m);
    let silent: BTreeSet<ReplicaId> = state
        .complete()
        .filter(is_silent)
        .map(|m| m.replica_id)
        .collect();
    if !silent.is_empty() && !seen.waited {
        return Step::Wait(Hindrance::Missing(silent));
    }
    let among = |set: &BTreeSet<Member>| {
        let sound = others.iter().filter(|r| set.contains(&r.member));
        sound
            .filter(|r| may_lead(r))
            .max_by_key(|r| (reach(r), Reverse(r.member.replica_id)))
    };
    let Some(best) = among(&state.in_sync).or_else(|| among(&state.eligible)) else {
        let complete = state.complete().map(|m| m.replica_id).collect();
        return Step::Wait(Hindrance::Missing(complete));
    };
    let dropped = state
        .in_sync
        .iter()
        .filter(|m| !others.iter().any(|r| r.member == **m && may_lead(r)))
        .copied()
        .collect();
    let keeps_promise = state.is_durable(me.member) || !state.promises_flushed();
    // F3. Nobody commits anything any more, and what was committed `best` has: so has this one.
    let has_all =
        state.master.is_none() && best.max_epoch >= state.epoch && reach(&me) >= reach(best);
    let chosen = if may_lead(&me) && keeps_promise && has_all {
        me.member
    } else {
        best.member
    };
    elect(chosen, &dropped)
}

/// How far a log has come. Who comes as far as another one has all that the other has of what was committed (I5).
fn reach(report: &Report) -> (Epoch, PhysicalOffset) {
    let last = report.last.map_or(Epoch(0), |entry| entry.epoch);
    (last, report.log_end)
}

/// F1: the first election of a group.
fn begin(state: &State, seen: &Circumstances<'_>, others: &[Report], proposal: Proposal) -> Step {
    let (there, expected) = (others.len() + 1, seen.expected_replicas);
    if there < expected {
        return Step::Wait(Hindrance::NewGroup { there, expected });
    }
    match others.iter().find(|r| reach(r) > reach(&seen.me)) {
        Some(more) => Step::Wait(Hindrance::HeldElsewhere(more.member.replica_id)),
        None => Step::Elect(Box::new(state.elected_first(proposal, seen.me.member))),
    }
}

/// F4: S ∪ E is empty, so §8.14 says who may go on, and writes down that it did. If that is a slave, it is a caretaker.
fn outside(
    state: &State,
    seen: &Circumstances<'_>,
    mut reports: Vec<Report>,
    proposal: Proposal,
    mutations: Mutations,
) -> Step {
    reports.push(seen.me);
    let circumstances = elector::Circumstances {
        reports: &reports,
        master_suspected: true,
        waited: seen.waited,
        preference: &[seen.me.member.replica_id],
        expected_replicas: seen.expected_replicas,
        ..elector::Circumstances::default()
    };
    match elector::decide(state, &circumstances, proposal, mutations) {
        elector::Decision::Elect(new) => Step::Elect(new),
        elector::Decision::StartAgain => Step::StartAgain,
        elector::Decision::NeedsHuman { missing } => Step::Wait(Hindrance::Missing(missing)),
        elector::Decision::Wait | elector::Decision::Leave => {
            Step::Wait(Hindrance::Missing(state.last_complete.clone()))
        }
    }
}

/// Whether the replica whose data directory is `writer` may write `new` over `old` although its process does not hold the object
/// (F5): its own entry, which may take it out of the sets but not into them; and, while it is the master as a caretaker, what a
/// master writes, of which the mastership passes only to whom the object asks for.
pub fn may_write(old: &State, new: &State, writer: DiskId) -> bool {
    let known = old.replica_of(writer).map(|(id, _)| id);
    let Some((id, _)) = new.replica_of(writer) else {
        return false;
    };
    let next = match known {
        Some(_) => old.next_replica_id,
        None => old.next_replica_id.next(),
    };
    if id != known.unwrap_or(old.next_replica_id) || new.next_replica_id != next {
        return false;
    }
    // Who shall take over is not theirs to say, though a caretaker may take it back.
    if new.handover.is_some() && new.handover != old.handover {
        return false;
    }
    let (was, is) = (old.member(id), new.member(id));
    let leads = was.is_some() && old.master == was && is == was;
    if leads && as_master(old, new) {
        return true;
    }
    own_entry(old, new, id)
}

fn as_master(old: &State, new: &State) -> bool {
    let stays = new.master == old.master && new.epoch == old.epoch;
    let asked = old.handover.and_then(|id| old.member(id));
    let passes_on = asked.is_some() && new.master == asked && new.epoch == old.epoch.next();
    let same_replicas = old.replicas.len() == new.replicas.len()
        && old.replicas.iter().all(|(id, before)| {
            new.replicas.get(id).is_some_and(|after| {
                (before.disk_id, before.incarnation, before.lost)
                    == (after.disk_id, after.incarnation, after.lost)
                    && before.address == after.address
            })
        });
    let asks_the_same = new.policy == old.policy && new.min_in_sync == old.min_in_sync;
    (stays || passes_on) && same_replicas && asks_the_same && new.unclean == old.unclean
}

fn own_entry(old: &State, new: &State, id: ReplicaId) -> bool {
    let is_own = |member: &Member| member.replica_id == id;
    let rest = |state: &State| {
        let mut rest = state.clone();
        (rest.version, rest.proposal) = (old.version, old.proposal);
        rest.next_replica_id = old.next_replica_id;
        rest.replicas.remove(&id);
        rest.in_sync.retain(|member| !is_own(member));
        rest.eligible.retain(|member| !is_own(member));
        if rest.master.as_ref().is_some_and(is_own) {
            (rest.master, rest.handover) = (None, None);
        }
        rest
    };
    let leads_anew = new.master != old.master && new.master.as_ref().is_some_and(is_own);
    let grows = |before: &BTreeSet<Member>, after: &BTreeSet<Member>| {
        after.iter().any(is_own) && !before.iter().any(is_own)
    };
    let cordoned = |state: &State| state.replicas.get(&id).is_some_and(|r| r.cordoned);
    !leads_anew
        && !grows(&old.in_sync, &new.in_sync)
        && !grows(&old.eligible, &new.eligible)
        && cordoned(old) == cordoned(new)
        && rest(old) == rest(new)
}

#[cfg(test)]
#[path = "fixed_tests.rs"]
mod tests;

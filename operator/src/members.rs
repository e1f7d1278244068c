//! Replicas that a group shall not have any more, because `groups.replicas` was lowered or their disk was replaced: what becomes of
//! their entries in its record (docs/replication.md §8.17). Pure.
//!
//! Such a replica is cordoned at once: it does not grow into S and is not elected. Its pod goes, its master shrinks it out, and when
//! nothing may need its bytes its entry goes too. Its id is never given again: should its volume come back, it is a new replica with
//! messages in it, which copies what it lacks and gives up what nobody else has. So it is with a disk whose pod has registered with
//! another one since; its entry stays while there is no master, since a person may yet bring it back for an election (§8.14).

use rocket_api::pod_of_address;
use rocket_replication::identity::{Proposal, ReplicaId};
use rocket_replication::state::{Replica, State};

use crate::names::Names;

/// What is written about one replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It leaves.
    Cordon(ReplicaId),
    /// It stays after all.
    Uncordon(ReplicaId),
    /// Its entry is taken away.
    Remove(ReplicaId),
}

impl Step {
    /// Whom it is about.
    pub fn replica_id(&self) -> ReplicaId {
        match self {
            Self::Cordon(id) | Self::Uncordon(id) | Self::Remove(id) => *id,
        }
    }

    /// The state with that done. Nothing if it may not be done.
    pub fn written(&self, state: &State, proposal: Proposal) -> Option<State> {
        match *self {
            Self::Cordon(id) => Some(state.cordoned(proposal, id, true)),
            Self::Uncordon(id) => Some(state.cordoned(proposal, id, false)),
            Self::Remove(id) => state.removed(proposal, id),
        }
    }
}

/// The next thing to write where a group shall have `replicas` of them. One whose pod is there, on the same disk, is never taken away:
/// it would register again.
pub fn next(
    state: &State,
    (index, replicas): (i32, i32),
    names: &Names,
    has_pod: impl Fn(&str) -> bool,
) -> Option<Step> {
    let leaves = |replica: &Replica| {
        let ordinal = names.ordinal(index, pod_of_address(&replica.address));
        ordinal.is_some_and(|ordinal| ordinal >= replicas)
    };
    let mut entries = state.replicas.iter();
    let other = entries.find(|(_, replica)| leaves(replica) != replica.cordoned);
    if let Some((id, replica)) = other {
        return Some(if replica.cordoned {
            Step::Uncordon(*id)
        } else {
            Step::Cordon(*id)
        });
    }
    let is_replaced = |id: ReplicaId, replica: &Replica| {
        let pod = pod_of_address(&replica.address);
        let mut later = state.replicas.iter().filter(|(other, _)| **other > id);
        state.master.is_some() && later.any(|(_, other)| pod_of_address(&other.address) == pod)
    };
    let is_over = |(id, replica): &(&ReplicaId, &Replica)| {
        let is_gone = leaves(replica) && !has_pod(pod_of_address(&replica.address));
        (is_gone || is_replaced(**id, replica)) && state.removed(Proposal(0), **id).is_some()
    };
    let over = state.replicas.iter().find(is_over);
    over.map(|(id, _)| Step::Remove(*id))
}

#[cfg(test)]
mod tests {
    use rocket_replication::memory::{group, member};
    use rocket_replication::mutations::Mutations;

    use super::*;

    fn names() -> Names {
        Names {
            cluster: "orders".into(),
            namespace: "mq".into(),
            domain: "cluster.local".into(),
        }
    }

    fn all_in_sync() -> State {
        let mut state = group(3);
        state.in_sync = [1, 2, 3].map(member).into();
        state.last_complete = [1, 2, 3].map(ReplicaId).into();
        state
    }

    fn step(state: &State, replicas: i32, pods: &[&str]) -> Option<Step> {
        next(state, (0, replicas), &names(), |pod| pods.contains(&pod))
    }

    fn write(state: &State, step: &Step) -> State {
        let new = step.written(state, Proposal(7)).unwrap();
        assert_eq!(State::check_transition(state, &new), Ok(()));
        new
    }

    #[test]
    fn replica_is_cordoned_shrunk_out_and_then_forgotten() {
        let third = ReplicaId(3);
        let pods = ["orders-0-0", "orders-0-1", "orders-0-2"];
        let mut state = all_in_sync();
        assert_eq!(step(&state, 3, &pods), None);
        let cordon = step(&state, 2, &pods).unwrap();
        assert_eq!(cordon, Step::Cordon(third));
        state = write(&state, &cordon);
        assert_eq!(step(&state, 2, &pods), None, "its pod is still there");
        assert_eq!(step(&state, 2, &pods[..2]), None, "it counts as complete");
        state = state.shrunk(Proposal(8), member(3), Mutations::default());
        assert_eq!(step(&state, 2, &pods), None, "its pod is still there");
        let remove = step(&state, 2, &pods[..2]).unwrap();
        assert_eq!(remove, Step::Remove(third));
        state = write(&state, &remove);
        assert!(!state.replicas.contains_key(&third));
        assert_eq!(
            state.next_replica_id,
            ReplicaId(4),
            "its id is not given again"
        );
        assert_eq!(step(&state, 2, &pods[..2]), None);
    }

    #[test]
    fn replica_whose_bytes_may_be_needed_stays_in_the_record() {
        let mut state = all_in_sync();
        state.min_in_sync = 3;
        state = write(&state, &Step::Cordon(ReplicaId(3)));
        // Not in S any more, but complete: nothing is committed without it.
        state = state.shrunk(Proposal(8), member(3), Mutations::default());
        assert!(state.eligible.contains(&member(3)));
        assert_eq!(step(&state, 2, &[]), None);
        // It left S ∪ E as unclean, and the others may yet lose more.
        let mut unclean = all_in_sync();
        unclean.in_sync.remove(&member(3));
        unclean = write(&unclean, &Step::Cordon(ReplicaId(3)));
        assert_eq!(step(&unclean, 2, &[]), None);
    }

    #[test]
    fn disk_that_was_replaced_is_forgotten_when_nothing_may_need_it() {
        let pods = ["orders-0-0", "orders-0-1", "orders-0-2"];
        let mut state = all_in_sync();
        let mut fresh = state.replicas[&ReplicaId(3)].clone();
        fresh.disk_id = rocket_replication::DiskId(4);
        fresh.incarnation = member(4).incarnation;
        state.replicas.insert(ReplicaId(4), fresh);
        state.next_replica_id = ReplicaId(5);
        assert_eq!(step(&state, 3, &pods), None, "it counts as complete");
        state = state.shrunk(Proposal(8), member(3), Mutations::default());
        let mut headless = state.clone();
        headless.master = None;
        assert_eq!(step(&headless, 3, &pods), None, "it may yet be elected");
        let remove = step(&state, 3, &pods).unwrap();
        assert_eq!(remove, Step::Remove(ReplicaId(3)));
        state = write(&state, &remove);
        assert_eq!(step(&state, 3, &pods), None, "the newest stays");
    }

    #[test]
    fn replica_that_stays_after_all_is_cordoned_no_longer() {
        let state = write(&all_in_sync(), &Step::Cordon(ReplicaId(3)));
        let back = step(&state, 3, &[]).unwrap();
        assert_eq!(back, Step::Uncordon(ReplicaId(3)));
        let state = write(&state, &back);
        assert_eq!(step(&state, 3, &[]), None);
    }
}

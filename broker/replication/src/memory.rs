//! The coordinator in memory (§14), with every fault of §2: for tests, the model and the simulation.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::coordinator::{Cas, CasAnswer, ReadAnswer};
use crate::identity::{DiskId, Epoch, GroupUid, Incarnation, Member, Proposal, ReplicaId};
use crate::mutations::{Mutant, Mutations};
use crate::state::{Replica, State, Violation};

/// Replica `id` as [`group`] registers it.
pub fn member(id: u32) -> Member {
    Member {
        replica_id: ReplicaId(id),
        incarnation: Incarnation(u128::from(id)),
    }
}

/// A group to begin a test with: replicas `1..=replicas` are registered, the first is the master and alone in S.
pub fn group(replicas: u32) -> State {
    let mut state = State::new(GroupUid(9), 1, Proposal(1));
    for id in 1..=replicas {
        let replica = Replica {
            disk_id: DiskId(u128::from(id)),
            incarnation: member(id).incarnation,
            address: format!("orders-0-{}.orders-0-replicas.mq.svc:10912", id - 1),
            durable: true,
            cordoned: false,
            lost: false,
        };
        state.replicas.insert(ReplicaId(id), replica);
    }
    state.next_replica_id = ReplicaId(replicas + 1);
    state.epoch = Epoch(1);
    state.master = Some(member(1));
    state.in_sync = BTreeSet::from([member(1)]);
    state.last_complete = BTreeSet::from([ReplicaId(1)]);
    state
}

/// What happens to one compare-and-set on its way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Fate {
    /// It arrives and its answer comes back.
    Answered,
    /// It arrives, its answer does not come back.
    AnswerLost,
    /// Its sender gives up; it arrives at any later time, or never.
    Late,
    /// A layer below sends it twice: it arrives, and the answer that comes back is that of the second.
    Doubled,
}

/// One register with compare-and-set.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Memory {
    state: Option<Arc<State>>,
    late: Vec<Cas>,
    mutations: Mutations,
}

impl Memory {
    /// Holds `state`.
    pub fn new(state: State, mutations: Mutations) -> Self {
        Self {
            state: Some(Arc::new(state)),
            late: Vec::new(),
            mutations,
        }
    }

    /// A current read.
    pub fn read(&self) -> ReadAnswer {
        self.state
            .clone()
            .map_or(ReadAnswer::Gone, ReadAnswer::State)
    }

    /// The object.
    pub fn state(&self) -> Option<&Arc<State>> {
        self.state.as_ref()
    }

    /// A compare-and-set with its fate. The object's own rules (W1–W7) are enforced here as the API server does.
    ///
    /// # Errors
    /// [`Violation`] when a write that would have been applied is not well-formed.
    pub fn cas(&mut self, cas: Cas, fate: Fate) -> Result<CasAnswer, Violation> {
        match fate {
            Fate::Answered => self.apply(cas),
            Fate::AnswerLost => self.apply(cas).map(|_| CasAnswer::Unknown),
            Fate::Late => {
                self.late.push(cas);
                Ok(CasAnswer::Unknown)
            }
            Fate::Doubled => {
                self.apply(cas.clone())?;
                self.apply(cas)
            }
        }
    }

    /// The writes that their senders gave up and that may still arrive.
    pub fn late(&self) -> &[Cas] {
        &self.late
    }

    /// A late write arrives.
    ///
    /// # Errors
    /// As [`Memory::cas`].
    pub fn arrive(&mut self, index: usize) -> Result<CasAnswer, Violation> {
        let cas = self.late.remove(index);
        self.apply(cas)
    }

    /// Forgets late writes that can never apply any more.
    pub fn forget_dead(&mut self) {
        let version = self.state.as_ref().map(|s| s.version);
        self.late.retain(|cas| Some(cas.expected) == version);
    }

    /// Replaces the object from outside: deleted, or restored from an old copy (§8.16).
    pub fn replace(&mut self, state: Option<State>) {
        self.state = state.map(Arc::new);
    }

    fn apply(&mut self, cas: Cas) -> Result<CasAnswer, Violation> {
        let Some(state) = self.state.as_ref().filter(|s| s.version == cas.expected) else {
            return Ok(CasAnswer::Conflict);
        };
        let broken_on_purpose = [Mutant::M2, Mutant::M8, Mutant::M9, Mutant::M39]
            .iter()
            .any(|m| self.mutations.has(*m));
        if !broken_on_purpose {
            State::check_transition(state, &cas.new)?;
        }
        let version = cas.new.version;
        self.state = Some(cas.new);
        Ok(CasAnswer::Applied(version))
    }
}

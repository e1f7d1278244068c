//! Every change that anyone ever writes to the coordinator object, as a pure function from the state read to the state to
//! write: registering (§8.3), growing (§8.8), shrinking (§8.9), electing (§8.10, §8.14), activating (§8.11), handing over
//! (§8.12), leaving (§8.15), changing m and the replicas (§8.17), the modes (§5.1).

use std::collections::BTreeSet;

use rocket_protocol::ids::PhysicalOffset;

use crate::identity::{DiskId, Epoch, GroupUid, Incarnation, Member, Proposal, ReplicaId, Version};
use crate::mutations::{Mutant, Mutations};
use crate::policy::{Flush, InForce, Policy};
use crate::recovery::Evidence;
use crate::state::{Activation, REPLICAS_MAX, Replica, State, Unclean};

/// Who registers, and what its recovery found.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Registration {
    /// The group that its directory belongs to; `None` before it first registered.
    pub group_uid: Option<GroupUid>,
    /// Its data directory.
    pub disk_id: DiskId,
    /// This run of its process.
    pub incarnation: Incarnation,
    /// Where its replication listener is found.
    pub address: String,
    /// Its acknowledgements will mean flushed bytes, and everything it holds now is flushed (§5).
    pub durable: bool,
    /// What recovery found about the bytes that its former runs acknowledged (§8.2.7).
    pub evidence: Evidence,
    /// The highest epoch it durably saw.
    pub max_epoch: Epoch,
    /// The highest version it durably saw.
    pub max_version: Version,
}

/// What registering comes to on the state read (§8.3).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Registering {
    /// This must be written.
    Write(Box<State>),
    /// The state read records this very run.
    Done(ReplicaId),
    /// The object is older than what this replica knows, or another one (§8.16).
    Forgot,
    /// The group has all the replicas that it may have.
    Full,
}

impl State {
    /// The state after this one, changed in nothing but its version.
    #[must_use]
    pub fn following(&self, proposal: Proposal) -> Self {
        Self {
            version: self.version.next(),
            proposal,
            ..self.clone()
        }
    }

    /// §8.3: `who` registers.
    pub fn registering(
        &self,
        proposal: Proposal,
        who: &Registration,
        mutations: Mutations,
    ) -> Registering {
        if self.has_forgotten(who) && !mutations.has(Mutant::M28) {
            return Registering::Forgot;
        }
        let known = if mutations.has(Mutant::M24) {
            let mut replicas = self.replicas.iter();
            let found = replicas.find(|(_, r)| r.address == who.address);
            found.map(|(id, r)| (*id, r))
        } else {
            self.replica_of(who.disk_id)
        };
        if let Some((id, _)) = known.filter(|(_, r)| r.incarnation == who.incarnation) {
            return Registering::Done(id);
        }
        let mut new = self.following(proposal);
        let fresh = Replica {
            disk_id: who.disk_id,
            incarnation: who.incarnation,
            address: who.address.clone(),
            durable: who.durable,
            cordoned: false,
            lost: false,
        };
        let Some((replica_id, recorded)) = known else {
            if self.replicas.len() >= REPLICAS_MAX {
                return Registering::Full;
            }
            new.replicas.insert(self.next_replica_id, fresh);
            new.next_replica_id = self.next_replica_id.next();
            return Registering::Write(Box::new(new));
        };
        let old = Member {
            replica_id,
            incarnation: recorded.incarnation,
        };
        let heir = Member {
            replica_id,
            incarnation: who.incarnation,
        };
        new.replicas.insert(
            replica_id,
            Replica {
                cordoned: recorded.cordoned,
                ..fresh
            },
        );
        // N2: a restarted master is never master in its old epoch.
        if new.master == Some(old) {
            new.master = mutations.has(Mutant::M2).then_some(heir);
            new.handover = None;
        }
        let entitled = who
            .evidence
            .is_entitled(recorded.incarnation, recorded.durable, mutations)
            || mutations.has(Mutant::M7);
        for set in [&mut new.in_sync, &mut new.eligible] {
            if set.remove(&old) && entitled {
                set.insert(heir);
            }
        }
        Registering::Write(Box::new(new))
    }

    /// §8.3.1, §8.16: whether this object is not the one that `who` knows. A re-created object is adopted only together
    /// with an epoch above everything that was seen, and only if it names this disk.
    pub(crate) fn has_forgotten(&self, who: &Registration) -> bool {
        match who.group_uid {
            Some(uid) if uid != self.group_uid => {
                self.epoch <= who.max_epoch
                    || self.version <= who.max_version
                    || self.replica_of(who.disk_id).is_none()
            }
            _ => self.epoch < who.max_epoch || self.version < who.max_version,
        }
    }

    /// §8.8: `learner` grows into S.
    #[must_use]
    pub fn grown(&self, proposal: Proposal, learner: Member, mutations: Mutations) -> Self {
        let mut new = self.following(proposal);
        new.in_sync.insert(learner);
        new.eligible.remove(&learner);
        if new.in_sync.len() >= usize::from(new.min_in_sync) && !mutations.has(Mutant::M8) {
            new.eligible.clear();
        }
        new.complete_now()
    }

    /// §8.9: `member` leaves S, and stays electable while nothing can be committed without it.
    #[must_use]
    pub fn shrunk(&self, proposal: Proposal, member: Member, mutations: Mutations) -> Self {
        let mut new = self.following(proposal);
        new.in_sync.remove(&member);
        if new.in_sync.len() < usize::from(new.min_in_sync) {
            new.eligible.insert(member);
        } else if !mutations.has(Mutant::M8) {
            new.eligible.clear();
        }
        new.complete_now()
    }

    /// §8.10.4: `chosen`, a member of S ∪ E, becomes master; `dropped` are members of S believed dead.
    #[must_use]
    pub fn elected(
        &self,
        proposal: Proposal,
        chosen: Member,
        dropped: &BTreeSet<Member>,
        mutations: Mutations,
    ) -> Self {
        let mut new = self.following(proposal);
        new.epoch = self.epoch.next();
        new.master = Some(chosen);
        new.in_sync.insert(chosen);
        new.in_sync.retain(|m| *m == chosen || !dropped.contains(m));
        new.eligible.clear();
        if new.in_sync.len() < usize::from(new.min_in_sync) || mutations.has(Mutant::M8) {
            new.eligible = self
                .complete()
                .filter(|m| !new.in_sync.contains(*m))
                .copied()
                .collect();
        }
        new.activated = None;
        new.handover = None;
        new.complete_now()
    }

    /// §8.14: `chosen`, from outside S ∪ E, becomes master of what it still has, and the list of such elections says so.
    #[must_use]
    pub fn elected_unclean(
        &self,
        proposal: Proposal,
        chosen: Member,
        kept_end: PhysicalOffset,
        reason: &str,
    ) -> Self {
        let mut new = self.elected_first(proposal, chosen);
        new.unclean.push(Unclean {
            epoch: new.epoch,
            chosen,
            kept_end,
            reason: reason.to_owned(),
        });
        new
    }

    /// §8.14: the same by a person's decision, who gives up the bytes of `lost` with it: they can come back only as learners.
    #[must_use]
    pub fn elected_by_choice(
        &self,
        proposal: Proposal,
        chosen: Member,
        kept_end: PhysicalOffset,
        lost: &BTreeSet<ReplicaId>,
        reason: &str,
    ) -> Self {
        let mut new = self.elected_unclean(proposal, chosen, kept_end, reason);
        for (id, replica) in &mut new.replicas {
            replica.lost |= lost.contains(id) && *id != chosen.replica_id;
        }
        new
    }

    /// The first election of a group in which nothing was ever promised: nothing can be lost, so nothing is recorded.
    #[must_use]
    pub fn elected_first(&self, proposal: Proposal, chosen: Member) -> Self {
        let mut new = self.following(proposal);
        new.epoch = self.epoch.next();
        new.master = Some(chosen);
        new.in_sync = BTreeSet::from([chosen]);
        new.eligible.clear();
        new.activated = None;
        new.handover = None;
        // W8: what this one acknowledged may be unflushed; it says otherwise when it is not.
        if let Some(said) = new.in_force.as_mut().filter(|_| !self.is_durable(chosen)) {
            said.flush = Flush::Async;
        }
        new.complete_now()
    }

    /// §8.11.3: the master opens its epoch.
    #[must_use]
    pub fn opened(&self, proposal: Proposal, activation: Activation) -> Self {
        Self {
            activated: Some(activation),
            ..self.following(proposal)
        }
    }

    /// §8.12: somebody asks the master to hand over to `replica_id`, or takes that back.
    #[must_use]
    pub fn handover_asked(&self, proposal: Proposal, replica_id: Option<ReplicaId>) -> Self {
        Self {
            handover: replica_id,
            ..self.following(proposal)
        }
    }

    /// §8.12: the master itself names its successor; S is unchanged.
    #[must_use]
    pub fn handed_over(&self, proposal: Proposal, successor: Member) -> Self {
        Self {
            epoch: self.epoch.next(),
            master: Some(successor),
            activated: None,
            handover: None,
            ..self.following(proposal)
        }
    }

    /// §8.15: a member whose disk failed takes itself out.
    #[must_use]
    pub fn left(&self, proposal: Proposal, member: Member) -> Self {
        let mut new = self.following(proposal);
        new.in_sync.remove(&member);
        new.eligible.remove(&member);
        if new.master == Some(member) {
            new.master = None;
            new.handover = None;
        }
        new
    }

    /// §8.14: a human gives up the bytes of a replica.
    #[must_use]
    pub fn given_up(&self, proposal: Proposal, replica_id: ReplicaId) -> Self {
        let mut new = match self.member(replica_id) {
            Some(member) => self.left(proposal, member),
            None => self.following(proposal),
        };
        if let Some(replica) = new.replicas.get_mut(&replica_id) {
            replica.lost = true;
        }
        new
    }

    /// §8.17: another m. Lowering it empties E: with the smaller m the master may commit without its members. `last_complete`
    /// stays: it may hold a replica that registered as unclean since, whose bytes §8.14 needs (§8.3.3).
    #[must_use]
    pub fn with_min_in_sync(
        &self,
        proposal: Proposal,
        min_in_sync: u8,
        mutations: Mutations,
    ) -> Self {
        let mut new = self.following(proposal);
        if min_in_sync < self.min_in_sync && !mutations.has(Mutant::M9) {
            new.eligible.clear();
        }
        new.min_in_sync = min_in_sync;
        new
    }

    /// §5.1: other modes are asked for. They are in force when the master says so.
    #[must_use]
    pub fn with_policy(&self, proposal: Proposal, policy: Policy) -> Self {
        Self {
            policy: Some(policy),
            ..self.following(proposal)
        }
    }

    /// §5.1: the master says what is in force.
    #[must_use]
    pub fn with_in_force(&self, proposal: Proposal, in_force: InForce) -> Self {
        Self {
            in_force: Some(in_force),
            ..self.following(proposal)
        }
    }

    /// §5: what the acknowledgements of these replicas mean from here on.
    #[must_use]
    pub fn with_durable(
        &self,
        proposal: Proposal,
        replicas: &BTreeSet<ReplicaId>,
        durable: bool,
    ) -> Self {
        let mut new = self.following(proposal);
        for (id, replica) in &mut new.replicas {
            if replicas.contains(id) {
                replica.durable = durable;
            }
        }
        new
    }

    /// §8.17: a replica must not grow into S nor be elected, or may again.
    #[must_use]
    pub fn cordoned(&self, proposal: Proposal, replica_id: ReplicaId, cordoned: bool) -> Self {
        let mut new = self.following(proposal);
        if let Some(replica) = new.replicas.get_mut(&replica_id) {
            replica.cordoned = cordoned;
        }
        new
    }

    /// §8.17: the entry of a replica that is in no set any more. `None` while it is (W6), while its bytes may be needed, or while it is
    /// asked to become master.
    pub fn removed(&self, proposal: Proposal, replica_id: ReplicaId) -> Option<Self> {
        if self.last_complete.contains(&replica_id) || self.handover == Some(replica_id) {
            return None;
        }
        let mut new = self.following(proposal);
        new.replicas.remove(&replica_id)?;
        Some(new)
    }

    /// `last_complete` is the ids of S ∪ E whenever that is not empty (§4.3).
    fn complete_now(mut self) -> Self {
        let ids: BTreeSet<ReplicaId> = self.complete().map(|m| m.replica_id).collect();
        if !ids.is_empty() {
            self.last_complete = ids;
        }
        self
    }
}

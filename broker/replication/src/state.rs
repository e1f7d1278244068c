//! The coordinator object of one group (§4.3) and what makes a change of it well-formed (W1–W7).
//!
//! In JSON it is what the group object's status holds: camelCase names, identities as hexadecimal strings, sets as arrays.
//! Every writer checks [`State::check_transition`] before it writes; the object's own validation rules check the same again.

use std::collections::{BTreeMap, BTreeSet};

use rocket_protocol::ids::PhysicalOffset;
use serde::{Deserialize, Serialize};

use crate::identity::{DiskId, Epoch, GroupUid, Incarnation, Member, Proposal, ReplicaId, Version};
use crate::policy::{Flush, InForce, Policy};

/// The format number that this code reads and writes.
pub const FORMAT: u32 = 1;

/// The most replicas that a group may have: bounds every set and map of the object.
pub const REPLICAS_MAX: usize = 32;

/// The coordinator object (§4.3).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Version of this layout, [`FORMAT`].
    pub format: u32,
    /// Identity of the object.
    pub group_uid: GroupUid,
    /// Number of changes so far.
    pub version: Version,
    /// Identity of the write that made this version (C1).
    pub proposal: Proposal,
    /// Number of the present mastership.
    pub epoch: Epoch,
    /// Who takes writes; `None` waits for an election.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<Member>,
    /// S: every committed byte waits for all of these.
    #[serde(default)]
    pub in_sync: BTreeSet<Member>,
    /// E: complete, but not needed for commits (§8.9).
    #[serde(default)]
    pub eligible: BTreeSet<Member>,
    /// m: no commit with fewer copies; at least 1.
    pub min_in_sync: u8,
    /// The modes that are asked for (§5.1). `None`: each replica's configuration says them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// The modes, and m, of which a master has said that they are in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_force: Option<InForce>,
    /// All replicas that ever registered and were not removed.
    #[serde(default)]
    pub replicas: BTreeMap<ReplicaId, Replica>,
    /// The id of the next disk that registers; ids are never given twice.
    pub next_replica_id: ReplicaId,
    /// Ids of S ∪ E when that was last not empty, and of those that left it by registering unclean since.
    #[serde(default)]
    pub last_complete: BTreeSet<ReplicaId>,
    /// Written by the master when it opens for writes (§8.11).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activated: Option<Activation>,
    /// The replica that shall become master by a planned handover (§8.12).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handover: Option<ReplicaId>,
    /// Every election outside S ∪ E, kept for ever (P4).
    #[serde(default)]
    pub unclean: Vec<Unclean>,
}

/// What the object records of one replica.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Replica {
    /// Its data directory.
    pub disk_id: DiskId,
    /// The run of its process that registered last.
    pub incarnation: Incarnation,
    /// Where its replication listener is found, as `host:port`. Never an identity.
    pub address: String,
    /// Its acknowledgements mean flushed bytes (§5).
    pub durable: bool,
    /// It must not grow into S nor be elected.
    #[serde(default)]
    pub cordoned: bool,
    /// A human gave its bytes up: it can come back only as a learner (§8.14).
    #[serde(default)]
    pub lost: bool,
}

/// The master's own mark that it opened in an epoch (§8.11.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Activation {
    /// The epoch that was opened.
    pub epoch: Epoch,
    /// Where its bytes start in the log.
    pub start_offset: PhysicalOffset,
}

/// One election outside S ∪ E (§8.14).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unclean {
    /// The epoch that it began.
    pub epoch: Epoch,
    /// The member that was elected.
    pub chosen: Member,
    /// How far its log reached: what lay beyond may be lost.
    pub kept_end: PhysicalOffset,
    /// Why, in words for people.
    pub reason: String,
}

/// A state or a change of it that must never be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The layout is of another version.
    #[error("the format number is not one that this program writes")]
    Format,
    /// The object's identity changed.
    #[error("the group uid changed")]
    GroupUid,
    /// W1.
    #[error("W1: epoch, version or next replica id fell, or the version did not grow by exactly 1")]
    W1,
    /// W2.
    #[error("W2: a new master without a new epoch")]
    W2,
    /// W3.
    #[error("W3: the master is not in the in-sync set")]
    W3,
    /// W4.
    #[error("W4: a member of the sets is unknown, has another incarnation, or is lost")]
    W4,
    /// W5.
    #[error("W5: in-sync and eligible overlap, or eligible is used although enough are in sync")]
    W5,
    /// W6.
    #[error("W6: a member of the sets is missing in lastComplete")]
    W6,
    /// W7.
    #[error("W7: an entry of the unclean list vanished or changed")]
    W7,
    /// W8.
    #[error("W8: flush Sync is said to be in force although a member of the sets is not durable")]
    W8,
    /// W9.
    #[error("W9: modes that were asked for, or in force, vanished")]
    W9,
    /// `min_in_sync` must be at least 1.
    #[error("minInSync is 0")]
    MinInSync,
    /// More than [`REPLICAS_MAX`].
    #[error("more replicas than a group may have")]
    TooMany,
}

impl State {
    /// The object as the operator creates it: nobody registered, nobody master, nothing promised.
    pub fn new(group_uid: GroupUid, min_in_sync: u8, proposal: Proposal) -> Self {
        Self {
            format: FORMAT,
            group_uid,
            version: Version(1),
            proposal,
            epoch: Epoch(0),
            master: None,
            in_sync: BTreeSet::new(),
            eligible: BTreeSet::new(),
            min_in_sync: min_in_sync.max(1),
            policy: None,
            in_force: None,
            replicas: BTreeMap::new(),
            next_replica_id: ReplicaId(1),
            last_complete: BTreeSet::new(),
            activated: None,
            handover: None,
            unclean: Vec::new(),
        }
    }

    /// The first state of a group that begins with these modes: nothing was promised yet, so they are in force.
    #[must_use]
    pub fn begun_with(self, policy: Policy) -> Self {
        let in_force = InForce {
            flush: policy.flush,
            replication: policy.replication,
            since: self.epoch,
            min_in_sync: self.min_in_sync,
        };
        Self {
            policy: Some(policy),
            in_force: Some(in_force),
            ..self
        }
    }

    /// The rules that one state alone must meet: W3–W6, W8, and the bounds.
    pub fn check(&self) -> Result<(), Violation> {
        let rule = |holds: bool, violation| if holds { Ok(()) } else { Err(violation) };
        rule(self.format == FORMAT, Violation::Format)?;
        rule(self.min_in_sync >= 1, Violation::MinInSync)?;
        rule(self.replicas.len() <= REPLICAS_MAX, Violation::TooMany)?;
        rule(
            self.master.is_none_or(|m| self.in_sync.contains(&m)),
            Violation::W3,
        )?;
        rule(
            self.complete()
                .all(|m| self.is_current(*m) && !self.is_lost(m.replica_id)),
            Violation::W4,
        )?;
        let enough = self.in_sync.len() >= usize::from(self.min_in_sync);
        rule(
            self.in_sync.is_disjoint(&self.eligible) && (self.eligible.is_empty() || !enough),
            Violation::W5,
        )?;
        rule(
            self.complete()
                .all(|m| self.last_complete.contains(&m.replica_id)),
            Violation::W6,
        )?;
        rule(
            !self.promises_flushed() || self.are_complete_durable(),
            Violation::W8,
        )
    }

    /// Whether `new` may be written over `old`: W1–W9.
    pub fn check_transition(old: &State, new: &State) -> Result<(), Violation> {
        let rule = |holds: bool, violation| if holds { Ok(()) } else { Err(violation) };
        new.check()?;
        rule(new.group_uid == old.group_uid, Violation::GroupUid)?;
        rule(new.version == old.version.next(), Violation::W1)?;
        rule(
            new.epoch >= old.epoch && new.next_replica_id >= old.next_replica_id,
            Violation::W1,
        )?;
        let new_master = new.master.is_some() && new.master != old.master;
        rule(!new_master || new.epoch > old.epoch, Violation::W2)?;
        rule(new.unclean.starts_with(&old.unclean), Violation::W7)?;
        rule(
            (old.policy.is_none() || new.policy.is_some())
                && (old.in_force.is_none() || new.in_force.is_some()),
            Violation::W9,
        )
    }

    /// Whether flush `Sync` is said to be in force.
    pub fn promises_flushed(&self) -> bool {
        self.in_force.is_some_and(|said| said.flush == Flush::Sync)
    }

    /// Whether the acknowledgements of every member of S ∪ E mean flushed bytes.
    pub fn are_complete_durable(&self) -> bool {
        self.complete().all(|member| self.is_durable(*member))
    }

    /// Whether the acknowledgements of `member` mean flushed bytes.
    pub fn is_durable(&self, member: Member) -> bool {
        let replica = self.replicas.get(&member.replica_id);
        replica.is_some_and(|r| r.incarnation == member.incarnation && r.durable)
    }

    /// The members of S ∪ E.
    pub fn complete(&self) -> impl Iterator<Item = &Member> {
        self.in_sync.iter().chain(&self.eligible)
    }

    /// Whether `member` is in S or in E.
    pub fn is_complete(&self, member: Member) -> bool {
        self.in_sync.contains(&member) || self.eligible.contains(&member)
    }

    /// Whether `member` is the run of its replica that the object records.
    pub fn is_current(&self, member: Member) -> bool {
        self.replicas
            .get(&member.replica_id)
            .is_some_and(|r| r.incarnation == member.incarnation)
    }

    /// The member that the object records for a replica.
    pub fn member(&self, replica_id: ReplicaId) -> Option<Member> {
        let incarnation = self.replicas.get(&replica_id)?.incarnation;
        Some(Member {
            replica_id,
            incarnation,
        })
    }

    /// The replica whose data directory is `disk_id`.
    pub fn replica_of(&self, disk_id: DiskId) -> Option<(ReplicaId, &Replica)> {
        self.replicas
            .iter()
            .find(|(_, r)| r.disk_id == disk_id)
            .map(|(id, r)| (*id, r))
    }

    /// The newest epoch of the unclean list.
    pub fn unclean_last(&self) -> Option<Epoch> {
        self.unclean.iter().map(|u| u.epoch).max()
    }

    fn is_lost(&self, replica_id: ReplicaId) -> bool {
        self.replicas.get(&replica_id).is_some_and(|r| r.lost)
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;

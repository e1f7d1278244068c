//! The commit rule (§8.7): how far the log is held by everyone who could become the next master.
//!
//! The master keeps `Possible`, the sets that the coordinator object may contain as far as it can know: that of the last
//! state it read or wrote, and those of its own writes that may still land. An offset is committed when, for every one of
//! them, enough members are in it and all of them acknowledged it, *on their current link and with exactly that
//! incarnation*. So a growing set binds from the moment its proposal is sent, and a shrinking set relieves only after it is
//! known to be applied. A member without a link, or with a fresh link that has not acknowledged yet, holds `confirm` where it
//! is; it is never skipped.

use std::collections::{BTreeMap, BTreeSet};

use rocket_protocol::ids::PhysicalOffset;

use crate::identity::{Member, ReplicaId};
use crate::messages::LinkId;
use crate::mutations::{Mutant, Mutations};
use crate::state::State;

/// A set that the object may contain: all of `members` must have what is committed, and there must be `min_in_sync` of them.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Quorum {
    /// S.
    pub members: BTreeSet<Member>,
    /// m.
    pub min_in_sync: u8,
}

impl Quorum {
    /// S and m of a state.
    pub fn of(state: &State) -> Self {
        Self {
            members: state.in_sync.clone(),
            min_in_sync: state.min_in_sync,
        }
    }

    /// Whether the set is large enough to commit at all.
    pub fn is_enough(&self) -> bool {
        self.members.len() >= usize::from(self.min_in_sync)
    }
}

/// An acknowledgement that cannot be true; the link it came on is to be closed (§8.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AckError {
    /// The link is not open, or was replaced by a newer one of the same replica.
    #[error("acknowledgement on a link that does not count")]
    UnknownLink,
    /// It is below what the same link acknowledged before.
    #[error("acknowledged {offset}, below {previous} before")]
    Fell {
        /// What came.
        offset: PhysicalOffset,
        /// What had come before.
        previous: PhysicalOffset,
    },
    /// It is beyond the master's own log.
    #[error("acknowledged {offset}, beyond the end {end} of the master's log")]
    Beyond {
        /// What came.
        offset: PhysicalOffset,
        /// The master's log end.
        end: PhysicalOffset,
    },
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct LinkAck {
    member: Member,
    acked: Option<PhysicalOffset>,
}

/// What is committed, as the master of one epoch computes it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Commit {
    me: Member,
    confirm: PhysicalOffset,
    possible: Vec<Quorum>,
    /// Every acknowledgement that counts means flushed bytes.
    counts_flushed: bool,
    /// What was committed while that was so.
    durable: PhysicalOffset,
    links: BTreeMap<LinkId, LinkAck>,
    mutations: Mutations,
}

impl Commit {
    /// A master that begins with `confirm` known to be committed and no set known: nothing is committed until
    /// [`Commit::set_possible`].
    pub fn new(me: Member, confirm: PhysicalOffset) -> Self {
        Self {
            me,
            confirm,
            possible: Vec::new(),
            counts_flushed: false,
            durable: PhysicalOffset(0),
            links: BTreeMap::new(),
            mutations: Mutations::default(),
        }
    }

    /// The only copy there is: S = {me}, m = 1. What counts here is committed.
    pub fn alone(me: Member, confirm: PhysicalOffset) -> Self {
        let mut commit = Self::new(me, confirm);
        commit.set_possible([Quorum {
            members: BTreeSet::from([me]),
            min_in_sync: 1,
        }]);
        commit
    }

    /// The same with rules broken on purpose, for tests of the checking.
    #[must_use]
    pub fn with_mutations(mut self, mutations: Mutations) -> Self {
        self.mutations = mutations;
        self
    }

    /// The largest committed offset known; never falls.
    pub fn confirm(&self) -> PhysicalOffset {
        self.confirm
    }

    /// What is known to be committed and flushed by every member that counted (§5.1); never falls. Known only while the object
    /// asks for modes.
    pub fn durable(&self) -> PhysicalOffset {
        self.durable
    }

    /// Says whether every acknowledgement that counts means flushed bytes, those of this replica included.
    pub fn set_counts_flushed(&mut self, counts_flushed: bool) {
        self.counts_flushed = counts_flushed;
    }

    /// Replaces `Possible`. Every set that the object may now contain must be among them.
    pub fn set_possible(&mut self, possible: impl IntoIterator<Item = Quorum>) {
        self.possible.clear();
        for quorum in possible {
            if !self.possible.contains(&quorum) {
                self.possible.push(quorum);
            }
        }
    }

    /// The sets that bind.
    pub fn possible(&self) -> &[Quorum] {
        &self.possible
    }

    /// Whether anything new can be committed: every set that binds is known and large enough. Sends are refused before
    /// they are appended while it is not (§9).
    pub fn is_enough(&self) -> bool {
        !self.possible.is_empty() && self.possible.iter().all(Quorum::is_enough)
    }

    /// A member's link opened; nothing is acknowledged on it yet. Older links of the same replica no longer count and are
    /// returned, to be closed (§8.4.3).
    pub fn link_opened(&mut self, link: LinkId, member: Member) -> Vec<LinkId> {
        let old: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(id, l)| **id != link && l.member.replica_id == member.replica_id)
            .map(|(id, _)| *id)
            .collect();
        if !self.mutations.has(Mutant::M32) {
            for id in &old {
                self.links.remove(id);
            }
        }
        self.links.insert(
            link,
            LinkAck {
                member,
                acked: None,
            },
        );
        old
    }

    /// A link is gone, and with it what was acknowledged on it.
    pub fn link_closed(&mut self, link: LinkId) {
        self.links.remove(&link);
    }

    /// The member of `link` has everything below `offset`; `log_end` is the end of the master's own log.
    ///
    /// # Errors
    /// [`AckError`]: the acknowledgement was not taken and the link is to be closed.
    pub fn acked(
        &mut self,
        link: LinkId,
        offset: PhysicalOffset,
        log_end: PhysicalOffset,
    ) -> Result<(), AckError> {
        let entry = self.links.get_mut(&link).ok_or(AckError::UnknownLink)?;
        if let Some(previous) = entry.acked.filter(|p| *p > offset) {
            return Err(AckError::Fell { offset, previous });
        }
        if offset > log_end && !self.mutations.has(Mutant::M30) {
            return Err(AckError::Beyond {
                offset,
                end: log_end,
            });
        }
        entry.acked = Some(offset);
        Ok(())
    }

    /// What `member` acknowledged on its current link; `None` without a link or before its first acknowledgement.
    pub fn acked_by(&self, member: Member) -> Option<PhysicalOffset> {
        self.links
            .values()
            .filter(|l| self.is(l.member, member))
            .filter_map(|l| l.acked)
            .max()
    }

    /// The replicas that have a link, with what they acknowledged.
    pub fn links(&self) -> impl Iterator<Item = (LinkId, Member, Option<PhysicalOffset>)> {
        self.links.iter().map(|(id, l)| (*id, l.member, l.acked))
    }

    /// Whether a replica has a link that counts.
    pub fn is_linked(&self, replica_id: ReplicaId) -> bool {
        self.links
            .values()
            .any(|l| l.member.replica_id == replica_id)
    }

    /// Recomputes what is committed, with `counts` = how far the master's own log counts (`log_end`, or `durable_end` when
    /// its promise is durable). Returns the new confirm offset when it grew.
    ///
    /// # Panics
    /// When confirm would pass what counts here. The assertion stays on in release: an answer rests on it.
    pub fn advance(&mut self, counts: PhysicalOffset) -> Option<PhysicalOffset> {
        if self.possible.is_empty() {
            return None;
        }
        let mut committed = counts;
        for quorum in &self.possible {
            if !quorum.is_enough() {
                return None;
            }
            for member in &quorum.members {
                committed = committed.min(self.held_by(*member, counts)?);
            }
        }
        if self.counts_flushed {
            self.durable = self.durable.max(committed);
        }
        if committed <= self.confirm {
            return None;
        }
        assert!(
            committed <= counts,
            "committed {committed} beyond what counts here, {counts}"
        );
        self.confirm = committed;
        Some(committed)
    }

    fn held_by(&self, member: Member, counts: PhysicalOffset) -> Option<PhysicalOffset> {
        if member == self.me {
            return Some(counts);
        }
        let linked = self.links.values().any(|l| self.is(l.member, member));
        match self.acked_by(member) {
            None if linked && self.mutations.has(Mutant::M16) => Some(counts),
            None if !linked && self.mutations.has(Mutant::M17) => Some(counts),
            acked => acked,
        }
    }

    fn is(&self, linked: Member, wanted: Member) -> bool {
        linked == wanted
            || (self.mutations.has(Mutant::M1) && linked.replica_id == wanted.replica_id)
    }
}

#[cfg(test)]
#[path = "commit_tests.rs"]
mod tests;

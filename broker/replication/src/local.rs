//! What a replica has and knows whatever its role (§4.2): its settings, what its recovery found, its log, the newest state seen.

use rocket_protocol::ids::PhysicalOffset;

use crate::coordinator::Tracker;
use crate::effect::Effect;
use crate::epochs::{Epochs, Extent};
use crate::identity::{
    DiskId, Epoch, Former, GroupUid, Incarnation, Member, Proposals, ReplicaId, Version,
};
use crate::mutations::{Mutant, Mutations};
pub use crate::policy::Flush;
use crate::policy::Replication;
use crate::recovery::Evidence;
use crate::repair::Damage;
use crate::state::State;

/// What does not change while a process runs.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Settings {
    /// When an append counts, as long as the object asks for no modes (§5.1).
    pub flush: Flush,
    /// Where the replication listener is found, as `host:port`.
    pub address: String,
    /// Bytes sent on one link and not yet acknowledged from which on nothing more is sent.
    pub window_bytes_max: u64,
}

/// What local recovery found (§8.2).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Recovered {
    /// From `replica.meta`.
    pub disk_id: DiskId,
    /// From `replica.meta`; `None` before the replica first registered.
    pub meta: Option<(GroupUid, ReplicaId)>,
    /// From `replica.meta`; `None` unless the group's object was made anew and not all had adopted it.
    pub former: Option<Former>,
    /// New 128 random bits.
    pub incarnation: Incarnation,
    /// Highest epoch durably seen.
    pub max_epoch: Epoch,
    /// Highest version durably seen.
    pub max_version: Version,
    /// Entries that start at or before the log's end.
    pub epochs: Epochs,
    /// First byte that retention left.
    pub log_min: PhysicalOffset,
    /// End of the valid records.
    pub log_end: PhysicalOffset,
    /// What is flushed.
    pub durable_end: PhysicalOffset,
    /// From the checkpoint: a lower bound of what is committed.
    pub confirm: PhysicalOffset,
    /// What speaks for the bytes that were acknowledged.
    pub evidence: Evidence,
}

/// The log as the state machine knows it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Log {
    /// First byte.
    pub min: PhysicalOffset,
    /// End.
    pub end: PhysicalOffset,
    /// What is flushed.
    pub durable_end: PhysicalOffset,
    /// What is known to be committed.
    pub confirm: PhysicalOffset,
    /// Epoch list.
    pub epochs: Epochs,
}

impl Log {
    pub(crate) fn extent(&self) -> Extent<'_> {
        Extent {
            epochs: &self.epochs,
            log_min: self.min,
            log_end: self.end,
        }
    }
}

/// What every role needs.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Core {
    pub(crate) settings: Settings,
    pub(crate) disk_id: DiskId,
    pub(crate) incarnation: Incarnation,
    pub(crate) meta: Option<(GroupUid, ReplicaId)>,
    pub(crate) former: Option<Former>,
    pub(crate) evidence: Evidence,
    /// A part of the log is damaged: nothing is acknowledged (§8.15).
    pub(crate) damaged: bool,
    /// What of it.
    pub(crate) damage: Damage,
    pub(crate) log: Log,
    /// What counts here now (§5.1).
    pub(crate) flush: Flush,
    /// Everything that was acknowledged unflushed lies below this.
    pub(crate) unflushed_to: PhysicalOffset,
    /// The highest epoch and version durably seen (I9).
    pub(crate) max_epoch: Epoch,
    pub(crate) max_version: Version,
    pub(crate) tracker: Tracker,
    pub(crate) proposals: Proposals,
    pub(crate) mutations: Mutations,
}

impl Core {
    /// This process as a member, once it is registered.
    pub(crate) fn me(&self) -> Option<Member> {
        self.meta.map(|(_, replica_id)| Member {
            replica_id,
            incarnation: self.incarnation,
        })
    }

    /// §8.3, §8.16: this run is replica `replica_id` of `state`, be it in the place of an object that was lost. That identity is
    /// adopted only together with its higher epoch. Were the epoch saved first and the process ended here, the next start would take
    /// the object for one that is not above what it has seen.
    pub(crate) fn adopt(&mut self, state: &State, replica_id: ReplicaId, out: &mut Vec<Effect>) {
        let group_uid = state.group_uid;
        if self.meta == Some((group_uid, replica_id)) {
            return;
        }
        if let Some((before, _)) = self.meta.filter(|(uid, _)| *uid != group_uid) {
            self.former = Some(Former {
                group_uid: before,
                max_epoch: self.max_epoch,
            });
        }
        self.meta = Some((group_uid, replica_id));
        out.push(Effect::SaveMeta {
            group_uid,
            replica_id,
            former: self.former,
        });
        self.saw(state.epoch, state.version, out);
    }

    /// §8.16: whoever is in S has adopted the object. When all that it names are, nobody is of the former group any more.
    pub(crate) fn forget_former(&mut self, state: &State, out: &mut Vec<Effect>) {
        let are_all_in = state.in_sync.len() == state.replicas.len();
        let meta = self.meta.filter(|(uid, _)| *uid == state.group_uid);
        let (Some((group_uid, replica_id)), true) = (meta, are_all_in) else {
            return;
        };
        if self.former.take().is_some() {
            out.push(Effect::SaveMeta {
                group_uid,
                replica_id,
                former: None,
            });
        }
    }

    /// §8.7, `counts(self)`.
    pub(crate) fn counts(&self) -> PhysicalOffset {
        match self.flush {
            Flush::Sync => self.log.durable_end.min(self.log.end),
            Flush::Async => self.log.end,
        }
    }

    /// The same of a master whose epoch began at `start`: its answers must not rest on what it appended itself and does not have
    /// any more (§8.15). What it came with, it holds as far as anybody could know, and what is committed others hold too.
    pub(crate) fn counts_from(&self, start: PhysicalOffset) -> PhysicalOffset {
        let lost = self.damage.from(start.max(self.log.confirm));
        lost.map_or(self.counts(), |lost| self.counts().min(lost))
    }

    /// §5.1: what shall count here by the newest state that is known. Unflushed bytes only while nobody was promised others: the
    /// object asks for none, its master says so, and what it records of this replica says so too. And only of a member of S or E:
    /// what a learner copies may have been promised before.
    fn flush_due(&self) -> Flush {
        let own = self.settings.flush;
        let Some(state) = self.tracker.seen() else {
            return own;
        };
        let Some(policy) = state.policy else {
            return own;
        };
        let in_force = state.in_force.map_or(own, |said| said.flush);
        let is_durable = self.me().is_some_and(|me| state.is_durable(me));
        let is_learner = !self.me().is_some_and(|me| state.is_complete(me));
        let is_learner = is_learner && !self.mutations.has(Mutant::M45);
        if is_learner || is_durable && !self.mutations.has(Mutant::M40) {
            return Flush::Sync;
        }
        policy.flush.max(in_force)
    }

    /// Counts as the newest state says. From flushed to unflushed that follows a write that says so; the other way at once, and
    /// the write comes when it is true of everything acknowledged before.
    /// Returns whether that is new.
    pub(crate) fn obey_policy(&mut self, out: &mut Vec<Effect>) -> bool {
        let due = self.flush_due();
        if (self.flush, due) == (Flush::Async, Flush::Sync) {
            self.unflushed_to = self.log.end;
            if self.log.durable_end < self.log.end {
                out.push(Effect::Flush);
            }
        }
        std::mem::replace(&mut self.flush, due) != due
    }

    /// The write that records this replica as durable, once it is and that is asked for.
    pub(crate) fn wants_durable(&mut self) -> Option<State> {
        let me = self.me()?;
        let state = self.tracker.seen()?;
        let is_due = state.policy.is_some() && state.is_current(me) && !state.is_durable(me);
        let is_true = self.log.durable_end >= self.unflushed_to.min(self.log.end);
        if !(is_due && is_true && self.flush == Flush::Sync) {
            return None;
        }
        let proposal = self.proposals.fresh();
        Some(state.with_durable(proposal, &[me.replica_id].into(), true))
    }

    /// Whether the bytes from `from` on, which are to be cut off here, may have been answered although they were not committed.
    /// Without modes in the object its shell knows that.
    pub(crate) fn may_have_promised(&self, from: PhysicalOffset) -> bool {
        let Some(said) = self.tracker.seen().and_then(|state| state.in_force) else {
            return false;
        };
        let epoch = self.log.epochs.at(from).map(|(entry, _)| entry.epoch);
        said.replication == Replication::Async || epoch.is_none_or(|epoch| epoch <= said.since)
    }

    /// Makes an epoch and a version durable before anything is done about them (§4.1).
    pub(crate) fn saw(&mut self, epoch: Epoch, version: Version, out: &mut Vec<Effect>) {
        if epoch > self.max_epoch || version > self.max_version {
            self.max_epoch = self.max_epoch.max(epoch);
            self.max_version = self.max_version.max(version);
            out.push(Effect::SaveSeen {
                epoch: self.max_epoch,
                version: self.max_version,
            });
        }
    }

    /// Sends a write of the object. One that is not well-formed is our own broken rule and is dropped (W1–W7).
    pub(crate) fn propose(&mut self, new: State, out: &mut Vec<Effect>) -> bool {
        match self.tracker.propose(new) {
            Ok(cas) => {
                out.push(Effect::Cas(cas));
                true
            }
            Err(violation) => {
                debug_assert!(false, "{violation}");
                false
            }
        }
    }

    pub(crate) fn confirm(&mut self, offset: PhysicalOffset, out: &mut Vec<Effect>) {
        let offset = offset.min(self.log.end);
        if offset > self.log.confirm {
            self.log.confirm = offset;
            out.push(Effect::Confirmed(offset));
        }
    }
}

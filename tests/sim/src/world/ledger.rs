//! What nobody in the group knows and the world does: what was ever committed, who began each epoch, which elections gave
//! something up, and whether a loss has an excuse (docs/replication.md §11).

use std::collections::{BTreeMap, BTreeSet};

use rocket_replication::replica::Flush;
use rocket_replication::{Epoch, Member, PhysicalOffset};

use super::World;
use super::electors::show;
use crate::log::GroupLog;

/// What schedules have met, so that they are seen not to be empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reached {
    /// Messages acknowledged.
    pub acked: u64,
    /// Messages that consumers were given.
    pub read: u64,
    /// Masterships.
    pub epochs: u64,
    /// Cuts of a log.
    pub cuts: u64,
    /// Logs emptied because retention elsewhere had passed them.
    pub started_anew: u64,
    /// Elections of a member of E that were tried.
    pub from_eligible: u64,
    /// Writes that landed after their senders gave up.
    pub late_writes: u64,
    /// Planned handovers.
    pub handovers: u64,
    /// Elections outside S ∪ E.
    pub unclean: u64,
    /// Acknowledged messages that were lost where §11 lets them be.
    pub lost: u64,
    /// Disk failures.
    pub disk_errors: u64,
    /// Ends in the middle of a step.
    pub mid_step: u64,
    /// Masters that answered although the object had another epoch.
    pub committed_late: u64,
}

impl Reached {
    /// Adds another schedule's.
    pub fn add(&mut self, other: &Self) {
        let Self {
            acked,
            read,
            epochs,
            cuts,
            started_anew,
            from_eligible,
            late_writes,
            handovers,
            unclean,
            lost,
            disk_errors,
            mid_step,
            committed_late,
        } = *other;
        self.acked += acked;
        self.read += read;
        self.epochs += epochs;
        self.cuts += cuts;
        self.started_anew += started_anew;
        self.from_eligible += from_eligible;
        self.late_writes += late_writes;
        self.handovers += handovers;
        self.unclean += unclean;
        self.lost += lost;
        self.disk_errors += disk_errors;
        self.mid_step += mid_step;
        self.committed_late += committed_late;
    }
}

/// What a machine lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// What was not flushed.
    Unflushed,
    /// Everything.
    Disk,
}

/// See the module.
#[derive(Default)]
pub(super) struct Ledger {
    /// Every byte that was ever below some master's confirm, and was not given up since by an election that says so.
    pub(super) committed: Vec<u8>,
    /// Who began each epoch, and where (I4).
    pub(super) epochs: BTreeMap<Epoch, (Member, PhysicalOffset)>,
    /// Epochs whose master had a write of its own applied (I16).
    pub(super) activated: BTreeSet<Epoch>,
    /// So many faults came together that the table of §11 names a loss.
    pub(super) is_loss_allowed: bool,
    /// A start may fail: its disk is full.
    pub(super) is_start_excused: bool,
    /// Where logs were cut, by machine: begin, end.
    pub(super) cut: Vec<(usize, u64, u64)>,
    /// Machines that lost bytes with a disk or with power, from so far on.
    pub(super) harmed: Vec<(usize, u64)>,
    /// The first thing that is wrong.
    pub(super) broken: Option<String>,
    pub(super) reached: Reached,
}

impl<L: GroupLog> World<L> {
    pub(super) fn fail(&mut self, what: String) {
        self.say(format_args!("BROKEN: {what}"));
        self.ledger.broken.get_or_insert(what);
    }

    /// The object may be another one now: what that says is taken in.
    pub(super) fn object_changed(&mut self) {
        self.memory.forget_dead();
        let (Some(state), None) = (self.memory.state().cloned(), &self.forgotten) else {
            return;
        };
        let Some(before) = self.history.last().cloned() else {
            return;
        };
        if before.version == state.version {
            return;
        }
        self.say(format_args!("  object: {}", show(&state)));
        if let Some(activated) = state.activated {
            self.ledger.activated.insert(activated.epoch);
        }
        if state.epoch > before.epoch {
            self.excuse_dead_members();
            self.ledger.reached.epochs += 1;
            if before.handover.is_some() && state.master.map(|m| m.replica_id) == before.handover {
                self.ledger.reached.handovers += 1;
            }
        }
        self.history.push(state.clone());
        if state.unclean.len() > before.unclean.len()
            && let Some(unclean) = state.unclean.last()
        {
            self.gave_up(unclean.chosen);
        }
        self.judge_electable();
    }

    /// What was committed has no copy left that counts, and those that count have ended: an elector chose who ended since it
    /// reported, or a master that is superseded commits by acknowledgements of one that has lost power since. It is as if
    /// power had gone where S is one. A member that runs and lacks something is never excused (I2).
    pub(super) fn excuse_dead_members(&mut self) {
        let state = self.state();
        let is_alive = state.complete().any(|m| self.machine_of(*m).is_some());
        let is_held = (0..self.machines.len()).any(|n| {
            let id = self.id_of(n);
            id.is_some_and(|id| state.last_complete.contains(&id)) && self.holds_all(n)
        });
        if !is_alive && !is_held && self.plan.column.flush() == Flush::Async {
            self.say(format_args!(
                "  no copy that counts is left: what the ended ones lost is lost"
            ));
            self.ledger.is_loss_allowed = true;
        }
    }

    /// P4, I15: an election outside S ∪ E was written down. What its master lacks is given up from here on.
    fn gave_up(&mut self, chosen: Member) {
        self.ledger.reached.unclean += 1;
        // It may have ended since it reported; its disk decides. Where that is gone too another election follows.
        let on_disks = self.replicas_on_disks();
        let Some(chosen) = on_disks.get(&chosen.replica_id) else {
            return;
        };
        let kept = self.held_by(*chosen).same_until(&self.ledger.committed);
        let committed = self.ledger.committed.len() as u64;
        if kept >= committed {
            return;
        }
        if !self.ledger.is_loss_allowed {
            self.fail(format!(
                "P1: an election outside S and E keeps {kept} of {committed} committed bytes although a copy was left"
            ));
        }
        self.ledger.committed.truncate(kept as usize);
        self.clients_lose_from(kept);
    }

    /// A machine lost power or its disk: may what was committed be lost by that? Not while another replica that an election
    /// may fall back to (§8.14) holds all of it.
    pub(super) fn judge_loss(&mut self, n: usize, what: Loss) {
        let held = self.held_by(n);
        self.ledger.harmed.push((n, held.end()));
        let promise_is_durable = self.plan.column.flush() == Flush::Sync && !self.plan.is_mixed();
        if promise_is_durable && what == Loss::Unflushed {
            return;
        }
        if !self.is_spare(n) && !self.holds_all(n) {
            self.say(format_args!(
                "  no other copy: what only {n} had may be lost"
            ));
            self.ledger.is_loss_allowed = true;
        }
    }

    fn holds_all(&self, n: usize) -> bool {
        let (committed, held) = (&self.ledger.committed, self.held_by(n));
        let same = held.same_until(committed);
        // After a failed write the page cache shows what the disk may not have.
        let is_failed = self.process(n).is_some_and(|p| p.log.has_failed());
        let counts = if is_failed {
            same.min(held.durable)
        } else {
            same
        };
        counts >= committed.len() as u64
    }

    /// Whether another replica holds everything that was committed, and may be elected when nobody else is left.
    pub(super) fn is_spare(&self, n: usize) -> bool {
        let state = self.state();
        (0..self.machines.len()).any(|other| {
            let is_known = self
                .id_of(other)
                .is_some_and(|id| state.last_complete.contains(&id));
            other != n && is_known && self.holds_all(other)
        })
    }

    /// Whether the log of `n` goes back to before an election that gave something up: what it holds was promised once and
    /// is no longer.
    pub(super) fn is_given_up(&self, n: usize) -> bool {
        let Some(given_up) = self.state().unclean_last() else {
            return false;
        };
        self.replica(n)
            .is_none_or(|replica| replica.log().epochs.last_epoch() < given_up)
    }
}

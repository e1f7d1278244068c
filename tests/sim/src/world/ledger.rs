//! What nobody in the group knows and the world does: what was ever committed, who began each epoch, which elections gave
//! something up, and whether a loss has an excuse (docs/replication.md §11).

use std::collections::{BTreeMap, BTreeSet};

use rocket_replication::{Epoch, Incarnation, Member, PhysicalOffset, ReplicaId, State};

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
    /// Modes, and m with them, of which a master said that they are in force.
    pub modes_changed: u64,
    /// Messages whose answers promised that every copy that counts has them flushed.
    pub promised_flushed: u64,
    /// Disks on which bits flipped.
    pub rotten: u64,
    /// Replicas that were damaged and sound again while they ran.
    pub repaired: u64,
    /// Logs whose beginning retention took.
    pub retained: u64,
    /// Snapshots that masters told their logs.
    pub snapshots: u64,
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
            modes_changed,
            promised_flushed,
            rotten,
            repaired,
            retained,
            snapshots,
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
        self.modes_changed += modes_changed;
        self.promised_flushed += promised_flushed;
        self.rotten += rotten;
        self.repaired += repaired;
        self.retained += retained;
        self.snapshots += snapshots;
    }
}

/// What a machine lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// What was not flushed.
    Unflushed,
    /// Everything, or what bits flipped in.
    Disk,
}

/// See the module.
#[derive(Default)]
pub(super) struct Ledger {
    /// Every byte that was ever below some master's confirm, and was not given up since by an election that says so.
    pub(super) committed: Vec<u8>,
    /// The most that was committed when an election gave some of it up. Retention may have taken that before, on a replica that
    /// leads again later.
    pub(super) once: Vec<u8>,
    /// Who began each epoch, and where (I4).
    pub(super) epochs: BTreeMap<Epoch, (Member, PhysicalOffset)>,
    /// Epochs whose master had a write of its own applied (I16).
    pub(super) activated: BTreeSet<Epoch>,
    /// What was committed is on no copy that counts from here on, by faults for which §11 names a loss.
    pub(super) gone: Option<u64>,
    /// Replicas that lost something by such a fault, and have not been complete since.
    pub(super) hurt: BTreeSet<ReplicaId>,
    /// Runs that knew of damage in their log, whatever became of it.
    pub(super) damaged: BTreeSet<Incarnation>,
    /// What logs gave up and told (P4), by machine: begin, end.
    pub(super) cut: Vec<(usize, u64, u64)>,
    /// Machines that lost bytes by such a fault, from so far on.
    pub(super) harmed: Vec<(usize, u64, Loss)>,
    /// End of what was promised to be committed and flushed, and not given up since (§5.1).
    pub(super) flushed: u64,
    /// A disk was lost, or a part of what it held.
    pub(super) is_disk_lost: bool,
    /// An election gave up all that tells which offsets were given before: what is given again is no fault any more.
    pub(super) is_blind: bool,
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
        self.judge_registered(&before, &state);
        if let Some(activated) = state.activated {
            self.ledger.activated.insert(activated.epoch);
        }
        self.history.push(state.clone());
        if state.in_force != before.in_force {
            self.ledger.reached.modes_changed += 1;
        }
        if state.promises_flushed() && !state.are_complete_durable() {
            self.fail("W8: flush Sync is in force, and a member is not durable".to_owned());
        }
        if state.epoch > before.epoch {
            self.count_what_is_left();
            self.ledger.reached.epochs += 1;
            if before.handover.is_some() && state.master.map(|m| m.replica_id) == before.handover {
                self.ledger.reached.handovers += 1;
            }
        }
        if state.unclean.len() > before.unclean.len()
            && let Some(unclean) = state.unclean.last()
        {
            self.gave_up(unclean.chosen);
        }
        self.judge_electable();
        self.judge_all_flushed();
    }

    /// §8.2.7: no disk here is put back to an older one, so whoever registers anew keeps its place where its former run flushed whatever
    /// it acknowledged, and nothing of that is damaged. One that finds damage says so when it registers, though another replica or
    /// retention may have helped it meanwhile.
    fn judge_registered(&mut self, before: &State, state: &State) {
        for (replica_id, recorded) in &before.replicas {
            let (replica_id, incarnation) = (*replica_id, recorded.incarnation);
            let former = Member {
                replica_id,
                incarnation,
            };
            let was_safe = recorded.durable && before.is_complete(former);
            let Some(now) = state.replicas.get(&replica_id).filter(|_| was_safe) else {
                continue;
            };
            let stays = state.complete().any(|m| m.replica_id == replica_id);
            let has_damage = self.ledger.damaged.contains(&now.incarnation);
            if now.incarnation != incarnation && !stays && !has_damage {
                self.fail(format!("§8.2.7: {replica_id} lost its place and no byte"));
            }
        }
    }

    /// The copies that count are others now, or a master that is superseded has committed by what they had acknowledged. An
    /// elector may have named one that has ended since it reported, and lost power: it is as if power had gone a moment later,
    /// where S is that one alone ("power loss of the master's machine: window"). One that runs and lacks something is no such
    /// case (I2), nor one that lost nothing.
    pub(super) fn count_what_is_left(&mut self) {
        let state = self.state();
        let is_alive = state.complete().any(|m| self.machine_of(*m).is_some());
        let is_hurt = state
            .last_complete
            .iter()
            .any(|id| self.ledger.hurt.contains(id));
        if !is_alive && is_hurt {
            self.note_what_is_left();
        }
    }

    /// How much of what was committed is on one of the copies that an election may fall back to (§8.14).
    fn survives(&self) -> u64 {
        let machines = (0..self.machines.len()).filter(|n| self.is_counted(*n));
        machines.map(|n| self.holds(n)).max().unwrap_or(0)
    }

    /// How much of what was committed `n` has.
    fn holds(&self, n: usize) -> u64 {
        let (committed, held) = (&self.ledger.committed, self.held_by(n));
        let same = held.same_until(committed).min(committed.len() as u64);
        // After a failure the page cache shows what the disk may not have, until the next start looks.
        let has_failed = self.process(n).is_some_and(|p| p.log.has_failed());
        if has_failed {
            same.min(held.durable)
        } else {
            same
        }
    }

    /// Whether an election may fall back to what `n` has.
    fn is_counted(&self, n: usize) -> bool {
        let state = self.state();
        self.id_of(n)
            .is_some_and(|id| state.last_complete.contains(&id))
    }

    fn note_what_is_left(&mut self) {
        let (survives, committed) = (self.survives(), self.ledger.committed.len() as u64);
        // What was promised flushed no power cut takes, whatever modes came after.
        let left = if self.ledger.is_disk_lost {
            survives
        } else {
            survives.max(self.ledger.flushed)
        };
        if left < committed {
            let gone = self.ledger.gone.map_or(left, |gone| gone.min(left));
            self.say(format_args!(
                "  no copy that counts has more than {left} of the {committed} committed: the rest may be lost"
            ));
            self.ledger.gone = Some(gone);
        }
    }

    /// A human has a sound replica elected although a damaged one may reach further: what no sound one has is given up.
    pub(super) fn go_on_without_the_damaged(&mut self) {
        let machines = 0..self.machines.len();
        let (damaged, sound): (Vec<usize>, Vec<usize>) =
            machines.partition(|n| self.held_by(*n).is_damaged);
        if damaged.is_empty() {
            return;
        }
        let counted = sound.into_iter().filter(|n| self.is_counted(*n));
        let left = counted.map(|n| self.holds(n)).max().unwrap_or(0);
        if left < self.ledger.committed.len() as u64 {
            let gone = self.ledger.gone.map_or(left, |gone| gone.min(left));
            self.ledger.gone = Some(gone);
        }
    }

    /// What was taken for gone turns up again on a copy that counts.
    pub(super) fn look_for_the_gone(&mut self) {
        if self.ledger.gone.is_some() && self.survives() >= self.ledger.committed.len() as u64 {
            self.say(format_args!("  all that is committed is there again"));
            self.ledger.gone = None;
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
            self.ledger.gone = None;
            return;
        }
        let left = self.ledger.gone.take().unwrap_or(committed);
        if kept < left {
            self.fail(format!(
                "P1: an election outside S and E keeps {kept} of {committed} committed bytes, and {left} were left"
            ));
        }
        if self.ledger.once.len() < self.ledger.committed.len() {
            self.ledger.once = self.ledger.committed.clone();
        }
        self.ledger.committed.truncate(kept as usize);
        self.ledger.flushed = self.ledger.flushed.min(kept);
        self.clients_lose_from(kept);
    }

    /// A machine lost power, its disk, or what a failed flush had not brought there: may what was committed be lost by that?
    /// Not while another replica that an election may fall back to has it; and where all promises are of flushed bytes, only
    /// a lost disk takes any.
    pub(super) fn judge_loss(&mut self, n: usize, what: Loss) {
        if self.plan.promises_flushed_alone() && what == Loss::Unflushed {
            return;
        }
        self.ledger.is_disk_lost |= what == Loss::Disk;
        self.ledger.harmed.push((n, self.held_by(n).end(), what));
        // What it had acknowledged and lost may be committed later, by a master that does not know of it.
        self.ledger.hurt.extend(self.id_of(n));
        if self.is_counted(n) && self.holds(n) < self.ledger.committed.len() as u64 {
            self.note_what_is_left();
        }
    }

    /// Whether another replica holds everything that was committed, and may be elected when nobody else is left.
    pub(super) fn is_spare(&self, n: usize) -> bool {
        let committed = self.ledger.committed.len() as u64;
        (0..self.machines.len())
            .any(|other| other != n && self.is_counted(other) && self.holds(other) >= committed)
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

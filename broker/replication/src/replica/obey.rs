//! Obeying the newest state of the object that is known (§6): registering, leading, following, halting.

use std::sync::Arc;

use super::{Replica, Role};
use crate::changes::{Registering, Registration};
use crate::effect::{Effect, Halt};
use crate::identity::{Incarnation, Member};
use crate::local::Flush;
use crate::master::Master;
use crate::mutations::Mutant;
use crate::recovery::Evidence;
use crate::slave::Slave;
use crate::state::State;

impl Replica {
    /// Obeys the newest state known (§6). Called when that changed.
    pub(super) fn settle(&mut self, out: &mut Vec<Effect>) {
        let Some(state) = self.core.tracker.seen().cloned() else {
            return;
        };
        if matches!(self.role, Role::Halted(_)) {
            return;
        }
        if matches!(self.role, Role::Booting) && !self.register(&state, out) {
            return;
        }
        let Some(me) = self.core.me() else { return };
        if !state.is_current(me) {
            self.step_down(out);
            self.halt(Halt::Superseded, out);
            return;
        }
        self.is_forgetting_told = false;
        self.core.saw(state.epoch, state.version, out);
        self.core.forget_former(&state, out);
        if state.epoch < self.core.max_epoch {
            // A link told of an election that this state does not show yet.
            self.step_down(out);
            out.push(Effect::Read);
            return;
        }
        let leading = matches!(&self.role, Role::Leading(m) if m.epoch == state.epoch);
        if state.master == Some(me) {
            if !leading {
                self.activate(&state, me, out);
            }
            return;
        }
        self.step_down(out);
        match state.master {
            Some(master) => {
                let known = matches!(&self.role, Role::Following(s) if s.master == master && s.epoch == state.epoch);
                if !known {
                    self.leave_master(out);
                    self.role = Role::Following(Slave::new(master, state.epoch));
                }
                if let Role::Following(slave) = &mut self.role {
                    slave.connect(&self.core, out);
                }
            }
            // The link to the former master stays: what it commits with our acknowledgement, we hold.
            None => {
                if matches!(self.role, Role::Booting) {
                    self.role = Role::Idle;
                }
            }
        }
    }

    /// §8.3. Returns whether this run is registered.
    fn register(&mut self, state: &State, out: &mut Vec<Effect>) -> bool {
        // §5: a durable promise begins after a flush that covers everything the log holds, inherited bytes too.
        let unflushed = self.core.log.durable_end < self.core.log.end;
        let who = self.registration();
        if who.durable && unflushed && !self.core.mutations.has(Mutant::M35) {
            out.push(Effect::Flush);
            return false;
        }
        let proposal = self.core.proposals.fresh();
        match state.registering(proposal, &who, self.core.mutations) {
            Registering::Write(new) => {
                if !self.core.mutations.has(Mutant::M51) {
                    let recorded = state.replica_of(who.disk_id);
                    self.note_run(recorded.map(|(_, replica)| replica.incarnation), out);
                }
                self.core.propose(*new, out);
                false
            }
            Registering::Done(replica_id) => {
                if self.core.mutations.has(Mutant::M51) {
                    self.note_run(None, out);
                }
                self.core.adopt(state, replica_id, out);
                self.role = Role::Idle;
                true
            }
            Registering::Forgot => {
                self.core.tracker.gone();
                self.forgot(out);
                false
            }
            Registering::Full => {
                self.halt(Halt::GroupFull, out);
                false
            }
        }
    }

    /// §8.3: the disk knows this run before anybody can record it, so that no crash leaves a recorded run that its own disk does not
    /// know.
    fn note_run(&mut self, recorded: Option<Incarnation>, out: &mut Vec<Effect>) {
        let core = &mut self.core;
        let noted = core.evidence.note(recorded, core.incarnation);
        out.extend(noted.map(Effect::SaveRuns));
    }

    pub(super) fn registration(&self) -> Registration {
        let core = &self.core;
        Registration {
            group_uid: core.meta.map(|(uid, _)| uid),
            disk_id: core.disk_id,
            incarnation: core.incarnation,
            address: core.settings.address.clone(),
            durable: core.flush == Flush::Sync,
            // It may have been found since this run registered with a former object.
            evidence: Evidence {
                damaged: core.evidence.damaged || core.damaged,
                ..core.evidence.clone()
            },
            max_epoch: core.max_epoch,
            max_version: core.max_version,
        }
    }

    /// §8.11, steps 1 and 2: this member was named master of a new epoch.
    fn activate(&mut self, state: &Arc<State>, me: Member, out: &mut Vec<Effect>) {
        self.step_down(out);
        self.leave_master(out);
        // N2: the log must not hold this epoch yet; a member that began it before never begins it again.
        let held = self.core.log.epochs.last_epoch() >= state.epoch;
        if held && !self.core.mutations.has(Mutant::M2) {
            self.halt(Halt::Disorder, out);
            return;
        }
        match Master::begin(&mut self.core, state, me, out) {
            Some(master) => self.role = Role::Leading(Box::new(master)),
            None => self.halt(Halt::Disorder, out),
        }
        if let Role::Leading(master) = &mut self.role {
            master.look(&mut self.core, out);
        }
    }

    /// §8.13.
    pub(super) fn step_down(&mut self, out: &mut Vec<Effect>) {
        if let Role::Leading(master) = &self.role {
            out.push(Effect::StepDown);
            out.extend(master.links().map(Effect::Disconnect));
            self.role = Role::Idle;
        }
    }

    pub(super) fn leave_master(&mut self, out: &mut Vec<Effect>) {
        if let Role::Following(slave) = &self.role {
            out.extend(slave.link().map(Effect::Disconnect));
            self.role = Role::Idle;
        }
    }

    pub(super) fn halt(&mut self, why: Halt, out: &mut Vec<Effect>) {
        self.step_down(out);
        self.leave_master(out);
        if !matches!(self.role, Role::Halted(_)) {
            out.push(Effect::Halt(why));
            self.role = Role::Halted(why);
        }
    }
}

//! Performs what the state machines ask for, and judges it where it happens.

use std::collections::VecDeque;

use rocket_replication::effect::{Effect, Halt, Input, Report};
use rocket_replication::memory::Fate;
use rocket_replication::messages::{Data, LinkId, Message};
use rocket_replication::repair::Step;
use rocket_replication::replica::{Flush, Replica};
use rocket_replication::{Member, PhysicalOffset};

use super::{Wire, World};

impl World {
    /// Feeds one input to the process of `n` and performs what follows from it.
    pub(crate) fn step(&mut self, n: usize, input: Input) -> bool {
        let mut inputs = VecDeque::from([input]);
        let mut any = false;
        while let Some(input) = inputs.pop_front() {
            let Some(replica) = self.nodes[n].replica.as_mut() else {
                break;
            };
            let before = (
                replica.seen(),
                replica.log().confirm,
                replica.tracker().version(),
            );
            let effects = replica.step(input);
            let after = (
                replica.seen(),
                replica.log().confirm,
                replica.tracker().version(),
            );
            let cut = effects.iter().any(|e| matches!(e, Effect::Cut { .. }));
            any |= !effects.is_empty() || before != after;
            if after.0.0 < before.0.0
                || after.0.1 < before.0.1
                || after.2 < before.2
                || (after.1 < before.1 && !cut)
            {
                self.fail("I9: max epoch, version or confirm fell");
            }
            for effect in effects {
                match &mut self.nodes[n].fuse {
                    Some((0, crash)) => {
                        let crash = *crash;
                        self.crash(n, crash);
                        return true;
                    }
                    Some((left, _)) => *left -= 1,
                    None => {}
                }
                self.perform(n, effect, &mut inputs);
            }
        }
        any
    }

    fn perform(&mut self, n: usize, effect: Effect, inputs: &mut VecDeque<Input>) {
        match effect {
            Effect::Read => inputs.push_back(Input::Read(self.memory.read())),
            Effect::Cas(cas) => self.nodes[n].cas = Some(cas),
            Effect::SaveMeta {
                group_uid,
                replica_id,
                former,
            } => {
                self.nodes[n].disk.meta = Some((group_uid, replica_id));
                self.nodes[n].disk.former = former;
            }
            Effect::SaveRuns(runs) => self.nodes[n].disk.runs = Some(runs),
            Effect::SaveSeen { epoch, version } => {
                self.nodes[n].disk.max_epoch = epoch;
                self.nodes[n].disk.max_version = version;
            }
            Effect::SaveEpochs(epochs) => {
                self.nodes[n].disk.epochs = epochs;
                self.began(n);
            }
            Effect::Append { offset, bytes, .. } => {
                if offset.0 as usize != self.nodes[n].disk.log.len() {
                    self.fail("a copy was not appended at the end");
                }
                self.nodes[n].disk.log.extend_from_slice(&bytes);
            }
            Effect::Cut {
                to, epochs, report, ..
            } => self.cut(n, to, epochs, report),
            Effect::Connect { master, .. } => self.connect(n, master, inputs),
            Effect::Disconnect(link) => self.disconnect(n, link),
            Effect::Send(link, message) => self.send(n, link, message),
            Effect::SendData {
                link,
                epoch,
                bytes_epoch,
                from,
                to,
                confirm,
            } => {
                let to = to.min(from.plus(self.data_step));
                inputs.push_back(Input::Sent(link, to));
                let bytes = self.bytes(n, from, to);
                self.send(
                    n,
                    link,
                    Message::Data(Data {
                        epoch,
                        bytes_epoch,
                        offset: from,
                        file_end: to,
                        confirm,
                        bytes,
                    }),
                );
            }
            Effect::Confirmed(confirm) => self.confirmed(n, confirm),
            Effect::PauseWrites => inputs.push_back(Input::Paused),
            Effect::StartAnew { .. } => {
                self.fail("a log was emptied although nothing was retained away");
            }
            Effect::Halt(Halt::CommittedCutRefused { .. }) => {
                self.fail("I6: a committed cut had to be refused");
            }
            Effect::Halt(_) => self.fail("a replica halted"),
            Effect::Forgot => self.fail("the coordinator forgot"),
            // Nobody has here what is damaged elsewhere.
            Effect::Repair(Step::Dial { .. }) => inputs.push_back(Input::DialFailed),
            Effect::Repair(Step::SendRange { .. } | Step::Write { .. }) => {
                self.fail("repaired what nobody asked for");
            }
            Effect::Flush
            | Effect::Repair(Step::PassOver(_))
            | Effect::OpenWrites(_)
            | Effect::ResumeWrites
            | Effect::StepDown => {}
        }
    }

    /// I4: an epoch has one member that begins it, at one start.
    fn began(&mut self, n: usize) {
        let Some(master) = self.nodes[n].replica.as_ref().and_then(Replica::leading) else {
            return;
        };
        let (epoch, begun) = (master.epoch, (master.member, master.start));
        if *self.ghost.epochs.entry(epoch).or_insert(begun) != begun {
            self.fail("I4: an epoch was begun twice");
        }
    }

    fn cut(
        &mut self,
        n: usize,
        to: PhysicalOffset,
        epochs: rocket_replication::epochs::Epochs,
        report: Report,
    ) {
        let to = to.0 as usize;
        let held = self.nodes[n]
            .disk
            .log
            .iter()
            .zip(&self.ghost.committed)
            .take_while(|(a, b)| a == b)
            .count();
        // A learner may follow a superseded master for a while and give up what a later epoch committed without it.
        let state = self.state();
        let is_complete = self.nodes[n]
            .replica
            .as_ref()
            .and_then(Replica::member)
            .is_some_and(|me| state.is_complete(me));
        if to < held && report == Report::Quiet && is_complete {
            self.fail("I6: a cut below what was committed");
        }
        let disk = &mut self.nodes[n].disk;
        self.last_cut = disk.log.len() - to;
        disk.log.truncate(to);
        disk.durable = disk.durable.min(to);
        disk.epochs = epochs;
    }

    fn connect(&mut self, slave: usize, master: Member, inputs: &mut VecDeque<Input>) {
        let Some(master) = self.alive(master) else {
            inputs.push_back(Input::ConnectFailed);
            return;
        };
        // A number is free again when both ends have closed: no machine keeps a link that it closed.
        let link = (1..)
            .map(LinkId)
            .find(|l| !self.wires.contains_key(l))
            .expect("a free number");
        let wire = Wire {
            slave,
            master,
            slave_open: true,
            master_open: true,
            to_master: VecDeque::new(),
            to_slave: VecDeque::new(),
        };
        self.wires.insert(link, wire);
        inputs.push_back(Input::Connected(link));
    }

    fn disconnect(&mut self, n: usize, link: LinkId) {
        if let Some(wire) = self.wires.get_mut(&link) {
            if wire.slave == n {
                wire.slave_open = false;
                wire.to_slave.clear();
            } else {
                wire.master_open = false;
                wire.to_master.clear();
            }
        }
        self.drop_dead_wires();
    }

    fn send(&mut self, n: usize, link: LinkId, message: Message) {
        if let Message::Ack(ack) = &message {
            self.acknowledged(n, link, ack.epoch, ack.offset);
        }
        let Some(wire) = self.wires.get_mut(&link) else {
            return;
        };
        if wire.slave == n && wire.master_open {
            wire.to_master.push_back(message);
        } else if wire.master == n && wire.slave_open {
            wire.to_slave.push_back(message);
        }
    }

    /// I12: an acknowledgement says what is true at this instant.
    fn acknowledged(
        &mut self,
        n: usize,
        link: LinkId,
        epoch: rocket_replication::Epoch,
        offset: PhysicalOffset,
    ) {
        let end = offset.0 as usize;
        let slave = &self.nodes[n];
        let state = self.state();
        let means_flushed = match (state.policy, &slave.replica) {
            (Some(_), Some(replica)) => replica.member().is_some_and(|me| state.is_durable(me)),
            _ => slave.flush == Flush::Sync,
        };
        if slave.disk.log.len() < end || (means_flushed && slave.disk.durable < end) {
            self.fail("I12: acknowledged what would not survive");
            return;
        }
        let Some(wire) = self.wires.get(&link) else {
            return;
        };
        let master = &self.nodes[wire.master];
        let same_epoch = master
            .replica
            .as_ref()
            .and_then(Replica::leading)
            .is_some_and(|m| m.epoch == epoch);
        if same_epoch && master.disk.log.get(..end) != slave.disk.log.get(..end) {
            self.fail("I12: acknowledged bytes that are not the master's");
        }
    }

    /// I1, I7, P2: what a process takes for committed is what everyone took for committed.
    fn confirmed(&mut self, n: usize, confirm: PhysicalOffset) {
        // What an epoch that an unclean election gave up still delivers was promised once and is no longer (P4).
        let seen = self.nodes[n].disk.max_epoch;
        if self
            .state()
            .unclean_last()
            .is_some_and(|given_up| seen < given_up)
        {
            return;
        }
        let confirm = confirm.0 as usize;
        let log = self.nodes[n].disk.log[..confirm].to_vec();
        let common = confirm.min(self.ghost.committed.len());
        if log[..common] != self.ghost.committed[..common] {
            self.fail("P2: two different bytes were committed at one offset");
            return;
        }
        let master = self.nodes[n].replica.as_ref().and_then(Replica::leading);
        let Some(master) = master else {
            if confirm > self.ghost.committed.len() {
                self.fail("a slave takes for committed what no master committed");
            }
            return;
        };
        let state = self.state();
        if state.epoch == master.epoch {
            let required: Vec<_> = master
                .commit()
                .possible()
                .iter()
                .flat_map(|q| &q.members)
                .map(|m| m.replica_id)
                .collect();
            if !state
                .in_sync
                .iter()
                .all(|m| required.contains(&m.replica_id))
            {
                self.fail("I7: committed without a member of S");
            }
        }
        if confirm > self.ghost.committed.len() {
            self.ghost.committed = log;
        }
    }

    /// The write of `n` reaches the coordinator, or not.
    pub(crate) fn cas(&mut self, n: usize, fate: Fate) {
        let Some(cas) = self.nodes[n].cas.take() else {
            return;
        };
        let proposal = cas.new.proposal;
        self.judge_registering(n, &cas);
        match self.memory.cas(cas, fate) {
            Ok(answer) => {
                self.applied();
                self.step(n, Input::Cas { proposal, answer });
            }
            Err(_) => self.fail("W1-W7: a write that is not well-formed"),
        }
    }

    pub(crate) fn applied(&mut self) {
        self.memory.forget_dead();
        let state = self.state();
        if let Some(activated) = state.activated {
            self.ghost.activated.insert(activated.epoch);
        }
        // What an election gave up may have been on its way to the chosen one when it was written.
        let master = state.master.filter(|_| state.activated.is_some());
        let master = master.and_then(|master| self.alive(master));
        if let Some(n) = master.filter(|_| self.spent.returns > 0) {
            let confirm = self.nodes[n].replica.as_ref().map(|r| r.log().confirm);
            let confirm = confirm.map_or(0, |confirm| confirm.0 as usize);
            let (log, committed) = (&self.nodes[n].disk.log, &self.ghost.committed);
            if confirm > committed.len() && log.starts_with(committed) {
                self.ghost.committed = log[..confirm].to_vec();
            }
        }
    }
}

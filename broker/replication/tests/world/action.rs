//! What can happen next.

use std::collections::BTreeSet;

use rocket_replication::effect::Input;
use rocket_replication::elector::{self, Circumstances, Decision};
use rocket_replication::master::Phase;
use rocket_replication::memory::Fate;
use rocket_replication::messages::{LinkId, RoleName};
use rocket_replication::replica::{Flush, Replica, Writes};
use rocket_replication::{Member, PhysicalOffset, Policy, ReplicaId, Replication};

use super::{Bounds, Crash, World};

/// One step of the world.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Action {
    /// A producer sends to the master `n`.
    Send(usize),
    Flush(usize),
    ToMaster(LinkId),
    ToSlave(LinkId),
    /// One end notices that the other is gone.
    NoticeSlave(LinkId),
    NoticeMaster(LinkId),
    Cas(usize, Fate),
    /// A write that its sender gave up arrives.
    Arrive(usize),
    /// A watch shows the object as it is.
    Look(usize),
    Retry(usize),
    Restart(usize, Flush),
    Beat(usize),
    /// An elector, rightly or not, elects this member and drops those.
    Elect(Member, BTreeSet<Member>),
    /// The decision of the elector with the reports of all that live.
    Decide,
    Crash(usize, Crash),
    /// The process or machine will stop after so many more effects.
    Fuse(usize, u8, Crash),
    /// The slave loses the link, the master does not know.
    CutLink(LinkId),
    Lag(usize, Member),
    AskHandover(ReplicaId),
    HandoverWaited(usize),
    SetMin(u8),
    /// Somebody asks for other modes.
    SetPolicy(Policy),
}

impl World {
    /// Everything that can happen now within the bounds.
    pub(crate) fn actions(&self, bounds: &Bounds) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.ghost.violation.is_some() {
            return actions;
        }
        self.progress(bounds, &mut actions);
        self.sends(bounds, &mut actions);
        self.faults(bounds, &mut actions);
        self.elections(bounds, &mut actions);
        actions
    }

    /// What a fair schedule does without faults, sends and elections.
    pub(crate) fn progress(&self, bounds: &Bounds, actions: &mut Vec<Action>) {
        for (link, wire) in &self.wires {
            if wire.master_open && !wire.to_master.is_empty() {
                actions.push(Action::ToMaster(*link));
            } else if wire.master_open && !wire.slave_open && self.spent.link_cuts == 0 {
                actions.push(Action::NoticeMaster(*link));
            } else if wire.master_open && !wire.slave_open {
                // After a cut the master may stay half-open for long; noticing it is one more possibility.
                actions.push(Action::NoticeMaster(*link));
            }
            if wire.slave_open && !wire.to_slave.is_empty() {
                actions.push(Action::ToSlave(*link));
            } else if wire.slave_open && !wire.master_open {
                actions.push(Action::NoticeSlave(*link));
            }
        }
        let version = self.state().version;
        for (n, node) in self.nodes.iter().enumerate() {
            let Some(replica) = &node.replica else {
                actions.push(Action::Restart(n, node.flush));
                if bounds.mixed {
                    let other = if node.flush == Flush::Sync {
                        Flush::Async
                    } else {
                        Flush::Sync
                    };
                    actions.push(Action::Restart(n, other));
                }
                continue;
            };
            if node.cas.is_some() {
                actions.push(Action::Cas(n, Fate::Answered));
            } else {
                actions.push(Action::Retry(n));
            }
            if node.disk.durable < node.disk.log.len()
                && (replica.flush() == Flush::Sync || bounds.power_cuts > 0)
            {
                actions.push(Action::Flush(n));
            }
            if replica.tracker().version() < version || replica.tracker().open().is_some() {
                actions.push(Action::Look(n));
            }
        }
    }

    fn sends(&self, bounds: &Bounds, actions: &mut Vec<Action>) {
        for (n, node) in self.nodes.iter().enumerate() {
            let open = node
                .replica
                .as_ref()
                .is_some_and(|r| r.writes() == Writes::Open);
            if open && self.ghost.values < bounds.values {
                actions.push(Action::Send(n));
            }
            if self.spent.beats < bounds.beats
                && node.replica.as_ref().is_some_and(|r| r.leading().is_some())
            {
                actions.push(Action::Beat(n));
            }
        }
    }

    fn faults(&self, bounds: &Bounds, actions: &mut Vec<Action>) {
        for i in 0..self.memory.late().len() {
            actions.push(Action::Arrive(i));
        }
        let state = self.state();
        for (n, node) in self.nodes.iter().enumerate() {
            let Some(replica) = &node.replica else {
                continue;
            };
            if self.spent.kills < bounds.kills {
                actions.push(Action::Crash(n, Crash::Kill));
            }
            if self.spent.stops < bounds.stops {
                actions.push(Action::Crash(n, Crash::Stop));
            }
            if self.spent.power_cuts < bounds.power_cuts {
                actions.push(Action::Crash(n, Crash::Power));
            }
            if self.spent.mid_step_cuts < bounds.mid_step_cuts && node.fuse.is_none() {
                let crash = [Crash::Kill, Crash::Power][usize::from(bounds.power_cuts > 0)];
                actions.extend((0..5).map(|k| Action::Fuse(n, k, crash)));
            }
            if node.cas.is_some() && self.spent.strange_writes < bounds.strange_writes {
                actions.extend(
                    [Fate::AnswerLost, Fate::Late, Fate::Doubled].map(|fate| Action::Cas(n, fate)),
                );
            }
            if let Some(master) = replica.leading() {
                if self.spent.lags < bounds.lags && master.phase() != Phase::Opening {
                    let seen = replica.tracker().seen();
                    let others = seen
                        .into_iter()
                        .flat_map(|s| &s.in_sync)
                        .filter(|m| **m != master.member);
                    actions.extend(others.map(|m| Action::Lag(n, *m)));
                }
                if master.phase() == Phase::HandingOver {
                    actions.push(Action::HandoverWaited(n));
                }
            }
        }
        if self.spent.link_cuts < bounds.link_cuts {
            actions.extend(
                self.wires
                    .iter()
                    .filter(|(_, w)| w.slave_open)
                    .map(|(l, _)| Action::CutLink(*l)),
            );
        }
        if self.spent.handovers < bounds.handovers
            && state.handover.is_none()
            && state.epoch.0 < bounds.epochs
        {
            let others = state
                .in_sync
                .iter()
                .filter(|m| state.master.is_some() && Some(**m) != state.master);
            actions.extend(others.map(|m| Action::AskHandover(m.replica_id)));
        }
        if self.spent.min_changes < bounds.min_changes {
            let others = (1..=bounds.replicas as u8).filter(|m| *m != state.min_in_sync);
            actions.extend(others.map(Action::SetMin));
        }
        if let Some(present) = state.policy
            && self.spent.policy_changes < bounds.policy_changes
        {
            let all = [Replication::Async, Replication::Sync].map(|replication| {
                [Flush::Async, Flush::Sync].map(|flush| Policy { flush, replication })
            });
            let others = all.into_iter().flatten().filter(|other| *other != present);
            actions.extend(others.map(Action::SetPolicy));
        }
    }

    fn elections(&self, bounds: &Bounds, actions: &mut Vec<Action>) {
        let state = self.state();
        if state.epoch.0 >= bounds.epochs {
            return;
        }
        let none_left = state.complete().next().is_none();
        let headless = state.master.is_none_or(|m| self.alive(m).is_none());
        if (bounds.unclean && none_left) || (bounds.elector && headless && !none_left) {
            actions.push(Action::Decide);
        }
        for chosen in state.complete() {
            let others: Vec<Member> = state
                .in_sync
                .iter()
                .filter(|m| *m != chosen)
                .copied()
                .collect();
            for mask in 0..1_u32 << others.len() {
                let dropped = others
                    .iter()
                    .enumerate()
                    .filter(|(i, _)| mask >> i & 1 == 1)
                    .map(|(_, m)| *m)
                    .collect();
                actions.push(Action::Elect(*chosen, dropped));
            }
        }
    }

    /// Does it. Returns whether anything came of it.
    pub(crate) fn act(&mut self, bounds: &Bounds, action: Action) -> bool {
        self.last_cut = 0;
        let mut any = true;
        match action {
            Action::Send(n) => self.produce(n),
            Action::Flush(n) => {
                let node = &mut self.nodes[n];
                node.disk.durable = node.disk.log.len();
                let end = PhysicalOffset(node.disk.durable as u64);
                self.step(n, Input::Flushed(end));
            }
            Action::ToMaster(link) => {
                let wire = self.wires.get_mut(&link).expect("an open wire");
                let (n, message) = (wire.master, wire.to_master.pop_front().expect("a message"));
                self.step(n, Input::Received(link, message));
            }
            Action::ToSlave(link) => {
                let wire = self.wires.get_mut(&link).expect("an open wire");
                let (n, message) = (wire.slave, wire.to_slave.pop_front().expect("a message"));
                self.step(n, Input::Received(link, message));
            }
            Action::NoticeSlave(link) => {
                let n = self.wires.remove(&link).expect("an open wire").slave;
                self.step(n, Input::Disconnected(link));
            }
            Action::NoticeMaster(link) => {
                let n = self.wires.remove(&link).expect("an open wire").master;
                self.step(n, Input::Disconnected(link));
            }
            Action::Cas(n, fate) => {
                self.spent.strange_writes += u8::from(fate != Fate::Answered);
                self.cas(n, fate);
            }
            Action::Arrive(i) => match self.memory.arrive(i) {
                Ok(_) => self.applied(),
                Err(_) => self.fail("W1-W7: a late write that is not well-formed"),
            },
            Action::Look(n) => any = self.step(n, Input::Watched(self.state())),
            Action::Retry(n) => any = self.retry(n),
            Action::Restart(n, flush) => self.start(bounds, n, flush),
            Action::Beat(n) => {
                self.spent.beats += 1;
                any = self.step(n, Input::Beat { stamp_ms: 0 });
            }
            Action::Crash(n, crash) => {
                match crash {
                    Crash::Kill => self.spent.kills += 1,
                    Crash::Stop => self.spent.stops += 1,
                    Crash::Power => self.spent.power_cuts += 1,
                }
                self.crash(n, crash);
            }
            Action::Fuse(n, effects, crash) => {
                self.spent.mid_step_cuts += 1;
                self.nodes[n].fuse = Some((effects, crash));
            }
            Action::CutLink(link) => {
                self.spent.link_cuts += 1;
                let wire = self.wires.get_mut(&link).expect("an open wire");
                (wire.slave_open, wire.to_slave) = (false, std::collections::VecDeque::default());
                let n = wire.slave;
                self.step(n, Input::Disconnected(link));
                self.step(n, Input::Retry);
            }
            Action::Lag(n, member) => {
                self.spent.lags += 1;
                self.step(n, Input::Lagging(member));
            }
            Action::HandoverWaited(n) => any = self.step(n, Input::HandoverWaited),
            other => self.write_object(bounds, other),
        }
        self.notice(bounds);
        self.drop_dead_wires();
        self.answer();
        self.check();
        any
    }

    /// In a search, a slave notices at once that its master's end is closed and nothing more comes: until it does, it only
    /// waits, so every later moment is the same as this one followed by a pause before the next try.
    fn notice(&mut self, bounds: &Bounds) {
        if !bounds.eager_notice {
            return;
        }
        let dead = |w: &super::Wire| w.slave_open && !w.master_open && w.to_slave.is_empty();
        while let Some(link) = self.wires.iter().find(|(_, w)| dead(w)).map(|(l, _)| *l) {
            let n = self.wires.remove(&link).expect("a wire").slave;
            self.step(n, Input::Disconnected(link));
        }
    }

    /// Writes by electors and people, atomic here: what they know is the object, and their compare-and-set decides.
    fn write_object(&mut self, bounds: &Bounds, action: Action) {
        let (state, proposal) = (self.state(), self.elector.fresh());
        let new = match action {
            Action::Elect(chosen, dropped) => {
                state.elected(proposal, chosen, &dropped, bounds.mutations)
            }
            Action::AskHandover(replica_id) => {
                self.spent.handovers += 1;
                state.handover_asked(proposal, Some(replica_id))
            }
            Action::SetMin(m) => {
                self.spent.min_changes += 1;
                state.with_min_in_sync(proposal, m, bounds.mutations)
            }
            Action::SetPolicy(policy) => {
                self.spent.policy_changes += 1;
                state.with_policy(proposal, policy)
            }
            _ => match self.decide(bounds, proposal) {
                Decision::Elect(new) => {
                    if let Some(unclean) = new.unclean.last().filter(|u| u.epoch == new.epoch) {
                        // P4: what was given up is recorded, so it no longer counts as promised.
                        self.ghost.committed.truncate(unclean.kept_end.0 as usize);
                    }
                    *new
                }
                _ => return,
            },
        };
        let cas = rocket_replication::coordinator::Cas {
            expected: state.version,
            new: std::sync::Arc::new(new),
        };
        match self.memory.cas(cas, Fate::Answered) {
            Ok(_) => self.applied(),
            Err(_) => self.fail("W1-W7: an elector's write that is not well-formed"),
        }
    }

    fn decide(&self, bounds: &Bounds, proposal: rocket_replication::Proposal) -> Decision {
        let state = self.state();
        let reports: Vec<_> = self
            .nodes
            .iter()
            .filter_map(|n| n.replica.as_ref()?.report())
            .collect();
        let master_lives = state.master.is_some_and(|m| self.alive(m).is_some());
        let circumstances = Circumstances {
            reports: &reports,
            master_suspected: !master_lives,
            waited: true,
            expected_replicas: 1,
            ..Circumstances::default()
        };
        elector::decide(&state, &circumstances, proposal, bounds.mutations)
    }

    fn produce(&mut self, n: usize) {
        let (epoch, start, confirm) = {
            let replica = self.nodes[n].replica.as_ref().expect("a live master");
            let master = replica.leading().expect("a master");
            (master.epoch, master.start, replica.log().confirm)
        };
        if !self.ghost.activated.contains(&epoch) {
            self.fail("I16: a send was taken before a write of the master's own was applied");
        }
        if confirm < start {
            self.fail("§8.11.5: a send was taken before the barrier");
        }
        if self.ghost.epochs.get(&epoch).map(|(m, _)| *m)
            != self.nodes[n].replica.as_ref().and_then(Replica::member)
        {
            self.fail("I4: a member appends in an epoch that another one began");
        }
        self.ghost.values += 1;
        let value = self.ghost.values;
        let record = std::iter::repeat_n(value, self.record_bytes as usize);
        self.nodes[n].disk.log.extend(record);
        let end = PhysicalOffset(self.nodes[n].disk.log.len() as u64);
        self.wait(n);
        self.step(n, Input::Appended(end));
    }

    fn retry(&mut self, n: usize) -> bool {
        let before = self.nodes[n].clone();
        let links = self.wires.len();
        self.step(n, Input::Retry);
        self.nodes[n] != before || self.wires.len() != links
    }

    /// Lets everything happen that needs no fault, in a fixed order, with the elector's help, until nothing changes.
    pub(crate) fn calm(&mut self, bounds: &Bounds) -> usize {
        let mut steps = 0;
        loop {
            let mut actions = Vec::new();
            self.progress(bounds, &mut actions);
            let stuck = self.state().master.is_none_or(|m| self.alive(m).is_none());
            if stuck {
                actions.push(Action::Decide);
            }
            let moved = actions.into_iter().any(|action| {
                let before = self.clone();
                self.act(bounds, action) && self.changed_since(&before)
            });
            steps += 1;
            if !moved || self.ghost.violation.is_some() || steps > 2_000 {
                return steps;
            }
        }
    }

    fn changed_since(&self, before: &Self) -> bool {
        let same_elector = Self {
            elector: before.elector.clone(),
            ..self.clone()
        };
        same_elector != *before
    }

    /// L1, L2, L4: a master is open, every live replica is in S, and everything sent is committed.
    pub(crate) fn is_healed(&self) -> Result<(), String> {
        let state = self.state();
        let Some(master) = state.master.and_then(|m| self.alive(m)) else {
            return Err("L1: no master".to_owned());
        };
        let replica = self.nodes[master].replica.as_ref().expect("alive");
        if replica.role() != RoleName::Master || replica.writes() != Writes::Open {
            return Err(format!(
                "L1: the master is {:?}, writes {:?}",
                replica.role(),
                replica.writes()
            ));
        }
        if state.in_sync.len() != self.nodes.len() {
            return Err(format!(
                "L2: in sync {:?} of {} replicas",
                state.in_sync,
                self.nodes.len()
            ));
        }
        if replica.log().confirm != replica.log().end {
            return Err(format!(
                "L4: confirm {} below the end {}",
                replica.log().confirm,
                replica.log().end
            ));
        }
        let asked = state.policy.map(|policy| (policy, state.min_in_sync));
        let said = state.in_force.map(|said| (said.policy(), said.min_in_sync));
        if asked != said {
            return Err(format!("L6: asked for {asked:?}, in force {said:?}"));
        }
        Ok(())
    }
}

//! What can happen next.

use rocket_replication::master::Phase;
use rocket_replication::memory::Fate;
use rocket_replication::replica::{Flush, Writes};
use rocket_replication::{DiskId, Member, Policy, Replication};

use super::{Action, Bounds, Crash, World};

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
        self.images(bounds, actions);
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

    /// An image is put back that was made before the run that is recorded of the replica: another one of that same run nobody can
    /// tell from the disk itself (§2).
    fn images(&self, bounds: &Bounds, actions: &mut Vec<Action>) {
        let state = self.state();
        for (n, node) in self.nodes.iter().enumerate() {
            if self.spent.images < bounds.images {
                actions.push(Action::Image(n));
            }
            let Some(image) = &node.image else { continue };
            let recorded = state.replica_of(DiskId(n as u128 + 1));
            let is_older =
                recorded.is_some_and(|(_, it)| !image.touched_by.contains(&it.incarnation));
            if is_older && self.spent.returns < bounds.images {
                actions.push(Action::Return(n));
            }
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
}

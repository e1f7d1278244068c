//! What happens: one step of the world, and what follows from it at once.

use std::collections::BTreeSet;

use rocket_replication::effect::Input;
use rocket_replication::elector::{self, Circumstances, Decision};
use rocket_replication::memory::Fate;
use rocket_replication::messages::LinkId;
use rocket_replication::replica::{Flush, Replica};
use rocket_replication::{Member, PhysicalOffset, Policy, ReplicaId};

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
    /// Somebody makes an image of the disk of `n`.
    Image(usize),
    /// The process of `n` ends, and its disk is what that image holds.
    Return(usize),
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
            Action::Image(n) => {
                self.spent.images += 1;
                let mut disk = self.nodes[n].disk.clone();
                disk.log.truncate(disk.durable);
                self.nodes[n].image = Some(disk);
            }
            Action::Return(n) => {
                self.spent.returns += 1;
                self.crash(n, Crash::Kill);
                // The folder was written over in place: what proves its page cache is still there.
                let node = &mut self.nodes[n];
                if let Some(disk) = node.image.clone() {
                    node.disk = disk;
                }
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
                        let kept = self.kept_by(unclean.chosen, unclean.kept_end);
                        self.ghost.committed.truncate(kept);
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

    /// How much of what was committed is left with `chosen`, whose log ends at `end`. Disks that went back may all have other bytes
    /// in its place; and what the chosen one has not flushed may go before it opens.
    fn kept_by(&self, chosen: Member, end: PhysicalOffset) -> usize {
        let end = end.0 as usize;
        let Some(n) = self.alive(chosen).filter(|_| self.spent.returns > 0) else {
            return end;
        };
        let disk = &self.nodes[n].disk;
        let both = disk.log.iter().zip(&self.ghost.committed);
        let same = both.take_while(|(a, b)| a == b).count();
        end.min(disk.durable).min(same)
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
}

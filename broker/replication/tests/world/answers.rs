//! Sends that wait for an answer while the modes change (§5.1), judged when it is given. Only in worlds whose object asks for modes.

use rocket_replication::messages::RoleName;
use rocket_replication::policy::{Flush, Policy, Replication};
use rocket_replication::replica::Replica;
use rocket_replication::{Incarnation, PhysicalOffset, State};

use super::World;

/// A send that was appended.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Wait {
    /// The master that took it,
    node: usize,
    /// and its run.
    run: Incarnation,
    end: PhysicalOffset,
    /// The modes that its master took for in force.
    promised: Policy,
}

impl World {
    /// The modes that bind the answers of `n`, if the object asks for some.
    fn modes(&self, n: usize) -> Option<Policy> {
        let node = &self.nodes[n];
        let own = Policy {
            flush: node.flush,
            replication: Replication::Sync,
        };
        node.replica.as_ref()?.modes(own)
    }

    /// The master `n` took a send that ends at its log's end.
    pub(crate) fn wait(&mut self, n: usize) {
        let member = self.nodes[n].replica.as_ref().and_then(Replica::member);
        if let (Some(promised), Some(member)) = (self.modes(n), member) {
            self.ghost.waits.push(Wait {
                node: n,
                run: member.incarnation,
                end: PhysicalOffset(self.nodes[n].disk.log.len() as u64),
                promised,
            });
        }
    }

    /// Gives every answer that is due, and judges it. Who has nobody left to answer is told that its outcome is unknown.
    pub(crate) fn answer(&mut self) {
        let waits = std::mem::take(&mut self.ghost.waits);
        for wait in waits {
            let replica = self.nodes[wait.node].replica.as_ref();
            let master = replica.filter(|replica| {
                replica.role() == RoleName::Master
                    && replica.member().map(|member| member.incarnation) == Some(wait.run)
            });
            let (Some(master), Some(present)) = (master, self.modes(wait.node)) else {
                continue;
            };
            let held = master.held();
            let epoch = master.leading().map(|leading| leading.epoch);
            if wait.end > wait.promised.end(held).min(present.end(held)) {
                self.ghost.waits.push(wait);
                continue;
            }
            self.ghost.answered += 1;
            let state = self.state();
            let is_present = epoch == Some(state.epoch);
            // What somebody who reads the object believes of this master's answers.
            let believed = state.in_force.filter(|_| is_present);
            let believed = believed.map_or(present, |said| present.stronger(said.policy()));
            for policy in [wait.promised, believed] {
                if !self.is_kept(&wait, policy, is_present.then_some(&*state)) {
                    self.fail("A1: an answer promised more than was true");
                }
            }
        }
    }

    /// Whether `policy` holds for a send. `state`: the object, if its master is still the one of the object.
    fn is_kept(&self, wait: &Wait, policy: Policy, state: Option<&State>) -> bool {
        let end = wait.end.0 as usize;
        let is_flushed =
            |n: usize| policy.flush == Flush::Async || self.nodes[n].disk.durable >= end;
        match policy.replication {
            Replication::Async => is_flushed(wait.node),
            Replication::Sync => {
                let members = state.into_iter().flat_map(State::complete);
                let mut nodes = members.map(|member| {
                    let state = self.state();
                    let disk = state.replicas[&member.replica_id].disk_id;
                    disk.0 as usize - 1
                });
                self.ghost.committed.len() >= end && nodes.all(is_flushed)
            }
        }
    }
}

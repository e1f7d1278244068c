//! Modes that change while the group runs (docs/replication.md §5.1): who asks for them, which promise an answer carries, and
//! what must be true of it from then on.

use rocket_replication::policy::Flush;
use rocket_replication::{InForce, Policy, Replication, State};

use super::World;
use super::clients::Sent;
use crate::log::{GroupLog, payload};

/// Promises nothing more than a place in the log.
const WEAKEST: Policy = Policy {
    flush: Flush::Async,
    replication: Replication::Async,
};

impl<L: GroupLog> World<L> {
    /// Somebody asks for other modes, now and then with another m in the same write, as an operator does.
    pub(super) fn ask_for_modes(&mut self) {
        let policy = Policy {
            flush: *self.dice.pick(&[Flush::Async, Flush::Sync]),
            replication: *self.dice.pick(&[Replication::Async, Replication::Sync]),
        };
        let copies = self.dice.within(1, self.machines.len() as u64 + 1) as u8;
        let with_copies = self.dice.once_in(4);
        let mutations = self.plan.mutations;
        self.write_as_human(|state, proposal| {
            let m = if with_copies {
                copies
            } else {
                state.min_in_sync
            };
            State {
                policy: Some(policy),
                ..state.with_min_in_sync(proposal, m, mutations)
            }
        });
    }

    /// What `n` takes for in force, by what it last read of the object or wrote to it.
    pub(super) fn modes_of(&self, n: usize) -> Policy {
        let Some(process) = self.process(n) else {
            return WEAKEST;
        };
        let own = Policy {
            flush: process.flush,
            replication: self.plan.column.policy().replication,
        };
        let seen = process.actor.replica().tracker().seen();
        match seen.filter(|state| state.policy.is_some()) {
            Some(state) => state.in_force.map_or(own, InForce::policy),
            // Other members may flush otherwise than this one, and it does not know.
            None if own.replication == Replication::Sync && self.plan.is_mixed() => Policy {
                flush: Flush::Async,
                ..own
            },
            None => own,
        }
    }

    /// What somebody who reads the object believes of an answer that `n` gives now; of a master that is superseded, what it
    /// believes itself. One that has just stepped down gave it before it read why.
    fn believed(&self, n: usize) -> Policy {
        let state = self.state();
        let leads = self
            .replica(n)
            .and_then(|replica| Some((replica.leading()?.epoch, replica.member()?)));
        let Some((epoch, member)) = leads else {
            return WEAKEST;
        };
        let is_present = epoch == state.epoch && state.master == Some(member);
        let said = state.in_force.filter(|_| is_present);
        said.map_or_else(|| self.modes_of(n), InForce::policy)
    }

    /// A1, I1: the answer to `ticket` keeps two promises: of what was in force when the message was taken, and of what is now. Each
    /// by itself: flushed by the master, and committed, does not mean flushed by all.
    pub(super) fn judge_answer(&mut self, n: usize, ticket: u64, sent: &Sent) {
        let promises = [sent.promise, self.believed(n)];
        if let Some(sent) = self.clients.sent.get_mut(&ticket) {
            sent.promise = promises[0].stronger(promises[1]);
        }
        let Some((_, end)) = sent.at else {
            self.fail(format!("message {ticket} was answered and not written"));
            return;
        };
        let is_promised = |replication, flush| promises.contains(&Policy { flush, replication });
        if is_promised(Replication::Async, Flush::Sync) && self.flushed_by(n) < end {
            self.fail(format!("message {ticket} is answered and not flushed"));
        }
        if promises
            .iter()
            .any(|promise| promise.replication == Replication::Sync)
        {
            if !self.is_committed(ticket) {
                self.fail(format!(
                    "I1: message {ticket} is answered and not committed"
                ));
            }
            self.clients.acked_end = self.clients.acked_end.max(end);
        }
        if is_promised(Replication::Sync, Flush::Sync) {
            self.ledger.reached.promised_flushed += 1;
            self.ledger.flushed = self.ledger.flushed.max(end);
            self.judge_all_flushed();
        }
    }

    /// How far the log of `n` is flushed, whether or not a process runs there.
    fn flushed_by(&self, n: usize) -> u64 {
        let held = self.held_by(n).durable;
        let ends = self.process(n).map(|process| process.log.ends().durable.0);
        held.max(ends.unwrap_or(0))
    }

    pub(super) fn judge_all_flushed(&mut self) {
        for n in 0..self.machines.len() {
            self.judge_flushed(n);
        }
    }

    /// §5.1: whoever may be elected has flushed all that was promised to be committed and flushed.
    pub(super) fn judge_flushed(&mut self, n: usize) {
        let promised = self.ledger.flushed;
        if promised == 0 || self.flushed_by(n) >= promised {
            return;
        }
        let state = self.state();
        let member = self.id_of(n).and_then(|id| state.member(id));
        if member.is_some_and(|member| state.is_complete(member)) {
            let flushed = self.flushed_by(n);
            self.fail(format!(
                "§5.1: {n} is electable and has flushed {flushed} of the {promised} that were promised to be flushed"
            ));
        }
    }

    /// P4: whether `n` holds a message behind `from` that was acknowledged and is not committed.
    pub(super) fn holds_promised(&self, n: usize, from: u64) -> bool {
        let held = self.held_by(n);
        self.clients.acked.iter().any(|ticket| {
            let sent = &self.clients.sent[ticket];
            let Some((at, end)) = sent.at.filter(|(at, _)| *at >= from) else {
                return false;
            };
            let bytes = payload(*ticket, sent.len);
            let is_held = held.slice(at, end).get(..bytes.len()) == Some(&bytes[..]);
            sent.promise.replication == Replication::Async && is_held && !self.is_committed(*ticket)
        })
    }

    /// L6: what is asked for is in force.
    pub(super) fn is_in_force(&self) -> Result<(), String> {
        let state = self.state();
        let Some(asked) = state.policy else {
            return Ok(());
        };
        let is_said = state
            .in_force
            .is_some_and(|said| said.policy() == asked && said.min_in_sync == state.min_in_sync);
        if is_said {
            Ok(())
        } else {
            let said = state.in_force;
            Err(format!(
                "L6: {asked:?} is asked for, and in force is {said:?}"
            ))
        }
    }
}

//! What a master writes to the object: that it opened (§8.11), who left S and who joined it (§8.8, §8.9), who is next (§8.12).

use rocket_protocol::ids::PhysicalOffset;

use super::{Master, Phase};
use crate::effect::Effect;
use crate::local::{Core, Flush};
use crate::mutations::Mutant;
use crate::state::{Activation, State};

impl Master {
    /// The next write to the object, if one is due and none is open.
    pub(super) fn pursue(&mut self, core: &mut Core, out: &mut Vec<Effect>) {
        if !core.tracker.is_free() || self.phase == Phase::Fenced {
            return;
        }
        let Some(state) = core.tracker.seen().cloned() else {
            return;
        };
        let new = match self.phase {
            Phase::Opening => self.wants_activation(core, &state),
            Phase::HandingOver => self.wants_handover(core, &state),
            _ => None,
        };
        let new = new
            .or_else(|| self.wants_shrink(core, &state))
            .or_else(|| core.wants_durable())
            .or_else(|| self.wants_policy(core, &state))
            .or_else(|| self.wants_growth(core, &state));
        if let Some(new) = new {
            core.propose(new, out);
        }
    }

    fn wants_activation(&self, core: &mut Core, state: &State) -> Option<State> {
        let flushed = core.flush == Flush::Async || core.log.durable_end >= self.start;
        let activation = Activation {
            epoch: self.epoch,
            start_offset: self.start,
        };
        flushed.then(|| state.opened(core.proposals.fresh(), activation))
    }

    fn wants_handover(&self, core: &mut Core, state: &State) -> Option<State> {
        if self.handover_over {
            return Some(state.handover_asked(core.proposals.fresh(), None));
        }
        let successor = state.member(state.handover?)?;
        let end = core.log.end;
        let ready = self.paused
            && successor != self.member
            && state.in_sync.contains(&successor)
            && self.commit.confirm() == end
            && self.commit.acked_by(successor) == Some(end);
        ready.then(|| state.handed_over(core.proposals.fresh(), successor))
    }

    /// §8.9.
    fn wants_shrink(&mut self, core: &mut Core, state: &State) -> Option<State> {
        if self.phase == Phase::Opening {
            return None;
        }
        let wanted = std::mem::take(&mut self.lagging);
        let member = wanted
            .iter()
            .find(|m| **m != self.member && state.in_sync.contains(m))
            .copied();
        self.lagging = wanted
            .into_iter()
            .filter(|m| Some(*m) != member && state.in_sync.contains(m))
            .collect();
        let member = member?;
        Some(state.shrunk(core.proposals.fresh(), member, core.mutations))
    }

    /// §8.8: a learner with everything committed, and everything below the start of this epoch.
    fn wants_growth(&self, core: &mut Core, state: &State) -> Option<State> {
        if matches!(self.phase, Phase::Opening | Phase::Fenced) {
            return None;
        }
        let start = if core.mutations.has(Mutant::M36) {
            PhysicalOffset(0)
        } else {
            self.start
        };
        let learner = self.commit.links().find_map(|(_, member, acked)| {
            let replica = state.replicas.get(&member.replica_id)?;
            let has_all = acked? >= self.commit.confirm() && acked? >= start;
            // It declares itself durable first, whatever is in force now (§5.1, A3). One of E lacks nothing that was promised.
            let is_trusted = state.eligible.contains(&member) || core.mutations.has(Mutant::M45);
            let keeps = replica.durable
                || state.policy.is_none()
                || is_trusted && !state.promises_flushed();
            let may = state.is_current(member) && !replica.cordoned && !replica.lost && keeps;
            (may && has_all && !state.in_sync.contains(&member)).then_some(member)
        })?;
        Some(state.grown(core.proposals.fresh(), learner, core.mutations))
    }
}

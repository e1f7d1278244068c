//! The modes as a master changes them (§5.1): it says what is in force when that is true, and gives up what was promised only
//! after nobody can rely on it any more.

use std::collections::BTreeSet;

use crate::effect::Effect;
use crate::identity::ReplicaId;
use crate::local::{Core, Flush};
use crate::master::{Master, Phase};
use crate::mutations::Mutant;
use crate::policy::InForce;
use crate::state::State;

impl Master {
    /// The next write that the modes need.
    pub(crate) fn wants_policy(&self, core: &mut Core, state: &State) -> Option<State> {
        if !matches!(self.phase(), Phase::Barrier | Phase::Open) {
            return None;
        }
        self.wants_in_force(core, state)
            .or_else(|| self.wants_unflushed(core, state))
    }

    /// Says what is in force. What is stronger binds the answers from now on, what is weaker when this is known to be applied.
    fn wants_in_force(&self, core: &mut Core, state: &State) -> Option<State> {
        let policy = state.policy?;
        let said = state.in_force;
        let flush = match policy.flush {
            Flush::Sync if state.are_complete_durable() || core.mutations.has(Mutant::M39) => {
                Flush::Sync
            }
            Flush::Sync => said.map_or(Flush::Async, |said| said.flush),
            Flush::Async => Flush::Async,
        };
        let replication = policy.replication;
        let since = said.filter(|said| said.replication == replication);
        let now = InForce {
            flush,
            replication,
            since: since.map_or(self.epoch, |said| said.since),
            min_in_sync: state.min_in_sync,
        };
        (said != Some(now)).then(|| state.with_in_force(core.proposals.fresh(), now))
    }

    /// Records that acknowledgements need not be flushed any more: of those who are here to read it, once no send waits that was
    /// promised otherwise. Whoever is not here keeps what its record says of it.
    fn wants_unflushed(&self, core: &mut Core, state: &State) -> Option<State> {
        let is_settled = self
            .loosened
            .is_some_and(|end| self.commit().confirm() >= end);
        if !is_settled || !is_loose(state) {
            return None;
        }
        let linked = self.commit().links().map(|(_, member, _)| member);
        let durable: BTreeSet<ReplicaId> = linked
            .chain([self.member])
            .filter(|member| state.is_durable(*member))
            .filter(|member| state.is_complete(*member) || core.mutations.has(Mutant::M45))
            .map(|member| member.replica_id)
            .collect();
        (!durable.is_empty()).then(|| state.with_durable(core.proposals.fresh(), &durable, false))
    }

    /// Notes once, a while after weaker modes came into force, how far sends may have been promised more. Earlier would do no harm:
    /// they would be told that their outcome is unknown.
    pub(crate) fn loosen(&mut self, core: &mut Core, out: &mut Vec<Effect>) {
        let is_loose = core.tracker.seen().is_some_and(|state| is_loose(state));
        if is_loose && self.loosened.is_none() {
            self.loosened = Some(core.log.end);
            self.look(core, out);
        }
    }

    /// Stronger modes came into force, be it for a moment: what was noted does not reach those who were promised them.
    pub(crate) fn tighten(&mut self, core: &Core) {
        if !core.tracker.seen().is_some_and(|state| is_loose(state)) {
            self.loosened = None;
        }
    }
}

/// Whether unflushed acknowledgements are asked for and in force.
fn is_loose(state: &State) -> bool {
    let asked = state
        .policy
        .is_some_and(|policy| policy.flush == Flush::Async);
    let said = state
        .in_force
        .is_some_and(|said| said.flush == Flush::Async);
    asked && said
}

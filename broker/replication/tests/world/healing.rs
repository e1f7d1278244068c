//! Letting everything come to rest without a fault, and what must be true then.

use rocket_replication::messages::RoleName;
use rocket_replication::replica::Writes;

use super::{Action, Bounds, World};

impl World {
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

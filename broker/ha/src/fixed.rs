//! The fixed master of a group (docs/replication.md §14, static): how a start of it comes to lead. The rounds of questions are those of
//! [`crate::election`]; what follows from the answers is `rocket_replication::fixed`'s.

use std::sync::Arc;

use rocket_replication::coordinator::Cas;
use rocket_replication::fixed::{Circumstances, Hindrance, Step, decide};
use rocket_replication::messages::{Report, RoleName};
use rocket_replication::state::State;

use crate::actor::Actor;
use crate::election::Candidates;
use crate::surroundings::{Coordinator, Log, Net, Observer};

/// How often it is said again that nobody may lead.
const AGAIN_MS: u64 = 30_000;

impl<L: Log, N: Net, C: Coordinator, O: Observer> Actor<L, N, C, O> {
    /// Whether its group has a fixed master, so that it hands over to nobody at a stop.
    pub(crate) fn is_fixed(&self) -> bool {
        let election = self.election.as_ref();
        election.is_some_and(|election| election.rules.candidates != Candidates::All)
    }

    /// The end of a round of the fixed master, which nobody leads.
    pub(crate) fn lead_again(&mut self, now_ms: u64, state: &State, reports: &[Report]) {
        let (Some(election), Some(me)) = (&mut self.election, self.replica.report()) else {
            return;
        };
        let proposal = election.proposals.fresh();
        let seen = Circumstances {
            me,
            reports,
            waited: true,
            expected_replicas: election.rules.expected_replicas,
        };
        match decide(state, &seen, proposal, self.options.mutations) {
            Step::Elect(new) => {
                if new.master == Some(me.member) {
                    tracing::info!(epoch = %new.epoch, "this replica, the fixed master, leads");
                } else {
                    tracing::warn!(epoch = %new.epoch, from = ?new.master, "this replica, the fixed master, may have lost some of what it acknowledged: it copies that back from another one, and serves when it has everything");
                }
                election.told = None;
                election.open = Some(proposal);
                self.desk.cas(Cas {
                    expected: state.version,
                    new: Arc::new(*new),
                });
            }
            Step::StartAgain => self.desk.read(),
            Step::Wait(why) => election.tell(now_ms, why),
        }
    }

    /// The fixed master has everything again: whoever leads until now shall hand over.
    pub(crate) fn call_back(&mut self, now_ms: u64) {
        let Some(election) = &mut self.election else {
            return;
        };
        let is_back = election.rules.candidates == Candidates::ThisOne
            && self.replica.role() == RoleName::InSync
            && !self.replica.tracker().has_forgotten()
            && now_ms >= election.next_ms;
        let (true, Some(me), Some(state)) = (
            is_back,
            self.replica.member().map(|member| member.replica_id),
            self.replica.tracker().seen(),
        ) else {
            return;
        };
        if state.handover == Some(me) {
            return;
        }
        election.next_ms = now_ms + election.rules.patience_ms;
        let proposal = election.proposals.fresh();
        election.open = Some(proposal);
        self.desk.cas(Cas {
            expected: state.version,
            new: Arc::new(state.handover_asked(proposal, Some(me))),
        });
    }
}

impl crate::election::Election {
    fn tell(&mut self, now_ms: u64, why: Hindrance) {
        let is_old = self
            .told
            .as_ref()
            .is_some_and(|(told, at_ms)| *told == why && now_ms < at_ms + AGAIN_MS);
        if !is_old {
            tracing::warn!("nobody leads this group: {why}");
            self.told = Some((why, now_ms));
        }
    }
}

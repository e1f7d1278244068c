//! Election by the replicas themselves (docs/replication.md §8.10, §14 `self_election`), for groups that nobody else looks
//! after: who misses a master for a while asks all others how they fare, over links of their own, and lets
//! `rocket_replication::elector` decide. Any number of replicas may do this at once; the compare-and-set lets one win.
//!
//! Nobody is suspected whom another replica still follows, or who answers as the master that the object names: a replica that
//! alone lost its link waits for that link.

use std::collections::BTreeSet;
use std::sync::Arc;

use rocket_replication::coordinator::Cas;
use rocket_replication::elector::{Circumstances, Decision, decide};
use rocket_replication::fixed::Hindrance;
use rocket_replication::identity::Proposals;
use rocket_replication::master::Phase;
use rocket_replication::messages::{LinkId, Message, Report, RoleName};
use rocket_replication::replica::Replica;
use rocket_replication::{Epoch, Incarnation, Proposal};

use crate::actor::Actor;
use crate::surroundings::{Coordinator, Event, Log, Net, Observer};

/// Far from every proposal that the state machine of the same process makes: those count up from its incarnation.
const PROPOSALS_OF_ELECTOR: u128 = 1 << 127;

/// Which replicas may become master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Candidates {
    /// Any of them.
    #[default]
    All,
    /// This one, the fixed master of its group (docs/replication.md §14, static).
    ThisOne,
    /// The fixed master, which this one is not. It elects nobody and hands over to nobody by itself.
    Another,
}

/// How a group elects by itself. No safety hangs on any of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelfElection {
    /// Who may be elected.
    pub candidates: Candidates,
    /// How long a master may be missed before it is suspected. Each replica adds up to as much again, its own share.
    pub patience_ms: u64,
    /// How long reports are waited for.
    pub election_wait_ms: u64,
    /// Replicas that a new group shall have; its first election waits for them,
    pub expected_replicas: usize,
    /// but not longer than this.
    pub first_wait_ms: u64,
}

impl Default for SelfElection {
    fn default() -> Self {
        Self {
            candidates: Candidates::All,
            patience_ms: 1_000,
            election_wait_ms: 300,
            expected_replicas: 1,
            first_wait_ms: 30_000,
        }
    }
}

/// The questions of one round.
struct Round {
    ends_ms: u64,
    waiting: BTreeSet<LinkId>,
    reports: Vec<Report>,
}

/// See the module.
pub(crate) struct Election {
    pub(crate) rules: SelfElection,
    pub(crate) proposals: Proposals,
    /// This replica's own share of patience.
    share_ms: u64,
    /// Since when there is no master to be seen, and in which epoch.
    missed: Option<(u64, Epoch)>,
    pub(crate) next_ms: u64,
    round: Option<Round>,
    pub(crate) open: Option<Proposal>,
    /// Why nobody may lead yet, as it was told last, and when.
    pub(crate) told: Option<(Hindrance, u64)>,
}

impl Election {
    pub(crate) fn new(rules: SelfElection, incarnation: Incarnation) -> Self {
        // Of all bits, so that neighbouring numbers lie far apart too.
        let bits = incarnation
            .0
            .wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
            >> 96;
        let bits = u64::try_from(bits).unwrap_or(0);
        Self {
            share_ms: bits % rules.patience_ms.max(1),
            rules,
            proposals: Proposals::new(incarnation.0 ^ PROPOSALS_OF_ELECTOR),
            missed: None,
            next_ms: 0,
            round: None,
            open: None,
            told: None,
        }
    }

    /// Whether something is to be looked at before the next sign of life.
    pub(crate) fn next_ms(&self) -> u64 {
        self.round.as_ref().map_or(u64::MAX, |round| round.ends_ms)
    }

    fn is_due(&mut self, now_ms: u64, replica: &Replica) -> bool {
        let epoch = replica.seen().0;
        if self.rules.candidates == Candidates::Another {
            return false;
        }
        // §8.16: nobody elects by an object that is not the group's.
        let is_lost = replica.member().is_none() || replica.tracker().has_forgotten();
        if is_led(replica) || is_lost || replica.role() == RoleName::Halted {
            self.missed = None;
            return false;
        }
        // A new master is given time of its own.
        let missed = self.missed.filter(|(_, before)| *before == epoch);
        let (since, _) = *self.missed.insert(missed.unwrap_or((now_ms, epoch)));
        let named = replica.tracker().seen().is_some_and(|s| s.master.is_some());
        // Where there is no master at all nobody has to be given time to come back.
        let patience = if named { self.rules.patience_ms } else { 0 };
        now_ms >= self.next_ms && now_ms >= since + patience + self.share_ms
    }
}

/// Whether it is master, or hears its master.
pub(crate) fn is_led(replica: &Replica) -> bool {
    let leads = replica
        .leading()
        .is_some_and(|master| master.phase() != Phase::Fenced);
    leads
        || replica
            .following()
            .is_some_and(rocket_replication::slave::Slave::is_streaming)
}

impl<L: Log, N: Net, C: Coordinator, O: Observer> Actor<L, N, C, O> {
    /// Takes an event that belongs to a round; gives back one that does not.
    pub(crate) fn elector_happened(&mut self, event: Event) -> Option<Event> {
        let Some(election) = &mut self.election else {
            return Some(event);
        };
        if let Event::Cas { proposal, .. } = &event
            && election.open == Some(*proposal)
        {
            election.open = None;
            self.desk.answered();
            // Whatever was answered, the object shows what came of it (C2).
            self.desk.read();
            return None;
        }
        let Some(round) = &mut election.round else {
            return Some(event);
        };
        match event {
            Event::Connected(link) if round.waiting.contains(&link) => {
                self.net.send(link, Message::Probe);
            }
            Event::Received(link, Message::Report(report)) if round.waiting.remove(&link) => {
                round.reports.push(report);
                self.net.close(link);
            }
            Event::ConnectFailed(link) | Event::Disconnected(link)
                if round.waiting.remove(&link) => {}
            other => return Some(other),
        }
        None
    }

    /// Begins or ends a round, if it is time.
    pub(crate) fn elect(&mut self, now_ms: u64) {
        let Some(election) = &mut self.election else {
            return;
        };
        let is_over = |round: &Round| round.waiting.is_empty() || now_ms >= round.ends_ms;
        if let Some(round) = election.round.take_if(|round| is_over(round)) {
            for link in &round.waiting {
                self.net.close(*link);
            }
            election.next_ms = now_ms + election.rules.patience_ms + election.share_ms;
            self.conclude_round(now_ms, round.reports);
            return;
        }
        let is_free = election.round.is_none() && election.open.is_none();
        if is_free && election.is_due(now_ms, &self.replica) {
            self.begin_round(now_ms);
        } else if is_free {
            self.call_back(now_ms);
        }
    }

    fn begin_round(&mut self, now_ms: u64) {
        let (Some(election), Some(state)) = (&mut self.election, self.replica.tracker().seen())
        else {
            return;
        };
        let me = self.replica.member().map(|member| member.replica_id);
        let others = state
            .replicas
            .iter()
            .filter(|(id, replica)| Some(**id) != me && !replica.lost);
        let waiting = others
            .map(|(_, replica)| self.net.connect(&replica.address))
            .collect();
        election.round = Some(Round {
            ends_ms: now_ms + election.rules.election_wait_ms,
            waiting,
            reports: Vec::new(),
        });
    }

    fn conclude_round(&mut self, now_ms: u64, mut reports: Vec<Report>) {
        let Some(election) = &mut self.election else {
            return;
        };
        // A master that came back meanwhile ends it.
        if is_led(&self.replica) || self.replica.tracker().has_forgotten() {
            return;
        }
        let Some(state) = self.replica.tracker().seen().cloned() else {
            return;
        };
        let is_followed = reports.iter().any(|report| {
            let leads = matches!(report.role, RoleName::Master | RoleName::Activating)
                && Some(report.member) == state.master;
            report.max_epoch == state.epoch && (leads || report.master_linked)
        });
        if is_followed {
            return;
        }
        if election.rules.candidates == Candidates::ThisOne {
            self.lead_again(now_ms, &state, &reports);
            return;
        }
        reports.extend(self.replica.report());
        let missed_ms = election.missed.map_or(0, |(since, _)| now_ms - since);
        let is_new = state.epoch == Epoch(0);
        let circumstances = Circumstances {
            reports: &reports,
            master_suspected: true,
            waited: !is_new || missed_ms >= election.rules.first_wait_ms,
            expected_replicas: election.rules.expected_replicas,
            ..Circumstances::default()
        };
        let proposal = election.proposals.fresh();
        match decide(&state, &circumstances, proposal, self.options.mutations) {
            Decision::Elect(new) => {
                tracing::info!(epoch = %new.epoch, master = ?new.master, "elects a master");
                election.open = Some(proposal);
                self.desk.cas(Cas {
                    expected: state.version,
                    new: Arc::new(*new),
                });
            }
            Decision::StartAgain => self.desk.read(),
            Decision::NeedsHuman { missing } => {
                tracing::error!(
                    ?missing,
                    "no master can be elected without these replicas, unless a human gives them up"
                );
            }
            Decision::Leave | Decision::Wait => {}
        }
    }
}

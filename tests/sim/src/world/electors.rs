//! The coordinator's register as processes reach it, electors beside the group, and the people who write to the object.
//!
//! An elector reads the object, asks replicas how they fare, decides by `rocket_replication::elector`, and tries its one
//! write; anything may happen between these, and the other elector does the same. It knows only what it read and was told.

use std::collections::BTreeSet;
use std::sync::Arc;

use rocket_ha::Event;
use rocket_ha::memory::Request;
use rocket_replication::coordinator::{Cas, CasAnswer, ReadAnswer};
use rocket_replication::elector::{Circumstances, Decision, decide};
use rocket_replication::identity::Proposals;
use rocket_replication::memory::Fate;
use rocket_replication::messages::Report;
use rocket_replication::mutations::Mutant;
use rocket_replication::replica::Replica;
use rocket_replication::{Epoch, ReplicaId, State};

use super::World;
use crate::log::GroupLog;
use crate::plan::Fault;

/// See the module.
pub(super) struct Elector {
    proposals: Proposals,
    read: Option<Arc<State>>,
    reports: Vec<Report>,
    is_suspicious: bool,
}

impl Elector {
    pub(super) fn new(number: u128) -> Self {
        Self {
            proposals: Proposals::new((number + 1) << 120),
            read: None,
            reports: Vec::new(),
            is_suspicious: false,
        }
    }

    fn forget(&mut self) {
        self.read = None;
        self.reports.clear();
        self.is_suspicious = false;
    }
}

/// Short, for traces.
pub(super) fn show(state: &State) -> String {
    let member = |m: &rocket_replication::Member| {
        let run = m.incarnation.0 >> 32 & 0xffff;
        format!("{}.{run}", m.replica_id)
    };
    let set = |members: &BTreeSet<rocket_replication::Member>| {
        members.iter().map(member).collect::<Vec<_>>().join(" ")
    };
    format!(
        "v{} e{} master {} S [{}] E [{}] m {} activated {:?} handover {:?} unclean {}",
        state.version,
        state.epoch,
        state.master.as_ref().map_or_else(|| "-".to_owned(), member),
        set(&state.in_sync),
        set(&state.eligible),
        state.min_in_sync,
        state.activated.map(|a| (a.epoch.0, a.start_offset.0)),
        state.handover.map(|id| id.0),
        state.unclean.len(),
    ) + &show_modes(state)
}

fn show_modes(state: &State) -> String {
    let Some(asked) = state.policy else {
        return String::new();
    };
    let durable = state.replicas.iter().filter(|(_, replica)| replica.durable);
    let durable: Vec<u32> = durable.map(|(id, _)| id.0).collect();
    let said = state
        .in_force
        .map(|said| (said.flush, said.replication, said.min_in_sync, said.since.0));
    format!(
        " asks for {:?} {:?}, in force {said:?}, durable {durable:?}",
        asked.flush, asked.replication
    )
}

impl<L: GroupLog> World<L> {
    fn fate(&mut self) -> Fate {
        if !self.plan.weather.has(Fault::StrangeWrite) || !self.dice.once_in(5) {
            return Fate::Answered;
        }
        *self
            .dice
            .pick(&[Fate::AnswerLost, Fate::Late, Fate::Doubled])
    }

    /// The request of `n` reaches the coordinator, or not; the answer is on its way. Returns whether there was one.
    pub(super) fn request(&mut self, n: usize, is_faulty: bool) -> bool {
        let is_free = self.is_awake(n) && self.process(n).is_some_and(|p| p.answer.is_none());
        let request = self.process(n).filter(|_| is_free);
        let Some(request) = request.and_then(|process| process.requests.take()) else {
            return false;
        };
        let answer = match request {
            Request::Read if self.machines[n].is_cut_off => Event::Read(ReadAnswer::Unreachable),
            Request::Read => Event::Read(self.memory.read()),
            Request::Cas(cas) => {
                let proposal = cas.new.proposal;
                let fate = if is_faulty {
                    self.fate()
                } else {
                    Fate::Answered
                };
                let answer = if self.machines[n].is_cut_off {
                    if self.dice.once_in(2) {
                        CasAnswer::Unsent
                    } else {
                        self.try_write(cas, Fate::Late)
                    }
                } else {
                    self.say(format_args!("{n} writes, {fate:?}: {}", show(&cas.new)));
                    self.try_write(cas, fate)
                };
                Event::Cas { proposal, answer }
            }
        };
        if let Some(process) = self.machines[n].process.as_mut() {
            process.answer = Some(answer);
        }
        true
    }

    /// A dying process had sent it.
    pub(super) fn send_late(&mut self, request: Request) {
        if let Request::Cas(cas) = request
            && self.dice.once_in(2)
        {
            self.try_write(cas, Fate::Late);
        }
    }

    fn try_write(&mut self, cas: Cas, fate: Fate) -> CasAnswer {
        let tried = self.memory.cas(cas, fate);
        let answer = match tried {
            Ok(answer) => answer,
            Err(violation) => {
                self.fail(format!("a write that is not well-formed: {violation}"));
                CasAnswer::Conflict
            }
        };
        self.object_changed();
        answer
    }

    /// A write that its sender gave up arrives.
    pub(super) fn arrive(&mut self, which: u64) -> bool {
        let count = self.memory.late().len();
        if count == 0 {
            return false;
        }
        let arrived = self.memory.arrive(which as usize % count);
        match arrived {
            Ok(CasAnswer::Applied(version)) => {
                self.ledger.reached.late_writes += 1;
                self.say(format_args!("a late write makes version {version}"));
            }
            Ok(_) => {}
            Err(violation) => {
                self.fail(format!("a late write that is not well-formed: {violation}"));
            }
        }
        self.object_changed();
        true
    }

    /// The coordinator's answer reaches `n`.
    pub(super) fn answer(&mut self, n: usize) -> bool {
        if !self.is_awake(n) {
            return false;
        }
        let process = self.machines[n].process.as_mut();
        let Some(event) = process.and_then(|process| process.answer.take()) else {
            return false;
        };
        if self.trace.is_kept() {
            let line = match &event {
                Event::Read(ReadAnswer::State(state)) => format!("v{}", state.version),
                other => format!("{other:?}"),
            };
            self.say(format_args!("{n} is answered: {line}"));
        }
        self.step(n, Some(event));
        true
    }

    /// The watch of `n` shows the present state, if it did not yet.
    pub(super) fn show(&mut self, n: usize) -> bool {
        let Some(state) = self.memory.state().cloned() else {
            return false;
        };
        let is_news = self.is_awake(n)
            && !self.machines[n].is_cut_off
            && self.machines[n].hinted < state.version;
        if is_news {
            self.machines[n].hinted = state.version;
            self.step(n, Some(Event::Watched(state)));
        }
        is_news
    }

    /// The watch of `n` shows a state, however old.
    pub(super) fn show_old(&mut self, n: usize) {
        let state = Arc::clone(self.dice.pick(&self.history));
        if self.is_awake(n) {
            self.say(format_args!("{n} is shown v{}", state.version));
            self.step(n, Some(Event::Watched(state)));
        }
    }

    /// One deed of an elector.
    pub(super) fn elector(&mut self, which: usize) {
        if self.forgotten.is_some() {
            return;
        }
        let kind = self.dice.below(4);
        let Some(read) = self.electors[which].read.clone() else {
            self.look_as_elector(which);
            return;
        };
        match kind {
            0 | 1 => {
                let n = self.dice.below(self.machines.len() as u64) as usize;
                let report = self.replica(n).and_then(Replica::report);
                if let Some(report) = report.filter(|_| self.is_awake(n)) {
                    let elector = &mut self.electors[which];
                    elector.reports.retain(|r| r.member != report.member);
                    elector.reports.push(report);
                }
            }
            2 => {
                let waited = self.dice.once_in(2);
                self.decide(which, &read, waited);
            }
            _ if self.dice.once_in(4) => self.electors[which].forget(),
            _ => {}
        }
    }

    fn look_as_elector(&mut self, which: usize) {
        let state = self.state();
        let is_gone = state
            .master
            .is_none_or(|master| self.machine_of(master).is_none_or(|n| !self.is_awake(n)));
        let is_hurt =
            self.machines.iter().any(|machine| machine.is_cut_off) || !self.stalled.is_empty();
        let suspects = is_gone
            || is_hurt && self.dice.once_in(6)
            || self.plan.weather.has(Fault::Suspicion) && self.dice.once_in(25);
        let elector = &mut self.electors[which];
        elector.forget();
        elector.read = Some(state);
        elector.is_suspicious = suspects;
    }

    /// What it decides by what it read and was told.
    pub(super) fn decide(&mut self, which: usize, read: &State, waited: bool) -> Decision {
        let elector = &mut self.electors[which];
        let circumstances = Circumstances {
            reports: &elector.reports,
            master_suspected: elector.is_suspicious,
            waited,
            expected_replicas: self.plan.column.replicas(),
            ..Circumstances::default()
        };
        let proposal = elector.proposals.fresh();
        let decision = decide(read, &circumstances, proposal, self.plan.mutations);
        match decision.clone() {
            Decision::Elect(new) => {
                self.judge_choice(which, &new);
                self.write_as_elector(read, *new);
                self.electors[which].forget();
            }
            Decision::Leave | Decision::StartAgain => self.electors[which].forget(),
            Decision::Wait | Decision::NeedsHuman { .. } => {}
        }
        decision
    }

    /// An elector that forgot where the report came from names a replica, not a member.
    fn judge_choice(&mut self, which: usize, new: &State) {
        let is_told = new
            .master
            .is_some_and(|m| self.electors[which].reports.iter().any(|r| r.member == m));
        if !is_told {
            self.fail(format!(
                "an elector names a run that did not report: {}",
                show(new)
            ));
        }
    }

    fn write_as_elector(&mut self, read: &State, mut new: State) {
        let mut expected = read.version;
        if self.plan.mutations.has(Mutant::M31) {
            // Whatever the object is by now.
            expected = self.state().version;
            new.version = expected.next();
        }
        let fate = self.fate();
        self.say(format_args!("an elector writes, {fate:?}: {}", show(&new)));
        if new.master.is_some_and(|m| read.eligible.contains(&m)) {
            self.ledger.reached.from_eligible += 1;
        }
        self.try_write(
            Cas {
                expected,
                new: Arc::new(new),
            },
            fate,
        );
    }

    /// An elector looks, asks everybody, and decides at once. For when faults have stopped.
    pub(super) fn elect_now(&mut self) -> Option<Decision> {
        self.look_as_elector(0);
        let reports = (0..self.machines.len()).filter_map(|n| self.replica(n)?.report());
        let reports: Vec<Report> = reports.collect();
        self.electors[0].reports = reports;
        let read = self.electors[0].read.clone()?;
        Some(self.decide(0, &read, true))
    }

    /// What people write: `change` makes it from the state and a proposal.
    pub(super) fn write_as_human(
        &mut self,
        change: impl FnOnce(&State, rocket_replication::Proposal) -> State,
    ) {
        if self.forgotten.is_some() {
            return;
        }
        let state = self.state();
        let proposal = self.electors[0].proposals.fresh();
        let new = change(&state, proposal);
        self.say(format_args!("a human writes: {}", show(&new)));
        let expected = state.version;
        self.try_write(
            Cas {
                expected,
                new: Arc::new(new),
            },
            Fate::Answered,
        );
    }

    /// A human gives up the replicas whose disks are gone, and where that is not enough says who goes on (§8.14).
    pub(super) fn help_by_hand(&mut self) {
        let alive = self.replicas_on_disks();
        let state = self.state();
        let gone: Vec<ReplicaId> = state
            .replicas
            .iter()
            .filter(|(id, replica)| !alive.contains_key(id) && !replica.lost)
            .map(|(id, _)| *id)
            .collect();
        if let Some(id) = gone.first().copied() {
            self.write_as_human(|state, proposal| state.given_up(proposal, id));
            return;
        }
        let reports: Vec<Report> = (0..self.machines.len())
            .filter_map(|n| self.replica(n)?.report())
            .filter(|report| state.is_current(report.member))
            .collect();
        let best = reports
            .iter()
            .filter(|report| !report.damaged)
            .max_by_key(|r| (r.last.map_or(Epoch(0), |e| e.epoch), r.log_end));
        let Some(best) = best.map(|r| r.member.replica_id) else {
            return;
        };
        if state.complete().next().is_some() {
            return;
        }
        let circumstances = Circumstances {
            reports: &reports,
            master_suspected: true,
            waited: true,
            forced: Some((best, state.epoch)),
            ..Circumstances::default()
        };
        let proposal = self.electors[0].proposals.fresh();
        if let Decision::Elect(new) = decide(&state, &circumstances, proposal, self.plan.mutations)
        {
            self.say(format_args!("a human forces an election of {best}"));
            self.go_on_without_the_damaged();
            self.write_as_elector(&state, *new);
        }
    }
}

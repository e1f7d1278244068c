//! The coordinator: what processes, the elector and people write there, and what watches show of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rocket_ha::memory::{MemoryRequests, Request};
use rocket_ha::{Board, Event};
use rocket_replication::coordinator::{Cas, CasAnswer, ReadAnswer};
use rocket_replication::elector::{Circumstances, Decision, decide};
use rocket_replication::fixed::may_write;
use rocket_replication::memory::Fate;
use rocket_replication::messages::Report;
use rocket_replication::{DiskId, Policy, Proposal, State};

use super::World;

/// Looks, when a write leaves, whether answers are bound already by the modes that it says are in force (A2 of §5.1).
pub(crate) struct Binding {
    pub(super) requests: MemoryRequests,
    pub(super) board: Arc<Board>,
    pub(super) version: Arc<AtomicU64>,
}

impl rocket_ha::Coordinator for Binding {
    fn read(&mut self) {
        self.requests.read();
    }

    fn cas(&mut self, cas: Cas) {
        // One that a newer version has overtaken while it waited for its turn can never be applied.
        let may_apply = cas.expected.0 == self.version.load(Ordering::Relaxed);
        if let (true, Some(said), Some(bound)) = (may_apply, cas.new.in_force, self.board.modes()) {
            let strongest = bound.stronger(said.policy());
            assert_eq!(bound, strongest, "said before it binds");
        }
        self.requests.cas(cas);
    }
}

impl World {
    /// The request of `n` reaches the coordinator; the answer is on its way. Returns whether there was one.
    pub(crate) fn request(&mut self, n: usize, fate: Fate) -> bool {
        let Some(process) = self.machines[n].process.as_ref() else {
            return false;
        };
        let answer = match process.requests.take() {
            None => return false,
            Some(Request::Read) if fate == Fate::AnswerLost => Event::Read(ReadAnswer::Unreachable),
            Some(Request::Read) => Event::Read(self.memory.read()),
            Some(Request::Cas(cas)) if self.refuses => Event::Cas {
                proposal: cas.new.proposal,
                answer: CasAnswer::Unsent,
            },
            Some(Request::Cas(cas)) => {
                let proposal = cas.new.proposal;
                if self.plan.is_fixed && n > 0 {
                    self.check_rights(n, &cas);
                }
                let answer = self.memory.cas(cas, fate).expect("a well-formed write");
                Event::Cas { proposal, answer }
            }
        };
        self.requests += 1;
        let process = self.machines[n].process.as_mut().expect("it runs");
        assert!(process.answer.replace(answer).is_none(), "one at a time");
        self.remember();
        true
    }

    /// The register of a fixed master would not apply anything else.
    fn check_rights(&self, n: usize, cas: &Cas) {
        let state = self.state();
        let writer = DiskId(n as u128 + 1);
        assert!(
            state.version != cas.expected || may_write(&state, &cas.new, writer),
            "{n} writes what is not its own: {state:?} {:?}",
            cas.new
        );
    }

    /// The coordinator's answer reaches `n`.
    pub(crate) fn answer(&mut self, n: usize) -> bool {
        let process = self.machines[n].process.as_mut();
        let Some(event) = process.and_then(|process| process.answer.take()) else {
            return false;
        };
        self.step(n, Some(event));
        true
    }

    /// An answer of the coordinator is on its way to `n`.
    pub(crate) fn is_answering(&self, n: usize) -> bool {
        self.process(n).answer.is_some()
    }

    pub(crate) fn remember(&mut self) {
        let state = self.state();
        self.version.store(state.version.0, Ordering::Relaxed);
        if self.history.last() != Some(&state) {
            self.history.push(state);
        }
    }

    pub(crate) fn reports(&self) -> Vec<Report> {
        let up = (0..self.machines.len()).filter(|n| self.is_up(*n));
        up.filter_map(|n| self.replica(n).report()).collect()
    }

    /// One try of the elector, by these reports.
    pub(crate) fn elect(&mut self, reports: &[Report], is_master_suspected: bool) {
        let state = self.state();
        let circumstances = Circumstances {
            reports,
            master_suspected: is_master_suspected,
            waited: true,
            ..Circumstances::default()
        };
        let proposal = self.elector.fresh();
        if let Decision::Elect(new) = decide(&state, &circumstances, proposal, self.plan.mutations)
        {
            let cas = Cas {
                expected: state.version,
                new: Arc::new(*new),
            };
            self.memory.cas(cas, Fate::Answered).unwrap();
            self.remember();
        }
    }

    /// Somebody asks the master to hand over.
    pub(crate) fn ask_handover(&mut self, n: usize) {
        if let Some(member) = self.replica(n).member() {
            let to = Some(member.replica_id);
            self.write(|state, proposal| state.handover_asked(proposal, to));
        }
    }

    /// Somebody asks for other modes.
    pub(crate) fn ask_for(&mut self, policy: Policy) {
        self.write(|state, proposal| state.with_policy(proposal, policy));
    }

    /// Somebody changes the object.
    fn write(&mut self, change: impl FnOnce(&State, Proposal) -> State) {
        let state = self.state();
        let new = change(&state, self.elector.fresh());
        let cas = Cas {
            expected: state.version,
            new: Arc::new(new),
        };
        self.memory.cas(cas, Fate::Answered).unwrap();
        self.remember();
    }

    /// A watch shows `n` a state, however old.
    pub(crate) fn hint(&mut self, n: usize, state: Arc<State>) {
        self.step(n, Some(Event::Watched(state)));
    }

    /// The watch of `n` shows the present state, if it did not yet.
    pub(crate) fn show(&mut self, n: usize) -> bool {
        let state = self.state();
        let is_news = self.is_up(n) && self.machines[n].hinted < state.version;
        if is_news {
            self.machines[n].hinted = state.version;
            self.hint(n, state);
        }
        is_news
    }
}

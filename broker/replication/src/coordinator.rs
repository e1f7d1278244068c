//! The coordinator as a process sees it (§14): one register, current reads, compare-and-set, hints; and the rules C1–C4 of
//! §8.1 for what an answer means.
//!
//! Nothing here speaks to a coordinator. [`Tracker`] says what to send and what an answer proves; the shell carries the
//! requests to one of the four implementations (Kubernetes, file, static, [`crate::memory`]).

use std::sync::Arc;

use crate::commit::Quorum;
use crate::identity::{GroupUid, Proposal, Version};
use crate::mutations::{Mutant, Mutations};
use crate::state::{State, Violation};

/// The answer to a current (linearizable) read.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ReadAnswer {
    /// The object as it is.
    State(Arc<State>),
    /// There is no such object.
    Gone,
    /// No answer. Says nothing about the object.
    Unreachable,
}

/// The answer to a compare-and-set.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CasAnswer {
    /// It was applied and made this version.
    Applied(Version),
    /// The object was not at the expected version, at least for the try that answered (C2).
    Conflict,
    /// No answer, or an error that may hide an applied write.
    Unknown,
    /// It certainly never left this process.
    Unsent,
}

/// A compare-and-set to send.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Cas {
    /// The version that it replaces.
    pub expected: Version,
    /// What it writes.
    pub new: Arc<State>,
}

/// What a process concludes from an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conclusion {
    /// Nothing new is known.
    Nothing,
    /// A newer state is known, and nothing of ours is open.
    News,
    /// A current read is needed before anything can be concluded (C2).
    Read,
    /// Our write is still open: it may land at any later time.
    Open,
    /// The object went back or has another identity (§8.16).
    Forgot,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Open {
    cas: Cas,
    /// The request is out and unanswered.
    in_flight: bool,
    /// Some try of it may have reached the coordinator.
    may_land: bool,
}

/// What one process knows of the object: the newest state it acted on, and its own write that may still land.
///
/// At most one write is open at a time, and the same write is tried again until C2 resolves it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Tracker {
    seen: Option<Arc<State>>,
    open: Option<Open>,
    /// The last read showed no object, another one, or one that went back (§8.16). Nothing is written until one shows it again.
    forgot: bool,
    /// Our last write was answered as one that never left: so may the next one be, and it waits for [`Tracker::pause_over`].
    was_refused: bool,
    mutations: Mutations,
}

impl Tracker {
    /// Knows nothing yet.
    pub fn new(mutations: Mutations) -> Self {
        Self {
            seen: None,
            open: None,
            forgot: false,
            was_refused: false,
            mutations,
        }
    }

    /// The newest state that was read or written.
    pub fn seen(&self) -> Option<&Arc<State>> {
        self.seen.as_ref()
    }

    /// The version of that state; zero before the first.
    pub fn version(&self) -> Version {
        self.seen.as_ref().map_or(Version(0), |s| s.version)
    }

    /// Our write that may still land.
    pub fn open(&self) -> Option<&State> {
        self.open.as_ref().map(|o| o.cas.new.as_ref())
    }

    /// `Possible` of §8.7: S and m of the last state seen and of our own open write.
    pub fn possible(&self) -> Vec<Quorum> {
        let (Some(seen), open) = (&self.seen, self.open()) else {
            return Vec::new();
        };
        let Some(open) = open else {
            return vec![Quorum::of(seen)];
        };
        let shrinks = open.in_sync.is_subset(&seen.in_sync);
        match (
            shrinks,
            self.mutations.has(Mutant::M3),
            self.mutations.has(Mutant::M4),
        ) {
            (true, true, _) => vec![Quorum::of(open)],
            (false, _, true) => vec![Quorum::of(seen)],
            _ => vec![Quorum::of(seen), Quorum::of(open)],
        }
    }

    /// Whether every acknowledgement that the commit rule counts means flushed bytes, whichever of the possible states the object
    /// is in. Only of a group whose object asks for modes (§5.1).
    pub fn counts_flushed(&self) -> bool {
        let seen = self.seen.as_deref();
        let are_durable = |state: &State| {
            let mut members = state.in_sync.iter();
            members.all(|member| state.is_durable(*member))
        };
        seen.is_some_and(|state| state.policy.is_some())
            && (seen.into_iter().chain(self.open()).all(are_durable)
                || self.mutations.has(Mutant::M42))
    }

    /// Opens a write over the state last seen and returns the request. It binds from now on.
    ///
    /// # Errors
    /// [`Violation`] when the change is not well-formed (W1–W7); nothing is opened then.
    ///
    /// # Panics
    /// When a write is already open, or nothing was read yet.
    #[expect(
        clippy::expect_used,
        reason = "callers look at `is_free` first; two open writes would break C2"
    )]
    pub fn propose(&mut self, new: State) -> Result<Cas, Violation> {
        assert!(self.open.is_none(), "one open write at a time");
        let seen = self
            .seen
            .as_ref()
            .expect("a state was read before one is written");
        let broken_on_purpose = [Mutant::M2, Mutant::M8, Mutant::M9, Mutant::M39]
            .iter()
            .any(|m| self.mutations.has(*m));
        if !broken_on_purpose {
            State::check_transition(seen, &new)?;
        }
        let cas = Cas {
            expected: seen.version,
            new: Arc::new(new),
        };
        self.open = Some(Open {
            cas: cas.clone(),
            in_flight: true,
            may_land: false,
        });
        Ok(cas)
    }

    /// Whether a new write may be proposed.
    pub fn is_free(&self) -> bool {
        self.seen.is_some() && self.open.is_none() && !self.forgot && !self.was_refused
    }

    /// The pause between tries is over. Without one, a coordinator that answers at once that it will not write (its folder is full, its
    /// rules forbid it) is asked again as fast as it answers.
    pub fn pause_over(&mut self) {
        self.was_refused = false;
    }

    /// The request with the write `proposal` was not sent, by this process itself.
    pub fn dropped(&mut self, proposal: Proposal) -> Conclusion {
        let before = self.was_refused;
        let conclusion = self.answered(proposal, CasAnswer::Unsent);
        self.was_refused = before;
        conclusion
    }

    /// Whether the coordinator forgot what this process knows (§8.16), as far as the last read told.
    pub fn has_forgotten(&self) -> bool {
        self.forgot
    }

    /// A current read showed that there is no object (§8.16).
    pub fn gone(&mut self) -> Conclusion {
        self.forgot = true;
        Conclusion::Forgot
    }

    /// The open write again, when its last try was answered without an end (C2). None to an object that is not the one it was
    /// meant for (§8.16).
    pub fn again(&mut self) -> Option<Cas> {
        if self.forgot {
            return None;
        }
        let open = self.open.as_mut().filter(|o| !o.in_flight)?;
        open.in_flight = true;
        Some(open.cas.clone())
    }

    /// What the answer to the write `proposal` proves.
    pub fn answered(&mut self, proposal: Proposal, answer: CasAnswer) -> Conclusion {
        let Some(open) = self
            .open
            .as_mut()
            .filter(|o| o.cas.new.proposal == proposal)
        else {
            return Conclusion::Nothing;
        };
        open.in_flight = false;
        match answer {
            CasAnswer::Applied(_) => {
                self.seen = Some(Arc::clone(&open.cas.new));
                self.open = None;
                self.forgot = false;
                Conclusion::News
            }
            CasAnswer::Unsent if !open.may_land => {
                self.open = None;
                self.was_refused = true;
                Conclusion::Read
            }
            CasAnswer::Unsent => Conclusion::Open,
            CasAnswer::Conflict if self.mutations.has(Mutant::M5) => {
                self.open = None;
                Conclusion::Read
            }
            // C2: a layer below may have sent it twice, so even a conflict may hide that the first one landed.
            CasAnswer::Conflict | CasAnswer::Unknown => {
                open.may_land = true;
                Conclusion::Read
            }
        }
    }

    /// What a current read proves (C2), and what it shows.
    pub fn read(&mut self, group_uid: Option<GroupUid>, state: Arc<State>) -> Conclusion {
        let other_object = group_uid.is_some_and(|uid| uid != state.group_uid);
        if (other_object || state.version < self.version()) && !self.mutations.has(Mutant::M28) {
            self.forgot = true;
            return Conclusion::Forgot;
        }
        let is_back = std::mem::take(&mut self.forgot);
        if let Some(open) = &self.open {
            if state.version == open.cas.expected {
                if self.mutations.has(Mutant::M6) && !open.in_flight {
                    self.open = None;
                    return Conclusion::News;
                }
                return Conclusion::Open;
            }
            // Version = expected + 1 with our proposal: applied. Any other higher version: it can never apply from now on.
            self.open = None;
        } else if state.version == self.version() && !is_back {
            return Conclusion::Nothing;
        }
        self.seen = Some(state);
        Conclusion::News
    }

    /// A hint: obeyed only as a reason to read (C4).
    pub fn watched(&mut self, state: &Arc<State>) -> Conclusion {
        if self.mutations.has(Mutant::M25) && state.version >= self.version() {
            self.open = None;
            self.seen = Some(Arc::clone(state));
            return Conclusion::News;
        }
        if state.version > self.version() {
            Conclusion::Read
        } else {
            Conclusion::Nothing
        }
    }
}

#[cfg(test)]
#[path = "coordinator_tests.rs"]
mod tests;

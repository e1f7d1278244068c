//! When a master is given up: from what the replicas of its group and Kubernetes say. Pure, time is an argument.
//!
//! No safety hangs on it (P5, P6): an election that was not needed costs a moment without writes. What is judged here is how
//! soon one is tried. The master's own answer outweighs everything. A process that has ended needs no time, and where nobody listens
//! one has ended. One that is silent is given some, and more while its slaves still hear it: then it may be the operator that is
//! cut off.

use std::collections::BTreeSet;

use rocket_replication::identity::{Member, ReplicaId};
use rocket_replication::messages::{Report, RoleName};
use rocket_replication::state::State;

use crate::elected::Life;

/// What came back from one question to all replicas.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// Their answers.
    pub(super) reports: Vec<Report>,
    /// Replicas at whose address nobody listens, or who cut the connection and did not take another one.
    pub(super) refused: BTreeSet<ReplicaId>,
}

impl Round {
    /// The answers of those who could be master.
    pub(super) fn able(&self) -> Vec<Report> {
        let able = |report: &&Report| report.role != RoleName::Halted;
        self.reports.iter().filter(able).copied().collect()
    }

    fn of(&self, member: Member) -> Option<&Report> {
        self.reports.iter().find(|report| report.member == member)
    }

    /// Whether another run of the same replica answers: the one that `member` names has ended.
    fn is_succeeded(&self, member: Member) -> bool {
        let is_later = |report: &Report| {
            report.member.replica_id == member.replica_id && report.member != member
        };
        self.reports.iter().any(is_later)
    }

    fn is_followed(&self, state: &State) -> bool {
        let follows = |report: &Report| report.master_linked && report.max_epoch == state.epoch;
        self.reports.iter().any(follows)
    }
}

/// How long nothing may be heard of a master, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// It is known to have ended, or there is none.
    pub(super) ended: u64,
    /// Nobody listens where it was: long enough to knock twice.
    pub(super) refused: u64,
    /// Neither it nor its slaves speak of it.
    pub(super) silent: u64,
    /// Its slaves say that they are linked to it.
    pub(super) followed: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            ended: 0,
            refused: 20,
            silent: 1_000,
            followed: 3_000,
        }
    }
}

impl Limits {
    /// Of an operator that another one works before: that one is given time. Were it gone with the master's node, its lease would
    /// last much longer.
    fn standby() -> Self {
        const AHEAD: u64 = 750;
        let first = Self::default();
        Self {
            ended: first.ended + AHEAD,
            refused: first.refused + AHEAD,
            silent: first.silent + AHEAD,
            // A master that is heard where the group is, is nobody's business who is cut off from it.
            followed: u64::MAX,
        }
    }
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opinion {
    /// Nothing: it answers.
    Fine,
    /// Ask again soon.
    Suspicious,
    /// Elect another one.
    Elect,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Judge {
    limits: Limits,
    missed: Option<Missed>,
}

/// A master that does not answer.
#[derive(Debug, Clone, Copy)]
struct Missed {
    /// Nobody when there is none.
    whom: Option<Member>,
    /// When it was asked first and did not answer.
    since: u64,
    /// Nobody has listened where it was since then.
    is_refused: bool,
}

impl Judge {
    /// Judges for an operator that leads, or for one that stands by.
    pub(super) fn new(is_standby: bool) -> Self {
        let limits = if is_standby {
            Limits::standby()
        } else {
            Limits::default()
        };
        Self {
            limits,
            missed: None,
        }
    }

    /// What one round of answers means for the master that `state` names: asked for at `asked_ms`, waited for until `now_ms`. `life`
    /// is what Kubernetes knows of its process.
    pub(super) fn look(
        &mut self,
        (asked_ms, now_ms): (u64, u64),
        state: &State,
        round: &Round,
        life: Life,
    ) -> Opinion {
        // Another master is given time of its own. It has been silent since it was asked.
        let known = self
            .missed
            .filter(|missed| state.master.is_none() || missed.whom == state.master);
        let refuses = |master: Member| round.refused.contains(&master.replica_id);
        let missed = Missed {
            whom: state.master,
            since: known.map_or(asked_ms, |known| known.since),
            is_refused: known.is_some_and(|known| known.is_refused)
                || state.master.is_some_and(refuses),
        };
        self.missed = Some(missed);
        let limit_ms = match state.master.map(|master| (master, round.of(master))) {
            None => self.limits.ended,
            Some((_, Some(report))) if report.role == RoleName::Halted => self.limits.ended,
            Some((_, Some(_))) => {
                self.missed = None;
                return Opinion::Fine;
            }
            Some((master, None)) if round.is_succeeded(master) => self.limits.ended,
            Some((_, None)) if round.is_followed(state) => self.limits.followed,
            Some((_, None)) if life == Life::Ended => self.limits.ended,
            Some((_, None)) if missed.is_refused => self.limits.refused,
            Some((_, None)) => self.limits.silent,
        };
        if now_ms.saturating_sub(missed.since) >= limit_ms {
            Opinion::Elect
        } else {
            Opinion::Suspicious
        }
    }

    /// Whether the present master did not answer when it was asked last.
    pub(super) fn is_suspicious(&self) -> bool {
        self.missed.is_some()
    }

    /// For how long nothing was heard of a master.
    pub(super) fn missed_ms(&self, now_ms: u64) -> u64 {
        self.missed
            .map_or(0, |missed| now_ms.saturating_sub(missed.since))
    }
}

#[cfg(test)]
mod tests {
    use rocket_replication::memory::{group, member};
    use rocket_replication::{Epoch, PhysicalOffset};

    use super::*;

    fn report(id: u32, role: RoleName, master_linked: bool) -> Report {
        Report {
            member: member(id),
            role,
            max_epoch: Epoch(1),
            last: None,
            log_end: PhysicalOffset(0),
            durable_end: PhysicalOffset(0),
            confirm: PhysicalOffset(0),
            version: group(3).version,
            master_linked,
            damaged: false,
        }
    }

    fn round(reports: &[Report]) -> Round {
        Round {
            reports: reports.to_vec(),
            refused: BTreeSet::new(),
        }
    }

    /// A round whose answers came at once.
    fn at(now_ms: u64) -> (u64, u64) {
        (now_ms, now_ms)
    }

    fn slaves(are_linked: bool) -> Round {
        round(&[2, 3].map(|id| report(id, RoleName::InSync, are_linked)))
    }

    #[test]
    fn master_that_answers_is_fine_whatever_kubernetes_says() {
        let answers = round(&[report(1, RoleName::Master, false)]);
        let mut judge = Judge::default();
        assert_eq!(
            judge.look(at(0), &group(3), &answers, Life::Ended),
            Opinion::Fine
        );
        let halted = round(&[report(1, RoleName::Halted, false)]);
        assert_eq!(
            judge.look(at(1), &group(3), &halted, Life::Runs),
            Opinion::Elect
        );
        assert!(halted.able().is_empty());
    }

    #[test]
    fn proof_of_its_end_acts_at_once_and_silence_after_its_limit() {
        let state = group(3);
        let mut judge = Judge::default();
        assert_eq!(
            judge.look(at(0), &state, &slaves(false), Life::Ended),
            Opinion::Elect
        );
        let mut refused = slaves(false);
        refused.refused.insert(ReplicaId(1));
        for (answers, limit_ms) in [
            (&refused, 20),
            (&slaves(false), 1_000),
            (&slaves(true), 3_000),
        ] {
            let mut judge = Judge::default();
            for (now_ms, expected) in [
                (5, Opinion::Suspicious),
                (limit_ms + 4, Opinion::Suspicious),
                (limit_ms + 5, Opinion::Elect),
            ] {
                let opinion = judge.look(at(now_ms), &state, answers, Life::Runs);
                assert_eq!(opinion, expected, "{now_ms} of {limit_ms}");
            }
        }
    }

    #[test]
    fn silence_counts_from_the_question_and_a_later_run_ends_it() {
        let (state, mut judge) = (group(3), Judge::default());
        let mut look = |at, answers: &Round| judge.look(at, &state, answers, Life::Runs);
        assert_eq!(look((0, 300), &slaves(false)), Opinion::Suspicious);
        assert_eq!(look((320, 999), &slaves(false)), Opinion::Suspicious);
        assert_eq!(look((900, 1_000), &slaves(false)), Opinion::Elect);
        // Whoever was refused once and hears nothing now has not come nearer.
        let mut judge = Judge::default();
        let mut refused = slaves(false);
        refused.refused.insert(ReplicaId(1));
        judge.look(at(0), &state, &refused, Life::Runs);
        let opinion = judge.look(at(20), &state, &slaves(false), Life::Runs);
        assert_eq!(opinion, Opinion::Elect);
        let mut judge = Judge::default();
        let mut restarted = slaves(true);
        let mut later = report(1, RoleName::Booting, false);
        later.member.incarnation.0 += 1;
        restarted.reports.push(later);
        let opinion = judge.look(at(0), &state, &restarted, Life::Runs);
        assert_eq!(opinion, Opinion::Elect);
    }

    #[test]
    fn operator_that_stands_by_leaves_time_to_the_one_that_leads() {
        let state = group(3);
        let none = State {
            master: None,
            ..state.clone()
        };
        let (mut refused, heard) = (slaves(false), slaves(true));
        refused.refused.insert(ReplicaId(1));
        for (state, answers, life, limit_ms) in [
            (&none, &refused, Life::Runs, 750),
            (&state, &slaves(false), Life::Ended, 750),
            (&state, &refused, Life::Runs, 770),
            (&state, &slaves(false), Life::Runs, 1_750),
            (&state, &heard, Life::Ended, u64::MAX),
        ] {
            let mut judge = Judge::new(true);
            for now_ms in [0, limit_ms - 1, limit_ms] {
                let opinion = judge.look(at(now_ms), state, answers, life);
                let is_over = now_ms == limit_ms;
                assert_eq!(opinion == Opinion::Elect, is_over, "{now_ms} of {limit_ms}");
            }
        }
    }

    #[test]
    fn an_answer_in_between_begins_the_time_anew() {
        let (state, mut judge) = (group(3), Judge::default());
        let answers = round(&[report(1, RoleName::Master, false)]);
        judge.look(at(0), &state, &slaves(false), Life::Runs);
        judge.look(at(900), &state, &answers, Life::Runs);
        assert_eq!(
            judge.look(at(1_100), &state, &slaves(false), Life::Runs),
            Opinion::Suspicious
        );
    }

    #[test]
    fn next_master_is_given_time_of_its_own_and_a_missing_one_none() {
        let (mut state, mut judge) = (group(3), Judge::default());
        judge.look(at(0), &state, &slaves(false), Life::Runs);
        state.master = None;
        assert_eq!(
            judge.look(at(400), &state, &slaves(false), Life::Runs),
            Opinion::Elect
        );
        assert_eq!(judge.missed_ms(400), 400);
        state.master = Some(member(2));
        assert_eq!(
            judge.look(at(2_000), &state, &round(&[]), Life::Runs),
            Opinion::Suspicious
        );
    }
}

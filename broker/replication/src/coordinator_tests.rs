use super::*;
use crate::identity::Proposals;
use crate::memory::{Fate, Memory, group, member};

struct Process {
    tracker: Tracker,
    proposals: Proposals,
}

impl Process {
    fn new(seed: u128, memory: &Memory) -> Self {
        let mut process = Self {
            tracker: Tracker::default(),
            proposals: Proposals::new(seed << 64),
        };
        process.look(memory);
        process
    }

    fn look(&mut self, memory: &Memory) -> Conclusion {
        match memory.read() {
            ReadAnswer::State(state) => self.tracker.read(None, state),
            _ => Conclusion::Forgot,
        }
    }

    fn grow(&mut self) -> Cas {
        let seen = self.tracker.seen().unwrap();
        let new = seen.grown(self.proposals.fresh(), member(2), Mutations::default());
        self.tracker.propose(new).unwrap()
    }
}

fn sets(tracker: &Tracker) -> Vec<usize> {
    tracker.possible().iter().map(|q| q.members.len()).collect()
}

#[test]
fn open_write_is_possible_from_the_moment_it_is_sent() {
    let memory = Memory::new(group(2), Mutations::default());
    let mut process = Process::new(1, &memory);
    assert_eq!(sets(&process.tracker), [1]);
    process.grow();
    assert_eq!(sets(&process.tracker), [1, 2]);
}

/// C2, first case.
#[test]
fn lost_answer_of_an_applied_write_is_found_by_reading() {
    let mut memory = Memory::new(group(2), Mutations::default());
    let mut process = Process::new(1, &memory);
    let cas = process.grow();
    let answer = memory.cas(cas.clone(), Fate::AnswerLost).unwrap();
    assert_eq!(
        process.tracker.answered(cas.new.proposal, answer),
        Conclusion::Read
    );
    assert_eq!(process.look(&memory), Conclusion::News);
    assert_eq!(sets(&process.tracker), [2]);
}

/// C2, second case.
#[test]
fn write_that_lost_against_another_can_never_apply() {
    let mut memory = Memory::new(group(2), Mutations::default());
    let (mut one, mut other) = (Process::new(1, &memory), Process::new(2, &memory));
    let (late, first) = (one.grow(), other.grow());
    memory.cas(first, Fate::Answered).unwrap();
    let answer = memory.cas(late.clone(), Fate::Answered).unwrap();
    assert_eq!(
        one.tracker.answered(late.new.proposal, answer),
        Conclusion::Read
    );
    assert_eq!(one.look(&memory), Conclusion::News);
    assert!(one.tracker.open().is_none());
}

/// C2, third case, and C3: it stays possible for as long as the version stands.
#[test]
fn write_without_an_answer_stays_open_until_something_lands() {
    let mut memory = Memory::new(group(2), Mutations::default());
    let mut process = Process::new(1, &memory);
    let cas = process.grow();
    memory.cas(cas.clone(), Fate::Late).unwrap();
    assert_eq!(
        process
            .tracker
            .answered(cas.new.proposal, CasAnswer::Unknown),
        Conclusion::Read
    );
    for _ in 0..5 {
        assert_eq!(process.look(&memory), Conclusion::Open);
        assert_eq!(sets(&process.tracker), [1, 2]);
    }
    memory.arrive(0).unwrap();
    assert_eq!(process.look(&memory), Conclusion::News);
    assert_eq!(sets(&process.tracker), [2]);
}

/// C2: a layer below sends twice and the second answer says `Conflict`.
#[test]
fn conflict_may_hide_that_the_first_try_was_applied() {
    let mut memory = Memory::new(group(2), Mutations::default());
    let mut process = Process::new(1, &memory);
    let cas = process.grow();
    assert_eq!(
        memory.cas(cas.clone(), Fate::Doubled),
        Ok(CasAnswer::Conflict)
    );
    assert_eq!(
        process
            .tracker
            .answered(cas.new.proposal, CasAnswer::Conflict),
        Conclusion::Read
    );
    assert_eq!(sets(&process.tracker), [1, 2]);
    assert_eq!(process.look(&memory), Conclusion::News);
    assert_eq!(sets(&process.tracker), [2]);
}

#[test]
fn write_that_was_never_sent_is_closed_unless_an_earlier_try_may_land() {
    let memory = Memory::new(group(2), Mutations::default());
    let mut process = Process::new(1, &memory);
    let proposal = process.grow().new.proposal;
    process.tracker.answered(proposal, CasAnswer::Unsent);
    assert!(process.tracker.open().is_none());
    assert!(!process.tracker.is_free(), "not without a pause (C6)");
    process.tracker.pause_over();
    assert!(process.tracker.is_free());
    // The process itself did not send it: that says nothing of the next one.
    let proposal = process.grow().new.proposal;
    assert_eq!(process.tracker.dropped(proposal), Conclusion::Read);
    assert!(process.tracker.is_free());
    let proposal = process.grow().new.proposal;
    process.tracker.answered(proposal, CasAnswer::Unknown);
    assert!(process.tracker.again().is_some());
    assert_eq!(
        process.tracker.answered(proposal, CasAnswer::Unsent),
        Conclusion::Open
    );
    assert!(process.tracker.open().is_some());
}

/// C4.
#[test]
fn watch_is_only_a_reason_to_read() {
    let memory = Memory::new(group(2), Mutations::default());
    let mut process = Process::new(1, &memory);
    let newer = Arc::new(group(2).following(Proposal(5)));
    assert_eq!(process.tracker.watched(&newer), Conclusion::Read);
    assert_eq!(process.tracker.version(), Version(1));
    assert_eq!(
        process.tracker.watched(&Arc::new(group(2))),
        Conclusion::Nothing
    );
}

/// C4, §8.16.
#[test]
fn object_that_went_back_or_has_another_identity_is_not_obeyed() {
    let memory = Memory::new(group(2).following(Proposal(5)), Mutations::default());
    let mut process = Process::new(1, &memory);
    assert_eq!(
        process.tracker.read(Some(GroupUid(9)), Arc::new(group(2))),
        Conclusion::Forgot
    );
    let mut other = group(2).following(Proposal(6)).following(Proposal(7));
    other.group_uid = GroupUid(10);
    assert_eq!(
        process.tracker.read(Some(GroupUid(9)), Arc::new(other)),
        Conclusion::Forgot
    );
    assert_eq!(process.tracker.version(), Version(2));
}

#[test]
fn change_that_is_not_well_formed_is_never_sent() {
    let memory = Memory::new(group(2), Mutations::default());
    let mut process = Process::new(1, &memory);
    let mut new = group(2).following(Proposal(5));
    new.master = Some(member(2));
    assert_eq!(process.tracker.propose(new), Err(Violation::W3));
    assert!(process.tracker.open().is_none());
}

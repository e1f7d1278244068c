//! What every register must do, alone and behind a network that loses, delays and repeats (docs/replication.md §8.1, §14).

use std::collections::BTreeSet;
use std::sync::Arc;

use rocket_coordinator::faulty::Faulty;
use rocket_coordinator::{Cas, CasAnswer, Coordinator, ReadAnswer};
use rocket_replication::coordinator::{Conclusion, Tracker};
use rocket_replication::identity::{Epoch, Proposal, Proposals, ReplicaId};
use rocket_replication::memory::{self, Fate, member};
use rocket_replication::mutations::Mutations;
use rocket_replication::state::State;

/// A state with a master, replica 1, and a second replica that may grow into S.
pub(crate) fn group() -> State {
    memory::group(2)
}

/// The write by which `writer` lets replica 2 grow into S.
pub(crate) fn growing(from: &State, writer: u128) -> Cas {
    let proposal = Proposals::new(writer << 64).fresh();
    Cas {
        expected: from.version,
        new: Arc::new(from.grown(proposal, member(2), Mutations::default())),
    }
}

/// Runs all cases, each on a register of its own. `make` gives two handles of one register that holds the state it is given,
/// or one like it under a group uid of its own.
pub(crate) async fn all<A: Coordinator, B: Coordinator>(
    mut make: impl AsyncFnMut(State) -> (A, B),
) {
    let (one, other) = make(group()).await;
    a_write_is_read_by_all(&one, &other).await;
    let (one, other) = make(group()).await;
    of_two_writes_one_applies(one, other).await;
    let (one, _) = make(group()).await;
    a_forbidden_write_is_never_applied(&one).await;
    let (one, other) = make(group()).await;
    a_lost_answer_is_found_by_reading(&Faulty::new(one), &other).await;
    let (one, other) = make(group()).await;
    a_late_write_stays_possible_until_another_lands(&Faulty::new(one), &other).await;
    let (one, other) = make(group()).await;
    a_repeated_write_applies_once(&Faulty::new(one), &other).await;
    let (one, other) = make(group()).await;
    an_old_hint_changes_nothing(&Faulty::new(one), &other).await;
}

async fn read(register: &impl Coordinator) -> Arc<State> {
    match register.read_current().await {
        ReadAnswer::State(state) => state,
        other => unreachable!("{other:?}"),
    }
}

async fn a_write_is_read_by_all(one: &impl Coordinator, other: &impl Coordinator) {
    let mut hints = other.watch();
    let before = read(one).await;
    let cas = growing(&before, 1);
    assert_eq!(
        one.cas(cas.clone()).await,
        CasAnswer::Applied(cas.new.version)
    );
    assert_eq!(read(other).await, cas.new);
    let hinted = hints.wait_for(|seen| seen.as_ref() == Some(&cas.new));
    hinted.await.unwrap();
    // The version that it replaced is gone for good.
    assert_eq!(other.cas(growing(&before, 2)).await, CasAnswer::Conflict);
    assert_eq!(read(one).await, cas.new);
}

async fn of_two_writes_one_applies(one: impl Coordinator, other: impl Coordinator) {
    for _ in 0..8 {
        let before = read(&one).await;
        let turn = |writer: u128| {
            let proposal =
                Proposals::new((writer << 64) | (u128::from(before.version.0) << 8)).fresh();
            let cordoned = !before.replicas.values().any(|replica| replica.cordoned);
            Cas {
                expected: before.version,
                new: Arc::new(before.cordoned(proposal, ReplicaId(2), cordoned)),
            }
        };
        let (first, second) = (turn(1), turn(2));
        let answers = tokio::join!(one.cas(first.clone()), other.cas(second.clone()));
        let winner = match answers {
            (CasAnswer::Applied(_), CasAnswer::Conflict) => first,
            (CasAnswer::Conflict, CasAnswer::Applied(_)) => second,
            answers => unreachable!("{answers:?}"),
        };
        assert_eq!(read(&one).await, winner.new);
        assert_eq!(read(&other).await, winner.new);
    }
}

async fn a_forbidden_write_is_never_applied(one: &impl Coordinator) {
    let before = read(one).await;
    let forbidden: [fn(&mut State); 6] = [
        |state| state.epoch = Epoch(0),
        |state| state.version = state.version.next(),
        |state| state.next_replica_id = ReplicaId(1),
        |state| {
            (state.master, state.in_sync) =
                (Some(member(2)), BTreeSet::from([member(1), member(2)]));
        },
        |state| state.in_sync = BTreeSet::from([member(2)]),
        |state| state.eligible = BTreeSet::from([member(2)]),
    ];
    for (number, change) in (2..).zip(forbidden) {
        let mut cas = growing(&before, number);
        change(Arc::make_mut(&mut cas.new));
        assert_eq!(one.cas(cas).await, CasAnswer::Unsent, "case {number}");
        assert_eq!(read(one).await, before, "case {number}");
    }
}

/// A process: its front, what it knows, and its proposals.
struct Process<'a, C> {
    front: &'a Faulty<C>,
    tracker: Tracker,
}

impl<'a, C: Coordinator> Process<'a, C> {
    async fn new(front: &'a Faulty<C>) -> Self {
        let mut process = Self {
            front,
            tracker: Tracker::default(),
        };
        process.look().await;
        process
    }

    async fn look(&mut self) -> Conclusion {
        let state = read(self.front).await;
        self.tracker.read(None, state)
    }

    async fn grow(&mut self, fate: Fate) -> Conclusion {
        self.front.script(fate);
        let cas = growing(self.tracker.seen().unwrap(), 7);
        let cas = self.tracker.propose((*cas.new).clone()).unwrap();
        let answer = self.front.cas(cas.clone()).await;
        self.tracker.answered(cas.new.proposal, answer)
    }

    /// How many members each set has that a commit must count with.
    fn possible(&self) -> Vec<usize> {
        let quorums = self.tracker.possible();
        quorums.iter().map(|quorum| quorum.members.len()).collect()
    }
}

async fn a_lost_answer_is_found_by_reading(
    one: &Faulty<impl Coordinator>,
    other: &impl Coordinator,
) {
    let mut process = Process::new(one).await;
    assert_eq!(process.grow(Fate::AnswerLost).await, Conclusion::Read);
    assert_eq!(process.possible(), [1, 2]);
    assert_eq!(process.look().await, Conclusion::News);
    assert_eq!(process.possible(), [2]);
    assert_eq!(read(other).await.in_sync.len(), 2);
}

async fn a_late_write_stays_possible_until_another_lands(
    one: &Faulty<impl Coordinator>,
    other: &impl Coordinator,
) {
    let mut process = Process::new(one).await;
    assert_eq!(process.grow(Fate::Late).await, Conclusion::Read);
    assert_eq!(process.look().await, Conclusion::Open);
    assert_eq!(process.possible(), [1, 2]);
    let before = read(other).await;
    let answer = other
        .cas(Cas {
            expected: before.version,
            new: Arc::new(before.cordoned(Proposal(77), ReplicaId(2), true)),
        })
        .await;
    assert!(matches!(answer, CasAnswer::Applied(_)));
    one.let_late_writes_arrive().await;
    assert_eq!(process.look().await, Conclusion::News);
    assert_eq!(process.possible(), [1]);
    assert_eq!(read(other).await.in_sync.len(), 1);
}

async fn a_repeated_write_applies_once(one: &Faulty<impl Coordinator>, other: &impl Coordinator) {
    let mut process = Process::new(one).await;
    // What comes back is the answer to the repetition, a conflict, though the write is applied.
    assert_eq!(process.grow(Fate::Doubled).await, Conclusion::Read);
    assert_eq!(process.look().await, Conclusion::News);
    assert_eq!(process.possible(), [2]);
    assert_eq!(
        Some(&read(other).await),
        process.tracker.seen(),
        "one version further and no more"
    );
}

async fn an_old_hint_changes_nothing(one: &Faulty<impl Coordinator>, other: &impl Coordinator) {
    let mut process = Process::new(one).await;
    let old = Arc::clone(process.tracker.seen().unwrap());
    process.grow(Fate::Answered).await;
    one.hint(Arc::clone(&old));
    let mut hints = one.watch();
    let hinted = hints.borrow_and_update().clone().unwrap();
    assert_eq!(process.tracker.watched(&hinted), Conclusion::Nothing);
    one.cut(true);
    assert_eq!(one.read_current().await, ReadAnswer::Unreachable);
    one.cut(false);
    assert_eq!(Some(&read(other).await), process.tracker.seen());
}

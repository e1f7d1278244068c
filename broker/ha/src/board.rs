//! What senders and readers may go by, as atomics: written by the actor, read by the store under its own locks.
//!
//! Whatever takes something away is written **before** the actor performs the effects of a step, whatever gives is written
//! after: a master that heard of a higher epoch answers nothing more at once, and one that was allowed to open takes sends
//! only when its log is ready for them.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use rocket_replication::mutations::{Mutant, Mutations};
use rocket_replication::replica::{self, Writes};
use rocket_replication::{PhysicalOffset, Policy, Replication};
use rocket_store::{CommitPolicy, Ends, Flush, LocalEnds, PutStatus, Terms};

type Waker = Box<dyn Fn() + Send + Sync>;

/// See the module. A new one is that of a replica that takes no sends and knows of nothing committed.
#[derive(Default)]
pub struct Board {
    committed: AtomicU64,
    answers: AtomicBool,
    writes: AtomicU8,
    appended: AtomicU64,
    durable: AtomicU64,
    /// The log moved and the actor has not looked since.
    is_moved: AtomicBool,
    waker: OnceLock<Waker>,
    in_sync: AtomicU32,
    min_in_sync: AtomicU32,
    lag_bytes: AtomicU64,
    lag_ms: AtomicU64,
    /// Committed and flushed by every member that counted.
    committed_durable: AtomicU64,
    /// See [`Board::modes`].
    modes: AtomicU8,
}

/// What people want to know of a group. Nothing is decided by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupView {
    /// Members of S, as last known.
    pub in_sync: u32,
    /// m, as last known.
    pub min_in_sync: u32,
    /// Of a master: bytes of its log that the slowest replica has not acknowledged, of those that were in S or had a link since
    /// it became master and did not stop in order. Of every other: bytes that it knows to be committed and lacks.
    pub lag_bytes: u64,
    /// Milliseconds for which that replica has lacked something. Of a replica that is no master: since it last heard from one
    /// while it had all that was committed.
    pub lag_ms: u64,
}

impl Board {
    /// Says what wakes the actor, once: called when the log moved and no earlier wake-up is pending. It must be quick and
    /// must not call the store.
    pub fn wake_by(&self, waker: impl Fn() + Send + Sync + 'static) {
        let is_first = self.waker.set(Box::new(waker)).is_ok();
        debug_assert!(is_first, "one actor is woken");
    }

    /// What is known to be committed.
    pub fn committed(&self) -> PhysicalOffset {
        PhysicalOffset(self.committed.load(Ordering::Acquire))
    }

    /// Whether a send may be appended now.
    pub fn writes(&self) -> Writes {
        match self.writes.load(Ordering::Acquire) {
            1 => Writes::Open,
            2 => Writes::Busy,
            3 => Writes::TooFewInSync,
            _ => Writes::NotMaster,
        }
    }

    /// Whether sends whose promise is kept may be told so.
    pub fn may_answer(&self) -> bool {
        self.answers.load(Ordering::Acquire)
    }

    /// The modes that bind answers, where the group's object asks for some; else each replica's configuration says them.
    pub fn modes(&self) -> Option<Policy> {
        let code = self.modes.load(Ordering::Acquire).checked_sub(1)?;
        Some(Policy {
            flush: if code & 1 == 0 {
                replica::Flush::Async
            } else {
                replica::Flush::Sync
            },
            replication: if code & 2 == 0 {
                Replication::Async
            } else {
                Replication::Sync
            },
        })
    }

    pub(crate) fn set_modes(&self, modes: Option<Policy>) {
        let code = modes.map_or(0, |modes| {
            let flush = u8::from(modes.flush == replica::Flush::Sync);
            let replication = u8::from(modes.replication == Replication::Sync);
            1 + flush + 2 * replication
        });
        self.modes.store(code, Ordering::Release);
    }

    /// Whether that is something new.
    pub(crate) fn set_committed_durable(&self, offset: PhysicalOffset) -> bool {
        self.committed_durable.swap(offset.0, Ordering::AcqRel) != offset.0
    }

    /// How the group fares.
    pub fn group(&self) -> GroupView {
        GroupView {
            in_sync: self.in_sync.load(Ordering::Relaxed),
            min_in_sync: self.min_in_sync.load(Ordering::Relaxed),
            lag_bytes: self.lag_bytes.load(Ordering::Relaxed),
            lag_ms: self.lag_ms.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn set_group(&self, view: GroupView) {
        self.in_sync.store(view.in_sync, Ordering::Relaxed);
        self.min_in_sync.store(view.min_in_sync, Ordering::Relaxed);
        self.lag_bytes.store(view.lag_bytes, Ordering::Relaxed);
        self.lag_ms.store(view.lag_ms, Ordering::Relaxed);
    }

    pub(crate) fn set_committed(&self, offset: PhysicalOffset) {
        self.committed.store(offset.0, Ordering::Release);
    }

    pub(crate) fn set_writes(&self, writes: Writes) {
        self.writes.store(code(writes), Ordering::Release);
    }

    pub(crate) fn set_answers(&self, may: bool) {
        self.answers.store(may, Ordering::Release);
    }

    /// The actor is about to look at the log: what moves from here on wakes it again.
    pub(crate) fn looks(&self) {
        self.is_moved.store(false, Ordering::SeqCst);
    }

    fn moved(&self, local: LocalEnds) {
        let appended = self.appended.swap(local.appended.0, Ordering::Relaxed);
        let durable = self.durable.swap(local.durable.0, Ordering::Relaxed);
        if (appended, durable) == (local.appended.0, local.durable.0) {
            return;
        }
        if !self.is_moved.swap(true, Ordering::SeqCst)
            && let Some(wake) = self.waker.get()
        {
            wake();
        }
    }
}

fn code(writes: Writes) -> u8 {
    match writes {
        Writes::NotMaster => 0,
        Writes::Open => 1,
        Writes::Busy => 2,
        Writes::TooFewInSync => 3,
    }
}

/// What the answer to a send waits for (§5, `replication`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// The master's own append counts (`ASYNC`).
    Counted,
    /// The message is committed (`SYNC`).
    Committed,
}

/// The commit policy of a replica of a group: the store's ends follow from the commit rule of the protocol. `flush` and `answers`
/// are the modes of a group whose object asks for none; else they are on the board (docs/replication.md §5.1).
pub struct GroupPolicy {
    board: Arc<Board>,
    flush: Flush,
    answers: Answers,
    mutations: Mutations,
}

impl GroupPolicy {
    /// The policy of the replica behind `board`.
    pub fn new(board: Arc<Board>, flush: Flush, answers: Answers) -> Self {
        Self {
            board,
            flush,
            answers,
            mutations: Mutations::default(),
        }
    }

    /// The same with rules broken on purpose, for tests of the checking.
    #[must_use]
    pub fn with_mutations(mut self, mutations: Mutations) -> Self {
        self.mutations = mutations;
        self
    }
}

/// What a policy promises, as the store calls it.
fn terms(policy: Policy) -> Terms {
    match (policy.replication, policy.flush) {
        (Replication::Async, replica::Flush::Async) => Terms::Appended,
        (Replication::Async, replica::Flush::Sync) => Terms::Durable,
        (Replication::Sync, replica::Flush::Async) => Terms::Committed,
        (Replication::Sync, replica::Flush::Sync) => Terms::CommittedDurable,
    }
}

impl GroupPolicy {
    fn end(&self, terms: Terms, local: LocalEnds, committed: PhysicalOffset) -> PhysicalOffset {
        let everywhere = self.board.committed_durable.load(Ordering::Acquire);
        match terms {
            Terms::Appended => local.appended,
            Terms::Durable => local.durable,
            Terms::Standing | Terms::Committed => committed,
            Terms::CommittedDurable => committed.min(PhysicalOffset(everywhere)),
        }
    }
}

impl CommitPolicy for GroupPolicy {
    fn ends(&self, local: LocalEnds) -> Ends {
        self.board.moved(local);
        // A log that is being cut is shorter at once than what the board says.
        let committed = self.board.committed().min(local.appended);
        let answered = if self.board.may_answer() {
            self.end(self.terms(), local, committed)
        } else {
            PhysicalOffset(0)
        };
        let visible = if self.mutations.has(Mutant::M18) {
            local.appended
        } else {
            committed
        };
        Ends {
            committed,
            answered,
            visible,
        }
    }

    fn terms(&self) -> Terms {
        match (self.board.modes(), self.answers, self.flush) {
            (Some(modes), ..) => terms(modes),
            // A group whose object asks for no modes may have members that flush otherwise than this one.
            (None, Answers::Committed, _) => Terms::Committed,
            (None, Answers::Counted, Flush::Sync) => Terms::Durable,
            (None, Answers::Counted, Flush::Async) => Terms::Appended,
        }
    }

    fn answered_on(&self, terms: Terms, local: LocalEnds, ends: Ends) -> PhysicalOffset {
        self.end(terms, local, ends.committed)
    }

    fn may_append(&self) -> Result<(), PutStatus> {
        match self.board.writes() {
            Writes::Open => Ok(()),
            // Not SYSTEM_BUSY, upon which older clients of RocketMQ do not try again by themselves.
            Writes::Busy => Err(PutStatus::ServiceNotAvailable(
                "this master is opening or hands over; try again".into(),
            )),
            Writes::TooFewInSync => Err(PutStatus::InSyncReplicasNotEnough),
            Writes::NotMaster => Err(PutStatus::ServiceNotAvailable(
                "this broker is not the master of its group".into(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(appended: u64, durable: u64) -> LocalEnds {
        LocalEnds {
            appended: PhysicalOffset(appended),
            durable: PhysicalOffset(durable),
        }
    }

    fn policy(answers: Answers) -> (Arc<Board>, GroupPolicy) {
        let board = Arc::new(Board::default());
        board.set_committed(PhysicalOffset(40));
        let policy = GroupPolicy::new(Arc::clone(&board), Flush::Sync, answers);
        (board, policy)
    }

    fn raw(ends: Ends) -> (u64, u64, u64) {
        (ends.committed.0, ends.answered.0, ends.visible.0)
    }

    #[test]
    fn answers_wait_for_what_the_mode_promises_and_readers_for_the_commit() {
        let (board, sync) = policy(Answers::Committed);
        assert_eq!(raw(sync.ends(local(100, 60))), (40, 0, 40), "no master");
        board.set_answers(true);
        assert_eq!(raw(sync.ends(local(100, 60))), (40, 40, 40));
        let (board, quick) = policy(Answers::Counted);
        board.set_answers(true);
        assert_eq!(raw(quick.ends(local(100, 60))), (40, 60, 40));
        board.set_answers(false);
        assert_eq!(raw(quick.ends(local(100, 60))), (40, 0, 40));
    }

    #[test]
    fn modes_of_the_group_bind_instead_and_who_was_promised_more_waits_for_it() {
        use rocket_replication::replica::Flush as When;
        let (board, policy) = policy(Answers::Counted);
        board.set_answers(true);
        board.set_committed_durable(PhysicalOffset(20));
        let modes = |flush, replication| Some(Policy { flush, replication });
        let ends = local(100, 60);
        for (flush, replication, answered) in [
            (When::Async, Replication::Async, 100),
            (When::Sync, Replication::Async, 60),
            (When::Async, Replication::Sync, 40),
            (When::Sync, Replication::Sync, 20),
        ] {
            board.set_modes(modes(flush, replication));
            assert_eq!(board.modes(), modes(flush, replication));
            assert_eq!(policy.ends(ends).answered.0, answered);
        }
        let promised = policy.terms();
        board.set_modes(modes(When::Async, Replication::Async));
        let now = policy.ends(ends);
        assert_eq!(now.answered.0, 100);
        assert_eq!(policy.answered_on(promised, ends, now).0, 20);
        board.set_modes(None);
        assert_eq!((board.modes(), policy.ends(ends).answered.0), (None, 60));
    }

    #[test]
    fn ends_never_lie_beyond_a_log_that_was_cut() {
        let (board, sync) = policy(Answers::Committed);
        board.set_answers(true);
        assert_eq!(raw(sync.ends(local(30, 30))), (30, 30, 30));
    }

    #[test]
    fn refusal_says_what_a_sender_can_do() {
        let (board, policy) = policy(Answers::Committed);
        let answer = |writes| {
            board.set_writes(writes);
            assert_eq!(board.writes(), writes);
            policy.may_append()
        };
        assert_eq!(answer(Writes::Open), Ok(()));
        assert_eq!(
            answer(Writes::TooFewInSync),
            Err(PutStatus::InSyncReplicasNotEnough)
        );
        for elsewhere in [Writes::Busy, Writes::NotMaster] {
            let refused = answer(elsewhere);
            assert!(matches!(refused, Err(PutStatus::ServiceNotAvailable(_))));
        }
    }

    #[test]
    fn actor_is_woken_once_until_it_looks() {
        let (board, policy) = policy(Answers::Committed);
        let woken = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&woken);
        board.wake_by(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let woken = || woken.load(Ordering::Relaxed);
        policy.ends(local(10, 0));
        policy.ends(local(20, 0));
        assert_eq!(woken(), 1);
        board.looks();
        policy.ends(local(20, 0));
        assert_eq!(woken(), 1, "nothing moved");
        policy.ends(local(20, 20));
        assert_eq!(woken(), 2);
    }
}

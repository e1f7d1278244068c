//! The search for a history after which something does not hold, what it found in its time, and that it finds what is wrong
//! on purpose.

use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use super::*;
use crate::mutant::{self, Mutant};
use crate::{Ends, LocalEnds};

/// Answers before the flush: what a broken store would do.
struct AnswersEarly;

impl CommitPolicy for AnswersEarly {
    fn ends(&self, local: LocalEnds) -> Ends {
        Ends {
            committed: local.durable,
            answered: local.appended,
            visible: local.durable,
        }
    }

    fn may_append(&self) -> Result<(), PutStatus> {
        Ok(())
    }
}

pub(crate) fn cases() -> u32 {
    setting("ROCKET_STORE_CASES").unwrap_or(300)
}

pub(crate) fn rng() -> TestRng {
    let Some(seed) = setting("ROCKET_STORE_SEED") else {
        return TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    };
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&seed.to_be_bytes());
    TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)
}

fn setting(name: &str) -> Option<u32> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the number of cases and the seed are for whoever runs the tests to choose"
    )]
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok())
}

fn play(flush: Flush, policy: &Arc<dyn CommitPolicy>, ops: &[Op]) {
    let mut world = World::new(flush, Arc::clone(policy));
    for &op in ops {
        world.run(op);
    }
    world.run(Op::Lose {
        seed: ops.len() as u64,
    });
    world.run(Op::Close);
}

fn search(
    flush: Flush,
    policy: &Arc<dyn CommitPolicy>,
    cases: u32,
) -> Result<(), TestError<Vec<Op>>> {
    search_among(op(), flush, policy, cases)
}

pub(super) fn search_among(
    op: impl Strategy<Value = Op>,
    flush: Flush,
    policy: &Arc<dyn CommitPolicy>,
    cases: u32,
) -> Result<(), TestError<Vec<Op>>> {
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 2000,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, rng());
    runner.run(&prop::collection::vec(op, 1..80), |ops| {
        play(flush, policy, &ops);
        Ok(())
    })
}

#[test]
fn the_store_keeps_its_promises_with_sync_flush() {
    let policy: Arc<dyn CommitPolicy> = Arc::new(LocalPolicy { flush: Flush::Sync });
    if let Err(error) = search(Flush::Sync, &policy, cases()) {
        panic!("{error}");
    }
}

#[test]
fn the_store_stays_whole_with_async_flush() {
    let policy: Arc<dyn CommitPolicy> = Arc::new(LocalPolicy {
        flush: Flush::Async,
    });
    if let Err(error) = search(Flush::Async, &policy, cases()) {
        panic!("{error}");
    }
}

/// Found by the search: retention took a file of the log, and with the power went the journal's last frame, which alone knew
/// of its messages. The gap in the queue's offsets was taken for damage.
#[test]
fn messages_that_went_before_the_queues_had_them_for_good_leave_no_damage() {
    let send = |size, count| Op::Send {
        queue: 0,
        size,
        count,
        promise: false,
        prepared: false,
    };
    let policy: Arc<dyn CommitPolicy> = Arc::new(LocalPolicy {
        flush: Flush::Async,
    });
    let ops = [
        send(455, 1),
        send(1444, 2),
        Op::Write,
        send(63, 2),
        Op::Write,
        Op::Kill,
        Op::Secure,
        send(1179, 2),
        send(524, 2),
        Op::Write,
        Op::Flush,
        Op::Dispatch,
        send(0, 1),
        Op::Write,
        Op::FlushBegin,
        Op::Dispatch,
        Op::Retain { hours: 34 },
        Op::Retain { hours: 68 },
    ];
    for seed in 0..20 {
        let mut world = World::new(Flush::Async, Arc::clone(&policy));
        for op in ops {
            world.run(op);
        }
        assert!(world.engine().positions().min.0 > 0, "a file is gone");
        world.run(Op::Lose { seed });
    }
}

/// Found by the search: a start took a tail of the index without keys for nothing and wrote over it. A crash meanwhile left a
/// gap that was not there before.
#[test]
fn a_tail_of_the_index_without_keys_is_kept_too() {
    let policy: Arc<dyn CommitPolicy> = Arc::new(LocalPolicy { flush: Flush::Sync });
    let send = |size, count| Op::Send {
        queue: 0,
        size,
        count,
        promise: false,
        prepared: false,
    };
    let mut ops = vec![
        send(628, 2),
        Op::Delete,
        Op::Close,
        send(0, 1),
        send(697, 3),
    ];
    ops.extend([send(0, 1); 4]);
    ops.extend([
        Op::Write,
        Op::Lose {
            seed: 6_635_096_503_218_805_865,
        },
        Op::FailFlush { at: 1, seed: 0 },
        send(0, 1),
        Op::Close,
        Op::ShortWrite {
            at: 2,
            seed: 797_350_183_425,
        },
        Op::Close,
    ]);
    play(Flush::Sync, &policy, &ops);
}

#[test]
fn the_model_catches_a_store_that_answers_before_the_flush() {
    assert!(
        quietly(|| search(
            Flush::Sync,
            &(Arc::new(AnswersEarly) as Arc<dyn CommitPolicy>),
            500
        ))
        .is_err()
    );
}

#[test]
fn the_model_catches_a_recovery_that_leaves_the_torn_tail() {
    let policy: Arc<dyn CommitPolicy> = Arc::new(LocalPolicy { flush: Flush::Sync });
    let found = mutant::with(Some(Mutant::TailNotZeroed), || {
        quietly(|| search(Flush::Sync, &policy, 3000))
    });
    assert!(found.is_err());
}

#[test]
fn the_model_catches_a_floor_that_is_too_high() {
    let policy: Arc<dyn CommitPolicy> = Arc::new(LocalPolicy { flush: Flush::Sync });
    let found = mutant::with(Some(Mutant::FloorTooHigh), || {
        quietly(|| search(Flush::Sync, &policy, 3000))
    });
    assert!(found.is_err());
}

/// The panics of a search that is expected to find something are no news.
fn quietly<T>(body: impl FnOnce() -> T) -> T {
    body()
}

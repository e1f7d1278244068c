//! The engine against a plain list of what was sent, over the disk in memory: random steps in random order with lost
//! power, killed processes, torn writes, failed flushes, retention and orderly stops.
//!
//! What is checked after every start and at the end: everything that was answered `Ok` under a kept promise is where the
//! answer said; what a consumer once saw at an offset is still there or was removed by retention; queues are dense; no
//! message is there twice, or at all when its sender was told that it was not appended; keys are found.
//!
//! What changes when the disk also rots is in [`rot`].
//!
//! `ROCKET_STORE_CASES` sets the number of cases, `ROCKET_STORE_SEED` which ones.

mod rot;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use rocket_mapped_file::memory::{Faults, MemoryDirectory};
use rocket_protocol::{Message, QueueId, RecordView, SysFlag, TopicName, UnixMillis};

use self::rot::Rot;
use crate::mutant::{self, Mutant};
use crate::test_support::message_with;
use crate::{
    Clock, CommitPolicy, Completion, Ends, Engine, Flush, FlushJob, GetStatus, Health, LocalEnds,
    LocalPolicy, NoEvents, Promise, PutOutcome, PutStatus, QueueLogConfig, ReadLimits, Refused,
    StoreConfig,
};

const TOPIC: &str = "orders";
const QUEUES: u32 = 12;

#[derive(Debug, Clone, Copy)]
enum Op {
    Send {
        queue: u32,
        size: u16,
        count: u8,
        promise: bool,
        prepared: bool,
    },
    Write,
    Flush,
    FlushBegin,
    FlushEnd {
        which: u8,
    },
    Dispatch,
    Secure,
    Seal,
    Scrub,
    Prepare,
    Retain {
        hours: u8,
    },
    FailFlush {
        at: u8,
        seed: u64,
    },
    ShortWrite {
        at: u8,
        seed: u64,
    },
    Lose {
        seed: u64,
    },
    Kill,
    Close,
    Delete,
    Rot(Rot),
}

fn op() -> impl Strategy<Value = Op> {
    let send = (
        0..QUEUES,
        0_u16..1500,
        1_u8..4,
        prop::bool::weighted(0.9),
        prop::bool::weighted(0.1),
    );
    prop_oneof![
        12 => send.prop_map(|(queue, size, count, promise, prepared)| Op::Send { queue, size, count, promise, prepared }),
        6 => Just(Op::Write),
        4 => Just(Op::Flush),
        3 => Just(Op::FlushBegin),
        3 => any::<u8>().prop_map(|which| Op::FlushEnd { which }),
        4 => Just(Op::Dispatch),
        2 => Just(Op::Secure),
        1 => Just(Op::Seal),
        1 => Just(Op::Scrub),
        1 => Just(Op::Prepare),
        1 => (0_u8..90).prop_map(|hours| Op::Retain { hours }),
        1 => (1_u8..4, any::<u64>()).prop_map(|(at, seed)| Op::FailFlush { at, seed }),
        1 => (1_u8..4, any::<u64>()).prop_map(|(at, seed)| Op::ShortWrite { at, seed }),
        2 => any::<u64>().prop_map(|seed| Op::Lose { seed }),
        1 => Just(Op::Kill),
        1 => Just(Op::Close),
        1 => prop::bool::weighted(0.3).prop_map(|is_deleted| if is_deleted { Op::Delete } else { Op::Write }),
    ]
}

struct Time(AtomicI64);

impl Clock for Time {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::Relaxed))
    }
}

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

type Outcomes = Arc<Mutex<Vec<(Sent, PutOutcome)>>>;

/// The numbers of the messages of one append.
#[derive(Debug, Clone)]
struct Sent {
    first: u64,
    queue: u32,
    is_kept: bool,
    is_queued: bool,
}

struct Done {
    sent: Sent,
    outcomes: Outcomes,
}

impl Completion for Done {
    fn complete(self, outcome: PutOutcome) {
        self.outcomes.lock().push((self.sent, outcome));
    }
}

struct World {
    config: StoreConfig,
    policy: Arc<dyn CommitPolicy>,
    clock: Arc<Time>,
    dir: MemoryDirectory,
    engine: Option<Engine<Done>>,
    jobs: Vec<(usize, FlushJob)>,
    outcomes: Outcomes,
    taken: u64,
    answered: u64,
    next: u64,
    /// (queue, offset) to the message's number: answered `Ok`, or seen.
    promised: BTreeMap<(u32, u64), u64>,
    seen: BTreeMap<(u32, u64), u64>,
    refused: HashSet<u64>,
    /// Where the messages lie that were answered or seen: from, to.
    places: Mutex<HashMap<u64, (u64, u64)>>,
    /// Messages before this number were of the topic's earlier life.
    deleted: u64,
    /// What rotted, in order; it is empty but for the tests of [`rot`].
    rotten: Vec<String>,
    /// To here the queues held the log for good when that happened.
    held: u64,
    /// A flush or write was to fail.
    has_failing_disk: bool,
}

impl World {
    fn new(flush: Flush, policy: Arc<dyn CommitPolicy>) -> Self {
        let config = StoreConfig {
            segment_bytes: 4096,
            queue_log: QueueLogConfig {
                file_bytes: 1500,
                journal_bytes: 700,
                extent_units: 4,
                table_units: 24,
            },
            index_slots: 16,
            index_entries: 64,
            flush,
            flush_flights: 3,
            append_bytes_max: 12_000,
            checksum_block_bytes: 512,
            append_queue_max: 50,
            ..StoreConfig::default()
        };
        let mut world = Self {
            config,
            policy,
            clock: Arc::new(Time(AtomicI64::new(1_700_000_000_000))),
            dir: MemoryDirectory::default(),
            engine: None,
            jobs: Vec::new(),
            outcomes: Outcomes::default(),
            taken: 0,
            answered: 0,
            next: 0,
            promised: BTreeMap::new(),
            seen: BTreeMap::new(),
            refused: HashSet::new(),
            places: Mutex::default(),
            deleted: 0,
            rotten: Vec::new(),
            held: 0,
            has_failing_disk: false,
        };
        world.open();
        world
    }

    fn open(&mut self) {
        let dir = Arc::new(self.dir.clone());
        let opened = Engine::open(
            self.config.clone(),
            dir,
            Arc::clone(&self.clock) as Arc<dyn Clock>,
            Arc::clone(&self.policy),
            Arc::new(NoEvents),
        );
        if !self.rotten.is_empty() {
            self.engine = self.opened_rotten(opened.map(|(engine, _)| engine));
            return;
        }
        let (engine, report) = opened.expect("the store opens again after any crash");
        assert_eq!(
            report.damaged_ranges,
            0,
            "no crash makes damage: {:?}",
            engine.damage()
        );
        self.engine = Some(engine);
    }

    fn engine(&self) -> &Engine<Done> {
        self.engine.as_ref().unwrap()
    }

    fn run(&mut self, op: Op) {
        if self.engine.is_none() {
            return;
        }
        self.clock.0.fetch_add(7, Ordering::Relaxed);
        match op {
            Op::Send {
                queue,
                size,
                count,
                promise,
                prepared,
            } => self.send(queue, size, count, promise, prepared),
            Op::Write => drop(self.engine().write_step()),
            Op::Flush => {
                if self.jobs.is_empty() {
                    self.engine().flush_step(0);
                }
            }
            Op::FlushBegin => {
                let lane = (0..3).find(|lane| self.jobs.iter().all(|(taken, _)| taken != lane));
                if let Some(lane) = lane
                    && let Some(job) = self.engine().flush_begin(lane)
                {
                    self.jobs.push((lane, job));
                }
            }
            Op::FlushEnd { which } => self.end_flush(usize::from(which)),
            Op::Dispatch => drop(self.engine().dispatch_step()),
            Op::Secure => self.engine().checkpoint_step(),
            Op::Seal => drop(self.engine().seal_step()),
            Op::Scrub => self.engine().scrub_step(2000),
            Op::Prepare => {
                self.engine().ceiling_step();
                self.engine().prepare_step();
            }
            Op::Retain { hours } => {
                self.clock
                    .0
                    .fetch_add(i64::from(hours) * 3_600_000, Ordering::Relaxed);
                self.engine().retention_step();
            }
            Op::FailFlush { at, seed } => {
                self.has_failing_disk = true;
                self.dir.set_faults(Faults {
                    flush_error_at: Some(u64::from(at)),
                    seed,
                    ..Faults::default()
                });
            }
            Op::ShortWrite { at, seed } => {
                self.has_failing_disk = true;
                self.dir.set_faults(Faults {
                    short_write_at: Some(u64::from(at)),
                    seed,
                    ..Faults::default()
                });
            }
            Op::Lose { seed } => {
                let next = self.dir.crashed(seed);
                self.restart(next);
            }
            Op::Kill => {
                let next = self.dir.killed();
                self.restart(next);
            }
            Op::Close => {
                while !self.jobs.is_empty() {
                    self.end_flush(0);
                }
                self.engine().begin_close();
                let _failed_before = self.engine().finish();
                let next = self.dir.killed();
                self.restart(next);
            }
            Op::Delete => self.delete(),
            Op::Rot(rot) => self.rot(rot),
        }
        self.take_outcomes();
    }

    /// The topic goes with all that was sent to it, answered or not.
    fn delete(&mut self) {
        self.take_outcomes();
        let topic = TopicName::parse(TOPIC).unwrap();
        self.engine().delete_topic(&topic).unwrap();
        assert!(self.engine().queues().is_empty());
        self.deleted = self.next;
        self.promised.clear();
        self.seen.clear();
    }

    fn send(&mut self, queue: u32, size: u16, count: u8, promise: bool, prepared: bool) {
        let count = if prepared { 1 } else { u64::from(count) };
        let first = self.next;
        self.next += count;
        let message = |number: u64| {
            let mut body = format!("{number:08}").into_bytes();
            body.resize(8 + usize::from(size), b'.');
            let mut message = message_with(
                TOPIC,
                queue,
                body,
                &format!("UNIQ_KEY\u{1}k{number}\u{2}TAGS\u{1}t\u{2}"),
            );
            if prepared {
                message.sys_flag = SysFlag(SysFlag::TRANSACTION_PREPARED);
            }
            message
        };
        let messages: Vec<_> = (first..first + count).map(message).collect();
        let messages: Vec<_> = messages.iter().map(Message::as_ref).collect();
        let sent = Sent {
            first,
            queue,
            is_kept: promise,
            is_queued: !prepared,
        };
        let completion = Done {
            sent,
            outcomes: Arc::clone(&self.outcomes),
        };
        let promise = if promise {
            Promise::Kept
        } else {
            Promise::AppendOnly
        };
        match self.engine().append(&messages, promise, completion) {
            Ok(()) => self.taken += 1,
            Err(Refused::Busy(_) | Refused::ReadOnly(..) | Refused::DiskFull(_)) => {
                self.refused.extend(first..first + count);
            }
            Err(refused) => panic!("{:?}", refused.into_parts().1),
        }
    }

    fn end_flush(&mut self, which: usize) {
        if self.jobs.is_empty() {
            return;
        }
        let (_, job) = self.jobs.remove(which % self.jobs.len());
        let result = job.run();
        self.engine().flush_end(&job, result);
    }

    fn restart(&mut self, next: MemoryDirectory) {
        // Answers are taken before the process ends: those that come from its end are lost with it.
        self.take_outcomes();
        self.look();
        let old = self.engine.take().unwrap();
        old.abandon();
        self.take_unknown();
        drop(old);
        self.jobs.clear();
        self.dir = next;
        if self.config.flush == Flush::Async {
            // Without a flush a crash may take anything back; only that what is left is whole is checked then.
            self.promised.clear();
            self.seen.clear();
        }
        self.open();
        self.look();
    }

    fn take_unknown(&mut self) {
        self.answered += self.outcomes.lock().drain(..).count() as u64;
        assert_eq!(self.taken, self.answered, "every append is answered once");
    }

    fn take_outcomes(&mut self) {
        for (sent, outcome) in std::mem::take(&mut *self.outcomes.lock()) {
            self.answered += 1;
            match (outcome.status, outcome.appended) {
                (PutStatus::Ok, Some(_)) if sent.first < self.deleted => {}
                (PutStatus::Ok, Some(appended)) if sent.is_kept && sent.is_queued => {
                    let of_one = [appended.physical_offset];
                    let starts = match &appended.physical_offsets[..] {
                        [] => &of_one[..],
                        many => many,
                    };
                    // Records of one append are of about one length.
                    let len = appended.len / u64::from(appended.count);
                    for (number, start) in (sent.first..).zip(starts) {
                        self.places.lock().insert(number, (start.0, start.0 + len));
                    }
                    for index in 0..u64::from(appended.count) {
                        let key = (sent.queue, appended.queue_offset.0 + index);
                        let before = self.promised.insert(key, sent.first + index);
                        assert!(
                            before.is_none_or(|before| self.may_be_given_again(before)),
                            "an offset is promised once"
                        );
                    }
                }
                (PutStatus::Ok | PutStatus::FlushDiskTimeout, Some(_)) => {}
                (PutStatus::ServiceNotAvailable(_), None) => drop(self.refused.insert(sent.first)),
                other => panic!("unexpected answer {other:?}"),
            }
        }
    }

    /// Reads everything and compares.
    fn look(&mut self) {
        if !self.rotten.is_empty() {
            self.look_at_rotten();
            return;
        }
        let topic = TopicName::parse(TOPIC).unwrap();
        let mut everywhere = HashSet::new();
        for queue in 0..QUEUES {
            let Some(range) = self.engine().queue_range(&topic, QueueId(queue)) else {
                let is_promised = self.promised.keys().any(|(of, _)| *of == queue);
                assert!(!is_promised || !self.jobs_done(), "queue {queue} is gone");
                continue;
            };
            let mut found = BTreeMap::new();
            let mut next = i64::try_from(range.min.0).unwrap();
            let end = i64::try_from(range.max.0).unwrap();
            while next < end {
                let limits = ReadLimits {
                    messages_max: 3,
                    bytes_max: 4000,
                };
                let result = self
                    .engine()
                    .get(&topic, QueueId(queue), next, limits, &|_, _| true);
                assert_eq!(
                    result.status,
                    GetStatus::Found,
                    "queue {queue} at {next} of {range:?}"
                );
                for chunk in &result.chunks {
                    let mut rest = &chunk[..];
                    while !rest.is_empty() {
                        let (view, len) = RecordView::parse(rest).unwrap();
                        assert_eq!(view.queue_offset().to_wire(), next, "dense");
                        let number: u64 = std::str::from_utf8(&view.body()[..8])
                            .unwrap()
                            .parse()
                            .unwrap();
                        assert!(everywhere.insert(number), "message {number} is there twice");
                        assert!(number >= self.deleted, "message {number} was deleted");
                        assert!(
                            !self.refused.contains(&number),
                            "message {number} was refused"
                        );
                        found.insert((queue, view.queue_offset().0), number);
                        self.note_place(number, &view, len);
                        self.look_up(&topic, number);
                        next += 1;
                        rest = &rest[len..];
                    }
                }
            }
            for map in [&mut self.promised, &mut self.seen] {
                map.retain(|&(of, offset), _| of != queue || offset >= range.min.0);
            }
            for (key, number) in self.seen.iter().filter(|(key, _)| key.0 == queue) {
                assert_eq!(
                    found.get(key),
                    Some(number),
                    "what was seen at {key:?} stays"
                );
            }
            let visible = |key: &(u32, u64)| self.jobs_done() || key.1 < range.max.0;
            for (key, number) in self.promised.iter().filter(|(key, _)| key.0 == queue) {
                if visible(key) {
                    assert_eq!(
                        found.get(key),
                        Some(number),
                        "what was answered at {key:?} is there"
                    );
                }
            }
            self.seen.extend(found);
        }
    }

    fn note_place(&self, number: u64, view: &RecordView<'_>, len: usize) {
        let from = view.physical_offset().0;
        self.places.lock().insert(number, (from, from + len as u64));
    }

    /// Looks a message up by its key. A write that failed in the middle may leave the index short until the next start.
    fn look_up(&self, topic: &TopicName, number: u64) {
        let key = format!("k{number}");
        let (begin, end) = (UnixMillis(0), UnixMillis(i64::MAX));
        let found = self
            .engine()
            .query(topic, &key, 5, begin, end)
            .records
            .len();
        let is_failed = matches!(self.engine().health(), Health::ReadOnly { .. });
        assert!(
            found == 1 || is_failed && found == 0,
            "key {key} is found {found} times"
        );
    }

    /// Whether everything visible is dispatched, so that what was answered must be readable.
    fn jobs_done(&self) -> bool {
        let positions = self.engine().positions();
        positions.dispatched == positions.committed
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

fn search_among(
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

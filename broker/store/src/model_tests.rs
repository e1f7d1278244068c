//! The engine against a plain list of what was sent, over the disk in memory: random steps in random order with lost
//! power, killed processes, torn writes, failed flushes, retention and orderly stops.
//!
//! What is checked after every start and at the end: everything that was answered `Ok` under a kept promise is where the
//! answer said; what a consumer once saw at an offset is still there or was removed by retention; queues are dense; no
//! message is there twice, or at all when its sender was told that it was not appended; keys are found.
//!
//! Here is the world that is played with; what must hold of it is in [`check`], who plays in [`search`], and what changes
//! when the disk also rots in [`rot`].
//!
//! `ROCKET_STORE_CASES` sets the number of cases, `ROCKET_STORE_SEED` which ones.

mod check;
mod rot;
mod search;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
use proptest::prelude::*;
use rocket_mapped_file::memory::{Faults, MemoryDirectory};
use rocket_protocol::{Message, QueueId, RecordView, SysFlag, TopicName, UnixMillis};

pub(crate) use self::search::{cases, rng};

use self::rot::Rot;
use crate::test_support::message_with;
use crate::{
    Clock, CommitPolicy, Completion, Engine, Flush, FlushJob, GetStatus, Health, LocalPolicy,
    NoEvents, Promise, PutOutcome, PutStatus, QueueLogConfig, ReadLimits, Refused, StoreConfig,
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
    LoseInAnyOrder {
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
        1 => any::<u64>().prop_map(|seed| Op::LoseInAnyOrder { seed }),
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
            Op::LoseInAnyOrder { seed } => {
                let next = self.dir.crashed_in_any_order(seed);
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
}

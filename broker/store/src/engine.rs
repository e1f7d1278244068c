//! The store without its threads: every deed is a step that returns, so that threads, tests and a simulation can drive
//! it in any order. Steps of different kinds may run at once; two of the same kind wait for each other (flushes do not,
//! if their lanes differ).
//!
//! ```text
//! append ──▶ batch ──write_step──▶ log ──flush_begin/run/end──▶ durable ──settle──▶ answers
//!       └──▶ waiters ───────────────┼──────────────────────────────────────┘
//!                                   └──────────dispatch_step (visible)──▶ queues, index ──▶ arrivals
//! ```
//!
//! What each step does is in a file of its own: `append`, `flush`, `answer`, `prepare`, `upkeep`.
//!
//! Order of locks: writing, answering, alone, repairing, appender, dispatcher, then carried or one of progress, waiters, checkpoint,
//! deleted, queues, index.
//! Completions are called with none of them held but writing and answering, which nobody waits for.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use rocket_mapped_file::{Directory, Lock};
use rocket_protocol::{PhysicalOffset, TopicName, UnixMillis};

use crate::ages::Ages;
use crate::api::{
    Clock, CommitPolicy, Completion, Damaged, DiskUsage, Health, Positions, Stats, StoreEvents,
};
use crate::appender::{Appender, Batch};
use crate::carried::Carried;
use crate::checkpoint::Checkpoint;
use crate::commit_log::CommitLog;
use crate::config::StoreConfig;
use crate::deleted::Deleted;
use crate::dispatcher::Dispatcher;
use crate::error::{OpenError, RecoveryReport};
use crate::flush_mode::FlushMode;
use crate::heat::Heat;
use crate::index::Index;
use crate::mutant::{self, Mutant};
use crate::progress::Progress;
use crate::queues::Queues;
use crate::readers::{Look, Readers};
use crate::recovery;
use crate::relay::Relay;
use crate::room::NoRoom;
use crate::scrub::Scrub;
use crate::waiters::{Waiter, Waiters};

/// Exists while a store is open; Apache's broker looks for it too.
pub(crate) const ABORT: &str = "abort";

/// The counters behind [`Stats`].
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) messages_appended: AtomicU64,
    pub(crate) bytes_appended: AtomicU64,
    pub(crate) batches_appended: AtomicU64,
    pub(crate) flushes: AtomicU64,
    pub(crate) messages_dispatched: AtomicU64,
    pub(crate) messages_removed: AtomicU64,
    pub(crate) bytes_removed: AtomicU64,
    pub(crate) bytes_held: AtomicU64,
    pub(crate) refused_busy: AtomicU64,
    pub(crate) refused_disk_full: AtomicU64,
    pub(crate) repaired_bytes: AtomicU64,
}

/// What the engine is made of; filled by recovery.
pub(crate) struct Parts {
    pub(crate) log: CommitLog,
    pub(crate) queues: Queues,
    pub(crate) index: Option<Index>,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) deleted: Deleted,
    pub(crate) carried: Carried,
    pub(crate) appender: Appender,
    pub(crate) dispatcher: Dispatcher,
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There was nothing to do.
    Idle,
    /// Something was done; there may be more.
    Worked,
}

/// See the module.
pub struct Engine<C: Completion> {
    pub(crate) config: StoreConfig,
    pub(crate) dir: Arc<dyn Directory>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) policy: Arc<dyn CommitPolicy>,
    pub(crate) events: Arc<dyn StoreEvents>,
    pub(crate) flush_mode: FlushMode,
    pub(crate) heat: Heat,
    pub(crate) log: CommitLog,
    pub(crate) queues: Queues,
    pub(crate) index: Option<Index>,
    pub(crate) deleted: Deleted,
    pub(crate) carried: Carried,
    pub(crate) counters: Counters,
    pub(crate) appender: Mutex<Appender>,
    /// Appends that were placed, for who must not wait for the appender: it is held while a file is made.
    pub(crate) placed: AtomicU64,
    pub(crate) dispatcher: Mutex<Dispatcher>,
    pub(crate) dispatched: AtomicU64,
    pub(crate) disk: RwLock<DiskUsage>,
    /// What could not be written for want of room.
    pub(crate) no_room: NoRoom,
    /// The next log file could not be made ahead; said once.
    pub(crate) no_room_ahead: AtomicBool,
    /// Entered with the appender's lock held, so that it is in log order.
    pub(crate) waiters: Mutex<Waiters<C>>,
    pub(crate) progress: Mutex<Progress>,
    pub(crate) checkpoint: Mutex<Checkpoint>,
    /// Takes batches to the log, one after the other; keeps the spare one.
    pub(crate) writing: Relay<Batch>,
    /// Gives answers, in log order; keeps the room for those that are due.
    pub(crate) answering: Relay<Vec<Waiter<C>>>,
    /// By what time messages have an age.
    pub(crate) ages: Mutex<Ages>,
    /// Held for reading by steps that note positions, so that none is of a log that was cut meanwhile; for writing by who
    /// cuts. Taken before all locks but `writing` and `answering`.
    pub(crate) alone: RwLock<()>,
    /// Held while damage is written over, and while retention removes files: what is repaired keeps its name.
    pub(crate) repairing: Mutex<()>,
    pub(crate) scrub: Scrub,
    pub(crate) readers: OnceLock<Arc<dyn Readers>>,
    /// Retention takes nothing from here on.
    pub(crate) kept_from: AtomicU64,
    pub(crate) look: Mutex<Look>,
    _lock: Box<dyn Lock>,
}

impl<C: Completion> Engine<C> {
    /// Opens or makes the store in `dir` and recovers it.
    pub fn open(
        config: StoreConfig,
        dir: Arc<dyn Directory>,
        clock: Arc<dyn Clock>,
        policy: Arc<dyn CommitPolicy>,
        events: Arc<dyn StoreEvents>,
    ) -> Result<(Self, RecoveryReport), OpenError> {
        config.check()?;
        let (parts, lock, report) = recovery::recover(&config, &dir, &*clock, &*events)?;
        let position = parts.dispatcher.position;
        let engine = Self {
            flush_mode: FlushMode::new(config.flush),
            heat: Heat::new(
                parts.appender.end(),
                config.catch_up_bytes,
                config.catch_up_bytes_per_second,
            ),
            log: parts.log,
            queues: parts.queues,
            index: parts.index,
            deleted: parts.deleted,
            carried: parts.carried,
            counters: Counters::default(),
            progress: Mutex::new(Progress::new(parts.appender.end())),
            appender: Mutex::new(parts.appender),
            placed: AtomicU64::new(0),
            dispatcher: Mutex::new(parts.dispatcher),
            dispatched: AtomicU64::new(position),
            disk: RwLock::new(DiskUsage {
                used: 0,
                capacity: 0,
                ratio: 0.0,
                refused: false,
            }),
            no_room: NoRoom::default(),
            no_room_ahead: AtomicBool::new(false),
            waiters: Mutex::new(Waiters::new()),
            checkpoint: Mutex::new(parts.checkpoint),
            writing: Relay::default(),
            answering: Relay::default(),
            ages: Mutex::new(Ages::new(clock.now(), clock.elapsed())),
            alone: RwLock::new(()),
            repairing: Mutex::new(()),
            scrub: Scrub::default(),
            readers: OnceLock::new(),
            kept_from: AtomicU64::new(config.kept_from.0),
            look: Mutex::default(),
            _lock: lock,
            config,
            dir,
            clock,
            policy,
            events,
        };
        engine.log.sound().set_rule(engine.config.on_damage);
        engine.look_at_disk();
        engine.settle();
        while engine.dispatch_step() == Step::Worked {}
        if engine.carried.is_pending() {
            engine.checkpoint_step();
        }
        if let Some(reason) = engine.failed() {
            return Err(OpenError::Failed(reason));
        }
        Ok((engine, report))
    }

    /// Does all that is left and secures it; the last step after [`Engine::begin_close`], when no thread runs a step.
    pub fn finish(&self) -> Result<(), Arc<str>> {
        while self.write_step() == Step::Worked {}
        while self.flush_step(0) == Step::Worked {}
        self.settle();
        self.abandon();
        while self.dispatch_step() == Step::Worked {}
        self.seal_step();
        self.secure_step(true);
        if let Some(reason) = self.failed() {
            return Err(reason);
        }
        let removed = self.dir.remove(ABORT).and_then(|()| self.dir.sync(""));
        removed.map_err(|error| format!("{ABORT}: {error}").into())
    }

    /// Says who reads, once: what a group has not consumed is kept longer (see [`crate::Retention::unconsumed_extra`]).
    pub fn set_readers(&self, readers: Arc<dyn Readers>) {
        let is_first = self.readers.set(readers).is_ok();
        debug_assert!(is_first, "readers are set once");
    }

    /// The positions of the log.
    pub fn positions(&self) -> Positions {
        let progress = self.progress.lock();
        let local = progress.local();
        Positions {
            min: PhysicalOffset(self.log.min()),
            appended: local.appended,
            durable: local.durable,
            committed: progress.ends().committed,
            dispatched: PhysicalOffset(self.dispatched.load(Ordering::Acquire)),
        }
    }

    /// What of the log is known to be damaged, in log order.
    pub fn damage(&self) -> Vec<Damaged> {
        self.log.damage().all()
    }

    /// How full the file system is, as last looked at.
    pub fn disk_usage(&self) -> DiskUsage {
        let usage = *self.disk.read();
        DiskUsage {
            refused: usage.refused || self.no_room.is_any(),
            ..usage
        }
    }

    pub(crate) fn visible(&self) -> u64 {
        if mutant::is_on(Mutant::DispatchAhead) {
            return self.progress.lock().local().appended.0;
        }
        self.progress.lock().ends().visible.0
    }

    /// Whether the store takes messages.
    pub fn health(&self) -> Health {
        match self.failed() {
            Some(reason) => Health::ReadOnly { reason },
            None if self.waiters.lock().closed().is_some() => Health::Closing,
            None => Health::Writable,
        }
    }

    /// Counts since the store was opened.
    pub fn stats(&self) -> Stats {
        let counters = &self.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            messages_appended: get(&counters.messages_appended),
            bytes_appended: get(&counters.bytes_appended),
            batches_appended: get(&counters.batches_appended),
            scrubbed_bytes: get(&self.scrub.bytes),
            scrub_passes: get(&self.scrub.passes),
            damaged_bytes: self
                .damage()
                .iter()
                .map(|damaged| damaged.to.0 - damaged.from.0)
                .sum(),
            repaired_bytes: get(&counters.repaired_bytes),
            flushes: get(&counters.flushes),
            messages_dispatched: get(&counters.messages_dispatched),
            messages_misplaced: self.queues.misplaced(),
            messages_removed: get(&counters.messages_removed),
            bytes_removed: get(&counters.bytes_removed),
            bytes_held: get(&counters.bytes_held),
            pending: self.waiters.lock().len() as u64,
            refused_busy: get(&counters.refused_busy),
            refused_disk_full: get(&counters.refused_disk_full),
        }
    }

    /// See [`crate::Store::delete_topic`].
    pub fn delete_topic(&self, topic: &TopicName) -> io::Result<()> {
        let appender = self.appender.lock();
        // Held so that nothing is dispatched to a queue that is being removed.
        let _dispatcher = self.dispatcher.lock();
        self.deleted.note(topic, appender.end())?;
        self.carried.forget(topic)?;
        self.queues.remove_topic(topic);
        Ok(())
    }

    /// See [`crate::Store::hide_before`].
    pub fn hide_before(&self, topic: &TopicName, offset: PhysicalOffset) {
        self.queues.hide_before(topic, offset.0);
    }

    /// See [`crate::Store::keep_from`].
    pub fn keep_from(&self, offset: PhysicalOffset) {
        self.kept_from.store(offset.0, Ordering::Release);
    }

    /// See [`crate::Store::file_start`].
    pub fn file_start(&self, offset: PhysicalOffset) -> Option<PhysicalOffset> {
        let file = self.log.file_at(offset.0)?;
        Some(PhysicalOffset(file.start))
    }

    /// The next queue offset of a queue, those of invisible messages counted.
    pub(crate) fn next_queue_offset(
        &self,
        topic: &TopicName,
        queue_id: rocket_protocol::QueueId,
    ) -> u64 {
        self.queues.next_offset(topic, queue_id)
    }

    /// The clock's time.
    pub(crate) fn now(&self) -> UnixMillis {
        self.clock.now()
    }
}

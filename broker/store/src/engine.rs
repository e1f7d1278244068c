//! The store without its threads: every deed is a step that returns, so that threads, tests and a simulation can drive
//! it in any order. Steps of different kinds may run at once; two of the same kind wait for each other (flushes do not,
//! if their lanes differ).
//!
//! ```text
//! append ──▶ intake ──append_step──▶ log ──flush_begin/run/end──▶ durable ──settle──▶ answers
//!                                     └────────────dispatch_step (visible)──▶ queues, index ──▶ arrivals
//! ```
//!
//! Order of locks: answering, appender, dispatcher, then any one of progress, intake, checkpoint, queues, index.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use rocket_mapped_file::{Directory, Lock};
use rocket_protocol::message::record::{BLANK_HEAD_BYTES, EncodeError};
use rocket_protocol::{Message, PhysicalOffset, TopicName, UnixMillis};

use crate::api::{
    Append, Clock, CommitPolicy, Completion, DiskUsage, FlushFailure, Health, Positions, Promise,
    PutOutcome, PutStatus, Refused, Stats, StoreEvents,
};
use crate::appender::Appender;
use crate::checkpoint::{Bounds, Checkpoint};
use crate::commit_log::{CommitLog, LogFile};
use crate::config::{Flush, StoreConfig};
use crate::deleted::Deleted;
use crate::error::{OpenError, RecoveryReport};
use crate::heat::Heat;
use crate::index::Index;
use crate::progress::{Answer, Flight, Progress, Waiter};
use crate::queues::Queues;
use crate::recovery;

/// Marks that a flush failed: the next start reads from the disk and not from the page cache.
pub(crate) const FLUSH_FAILED: &str = "rocket/flush-failed";
/// Exists while a store is open; Apache's broker looks for it too.
pub(crate) const ABORT: &str = "abort";

/// Where the dispatcher is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dispatcher {
    /// Everything before is in queues and index.
    pub(crate) position: u64,
    /// Store time of the last record before.
    pub(crate) time: i64,
}

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
    pub(crate) pending: AtomicU64,
    pub(crate) refused_busy: AtomicU64,
    pub(crate) refused_disk_full: AtomicU64,
}

/// What the engine is made of; filled by recovery.
pub(crate) struct Parts {
    pub(crate) log: CommitLog,
    pub(crate) queues: Queues,
    pub(crate) index: Option<Index>,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) deleted: Deleted,
    pub(crate) appender: Appender,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) lock: Box<dyn Lock>,
}

/// A flush to be run without any lock held.
pub struct FlushJob {
    flight: Flight,
    lane: usize,
    files: Vec<Arc<LogFile>>,
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
    pub(crate) heat: Heat,
    pub(crate) log: CommitLog,
    pub(crate) queues: Queues,
    pub(crate) index: Option<Mutex<Index>>,
    pub(crate) deleted: Deleted,
    pub(crate) counters: Counters,
    pub(crate) appender: Mutex<Appender>,
    pub(crate) dispatcher: Mutex<Dispatcher>,
    pub(crate) dispatched: AtomicU64,
    pub(crate) disk: RwLock<DiskUsage>,
    /// The next log file could not be made.
    pub(crate) no_room: AtomicBool,
    intake: Mutex<VecDeque<Append<C>>>,
    progress: Mutex<Progress<C>>,
    checkpoint: Mutex<Checkpoint>,
    /// Held while answers are given, so that they leave in log order.
    answering: Mutex<()>,
    closing: AtomicBool,
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
        let (parts, report) = recovery::recover(&config, &dir)?;
        let position = parts.dispatcher.position;
        let engine = Self {
            heat: Heat::new(position),
            log: parts.log,
            queues: parts.queues,
            index: parts.index.map(Mutex::new),
            deleted: parts.deleted,
            counters: Counters::default(),
            progress: Mutex::new(Progress::new(parts.appender.end())),
            appender: Mutex::new(parts.appender),
            dispatcher: Mutex::new(parts.dispatcher),
            dispatched: AtomicU64::new(position),
            disk: RwLock::new(DiskUsage {
                used: 0,
                capacity: 0,
                ratio: 0.0,
                refused: false,
            }),
            no_room: AtomicBool::new(false),
            intake: Mutex::new(VecDeque::new()),
            checkpoint: Mutex::new(parts.checkpoint),
            answering: Mutex::new(()),
            closing: AtomicBool::new(false),
            _lock: parts.lock,
            config,
            dir,
            clock,
            policy,
            events,
        };
        engine.look_at_disk();
        engine.settle();
        while engine.dispatch_step() == Step::Worked {}
        Ok((engine, report))
    }

    /// Takes an append into the queue of the next [`Engine::append_step`].
    pub fn append(&self, append: Append<C>) -> Result<(), Refused<C>> {
        if self.closing.load(Ordering::Acquire) {
            return Err(Refused::Closing(append.completion));
        }
        if let Some(reason) = self.failed() {
            return Err(Refused::ReadOnly(append.completion, reason));
        }
        if self.disk.read().refused || self.no_room.load(Ordering::Acquire) {
            self.counters
                .refused_disk_full
                .fetch_add(1, Ordering::Relaxed);
            return Err(Refused::DiskFull(append.completion));
        }
        if let Err(status) = self
            .check(append.messages.as_slice())
            .and_then(|()| self.policy.may_append())
        {
            return Err(Refused::Status(append.completion, status));
        }
        let max = self.config.append_queue_max as u64;
        if self.counters.pending.fetch_add(1, Ordering::AcqRel) >= max {
            self.counters.pending.fetch_sub(1, Ordering::AcqRel);
            self.counters.refused_busy.fetch_add(1, Ordering::Relaxed);
            return Err(Refused::Busy(append.completion));
        }
        let mut intake = self.intake.lock();
        // Looked at again under the lock: who closes or fails empties the queue under it.
        if self.closing.load(Ordering::Acquire) {
            self.counters.pending.fetch_sub(1, Ordering::AcqRel);
            return Err(Refused::Closing(append.completion));
        }
        intake.push_back(append);
        Ok(())
    }

    fn check(&self, messages: &[Message]) -> Result<(), PutStatus> {
        let illegal = |reason: &str| Err(PutStatus::MessageIllegal(reason.into()));
        let Some(first) = messages.first() else {
            return illegal("no message");
        };
        for message in messages {
            if message.topic != first.topic || message.queue_id != first.queue_id {
                return illegal("messages of a batch go to one queue");
            }
            match message.check() {
                Ok(()) => {}
                Err(EncodeError::PropertiesTooLong(_)) => return Err(PutStatus::PropertiesTooLong),
                Err(EncodeError::BodyTooLong(_)) => return illegal("the body is too long"),
            }
            if message.body.len() > self.config.message_bytes_max {
                return illegal("the body is longer than maxMessageSize");
            }
            if (message.encoded_len() + BLANK_HEAD_BYTES) as u64 > self.config.segment_bytes {
                return illegal("the message is larger than a log file");
            }
            // Recovery takes zero bytes there for a sector that a crash lost.
            if message.properties.contains(&0) {
                return illegal("the properties hold a zero byte");
            }
        }
        Ok(())
    }

    /// Writes what waits in the intake to the log, in one batch.
    pub fn append_step(&self) -> Step {
        let mut appender = self.appender.lock();
        let batch = self.take_batch();
        if batch.is_empty() {
            return Step::Idle;
        }
        if let Some(reason) = self.failed() {
            drop(appender);
            self.refuse(batch.into_iter(), &PutStatus::ServiceNotAvailable(reason));
            return Step::Worked;
        }
        let now = self.clock.now();
        let deadline = now.plus_millis(
            i64::try_from(self.config.promise_timeout.as_millis()).unwrap_or(i64::MAX),
        );
        let mut waiters = Vec::with_capacity(batch.len());
        let mut at_once = Vec::new();
        let mut appends = batch.into_iter();
        let mut without_room = None;
        let mut count = 0;
        for append in appends.by_ref() {
            let messages = append.messages.as_slice();
            if let Err(error) = self.make_files(&appender, messages) {
                tracing::warn!(error = %error, "no room for another log file");
                self.no_room.store(true, Ordering::Release);
                without_room = Some(append);
                break;
            }
            let appended = appender.place(messages, now, |start| self.file_len(start));
            count += u64::from(appended.count);
            let end = appender.end();
            match append.promise {
                Promise::Kept => waiters.push(Waiter {
                    end,
                    deadline,
                    completion: append.completion,
                    appended,
                }),
                Promise::AppendOnly => {
                    at_once.push((
                        append.completion,
                        PutOutcome {
                            status: PutStatus::Ok,
                            appended: Some(appended),
                        },
                    ));
                }
            }
        }
        let refused: Vec<_> = without_room.into_iter().chain(appends).collect();
        let answers = self.write(&mut appender, count, waiters, at_once);
        drop(appender);
        self.answer(answers);
        self.refuse(
            refused.into_iter(),
            &PutStatus::ServiceNotAvailable("disk full".into()),
        );
        self.settle();
        Step::Worked
    }

    /// As many appends as one write takes.
    fn take_batch(&self) -> Vec<Append<C>> {
        let mut intake = self.intake.lock();
        let mut bytes = 0;
        let mut count = 0;
        for append in intake.iter() {
            bytes += append
                .messages
                .as_slice()
                .iter()
                .map(Message::encoded_len)
                .sum::<usize>();
            if count > 0 && bytes > self.config.batch_bytes_max {
                break;
            }
            count += 1;
        }
        intake.drain(..count).collect()
    }

    fn file_len(&self, start: u64) -> u64 {
        self.log
            .file_at(start)
            .map_or(self.config.segment_bytes, |file| file.segment.len())
    }

    fn make_files(&self, appender: &Appender, messages: &[Message]) -> io::Result<()> {
        let lens = messages.iter().map(Message::encoded_len);
        for start in appender.files_needed(lens, |start| self.file_len(start)) {
            self.log.ensure(start)?;
        }
        Ok(())
    }

    /// Writes what the appender placed, publishes it and lets it be waited for. Returns what can be answered now.
    fn write(
        &self,
        appender: &mut Appender,
        count: u64,
        waiters: Vec<Waiter<C>>,
        mut at_once: Vec<Answer<C>>,
    ) -> Vec<Answer<C>> {
        let written = self.write_pieces(appender);
        let bytes = appender.pieces().0.len() as u64;
        appender.written();
        match written {
            Ok(()) => {
                self.counters
                    .messages_appended
                    .fetch_add(count, Ordering::Relaxed);
                self.counters
                    .bytes_appended
                    .fetch_add(bytes, Ordering::Relaxed);
                self.counters
                    .batches_appended
                    .fetch_add(1, Ordering::Relaxed);
                at_once.extend(self.progress.lock().appended(appender.end(), waiters));
                at_once
            }
            Err((file, error)) => {
                // Whole records may have been written: the outcome is unknown, not "failed".
                self.fail(&file, &error);
                let waiting = waiters
                    .into_iter()
                    .map(|waiter| (waiter.completion, Some(waiter.appended)));
                let at_once = at_once
                    .into_iter()
                    .map(|(completion, outcome)| (completion, outcome.appended));
                let unknown = |appended| PutOutcome {
                    status: PutStatus::FlushDiskTimeout,
                    appended,
                };
                waiting
                    .chain(at_once)
                    .map(|(completion, appended)| (completion, unknown(appended)))
                    .collect()
            }
        }
    }

    fn write_pieces(&self, appender: &Appender) -> Result<(), (String, io::Error)> {
        let (buffer, pieces) = appender.pieces();
        for piece in pieces {
            let file = self.log.file_at(piece.at);
            let file = file.ok_or_else(|| {
                (
                    "commitlog".to_owned(),
                    io::Error::from(io::ErrorKind::NotFound),
                )
            })?;
            let bytes = buffer.get(piece.range.clone()).unwrap_or_default();
            let at = piece.at - file.start;
            file.segment
                .write_at(at, &[IoSlice::new(bytes)])
                .map_err(|error| (file.path(), error))?;
            file.segment.publish(at + bytes.len() as u64);
        }
        Ok(())
    }

    /// Begins a flush in `lane` of all that is appended and in no other flight; to be run and ended by the caller.
    pub fn flush_begin(&self, lane: usize) -> Option<FlushJob> {
        let flight = self
            .progress
            .lock()
            .flush_begin(self.config.flush_flights)?;
        let files = self.log.files();
        let covered = files
            .into_iter()
            .filter(|file| file.start < flight.to && file.end() > flight.from);
        Some(FlushJob {
            flight,
            lane,
            files: covered.collect(),
        })
    }

    /// Ends a flush with what [`FlushJob::run`] said.
    pub fn flush_end(&self, job: &FlushJob, result: Result<(), (String, io::Error)>) {
        match result {
            Ok(()) => {
                self.counters.flushes.fetch_add(1, Ordering::Relaxed);
                let moved = {
                    let mut progress = self.progress.lock();
                    progress
                        .flush_end(job.flight.id)
                        .then(|| (progress.local().durable.0, progress.ends().committed.0))
                };
                if let Some((durable, confirm)) = moved {
                    self.note(|bounds| Bounds {
                        floor: durable.max(bounds.floor),
                        confirm: confirm.max(bounds.confirm),
                        ..bounds
                    });
                    self.settle();
                }
            }
            Err((file, error)) => self.fail(&file, &error),
        }
    }

    /// Flushes in `lane` all that is appended; for tests and for the end.
    pub fn flush_step(&self, lane: usize) -> Step {
        let Some(job) = self.flush_begin(lane) else {
            return Step::Idle;
        };
        let result = job.run();
        self.flush_end(&job, result);
        Step::Worked
    }

    /// Writes our checkpoint. Not to be able to is no failure of the store: the bound stays lower.
    pub(crate) fn note(&self, change: impl FnOnce(Bounds) -> Bounds) {
        let mut checkpoint = self.checkpoint.lock();
        let bounds = change(checkpoint.bounds);
        if let Err(error) = checkpoint.write(bounds) {
            tracing::warn!(error = %error, "the checkpoint was not written");
        }
    }

    pub(crate) fn secure_checkpoint(&self, flushed_time: i64) -> io::Result<()> {
        self.checkpoint.lock().secure(flushed_time)
    }

    pub(crate) fn bounds(&self) -> Bounds {
        self.checkpoint.lock().bounds
    }

    /// Asks the commit policy again and answers everyone whose promise is kept.
    pub fn settle(&self) {
        let _answering = self.answering.lock();
        let answers = self.progress.lock().settle(&*self.policy);
        self.answer(answers);
    }

    /// Answers "unknown" to everyone who waited too long.
    pub fn expire(&self) {
        let now = self.clock.now();
        let _answering = self.answering.lock();
        let answers = self.progress.lock().expire(now);
        self.answer(answers);
    }

    fn answer(&self, answers: Vec<Answer<C>>) {
        for (completion, outcome) in answers {
            self.counters.pending.fetch_sub(1, Ordering::AcqRel);
            completion.complete(outcome);
        }
    }

    fn refuse(&self, appends: impl Iterator<Item = Append<C>>, status: &PutStatus) {
        let answer = |append: Append<C>| {
            (
                append.completion,
                PutOutcome {
                    status: status.clone(),
                    appended: None,
                },
            )
        };
        self.answer(appends.map(answer).collect());
    }

    /// A write or flush failed: final. Nothing is acknowledged from here on.
    pub(crate) fn fail(&self, file: &str, error: &io::Error) {
        let reason: Arc<str> = format!("{file}: {error}").into();
        tracing::error!(file, error = %error, "write or flush failed; the store is read-only from now on");
        let (is_first, answers) = {
            let mut progress = self.progress.lock();
            (
                progress.failed().is_none(),
                progress.fail(Arc::clone(&reason)),
            )
        };
        self.answer(answers);
        if !is_first {
            return;
        }
        if let Err(error) = self.dir.replace(FLUSH_FAILED, reason.as_bytes()) {
            tracing::error!(error = %error, "the failure could not be noted for the next start");
        }
        let waiting: Vec<_> = self.intake.lock().drain(..).collect();
        self.refuse(waiting.into_iter(), &PutStatus::ServiceNotAvailable(reason));
        self.events.failed(&FlushFailure {
            file: file.to_owned(),
            error: error.to_string(),
        });
    }

    pub(crate) fn failed(&self) -> Option<Arc<str>> {
        self.progress.lock().failed().cloned()
    }

    /// From now on appends are refused; those taken are still to be done.
    pub fn begin_close(&self) {
        let _intake = self.intake.lock();
        self.closing.store(true, Ordering::Release);
    }

    /// Everyone who still waits is told that the outcome is unknown, and who was not appended yet that it was not.
    pub fn abandon(&self) {
        self.begin_close();
        let waiting: Vec<_> = self.intake.lock().drain(..).collect();
        self.refuse(
            waiting.into_iter(),
            &PutStatus::ServiceNotAvailable("the store is closing".into()),
        );
        let answers = self.progress.lock().abandon();
        self.answer(answers);
    }

    /// Does all that is left and secures it; the last step after [`Engine::begin_close`], when no thread runs a step.
    pub fn finish(&self) -> Result<(), Arc<str>> {
        while self.append_step() == Step::Worked {}
        while self.flush_step(0) == Step::Worked {}
        self.settle();
        self.abandon();
        while self.dispatch_step() == Step::Worked {}
        self.checkpoint_step();
        if let Some(reason) = self.failed() {
            return Err(reason);
        }
        let removed = self.dir.remove(ABORT).and_then(|()| self.dir.sync(""));
        removed.map_err(|error| format!("{ABORT}: {error}").into())
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

    /// How full the file system is, as last looked at.
    pub fn disk_usage(&self) -> DiskUsage {
        *self.disk.read()
    }

    pub(crate) fn visible(&self) -> u64 {
        self.progress.lock().ends().visible.0
    }

    /// Whether the store takes messages.
    pub fn health(&self) -> Health {
        match self.failed() {
            Some(reason) => Health::ReadOnly { reason },
            None if self.closing.load(Ordering::Acquire) => Health::Closing,
            None => Health::Writable,
        }
    }

    /// Whether `flush` calls are driven by appends rather than by time.
    pub(crate) fn flushes_at_once(&self) -> bool {
        self.config.flush == Flush::Sync
    }

    /// Counts since the store was opened.
    pub fn stats(&self) -> Stats {
        let counters = &self.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            messages_appended: get(&counters.messages_appended),
            bytes_appended: get(&counters.bytes_appended),
            batches_appended: get(&counters.batches_appended),
            flushes: get(&counters.flushes),
            messages_dispatched: get(&counters.messages_dispatched),
            messages_removed: get(&counters.messages_removed),
            bytes_removed: get(&counters.bytes_removed),
            pending: get(&counters.pending),
            refused_busy: get(&counters.refused_busy),
            refused_disk_full: get(&counters.refused_disk_full),
        }
    }

    /// See [`crate::Store::delete_topic`].
    pub fn delete_topic(&self, topic: &TopicName) -> io::Result<()> {
        let mut appender = self.appender.lock();
        // Held so that nothing is dispatched to a queue that is being removed.
        let _dispatcher = self.dispatcher.lock();
        self.deleted.note(topic, appender.end())?;
        appender.next.forget(topic);
        self.queues.remove_topic(topic)
    }

    /// The next queue offset of a queue, those of invisible messages counted.
    pub(crate) fn next_queue_offset(
        &self,
        topic: &TopicName,
        queue_id: rocket_protocol::QueueId,
    ) -> u64 {
        self.appender.lock().next.get(topic, queue_id)
    }

    /// The clock's time.
    pub(crate) fn now(&self) -> UnixMillis {
        self.clock.now()
    }
}

impl FlushJob {
    /// Flushes; to be called without any lock held.
    pub fn run(&self) -> Result<(), (String, io::Error)> {
        self.files.iter().try_for_each(|file| {
            file.segment
                .flush(self.lane)
                .map_err(|error| (file.path(), error))
        })
    }
}

//! The store with its threads: one to eight flush, one dispatches, one keeps house, one tells who waited too long, one
//! looks through the log again, one makes the next file. Each runs steps of the [`Engine`] until
//! there is nothing to do and then waits for a signal. There is none that appends: callers encode, and with
//! [`Flush::Async`] they write too; with [`Flush::Sync`] a flush lane writes what it is about to flush.

use std::convert::Infallible;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rocket_mapped_file::Directory;
use rocket_mapped_file::disk::DiskDirectory;
use rocket_protocol::message::MessageRef;
use rocket_protocol::{PhysicalOffset, QueueId, QueueOffset, TopicName, UnixMillis};

use crate::api::{
    Boundary, Clock, CommitPolicy, Completion, Damaged, DiskUsage, Filter, GetResult, Health,
    NotInMemory, Positions, Promise, QueryResult, QueueRange, ReadLimits, Refused, Stats,
    StoreEvents,
};
use crate::config::{Flush, StoreConfig};
use crate::engine::Engine;
use crate::error::{CloseError, OpenError, RecoveryReport};
use crate::readers::Readers;

use self::threads::Shared;

mod replica;
mod threads;

/// The message store of one broker. All methods may be called from any thread; none waits for the disk but
/// [`Store::delete_topic`] and [`Store::close`], and reads that find nothing in the page cache. While a topic is deleted,
/// appends and dispatch wait for its note to be flushed.
pub struct Store<C: Completion> {
    shared: Arc<Shared<C>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Flush lanes that have a thread.
    lanes: Mutex<usize>,
    /// What [`Store::is_in_memory`] takes for the part of the log that the page cache holds.
    memory_bytes: u64,
}

impl<C: Completion> Store<C> {
    /// Opens or makes the store in `config.dir`, recovers it, and starts its threads.
    pub fn open(
        config: StoreConfig,
        clock: Arc<dyn Clock>,
        policy: Arc<dyn CommitPolicy>,
        events: Arc<dyn StoreEvents>,
    ) -> Result<(Self, RecoveryReport), OpenError> {
        config.check()?;
        let dir = DiskDirectory::open(&config.dir)
            .map_err(OpenError::io("open", &config.dir.to_string_lossy()))?;
        Self::open_in(Arc::new(dir), config, clock, policy, events)
    }

    /// As [`Store::open`], in a folder of any kind; `config.dir` is not looked at.
    pub fn open_in(
        dir: Arc<dyn Directory>,
        config: StoreConfig,
        clock: Arc<dyn Clock>,
        policy: Arc<dyn CommitPolicy>,
        events: Arc<dyn StoreEvents>,
    ) -> Result<(Self, RecoveryReport), OpenError> {
        let memory_bytes = config.memory_bytes;
        let (engine, report) = Engine::open(config, dir, clock, policy, events)?;
        let store = Self {
            shared: Arc::new(Shared::new(engine)),
            threads: Mutex::new(Vec::new()),
            lanes: Mutex::new(0),
            memory_bytes,
        };
        store.start_lanes()?;
        store.start("store-dispatch", Shared::dispatch_loop)?;
        store.start("store-house", Shared::house_loop)?;
        store.start("store-expire", Shared::expire_loop)?;
        store.start("store-scrub", Shared::scrub_loop)?;
        store.start("store-prepare", Shared::prepare_loop)?;
        Ok((store, report))
    }

    /// Starts those lanes that the flush mode has use for and that have no thread yet.
    fn start_lanes(&self) -> Result<(), OpenError> {
        let wanted = match self.engine().flush_mode.now() {
            Flush::Sync => self.engine().config.flush_flights,
            Flush::Async => 1,
        };
        let mut lanes = self.lanes.lock();
        while *lanes < wanted {
            let lane = *lanes;
            self.start("store-flush", move |shared| shared.flush_loop(lane))?;
            *lanes += 1;
        }
        Ok(())
    }

    fn start(
        &self,
        name: &str,
        run: impl FnOnce(&Shared<C>) + Send + 'static,
    ) -> Result<(), OpenError> {
        let shared = Arc::clone(&self.shared);
        let builder = std::thread::Builder::new().name(name.to_owned());
        let thread = builder
            .spawn(move || {
                let work = AssertUnwindSafe(|| run(&shared));
                if std::panic::catch_unwind(work).is_err() {
                    // Better to leave than to serve without this thread; nothing of the store is used after it but to say so.
                    shared.engine.panicked();
                }
            })
            .map_err(OpenError::io("start thread", name))?;
        self.threads.lock().push(thread);
        Ok(())
    }

    fn engine(&self) -> &Engine<C> {
        &self.shared.engine
    }

    /// Takes messages of one topic and queue: adjacent queue offsets, contiguous in the log, each a record of its own. They
    /// are encoded before this returns; nothing of the caller's is kept. They are written after [`Store::write_out`]; the
    /// completion is called then, exactly once, unless it comes back here.
    ///
    /// # Errors
    /// Nothing was appended; the completion comes back.
    pub fn append(
        &self,
        messages: &[MessageRef<'_>],
        promise: Promise,
        completion: C,
    ) -> Result<(), Refused<C>> {
        self.engine().append(messages, promise, completion)
    }

    /// To be called after one or several appends: what was appended will be written, flushed and answered without further
    /// calls. Never waits for a flush. With [`Flush::Async`] the calling thread writes, unless another one is at it, and
    /// gives the answers, so that those of its own connections need no wake-up.
    pub fn write_out(&self) {
        self.shared.write_out();
    }

    /// Writes and flushes as `flush` says from here on. What answers wait for is the commit policy's affair. To be called by
    /// one thread at a time, and not after [`Store::close`] has begun.
    pub fn set_flush(&self, flush: Flush) {
        if !self.engine().flush_mode.set(flush) {
            return;
        }
        if let Err(error) = self.start_lanes() {
            tracing::warn!(%error, "fewer flushes overlap than they could");
        }
        self.shared.change_lanes();
    }

    /// Reads visible messages of a queue from `from` on, with RocketMQ's answers for every kind of offset.
    pub fn get(
        &self,
        topic: &TopicName,
        queue_id: QueueId,
        from: i64,
        limits: ReadLimits,
        filter: &Filter<'_>,
    ) -> GetResult {
        let engine = self.engine();
        let get = || Ok::<_, Infallible>(engine.get(topic, queue_id, from, limits, filter));
        match self.shared.get_at_end(get) {
            Ok(result) => result,
        }
    }

    /// As [`Store::get`] where that waits for no disk. Of the limits the first holds where the first message lies within
    /// [`StoreConfig::memory_bytes`] of the end of the log (RocketMQ's `checkInMemByConsumeOffset`), the second elsewhere.
    ///
    /// # Errors
    /// The messages are not in memory: to be read by [`Store::get_catching_up`], on a thread that may wait.
    pub fn get_in_memory(
        &self,
        topic: &TopicName,
        queue_id: QueueId,
        from: i64,
        limits: (ReadLimits, ReadLimits),
        filter: &Filter<'_>,
    ) -> Result<GetResult, NotInMemory> {
        let engine = self.engine();
        self.shared
            .get_at_end(|| engine.get_in_memory(topic, queue_id, from, limits, filter))
    }

    /// As [`Store::get_in_memory`] for a reader that is behind: waits for the disk, has what comes next fetched, and gives
    /// up in the page cache what such readers brought in and have read. How many do so at once is the caller's to bound, and how
    /// fast: see [`Store::catch_up_pause`].
    pub fn get_catching_up(
        &self,
        topic: &TopicName,
        queue_id: QueueId,
        from: i64,
        limits: (ReadLimits, ReadLimits),
        filter: &Filter<'_>,
    ) -> GetResult {
        self.engine()
            .get_catching_up(topic, queue_id, from, limits, filter)
    }

    /// How long the next [`Store::get_catching_up`] is to be put off: with more reading senders would wait longer than without.
    /// At most a second.
    pub fn catch_up_pause(&self) -> Duration {
        self.engine().catch_up_pause()
    }

    /// Puts on this thread into queues and index what is visible by now: all that a recovery left over, after [`Store::open`].
    /// Waits for the disk. `false`: some of it cannot be read now.
    pub fn catch_up(&self) -> bool {
        self.shared.catch_up()
    }

    /// What of a queue is visible; `None` if the queue never had a visible message.
    pub fn queue_range(&self, topic: &TopicName, queue_id: QueueId) -> Option<QueueRange> {
        self.shared.catch_up();
        self.engine().queue_range(topic, queue_id)
    }

    /// All queues that have or had messages, sorted.
    pub fn queues(&self) -> Vec<(TopicName, QueueId)> {
        self.shared.catch_up();
        self.engine().queues()
    }

    /// The queue offset at a time; see [`Engine::offset_by_time`].
    ///
    /// # Errors
    /// The queue or the log cannot be read now: to be asked again.
    pub fn offset_by_time(
        &self,
        topic: &TopicName,
        queue_id: QueueId,
        time: UnixMillis,
        boundary: Boundary,
    ) -> io::Result<i64> {
        self.shared.catch_up();
        self.engine()
            .offset_by_time(topic, queue_id, time, boundary)
    }

    /// When the message at a queue offset was stored.
    pub fn store_time_at(
        &self,
        topic: &TopicName,
        queue_id: QueueId,
        offset: QueueOffset,
    ) -> Option<UnixMillis> {
        self.engine().store_time_at(topic, queue_id, offset)
    }

    /// When the first message of a queue that is still there was stored.
    pub fn earliest_store_time(&self, topic: &TopicName, queue_id: QueueId) -> Option<UnixMillis> {
        self.engine().earliest_store_time(topic, queue_id)
    }

    /// The visible record that begins at `offset`; `None` if none begins there.
    pub fn record_at(&self, offset: PhysicalOffset) -> Option<Bytes> {
        self.engine().record_at(offset)
    }

    /// Messages of `topic` that carry `key` as KEYS word or unique key, stored within `begin..=end`, newest first.
    pub fn query(
        &self,
        topic: &TopicName,
        key: &str,
        max: usize,
        begin: UnixMillis,
        end: UnixMillis,
    ) -> QueryResult {
        self.shared.catch_up();
        self.engine().query(topic, key, max, begin, end)
    }

    /// Whether the message at a queue offset is likely in memory: no further from the end of the log than
    /// [`StoreConfig::memory_bytes`] (RocketMQ's `checkInMemByConsumeOffset`).
    pub fn is_in_memory(&self, topic: &TopicName, queue_id: QueueId, offset: QueueOffset) -> bool {
        self.engine()
            .is_within(topic, queue_id, offset, self.memory_bytes)
    }

    /// Forgets a topic: its queues vanish at once and the next message starts at queue offset 0 again. The records stay in
    /// the log until retention takes them.
    pub fn delete_topic(&self, topic: &TopicName) -> io::Result<()> {
        self.engine().delete_topic(topic)
    }

    /// Hides the messages of a topic that lie before `offset` in the log, those that are yet to be dispatched too, as if
    /// retention had taken them. Unlike [`Store::delete_topic`] its queues go on where they are: all copies of a log come to the
    /// same result whenever they are told. Not on disk: to be said again after each start.
    pub fn hide_before(&self, topic: &TopicName, offset: PhysicalOffset) {
        self.engine().hide_before(topic, offset);
    }

    /// From here on retention takes nothing, however full the disk is, until it is said otherwise: what the broker itself cannot do
    /// without. It is to be moved on with the log. Not on disk.
    pub fn keep_from(&self, offset: PhysicalOffset) {
        self.engine().keep_from(offset);
    }

    /// Where the log file begins that holds `offset`; `None` if there is none.
    pub fn file_start(&self, offset: PhysicalOffset) -> Option<PhysicalOffset> {
        self.engine().file_start(offset)
    }

    /// See [`Engine::set_readers`].
    pub fn set_readers(&self, readers: Arc<dyn Readers>) {
        self.engine().set_readers(readers);
    }

    /// The positions of the log.
    pub fn positions(&self) -> Positions {
        self.engine().positions()
    }

    /// Whether the store takes messages.
    pub fn health(&self) -> Health {
        self.engine().health()
    }

    /// How full the file system is, as last looked at.
    pub fn disk(&self) -> DiskUsage {
        self.engine().disk_usage()
    }

    /// What of the log is known to be damaged, in log order.
    pub fn damage(&self) -> Vec<Damaged> {
        self.engine().damage()
    }

    /// Another number whenever something of [`Store::damage`] is another.
    pub fn damage_changes(&self) -> u64 {
        self.engine().damage_changes()
    }

    /// Counts since the store was opened.
    pub fn stats(&self) -> Stats {
        self.engine().stats()
    }

    /// The commit policy's inputs changed: ask it again and answer who waits. Does not wait for the disk; answers are
    /// given on the calling thread.
    pub fn re_evaluate(&self) {
        self.engine().settle();
        self.shared.announce();
    }

    /// Finishes what was taken, flushes everything, writes the checkpoints, removes the abort file. Later appends are
    /// refused; reads go on working. Dropping the store without closing is like a crash of the process.
    pub fn close(&self) -> Result<(), CloseError> {
        self.engine().begin_close();
        self.stop();
        self.engine().finish().map_err(CloseError::Failed)
    }

    fn stop(&self) {
        self.shared.stop();
        for thread in std::mem::take(&mut *self.threads.lock()) {
            // A thread that drops the last store must not wait for itself.
            if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
    }
}

impl<C: Completion> Drop for Store<C> {
    fn drop(&mut self) {
        self.stop();
        self.engine().abandon();
    }
}

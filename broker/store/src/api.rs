//! What callers of the store hand in and get back: appends and their outcomes, reads and their answers, positions, health,
//! and the three seams through which the store asks its surroundings (time, commit policy, events).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rocket_protocol::{GroupName, PhysicalOffset, QueueId, QueueOffset, TopicName, UnixMillis};

/// The store's only source of time.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch. May jump; the store never decides about safety by it.
    fn now(&self) -> UnixMillis;
    /// The time since some fixed point; never falls. Only for measuring how long something took.
    fn elapsed(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.now().0).unwrap_or_default())
    }
}

/// Decides how far the log counts. Two implementations from the first day: [`LocalPolicy`] and replication.
///
/// The rule: `committed` never falls while a store is open (the store stops the process if it does) and neither of the
/// ends lies beyond what the local log has (`appended`).
pub trait CommitPolicy: Send + Sync + 'static {
    /// The ends that follow from the local ones. Called often and under a lock: must be quick and must not call the store.
    fn ends(&self, local: LocalEnds) -> Ends;
    /// Whether a message may be appended at all right now; the status is the answer when it may not.
    fn may_append(&self) -> Result<(), PutStatus>;
    /// The terms on which a send is taken that is appended now. Asked under the lock that gives it its place.
    fn terms(&self) -> Terms {
        Terms::default()
    }
    /// How far those are to be answered who were taken on `terms`, be they the present ones or not; `ends` is what
    /// [`CommitPolicy::ends`] said just before. [`Ends::answered`] binds everybody besides.
    fn answered_on(&self, _terms: Terms, _local: LocalEnds, ends: Ends) -> PhysicalOffset {
        ends.answered
    }
}

/// What the answer to a send waits for at least: what the modes promised when it was appended. A change to weaker modes takes
/// nothing away from those who wait already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Terms {
    /// Whatever [`Ends::answered`] says: of a policy whose modes never change.
    #[default]
    Standing,
    /// The message is in the page cache here.
    Appended,
    /// It is flushed here.
    Durable,
    /// Every copy that counts has it.
    Committed,
    /// Every copy that counts has it flushed.
    CommittedDurable,
}

impl Terms {
    /// All of them, each at the place that its number names.
    pub const ALL: [Self; 5] = [
        Self::Standing,
        Self::Appended,
        Self::Durable,
        Self::Committed,
        Self::CommittedDurable,
    ];
}

/// How far the local log reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LocalEnds {
    /// End of what is written (page cache).
    pub appended: PhysicalOffset,
    /// End of what a finished flush covers.
    pub durable: PhysicalOffset,
}

/// How far the log counts, by the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ends {
    /// Never lost any more, whatever is elected (replication protocol §8.7).
    pub committed: PhysicalOffset,
    /// Sends that end here or before are answered [`PutStatus::Ok`].
    pub answered: PhysicalOffset,
    /// Consumers may see what ends here or before.
    pub visible: PhysicalOffset,
}

/// The policy of a broker that stands alone: with [`crate::Flush::Sync`] only what is durable counts, with
/// [`crate::Flush::Async`] everything that is appended.
#[derive(Debug, Clone, Copy)]
pub struct LocalPolicy {
    /// The flush mode.
    pub flush: crate::Flush,
}

impl CommitPolicy for LocalPolicy {
    fn ends(&self, local: LocalEnds) -> Ends {
        let end = match self.flush {
            crate::Flush::Sync => local.durable,
            crate::Flush::Async => local.appended,
        };
        Ends {
            committed: end,
            answered: end,
            visible: end,
        }
    }

    fn may_append(&self) -> Result<(), PutStatus> {
        Ok(())
    }
}

/// Told about what happened; called on store threads, must not block and must not call the store's blocking functions.
pub trait StoreEvents: Send + Sync + 'static {
    /// These messages became visible, in log order.
    fn arrived(&self, arrivals: &[Arrival]);
    /// Whether somebody waits to be told of arrivals. If not, messages are dispatched a little later, many at a time, unless
    /// somebody reads at the end of a queue. Whoever begins to wait must look at the queue's end once more afterwards.
    fn is_awaited(&self) -> bool {
        true
    }
    /// A flush of the log succeeded; it took so long and covered so many bytes.
    fn flushed(&self, _took: Duration, _bytes: u64) {}
    /// The store is being opened: its folder is locked, and nothing in it was flushed or changed yet. What the run before noted
    /// of its failure ([`crate::past_failure`]) is there until the store has recovered.
    ///
    /// # Errors
    /// The store does not open, and leaves the folder as it is.
    fn locked(&self) -> io::Result<()> {
        Ok(())
    }
    /// The kernel is about to be asked to flush files of the log, and so to tell of writes to them that were lost: it tells that
    /// once. Several may be under way at once, and the first one while the store is being opened.
    fn flush_begins(&self) {}
    /// One of these flushes succeeded. Of one that did not [`StoreEvents::failed`] tells, or [`crate::OpenError`], or nobody.
    fn flush_succeeded(&self) {}
    /// A write or flush failed; the store is read-only from now on.
    fn failed(&self, failure: &FlushFailure);
    /// Retention removed a part of the log.
    fn removed(&self, removed: &Removed);
    /// A part of the log was found damaged, when the store was opened or since. It is not served; the store goes on.
    fn damaged(&self, _damaged: &Damaged) {}
}

/// Events that nobody wants.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoEvents;

impl StoreEvents for NoEvents {
    fn arrived(&self, _: &[Arrival]) {}
    fn failed(&self, _: &FlushFailure) {}
    fn removed(&self, _: &Removed) {}
}

/// One message that became visible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// Its topic.
    pub topic: TopicName,
    /// Its queue.
    pub queue_id: QueueId,
    /// Its index in the queue.
    pub queue_offset: QueueOffset,
    /// The hash of its tags as the consume queue holds it.
    pub tags_code: i64,
    /// When it was appended.
    pub store_timestamp: UnixMillis,
}

/// A part of the log that was flushed once and is not what was written. It is never served and never cut away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// The file, relative to the store's folder.
    pub file: String,
    /// First byte that may be wrong.
    pub from: PhysicalOffset,
    /// One behind the last byte that may be wrong.
    pub to: PhysicalOffset,
    /// How it was seen.
    pub reason: String,
}

/// A write or flush that failed. Final: nothing is acknowledged after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlushFailure {
    /// The file, relative to the store's folder.
    pub file: String,
    /// What the system said.
    pub error: String,
}

/// A part of the log that retention removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// First byte removed.
    pub from: PhysicalOffset,
    /// The log now begins here.
    pub to: PhysicalOffset,
    /// Bytes of the removed files.
    pub bytes: u64,
    /// Why.
    pub reason: RemovalReason,
    /// Messages that were removed, by queue, where there were any.
    pub messages: Vec<(TopicName, QueueId, u64)>,
    /// Those of them that a consumer group had not consumed.
    pub unconsumed: Vec<Unconsumed>,
}

/// Messages that retention took before a consumer group had consumed them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unconsumed {
    /// The group.
    pub group: GroupName,
    /// The topic.
    pub topic: TopicName,
    /// The queue.
    pub queue_id: QueueId,
    /// The first one.
    pub from: QueueOffset,
    /// One behind the last one.
    pub to: QueueOffset,
}

/// Why retention removed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RemovalReason {
    /// Older than `fileReservedTime`, at the hour `deleteWhen`.
    Expired,
    /// Older than `fileReservedTime`, at once because the disk is fuller than `diskMaxUsedSpaceRatio`.
    ExpiredUnderPressure,
    /// The log was larger than `commitLogBytesMax`.
    Oversize,
    /// The oldest file regardless of its age because the disk is fuller than `diskSpaceCleanForciblyRatio`.
    Forced,
}

/// Called once with the outcome of an append, on the thread that settles: a store thread or one that appends. Must not block.
/// May append.
pub trait Completion: Send + 'static {
    /// The outcome.
    fn complete(self, outcome: PutOutcome);

    /// Runs `complete`, which completes several one after another on this thread: for what is done once for all of them.
    fn together(complete: impl FnOnce()) {
        complete();
    }
}

impl<F: FnOnce(PutOutcome) + Send + 'static> Completion for F {
    fn complete(self, outcome: PutOutcome) {
        self(outcome);
    }
}

/// What an answer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// All that the flush and replication modes promise.
    Kept,
    /// Only that the message is in the page cache (property `WAIT=false`).
    AppendOnly,
}

/// The outcome of an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutOutcome {
    /// What to answer.
    pub status: PutStatus,
    /// Where the messages lie, when they were appended. Present with some failures too: then the outcome is unknown.
    pub appended: Option<Appended>,
}

/// Where an append went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// First byte of the first record.
    pub physical_offset: PhysicalOffset,
    /// Queue offset of the first message; 0 for prepared and rolled-back messages, which are in no queue.
    pub queue_offset: QueueOffset,
    /// Bytes of all records.
    pub len: u64,
    /// When they were appended.
    pub store_timestamp: UnixMillis,
    /// How many messages.
    pub count: u32,
    /// First byte of each record of a batch; empty for a single message.
    pub physical_offsets: Vec<PhysicalOffset>,
}

/// What to answer to a send. Named as RocketMQ's `PutMessageStatus`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutStatus {
    /// The promise is kept.
    Ok,
    /// Appended, not flushed in time or the flush failed: outcome unknown.
    FlushDiskTimeout,
    /// Appended, not replicated in time: outcome unknown.
    FlushSlaveTimeout,
    /// Appended, no replica could take it: outcome unknown.
    SlaveNotAvailable,
    /// Not appended: the store takes no messages.
    ServiceNotAvailable(Arc<str>),
    /// Not appended: fewer replicas in sync than demanded.
    InSyncReplicasNotEnough,
    /// Not appended: the message itself cannot be stored.
    MessageIllegal(Arc<str>),
    /// Not appended: more than 32767 bytes of properties.
    PropertiesTooLong,
    /// Not appended: too much waits already; try again later.
    Busy,
    /// Not appended or unknown, for a reason of another kind.
    Unknown,
}

/// An append that was not taken; the completion comes back uncalled.
#[derive(Debug)]
pub enum Refused<C> {
    /// As many sends or bytes as allowed wait already: `SYSTEM_BUSY`.
    Busy(C),
    /// A write or flush failed earlier; the reason.
    ReadOnly(C, Arc<str>),
    /// The disk is too full: code 14.
    DiskFull(C),
    /// The store is being closed.
    Closing(C),
    /// The commit policy allows no appends now, or the message cannot be stored; the answer.
    Status(C, PutStatus),
}

impl<C> Refused<C> {
    /// The completion and what to answer.
    pub fn into_parts(self) -> (C, PutStatus) {
        match self {
            Self::Busy(completion) => (completion, PutStatus::Busy),
            Self::ReadOnly(completion, reason) => {
                (completion, PutStatus::ServiceNotAvailable(reason))
            }
            Self::DiskFull(completion) => (
                completion,
                PutStatus::ServiceNotAvailable("disk full".into()),
            ),
            Self::Closing(completion) => (
                completion,
                PutStatus::ServiceNotAvailable("the store is closing".into()),
            ),
            Self::Status(completion, status) => (completion, status),
        }
    }
}

/// How much a read may return.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimits {
    /// Messages at most.
    pub messages_max: u32,
    /// Bytes at most; one message is returned even if it is larger.
    pub bytes_max: usize,
}

/// Decides about one message: first by its tags code alone; the second argument fetches the record.
pub type Filter<'a> = dyn Fn(i64, &dyn Fn() -> Option<Bytes>) -> bool + 'a;

/// Answer to a read, with the meaning of RocketMQ's `GetMessageStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GetStatus {
    /// Messages are in `chunks`.
    Found,
    /// None of the messages looked at passed the filter; go on at `next_begin`.
    NoMatchedMessage,
    /// The messages were removed by retention meanwhile.
    MessageWasRemoving,
    /// No such queue.
    NoMatchedLogicQueue,
    /// The queue never had a message.
    NoMessageInQueue,
    /// The queue has no entry there although it should.
    OffsetFoundNull,
    /// Exactly at the end: wait.
    OffsetOverflowOne,
    /// Beyond the end.
    OffsetOverflowBadly,
    /// Before the beginning.
    OffsetTooSmall,
}

impl GetStatus {
    /// Whether a message that becomes visible may change the answer.
    pub(crate) const fn is_at_end(self) -> bool {
        matches!(
            self,
            Self::NoMatchedLogicQueue
                | Self::NoMessageInQueue
                | Self::OffsetOverflowOne
                | Self::OffsetOverflowBadly
        )
    }
}

/// Answer to a read.
#[derive(Debug, Clone)]
pub struct GetResult {
    /// What was found.
    pub status: GetStatus,
    /// Where to read next.
    pub next_begin: i64,
    /// First queue offset that is still there.
    pub min: i64,
    /// One behind the last visible queue offset.
    pub max: i64,
    /// The records, whole, in order; adjacent ones share a chunk.
    pub chunks: Vec<Bytes>,
    /// How many records.
    pub messages: u32,
    /// Bytes of all records.
    pub bytes: usize,
    /// Store time of the first record, where one was found.
    pub first_store_timestamp: Option<UnixMillis>,
}

impl GetResult {
    /// The answer for a queue that does not exist.
    pub(crate) const fn none() -> Self {
        Self {
            status: GetStatus::NoMatchedLogicQueue,
            next_begin: 0,
            min: 0,
            max: 0,
            chunks: Vec::new(),
            messages: 0,
            bytes: 0,
            first_store_timestamp: None,
        }
    }
}

/// What was asked for is not in memory, so that reading it would wait for a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotInMemory;

/// What of a queue is there and visible: `min..max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueRange {
    /// First queue offset that is still there.
    pub min: QueueOffset,
    /// One behind the last visible queue offset.
    pub max: QueueOffset,
}

/// Which side of a time to search (RocketMQ's `BoundaryType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundary {
    /// The first message stored at or after the time.
    Lower,
    /// The last message stored at or before the time.
    Upper,
}

/// Answer to a query by key.
#[derive(Debug, Clone, Default)]
pub struct QueryResult {
    /// Records that carry the key, newest first.
    pub records: Vec<Bytes>,
    /// Store time of the newest indexed message.
    pub index_last_update_timestamp: UnixMillis,
    /// Where the newest indexed message lies.
    pub index_last_update_phyoffset: PhysicalOffset,
}

/// The positions of the log. `dispatched` <= visible <= `appended`; `durable` <= `appended`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Positions {
    /// The log begins here.
    pub min: PhysicalOffset,
    /// End of what is written.
    pub appended: PhysicalOffset,
    /// End of what is flushed.
    pub durable: PhysicalOffset,
    /// End of what the policy calls committed.
    pub committed: PhysicalOffset,
    /// End of what is in queues and index, and so is visible.
    pub dispatched: PhysicalOffset,
}

/// Whether the store takes messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Writable,
    /// It is being closed.
    Closing,
    /// A write or flush failed: final.
    ReadOnly {
        /// Which and why.
        reason: Arc<str>,
    },
}

/// How full the file system is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DiskUsage {
    /// Bytes in use.
    pub used: u64,
    /// Bytes that there are.
    pub capacity: u64,
    /// `used / capacity`, 0 when the capacity is not known.
    pub ratio: f64,
    /// Whether appends are refused for it, or because the log, the queues or the index cannot get room although it is not full.
    pub refused: bool,
}

/// Counts since the store was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Messages appended.
    pub messages_appended: u64,
    /// Bytes appended, fillers included.
    pub bytes_appended: u64,
    /// Batches written.
    pub batches_appended: u64,
    /// Bytes of the log that the scrubber read again.
    pub scrubbed_bytes: u64,
    /// Times that the scrubber came to the end of the log.
    pub scrub_passes: u64,
    /// Bytes of the log that are known to be damaged, those of earlier processes counted.
    pub damaged_bytes: u64,
    /// Bytes of the log that were damaged and were written again from another copy.
    pub repaired_bytes: u64,
    /// Flushes of the log that succeeded.
    pub flushes: u64,
    /// Messages put into their queues.
    pub messages_dispatched: u64,
    /// Messages removed by retention.
    pub messages_removed: u64,
    /// Bytes of log files removed by retention.
    pub bytes_removed: u64,
    /// Bytes of log files that are due and stay because a consumer group has not consumed them. Now, not since start.
    pub bytes_held: u64,
    /// Sends that wait for an answer now.
    pub pending: u64,
    /// Sends refused because too many waited.
    pub refused_busy: u64,
    /// Sends refused because the disk was too full.
    pub refused_disk_full: u64,
}

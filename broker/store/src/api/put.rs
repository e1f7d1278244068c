//! Appends and their outcomes.

use std::sync::Arc;

use rocket_protocol::{PhysicalOffset, QueueOffset, UnixMillis};

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
    /// As many sends as allowed wait already: `SYSTEM_BUSY`.
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

//! What the store tells of: messages that became visible, flushes, failures, damage, what retention removed.

use std::io;
use std::time::Duration;

use rocket_protocol::{GroupName, PhysicalOffset, QueueId, QueueOffset, TopicName, UnixMillis};

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

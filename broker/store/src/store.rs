//! The store with its threads.

use std::io;
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use rocket_protocol::{PhysicalOffset, QueueId, QueueOffset, TopicName, UnixMillis};
use thiserror::Error;

use crate::api::{
    Append, Boundary, Clock, CommitPolicy, Completion, DiskUsage, Filter, GetResult, GetStatus,
    Health, Positions, QueryResult, QueueRange, ReadLimits, Refused, Stats, StoreEvents,
};
use crate::config::{ConfigError, StoreConfig};

/// Why a store does not open.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The settings contradict themselves; give up until they are changed.
    #[error("store settings")]
    Config(#[from] ConfigError),
    /// Another process, or another store of this one, has the folder.
    #[error("the folder is locked by another broker")]
    Locked,
    /// Bytes below what was known to be flushed are not what was written. Nothing was changed. Needs another replica, or a human.
    #[error("damage in {file} at {offset}, below the flushed position {floor}: {reason}")]
    Damaged {
        /// The file, relative to the store's folder.
        file: String,
        /// First byte that is not good.
        offset: PhysicalOffset,
        /// All below this was flushed once.
        floor: PhysicalOffset,
        /// What is wrong there.
        reason: String,
    },
    /// The system failed a call.
    #[error("{action} {file}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or folder, relative to the store's folder.
        file: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// What opening a store found and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecoveryReport {
    /// The last process closed the store in order.
    pub clean: bool,
    /// First byte of the log.
    pub min: PhysicalOffset,
    /// All below this was known to be flushed.
    pub floor: PhysicalOffset,
    /// Scanning began here.
    pub scanned_from: PhysicalOffset,
    /// End of the log as it is now.
    pub log_end: PhysicalOffset,
    /// Records that were scanned.
    pub records_scanned: u64,
    /// Whether something followed the last good record and was made zero.
    pub tail_cut: bool,
}

/// Why a store did not close in order. It is safe to open again: that recovers.
#[derive(Debug, Error)]
pub enum CloseError {
    /// A write or flush failed, now or earlier.
    #[error("the store failed: {0}")]
    Failed(Arc<str>),
}

/// The message store of one broker.
pub struct Store<C: Completion> {
    appends: PhantomData<fn(C)>,
}

impl<C: Completion> Store<C> {
    /// Opens or makes the store in `config.dir`, recovers it, and starts its threads.
    pub fn open(
        config: StoreConfig,
        _clock: Arc<dyn Clock>,
        _policy: Arc<dyn CommitPolicy>,
        _events: Arc<dyn StoreEvents>,
    ) -> Result<(Self, RecoveryReport), OpenError> {
        config.check()?;
        Err(OpenError::Io {
            action: "open",
            file: String::new(),
            source: io::ErrorKind::Unsupported.into(),
        })
    }

    /// Hands an append to the store. Never blocks; the completion is called later, exactly once, unless it comes back here.
    pub fn append(&self, append: Append<C>) -> Result<(), Refused<C>> {
        Err(Refused::Closing(append.completion))
    }

    /// Reads visible messages of a queue from `from` on, with RocketMQ's answers for every kind of offset.
    pub fn get(
        &self,
        _topic: &TopicName,
        _queue_id: QueueId,
        from: i64,
        _limits: ReadLimits,
        _filter: &Filter<'_>,
    ) -> GetResult {
        GetResult {
            status: GetStatus::NoMatchedLogicQueue,
            next_begin: from,
            min: 0,
            max: 0,
            chunks: Vec::new(),
            messages: 0,
            bytes: 0,
            first_store_timestamp: None,
        }
    }

    /// What of a queue is visible; `None` if the queue never had a visible message.
    pub fn queue_range(&self, _topic: &TopicName, _queue_id: QueueId) -> Option<QueueRange> {
        None
    }

    /// All queues that have or had messages.
    pub fn queues(&self) -> Vec<(TopicName, QueueId)> {
        Vec::new()
    }

    /// The queue offset at a time; RocketMQ's `getOffsetInQueueByTime`.
    pub fn offset_by_time(
        &self,
        _topic: &TopicName,
        _queue_id: QueueId,
        _time: UnixMillis,
        _boundary: Boundary,
    ) -> i64 {
        0
    }

    /// When the message at a queue offset was stored.
    pub fn store_time_at(
        &self,
        _topic: &TopicName,
        _queue_id: QueueId,
        _offset: QueueOffset,
    ) -> Option<UnixMillis> {
        None
    }

    /// When the first message of a queue that is still there was stored.
    pub fn earliest_store_time(
        &self,
        _topic: &TopicName,
        _queue_id: QueueId,
    ) -> Option<UnixMillis> {
        None
    }

    /// The visible record that begins at `offset`; `None` if none begins there.
    pub fn record_at(&self, _offset: PhysicalOffset) -> Option<Bytes> {
        None
    }

    /// Messages of `topic` that carry `key` as KEYS word or unique key, stored within `begin..=end`, newest first.
    pub fn query(
        &self,
        _topic: &TopicName,
        _key: &str,
        _max: usize,
        _begin: UnixMillis,
        _end: UnixMillis,
    ) -> QueryResult {
        QueryResult::default()
    }

    /// Whether the message at a queue offset is likely in memory (RocketMQ's `checkInMemByConsumeOffset`, 40 % of RAM).
    pub fn is_in_memory(
        &self,
        _topic: &TopicName,
        _queue_id: QueueId,
        _offset: QueueOffset,
    ) -> bool {
        false
    }

    /// Forgets a topic: its queues vanish at once and the next message starts at queue offset 0 again. The records stay in
    /// the log until retention takes them.
    pub fn delete_topic(&self, _topic: &TopicName) -> io::Result<()> {
        Ok(())
    }

    /// The positions of the log.
    pub fn positions(&self) -> Positions {
        Positions::default()
    }

    /// Whether the store takes messages.
    pub fn health(&self) -> Health {
        Health::Closing
    }

    /// How full the file system is, as last looked at.
    pub fn disk(&self) -> DiskUsage {
        DiskUsage {
            used: 0,
            capacity: 0,
            ratio: 0.0,
            refused: false,
        }
    }

    /// Counts since the store was opened.
    pub fn stats(&self) -> Stats {
        Stats::default()
    }

    /// The commit policy's inputs changed: ask it again and answer who waits. Does not block.
    pub fn re_evaluate(&self) {}

    /// Finishes what was taken, flushes everything, writes the checkpoints, removes the abort file. Later appends are
    /// refused; reads go on working. Dropping the store without closing is like a crash of the process.
    pub fn close(&self) -> Result<(), CloseError> {
        Ok(())
    }
}

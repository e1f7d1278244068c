//! Reads and their answers: by queue, by time, by key.

use bytes::Bytes;
use rocket_protocol::{PhysicalOffset, QueueId, QueueOffset, TopicName, UnixMillis};

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

/// Where a queue goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueEnd {
    /// Its topic.
    pub topic: TopicName,
    /// Its number in the topic.
    pub queue_id: QueueId,
    /// One behind the last offset that was given to a message, be that still there or not.
    pub next: QueueOffset,
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

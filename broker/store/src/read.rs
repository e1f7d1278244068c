//! Reading: by queue offset, by time, by key, by place. Everything here sees only what was dispatched, and so is visible.

use bytes::Bytes;
use rocket_protocol::message::hash::index_key_hash;
use rocket_protocol::{PhysicalOffset, QueueId, QueueOffset, RecordView, TopicName, UnixMillis};

use crate::api::{
    Boundary, Completion, Filter, GetResult, GetStatus, QueryResult, QueueRange, ReadLimits,
};
use crate::consume_queue::{Unit, partition};
use crate::engine::Engine;
use crate::queues::SharedQueue;

/// Queue entries that one read looks at, at most, unless more messages are asked for (`maxFilterMessageSize` / 20).
const ENTRIES_MAX: usize = 800;

impl<C: Completion> Engine<C> {
    /// Reads visible messages from `from` on (`DefaultMessageStore.getMessage`).
    pub fn get(
        &self,
        topic: &TopicName,
        queue_id: QueueId,
        from: i64,
        limits: ReadLimits,
        filter: &Filter<'_>,
    ) -> GetResult {
        let mut result = GetResult {
            status: GetStatus::NoMatchedLogicQueue,
            next_begin: 0,
            min: 0,
            max: 0,
            chunks: Vec::new(),
            messages: 0,
            bytes: 0,
            first_store_timestamp: None,
        };
        let Some(queue) = self.queues.get(topic, queue_id) else {
            return result;
        };
        let (min, max) = range_of(&queue);
        result.min = signed(min);
        result.max = signed(max);
        let unsigned = u64::try_from(from).ok();
        (result.status, result.next_begin) = match unsigned {
            _ if max == 0 => (GetStatus::NoMessageInQueue, 0),
            None => (GetStatus::OffsetTooSmall, result.min),
            Some(from) if from < min => (GetStatus::OffsetTooSmall, result.min),
            Some(from) if from == max => (GetStatus::OffsetOverflowOne, result.max),
            // Beyond what is visible but not beyond what is there: nothing new yet, and no reason to jump back (protocol §9).
            Some(wanted) if wanted > max && wanted <= self.next_queue_offset(topic, queue_id) => {
                (GetStatus::OffsetOverflowOne, from)
            }
            Some(from) if from > max => (GetStatus::OffsetOverflowBadly, result.max),
            Some(from) => return self.collect(&queue, from, limits, filter, result),
        };
        result
    }

    fn collect(
        &self,
        queue: &SharedQueue,
        from: u64,
        limits: ReadLimits,
        filter: &Filter<'_>,
        mut result: GetResult,
    ) -> GetResult {
        let entries_max =
            ENTRIES_MAX.max(usize::try_from(limits.messages_max).unwrap_or(usize::MAX));
        let (units, next_file) = {
            let queue = queue.lock();
            (queue.read(from, entries_max), queue.next_file(from))
        };
        let units = match units {
            Ok(units) if !units.is_empty() => units,
            other => {
                if let Err(error) = other {
                    tracing::warn!(error = %error, from, "queue entries cannot be read");
                }
                result.status = GetStatus::OffsetFoundNull;
                result.next_begin = signed(next_file).min(result.max);
                return result;
            }
        };
        result.status = GetStatus::NoMatchedMessage;
        let mut run = Run::default();
        let mut next = from;
        for unit in units {
            let size = unit.size as usize;
            let is_full = result.messages > 0
                && (result.messages >= limits.messages_max
                    || result.bytes.saturating_add(size) > limits.bytes_max);
            if is_full {
                break;
            }
            next += 1;
            if unit == Unit::PADDING {
                continue;
            }
            let record = || self.log.read(unit.physical_offset, size);
            if !filter(unit.tags_code, &record) {
                continue;
            }
            let Some(bytes) = record() else {
                if result.messages == 0 {
                    result.status = GetStatus::MessageWasRemoving;
                }
                continue;
            };
            if result.messages == 0 {
                result.first_store_timestamp = crate::recovery::store_time(&bytes).map(UnixMillis);
            }
            result.status = GetStatus::Found;
            result.messages += 1;
            result.bytes += size;
            run.add(
                unit.physical_offset,
                bytes,
                &mut result.chunks,
                |offset, len| self.log.read(offset, len),
            );
        }
        run.end(&mut result.chunks, |offset, len| self.log.read(offset, len));
        result.next_begin = signed(next);
        result
    }

    /// What of a queue is visible.
    pub fn queue_range(&self, topic: &TopicName, queue_id: QueueId) -> Option<QueueRange> {
        let (min, max) = range_of(&self.queues.get(topic, queue_id)?);
        Some(QueueRange {
            min: QueueOffset(min),
            max: QueueOffset(max),
        })
    }

    /// All queues that have or had messages, sorted.
    pub fn queues(&self) -> Vec<(TopicName, QueueId)> {
        self.queues
            .all()
            .into_iter()
            .map(|(topic, queue_id, _)| (topic, queue_id))
            .collect()
    }

    /// The queue offset at a time (`ConsumeQueue.getOffsetInQueueByTime`). Between two messages the lower boundary is the
    /// later one and the upper boundary the earlier one; before the first both are the first, after the last the lower
    /// boundary is the end and the upper one the last message. 0 for a queue that does not exist.
    pub fn offset_by_time(
        &self,
        topic: &TopicName,
        queue_id: QueueId,
        time: UnixMillis,
        boundary: Boundary,
    ) -> i64 {
        let Some(queue) = self.queues.get(topic, queue_id) else {
            return 0;
        };
        let (min, max) = range_of(&queue);
        let is_before = |index| -> std::io::Result<bool> {
            let unit = queue.lock().get(index)?;
            let stored = unit.and_then(|unit| self.store_time_of(unit));
            Ok(stored.is_none_or(|stored| match boundary {
                Boundary::Lower => stored < time,
                Boundary::Upper => stored <= time,
            }))
        };
        match partition(min, max, is_before) {
            Ok(first) => signed(match boundary {
                Boundary::Lower => first,
                Boundary::Upper => first.saturating_sub(1).max(min),
            }),
            Err(error) => {
                tracing::warn!(error = %error, %topic, %queue_id, "a queue cannot be searched by time");
                0
            }
        }
    }

    fn store_time_of(&self, unit: Unit) -> Option<UnixMillis> {
        let head = self
            .log
            .read(unit.physical_offset, (unit.size as usize).min(128))?;
        crate::recovery::store_time(&head).map(UnixMillis)
    }

    /// When the message at a queue offset was stored.
    pub fn store_time_at(
        &self,
        topic: &TopicName,
        queue_id: QueueId,
        offset: QueueOffset,
    ) -> Option<UnixMillis> {
        let queue = self.queues.get(topic, queue_id)?;
        let unit = queue.lock().get(offset.0).ok()??;
        self.store_time_of(unit)
    }

    /// When the first message of a queue that is still there was stored.
    pub fn earliest_store_time(&self, topic: &TopicName, queue_id: QueueId) -> Option<UnixMillis> {
        let range = self.queue_range(topic, queue_id)?;
        (range.min < range.max).then(|| self.store_time_at(topic, queue_id, range.min))?
    }

    /// The visible record that begins at `offset`.
    pub fn record_at(&self, offset: PhysicalOffset) -> Option<Bytes> {
        (offset.0 < self.visible()).then(|| self.log.record(offset.0))?
    }

    /// Whether the message at a queue offset is likely still in memory: within `bytes` of the end of the log.
    pub fn is_within(
        &self,
        topic: &TopicName,
        queue_id: QueueId,
        offset: QueueOffset,
        bytes: u64,
    ) -> bool {
        let unit = self
            .queues
            .get(topic, queue_id)
            .and_then(|queue| queue.lock().get(offset.0).ok().flatten());
        unit.is_some_and(|unit| {
            self.positions()
                .appended
                .0
                .saturating_sub(unit.physical_offset)
                <= bytes
        })
    }

    /// Visible messages of `topic` that carry `key`, stored within `begin..=end`, newest first.
    pub fn query(
        &self,
        topic: &TopicName,
        key: &str,
        max: usize,
        begin: UnixMillis,
        end: UnixMillis,
    ) -> QueryResult {
        let Some(index) = &self.index else {
            return QueryResult::default();
        };
        let hash = index_key_hash(topic.as_str(), key);
        let index = index.lock();
        let newest = index.newest();
        let mut records: Vec<(u64, Bytes)> = Vec::new();
        let found = index.lookup(hash, begin.0, end.0, |offset| {
            if records.len() >= max {
                return false;
            }
            // A message whose key is there twice has two entries.
            let is_new = records.last().is_none_or(|(last, _)| *last != offset);
            if is_new && let Some(record) = self.record_with(offset, topic, key, begin, end) {
                records.push((offset, record));
            }
            true
        });
        if let Err(error) = found {
            tracing::warn!(error = %error, "the index cannot be read");
        }
        QueryResult {
            records: records.into_iter().map(|(_, record)| record).collect(),
            index_last_update_timestamp: newest.0,
            index_last_update_phyoffset: newest.1,
        }
    }

    fn record_with(
        &self,
        offset: u64,
        topic: &TopicName,
        key: &str,
        begin: UnixMillis,
        end: UnixMillis,
    ) -> Option<Bytes> {
        let record = self.record_at(PhysicalOffset(offset))?;
        let (view, _) = RecordView::parse_trusting(&record).ok()?;
        crate::dispatch::carries(&view, topic.as_str(), key, begin, end).then(|| record.clone())
    }
}

fn range_of(queue: &SharedQueue) -> (u64, u64) {
    let queue = queue.lock();
    (queue.min(), queue.max())
}

fn signed(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}

/// Adjacent records that leave as one chunk.
#[derive(Default)]
struct Run {
    start: u64,
    len: usize,
    parts: Vec<Bytes>,
}

impl Run {
    fn add(
        &mut self,
        offset: u64,
        bytes: Bytes,
        chunks: &mut Vec<Bytes>,
        read: impl Fn(u64, usize) -> Option<Bytes>,
    ) {
        if self.start + self.len as u64 != offset {
            self.end(chunks, read);
            self.start = offset;
        }
        self.len += bytes.len();
        self.parts.push(bytes);
    }

    /// Ends the run: one chunk, unless retention removed the file meanwhile; the parts outlive that.
    fn end(&mut self, chunks: &mut Vec<Bytes>, read: impl Fn(u64, usize) -> Option<Bytes>) {
        let parts = std::mem::take(&mut self.parts);
        let whole = if parts.len() > 1 {
            read(self.start, self.len)
        } else {
            None
        };
        match whole {
            Some(whole) => chunks.push(whole),
            None => chunks.extend(parts),
        }
        self.len = 0;
    }
}

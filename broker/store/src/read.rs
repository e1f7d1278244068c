//! Reading: by queue offset, by key, by place ([`crate::by_time`]: by time). Everything here sees only what was dispatched, and so is visible.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use rocket_protocol::message::hash::index_key_hash;
use rocket_protocol::{PhysicalOffset, QueueId, QueueOffset, RecordView, TopicName, UnixMillis};

use crate::api::{
    Completion, Filter, GetResult, GetStatus, NotInMemory, QueryResult, QueueRange, ReadLimits,
};
use crate::cold_blocks::BLOCK_BYTES;
use crate::engine::Engine;
use crate::gather::{Gather, Through};
use crate::queues::SharedQueue;
use crate::unit::Unit;

/// Queue entries that one read looks at, at most, unless more messages are asked for (`maxFilterMessageSize` / 20).
const ENTRIES_MAX: usize = 800;

/// A record may be so large whatever the settings say now: Apache's broker takes no larger ones by default, nor do we.
const RECORD_BYTES_MAX: usize = 17 << 20;

/// How a read may get at the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Through the map, whatever it takes.
    AnyHow,
    /// Through the map, and not if that would wait for a disk.
    InMemory,
    /// With `pread`, reading ahead and giving up behind.
    CatchUp,
}

/// What a read of a queue asks for.
struct Wanted<'a> {
    from: u64,
    limits: Limits,
    filter: &'a Filter<'a>,
    manner: Manner,
}

/// How much a read may return, by how far behind the end of the log it begins.
#[derive(Debug, Clone, Copy)]
struct Limits {
    near: ReadLimits,
    far: ReadLimits,
}

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
        let limits = Limits {
            near: limits,
            far: limits,
        };
        self.get_by(topic, queue_id, from, limits, filter, Manner::AnyHow)
            .unwrap_or_else(|NotInMemory| GetResult::none())
    }

    /// As [`Engine::get`] where that waits for no disk. `near` holds where the first message lies within
    /// [`crate::StoreConfig::memory_bytes`] of the end of the log, `far` elsewhere.
    ///
    /// # Errors
    /// The messages are not in memory: to be read by [`Engine::get_catching_up`], on a thread that may wait.
    pub fn get_in_memory(
        &self,
        topic: &TopicName,
        queue_id: QueueId,
        from: i64,
        (near, far): (ReadLimits, ReadLimits),
        filter: &Filter<'_>,
    ) -> Result<GetResult, NotInMemory> {
        let limits = Limits { near, far };
        self.get_by(topic, queue_id, from, limits, filter, Manner::InMemory)
    }

    /// As [`Engine::get`] for a reader that is behind: waits for the disk, has what comes next fetched, and gives up in the
    /// page cache what such readers brought in and have read.
    pub fn get_catching_up(
        &self,
        topic: &TopicName,
        queue_id: QueueId,
        from: i64,
        (near, far): (ReadLimits, ReadLimits),
        filter: &Filter<'_>,
    ) -> GetResult {
        let limits = Limits { near, far };
        self.get_by(topic, queue_id, from, limits, filter, Manner::CatchUp)
            .unwrap_or_else(|NotInMemory| GetResult::none())
    }

    /// How long the next [`Engine::get_catching_up`] is to be put off, so that senders do not wait for its readers.
    pub fn catch_up_pause(&self) -> Duration {
        self.heat.pause(self.clock.elapsed())
    }

    fn get_by(
        &self,
        topic: &TopicName,
        queue_id: QueueId,
        from: i64,
        limits: Limits,
        filter: &Filter<'_>,
        manner: Manner,
    ) -> Result<GetResult, NotInMemory> {
        let mut result = GetResult::none();
        let Some(queue) = self.queues.get(topic, queue_id) else {
            return Ok(result);
        };
        let (min, max) = queue.range();
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
            Some(from) => {
                let wanted = Wanted {
                    from,
                    limits,
                    filter,
                    manner,
                };
                return self.collect(&queue, &wanted, result);
            }
        };
        Ok(result)
    }

    fn collect(
        &self,
        queue: &SharedQueue,
        wanted: &Wanted<'_>,
        mut result: GetResult,
    ) -> Result<GetResult, NotInMemory> {
        let selected = match self.select(queue, wanted) {
            Ok(selected) if selected.next > wanted.from => selected,
            other => {
                if let Err(error) = other {
                    self.judge(queue, wanted.from, &error);
                }
                result.status = GetStatus::OffsetFoundNull;
                // Retention may have taken the entries meanwhile. Damage is no reason to pass messages over.
                let (min, _) = queue.range();
                result.next_begin = signed(wanted.from.max(min));
                return Ok(result);
            }
        };
        result.next_begin = signed(selected.next);
        result.status = GetStatus::NoMatchedMessage;
        if selected.units.is_empty() {
            return Ok(result);
        }
        self.prepare(&selected.units, wanted.manner)?;
        if !self.gather(&selected.units, wanted.manner, &mut result) {
            // Not now: whoever asks waits as at the end of the queue, and passes nothing over.
            return Ok(GetResult {
                status: GetStatus::OffsetOverflowOne,
                next_begin: signed(wanted.from),
                min: result.min,
                max: result.max,
                ..GetResult::none()
            });
        }
        Ok(result)
    }

    /// Entries from `from` on could not be read. Unless retention has taken them since they were looked for, they are damaged.
    pub(crate) fn judge(&self, queue: &SharedQueue, from: u64, error: &std::io::Error) {
        if from < queue.range().0 {
            return;
        }
        tracing::error!(error = %error, topic = %queue.topic(), queue = %queue.queue_id(), from,
            "queue entries cannot be read");
        self.queues.note_damage(error);
    }

    /// The entries of the messages that are to be given.
    fn select(&self, queue: &SharedQueue, wanted: &Wanted<'_>) -> std::io::Result<Selected> {
        let mut selected = Selected {
            units: Vec::new(),
            next: wanted.from,
        };
        let mut limits = wanted.limits.near;
        let (mut bytes, mut looked_at) = (0, 0);
        let entries_max = ENTRIES_MAX.max(messages_of(limits).max(messages_of(wanted.limits.far)));
        while looked_at < entries_max {
            // As many as may be given; more only while the filter leaves room.
            let step = messages_of(limits)
                .max(looked_at)
                .min(entries_max - looked_at);
            let known = selected.units.len();
            queue.read(selected.next, step, &mut selected.units)?;
            let added = selected.units.get(known..).unwrap_or_default();
            if added.is_empty() {
                break;
            }
            if looked_at == 0
                && let Some(first) = added.iter().find(|unit| **unit != Unit::PADDING)
            {
                limits = self.limits_at(first.physical_offset, wanted.limits);
            }
            looked_at += added.len();
            let (mut at, mut given, mut is_full) = (0, known, false);
            selected.units.retain(|unit| {
                at += 1;
                if at <= known || is_full {
                    return at <= known;
                }
                let size = unit.size as usize;
                is_full =
                    given > 0 && (given >= messages_of(limits) || bytes + size > limits.bytes_max);
                if is_full {
                    return false;
                }
                selected.next += 1;
                let record = || self.log.read(unit.physical_offset, size);
                let is_given = *unit != Unit::PADDING && (wanted.filter)(unit.tags_code, &record);
                if is_given {
                    bytes += size;
                    given += 1;
                }
                is_given
            });
            if is_full {
                break;
            }
            if selected.units.len() >= messages_of(limits) {
                break;
            }
        }
        Ok(selected)
    }

    fn limits_at(&self, offset: u64, limits: Limits) -> ReadLimits {
        let end = self.dispatched.load(Ordering::Acquire);
        if end.saturating_sub(offset) <= self.config.memory_bytes {
            limits.near
        } else {
            limits.far
        }
    }

    /// Sees to it that the messages can be read in this manner.
    fn prepare(&self, units: &[Unit], manner: Manner) -> Result<(), NotInMemory> {
        if manner == Manner::AnyHow {
            return Ok(());
        }
        let end = self.dispatched.load(Ordering::Acquire);
        let now = self.clock.now();
        let mut seen = None;
        for unit in units {
            let (offset, len) = (unit.physical_offset, unit.size as usize);
            let block = (offset / BLOCK_BYTES, (offset + len as u64) / BLOCK_BYTES);
            if seen.replace(block) == Some(block) {
                continue;
            }
            if manner == Manner::CatchUp {
                let fetched = self.heat.bring(&self.log, end, now, offset, len);
                if fetched > 0 {
                    self.heat.fetched(self.clock.elapsed(), fetched);
                }
            } else if !self.heat.is_in_memory(&self.log, end, now, offset, len) {
                return Err(NotInMemory);
            }
        }
        Ok(())
    }

    /// `false`: some of it cannot be read for a reason that may pass.
    fn gather(&self, units: &[Unit], manner: Manner, result: &mut GetResult) -> bool {
        let through = match manner {
            Manner::CatchUp => Through::File,
            Manner::AnyHow | Manner::InMemory => Through::Map,
        };
        let mut gather = Gather::new(&self.log, through);
        let rows =
            || units.chunk_by(|a, b| a.physical_offset + u64::from(a.size) == b.physical_offset);
        let len_of = |row: &[Unit]| row.iter().map(|unit| unit.size as usize).sum::<usize>();
        gather.reserve(rows().map(len_of));
        for row in rows() {
            let Some(first) = row.first() else { continue };
            let len = len_of(row);
            if gather.add(first.physical_offset, len) {
                result.messages += count(row.len());
                result.bytes += len;
                continue;
            }
            // A row may end in another file than it begins in, and a part of it may be gone or damaged.
            for unit in row {
                let size = unit.size as usize;
                if gather.add(unit.physical_offset, size) {
                    result.messages += 1;
                    result.bytes += size;
                }
            }
        }
        if gather.is_later {
            return false;
        }
        result.chunks = gather.into_chunks();
        let first = result.chunks.first();
        result.first_store_timestamp =
            first.and_then(|bytes| crate::by_time::store_time(bytes).map(UnixMillis));
        result.status = if result.messages == 0 {
            GetStatus::MessageWasRemoving
        } else {
            GetStatus::Found
        };
        true
    }

    /// What of a queue is visible.
    pub fn queue_range(&self, topic: &TopicName, queue_id: QueueId) -> Option<QueueRange> {
        let (min, max) = self.queues.get(topic, queue_id)?.range();
        Some(QueueRange {
            min: QueueOffset(min),
            max: QueueOffset(max),
        })
    }

    /// All queues that have or had messages, sorted.
    pub fn queues(&self) -> Vec<(TopicName, QueueId)> {
        self.queues
            .all()
            .iter()
            .map(|queue| (queue.topic().clone(), queue.queue_id()))
            .collect()
    }

    /// The visible record that begins at `offset`.
    pub fn record_at(&self, offset: PhysicalOffset) -> Option<Bytes> {
        let len_max = self.config.record_bytes_max().max(RECORD_BYTES_MAX);
        (offset.0 < self.visible()).then(|| self.log.record(offset.0, len_max))?
    }

    /// Whether the message at a queue offset is likely still in memory: within `bytes` of the end of the log.
    pub fn is_within(
        &self,
        topic: &TopicName,
        queue_id: QueueId,
        offset: QueueOffset,
        bytes: u64,
    ) -> bool {
        let unit = self.queues.get(topic, queue_id).and_then(|queue| {
            let unit = queue.get(offset.0);
            unit.inspect_err(|error| self.judge(&queue, offset.0, error))
                .ok()?
        });
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

pub(crate) fn signed(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}

fn messages_of(limits: ReadLimits) -> usize {
    usize::try_from(limits.messages_max)
        .unwrap_or(usize::MAX)
        .max(1)
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// Which messages a read gives, and where the next one goes on.
struct Selected {
    units: Vec<Unit>,
    next: u64,
}

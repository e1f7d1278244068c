//! One queue: a few numbers, the units that are only in memory, and where the way to the others begins.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use rocket_protocol::message::hash::IndexPrefix;
use rocket_protocol::{QueueId, TopicName};

use super::QueueLogConfig;
use super::extent::{Chain, PackedUnit};
use super::journal::Journal;
use super::mark::Mark;
use super::nexts::Nexts;
use super::recent::Recent;
use super::unit_log::UnitLog;
use crate::unit::Unit;

mod reading;

/// Units that a queue may miss at once. Behind more it begins anew: so many fillers are not worth their place.
const GAP_MAX: u64 = if cfg!(fuzzing) { 16 } else { 1 << 20 };

/// What all queues share.
pub(super) struct Home {
    pub(super) config: QueueLogConfig,
    pub(super) units: RwLock<UnitLog>,
    pub(super) journal: Mutex<Journal>,
    pub(super) recent: Recent,
    /// The commit log begins here.
    pub(super) log_min: AtomicU64,
    /// Behind all messages that have a unit.
    pub(super) upper: AtomicU64,
    pub(super) slot_next: AtomicU32,
    /// See [`Queue::tell_misplaced`].
    pub(super) misplaced: AtomicU64,
    pub(super) mark: Mark,
}

/// What all queues of a topic share.
pub(super) struct Topic {
    pub(super) name: TopicName,
    pub(super) prefix: IndexPrefix,
    pub(super) home: Arc<Home>,
    pub(super) nexts: Nexts,
    /// What lies before this in the commit log is hidden.
    pub(super) hidden: AtomicU64,
}

/// See the module. Whoever keeps one must not put into it once its topic was removed.
///
/// Of very many queues each is cold when its turn comes. What a put needs is in two lines of the processor's cache, and each of
/// them holds something that [`Queue::touch`] can read.
#[repr(C)]
pub(crate) struct Queue {
    pub(super) topic: Arc<Topic>,
    id: QueueId,
    pub(super) slot: u32,
    max: AtomicU64,
    /// First index whose message is there, as of when the log began at or before `min_offset`.
    min: AtomicU64,
    /// Physical offset of the message at `min`; the largest number while there is none.
    min_offset: AtomicU64,
    /// The journal knows this queue. Changed with `tail` held.
    is_declared: AtomicBool,
    pub(super) tail: Mutex<Tail>,
}

/// What is only in memory, and the way to the rest.
#[repr(C)]
pub(super) struct Tail {
    /// The units before `max` that are in no extent.
    units: Vec<PackedUnit>,
    /// Physical offset of the last message in an extent.
    last: u64,
    chain: Chain,
}

/// What a table keeps of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Saved {
    pub(super) slot: u32,
    pub(super) queue_id: QueueId,
    pub(super) min: u64,
    pub(super) min_offset: u64,
    pub(super) max: u64,
    /// Physical offset of the last message.
    pub(super) last: u64,
    pub(super) chain: Chain,
}

/// Whether units are to be noted in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Note {
    Journal,
    Nowhere,
}

impl Queue {
    pub(super) fn new(topic: Arc<Topic>, queue_id: QueueId, slot: u32) -> Self {
        Self {
            topic,
            id: queue_id,
            slot,
            max: AtomicU64::new(0),
            min: AtomicU64::new(0),
            min_offset: AtomicU64::new(u64::MAX),
            is_declared: AtomicBool::new(false),
            tail: Mutex::new(Tail {
                units: Vec::new(),
                last: 0,
                chain: Chain::EMPTY,
            }),
        }
    }

    pub(super) fn restored(topic: Arc<Topic>, saved: &Saved) -> Self {
        topic.nexts.set(saved.queue_id, saved.max);
        let queue = Self::new(topic, saved.queue_id, saved.slot);
        queue.min.store(saved.min, Ordering::Relaxed);
        queue.min_offset.store(saved.min_offset, Ordering::Relaxed);
        queue.max.store(saved.max, Ordering::Relaxed);
        queue.is_declared.store(true, Ordering::Relaxed);
        let mut tail = queue.tail.lock();
        (tail.chain, tail.last) = (saved.chain, saved.last);
        drop(tail);
        queue
    }

    /// The topic.
    pub(crate) fn topic(&self) -> &TopicName {
        &self.topic.name
    }

    /// The number within the topic.
    pub(crate) fn queue_id(&self) -> QueueId {
        self.id
    }

    /// See [`IndexPrefix`].
    pub(crate) fn prefix(&self) -> IndexPrefix {
        self.topic.prefix
    }

    /// Whether this is that queue of that topic.
    pub(super) fn is(&self, topic: &str, queue_id: QueueId) -> bool {
        self.id == queue_id && self.topic().as_str() == topic
    }

    /// Reads here and there where a put will, and does nothing with it. The processor fetches what is cold of several queues in
    /// a row at once, and of one after the other when they are put into.
    pub(super) fn touch(&self) {
        let max = self.max.load(Ordering::Relaxed);
        std::hint::black_box((self.id, max, self.tail.is_locked()));
    }

    /// Queue offset of the next message that is appended; units follow it.
    pub(crate) fn next_offset(&self) -> u64 {
        self.topic.nexts.get(self.id)
    }

    /// Raises the offset of the next message to at least `next`.
    pub(crate) fn raise_next(&self, next: u64) {
        self.topic.nexts.raise(self.id, next);
    }

    /// Gives `count` offsets to messages that are appended; the first of them.
    pub(super) fn give_offsets(&self, count: u64) -> u64 {
        self.topic.nexts.give(self.id, count)
    }

    /// The queue goes on at `next`: what is missing before will not come. A table must follow.
    pub(crate) fn reach(&self, next: u64) -> io::Result<()> {
        let mut tail = self.tail.lock();
        if next > self.max() {
            self.bridge(&mut tail, next)?;
        }
        self.raise_next(next);
        Ok(())
    }

    /// The next message follows the last one that was put.
    pub(super) fn reset_next(&self) {
        self.topic.nexts.set(self.id, self.max());
    }

    /// One behind the last index; 0 while no message was ever put.
    pub(crate) fn max(&self) -> u64 {
        self.max.load(Ordering::Acquire)
    }

    /// First index whose message is still in the log, and one behind the last index. Takes no lock, unless this is the
    /// first look after retention took the queue's first messages. Where that one is not found, which is noted as damage, the
    /// first one from before.
    pub(crate) fn range(&self) -> (u64, u64) {
        if self.min_offset.load(Ordering::Acquire) < self.shown_from()
            && let Err(error) = self.find_min()
        {
            tracing::debug!(%error, "the first message of a queue is not found");
        }
        let max = self.max();
        (self.min.load(Ordering::Acquire).min(max), max)
    }

    /// The first index, as of the last [`Queue::range`].
    pub(super) fn first(&self) -> u64 {
        self.min.load(Ordering::Acquire)
    }

    /// Where the first message lies, as of the last [`Queue::range`]; the largest number while there is none.
    pub(crate) fn first_message(&self) -> u64 {
        self.min_offset.load(Ordering::Acquire)
    }

    fn home(&self) -> &Home {
        &self.topic.home
    }

    /// Messages that lie before this in the commit log are gone or hidden.
    fn shown_from(&self) -> u64 {
        let log_min = self.home().log_min.load(Ordering::Acquire);
        log_min.max(self.topic.hidden.load(Ordering::Acquire))
    }

    /// Puts the units of a run of messages, the first of them at `first`; those that are there already are passed over. A
    /// gap, which a damaged queue can show, is filled with padding.
    pub(crate) fn put_run(&self, first: u64, units: &[Unit]) -> io::Result<()> {
        self.put_and(first, units, Note::Journal)
    }

    /// As [`Queue::put_run`] for one message.
    pub(crate) fn put(&self, index: u64, unit: Unit) -> io::Result<()> {
        self.put_run(index, &[unit])
    }

    pub(super) fn put_and(&self, first: u64, units: &[Unit], note: Note) -> io::Result<()> {
        let mut tail = self.tail.lock();
        let known = usize::try_from(self.max().saturating_sub(first)).unwrap_or(usize::MAX);
        let (passed, units) = units.split_at(known.min(units.len()));
        self.tell_misplaced(first, passed);
        let first = first + known as u64;
        let Some(first_unit) = units.first() else {
            return Ok(());
        };
        if first > self.max() && !self.bridge(&mut tail, first)? {
            return Ok(());
        }
        if self.min.load(Ordering::Relaxed) == first {
            let offset = first_unit.physical_offset;
            self.min_offset.store(offset, Ordering::Release);
        }
        tail.units.extend(units.iter().map(|unit| unit.pack()));
        self.max
            .store(first + units.len() as u64, Ordering::Release);
        if let Some(last) = units.iter().rev().find(|unit| **unit != Unit::PADDING) {
            let end = last.physical_offset.saturating_add(u64::from(last.size));
            self.home().upper.fetch_max(end, Ordering::AcqRel);
        }
        if note == Note::Journal {
            let mut journal = self.home().journal.lock();
            if !self.is_declared.load(Ordering::Relaxed) {
                journal.declare(self.slot, self.topic(), self.id);
            }
            journal.put(self.slot, first, units);
        }
        self.is_declared.store(true, Ordering::Relaxed);
        let block = self.home().config.extent_units;
        while tail.units.len() >= 2 * block {
            self.spill(&mut tail, block)?;
        }
        Ok(())
    }

    /// What is `passed` over, from index `first` on, was put before, and a start puts it again; unless it lies behind all that ever
    /// was put: then its offset was given twice, and nobody can read it.
    fn tell_misplaced(&self, first: u64, passed: &[Unit]) {
        if passed.is_empty() {
            return;
        }
        let upper = self.home().upper.load(Ordering::Acquire);
        let is_new = |(_, unit): &(u64, &Unit)| unit.is_at_least(upper);
        for (index, unit) in (first..).zip(passed).filter(is_new) {
            let count = 1 + self.home().misplaced.fetch_add(1, Ordering::Relaxed);
            // Where there is one there are many.
            if count.is_power_of_two() {
                tracing::error!(topic = %self.topic(), queue = %self.id, index, offset = unit.physical_offset, end = self.max(), count,
                    "a message has a place that its queue had given away before: nobody can read it");
            }
        }
    }

    /// Comes from the end to `first`, which lies behind it. `false` if that cannot be.
    fn bridge(&self, tail: &mut Tail, first: u64) -> io::Result<bool> {
        let max = self.max();
        if i64::try_from(first).is_err() {
            tracing::error!(topic = %self.topic(), queue = %self.id, index = first, end = max,
                "a record's queue offset cannot be; it is left out");
            return Ok(false);
        }
        if self.min_offset.load(Ordering::Relaxed) < self.shown_from() {
            self.find_min_in(tail)?;
        }
        let is_gap = max > 0 && first - max > GAP_MAX;
        if is_gap {
            tracing::error!(topic = %self.topic(), queue = %self.id, from = max, to = first,
                "a queue misses more messages than can be; it begins anew behind them");
        }
        if is_gap || self.min.load(Ordering::Relaxed) >= max {
            // Nothing readable is left before, or too far away: the first message behind begins the queue.
            tail.units.clear();
            self.min.store(first, Ordering::Release);
            self.min_offset.store(u64::MAX, Ordering::Release);
        } else {
            tail.units
                .extend((max..first).map(|_| Unit::PADDING.pack()));
        }
        self.max.store(first, Ordering::Release);
        Ok(true)
    }

    /// Puts the first `count` units of the tail into an extent.
    fn spill(&self, tail: &mut Tail, count: usize) -> io::Result<()> {
        let first = self.max() - tail.units.len() as u64;
        let units = tail.units.get(..count).unwrap_or(&tail.units);
        let home = self.home();
        let (position, last) = {
            let mut log = home.units.write();
            // With the lock held, so that it is behind all that came into the files before, by whomever.
            let upper = home.upper.load(Ordering::Acquire);
            log.append(self.slot, first, units, tail.last, tail.chain, upper)?
        };
        (tail.chain, tail.last) = (tail.chain.with(position), last);
        if count >= tail.units.len() {
            tail.units = Vec::new();
        } else {
            tail.units.drain(..count);
        }
        Ok(())
    }

    /// Puts all units into extents and says what a table is to keep; `None` for a queue that never had a message.
    pub(super) fn save(&self) -> io::Result<Option<Saved>> {
        let mut tail = self.tail.lock();
        while !tail.units.is_empty() {
            let count = tail.units.len().min(self.home().config.extent_units);
            self.spill(&mut tail, count)?;
        }
        let max = self.max();
        Ok((max > 0).then(|| Saved {
            slot: self.slot,
            queue_id: self.id,
            min: self.min.load(Ordering::Relaxed),
            min_offset: self.min_offset.load(Ordering::Relaxed),
            max,
            last: tail.last,
            chain: tail.chain,
        }))
    }

    /// Nothing is there yet but the index of the next message.
    pub(super) fn begin_at(&self, index: u64) {
        let _tail = self.tail.lock();
        self.min.store(index, Ordering::Relaxed);
        self.max.store(index, Ordering::Release);
        self.raise_next(index);
    }
}

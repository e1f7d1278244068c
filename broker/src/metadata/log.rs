//! The queue of changes: how a master's change gets there and how anybody reads it.
//!
//! A change is asked for with [`ChangeLog::propose`]: it is appended, kept as the modes promise, and answered when this replica has applied it,
//! like all others. No lock is held meanwhile. A change that was appended and not applied in time may still come, by the same way.

use std::collections::HashSet;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rocket_protocol::message::record::body_crc;
use rocket_protocol::name::system_topic;
use rocket_protocol::{
    Message, PhysicalOffset, QueueId, RecordView, SysFlag, TopicName, UnixMillis,
};
use rocket_store::{
    Arrival, GetResult, Positions, Promise, PutOutcome, PutStatus, QueueEnd, QueueRange, ReadLimits,
};
use thiserror::Error;

use super::cache::Mark;
use super::change::{ASKED_BYTES_MAX, Change, DecodeError, Record, Stamp, VERSION};
use crate::processor::{BrokerStore, PendingSend};

/// The only queue of the topic.
const QUEUE: QueueId = QueueId(0);
/// How long a request waits for its change, until [`ChangeLog::set_patience`].
const PATIENCE: Duration = Duration::from_secs(3);
const READ: ReadLimits = ReadLimits {
    messages_max: 256,
    bytes_max: 1 << 20,
};

/// Why a change was not made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LogError {
    /// Another replica makes them.
    #[error("this broker is not the master of its group")]
    NotMaster,
    /// Nothing was appended; the answer that a send would get.
    #[error("the change was not taken: {0:?}")]
    Refused(PutStatus),
    /// It was appended, and may still be made.
    #[error("the change was not confirmed in time and may still be made")]
    Unknown,
    /// Give up: it is to be split.
    #[error("the change has {0} bytes, at most {ASKED_BYTES_MAX} are allowed")]
    TooLarge(usize),
}

/// Wakes who follows the changes. Made before the store is, whose events tell of arrivals. Clones wake the same one.
#[derive(Debug, Clone, Default)]
pub struct Wake(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Requests that wait for a change.
    awaited: AtomicUsize,
    /// Counts the kicks.
    kicks: Mutex<u64>,
    woken: Condvar,
}

impl Wake {
    /// To be told of all arrivals ([`rocket_store::StoreEvents::arrived`]).
    pub fn arrived(&self, arrivals: &[Arrival]) {
        let is_change = |arrival: &Arrival| arrival.topic.as_str() == system_topic::METADATA;
        if arrivals.iter().any(is_change) {
            self.kick();
        }
    }

    /// Whether somebody waits for a change, so that arrivals are to be told at once ([`rocket_store::StoreEvents::is_awaited`]).
    pub fn is_awaited(&self) -> bool {
        self.0.awaited.load(Ordering::SeqCst) > 0
    }

    pub(super) fn kick(&self) {
        *self.0.kicks.lock() += 1;
        self.0.woken.notify_all();
    }

    /// Waits until there were more kicks than `seen`, at most so long. Returns how many there were.
    pub(super) fn wait_for(&self, seen: u64, time: Duration) -> u64 {
        let mut kicks = self.0.kicks.lock();
        if *kicks == seen {
            let _timed_out = self.0.woken.wait_for(&mut kicks, time);
        }
        *kicks
    }

    /// Somebody waits until this is dropped.
    pub(super) fn awaits(&self) -> Awaits<'_> {
        self.0.awaited.fetch_add(1, Ordering::SeqCst);
        Awaits(self)
    }
}

pub(super) struct Awaits<'a>(&'a Wake);

impl Drop for Awaits<'_> {
    fn drop(&mut self) {
        self.0.0.awaited.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A time during which this replica makes the changes.
#[derive(Default)]
struct Term {
    /// Names it; 0 while there is none.
    writer: u64,
    /// Whether requests may ask for changes.
    is_open: bool,
    number: u64,
    /// Changes that were asked for and are not applied.
    pending: HashSet<u64>,
}

impl Term {
    fn record(&mut self, change: Change, stamp: Stamp) -> Record {
        self.number += 1;
        Record {
            v: VERSION,
            writer: self.writer,
            number: self.number,
            stamp,
            change,
        }
    }
}

/// A message of the queue.
pub(super) struct Entry {
    pub(super) mark: Mark,
    pub(super) record: Result<Record, DecodeError>,
}

/// See the module.
pub(crate) struct ChangeLog {
    /// The store asks metadata who reads, and so must not be kept by it.
    store: Weak<BrokerStore>,
    pub(super) wake: Wake,
    topic: TopicName,
    term: Mutex<Term>,
    /// Something was applied, or the term ended.
    moved: Condvar,
    patience_ms: AtomicU64,
}

impl fmt::Debug for ChangeLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangeLog").finish_non_exhaustive()
    }
}

impl ChangeLog {
    #[expect(
        clippy::expect_used,
        reason = "the name is a constant and a unit test parses it"
    )]
    pub(super) fn new(store: &Arc<BrokerStore>, wake: Wake) -> Self {
        let log = Self {
            store: Arc::downgrade(store),
            wake,
            topic: TopicName::parse(system_topic::METADATA).expect("a constant topic name"),
            term: Mutex::default(),
            moved: Condvar::new(),
            patience_ms: AtomicU64::new(0),
        };
        log.set_patience(PATIENCE);
        log
    }

    pub(super) fn set_patience(&self, patience: Duration) {
        let ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        self.patience_ms.store(ms, Ordering::Relaxed);
    }

    fn patience(&self) -> Duration {
        Duration::from_millis(self.patience_ms.load(Ordering::Relaxed))
    }

    /// Has a change made, and waits until it is.
    pub(super) fn propose(&self, change: Change, stamp: Stamp) -> Result<(), LogError> {
        let record = {
            let mut term = self.term.lock();
            if !term.is_open {
                return Err(LogError::NotMaster);
            }
            let record = term.record(change, stamp);
            term.pending.insert(record.number);
            record
        };
        let deadline = Instant::now() + self.patience();
        let _awaited = self.wake.awaits();
        let kept = self.append_and_keep(&record);
        if kept.is_ok() {
            self.wake.kick();
        }
        let mut term = self.term.lock();
        let is_pending =
            |term: &Term| term.writer == record.writer && term.pending.contains(&record.number);
        while kept.is_ok() && is_pending(&term) {
            if self.moved.wait_until(&mut term, deadline).timed_out() {
                break;
            }
        }
        if term.writer != record.writer {
            return kept.and(Err(LogError::Unknown));
        }
        let was_pending = term.pending.remove(&record.number);
        match kept {
            Ok(()) if was_pending => Err(LogError::Unknown),
            kept => kept,
        }
    }

    /// Appends a change and waits until it is kept as the modes promise. Only in a term.
    pub(super) fn keep(&self, change: Change, stamp: Stamp) -> Result<(), LogError> {
        let record = self.next_record(change, stamp)?;
        self.append_and_keep(&record)
    }

    /// Appends a change that nobody waits for. Only in a term; see [`ChangeLog::write_out`].
    pub(super) fn put(&self, change: Change, stamp: Stamp) -> Result<(), LogError> {
        let record = self.next_record(change, stamp)?;
        self.append(&record, Box::new(|_| ()))
    }

    fn next_record(&self, change: Change, stamp: Stamp) -> Result<Record, LogError> {
        let mut term = self.term.lock();
        if term.writer == 0 {
            return Err(LogError::NotMaster);
        }
        Ok(term.record(change, stamp))
    }

    /// To be called after [`ChangeLog::put`], once for several.
    pub(super) fn write_out(&self) {
        if let Some(store) = self.store.upgrade() {
            store.write_out();
        }
    }

    fn append_and_keep(&self, record: &Record) -> Result<(), LogError> {
        let (done, outcome) = sync_channel(1);
        let tell = move |outcome: PutOutcome| {
            // Nobody listens any more: it took too long.
            let _ = done.try_send(outcome);
        };
        self.append(record, Box::new(tell))?;
        self.write_out();
        let Ok(outcome) = outcome.recv_timeout(self.patience()) else {
            return Err(LogError::Unknown);
        };
        match outcome.status {
            PutStatus::Ok => Ok(()),
            // It is in the log, and what was not promised in time may be a little later.
            _ if outcome.appended.is_some() => Ok(()),
            status => Err(LogError::Refused(status)),
        }
    }

    fn append(
        &self,
        record: &Record,
        then: Box<dyn FnOnce(PutOutcome) + Send>,
    ) -> Result<(), LogError> {
        let body = record.encode().map_err(|error| {
            LogError::Refused(PutStatus::MessageIllegal(error.to_string().into()))
        })?;
        if body.len() > record.bytes_max() {
            return Err(LogError::TooLarge(body.len()));
        }
        let host = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let message = Message {
            topic: self.topic.clone(),
            queue_id: QUEUE,
            flag: 0,
            sys_flag: SysFlag(0),
            born_timestamp: UnixMillis(record.stamp.at),
            born_host: host,
            store_host: host,
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body_crc: body_crc(&body),
            body: body.into(),
            properties: "".into(),
        };
        let Some(store) = self.store.upgrade() else {
            let closed = PutStatus::ServiceNotAvailable("the store is closed".into());
            return Err(LogError::Refused(closed));
        };
        let pending = PendingSend::Broker(then);
        let taken = store.append(&[message.as_ref()], Promise::Kept, pending);
        taken.map_err(|refused| LogError::Refused(refused.into_parts().1))
    }

    /// Begins a term, in which only [`ChangeLog::put`] is served until [`ChangeLog::open_term`].
    pub(super) fn begin_term(&self, writer: u64) {
        *self.term.lock() = Term {
            writer,
            ..Term::default()
        };
    }

    pub(super) fn open_term(&self) {
        self.term.lock().is_open = true;
    }

    /// Nothing is asked for any more. Who waits is told that the outcome is unknown.
    pub(super) fn end_term(&self) {
        *self.term.lock() = Term::default();
        self.moved.notify_all();
    }

    /// The name of the term; 0 while there is none.
    pub(super) fn writer(&self) -> u64 {
        self.term.lock().writer
    }

    /// Whether requests may ask for changes.
    pub(super) fn is_open(&self) -> bool {
        self.term.lock().is_open
    }

    /// Changes of this term with these numbers were applied, or others.
    pub(super) fn applied(&self, own: &[u64]) {
        let mut term = self.term.lock();
        for number in own {
            term.pending.remove(number);
        }
        self.moved.notify_all();
    }

    /// Waits until something is applied, at most so long.
    pub(super) fn wait_moved(&self, time: Duration) {
        let mut term = self.term.lock();
        let _timed_out = self.moved.wait_for(&mut term, time);
    }

    /// What of the queue is visible.
    pub(super) fn range(&self) -> Option<QueueRange> {
        self.store.upgrade()?.queue_range(&self.topic, QUEUE)
    }

    /// Reads from a queue offset on; `None` when the store is closed.
    pub(super) fn read(&self, from: i64) -> Option<GetResult> {
        let store = self.store.upgrade()?;
        Some(store.get(&self.topic, QUEUE, from, READ, &|_, _| true))
    }

    /// The positions of the log, all that is visible dispatched.
    pub(super) fn positions(&self) -> Option<Positions> {
        let store = self.store.upgrade()?;
        store.catch_up();
        Some(store.positions())
    }

    /// Where the file begins in which the log ends.
    pub(super) fn last_file(&self) -> Option<PhysicalOffset> {
        let store = self.store.upgrade()?;
        store.file_start(store.positions().appended)
    }

    /// Where each queue goes on, as this replica knows it.
    pub(super) fn queue_ends(&self) -> Option<Vec<QueueEnd>> {
        Some(self.store.upgrade()?.queue_ends())
    }

    /// Has queues go on there at least. `false`: not now.
    pub(super) fn reach(&self, ends: &[QueueEnd]) -> bool {
        self.store.upgrade().is_some_and(|store| store.reach(ends))
    }

    /// Retention is to take nothing from `offset` on.
    pub(super) fn keep_from(&self, offset: u64) {
        if let Some(store) = self.store.upgrade() {
            store.keep_from(PhysicalOffset(offset));
        }
    }

    /// Hides the messages of a topic before `offset`.
    pub(super) fn hide(&self, topic: &str, offset: u64) {
        if let (Some(store), Ok(topic)) = (self.store.upgrade(), TopicName::parse(topic)) {
            store.hide_before(&topic, PhysicalOffset(offset));
        }
    }
}

/// The messages of a read.
pub(super) fn entries(result: &GetResult) -> Vec<Entry> {
    let mut entries = Vec::with_capacity(result.messages as usize);
    for chunk in &result.chunks {
        let mut rest = &chunk[..];
        while !rest.is_empty() {
            let Ok((view, len)) = RecordView::parse_trusting(rest) else {
                return entries;
            };
            entries.push(Entry {
                mark: Mark {
                    offset: view.queue_offset().to_wire(),
                    physical: view.physical_offset().0,
                    stored: view.store_timestamp().0,
                    crc: view.body_crc(),
                },
                record: if body_crc(view.body()) == view.body_crc() {
                    Record::decode(view.body())
                } else {
                    Err(DecodeError::Bounds("its bytes are not what was written"))
                },
            });
            rest = rest.get(len..).unwrap_or_default();
        }
    }
    entries
}

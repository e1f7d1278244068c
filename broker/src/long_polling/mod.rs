//! Long polling: pulls that found nothing wait here for the next message of their queue (`PullRequestHoldService`).
//!
//! A waiter is a value in a table, not a task or a timer: see `waiters`. [`LongPolling`] makes the table shared. Who reports
//! an arrival only marks the waiters of that queue as woken; a task of the broker takes them out in small batches
//! ([`LongPolling::take_woken`]) and serves them, so that a herd of them neither holds up the store nor starves the sockets.
//!
//! No wake-up may be lost between "nothing there" and "parked": whoever parks looks at the queue's end once more afterwards
//! and takes its waiter back ([`LongPolling::take`]) if that has moved.

mod lists;
mod waiters;

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use rocket_protocol::{QueueId, TopicName};
use rocket_store::Arrival;

use self::waiters::{Arrived, Name, Waiters};

const SHARDS: usize = 16;
/// Places that one tick looks at per shard for waiters whose client is gone.
const SWEPT_PER_TICK: usize = 64;

/// Milliseconds since some fixed point, by a clock that nobody sets ([`rocket_store::Clock::elapsed`]): a wait is as long as it
/// was asked for, whatever becomes of the time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ElapsedMillis(pub i64);

impl ElapsedMillis {
    /// So much later.
    #[must_use]
    pub const fn plus(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

impl From<Duration> for ElapsedMillis {
    fn from(elapsed: Duration) -> Self {
        Self(i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX))
    }
}

/// What waits: it says where, and which messages wake it.
pub trait Waiting: Send + 'static {
    /// The queue whose messages it waits for; never changes.
    fn queue(&self) -> (&TopicName, QueueId);
    /// Whether a message at `queue_offset` whose consume queue entry has `tags_code` is worth waking up for.
    fn wants(&self, queue_offset: u64, tags_code: i64) -> bool;
    /// Whether nobody waits for its answer any more, so that it may be dropped.
    fn is_gone(&self) -> bool;
}

/// Why a waiter was woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// A message that it wants has become visible.
    Arrival,
    /// Its deadline has passed, or the broker stops.
    Deadline,
}

/// Names a parked waiter for [`LongPolling::take`].
#[derive(Debug, Clone, Copy)]
pub struct Ticket {
    shard: usize,
    name: Name,
}

/// The waiters of all queues.
pub struct LongPolling<T> {
    shards: Box<[Mutex<Waiters<T>>]>,
    hasher: RandomState,
    /// Those that are woken and not yet taken out among them.
    waiting: AtomicUsize,
    waiting_max: usize,
    is_closed: AtomicBool,
    /// A bit for each shard that may have woken waiters.
    woken: AtomicU32,
    some_woken: Notify,
    ticked: AtomicI64,
}

impl<T: Waiting> LongPolling<T> {
    /// An empty table for at most `waiting_max` waiters.
    pub fn new(waiting_max: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            waiting: AtomicUsize::new(0),
            waiting_max,
            is_closed: AtomicBool::new(false),
            woken: AtomicU32::new(0),
            some_woken: Notify::new(),
            ticked: AtomicI64::new(i64::MIN),
        }
    }

    /// Waits until some waiter is woken. For one task.
    pub async fn some_woken(&self) {
        if self.woken.load(Ordering::Acquire) == 0 {
            self.some_woken.notified().await;
        }
    }

    /// Takes out at most `max` woken waiters. `false`: there are more.
    pub fn take_woken(&self, max: usize, into: &mut Vec<(T, Wake)>) -> bool {
        let end = into.len() + max;
        let taken_before = into.len();
        let mut is_all = true;
        for (shard, waiters) in self.shards.iter().enumerate() {
            if self.woken.load(Ordering::Acquire) & bit(shard) == 0 {
                continue;
            }
            let mut waiters = waiters.lock();
            while into.len() < end
                && let Some(woken) = waiters.next_woken()
            {
                into.push(woken);
            }
            if waiters.has_woken() {
                is_all = false;
            } else {
                self.woken.fetch_and(!bit(shard), Ordering::AcqRel);
            }
        }
        self.waiting
            .fetch_sub(into.len() - taken_before, Ordering::Relaxed);
        is_all
    }

    /// [`Self::arrived`] for what a store tells.
    pub fn arrivals(&self, arrivals: &[Arrival]) {
        if self.is_empty() {
            return;
        }
        for arrival in arrivals {
            self.arrived(
                &arrival.topic,
                arrival.queue_id,
                arrival.queue_offset.0,
                arrival.tags_code,
            );
        }
    }

    /// Parks `item`; gives it back when the table is full or closed, and then it has to be answered at once.
    pub fn park(&self, deadline: ElapsedMillis, item: T) -> Result<Ticket, T> {
        let is_full = self.waiting.fetch_add(1, Ordering::SeqCst) >= self.waiting_max;
        let (topic, queue_id) = item.queue();
        let key = self.key(topic, queue_id);
        let shard = shard_of(key);
        if !is_full && let Some(waiters) = self.shards.get(shard) {
            let mut waiters = waiters.lock();
            // Looked at under the lock: `close` sets it before it goes through the shards.
            if !self.is_closed.load(Ordering::SeqCst) {
                let name = waiters.park(key, deadline, item);
                return Ok(Ticket { shard, name });
            }
        }
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        Err(item)
    }

    /// Takes a waiter back that nobody has woken yet.
    pub fn take(&self, ticket: Ticket) -> Option<T> {
        let taken = self.shards.get(ticket.shard)?.lock().take(ticket.name);
        if taken.is_some() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        taken
    }

    /// Wakes those that want a message which has become visible.
    pub fn arrived(&self, topic: &TopicName, queue_id: QueueId, queue_offset: u64, tags_code: i64) {
        if self.is_empty() {
            return;
        }
        let key = self.key(topic, queue_id);
        let message = Arrived {
            topic,
            queue_id,
            queue_offset,
            tags_code,
        };
        self.wake(shard_of(key), |waiters| waiters.arrived(key, &message));
    }

    /// Wakes those whose deadline has passed, and drops some of those that are gone.
    pub fn tick(&self, now: ElapsedMillis) {
        if !self.is_empty() {
            for shard in 0..SHARDS {
                self.wake(shard, |waiters| {
                    let gone = waiters.sweep(SWEPT_PER_TICK);
                    self.waiting.fetch_sub(gone, Ordering::Relaxed);
                    waiters.expire(now)
                });
            }
        }
        self.ticked.store(now.0, Ordering::Release);
    }

    /// The time of the last [`Self::tick`] that has ended.
    pub fn ticked(&self) -> ElapsedMillis {
        ElapsedMillis(self.ticked.load(Ordering::Acquire))
    }

    /// Lets pulls wait again, after a [`Self::close`].
    pub fn open(&self) {
        self.is_closed.store(false, Ordering::SeqCst);
    }

    /// Wakes all and lets nothing wait any more: the broker stops, or serves nobody for a while.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        for shard in 0..SHARDS {
            self.wake(shard, Waiters::wake_all);
        }
    }

    /// Whether [`Self::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn wake(&self, shard: usize, wake: impl FnOnce(&mut Waiters<T>) -> usize) {
        let Some(waiters) = self.shards.get(shard) else {
            return;
        };
        let mut waiters = waiters.lock();
        if wake(&mut waiters) == 0 {
            return;
        }
        // Set under the shard's lock, as it is cleared: no woken waiter is without its bit.
        let before = self.woken.fetch_or(bit(shard), Ordering::AcqRel);
        drop(waiters);
        if before == 0 {
            self.some_woken.notify_one();
        }
    }

    fn key(&self, topic: &TopicName, queue_id: QueueId) -> u64 {
        self.hasher.hash_one((topic, queue_id))
    }
}

/// Bits of the hash that the table within a shard makes no use of.
fn shard_of(key: u64) -> usize {
    usize::try_from(key >> 40).unwrap_or(0) % SHARDS
}

const fn bit(shard: usize) -> u32 {
    1 << shard
}

#[cfg(test)]
mod tests;

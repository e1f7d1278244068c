//! Long polling: pulls that found nothing wait here for the next message of their queue (`PullRequestHoldService`).
//!
//! A waiter is a value in a table, not a task or a timer: [`Waiters`] is keyed by topic and queue for arrivals and sorted by
//! deadline for expiry, and takes the time as an argument. [`LongPolling`] makes it shared: the store's thread reports
//! arrivals and only moves the woken waiters to a channel, so that serving them never holds the store up.
//!
//! No wake-up may be lost between "nothing there" and "parked": whoever parks looks at the queue's end once more afterwards
//! (see [`LongPolling::recheck`]).

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use rocket_protocol::{QueueId, TopicName, UnixMillis};
use rocket_store::Arrival;

const SHARDS: usize = 16;

/// What waits: it says which messages wake it.
pub trait Waiting: Send + 'static {
    /// Whether a message at `queue_offset` whose consume queue entry has `tags_code` is worth waking up for.
    fn wants(&self, queue_offset: u64, tags_code: i64) -> bool;
}

/// Why a waiter was woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// A message that it wants has become visible.
    Arrival,
    /// Its deadline has passed, or the broker stops.
    Deadline,
}

struct Parked<T> {
    topic: TopicName,
    queue_id: QueueId,
    deadline: UnixMillis,
    item: T,
}

/// A table of waiters. Pure.
pub struct Waiters<T> {
    next_id: u64,
    parked: HashMap<u64, Parked<T>>,
    queues: HashMap<TopicName, HashMap<QueueId, Vec<u64>>>,
    deadlines: BTreeSet<(UnixMillis, u64)>,
}

impl<T> Default for Waiters<T> {
    fn default() -> Self {
        Self {
            next_id: 0,
            parked: HashMap::new(),
            queues: HashMap::new(),
            deadlines: BTreeSet::new(),
        }
    }
}

impl<T: Waiting> Waiters<T> {
    /// Parks `item` until a message that it wants arrives or `deadline` has passed. The number names it in [`Self::take`].
    pub fn park(
        &mut self,
        topic: &TopicName,
        queue_id: QueueId,
        deadline: UnixMillis,
        item: T,
    ) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let waiter = Parked {
            topic: topic.clone(),
            queue_id,
            deadline,
            item,
        };
        self.parked.insert(id, waiter);
        self.deadlines.insert((deadline, id));
        self.queues
            .entry(topic.clone())
            .or_default()
            .entry(queue_id)
            .or_default()
            .push(id);
        id
    }

    /// Takes one waiter out, if it is still here.
    pub fn take(&mut self, id: u64) -> Option<T> {
        let waiter = self.parked.remove(&id)?;
        self.deadlines.remove(&(waiter.deadline, id));
        if let Some(queues) = self.queues.get_mut(&waiter.topic) {
            if let Some(ids) = queues.get_mut(&waiter.queue_id) {
                ids.retain(|other| *other != id);
                if ids.is_empty() {
                    queues.remove(&waiter.queue_id);
                }
            }
            if queues.is_empty() {
                self.queues.remove(&waiter.topic);
            }
        }
        Some(waiter.item)
    }

    /// Takes out those that want the message, oldest first.
    pub fn arrived(
        &mut self,
        topic: &TopicName,
        queue_id: QueueId,
        queue_offset: u64,
        tags_code: i64,
    ) -> Vec<T> {
        // One pass over the queue's waiters, so that waking thousands at once stays linear.
        let Some(queues) = self.queues.get_mut(topic) else {
            return Vec::new();
        };
        let Some(ids) = queues.get_mut(&queue_id) else {
            return Vec::new();
        };
        let mut woken = Vec::new();
        ids.retain(|id| match self.parked.entry(*id) {
            Entry::Occupied(waiter) if waiter.get().item.wants(queue_offset, tags_code) => {
                let waiter = waiter.remove();
                self.deadlines.remove(&(waiter.deadline, *id));
                woken.push(waiter.item);
                false
            }
            Entry::Occupied(_) => true,
            Entry::Vacant(_) => false,
        });
        if ids.is_empty() {
            queues.remove(&queue_id);
        }
        if queues.is_empty() {
            self.queues.remove(topic);
        }
        woken
    }

    /// Takes out those whose deadline is `now` or earlier, in the order of their deadlines.
    pub fn expire(&mut self, now: UnixMillis) -> Vec<T> {
        let mut expired = Vec::new();
        while let Some(&(deadline, id)) = self.deadlines.first() {
            if deadline > now {
                break;
            }
            expired.extend(self.take(id));
        }
        expired
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.parked.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.parked.is_empty()
    }
}

/// Names a waiter for [`LongPolling::recheck`].
#[derive(Debug, Clone, Copy)]
pub struct Ticket {
    shard: usize,
    id: u64,
}

/// Where woken waiters come out.
pub type Woken<T> = mpsc::UnboundedReceiver<(T, Wake)>;

/// The waiters of all queues. What is in the channel of woken ones came out of the bounded table, so it needs no bound of its
/// own.
pub struct LongPolling<T> {
    shards: Box<[Mutex<Waiters<T>>]>,
    hasher: RandomState,
    waiting: AtomicUsize,
    waiting_max: usize,
    is_closed: AtomicBool,
    woken: mpsc::UnboundedSender<(T, Wake)>,
    receiver: Mutex<Option<Woken<T>>>,
}

impl<T: Waiting> LongPolling<T> {
    /// An empty table for at most `waiting_max` waiters.
    pub fn new(waiting_max: usize) -> Self {
        let (woken, receiver) = mpsc::unbounded_channel();
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            waiting: AtomicUsize::new(0),
            waiting_max,
            is_closed: AtomicBool::new(false),
            woken,
            receiver: Mutex::new(Some(receiver)),
        }
    }

    /// Where woken waiters come out; there is one such place, so only the first call gets it.
    pub fn woken(&self) -> Option<Woken<T>> {
        self.receiver.lock().take()
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
    pub fn park(
        &self,
        topic: &TopicName,
        queue_id: QueueId,
        deadline: UnixMillis,
        item: T,
    ) -> Result<Ticket, T> {
        let is_full = self.waiting.fetch_add(1, Ordering::Relaxed) >= self.waiting_max;
        if is_full || self.is_closed.load(Ordering::SeqCst) {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(item);
        }
        let shard = self.shard(topic, queue_id);
        let id = self.shards.get(shard).map_or(0, |waiters| {
            waiters.lock().park(topic, queue_id, deadline, item)
        });
        Ok(Ticket { shard, id })
    }

    /// Wakes the waiter of `ticket` unless somebody else has. To be called after parking when the queue has grown meanwhile.
    pub fn recheck(&self, ticket: Ticket) {
        let taken = self
            .shards
            .get(ticket.shard)
            .and_then(|waiters| waiters.lock().take(ticket.id));
        self.wake(taken, Wake::Arrival);
    }

    /// Wakes those that want a message which has become visible.
    pub fn arrived(&self, topic: &TopicName, queue_id: QueueId, queue_offset: u64, tags_code: i64) {
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return;
        }
        if let Some(waiters) = self.shards.get(self.shard(topic, queue_id)) {
            let woken = waiters
                .lock()
                .arrived(topic, queue_id, queue_offset, tags_code);
            self.wake(woken, Wake::Arrival);
        }
    }

    /// Wakes those whose deadline has passed.
    pub fn tick(&self, now: UnixMillis) {
        for waiters in &self.shards {
            let expired = waiters.lock().expire(now);
            self.wake(expired, Wake::Deadline);
        }
    }

    /// Wakes all and lets nothing wait any more: the broker stops.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.tick(UnixMillis(i64::MAX));
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn wake(&self, items: impl IntoIterator<Item = T>, why: Wake) {
        for item in items {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            // Without a receiver nobody serves pulls any more; dropping the waiter answers it.
            let _ = self.woken.send((item, why));
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "only the low bits of a hash are wanted"
    )]
    fn shard(&self, topic: &TopicName, queue_id: QueueId) -> usize {
        let mut hasher = self.hasher.build_hasher();
        topic.hash(&mut hasher);
        queue_id.hash(&mut hasher);
        hasher.finish() as usize % SHARDS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits for messages from an offset on with one tags code, or with any when that is 0.
    #[derive(Debug, PartialEq, Clone)]
    struct Waiter {
        name: &'static str,
        from: u64,
        tag: i64,
    }

    impl Waiting for Waiter {
        fn wants(&self, queue_offset: u64, tags_code: i64) -> bool {
            queue_offset >= self.from && (self.tag == 0 || self.tag == tags_code)
        }
    }

    fn waiter(name: &'static str, from: u64, tag: i64) -> Waiter {
        Waiter { name, from, tag }
    }

    fn topic() -> TopicName {
        TopicName::parse("t").unwrap()
    }

    fn names(waiters: Vec<Waiter>) -> Vec<&'static str> {
        waiters.into_iter().map(|waiter| waiter.name).collect()
    }

    #[test]
    fn an_arrival_wakes_the_waiters_of_its_queue_that_want_it() {
        let mut waiters = Waiters::default();
        let deadline = UnixMillis(100);
        let other = TopicName::parse("u").unwrap();
        waiters.park(&topic(), QueueId(0), deadline, waiter("first", 5, 0));
        waiters.park(&topic(), QueueId(0), deadline, waiter("later", 7, 0));
        waiters.park(&topic(), QueueId(0), deadline, waiter("tag", 5, 9));
        waiters.park(&topic(), QueueId(1), deadline, waiter("queue", 5, 0));
        waiters.park(&other, QueueId(0), deadline, waiter("topic", 5, 0));
        assert_eq!(
            names(waiters.arrived(&topic(), QueueId(0), 5, 8)),
            ["first"]
        );
        assert_eq!(
            names(waiters.arrived(&topic(), QueueId(0), 7, 9)),
            ["later", "tag"]
        );
        assert_eq!(names(waiters.arrived(&topic(), QueueId(0), 8, 9)), [""; 0]);
        assert_eq!(waiters.len(), 2);
    }

    #[test]
    fn waiters_expire_in_the_order_of_their_deadlines() {
        let mut waiters = Waiters::default();
        waiters.park(&topic(), QueueId(0), UnixMillis(20), waiter("b", 0, 0));
        waiters.park(&topic(), QueueId(0), UnixMillis(10), waiter("a", 0, 0));
        waiters.park(&topic(), QueueId(0), UnixMillis(30), waiter("c", 0, 0));
        assert_eq!(names(waiters.expire(UnixMillis(9))), [""; 0]);
        assert_eq!(names(waiters.expire(UnixMillis(20))), ["a", "b"]);
        assert_eq!(names(waiters.arrived(&topic(), QueueId(0), 0, 0)), ["c"]);
        assert!(waiters.is_empty());
        assert!(waiters.queues.is_empty() && waiters.deadlines.is_empty());
    }

    #[test]
    fn a_full_table_gives_the_waiter_back() {
        let polling = LongPolling::new(1);
        let mut woken = polling.woken().unwrap();
        assert!(
            polling
                .park(&topic(), QueueId(0), UnixMillis(1), waiter("a", 0, 0))
                .is_ok()
        );
        let refused = polling.park(&topic(), QueueId(0), UnixMillis(1), waiter("b", 0, 0));
        assert_eq!(refused.err().map(|waiter| waiter.name), Some("b"));
        polling.tick(UnixMillis(1));
        assert_eq!(
            woken.try_recv().unwrap(),
            (waiter("a", 0, 0), Wake::Deadline)
        );
        assert!(
            polling
                .park(&topic(), QueueId(0), UnixMillis(1), waiter("c", 0, 0))
                .is_ok()
        );
    }

    #[test]
    fn a_waiter_is_woken_once() {
        let polling = LongPolling::new(10);
        let mut woken = polling.woken().unwrap();
        let ticket = polling
            .park(&topic(), QueueId(0), UnixMillis(1), waiter("a", 0, 0))
            .unwrap();
        polling.arrived(&topic(), QueueId(0), 0, 0);
        polling.recheck(ticket);
        polling.close();
        assert_eq!(
            woken.try_recv().unwrap(),
            (waiter("a", 0, 0), Wake::Arrival)
        );
        assert!(woken.try_recv().is_err());
        assert!(polling.is_empty());
    }
}

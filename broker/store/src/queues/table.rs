//! Which queue is meant: by topic and number, with one hash and without making anything.

use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use parking_lot::{Mutex, RwLock};
use rocket_protocol::{QueueId, TopicName};

use super::queue::{Home, Queue, Saved, Topic};

/// Parts with a lock of their own.
const SHARDS: usize = 16;

/// See the module.
pub(super) struct Table {
    hasher: RandomState,
    shards: [RwLock<HashTable<Arc<Queue>>>; SHARDS],
    topics: Mutex<HashTable<Arc<Topic>>>,
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            hasher: RandomState::default(),
            shards: std::array::from_fn(|_| RwLock::default()),
            topics: Mutex::default(),
        }
    }

    fn hash(&self, topic: &str, queue_id: QueueId) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(topic.as_bytes());
        hasher.write_u32(queue_id.0);
        hasher.finish()
    }

    fn shard(&self, hash: u64) -> &RwLock<HashTable<Arc<Queue>>> {
        // The hash table uses the lowest and the highest bits.
        let [first, ..] = &self.shards;
        let index = usize::try_from(hash >> 32).unwrap_or(0) % SHARDS;
        self.shards.get(index).unwrap_or(first)
    }

    pub(super) fn get(&self, topic: &str, queue_id: QueueId) -> Option<Arc<Queue>> {
        let hash = self.hash(topic, queue_id);
        let shard = self.shard(hash).read();
        shard
            .find(hash, |queue| queue.is(topic, queue_id))
            .map(Arc::clone)
    }

    pub(super) fn get_or_make(
        &self,
        home: &Arc<Home>,
        topic: &TopicName,
        queue_id: QueueId,
    ) -> Arc<Queue> {
        if let Some(queue) = self.get(topic.as_str(), queue_id) {
            return queue;
        }
        self.insert(home, topic, queue_id, |topic| {
            let slot = home.slot_next.fetch_add(1, Ordering::Relaxed);
            Queue::new(topic, queue_id, slot)
        })
    }

    /// The queue that a table tells of; it takes the place of one that is there.
    pub(super) fn restore(&self, home: &Arc<Home>, topic: &TopicName, saved: &Saved) -> Arc<Queue> {
        self.remove(topic.as_str(), saved.queue_id);
        self.insert(home, topic, saved.queue_id, |topic| {
            Queue::restored(topic, saved)
        })
    }

    pub(super) fn remove(&self, topic: &str, queue_id: QueueId) {
        let hash = self.hash(topic, queue_id);
        let mut shard = self.shard(hash).write();
        if let Ok(entry) = shard.find_entry(hash, |queue| queue.is(topic, queue_id)) {
            entry.remove();
        }
    }

    fn insert(
        &self,
        home: &Arc<Home>,
        topic: &TopicName,
        queue_id: QueueId,
        make: impl FnOnce(Arc<Topic>) -> Queue,
    ) -> Arc<Queue> {
        let name = self.topic(home, topic);
        let hash = self.hash(topic.as_str(), queue_id);
        let mut shard = self.shard(hash).write();
        let entry = shard.entry(
            hash,
            |queue| queue.is(topic.as_str(), queue_id),
            |queue| self.hash(queue.topic().as_str(), queue.queue_id()),
        );
        Arc::clone(entry.or_insert_with(|| Arc::new(make(name))).get())
    }

    fn topic(&self, home: &Arc<Home>, topic: &TopicName) -> Arc<Topic> {
        let hash = |name: &TopicName| self.hash(name.as_str(), QueueId(0));
        let mut topics = self.topics.lock();
        let entry = topics.entry(
            hash(topic),
            |known| known.name == *topic,
            |known| hash(&known.name),
        );
        let make = || {
            Arc::new(Topic {
                name: topic.clone(),
                home: Arc::clone(home),
                hidden: AtomicU64::new(0),
            })
        };
        Arc::clone(entry.or_insert_with(make).get())
    }

    /// Hides what lies before `offset` in all queues of a topic, those that are yet to come too.
    pub(super) fn hide_before(&self, home: &Arc<Home>, topic: &TopicName, offset: u64) {
        let topic = self.topic(home, topic);
        topic.hidden.fetch_max(offset, Ordering::AcqRel);
    }

    /// Forgets all queues of a topic. Returns them.
    pub(super) fn remove_topic(&self, topic: &TopicName) -> Vec<Arc<Queue>> {
        let mut removed = Vec::new();
        for shard in &self.shards {
            let of_topic = |queue: &mut Arc<Queue>| queue.topic() == topic;
            removed.extend(shard.write().extract_if(of_topic));
        }
        self.topics.lock().retain(|known| known.name != *topic);
        removed
    }

    pub(super) fn clear(&self) {
        self.shards.iter().for_each(|shard| shard.write().clear());
        self.topics.lock().clear();
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().len()).sum()
    }

    /// All queues, those without messages too, in no order.
    pub(super) fn all(&self) -> Vec<Arc<Queue>> {
        let mut all = Vec::with_capacity(self.len());
        for shard in &self.shards {
            all.extend(shard.read().iter().map(Arc::clone));
        }
        all
    }
}

impl Queue {
    fn is(&self, topic: &str, queue_id: QueueId) -> bool {
        self.queue_id() == queue_id && self.topic().as_str() == topic
    }
}

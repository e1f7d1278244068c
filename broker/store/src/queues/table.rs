//! Which queue is meant: by topic and number, with one hash and without making anything; or several at once ([`Together`]).

use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use parking_lot::{RwLock, RwLockReadGuard};
use rocket_protocol::message::hash::IndexPrefix;
use rocket_protocol::{QueueId, TopicName};

use super::nexts::Nexts;
use super::queue::{Home, Queue, Saved, Topic};

/// Parts with a lock of their own.
const SHARDS: usize = 16;
/// Queues that are looked for at once, at most.
pub(crate) const TOGETHER: usize = 32;

/// Which queue is meant; none is by a record that has no place in one.
pub(crate) type Wanted<'a> = Option<(&'a str, QueueId)>;

type Shard = HashTable<Arc<Queue>>;

/// See the module.
pub(super) struct Table {
    hasher: RandomState,
    shards: [RwLock<Shard>; SHARDS],
    topics: RwLock<HashTable<Arc<Topic>>>,
}

/// The table while several queues are looked for: none of their parts changes.
pub(super) struct Together<'a> {
    wanted: &'a [Wanted<'a>],
    hashes: [u64; TOGETHER],
    shards: [Option<RwLockReadGuard<'a, Shard>>; SHARDS],
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            hasher: RandomState::default(),
            shards: std::array::from_fn(|_| RwLock::default()),
            topics: RwLock::default(),
        }
    }

    fn hash(&self, topic: &str, queue_id: QueueId) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(topic.as_bytes());
        hasher.write_u32(queue_id.0);
        hasher.finish()
    }

    fn shard(&self, hash: u64) -> &RwLock<Shard> {
        let [first, ..] = &self.shards;
        self.shards.get(shard_of(hash)).unwrap_or(first)
    }

    /// For several look-ups in a row. Until it is dropped nothing may be made by this thread.
    pub(super) fn together<'a>(&'a self, wanted: &'a [Wanted<'a>]) -> Together<'a> {
        let mut hashes = [0; TOGETHER];
        let mut shards = [const { None }; SHARDS];
        for (wanted, hash) in wanted.iter().zip(&mut hashes) {
            if let Some((topic, queue_id)) = *wanted {
                *hash = self.hash(topic, queue_id);
                if let Some(shard) = shards.get_mut(shard_of(*hash))
                    && shard.is_none()
                {
                    *shard = Some(self.shard(*hash).read());
                }
            }
        }
        Together {
            wanted,
            hashes,
            shards,
        }
    }

    /// Gives away `count` offsets of a queue; the first of them, or `None` for a topic that has no queue.
    pub(super) fn give_offsets(&self, topic: &str, queue_id: QueueId, count: u64) -> Option<u64> {
        let hash = self.hash(topic, QueueId(0));
        let topics = self.topics.read();
        let known = topics.find(hash, |known| known.name.as_str() == topic)?;
        Some(known.nexts.give(queue_id, count))
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
            let (queue, _) = entry.remove();
            queue.topic.nexts.set(queue_id, 0);
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
        let mut topics = self.topics.write();
        let entry = topics.entry(
            hash(topic),
            |known| known.name == *topic,
            |known| hash(&known.name),
        );
        let make = || {
            Arc::new(Topic {
                name: topic.clone(),
                prefix: IndexPrefix::new(topic.as_str()),
                home: Arc::clone(home),
                nexts: Nexts::default(),
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
        self.topics.write().retain(|known| known.name != *topic);
        removed
    }

    pub(super) fn clear(&self) {
        self.shards.iter().for_each(|shard| shard.write().clear());
        self.topics.write().clear();
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

impl Together<'_> {
    /// The queues that are wanted, of which there are at most [`TOGETHER`]; `None` for those that are missing.
    ///
    /// Of very many queues each look-up waits for memory, several times over. These wait together: each asks where its queue is,
    /// then each for the queue's own memory, and only then is anything made of it.
    pub(super) fn find(&self) -> [Option<&Queue>; TOGETHER] {
        let wanted = || self.wanted.iter().zip(&self.hashes);
        let mut found = [None; TOGETHER];
        for ((wanted, hash), found) in wanted().zip(&mut found) {
            if wanted.is_some() {
                // The first one with such a hash, which is nearly always the one that is meant.
                *found = self
                    .shard(*hash)
                    .and_then(|shard| shard.find(*hash, |_| true));
            }
        }
        for queue in found.iter().flatten() {
            queue.touch();
        }
        let mut queues = [None; TOGETHER];
        for (((wanted, hash), found), queue) in wanted().zip(found).zip(&mut queues) {
            if let (Some((topic, queue_id)), Some(first)) = (*wanted, found) {
                let is_meant = |queue: &Arc<Queue>| queue.is(topic, queue_id);
                let meant = if is_meant(first) {
                    Some(first)
                } else {
                    self.shard(*hash)
                        .and_then(|shard| shard.find(*hash, is_meant))
                };
                *queue = meant.map(|meant| &**meant);
            }
        }
        queues
    }

    fn shard(&self, hash: u64) -> Option<&Shard> {
        self.shards.get(shard_of(hash))?.as_deref()
    }
}

/// The hash table uses the lowest and the highest bits.
fn shard_of(hash: u64) -> usize {
    usize::try_from(hash >> 32).unwrap_or(0) % SHARDS
}

#[cfg(test)]
mod tests {
    use super::super::Queues;
    use super::*;

    #[test]
    fn queues_that_are_looked_for_together_are_those_that_are_found_one_by_one() {
        let queues = Queues::in_memory();
        let table = &queues.0.table;
        let names: Vec<String> = (0..40).map(|n| format!("topic-{n}")).collect();
        for name in names.iter().step_by(2) {
            for id in 0..100 {
                queues.get_or_make(&TopicName::parse(name).unwrap(), QueueId(id));
            }
        }
        let mut missing = 0;
        let all = names
            .iter()
            .flat_map(|name| (0..110).map(move |id| (name, id)));
        let all: Vec<Wanted<'_>> = all
            .map(|(name, id)| (id % 13 != 0).then_some((name.as_str(), QueueId(id))))
            .collect();
        for wanted in all.chunks(TOGETHER - 1) {
            let together = table.together(wanted);
            let found = together.find();
            for (wanted, found) in wanted.iter().zip(found) {
                let alone = wanted.and_then(|(topic, id)| table.get(topic, id));
                let alone = alone.as_deref().map(std::ptr::from_ref);
                assert_eq!(found.map(std::ptr::from_ref), alone, "{wanted:?}");
                missing += u32::from(found.is_none());
            }
            assert!(found[wanted.len()..].iter().all(Option::is_none));
        }
        assert!(missing > 2200 && missing < 3000, "{missing}");
    }

    #[test]
    fn offsets_are_those_of_the_queue_and_begin_anew_with_its_topic() {
        let queues = Queues::in_memory();
        let topic = TopicName::parse("orders").unwrap();
        let give = |id, count| queues.give_offsets(&topic, QueueId(id), count);
        assert_eq!(
            [give(7, 2), give(7, 1), give(0, 1), give(7, 1)],
            [0, 2, 0, 3]
        );
        assert_eq!(queues.next_offset(&topic, QueueId(7)), 4);
        let all = queues.next_offsets();
        assert_eq!(all.len(), 2, "both were made");
        queues.get_or_make(&topic, QueueId(0)).raise_next(9);
        assert_eq!([give(0, 1), give(7, 1)], [9, 4]);
        queues.remove_topic(&topic);
        assert_eq!([give(7, 2), give(7, 1)], [0, 2]);
    }
}

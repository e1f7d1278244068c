//! All consume queues, by topic and queue.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use rocket_mapped_file::{Directory, Segment};
use rocket_protocol::{QueueId, TopicName};

use crate::consume_queue::{ConsumeQueue, FOLDER};

/// A queue that others share.
pub(crate) type SharedQueue = Arc<Mutex<ConsumeQueue>>;
type Table = HashMap<TopicName, BTreeMap<QueueId, SharedQueue>>;

/// See the module.
pub(crate) struct Queues {
    dir: Arc<dyn Directory>,
    file_bytes: u64,
    table: RwLock<Table>,
}

impl Queues {
    /// Opens the queues that are there; each must be cut before it is used.
    pub(crate) fn open(dir: Arc<dyn Directory>, file_bytes: u64) -> io::Result<Self> {
        dir.create_folder(FOLDER)?;
        let mut table = Table::new();
        for topic_entry in dir
            .list(FOLDER)?
            .into_iter()
            .filter(|entry| entry.is_folder)
        {
            let Ok(topic) = TopicName::parse(&topic_entry.name) else {
                continue;
            };
            for entry in dir
                .list(&format!("{FOLDER}/{topic}"))?
                .into_iter()
                .filter(|entry| entry.is_folder)
            {
                let Ok(queue_id) = entry.name.parse().map(QueueId) else {
                    continue;
                };
                let queue = ConsumeQueue::open(Arc::clone(&dir), &topic, queue_id, file_bytes)?;
                table
                    .entry(topic.clone())
                    .or_default()
                    .insert(queue_id, Arc::new(Mutex::new(queue)));
            }
        }
        Ok(Self {
            dir,
            file_bytes,
            table: RwLock::new(table),
        })
    }

    /// The queue, if it ever had a message.
    pub(crate) fn get(&self, topic: &TopicName, queue_id: QueueId) -> Option<SharedQueue> {
        self.table.read().get(topic)?.get(&queue_id).cloned()
    }

    /// The queue, made if it is missing.
    pub(crate) fn get_or_make(&self, topic: &TopicName, queue_id: QueueId) -> SharedQueue {
        if let Some(queue) = self.get(topic, queue_id) {
            return queue;
        }
        let mut table = self.table.write();
        let queues = table.entry(topic.clone()).or_default();
        let make = || {
            Arc::new(Mutex::new(ConsumeQueue::new(
                Arc::clone(&self.dir),
                topic,
                queue_id,
                self.file_bytes,
            )))
        };
        Arc::clone(queues.entry(queue_id).or_insert_with(make))
    }

    /// All queues, sorted.
    pub(crate) fn all(&self) -> Vec<(TopicName, QueueId, SharedQueue)> {
        let table = self.table.read();
        let mut all: Vec<_> = table
            .iter()
            .flat_map(|(topic, queues)| {
                queues
                    .iter()
                    .map(|(id, queue)| (topic.clone(), *id, Arc::clone(queue)))
            })
            .collect();
        all.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        all
    }

    /// Removes all queues of `topic`, durably.
    pub(crate) fn remove_topic(&self, topic: &TopicName) -> io::Result<()> {
        if let Some(queues) = self.table.write().remove(topic) {
            for queue in queues.values() {
                queue.lock().remove()?;
            }
        }
        self.dir.remove_folder(&format!("{FOLDER}/{topic}"))?;
        self.dir.sync(FOLDER)
    }

    /// Removes every queue, to be built anew.
    pub(crate) fn remove_all(&self) -> io::Result<()> {
        self.table.write().clear();
        self.dir.remove_folder(FOLDER)?;
        self.dir.sync("")?;
        self.dir.create_folder(FOLDER)
    }

    /// Writes what is only in memory.
    pub(crate) fn save(&self) -> io::Result<()> {
        self.all()
            .iter()
            .try_for_each(|(_, _, queue)| queue.lock().save())
    }

    /// The files that were written since the last call; to be flushed.
    pub(crate) fn take_unflushed(&self) -> Vec<(String, Arc<dyn Segment>)> {
        self.all()
            .iter()
            .flat_map(|(_, _, queue)| queue.lock().take_unflushed())
            .collect()
    }
}

//! Consume queues in Apache's form, which a store has that Apache's broker wrote, or an early version of ours: taken over
//! once, when there are none of our own form.

use std::io;
use std::sync::Arc;

use rocket_mapped_file::Directory;
use rocket_protocol::{QueueId, TopicName};

use crate::consume_queue::{ConsumeQueue, FOLDER, Unit};
use crate::deleted::Deleted;
use crate::queues::Queues;

/// Units read at once.
const RUN: usize = 4096;

/// The queues of a folder in Apache's form.
pub(crate) struct ApacheQueues(Vec<(TopicName, QueueId, ConsumeQueue)>);

impl ApacheQueues {
    /// Opens what is there.
    pub(crate) fn open(dir: &Arc<dyn Directory>, file_bytes: u64) -> io::Result<Self> {
        let mut found = Vec::new();
        for of_topic in dir.list(FOLDER)? {
            let Ok(topic) = TopicName::parse(&of_topic.name) else {
                continue;
            };
            for entry in dir.list(&format!("{FOLDER}/{topic}"))? {
                let Ok(queue_id) = entry.name.parse().map(QueueId) else {
                    continue;
                };
                if entry.is_folder {
                    let queue = ConsumeQueue::open(Arc::clone(dir), &topic, queue_id, file_bytes)?;
                    found.push((topic.clone(), queue_id, queue));
                }
            }
        }
        Ok(Self(found))
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One behind the last message that any queue knows; `min` if none knows one.
    pub(crate) fn end(&mut self, min: u64) -> io::Result<u64> {
        let mut end = min;
        for (_, _, queue) in &mut self.0 {
            if let Some((_, unit)) = queue.cut(u64::MAX, false)?
                && unit != Unit::PADDING
            {
                end = end.max(unit.physical_offset + u64::from(unit.size));
            }
        }
        Ok(end)
    }

    /// Takes over the units of the messages from `log_min` to `dispatched`. `false` as soon as the last unit of a queue
    /// does not `agree` with the log.
    pub(crate) fn move_to(
        mut self,
        queues: &Queues,
        log_min: u64,
        dispatched: u64,
        deleted: &Deleted,
        agrees: impl Fn(&TopicName, QueueId, u64, Unit) -> io::Result<bool>,
    ) -> io::Result<bool> {
        for (topic, queue_id, queue) in &mut self.0 {
            let last = queue.cut(dispatched, false)?;
            if let Some((index, unit)) = last
                && unit.physical_offset >= log_min
                && unit != Unit::PADDING
                && !agrees(topic, *queue_id, index, unit)?
            {
                return Ok(false);
            }
            queue.remove_before(log_min)?;
            let (min, max) = (queue.min(), queue.max());
            let first = queue.get(min)?.map_or(0, |unit| unit.physical_offset);
            if max > 0 && !deleted.covers(topic.as_str(), first) {
                queues.import(topic, *queue_id, min..max, |index| queue.read(index, RUN))?;
            }
        }
        Ok(true)
    }
}

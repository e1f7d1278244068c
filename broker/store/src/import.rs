//! What a folder is opened from that Apache's broker wrote, or an early version of ours.
//!
//! Its consume queues are taken over once, when there are none of our own form. Where the log is to be read from they tell
//! after a clean stop, if they are there and can be read; else everything is taken from the file whose first record is older
//! than Apache's checkpoint (`recoverAbnormally`).

use std::io;
use std::sync::Arc;

use rocket_mapped_file::Directory;
use rocket_protocol::{QueueId, TopicName};

use crate::apache_queue::{FOLDER, LastRead, Reader};
use crate::by_time::store_time;
use crate::checkpoint;
use crate::commit_log::CommitLog;
use crate::deleted::Deleted;
use crate::error::OpenError;
use crate::queues::Queues;
use crate::unit::Unit;

/// Units read at once.
const RUN: usize = 4096;

/// The queues of a folder in Apache's form.
pub(crate) struct ApacheQueues(Vec<(TopicName, QueueId, Reader)>);

impl ApacheQueues {
    /// Looks what is there.
    pub(crate) fn open(dir: &Arc<dyn Directory>, file_bytes: u64) -> io::Result<Self> {
        let last = LastRead::new(Arc::clone(dir));
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
                    let queue = Reader::open(&last, &topic, queue_id, file_bytes)?;
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

    /// From where the log is to be read.
    pub(crate) fn log_start(
        &self,
        dir: &dyn Directory,
        log: &CommitLog,
        clean: bool,
    ) -> Result<u64, OpenError> {
        let is_told = !self.is_empty() && self.0.iter().all(|(_, _, queue)| queue.is_whole());
        if clean && is_told {
            let end = self.end(log.min());
            end.map_err(OpenError::io("read", "consumequeue"))
        } else {
            start_after_crash(dir, log)
        }
    }

    /// One behind the last message that any queue knows; `min` if none knows one.
    pub(crate) fn end(&self, min: u64) -> io::Result<u64> {
        let mut end = min;
        for (_, _, queue) in &self.0 {
            if let Some((_, unit)) = last(queue, queue.range(0, u64::MAX)?.end)? {
                end = end.max(unit.physical_offset + u64::from(unit.size));
            }
        }
        Ok(end)
    }

    /// The offset behind the last message of each queue that lies before `log_end`, or what the names of its files tell where
    /// they cannot be read.
    pub(crate) fn next_offsets(&self, log_end: u64) -> io::Result<Vec<(TopicName, QueueId, u64)>> {
        let mut known = Vec::new();
        for (topic, queue_id, queue) in &self.0 {
            let next = queue.range(0, log_end)?.end.max(queue.named());
            if next > 0 {
                known.push((topic.clone(), *queue_id, next));
            }
        }
        Ok(known)
    }

    /// Takes over the units of the messages from `log_min` to `dispatched`. `false` as soon as the last unit of a queue
    /// does not `agree` with the log, or the newest file of a queue is of another size than it should be: what such a file
    /// holds nobody can tell, and without it the queue's messages would be hidden for good.
    pub(crate) fn move_to(
        &self,
        queues: &Queues,
        log_min: u64,
        dispatched: u64,
        deleted: &Deleted,
        agrees: impl Fn(&TopicName, QueueId, u64, Unit) -> io::Result<bool>,
    ) -> io::Result<bool> {
        for (topic, queue_id, queue) in &self.0 {
            if !queue.is_whole() {
                tracing::warn!(%topic, %queue_id, "the newest file of a consume queue is of another size than is configured");
                return Ok(false);
            }
            let range = queue.range(log_min, dispatched)?;
            if let Some((index, unit)) = last(queue, range.end)?
                && unit.physical_offset >= log_min
                && !agrees(topic, *queue_id, index, unit)?
            {
                return Ok(false);
            }
            let first = if range.is_empty() {
                None
            } else {
                queue.get(range.start)?
            };
            let first = first.map_or(0, |unit| unit.physical_offset);
            if range.end > 0 && !deleted.covers(topic.as_str(), first) {
                queues.import(topic, *queue_id, range, |index| queue.read(index, RUN))?;
            }
        }
        Ok(true)
    }
}

/// The unit before `end`, and its index, if it stands for a message.
fn last(queue: &Reader, end: u64) -> io::Result<Option<(u64, Unit)>> {
    let Some(index) = end.checked_sub(1) else {
        return Ok(None);
    };
    let unit = queue.get(index)?.filter(|unit| *unit != Unit::PADDING);
    Ok(unit.map(|unit| (index, unit)))
}

/// Removes queues in Apache's form, once our own are secured and so are our bounds: from here on they would only mislead.
pub(crate) fn remove(dir: &dyn Directory) -> Result<(), OpenError> {
    let entries = dir.list(FOLDER).map_err(OpenError::io("list", FOLDER))?;
    if entries.is_empty() {
        return Ok(());
    }
    dir.remove_folder(FOLDER)
        .and_then(|()| dir.sync(""))
        .map_err(OpenError::io("remove", FOLDER))
}

/// The newest file whose first record was stored before the time that Apache's checkpoint secures, or the first file.
fn start_after_crash(dir: &dyn Directory, log: &CommitLog) -> Result<u64, OpenError> {
    let Some(time) = checkpoint::apache_time(dir).map_err(OpenError::io("read", "checkpoint"))?
    else {
        return Ok(log.min());
    };
    for file in log.files().iter().rev() {
        if first_store_time(log, file.start)?.is_some_and(|first| first <= time) {
            return Ok(file.start);
        }
    }
    Ok(log.min())
}

fn first_store_time(log: &CommitLog, start: u64) -> Result<Option<i64>, OpenError> {
    let Some(file) = log.file_at(start) else {
        return Ok(None);
    };
    let mut head = vec![
        0;
        usize::try_from(file.segment.len())
            .unwrap_or(usize::MAX)
            .min(128)
    ];
    file.segment
        .read_at(0, &mut head)
        .map_err(OpenError::io("read", &file.path()))?;
    Ok(store_time(&head))
}

#[cfg(test)]
mod tests {
    use rocket_mapped_file::disk::DiskDirectory;

    use super::*;
    use crate::apache_queue::Writer;

    /// How many descriptors this process has of files below `folder`.
    fn held(folder: &std::path::Path) -> usize {
        let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
        let paths = descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        paths.filter(|path| path.starts_with(folder)).count()
    }

    #[test]
    fn a_folder_of_many_queues_takes_one_descriptor() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let dir: Arc<dyn Directory> = Arc::new(DiskDirectory::open(&root).unwrap());
        let topic = TopicName::parse("t").unwrap();
        for id in 0..20 {
            let target = Arc::clone(&dir);
            let mut writer = Writer::new(target, &topic, QueueId(id), 200, 0).unwrap();
            let unit = |index: u64| Unit {
                physical_offset: 1000 * u64::from(id) + index,
                size: 100,
                tags_code: 0,
            };
            // Three files each.
            let units: Vec<Unit> = (0..25).map(unit).collect();
            writer.append(&units).unwrap();
            writer.finish().unwrap();
        }
        let queues = ApacheQueues::open(&dir, 200).unwrap();
        assert_eq!(held(&root), 0);
        assert_eq!(queues.end(0).unwrap(), 19_124);
        assert_eq!(held(&root), 1);
        let next = queues.next_offsets(u64::MAX).unwrap();
        assert!(next.len() == 20 && next.iter().all(|(_, _, next)| *next == 25));
        assert_eq!(held(&root), 1);
    }
}

//! Topics that were deleted: their records below a position are no longer theirs. Without this note a rebuilt queue
//! would bring a deleted topic back, and the new messages of one that was made again would be taken for old ones.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::RwLock;
use rocket_mapped_file::Directory;
use rocket_protocol::TopicName;

const PATH: &str = "rocket/deleted-topics.json";

/// See the module.
pub(crate) struct Deleted {
    dir: Arc<dyn Directory>,
    before: RwLock<BTreeMap<String, u64>>,
}

impl Deleted {
    /// Reads the note.
    pub(crate) fn open(dir: Arc<dyn Directory>) -> io::Result<Self> {
        let before = match dir.read(PATH)? {
            Some(text) => serde_json::from_slice(&text)?,
            None => BTreeMap::new(),
        };
        Ok(Self {
            dir,
            before: RwLock::new(before),
        })
    }

    /// Whether the record at `offset` belongs to a deleted life of its topic.
    pub(crate) fn covers(&self, topic: &str, offset: u64) -> bool {
        let before = self.before.read();
        !before.is_empty() && before.get(topic).is_some_and(|&end| offset < end)
    }

    /// Notes durably that records of `topic` below `end` are deleted.
    pub(crate) fn note(&self, topic: &TopicName, end: u64) -> io::Result<()> {
        let mut before = self.before.write();
        let mut next = before.clone();
        next.insert(topic.as_str().to_owned(), end);
        self.write(&next)?;
        *before = next;
        Ok(())
    }

    /// Forgets the topics whose records lie before the log, and whose queues are in no table: all of these were begun when the
    /// messages before `tables_from` were put. What is in a table, or in the journal behind it, comes back at a start without the
    /// note, and a topic that was made again would go on where its old queues ended.
    pub(crate) fn forget_before(&self, log_min: u64, tables_from: u64) -> io::Result<()> {
        let mut before = self.before.write();
        let mut next = before.clone();
        next.retain(|_, end| *end > log_min || *end >= tables_from);
        if next.len() != before.len() {
            self.write(&next)?;
            *before = next;
        }
        Ok(())
    }

    /// The log is cut at `end`: what comes there next is no message of a deleted topic.
    pub(crate) fn cut(&self, end: u64) -> io::Result<()> {
        let mut before = self.before.write();
        if before.values().all(|&of| of <= end) {
            return Ok(());
        }
        let mut next = before.clone();
        for of in next.values_mut() {
            *of = end.min(*of);
        }
        self.write(&next)?;
        *before = next;
        Ok(())
    }

    fn write(&self, next: &BTreeMap<String, u64>) -> io::Result<()> {
        self.dir.replace(PATH, &serde_json::to_vec(next)?)
    }
}

//! Positions of consumer groups (`ConsumerOffsetManager`): what each group reads next in each queue.
//!
//! A commit of a known position is a store into an atomic under a read lock, as every pull may carry one. The file is
//! written every few seconds when something changed: a crash costs consumers repeated messages, never lost ones. In a group
//! the master notes besides which positions moved, so that it can tell the log of them and of no others.

mod orders;
#[cfg(test)]
mod tests;
mod told;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use parking_lot::{Mutex, RwLock};
use rocket_protocol::body::{ConsumerOffsetTable, DataVersion};
use rocket_protocol::{GroupName, QueueId, TopicName, UnixMillis};

use super::change::Positions;
use super::file::{FileError, JsonFile};
use super::next_version;
use super::state::SEPARATOR;

/// No position.
const NONE: i64 = -1;

#[derive(Debug)]
struct Cell {
    committed: AtomicI64,
    pulled: AtomicI64,
    /// In a group, what the changes that were applied come to: `committed` of a master runs ahead of it.
    folded: AtomicI64,
    /// Noted as moved.
    is_noted: AtomicBool,
}

impl Cell {
    fn new(committed: i64, pulled: i64) -> Self {
        Self {
            committed: AtomicI64::new(committed),
            pulled: AtomicI64::new(pulled),
            folded: AtomicI64::new(committed),
            is_noted: AtomicBool::new(false),
        }
    }
}

/// A group's position in one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// What it reads next, as it committed.
    pub committed: Option<i64>,
    /// What it asked for last, since the broker started.
    pub pulled: Option<i64>,
}

type Table = HashMap<TopicName, HashMap<GroupName, HashMap<QueueId, Cell>>>;
type Key = (TopicName, GroupName, QueueId);

/// See the module.
#[derive(Debug)]
pub struct Offsets {
    file: JsonFile,
    table: RwLock<Table>,
    is_changed: AtomicBool,
    version: Mutex<DataVersion>,
    /// Offsets that an administrator set: the next pull is sent there, and until then commits are ignored.
    resets: Mutex<HashMap<Key, i64>>,
    /// Whether moved positions are noted: while this replica is master of a group.
    is_noting: AtomicBool,
    /// Positions that moved, or that there are no more.
    moved: Mutex<Vec<Key>>,
}

impl Offsets {
    /// Reads `consumerOffset.json` in `dir`.
    pub(super) fn open(dir: &Path) -> Result<Self, FileError> {
        let file = JsonFile::new(dir, "consumerOffset.json")?;
        let stored = file.load(ConsumerOffsetTable::parse)?.unwrap_or_default();
        Ok(Self {
            file,
            table: RwLock::new(table_of(&stored.offset_table)),
            is_changed: AtomicBool::new(false),
            version: Mutex::new(stored.data_version),
            resets: Mutex::default(),
            is_noting: AtomicBool::new(false),
            moved: Mutex::default(),
        })
    }

    /// Lowers positions that lie behind the end of their queue; returns how many did.
    pub(super) fn lower(&self, end: &dyn Fn(&TopicName, QueueId) -> i64) -> usize {
        let table = self.table.read();
        let mut lowered = 0;
        for (topic, groups) in table.iter() {
            for (group, queues) in groups {
                for (queue, cell) in queues {
                    let (position, end) =
                        (cell.committed.load(Ordering::Relaxed), end(topic, *queue));
                    if position > end {
                        tracing::info!(%topic, %group, %queue, position, end, "a position is lowered to the end of its queue");
                        cell.committed.store(end, Ordering::Relaxed);
                        cell.folded.store(end, Ordering::Relaxed);
                        lowered += 1;
                    }
                }
            }
        }
        if lowered > 0 {
            self.is_changed.store(true, Ordering::Relaxed);
        }
        lowered
    }

    /// Whether positions changed since the file was written.
    pub(super) fn has_changed(&self) -> bool {
        self.is_changed.load(Ordering::Relaxed)
    }

    /// What the group reads next in the queue, if it ever committed.
    pub fn committed(&self, topic: &str, group: &str, queue: QueueId) -> Option<i64> {
        self.position(topic, group, queue).committed
    }

    /// Both positions of a group in a queue.
    pub fn position(&self, topic: &str, group: &str, queue: QueueId) -> Position {
        let table = self.table.read();
        let cell = find(&table, topic, group, queue);
        let read = |pick: fn(&Cell) -> &AtomicI64| {
            cell.map(|cell| pick(cell).load(Ordering::Relaxed))
                .filter(|offset| *offset >= 0)
        };
        Position {
            committed: read(|cell| &cell.committed),
            pulled: read(|cell| &cell.pulled),
        }
    }

    /// Remembers what the group reads next. `false` when an administrator set the offset and the group has not pulled
    /// there yet: then the commit is void.
    pub fn commit(
        &self,
        topic: &TopicName,
        group: &GroupName,
        queue: QueueId,
        offset: i64,
    ) -> bool {
        if self.has_reset(topic, group, queue) {
            return false;
        }
        self.put(topic, group, queue, offset);
        true
    }

    /// As [`Offsets::commit`] by order of an administrator, which counts in any case.
    fn put(&self, topic: &TopicName, group: &GroupName, queue: QueueId, offset: i64) {
        let is_noting = self.is_noting.load(Ordering::Relaxed);
        let is_new = std::cell::Cell::new(false);
        self.set(topic, group, queue, |cell| {
            if is_noting {
                // In this order: whoever takes the note away reads the position after that.
                cell.committed.store(offset, Ordering::SeqCst);
                is_new.set(!cell.is_noted.swap(true, Ordering::SeqCst));
            } else {
                cell.committed.store(offset, Ordering::Relaxed);
            }
        });
        if is_new.get() {
            let key = (topic.clone(), group.clone(), queue);
            self.moved.lock().push(key);
        }
        self.is_changed.store(true, Ordering::Relaxed);
    }

    /// Remembers what the group was given; for statistics, lost at a restart.
    pub fn pulled(&self, topic: &TopicName, group: &GroupName, queue: QueueId, offset: i64) {
        self.set(topic, group, queue, |cell| {
            cell.pulled.store(offset, Ordering::Relaxed);
        });
    }

    /// Copies positions of `from` to `to` in one topic. That is an administrator's order too, and takes the place of one that
    /// `to` was not told yet.
    pub fn copy(&self, topic: &TopicName, from: &GroupName, to: &GroupName) {
        for (queue, offset) in self.queues(topic.as_str(), from.as_str()) {
            self.take_reset(topic, to, queue);
            self.put(topic, to, queue, offset);
        }
    }

    /// All positions of a group in a topic.
    pub fn queues(&self, topic: &str, group: &str) -> Vec<(QueueId, i64)> {
        let table = self.table.read();
        let cells = table.get(topic).and_then(|groups| groups.get(group));
        let rows = cells.into_iter().flatten();
        rows.map(|(queue, cell)| (*queue, cell.committed.load(Ordering::Relaxed)))
            .filter(|(_, offset)| *offset >= 0)
            .collect()
    }

    /// Groups with a position in the topic.
    pub fn groups_of(&self, topic: &str) -> Vec<GroupName> {
        let table = self.table.read();
        let groups = table.get(topic).into_iter().flatten();
        groups.map(|(group, _)| group.clone()).collect()
    }

    /// Topics in which the group has a position.
    pub fn topics_of(&self, group: &str) -> Vec<TopicName> {
        let table = self.table.read();
        let topics = table.iter();
        topics
            .filter(|(_, groups)| groups.contains_key(group))
            .map(|(topic, _)| topic.clone())
            .collect()
    }

    /// Forgets all positions in a topic.
    pub fn forget_topic(&self, topic: &str) {
        let gone = self.table.write().remove_entry(topic);
        if let Some((topic, groups)) = gone {
            for (group, queues) in groups {
                self.note_gone(&topic, &group, queues.into_keys());
            }
        }
        let mut resets = self.resets.lock();
        resets.retain(|(of, _, _), _| of.as_str() != topic);
        self.is_changed.store(true, Ordering::Relaxed);
    }

    /// Forgets all positions of a group.
    pub fn forget_group(&self, group: &str) {
        self.table.write().retain(|topic, groups| {
            if let Some((group, queues)) = groups.remove_entry(group) {
                self.note_gone(topic, &group, queues.into_keys());
            }
            !groups.is_empty()
        });
        let mut resets = self.resets.lock();
        resets.retain(|(_, of, _), _| of.as_str() != group);
        self.is_changed.store(true, Ordering::Relaxed);
    }

    /// Shows every group with a position in a topic, with its positions. The table is held meanwhile.
    pub fn each(
        &self,
        mut show: impl FnMut(&TopicName, &GroupName, &mut dyn Iterator<Item = (QueueId, i64)>),
    ) {
        let table = self.table.read();
        for (topic, groups) in table.iter() {
            for (group, queues) in groups {
                let rows = queues
                    .iter()
                    .map(|(queue, cell)| (*queue, cell.committed.load(Ordering::Relaxed)));
                let mut rows = rows.filter(|(_, offset)| *offset >= 0).peekable();
                if rows.peek().is_some() {
                    show(topic, group, &mut rows);
                }
            }
        }
    }

    /// All positions: the file's text and the answer to GET_ALL_CONSUMER_OFFSET.
    pub fn to_body(&self) -> ConsumerOffsetTable {
        ConsumerOffsetTable {
            group_topic_map: BTreeMap::new(),
            data_version: *self.version.lock(),
            offset_table: self.rows(|cell| &cell.committed),
        }
    }

    fn rows(&self, pick: fn(&Cell) -> &AtomicI64) -> Positions {
        let table = self.table.read();
        let mut rows = Positions::new();
        for (topic, groups) in table.iter() {
            for (group, queues) in groups {
                let offsets: BTreeMap<i32, i64> = queues
                    .iter()
                    .map(|(queue, cell)| (queue.to_wire(), pick(cell).load(Ordering::Relaxed)))
                    .filter(|(_, offset)| *offset >= 0)
                    .collect();
                if !offsets.is_empty() {
                    rows.insert(row_key(topic, group), offsets);
                }
            }
        }
        rows
    }

    /// Writes the file if a position changed since the last time.
    pub(super) fn flush(&self, now: UnixMillis) -> Result<(), FileError> {
        if !self.is_changed.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        {
            let mut version = self.version.lock();
            *version = next_version(*version, now);
        }
        let saved = self.file.save(&self.to_body().to_json());
        if saved.is_err() {
            self.is_changed.store(true, Ordering::Relaxed);
        }
        saved
    }

    fn set(&self, topic: &TopicName, group: &GroupName, queue: QueueId, set: impl Fn(&Cell)) {
        if let Some(cell) = find(&self.table.read(), topic.as_str(), group.as_str(), queue) {
            set(cell);
            return;
        }
        let mut table = self.table.write();
        let queues = table
            .entry(topic.clone())
            .or_default()
            .entry(group.clone())
            .or_default();
        set(queues.entry(queue).or_insert_with(|| Cell::new(NONE, NONE)));
    }
}

fn row_key(topic: &TopicName, group: &GroupName) -> String {
    format!("{topic}{SEPARATOR}{group}")
}

fn table_of(rows: &Positions) -> Table {
    let mut table = Table::new();
    for (topic, group, queues) in names(rows) {
        let cells = queues.iter().filter_map(|(queue, offset)| {
            Some((QueueId::from_wire(*queue)?, Cell::new(*offset, NONE)))
        });
        table
            .entry(topic)
            .or_default()
            .entry(group)
            .or_default()
            .extend(cells);
    }
    table
}

/// The rows that have a valid key.
fn names(rows: &Positions) -> impl Iterator<Item = (TopicName, GroupName, &BTreeMap<i32, i64>)> {
    rows.iter().filter_map(|(key, queues)| {
        let names = key.split_once(SEPARATOR).and_then(|(topic, group)| {
            Some((TopicName::parse(topic).ok()?, GroupName::parse(group).ok()?))
        });
        if names.is_none() {
            tracing::warn!(key, "stored offsets have no valid key and are left out");
        }
        let (topic, group) = names?;
        Some((topic, group, queues))
    })
}

fn find<'a>(table: &'a Table, topic: &str, group: &str, queue: QueueId) -> Option<&'a Cell> {
    table.get(topic)?.get(group)?.get(&queue)
}

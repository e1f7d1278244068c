//! Positions of consumer groups (`ConsumerOffsetManager`): what each group reads next in each queue.
//!
//! A commit of a known position is a store into an atomic under a read lock, as every pull may carry one. The file is
//! written every few seconds when something changed: a crash costs consumers repeated messages, never lost ones.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use parking_lot::{Mutex, RwLock};
use rocket_protocol::body::{ConsumerOffsetTable, DataVersion};
use rocket_protocol::{GroupName, QueueId, TopicName, UnixMillis};

use super::file::{FileError, JsonFile};
use super::next_version;

/// Between topic and group in the file's keys; no name contains it.
const SEPARATOR: char = '@';
/// No position.
const NONE: i64 = -1;

#[derive(Debug)]
struct Cell {
    committed: AtomicI64,
    pulled: AtomicI64,
}

impl Cell {
    fn new(committed: i64, pulled: i64) -> Self {
        Self {
            committed: AtomicI64::new(committed),
            pulled: AtomicI64::new(pulled),
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

/// See the module.
#[derive(Debug)]
pub struct Offsets {
    file: JsonFile,
    table: RwLock<Table>,
    is_changed: AtomicBool,
    version: Mutex<DataVersion>,
    /// Offsets that an administrator set: the next pull is sent there, and until then commits are ignored.
    resets: Mutex<HashMap<(TopicName, GroupName, QueueId), i64>>,
}

impl Offsets {
    /// Reads `consumerOffset.json` in `dir`.
    pub(super) fn open(dir: &Path) -> Result<Self, FileError> {
        let file = JsonFile::new(dir, "consumerOffset.json")?;
        let stored = file.load(ConsumerOffsetTable::parse)?.unwrap_or_default();
        let mut table = Table::new();
        for (key, queues) in stored.offset_table {
            let names = key.split_once(SEPARATOR).and_then(|(topic, group)| {
                Some((TopicName::parse(topic).ok()?, GroupName::parse(group).ok()?))
            });
            let Some((topic, group)) = names else {
                tracing::warn!(key, "stored offsets have no valid key and are left out");
                continue;
            };
            let cells = queues.into_iter().filter_map(|(queue, offset)| {
                Some((QueueId::from_wire(queue)?, Cell::new(offset, NONE)))
            });
            table
                .entry(topic)
                .or_default()
                .entry(group)
                .or_default()
                .extend(cells);
        }
        Ok(Self {
            file,
            table: RwLock::new(table),
            is_changed: AtomicBool::new(false),
            version: Mutex::new(stored.data_version),
            resets: Mutex::default(),
        })
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
        self.set(topic, group, queue, |cell| {
            cell.committed.store(offset, Ordering::Relaxed);
        });
        self.is_changed.store(true, Ordering::Relaxed);
    }

    /// Remembers what the group was given; for statistics, lost at a restart.
    pub fn pulled(&self, topic: &TopicName, group: &GroupName, queue: QueueId, offset: i64) {
        self.set(topic, group, queue, |cell| {
            cell.pulled.store(offset, Ordering::Relaxed);
        });
    }

    /// Sets positions by order of an administrator; the next pull of each queue is answered with its new offset.
    pub fn reset(&self, topic: &TopicName, group: &GroupName, offsets: &[(QueueId, i64)]) {
        for (queue, offset) in offsets {
            // First, so that no commit of the group comes behind the new position.
            self.resets
                .lock()
                .insert((topic.clone(), group.clone(), *queue), *offset);
            self.put(topic, group, *queue, *offset);
        }
    }

    /// Takes the offset that an administrator set for a queue and that was not told to the group yet.
    pub fn take_reset(&self, topic: &TopicName, group: &GroupName, queue: QueueId) -> Option<i64> {
        let mut resets = self.resets.lock();
        if resets.is_empty() {
            return None;
        }
        resets.remove(&(topic.clone(), group.clone(), queue))
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
        self.table.write().remove(topic);
        let mut resets = self.resets.lock();
        resets.retain(|(of, _, _), _| of.as_str() != topic);
        self.is_changed.store(true, Ordering::Relaxed);
    }

    /// Forgets all positions of a group.
    pub fn forget_group(&self, group: &str) {
        self.table.write().retain(|_, groups| {
            groups.remove(group);
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
        let table = self.table.read();
        let mut rows = BTreeMap::new();
        for (topic, groups) in table.iter() {
            for (group, queues) in groups {
                let offsets: BTreeMap<i32, i64> = queues
                    .iter()
                    .map(|(queue, cell)| (queue.to_wire(), cell.committed.load(Ordering::Relaxed)))
                    .filter(|(_, offset)| *offset >= 0)
                    .collect();
                if !offsets.is_empty() {
                    rows.insert(format!("{topic}{SEPARATOR}{group}"), offsets);
                }
            }
        }
        ConsumerOffsetTable {
            group_topic_map: BTreeMap::new(),
            data_version: *self.version.lock(),
            offset_table: rows,
        }
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

    fn has_reset(&self, topic: &TopicName, group: &GroupName, queue: QueueId) -> bool {
        let resets = self.resets.lock();
        !resets.is_empty() && resets.contains_key(&(topic.clone(), group.clone(), queue))
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

fn find<'a>(table: &'a Table, topic: &str, group: &str, queue: QueueId) -> Option<&'a Cell> {
    table.get(topic)?.get(group)?.get(&queue)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic() -> TopicName {
        TopicName::parse("t").unwrap()
    }

    fn group() -> GroupName {
        GroupName::parse("g").unwrap()
    }

    const Q: QueueId = QueueId(3);

    #[test]
    fn a_committed_position_survives_a_restart_and_a_pulled_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let offsets = Offsets::open(dir.path()).unwrap();
        assert_eq!(offsets.committed("t", "g", Q), None);
        offsets.pulled(&topic(), &group(), Q, 9);
        assert!(offsets.to_body().offset_table.is_empty());
        assert!(offsets.commit(&topic(), &group(), Q, 5));
        offsets.flush(UnixMillis(1)).unwrap();
        let again = Offsets::open(dir.path()).unwrap();
        let position = again.position("t", "g", Q);
        assert_eq!((position.committed, position.pulled), (Some(5), None));
        assert_eq!(again.to_body(), offsets.to_body());
    }

    #[test]
    fn apaches_file_with_bare_keys_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{"dataVersion":{"counter":1,"stateVersion":0,"timestamp":1},"offsetTable":{"%RETRY%g@g":{0:5,1:7},"broken":{0:1}}}"#;
        std::fs::write(dir.path().join("consumerOffset.json"), text).unwrap();
        let offsets = Offsets::open(dir.path()).unwrap();
        assert_eq!(offsets.committed("%RETRY%g", "g", QueueId(1)), Some(7));
        assert_eq!(
            offsets.topics_of("g"),
            [TopicName::parse("%RETRY%g").unwrap()]
        );
    }

    #[test]
    fn a_lower_position_is_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let offsets = Offsets::open(dir.path()).unwrap();
        offsets.commit(&topic(), &group(), Q, 5);
        offsets.commit(&topic(), &group(), Q, 2);
        assert_eq!(offsets.committed("t", "g", Q), Some(2));
    }

    #[test]
    fn a_reset_holds_against_commits_until_the_group_has_pulled_there() {
        let dir = tempfile::tempdir().unwrap();
        let offsets = Offsets::open(dir.path()).unwrap();
        offsets.reset(&topic(), &group(), &[(Q, 2)]);
        assert!(!offsets.commit(&topic(), &group(), Q, 50));
        assert_eq!(offsets.committed("t", "g", Q), Some(2));
        assert_eq!(offsets.take_reset(&topic(), &group(), Q), Some(2));
        assert_eq!(offsets.take_reset(&topic(), &group(), Q), None);
        assert!(offsets.commit(&topic(), &group(), Q, 3));
    }

    #[test]
    fn the_last_order_of_an_administrator_counts() {
        let dir = tempfile::tempdir().unwrap();
        let offsets = Offsets::open(dir.path()).unwrap();
        offsets.reset(&topic(), &group(), &[(Q, 2)]);
        offsets.reset(&topic(), &group(), &[(Q, 7)]);
        assert_eq!(offsets.committed("t", "g", Q), Some(7));
        let other = GroupName::parse("h").unwrap();
        offsets.commit(&topic(), &other, Q, 4);
        offsets.copy(&topic(), &other, &group());
        assert_eq!(offsets.committed("t", "g", Q), Some(4));
        assert_eq!(offsets.take_reset(&topic(), &group(), Q), None);
    }

    #[test]
    fn an_order_ends_with_its_topic_or_its_group() {
        let dir = tempfile::tempdir().unwrap();
        let offsets = Offsets::open(dir.path()).unwrap();
        offsets.reset(&topic(), &group(), &[(Q, 2)]);
        offsets.forget_group("g");
        assert!(offsets.commit(&topic(), &group(), Q, 1));
        offsets.reset(&topic(), &group(), &[(Q, 2)]);
        offsets.forget_topic("t");
        assert!(offsets.commit(&topic(), &group(), Q, 1));
        assert_eq!(offsets.take_reset(&topic(), &group(), Q), None);
    }

    #[test]
    fn deleted_topics_and_groups_leave_no_position() {
        let dir = tempfile::tempdir().unwrap();
        let offsets = Offsets::open(dir.path()).unwrap();
        offsets.commit(&topic(), &group(), Q, 5);
        offsets.copy(&topic(), &group(), &GroupName::parse("h").unwrap());
        offsets.forget_group("g");
        assert_eq!(offsets.groups_of("t"), [GroupName::parse("h").unwrap()]);
        offsets.forget_topic("t");
        assert!(offsets.groups_of("t").is_empty());
    }
}

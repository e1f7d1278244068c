//! How far the messages of each delay level were delivered: `delayOffset.json`.
//!
//! A position advances only after its delivery was promised; it is written every few seconds, so a crash repeats
//! deliveries and loses none.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use parking_lot::Mutex;
use rocket_protocol::body::DelayOffsetTable;
use rocket_protocol::name::system_topic;
use rocket_protocol::{QueueId, TopicName, UnixMillis};

use super::file::{FileError, JsonFile};
use super::next_version;

#[derive(Debug)]
struct State {
    table: DelayOffsetTable,
    /// In a group, what the changes that were applied come to: the table of a master runs ahead of it.
    folded: BTreeMap<i32, i64>,
    is_changed: bool,
    /// Levels that moved since the log was told.
    moved: BTreeSet<i32>,
}

/// See the module.
#[derive(Debug)]
pub struct DelayOffsets {
    file: JsonFile,
    state: Mutex<State>,
}

impl DelayOffsets {
    /// Reads `delayOffset.json` in `dir`.
    pub(super) fn open(dir: &Path) -> Result<Self, FileError> {
        let file = JsonFile::new(dir, "delayOffset.json")?;
        let table = file.load(DelayOffsetTable::parse)?.unwrap_or_default();
        Ok(Self {
            file,
            state: Mutex::new(State {
                folded: table.offset_table.clone(),
                table,
                is_changed: false,
                moved: BTreeSet::new(),
            }),
        })
    }

    /// What is delivered next of a level; levels count from 1.
    pub fn get(&self, level: i32) -> i64 {
        let state = self.state.lock();
        let offset = state.table.offset_table.get(&level);
        offset.copied().unwrap_or(0).max(0)
    }

    /// Remembers what is delivered next of a level.
    pub fn set(&self, level: i32, offset: i64) {
        let mut state = self.state.lock();
        if state.table.offset_table.insert(level, offset) != Some(offset) {
            state.is_changed = true;
            state.moved.insert(level);
        }
    }

    /// Lowers positions that lie behind the end of their queue; returns how many did.
    pub(super) fn lower(&self, end: &dyn Fn(&TopicName, QueueId) -> i64) -> usize {
        let Ok(topic) = TopicName::parse(system_topic::SCHEDULE) else {
            return 0;
        };
        let mut lowered = 0;
        for (level, position) in self.positions() {
            let end = QueueId::from_wire(level - 1).map_or(0, |queue| end(&topic, queue));
            if position > end {
                self.set(level, end);
                lowered += 1;
            }
        }
        lowered
    }

    /// The levels that moved since the last call, or since [`DelayOffsets::replace`].
    pub(super) fn take_moved(&self) -> BTreeMap<i32, i64> {
        let mut state = self.state.lock();
        let moved = std::mem::take(&mut state.moved);
        let now = &state.table.offset_table;
        let of = |level: i32| now.get(&level).map(|offset| (level, *offset));
        moved.into_iter().filter_map(of).collect()
    }

    /// What was taken could not be told.
    pub(super) fn put_back(&self, levels: impl IntoIterator<Item = i32>) {
        self.state.lock().moved.extend(levels);
    }

    /// Positions from the log.
    pub(super) fn follow(&self, levels: &BTreeMap<i32, i64>) {
        let mut state = self.state.lock();
        state.table.offset_table.extend(levels);
        state.folded.extend(levels);
        state.is_changed = true;
    }

    /// Positions from the log that this master told it: what is in memory is newer.
    pub(super) fn follow_own(&self, levels: &BTreeMap<i32, i64>) {
        self.state.lock().folded.extend(levels);
    }

    /// What the changes that were applied come to, without what moved since.
    pub(super) fn folded(&self) -> BTreeMap<i32, i64> {
        self.state.lock().folded.clone()
    }

    /// Positions that were folded elsewhere, and no others.
    pub(super) fn replace(&self, levels: BTreeMap<i32, i64>) {
        let mut state = self.state.lock();
        state.folded.clone_from(&levels);
        state.table.offset_table = levels;
        state.is_changed = true;
        state.moved.clear();
    }

    /// All positions by level.
    pub fn positions(&self) -> BTreeMap<i32, i64> {
        self.state.lock().table.offset_table.clone()
    }

    /// The file's text and the answer to GET_ALL_DELAY_OFFSET.
    pub fn to_body(&self) -> DelayOffsetTable {
        self.state.lock().table.clone()
    }

    /// Writes the file if a position changed since the last time.
    pub(super) fn flush(&self, now: UnixMillis) -> Result<(), FileError> {
        let text = {
            let mut state = self.state.lock();
            if !state.is_changed {
                return Ok(());
            }
            state.is_changed = false;
            state.table.data_version = next_version(state.table.data_version, now);
            state.table.to_json()
        };
        let saved = self.file.save(&text);
        if saved.is_err() {
            self.state.lock().is_changed = true;
        }
        saved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let offsets = DelayOffsets::open(dir.path()).unwrap();
        assert_eq!(offsets.get(3), 0);
        offsets.set(3, 17);
        offsets.flush(UnixMillis(1)).unwrap();
        assert_eq!(DelayOffsets::open(dir.path()).unwrap().get(3), 17);
    }

    #[test]
    fn positions_behind_the_ends_of_their_queues_are_lowered_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let offsets = DelayOffsets::open(dir.path()).unwrap();
        offsets.set(1, 4);
        offsets.set(3, 17);
        let end = |topic: &TopicName, queue| {
            assert_eq!(topic.as_str(), "SCHEDULE_TOPIC_XXXX");
            if queue == QueueId(2) { 5 } else { 9 }
        };
        assert_eq!(offsets.lower(&end), 1);
        assert_eq!((offsets.get(1), offsets.get(3)), (4, 5));
    }
}

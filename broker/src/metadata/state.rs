//! What a prefix of the changes comes to: a pure fold, and its whole value as parts of a snapshot.
//!
//! `fold(all) == fold(from a snapshot)`: a snapshot holds what all changes before [`Part::at`](super::change::Part) came to, wherever in the log
//! it lies itself, so whoever begins with it goes on there. Parts change nothing in a state.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::change::{Change, Content, GroupChange, Moved, Positions, Queues, Record, TopicChange};
use super::shared::Fold;
use super::{groups, topics};

/// Between topic and group in keys of positions; no name contains it.
pub(super) const SEPARATOR: char = '@';
/// What a position takes in a change, at most, beside the key of its row.
const POSITION_BYTES: usize = 30;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct State {
    pub(super) topics: topics::Table,
    pub(super) groups: groups::Table,
    pub(super) positions: Positions,
    /// Those that an administrator set and that the group was not told of yet.
    pub(super) orders: Queues,
    /// What is delivered next of each delay level.
    pub(super) delay: BTreeMap<i32, i64>,
    /// Before which offset of the log the messages of a topic are hidden: where it was deleted last.
    pub(super) hidden: BTreeMap<String, u64>,
}

impl State {
    /// Makes a change that lies at `physical` in the log.
    pub(super) fn apply(&mut self, record: &Record, physical: u64) {
        match &record.change {
            Change::Topics(change) => {
                self.topics.fold(change, record.stamp);
                if let TopicChange::Delete(topic) = change {
                    self.forget_topic(topic);
                    hide(&mut self.hidden, topic, physical);
                }
            }
            Change::Groups(change) => {
                self.groups.fold(change, record.stamp);
                if let GroupChange::Delete {
                    group,
                    forgets_positions: true,
                } = change
                {
                    self.forget_group(group);
                }
            }
            Change::Positions(Moved {
                rows,
                orders,
                delay,
            }) => {
                self.put_positions(rows);
                self.put_orders(rows, orders);
                self.delay.extend(delay);
            }
            Change::Part(_) => {}
        }
    }

    /// Takes over a part of a snapshot.
    pub(super) fn add(&mut self, content: Content) {
        self.topics.version = content.topics_version;
        self.groups.version = content.groups_version;
        for topic in content.topics {
            self.topics.put(topic);
        }
        for group in content.groups {
            self.groups.put(group);
        }
        for (group, topics) in content.forbidden {
            if !topics.is_empty() {
                self.groups
                    .forbidden
                    .entry(group)
                    .or_default()
                    .extend(topics);
            }
        }
        self.put_positions(&content.positions);
        for (key, queues) in content.orders {
            if !queues.is_empty() {
                self.orders.entry(key).or_default().extend(queues);
            }
        }
        self.delay.extend(content.delay);
        for (topic, offset) in content.hidden {
            hide(&mut self.hidden, &topic, offset);
        }
    }

    /// Its parts, each of about so many bytes; at least one.
    pub(super) fn split(&self, bytes: usize) -> Vec<Content> {
        let mut parts = Parts {
            bytes_max: bytes,
            versions: self.nothing(),
            done: Vec::new(),
            part: Content::default(),
            bytes: 0,
        };
        parts.part = parts.versions.clone();
        let mut topics: Vec<_> = self.topics.topics.values().collect();
        topics.sort_unstable_by(|a, b| a.topic_name.cmp(&b.topic_name));
        for topic in topics {
            let len = serde_json::to_vec(&**topic).map_or(0, |text| text.len());
            parts.room(len).topics.push((**topic).clone());
        }
        let mut groups: Vec<_> = self.groups.groups.values().collect();
        groups.sort_unstable_by(|a, b| a.group_name.cmp(&b.group_name));
        for group in groups {
            let len = serde_json::to_vec(&**group).map_or(0, |text| text.len());
            parts.room(len).groups.push((**group).clone());
        }
        for (group, topics) in &self.groups.forbidden {
            for (topic, bits) in topics {
                let of_group = &mut parts.room(group.len() + topic.len() + 30).forbidden;
                let topics = of_group.entry(group.clone()).or_default();
                topics.insert(topic.clone(), *bits);
            }
        }
        for (key, queues) in &self.positions {
            for (queue, offset) in queues {
                let row = &mut parts.room(POSITION_BYTES).positions;
                if let Some(row) = row.get_mut(key) {
                    row.insert(*queue, *offset);
                } else {
                    row.insert(key.clone(), BTreeMap::from([(*queue, *offset)]));
                    parts.bytes += key.len();
                }
            }
        }
        for (key, queues) in &self.orders {
            for queue in queues {
                let orders = &mut parts.room(key.len() + POSITION_BYTES).orders;
                orders.entry(key.clone()).or_default().insert(*queue);
            }
        }
        for (level, offset) in &self.delay {
            parts.room(POSITION_BYTES).delay.insert(*level, *offset);
        }
        for (topic, offset) in &self.hidden {
            let hidden = &mut parts.room(topic.len() + POSITION_BYTES).hidden;
            hidden.insert(topic.clone(), *offset);
        }
        parts.done.push(parts.part);
        parts.done
    }

    /// A part that adds nothing.
    pub(super) fn nothing(&self) -> Content {
        Content {
            topics_version: self.topics.version,
            groups_version: self.groups.version,
            ..Content::default()
        }
    }

    fn put_positions(&mut self, rows: &Positions) {
        for (key, queues) in rows {
            let row = self.positions.entry(key.clone()).or_default();
            for (queue, offset) in queues {
                if *offset < 0 {
                    row.remove(queue);
                } else {
                    row.insert(*queue, *offset);
                }
            }
            if row.is_empty() {
                self.positions.remove(key);
            }
        }
    }

    /// A position that comes without an order takes the place of one that had one.
    fn put_orders(&mut self, rows: &Positions, orders: &Queues) {
        if self.orders.is_empty() && orders.is_empty() {
            return;
        }
        for (key, queues) in rows {
            let ordered = orders.get(key);
            let known = self.orders.entry(key.clone()).or_default();
            for (queue, offset) in queues {
                if *offset >= 0 && ordered.is_some_and(|ordered| ordered.contains(queue)) {
                    known.insert(*queue);
                } else {
                    known.remove(queue);
                }
            }
            if known.is_empty() {
                self.orders.remove(key);
            }
        }
    }

    fn forget_topic(&mut self, topic: &str) {
        let begin = format!("{topic}{SEPARATOR}");
        let from = (Bound::Included(begin.as_str()), Bound::Unbounded);
        let rows = self.positions.range::<str, _>(from);
        let keys: Vec<String> = rows
            .map(|(key, _)| key.clone())
            .take_while(|key| key.starts_with(&begin))
            .collect();
        for key in keys {
            self.positions.remove(&key);
        }
        self.orders.retain(|key, _| !key.starts_with(&begin));
    }

    fn forget_group(&mut self, group: &str) {
        let is_other = |key: &str| key.split_once(SEPARATOR).is_none_or(|(_, of)| of != group);
        self.positions.retain(|key, _| is_other(key));
        self.orders.retain(|key, _| is_other(key));
    }
}

/// Hides messages of a topic before `offset`, and those that are hidden already.
pub(super) fn hide(hidden: &mut BTreeMap<String, u64>, topic: &str, offset: u64) {
    if let Some(known) = hidden.get_mut(topic) {
        *known = offset.max(*known);
    } else {
        hidden.insert(topic.to_owned(), offset);
    }
}

struct Parts {
    bytes_max: usize,
    /// What each part begins with.
    versions: Content,
    done: Vec<Content>,
    part: Content,
    bytes: usize,
}

impl Parts {
    /// The part that so many more bytes go to.
    fn room(&mut self, bytes: usize) -> &mut Content {
        if self.bytes > 0 && self.bytes + bytes > self.bytes_max {
            let full = std::mem::replace(&mut self.part, self.versions.clone());
            self.done.push(full);
            self.bytes = 0;
        }
        self.bytes += bytes;
        &mut self.part
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use rocket_protocol::body::{SubscriptionGroupConfig, TopicConfig};

    use super::super::change::{Part, Stamp, VERSION};
    use super::*;

    fn topic(number: u8, queues: i32) -> TopicConfig {
        TopicConfig {
            topic_name: format!("t{number}"),
            read_queue_nums: queues,
            ..TopicConfig::default()
        }
    }

    fn group(number: u8, retries: i32) -> SubscriptionGroupConfig {
        SubscriptionGroupConfig {
            group_name: format!("g{number}"),
            retry_max_times: retries,
            ..SubscriptionGroupConfig::default()
        }
    }

    /// Few names, so that changes meet.
    fn change() -> impl Strategy<Value = Change> {
        let small = 0..4_u8;
        prop_oneof![
            (small.clone(), 1..9_i32, 1..5_u64).prop_map(|(number, queues, max)| {
                Change::Topics(TopicChange::Create {
                    topic: topic(number, queues),
                    max,
                })
            }),
            (small.clone(), 1..9_i32).prop_map(|(number, queues)| {
                Change::Topics(TopicChange::Put(vec![topic(number, queues)]))
            }),
            small
                .clone()
                .prop_map(|number| Change::Topics(TopicChange::Delete(format!("t{number}")))),
            Just(Change::Topics(TopicChange::Renew)),
            (small.clone(), 1..9_i32, 1..5_u64).prop_map(|(number, retries, max)| {
                Change::Groups(GroupChange::Create {
                    group: Box::new(group(number, retries)),
                    max,
                })
            }),
            (small.clone(), 1..9_i32).prop_map(|(number, retries)| {
                Change::Groups(GroupChange::Put(vec![group(number, retries)]))
            }),
            (small.clone(), any::<bool>()).prop_map(|(number, forgets_positions)| {
                Change::Groups(GroupChange::Delete {
                    group: format!("g{number}"),
                    forgets_positions,
                })
            }),
            (small.clone(), small, 0..3_i32, -1..50_i64, any::<bool>()).prop_map(
                |(topic, group, queue, to, is_order)| {
                    let key = format!("t{topic}@g{group}");
                    let order = is_order.then(|| (key.clone(), BTreeSet::from([queue])));
                    Change::Positions(Moved {
                        rows: Positions::from([(key, BTreeMap::from([(queue, to)]))]),
                        orders: order.into_iter().collect(),
                        delay: BTreeMap::from([(queue + 1, to.max(0))]),
                    })
                }
            ),
        ]
    }

    fn record(number: usize, change: Change) -> Record {
        Record {
            v: VERSION,
            writer: 1,
            number: number as u64,
            stamp: Stamp {
                at: i64::try_from(number).unwrap(),
                counter: i64::try_from(number % 5).unwrap(),
            },
            change,
        }
    }

    fn folded<'a>(mut state: State, records: impl IntoIterator<Item = (u64, &'a Record)>) -> State {
        for (offset, record) in records {
            state.apply(record, offset * 100);
        }
        state
    }

    proptest! {
        #[test]
        fn folding_all_is_folding_from_any_snapshot(
            changes in proptest::collection::vec(change(), 0..60),
            cut in 0..61_usize,
            bytes in 1..2000_usize,
        ) {
            let records: Vec<_> = changes
                .into_iter()
                .enumerate()
                .map(|(number, change)| record(number, change))
                .collect();
            let numbered = || (0..).zip(&records);
            let all = folded(State::default(), numbered());
            let cut = cut.min(records.len());
            let before = folded(State::default(), numbered().take(cut));
            let mut snapshot = State::default();
            let parts = before.split(bytes);
            let of = u32::try_from(parts.len()).unwrap();
            for (content, number) in parts.into_iter().zip(0..) {
                // As it goes through the log.
                let part = Part { id: 1, at: 0, physical: 0, number, of, content, queues: None };
                let record = record(0, Change::Part(Box::new(part)));
                let read = Record::decode(&record.encode().unwrap()).unwrap();
                let Change::Part(part) = read.change else { panic!("a part") };
                snapshot.add(part.content);
            }
            prop_assert_eq!(&snapshot, &before);
            prop_assert_eq!(folded(snapshot, numbered().skip(cut)), all);
        }

        #[test]
        fn versions_grow_with_each_change_whatever_the_clocks_say(
            changes in proptest::collection::vec((change(), 0..100_i64), 1..30),
        ) {
            let mut state = State::default();
            for (number, (change, at)) in changes.into_iter().enumerate() {
                let before = state.clone();
                let mut record = record(number, change);
                record.stamp.at = at;
                state.apply(&record, 0);
                if state.topics.topics != before.topics.topics {
                    prop_assert!(state.topics.version.counter > before.topics.version.counter);
                }
                if state.groups.groups != before.groups.groups {
                    prop_assert!(state.groups.version.counter > before.groups.version.counter);
                }
            }
        }
    }

    #[test]
    fn a_part_is_about_as_long_as_wanted() {
        let mut state = State::default();
        for number in 0..200 {
            state.topics.put(topic(number, 4));
        }
        let parts = state.split(4000);
        assert!(parts.len() > 5);
        for part in parts {
            assert!(serde_json::to_vec(&part).unwrap().len() < 5000);
        }
    }

    #[test]
    fn a_deleted_topic_takes_its_own_positions_along_and_no_others() {
        let mut state = State::default();
        let row = || BTreeMap::from([(0, 1)]);
        for key in ["t@g", "t-1@g", "s@t"] {
            state.positions.insert(key.to_owned(), row());
            let order = BTreeSet::from([0]);
            state.orders.insert(key.to_owned(), order);
        }
        let delete = Change::Topics(TopicChange::Delete("t".to_owned()));
        state.apply(&record(0, delete), 77);
        let keys: Vec<_> = state.positions.keys().collect();
        assert_eq!(keys, ["s@t", "t-1@g"]);
        assert!(state.orders.keys().eq(keys));
        assert_eq!(state.hidden["t"], 77);
    }
}

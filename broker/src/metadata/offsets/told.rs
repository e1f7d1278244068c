//! Positions in a group of replicas: which moved, so that the master tells the log of them, and what the log tells.

use std::sync::atomic::Ordering;

use rocket_protocol::{GroupName, QueueId, TopicName};

use super::{Key, NONE, Offsets, find, names, row_key, table_of};
use crate::metadata::change::{Positions, Queues};

impl Offsets {
    /// From now on moved positions are noted for [`Offsets::take_moved`], or not any more.
    pub(in crate::metadata) fn note(&self, is_noting: bool) {
        self.is_noting.store(is_noting, Ordering::SeqCst);
        if !is_noting {
            let moved = std::mem::take(&mut *self.moved.lock());
            let table = self.table.read();
            for (topic, group, queue) in moved {
                if let Some(cell) = find(&table, topic.as_str(), group.as_str(), queue) {
                    cell.is_noted.store(false, Ordering::SeqCst);
                }
            }
        }
    }

    /// Takes at most `max` of the positions that moved; a negative one says that there is none any more. And which of them their groups
    /// were not told of yet.
    pub(in crate::metadata) fn take_moved(&self, max: usize) -> (Positions, Queues) {
        let taken: Vec<Key> = {
            let mut moved = self.moved.lock();
            let rest = moved.len().saturating_sub(max);
            moved.split_off(rest)
        };
        let table = self.table.read();
        let (mut rows, mut orders) = (Positions::new(), Queues::new());
        for (topic, group, queue) in taken {
            let cell = find(&table, topic.as_str(), group.as_str(), queue);
            let offset = cell.map_or(NONE, |cell| {
                // Before it is read: what moves it after that notes it again.
                cell.is_noted.store(false, Ordering::SeqCst);
                cell.committed.load(Ordering::SeqCst)
            });
            let key = row_key(&topic, &group);
            if offset >= 0 && self.has_reset(&topic, &group, queue) {
                let of_row = orders.entry(key.clone()).or_default();
                of_row.insert(queue.to_wire());
            }
            let row = rows.entry(key).or_default();
            row.insert(queue.to_wire(), offset);
        }
        (rows, orders)
    }

    /// What was taken could not be told.
    pub(in crate::metadata) fn put_back(&self, rows: &Positions) {
        let table = self.table.read();
        for (topic, group, queues) in names(rows) {
            for queue in queues.keys().filter_map(|queue| QueueId::from_wire(*queue)) {
                match find(&table, topic.as_str(), group.as_str(), queue) {
                    Some(cell) if cell.is_noted.swap(true, Ordering::SeqCst) => {}
                    _ => self
                        .moved
                        .lock()
                        .push((topic.clone(), group.clone(), queue)),
                }
            }
        }
    }

    /// Positions from the log, of which `orders` are to be told to their groups.
    pub(in crate::metadata) fn follow(&self, rows: &Positions, orders: &Queues) {
        self.follow_orders(rows, orders);
        for (topic, group, queues) in names(rows) {
            for (queue, offset) in queues {
                let Some(queue) = QueueId::from_wire(*queue) else {
                    continue;
                };
                if *offset < 0 {
                    self.forget(&topic, &group, queue);
                } else {
                    self.set(&topic, &group, queue, |cell| {
                        cell.committed.store(*offset, Ordering::Relaxed);
                        cell.folded.store(*offset, Ordering::Relaxed);
                    });
                }
            }
        }
        self.is_changed.store(true, Ordering::Relaxed);
    }

    /// Positions from the log that this master told it: what is in memory is newer.
    pub(in crate::metadata) fn follow_own(&self, rows: &Positions) {
        let table = self.table.read();
        for (topic, group, queues) in names(rows) {
            for (queue, offset) in queues {
                let queue = QueueId::from_wire(*queue);
                let cell =
                    queue.and_then(|queue| find(&table, topic.as_str(), group.as_str(), queue));
                if let Some(cell) = cell {
                    cell.folded.store((*offset).max(NONE), Ordering::Relaxed);
                }
            }
        }
    }

    /// What the changes that were applied come to, without what moved since.
    pub(in crate::metadata) fn folded(&self) -> Positions {
        self.rows(|cell| &cell.folded)
    }

    /// Positions that were folded elsewhere, and no others.
    pub(in crate::metadata) fn replace(&self, rows: &Positions, orders: &Queues) {
        *self.table.write() = table_of(rows);
        self.resets.lock().clear();
        self.follow_orders(rows, orders);
        self.moved.lock().clear();
        self.is_changed.store(true, Ordering::Relaxed);
    }

    fn forget(&self, topic: &TopicName, group: &GroupName, queue: QueueId) {
        let mut table = self.table.write();
        if let Some(groups) = table.get_mut(topic) {
            if let Some(queues) = groups.get_mut(group) {
                queues.remove(&queue);
                if queues.is_empty() {
                    groups.remove(group);
                }
            }
            if groups.is_empty() {
                table.remove(topic);
            }
        }
    }

    /// What was told of these before they went may lie in the log behind the change that took them: it is taken back.
    pub(super) fn note_gone(
        &self,
        topic: &TopicName,
        group: &GroupName,
        queues: impl Iterator<Item = QueueId>,
    ) {
        if self.is_noting.load(Ordering::Relaxed) {
            let keys = queues.map(|queue| (topic.clone(), group.clone(), queue));
            self.moved.lock().extend(keys);
        }
    }
}

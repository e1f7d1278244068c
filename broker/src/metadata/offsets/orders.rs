//! Orders of an administrator: positions that the clients of a group are told at their next pull. Until then commits of clients who do not
//! know of them are void. In a group the log has them with their positions, so that whoever is master tells them.

use std::sync::atomic::Ordering;

use rocket_protocol::{GroupName, QueueId, TopicName};

use super::{Cell, Offsets, find, names, row_key};
use crate::metadata::change::{Positions, Queues};

impl Offsets {
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
        let taken = {
            let mut resets = self.resets.lock();
            if resets.is_empty() {
                return None;
            }
            resets.remove(&(topic.clone(), group.clone(), queue))?
        };
        // It is told once, also by the next master.
        let is_noting = self.is_noting.load(Ordering::Relaxed);
        let table = self.table.read();
        let cell = find(&table, topic.as_str(), group.as_str(), queue);
        if is_noting && cell.is_some_and(|cell| !cell.is_noted.swap(true, Ordering::SeqCst)) {
            let key = (topic.clone(), group.clone(), queue);
            self.moved.lock().push(key);
        }
        Some(taken)
    }

    pub(super) fn has_reset(&self, topic: &TopicName, group: &GroupName, queue: QueueId) -> bool {
        let resets = self.resets.lock();
        !resets.is_empty() && resets.contains_key(&(topic.clone(), group.clone(), queue))
    }

    /// Orders that come with positions from the log. A position that comes without one was told, or needs not be.
    pub(super) fn follow_orders(&self, rows: &Positions, orders: &Queues) {
        let mut resets = self.resets.lock();
        if resets.is_empty() && orders.is_empty() {
            return;
        }
        for (topic, group, queues) in names(rows) {
            let ordered = orders.get(&row_key(&topic, &group));
            for (queue, offset) in queues {
                let Some(id) = QueueId::from_wire(*queue) else {
                    continue;
                };
                let key = (topic.clone(), group.clone(), id);
                if *offset >= 0 && ordered.is_some_and(|ordered| ordered.contains(queue)) {
                    resets.insert(key, *offset);
                } else {
                    resets.remove(&key);
                }
            }
        }
    }

    /// Which positions their groups are to be told of yet.
    pub(in crate::metadata) fn orders(&self) -> Queues {
        self.orders_where(|_, _| true)
    }

    /// As [`Offsets::orders`], of what the changes that were applied come to.
    pub(in crate::metadata) fn folded_orders(&self) -> Queues {
        self.orders_where(|cell, offset| cell.folded.load(Ordering::Relaxed) == offset)
    }

    fn orders_where(&self, counts: impl Fn(&Cell, i64) -> bool) -> Queues {
        let table = self.table.read();
        let mut orders = Queues::new();
        for ((topic, group, queue), offset) in &*self.resets.lock() {
            let cell = find(&table, topic.as_str(), group.as_str(), *queue);
            if cell.is_some_and(|cell| counts(cell, *offset)) {
                let of_row = orders.entry(row_key(topic, group)).or_default();
                of_row.insert(queue.to_wire());
            }
        }
        orders
    }
}

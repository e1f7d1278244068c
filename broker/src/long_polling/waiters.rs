//! The table of waiters, pure: one slab, and through it lists by index. Each waiter is in the list of its queue, for
//! arrivals, and in one slot of a timer wheel, for its deadline; a woken one is in the list of the woken until somebody takes
//! it out. To park, to wake and to take are a few writes each, whatever waits beside; a waiter is moved twice in its life.
//!
//! Queues are told apart by a keyed 64-bit hash of their name, so that a look-up needs no text; waiters of two queues with
//! one hash share a list and are told apart by [`Waiting::queue`].

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::BuildHasherDefault;

use rocket_protocol::{QueueId, TopicName};

use super::lists::{AsItIs, Links, List, NONE, WHEEL_SLOTS, slot_of, turn_of};
use super::{ElapsedMillis, Waiting, Wake};

/// Places that an empty table keeps.
const KEPT_MAX: usize = 64;
/// Names a waiter as long as it is parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name {
    index: u32,
    id: u64,
}

/// A message that has become visible.
pub(super) struct Arrived<'a> {
    pub(super) topic: &'a TopicName,
    pub(super) queue_id: QueueId,
    pub(super) queue_offset: u64,
    pub(super) tags_code: i64,
}

/// `None` in `woken`: parked.
struct Place<T> {
    item: Option<T>,
    woken: Option<Wake>,
    /// Never used twice in one table.
    id: u64,
    key: u64,
    deadline: ElapsedMillis,
    /// Among the waiters of the queue, the woken, or the free places.
    queue: Links,
    timer: Links,
}

/// See the module. `key` is the hash of a queue.
pub(super) struct Waiters<T> {
    places: Vec<Place<T>>,
    free: u32,
    len: usize,
    next_id: u64,
    queues: HashMap<u64, List, BuildHasherDefault<AsItIs>>,
    /// Made when the first waiter comes.
    wheel: Vec<List>,
    /// All deadlines up to here have been looked at.
    seen: ElapsedMillis,
    woken: List,
    /// Where the search for the gone goes on.
    swept: u32,
    /// Waiters whose deadlines were compared.
    #[cfg(test)]
    looked_at: usize,
}

impl<T> Default for Waiters<T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            free: NONE,
            len: 0,
            next_id: 0,
            queues: HashMap::default(),
            wheel: Vec::new(),
            seen: ElapsedMillis(i64::MAX),
            woken: List::EMPTY,
            swept: 0,
            #[cfg(test)]
            looked_at: 0,
        }
    }
}

impl<T: Waiting> Waiters<T> {
    /// Parks `item` in the queue of `key` until `deadline`.
    pub(super) fn park(&mut self, key: u64, deadline: ElapsedMillis, item: T) -> Name {
        if self.wheel.is_empty() {
            self.wheel = vec![List::EMPTY; WHEEL_SLOTS];
        }
        let (index, id) = (self.place(), self.next_id);
        self.next_id += 1;
        if let Some(place) = self.at(index) {
            place.item = Some(item);
            place.woken = None;
            place.key = key;
            place.deadline = deadline;
            place.queue = Links::NONE;
            place.timer = Links::NONE;
            place.id = id;
        }
        self.len += 1;
        let mut list = self.queues.get(&key).copied().unwrap_or(List::EMPTY);
        self.append(&mut list, index, queue_links);
        self.queues.insert(key, list);
        let slot = slot_of(deadline);
        let mut list = self.wheel.get(slot).copied().unwrap_or(List::EMPTY);
        self.append(&mut list, index, timer_links);
        self.set_slot(slot, list);
        // A deadline that has passed already is found at the next look.
        self.seen = self.seen.min(deadline);
        Name { index, id }
    }

    /// Takes out a waiter that is still parked.
    pub(super) fn take(&mut self, name: Name) -> Option<T> {
        let place = self.at(name.index)?;
        if place.id != name.id || place.woken.is_some() || place.item.is_none() {
            return None;
        }
        self.unpark(name.index);
        self.vacate(name.index)
    }

    /// Wakes those of the queue of `key` that want the message, in the order of their coming. Returns how many.
    pub(super) fn arrived(&mut self, key: u64, message: &Arrived<'_>) -> usize {
        let Some(list) = self.queues.get(&key) else {
            return 0;
        };
        let (mut at, mut count) = (list.first, 0);
        while let Some(place) = self.at(at) {
            let (index, after) = (at, place.queue.after);
            at = after;
            let wants = place.item.as_ref().is_some_and(|item| {
                item.queue() == (message.topic, message.queue_id)
                    && item.wants(message.queue_offset, message.tags_code)
            });
            if wants {
                self.wake(index, Wake::Arrival);
                count += 1;
            }
        }
        count
    }

    /// Wakes those whose deadline is `now` or earlier. Returns how many.
    pub(super) fn expire(&mut self, now: ElapsedMillis) -> usize {
        if self.len == 0 || self.seen > now {
            return 0;
        }
        let (from, to) = (turn_of(self.seen), turn_of(now));
        let turns = to.saturating_sub(from).saturating_add(1);
        let slots = usize::try_from(turns).map_or(WHEEL_SLOTS, |turns| turns.min(WHEEL_SLOTS));
        let mut count = 0;
        for step in 0..slots {
            let slot = (slot_of(self.seen) + step) % WHEEL_SLOTS;
            let mut at = self.wheel.get(slot).map_or(NONE, |list| list.first);
            while let Some(place) = self.at(at) {
                let (index, deadline) = (at, place.deadline);
                at = place.timer.after;
                #[cfg(test)]
                {
                    self.looked_at += 1;
                }
                if deadline <= now {
                    self.wake(index, Wake::Deadline);
                    count += 1;
                }
            }
        }
        self.seen = now;
        count
    }

    /// Wakes all.
    pub(super) fn wake_all(&mut self) -> usize {
        let all = u32::try_from(self.places.len()).unwrap_or(NONE);
        let parked: Vec<u32> = (0..all)
            .filter(|index| {
                self.place_at(*index)
                    .is_some_and(|place| place.item.is_some() && place.woken.is_none())
            })
            .collect();
        for index in &parked {
            self.wake(*index, Wake::Deadline);
        }
        parked.len()
    }

    /// Whether [`Self::next_woken`] has something.
    pub(super) fn has_woken(&self) -> bool {
        self.woken.first != NONE
    }

    /// Takes out the woken that has waited longest for it.
    pub(super) fn next_woken(&mut self) -> Option<(T, Wake)> {
        let index = self.woken.first;
        let why = self.at(index)?.woken?;
        let mut list = self.woken;
        self.remove(&mut list, index, queue_links);
        self.woken = list;
        Some((self.vacate(index)?, why))
    }

    /// Looks at the next `count` places for waiters that are gone, and drops them. Returns how many.
    pub(super) fn sweep(&mut self, count: usize) -> usize {
        let mut gone = 0;
        for _ in 0..count.min(self.places.len()) {
            let index = self.swept;
            self.swept = match self.places.len() {
                len if (index as usize) + 1 < len => index + 1,
                _ => 0,
            };
            let is_gone = self.place_at(index).is_some_and(|place| {
                place.woken.is_none() && place.item.as_ref().is_some_and(Waiting::is_gone)
            });
            if is_gone {
                self.unpark(index);
                drop(self.vacate(index));
                gone += 1;
            }
        }
        gone
    }

    /// How many are here, the woken among them.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Waiters whose deadlines were compared so far.
    #[cfg(test)]
    pub(super) fn looked_at(&self) -> usize {
        self.looked_at
    }

    /// Bytes that the table has taken for itself.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.places.capacity() * size_of::<Place<T>>()
            + self.queues.capacity() * (size_of::<(u64, List)>() + 1)
            + self.wheel.capacity() * size_of::<List>()
    }

    fn wake(&mut self, index: u32, why: Wake) {
        self.unpark(index);
        if let Some(place) = self.at(index) {
            place.woken = Some(why);
            let mut list = self.woken;
            self.append(&mut list, index, queue_links);
            self.woken = list;
        }
    }

    /// Out of its queue and of the wheel.
    fn unpark(&mut self, index: u32) {
        let Some((key, slot)) = self
            .place_at(index)
            .map(|place| (place.key, slot_of(place.deadline)))
        else {
            return;
        };
        if let Some(mut list) = self.wheel.get(slot).copied() {
            self.remove(&mut list, index, timer_links);
            self.set_slot(slot, list);
        }
        if let Some(mut list) = self.queues.get(&key).copied() {
            self.remove(&mut list, index, queue_links);
            if let Entry::Occupied(mut queue) = self.queues.entry(key) {
                if list.first == NONE {
                    queue.remove();
                } else {
                    queue.insert(list);
                }
            }
        }
    }

    fn place(&mut self) -> u32 {
        let index = self.free;
        if let Some(place) = self.place_at(index) {
            self.free = place.queue.after;
            return index;
        }
        self.places.push(Place {
            item: None,
            woken: None,
            id: 0,
            key: 0,
            deadline: ElapsedMillis(0),
            queue: Links::NONE,
            timer: Links::NONE,
        });
        u32::try_from(self.places.len() - 1).unwrap_or(NONE)
    }

    fn vacate(&mut self, index: u32) -> Option<T> {
        let free = self.free;
        let place = self.at(index)?;
        let item = place.item.take();
        place.woken = None;
        place.queue = Links {
            before: NONE,
            after: free,
        };
        self.free = index;
        self.len -= 1;
        if self.len == 0 {
            self.give_back();
        }
        item
    }

    /// What a rush of waiters took.
    fn give_back(&mut self) {
        if self.places.capacity() > KEPT_MAX {
            self.places = Vec::new();
            self.free = NONE;
            self.swept = 0;
        }
        if self.queues.capacity() > KEPT_MAX {
            self.queues = HashMap::default();
        }
        self.seen = ElapsedMillis(i64::MAX);
    }

    fn place_at(&self, index: u32) -> Option<&Place<T>> {
        self.places.get(index as usize)
    }

    fn at(&mut self, index: u32) -> Option<&mut Place<T>> {
        self.places.get_mut(index as usize)
    }

    fn set_slot(&mut self, slot: usize, list: List) {
        if let Some(place) = self.wheel.get_mut(slot) {
            *place = list;
        }
    }

    fn append(&mut self, list: &mut List, index: u32, links: fn(&mut Place<T>) -> &mut Links) {
        let last = list.last;
        if let Some(place) = self.at(index) {
            *links(place) = Links {
                before: last,
                after: NONE,
            };
        }
        match self.at(last) {
            Some(place) => links(place).after = index,
            None => list.first = index,
        }
        list.last = index;
    }

    fn remove(&mut self, list: &mut List, index: u32, links: fn(&mut Place<T>) -> &mut Links) {
        let Some(Links { before, after }) = self.at(index).map(|place| *links(place)) else {
            return;
        };
        match self.at(before) {
            Some(place) => links(place).after = after,
            None => list.first = after,
        }
        match self.at(after) {
            Some(place) => links(place).before = before,
            None => list.last = before,
        }
    }
}

fn queue_links<T>(place: &mut Place<T>) -> &mut Links {
    &mut place.queue
}

fn timer_links<T>(place: &mut Place<T>) -> &mut Links {
    &mut place.timer
}

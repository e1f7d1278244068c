//! The offsets that the queues of one topic give next, side by side: whoever gives a message its place needs no more of its
//! queue, and of very many queues the queues themselves are cold.
//!
//! Eight of them share a line of the processor's cache. A row is made when the first of its queues is met, and stays where it
//! is, so that no lock is taken to find one:
//!
//! ```text
//! row         0      1       2       3       …       8            kept apart, a few bytes more each
//! number  0   1..4   4..16   16..64  64..256 …  65,536..262,144   all behind
//! ```

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;
use rocket_protocol::QueueId;

const ROWS: usize = 9;

/// See the module. A queue that was never met gives 0.
#[derive(Default)]
pub(super) struct Nexts {
    /// Of queue 0: most topics with one queue are those of a group's retries, and have no other.
    first: AtomicU64,
    more: OnceLock<Box<More>>,
}

#[derive(Default)]
struct More {
    rows: [OnceLock<Box<[AtomicU64]>>; ROWS],
    /// No topic has so many queues, but a record may name one.
    far: Mutex<HashMap<u32, AtomicU64, RandomState>>,
}

impl Nexts {
    /// The offset that the queue's next message gets.
    pub(super) fn get(&self, queue_id: QueueId) -> u64 {
        self.with(queue_id, |next| next.load(Ordering::Relaxed))
    }

    pub(super) fn set(&self, queue_id: QueueId, next: u64) {
        self.with(queue_id, |of| of.store(next, Ordering::Relaxed));
    }

    /// Raises it to at least `next`.
    pub(super) fn raise(&self, queue_id: QueueId, next: u64) {
        self.with(queue_id, |of| of.fetch_max(next, Ordering::Relaxed));
    }

    /// Gives `count` offsets away; the first of them.
    pub(super) fn give(&self, queue_id: QueueId, count: u64) -> u64 {
        self.with(queue_id, |next| next.fetch_add(count, Ordering::Relaxed))
    }

    fn with<T>(&self, QueueId(id): QueueId, run: impl FnOnce(&AtomicU64) -> T) -> T {
        if id == 0 {
            return run(&self.first);
        }
        let more = self.more.get_or_init(Box::default);
        let number = id.ilog2() / 2;
        let begin = 1 << (2 * number);
        let row = more
            .rows
            .get(number as usize)
            .map(|row| row.get_or_init(|| (begin..4 * begin).map(|_| AtomicU64::new(0)).collect()));
        match row.and_then(|row| row.get((id - begin) as usize)) {
            Some(next) => run(next),
            None => run(more.far.lock().entry(id).or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_queue_has_an_offset_of_its_own_whatever_its_number() {
        let nexts = Nexts::default();
        let near = (0..2000).chain([65_535, 65_536, 262_143, 262_144, 262_145]);
        let ids: Vec<u32> = near.chain([1 << 30, u32::MAX - 1, u32::MAX]).collect();
        for &id in &ids {
            assert_eq!(nexts.give(QueueId(id), 3), 0, "{id}");
        }
        for &id in ids.iter().rev() {
            nexts.raise(QueueId(id), 2);
            assert_eq!(nexts.get(QueueId(id)), 3, "{id}");
            nexts.raise(QueueId(id), u64::from(id) + 4);
        }
        for &id in &ids {
            assert_eq!(nexts.give(QueueId(id), 1), u64::from(id) + 4);
            nexts.set(QueueId(id), 1);
            assert_eq!(nexts.get(QueueId(id)), 1);
        }
    }

    #[test]
    fn a_number_out_of_nowhere_takes_little_memory() {
        counting::count_this_thread();
        let before = counting::counted().bytes;
        let nexts = Nexts::default();
        for id in [u32::MAX, 1 << 20, 200_000, 3] {
            nexts.give(QueueId(id), 1);
        }
        let bytes = counting::counted().bytes - before;
        assert!(bytes < 2 << 20, "{bytes}");
    }
}

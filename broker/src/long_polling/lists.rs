//! What the table of waiters is strung together with: lists by index, a wheel of time, and keys that are hashes already.

use std::hash::Hasher;

use super::ElapsedMillis;

/// Slots of the wheel and the time that each stands for: one turn takes 131 s, longer than any pull is held.
pub(super) const WHEEL_SLOTS: usize = 1024;
const SLOTS: i64 = 1024;
const SLOT_MS: i64 = 128;
/// No place.
pub(super) const NONE: u32 = u32::MAX;

/// A place's neighbours in a list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Links {
    pub(super) before: u32,
    pub(super) after: u32,
}

impl Links {
    pub(super) const NONE: Self = Self {
        before: NONE,
        after: NONE,
    };
}

/// Where a list begins and ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct List {
    pub(super) first: u32,
    pub(super) last: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self {
        first: NONE,
        last: NONE,
    };
}

/// Slots since the fixed point.
pub(super) fn turn_of(time: ElapsedMillis) -> i64 {
    time.0.div_euclid(SLOT_MS)
}

/// The slot of the wheel that a time falls into.
pub(super) fn slot_of(time: ElapsedMillis) -> usize {
    usize::try_from(turn_of(time).rem_euclid(SLOTS)).unwrap_or(0)
}

/// The keys are hashes already.
#[derive(Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

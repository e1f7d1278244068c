//! Extents that were read lately. Whoever goes through a queue finds its units here: an extent is read once, not once for
//! each pull, and the way to it is searched once for some dozens, since the search for one passes those that come next.
//!
//! Bounded: [`SHARDS`] times [`KEPT`] extents of some KiB; the one that was used longest ago goes first. Extents never
//! change, so nothing here grows old.

use parking_lot::Mutex;

use super::extent::{HEAD, Head, PackedUnit};
use crate::unit::{UNIT, Unit};

/// Queues are spread over so many locks.
const SHARDS: usize = 16;
/// Extents of one shard.
const KEPT: usize = 32;

/// Where an extent lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) position: u64,
    pub(super) first: u64,
    count: u32,
}

impl Step {
    pub(super) fn of(position: u64, head: &Head) -> Self {
        Self {
            position,
            first: head.first,
            count: head.count,
        }
    }

    /// Index behind the last unit.
    pub(super) fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }

    /// Bytes of the extent.
    pub(super) fn len(&self) -> usize {
        HEAD + self.count as usize * UNIT
    }
}

/// What is known of the extent that holds an index.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Its units were appended.
    Units,
    /// Where it lies, and the extents behind it: as in [`Extent::ahead`].
    Way(Step, Vec<Step>),
    Nothing,
}

/// An extent in memory.
pub(super) struct Extent {
    first: u64,
    /// With its head.
    bytes: Vec<u8>,
    /// The extents behind it in order, as far as they are known; the next one last.
    ahead: Vec<Step>,
}

impl Extent {
    /// The bytes at `step`, which are those that were written.
    pub(super) fn new(step: Step, bytes: Vec<u8>, ahead: Vec<Step>) -> Self {
        Self {
            first: step.first,
            bytes,
            ahead,
        }
    }

    fn units(&self) -> &[PackedUnit] {
        self.bytes.get(HEAD..).unwrap_or_default().as_chunks().0
    }

    fn holds(&self, index: u64) -> bool {
        index
            .checked_sub(self.first)
            .is_some_and(|skip| skip < self.units().len() as u64)
    }

    /// Appends at most `count` units from `index` on.
    pub(super) fn give(&self, index: u64, count: usize, units: &mut Vec<Unit>) {
        let skip = index.checked_sub(self.first).map(usize::try_from);
        let from = skip.and_then(Result::ok).unwrap_or(usize::MAX);
        let given = self.units().get(from..).unwrap_or_default().iter();
        units.extend(given.take(count).copied().map(Unit::unpack));
    }
}

#[derive(Default)]
struct Shard {
    /// With the number of the queue and when it was last used. Few, so a list that is gone through.
    kept: Vec<(u32, u64, Extent)>,
    uses: u64,
}

/// See the module.
#[derive(Default)]
pub(super) struct Recent {
    shards: [Mutex<Shard>; SHARDS],
}

impl Recent {
    fn shard(&self, slot: u32) -> &Mutex<Shard> {
        let [first, ..] = &self.shards;
        self.shards.get(slot as usize % SHARDS).unwrap_or(first)
    }

    /// Appends at most `count` units of the queue `slot` from `index` on, if they are here. Otherwise a way that is known is
    /// given away, to come back with the extent.
    pub(super) fn find(&self, slot: u32, index: u64, count: usize, out: &mut Vec<Unit>) -> Found {
        let mut shard = self.shard(slot).lock();
        let shard = &mut *shard;
        let of_queue = |(of, ..): &&mut (u32, u64, Extent)| *of == slot;
        let mut way = None;
        for (_, used, extent) in shard.kept.iter_mut().filter(of_queue) {
            if extent.holds(index) {
                shard.uses += 1;
                *used = shard.uses;
                extent.give(index, count, out);
                return Found::Units;
            }
            let at =
                (extent.ahead.iter()).rposition(|step| (step.first..step.end()).contains(&index));
            way = at.map(|at| (at, extent)).or(way);
        }
        let Some((at, extent)) = way else {
            return Found::Nothing;
        };
        extent.ahead.truncate(at + 1);
        let mut ahead = std::mem::take(&mut extent.ahead);
        match ahead.pop() {
            Some(step) => Found::Way(step, ahead),
            None => Found::Nothing,
        }
    }

    /// Keeps an extent that was read.
    pub(super) fn keep(&self, slot: u32, extent: Extent) {
        let mut shard = self.shard(slot).lock();
        shard.uses += 1;
        let entry = (slot, shard.uses, extent);
        if shard.kept.len() < KEPT {
            shard.kept.push(entry);
        } else if let Some(oldest) = shard.kept.iter_mut().min_by_key(|(_, used, _)| *used) {
            *oldest = entry;
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        for shard in &self.shards {
            *shard.lock() = Shard::default();
        }
    }
}

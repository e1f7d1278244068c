//! How units are read that are not in memory any more, and where a queue's first message is: the way back over its extents.

use std::io;
use std::sync::atomic::Ordering;

use super::super::damaged;
use super::super::extent::{Chain, HEAD, Head, NONE};
use super::super::recent::{Extent as Kept, Found, Step};
use super::super::unit_log::{Place, head_of};
use super::{Queue, Tail};
use crate::unit::Unit;

impl Queue {
    /// The unit at `index`; `None` where there is none, or not any more.
    pub(crate) fn get(&self, index: u64) -> io::Result<Option<Unit>> {
        let mut units = Vec::with_capacity(1);
        let Some(chain) = self.read_in_memory(index, 1, &mut units) else {
            return Ok(units.pop());
        };
        // Not kept: who asks for one unit does not ask for the next ones.
        let extent = self.find_extent(chain, index)?;
        extent.give(index, 1, &mut units);
        Ok(units.pop())
    }

    /// Appends to `units` at most `count` units from `index` on; fewer at the end of the queue, and where a run of units ends
    /// in the files.
    ///
    /// # Errors
    /// `InvalidData` where the files do not hold what was written.
    pub(crate) fn read(&self, index: u64, count: usize, units: &mut Vec<Unit>) -> io::Result<()> {
        let Some(chain) = self.read_in_memory(index, count, units) else {
            return Ok(());
        };
        let recent = &self.home().recent;
        let extent = match recent.find(self.slot, index, count, units) {
            Found::Units => return Ok(()),
            Found::Way(step, ahead) => self.extent_at(step, ahead)?,
            Found::Nothing => self.find_extent(chain, index)?,
        };
        extent.give(index, count, units);
        recent.keep(self.slot, extent);
        Ok(())
    }

    /// As [`Queue::read`], for who looks at many queues: nothing of what readers use is given up for it.
    pub(crate) fn look_up(
        &self,
        index: u64,
        count: usize,
        units: &mut Vec<Unit>,
    ) -> io::Result<()> {
        if let Some(chain) = self.read_in_memory(index, count, units) {
            self.find_extent(chain, index)?.give(index, count, units);
        }
        Ok(())
    }

    /// As [`Queue::read`] as far as that needs no file; otherwise says where the way to the files begins.
    fn read_in_memory(&self, index: u64, count: usize, units: &mut Vec<Unit>) -> Option<Chain> {
        let tail = self.tail.lock();
        let first = self.max() - tail.units.len() as u64;
        if let Some(skip) = index.checked_sub(first) {
            let skip = usize::try_from(skip).unwrap_or(usize::MAX);
            let tail = tail.units.get(skip..).unwrap_or_default();
            units.extend(tail.iter().take(count).copied().map(Unit::unpack));
            return None;
        }
        (index >= self.min.load(Ordering::Acquire)).then_some(tail.chain)
    }

    /// Searches the extent that holds `index`, and with it the way to the next ones.
    fn find_extent(&self, chain: Chain, index: u64) -> io::Result<Kept> {
        let mut passed = Vec::new();
        let is_behind = |position, head: &Head| {
            let is_behind = head.first > index;
            if is_behind {
                passed.push(Step::of(position, head));
            }
            is_behind
        };
        let (_, Some((position, head))) = self.walk_back(chain, is_behind)? else {
            return Err(damaged("a queue's extents"));
        };
        if index >= head.end() {
            return Err(damaged("a queue's extents"));
        }
        let step = Step::of(position, &head);
        // The last ones that were passed are its neighbours, and what came before them was further away.
        let mut next = step.end();
        let neighbours = passed.iter().rev().take_while(|step| {
            let is_next = step.first == next;
            next = step.end();
            is_next
        });
        let count = neighbours.count();
        let ahead = passed.split_off(passed.len() - count);
        self.extent_at(step, ahead)
    }

    fn extent_at(&self, step: Step, ahead: Vec<Step>) -> io::Result<Kept> {
        let place = self.home().units.read().place(step.position, step.len());
        let bytes = place.ok_or_else(|| damaged("the unit log"))?;
        let bytes = bytes.read(step.len())?;
        let head = head_of(&bytes, self.slot)?;
        let is_whole = Step::of(step.position, &head) == step
            && head.units(bytes.get(HEAD..).unwrap_or_default()).is_some();
        if is_whole {
            Ok(Kept::new(step, bytes, ahead))
        } else {
            Err(damaged("an extent"))
        }
    }

    /// Where `len` bytes of the unit log are; `None` once retention took them.
    fn place(&self, position: u64, len: usize) -> io::Result<Option<Place>> {
        // Both under one lock: between two of them the file may go.
        let units = self.home().units.read();
        if !units.reaches(position) {
            return Ok(None);
        }
        let place = units.place(position, len);
        place.map(Some).ok_or_else(|| damaged("the unit log"))
    }

    /// The units of an extent; none once retention took them.
    fn units_at(&self, position: u64, head: &Head) -> io::Result<Vec<Unit>> {
        let Some(place) = self.place(position, head.len())? else {
            return Ok(Vec::new());
        };
        let bytes = place.read(head.len())?;
        let units = head.units(bytes.get(HEAD..).unwrap_or_default());
        let units = units.ok_or_else(|| damaged("an extent"))?;
        Ok(units.iter().copied().map(Unit::unpack).collect())
    }

    /// Goes back from the newest extent over all that lie `behind`. Returns the oldest of these, and the newest one that
    /// does not, if it is still there.
    fn walk_back(
        &self,
        chain: Chain,
        mut behind: impl FnMut(u64, &Head) -> bool,
    ) -> io::Result<Walked> {
        let mut oldest: Option<Extent> = None;
        let mut level = 0;
        loop {
            let from = oldest.map_or(chain, |(_, head)| head.before);
            let steps = from.steps();
            let Some(&position) = steps.get(level) else {
                return Ok((oldest, None));
            };
            let place = if position == NONE {
                None
            } else {
                self.place(position, HEAD)?
            };
            // What was too far from here is too far from further back as well.
            let Some(place) = place else {
                level += 1;
                continue;
            };
            let head = head_of(&place.read(HEAD)?, self.slot)?;
            if behind(position, &head) {
                oldest = Some((position, head));
            } else if level + 1 == steps.len() {
                return Ok((oldest, Some((position, head))));
            } else {
                level += 1;
            }
        }
    }

    /// Moves the first index to the first message that is still in the log.
    pub(in crate::queues) fn find_min(&self) -> io::Result<()> {
        self.find_min_in(&self.tail.lock())
    }

    pub(super) fn find_min_in(&self, tail: &Tail) -> io::Result<()> {
        let log_min = self.shown_from();
        let before = self.min.load(Ordering::Relaxed);
        if self.min_offset.load(Ordering::Relaxed) >= log_min {
            return Ok(());
        }
        let found = self.first_in_extents(tail, log_min);
        let found = found.map_err(|error| self.note_damage(&error))?;
        let tail_first = self.max() - tail.units.len() as u64;
        let in_tail = || {
            let units = tail.units.iter().copied().map(Unit::unpack);
            (tail_first..)
                .zip(units)
                .find(|(_, unit)| unit.is_at_least(log_min))
        };
        let (min, offset) = found
            .or_else(|| in_tail().map(|(index, unit)| (index, unit.physical_offset)))
            .unwrap_or((self.max(), u64::MAX));
        self.min.store(min.max(before), Ordering::Release);
        self.min_offset.store(offset, Ordering::Release);
        Ok(())
    }

    /// Index and physical offset of the first message in an extent that lies at or behind `log_min`.
    fn first_in_extents(&self, tail: &Tail, log_min: u64) -> io::Result<Option<(u64, u64)>> {
        if tail.last < log_min {
            // Of a queue that stands still nothing is read, and what rots of it is no matter any more.
            return Ok(None);
        }
        let (after, last) = self.walk_back(tail.chain, |_, head| head.key >= log_min)?;
        for (position, head) in [last, after].into_iter().flatten() {
            let units = self.units_at(position, &head)?;
            let mut units = (head.first..).zip(units);
            if let Some((index, unit)) = units.find(|(_, unit)| unit.is_at_least(log_min)) {
                return Ok(Some((index, unit.physical_offset)));
            }
        }
        // Only fillers there: they are passed over when they are read.
        Ok(after.map(|(_, head)| (head.first, head.key)))
    }

    /// Notes for the next start that the files do not hold what was written. Returns what is to be told of it: whatever the
    /// device said, it is no failure of a write.
    fn note_damage(&self, error: &io::Error) -> io::Error {
        let (topic, id) = (self.topic(), self.queue_id());
        let what = format!("queue {id} of {topic}: {error}");
        let error = io::Error::new(io::ErrorKind::InvalidData, what);
        self.home().mark.set(&error);
        error
    }
}

/// An extent and its position.
type Extent = (u64, Head);
/// The oldest extent behind something, the newest one before it.
type Walked = (Option<Extent>, Option<Extent>);

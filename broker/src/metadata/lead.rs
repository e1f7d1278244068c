//! The part of metadata in the times of a group's master: when its changes may begin, what it tells the log by itself, and how it ends.
//!
//! Positions stay in memory on the way of a commit; what moved is told once in a while, so a promotion costs the work of such a while done twice. A
//! snapshot is told as soon as the log has gone into a new file, and retention is told to leave what lies behind the last one: so it, and all changes
//! behind it, are always there, and a little more than one file at most is kept for it.

use std::collections::VecDeque;
use std::iter::repeat_with;
use std::time::{Duration, Instant};

use rocket_protocol::{PhysicalOffset, UnixMillis};
use thiserror::Error;

use super::Metadata;
use super::change::{Change, Moved, Part, Stamp};
use super::ends::QueueEnds;
use super::file::FileError;
use super::fold::{Newer, Replica};
use super::log::LogError;

/// Positions that are told in one change. They have room in it with the longest names, and each with an order.
const MOVED_MAX: usize = 1_800;
/// Bytes of a part of a snapshot.
const PART_BYTES: usize = 256 << 10;
/// Parts that are told at once; the next ones a second later.
const PARTS_AT_ONCE: usize = 16;
/// How often a master that begins looks whether all is visible.
const LOOK: Duration = Duration::from_millis(10);

/// Why a replica cannot make changes yet.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LeadError {
    /// What lies in its log is not all committed: to be called again while it is still master.
    #[error("the log that this master began with is not committed yet")]
    NotYet,
    /// It must not lead.
    #[error(transparent)]
    Newer(#[from] Newer),
    /// The first snapshot was not taken: to be called again while it is still master.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// What a master tells the log by itself.
#[derive(Debug, Default)]
pub(super) struct Telling {
    /// See [`Part::physical`]: of the last snapshot of this term.
    asked: u64,
    /// Parts of it that are yet to be told.
    parts: VecDeque<Part>,
}

impl Metadata {
    /// Begins to make the changes of a group: to be called by a replica that has become master and whose store takes messages, before it serves
    /// anybody. Waits until all that lies in the log is visible and applied, so that nothing is missing that a client was told of. The first master of
    /// a group tells the log what its files hold.
    ///
    /// # Errors
    /// See [`LeadError`]; nothing has begun then.
    pub fn lead(&self, now: UnixMillis, patience: Duration) -> Result<(), LeadError> {
        let Some(replica) = &self.replica else {
            return Ok(());
        };
        if replica.log.is_open() {
            return Ok(());
        }
        let deadline = Instant::now() + patience;
        let _awaited = replica.log.wake.awaits();
        let end = replica.log.positions().ok_or(LeadError::NotYet)?.appended;
        self.step_until(replica, deadline, |positions, _| {
            positions.dispatched >= end
        })?;
        *replica.telling.lock() = Telling::default();
        self.offsets.note(true);
        self.delay.take_moved();
        // Names the term; 0 is none.
        replica.log.begin_term(rand::random::<u64>() | 1);
        let begun = self.begin(replica, now, deadline);
        if begun.is_ok() {
            replica.log.open_term();
        } else {
            replica.log.end_term();
            self.offsets.note(false);
        }
        begun
    }

    /// Sees to it that there is a snapshot to begin with, and that it tells where queues go on: a replica that joins from here on may know
    /// it from nothing else.
    fn begin(
        &self,
        replica: &Replica,
        now: UnixMillis,
        deadline: Instant,
    ) -> Result<(), LeadError> {
        let has_ends = |replica: &Replica| replica.base().is_some_and(|base| base.has_ends);
        match replica.base() {
            Some(base) if base.has_ends => return Ok(()),
            Some(_) => tracing::info!(
                "the last snapshot of metadata does not tell where queues go on; another one follows it"
            ),
            None => {
                let min = replica.log.positions().ok_or(LeadError::NotYet)?.min;
                if min > PhysicalOffset(0) {
                    tracing::warn!(%min, "the log does not go back to its beginning, and holds no snapshot of metadata: if this is not the first master of its group, topics, groups and positions of others are not known here, and queue offsets that they gave may be given again");
                }
                tracing::info!(
                    "the group's log has no metadata; it begins with what this broker has"
                );
            }
        }
        for part in self.take_snapshot(replica)? {
            // One after the other: there may be more than the store lets wait.
            replica
                .log
                .keep(Change::Part(Box::new(part)), Stamp::at(now))?;
        }
        self.step_until(replica, deadline, |_, replica| has_ends(replica))
    }

    /// Applies changes until there are none and `is_done`.
    fn step_until(
        &self,
        replica: &Replica,
        deadline: Instant,
        is_done: impl Fn(&rocket_store::Positions, &Replica) -> bool,
    ) -> Result<(), LeadError> {
        loop {
            // Before the step: what it does not find lies behind this.
            let positions = replica.log.positions().ok_or(LeadError::NotYet)?;
            if self.step()? {
                continue;
            }
            if replica.is_at_end() && is_done(&positions, replica) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(LeadError::NotYet);
            }
            replica.log.wait_moved(LOOK);
        }
    }

    /// Whether this replica makes changes.
    pub fn leads(&self) -> bool {
        self.replica
            .as_ref()
            .is_some_and(|replica| replica.log.is_open())
    }

    /// Ends it: this replica is not master any more and serves nobody. Who waits for a change is told that the outcome is unknown; what was never in
    /// the log, positions of the last moment, is forgotten.
    pub fn stand_down(&self) {
        let Some(replica) = &self.replica else {
            return;
        };
        replica.log.end_term();
        self.offsets.note(false);
        let mut follower = replica.follower.lock();
        if let Err(error) = self.refold(replica, &mut follower) {
            tracing::error!(%error, "metadata is not what the group has; this replica must not lead");
        }
    }

    /// Tells the log the last positions, while messages are still taken and nobody is served any more: before a handover and at a stop.
    ///
    /// # Errors
    /// They were not taken; the work since the last time is done twice.
    pub fn farewell(&self, now: UnixMillis) -> Result<(), FileError> {
        match &self.replica {
            Some(replica) if replica.log.is_open() => self.tell_positions(replica, now),
            _ => Ok(()),
        }
    }

    /// Waits until the positions of this moment are in the log: after an order of an administrator. Without a group they are written in their time.
    pub fn keep_positions(&self, now: UnixMillis) -> Result<(), FileError> {
        let Some(replica) = &self.replica else {
            return Ok(());
        };
        self.tell_positions(replica, now)?;
        // Behind them.
        let nothing = Change::Positions(Moved::default());
        replica.log.propose(nothing, Stamp::at(now))?;
        Ok(())
    }

    /// Tells the log what moved, and everything once the log has gone into a new file. To be called once a second.
    pub(super) fn tell(&self, replica: &Replica, now: UnixMillis) -> Result<(), FileError> {
        if !replica.log.is_open() {
            return Ok(());
        }
        self.tell_positions(replica, now)?;
        self.tell_parts(replica, now)
    }

    fn tell_positions(&self, replica: &Replica, now: UnixMillis) -> Result<(), FileError> {
        let _one = replica.telling.lock();
        let mut told = Ok(());
        loop {
            let (rows, orders) = self.offsets.take_moved(MOVED_MAX);
            let moved = Moved {
                rows,
                orders,
                delay: self.delay.take_moved(),
            };
            if moved.is_empty() {
                break;
            }
            told = replica
                .log
                .put(Change::Positions(moved.clone()), Stamp::at(now));
            if told.is_err() {
                self.offsets.put_back(&moved.rows);
                self.delay.put_back(moved.delay.into_keys());
                break;
            }
        }
        replica.log.write_out();
        told.map_err(FileError::from)
    }

    /// Tells some parts of a snapshot, a new one if the log has gone into a new file. Waits for nobody.
    fn tell_parts(&self, replica: &Replica, now: UnixMillis) -> Result<(), FileError> {
        let mut telling = replica.telling.lock();
        if telling.parts.is_empty() && is_snapshot_due(replica, telling.asked) {
            match self.take_snapshot(replica) {
                Ok(parts) => {
                    telling.asked = parts.front().map_or(0, |part| part.physical);
                    telling.parts = parts;
                }
                // Something cannot be read now, or never by this program, which was said.
                Err(error) => tracing::debug!(%error, "no snapshot of metadata was taken"),
            }
        }
        let mut told = Ok(());
        for _ in 0..PARTS_AT_ONCE {
            let Some(part) = telling.parts.front() else {
                break;
            };
            let part = Change::Part(Box::new(part.clone()));
            told = replica.log.put(part, Stamp::at(now));
            if told.is_err() {
                break;
            }
            telling.parts.pop_front();
        }
        replica.log.write_out();
        told.map_err(FileError::from)
    }

    /// Everything, as parts. They count when all of them are visible.
    fn take_snapshot(&self, replica: &Replica) -> Result<VecDeque<Part>, LeadError> {
        let positions = replica.log.positions().ok_or(LeadError::NotYet)?;
        // What was not found by then lies behind.
        while self.step()? {}
        if !replica.is_at_end() {
            return Err(LeadError::NotYet);
        }
        let (state, at) = {
            let follower = replica.follower.lock();
            (self.capture(replica, positions.min.0), follower.next)
        };
        // After the place was fixed and before any part is told; see `QueueEnds`.
        let ends = replica.log.queue_ends().ok_or(LeadError::NotYet)?;
        let ends = QueueEnds::split(ends, PART_BYTES / 2);
        let (id, contents) = (rand::random(), state.split(PART_BYTES / 2));
        let count = contents.len().max(ends.len());
        let of = u32::try_from(count).unwrap_or(u32::MAX);
        let physical = positions.dispatched.0;
        tracing::info!(at, parts = of, "a snapshot of metadata goes into the log");
        let nothing = state.nothing();
        let contents = contents.into_iter().chain(repeat_with(|| nothing.clone()));
        let ends = ends.into_iter().chain(repeat_with(QueueEnds::default));
        let part = |((content, ends), number)| Part {
            id,
            at,
            physical,
            number,
            of,
            content,
            queues: Some(ends),
        };
        Ok(contents.zip(ends).zip(0..of).map(part).collect())
    }
}

fn is_snapshot_due(replica: &Replica, asked: u64) -> bool {
    let base = replica.follower.lock().base;
    let last = base.map_or(0, |base| base.physical).max(asked);
    let file = replica.log.last_file();
    file.is_some_and(|begin| begin.0 > last)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use rocket_protocol::name::{DERIVED_TOPIC_BYTES_MAX, GROUP_BYTES_MAX};

    use super::*;
    use crate::metadata::change::{Record, VERSION};

    #[test]
    fn positions_with_the_longest_names_and_an_order_each_have_room_in_one_change() {
        let mut moved = Moved::default();
        for number in 0..MOVED_MAX {
            let key = format!(
                "{:t>DERIVED_TOPIC_BYTES_MAX$}@{number:g>GROUP_BYTES_MAX$}",
                ""
            );
            let row = BTreeMap::from([(i32::MAX, i64::MAX)]);
            moved.rows.insert(key.clone(), row);
            moved.orders.insert(key, BTreeSet::from([i32::MAX]));
        }
        let record = Record {
            v: VERSION,
            writer: u64::MAX,
            number: u64::MAX,
            stamp: Stamp {
                at: i64::MAX,
                counter: i64::MAX,
            },
            change: Change::Positions(moved),
        };
        let len = record.encode().unwrap().len();
        assert!(len < record.bytes_max(), "{len}");
        assert!(len > record.bytes_max() / 2, "{len}");
    }
}

//! The epoch list of one log (§4.1) and where two logs part (§8.5).
//!
//! Entry (e, start) says that the bytes from `start` to the next entry's start, or to the log's end, were appended by the
//! one master of epoch e. Epochs rise strictly, starts never fall; two logs that share an entry are equal below the smaller
//! of its two ends (I5), which is what the search for the common point rests on.

use rocket_protocol::ids::PhysicalOffset;
use serde::{Deserialize, Serialize};

use crate::identity::Epoch;

/// The most entries that a list holds, so that it fits a control frame: one an election, less those that retention passed.
/// A replica whose list is full refuses to lead.
pub const EPOCHS_MAX: usize = 4_000;

/// One epoch of a log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EpochStart {
    /// The mastership that appended these bytes.
    pub epoch: Epoch,
    /// Its first byte.
    pub start: PhysicalOffset,
}

/// A list that breaks its own order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Disorder {
    /// An epoch is not above the one before it.
    #[error("epoch {0} is not above the one before it")]
    Epoch(Epoch),
    /// A start lies before the one before it.
    #[error("epoch {0} starts before the epoch before it")]
    Start(Epoch),
    /// More than [`EPOCHS_MAX`] entries.
    #[error("the epoch list is full")]
    Full,
}

/// The epoch list of one log, oldest first.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Epochs(Vec<EpochStart>);

/// What a slave must do to its log before it may copy from the master (§8.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Alignment {
    /// The log is a prefix of the master's. Entries at its very end that the master lacks are dropped all the same.
    Keep,
    /// Everything from here on parts from the master's log.
    Cut {
        /// The common point.
        to: PhysicalOffset,
    },
    /// Nothing of what the slave holds can be continued: it empties itself and starts anew (`BehindRetention`).
    Restart {
        /// Where the new log starts.
        at: PhysicalOffset,
    },
}

impl Epochs {
    /// A checked list.
    ///
    /// # Errors
    /// [`Disorder`] when the entries break the order of §4.1.
    pub fn new(entries: Vec<EpochStart>) -> Result<Self, Disorder> {
        let mut list = Self::default();
        for entry in entries {
            list.push(entry)?;
        }
        Ok(list)
    }

    /// Adds an entry at the end.
    ///
    /// # Errors
    /// [`Disorder`] when the entry does not fit behind the last one.
    pub fn push(&mut self, entry: EpochStart) -> Result<(), Disorder> {
        if let Some(last) = self.0.last() {
            if entry.epoch <= last.epoch {
                return Err(Disorder::Epoch(entry.epoch));
            }
            if entry.start < last.start {
                return Err(Disorder::Start(entry.epoch));
            }
        }
        if self.0.len() >= EPOCHS_MAX {
            return Err(Disorder::Full);
        }
        self.0.push(entry);
        Ok(())
    }

    /// The entries, oldest first.
    pub fn entries(&self) -> &[EpochStart] {
        &self.0
    }

    /// The newest entry.
    pub fn last(&self) -> Option<EpochStart> {
        self.0.last().copied()
    }

    /// The newest epoch; zero for a log that never had a master.
    pub fn last_epoch(&self) -> Epoch {
        self.last().map_or(Epoch(0), |e| e.epoch)
    }

    /// The entry that the byte at `offset` belongs to, and where that entry ends (`None`: at the log's end).
    ///
    /// Of several entries with the same start only the last one has bytes.
    pub fn at(&self, offset: PhysicalOffset) -> Option<(EpochStart, Option<PhysicalOffset>)> {
        let index = self
            .0
            .partition_point(|e| e.start <= offset)
            .checked_sub(1)?;
        Some((*self.0.get(index)?, self.0.get(index + 1).map(|e| e.start)))
    }

    /// Drops what a recovered log no longer has: entries that start beyond its end (§8.2.6).
    pub fn drop_beyond(&mut self, log_end: PhysicalOffset) {
        self.0.retain(|e| e.start <= log_end);
    }

    /// Drops the epochs of which retention left no byte, but for the last of them: a log that ends where this one begins
    /// ends in it, and goes on from there.
    pub fn forget_before(&mut self, log_min: PhysicalOffset) {
        let first = self
            .0
            .partition_point(|e| e.start < log_min)
            .saturating_sub(1);
        self.0.drain(..first);
    }

    /// Drops what a cut to `to` removes: entries beyond it, and one at it unless the master has that too (§8.5, step 5).
    pub fn cut(&mut self, to: PhysicalOffset, master: &Epochs) {
        self.0
            .retain(|e| e.start < to || (e.start == to && master.0.contains(e)));
    }

    /// Keeps what a log that starts anew at `at` inherits from the master: the epochs of the bytes before it.
    #[must_use]
    pub fn up_to(&self, at: PhysicalOffset) -> Self {
        Self(self.0.iter().filter(|e| e.start < at).copied().collect())
    }

    fn end_of(
        &self,
        epoch: Epoch,
        log_end: PhysicalOffset,
    ) -> Option<(EpochStart, PhysicalOffset)> {
        let index = self.0.iter().position(|e| e.epoch == epoch)?;
        Some((
            *self.0.get(index)?,
            self.0.get(index + 1).map_or(log_end, |next| next.start),
        ))
    }
}

impl<'de> Deserialize<'de> for Epochs {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(Vec::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// One side of the search for the common point: a log by its epochs and its two ends.
#[derive(Clone, Copy, Debug)]
pub struct Extent<'a> {
    /// Its epoch list.
    pub epochs: &'a Epochs,
    /// Its first byte that retention left.
    pub log_min: PhysicalOffset,
    /// Its end.
    pub log_end: PhysicalOffset,
}

/// Where the slave's log parts from the master's, and so what to do with it (§8.5).
///
/// Both sides compute this from the same two messages and get the same answer; the master checks the slave's first
/// acknowledgement against it.
pub fn align(slave: Extent<'_>, master: Extent<'_>) -> Alignment {
    let common = slave.epochs.entries().iter().rev().find_map(|mine| {
        let (_, end_slave) = slave.epochs.end_of(mine.epoch, slave.log_end)?;
        let (theirs, end_master) = master.epochs.end_of(mine.epoch, master.log_end)?;
        (theirs.start == mine.start).then(|| end_slave.min(end_master))
    });
    let start = PhysicalOffset(0);
    let point = match common {
        Some(point) => point,
        None if master.log_min == start => start,
        None => return Alignment::Restart { at: master.log_min },
    };
    // The common point may lie below what the master still has, or below what the slave still has. Between the master's beginning and
    // the common point may lie what tells of everything before (the snapshot of §10, T4).
    if point < master.log_min.max(slave.log_min) {
        Alignment::Restart { at: master.log_min }
    } else if point < slave.log_end {
        Alignment::Cut { to: point }
    } else {
        Alignment::Keep
    }
}

#[cfg(test)]
#[path = "epochs_tests.rs"]
mod tests;

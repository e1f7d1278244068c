//! What a replica notes before it takes bytes of its log back (docs/replication.md §8.5, step 3): whatever ends the process
//! then, the next start finishes it, and tells of it (P4).
//!
//! ```text
//! cut, version 2   then 1 (0 cut, 1 start anew) · to 8 · epoch 8 · from 8 · end 8 · report 1 (0 quiet, 1 event) · epochs
//! cut, version 1   then 1 · to 8 · epoch 8 · epochs
//! epochs           count 4 · count times (epoch 8 · start 8)
//! ```
//!
//! A note of version 1 does not say what goes: then it is all that the start finds, and may have been acknowledged.

use bytes::{Buf, BufMut};
use rocket_replication::effect::Report;
use rocket_replication::epochs::Epochs;
use rocket_replication::{Epoch, PhysicalOffset};

use crate::disk::{get_epochs, put_epochs};
use crate::surroundings::News;

/// What an unfinished cut is to end in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The log ends at the offset.
    Cut,
    /// The log is empty and begins at the offset.
    StartAnew,
}

/// `cut`: what is to be finished before anything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// What is being done.
    pub then: Then,
    /// Where the log ends, or begins, afterwards.
    pub to: PhysicalOffset,
    /// The epoch of the master that caused it.
    pub epoch: Epoch,
    /// What goes, as far as it is not known to be committed, begins here,
    pub from: PhysicalOffset,
    /// and ends here, where the log ended before.
    pub end: PhysicalOffset,
    /// Whether it may have held acknowledged bytes.
    pub report: Report,
    /// The epoch list that belongs to the log as it is afterwards.
    pub epochs: Epochs,
}

impl Intent {
    /// What others are told of it, before the note is removed: so they hear it at least once, whatever ends the process.
    /// `found`: where the log ended when that was looked at last, for a note that does not say it.
    pub(crate) fn told(&self, found: PhysicalOffset) -> News {
        let (epoch, report) = (self.epoch, self.report);
        let from_end = self.end.max(found).max(self.from);
        match self.then {
            Then::Cut => News::Cut {
                to: self.to,
                from_end,
                epoch,
                report,
            },
            Then::StartAnew => News::StartedAnew {
                at: self.to,
                from: self.from,
                from_end,
                epoch,
                report,
            },
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        body.put_u8(match self.then {
            Then::Cut => 0,
            Then::StartAnew => 1,
        });
        body.put_u64(self.to.0);
        body.put_u64(self.epoch.0);
        body.put_u64(self.from.0);
        body.put_u64(self.end.0);
        body.put_u8(match self.report {
            Report::Quiet => 0,
            Report::Event => 1,
        });
        put_epochs(&self.epochs, &mut body);
        body
    }

    pub(crate) fn decode(version: u16, body: &mut &[u8]) -> Option<Self> {
        let then = match body.try_get_u8().ok()? {
            0 => Then::Cut,
            1 => Then::StartAnew,
            _ => return None,
        };
        let to = PhysicalOffset(body.try_get_u64().ok()?);
        let epoch = Epoch(body.try_get_u64().ok()?);
        let (from, end, report) = if version < 2 {
            let from = match then {
                Then::Cut => to,
                Then::StartAnew => PhysicalOffset(0),
            };
            (from, from, Report::Event)
        } else {
            let from = PhysicalOffset(body.try_get_u64().ok()?);
            let end = PhysicalOffset(body.try_get_u64().ok()?);
            let report = match body.try_get_u8().ok()? {
                0 => Report::Quiet,
                1 => Report::Event,
                _ => return None,
            };
            (from, end, report)
        };
        Some(Self {
            then,
            to,
            epoch,
            from,
            end,
            report,
            epochs: get_epochs(body)?,
        })
    }
}

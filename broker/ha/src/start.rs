//! Start of a replica (docs/replication.md §8.2), from the log as its store recovered it to what the state machine begins with.
//!
//! Nothing is acknowledged before this is over, and it may be cut short and repeated at every step.

use rocket_replication::epochs::{EpochStart, Epochs};
use rocket_replication::recovery::Evidence;
use rocket_replication::replica::Recovered;
use rocket_replication::{DiskId, Epoch, Incarnation, PhysicalOffset};

use crate::disk::{ItemError, Items, Saved};
use crate::intent::{Intent, Then};
use crate::surroundings::{CutError, Log, Observer};

/// 256 random bits for this start.
#[derive(Debug, Clone, Copy)]
pub struct Fresh {
    /// For the directory, if it has to be formatted.
    pub disk_id: DiskId,
    /// For this run.
    pub incarnation: Incarnation,
}

/// What the store's recovery found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// There is damage below what was known to be flushed.
    pub damaged: bool,
    /// A lower bound of what is committed: its checkpoint's, or what was visible.
    pub confirm: PhysicalOffset,
}

/// What to do with a log that holds messages and belongs to no group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Refuse to start: two such logs in one group would both be taken for its beginning.
    Refuse,
    /// Make it the beginning of the group's log. Only for one replica of a group, the others being empty.
    Adopt,
}

/// Why a replica does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A small file.
    #[error(transparent)]
    Item(#[from] ItemError),
    /// A cut that was under way could not be finished.
    #[error("cannot finish the cut of the log at {to}: {source}")]
    Cut {
        /// Where.
        to: PhysicalOffset,
        /// Why.
        source: CutError,
    },
    /// A write or flush failed, and soon after another one (§8.15).
    #[error(
        "its disk failed twice within diskFailWindow: it does not come back by itself. Replace the disk (or move the whole data folder aside; on a fixed master rocket/coordinator has to be kept), and the replica comes back as a new one and copies everything from its group. If the disk is known to be sound, start this replica once with diskFailWindow = 0"
    )]
    DiskFails,
    /// See [`Held::Refuse`].
    #[error(
        "the log holds messages from {min} to {end} and belongs to no group; if they are to be the beginning of this group, say so on this replica and on no other (adoptMessages = true)"
    )]
    Stranger {
        /// First byte.
        min: PhysicalOffset,
        /// End.
        end: PhysicalOffset,
    },
}

/// Makes ready what the store left: formats an unknown folder, finishes a cut, drops epochs that the log lost, and weighs what
/// speaks for what was acknowledged. The folder is locked and the log recovered. `observer` is told of a cut that a former
/// run had begun.
///
/// # Errors
/// [`StartError`]: the process must leave; starting again changes nothing by itself.
pub fn start<L: Log, O: Observer>(
    items: &Items,
    log: &mut L,
    found: Found,
    fresh: Fresh,
    held: Held,
    observer: &mut O,
) -> Result<Recovered, StartError> {
    let saved = match items.load()? {
        Some(saved) => saved,
        None => format(items, log, fresh.disk_id, held)?,
    };
    let mut epochs = saved.epochs;
    if let Some(intent) = &saved.cut {
        finish(items, log, intent, observer)?;
        epochs = intent.epochs.clone();
    }
    let ends = log.ends();
    let before = epochs.entries().len();
    epochs.drop_beyond(ends.appended);
    if epochs.entries().len() < before {
        // Left on disk, a dropped entry would come back when the log has grown beyond its start with other bytes.
        items.save_epochs(&epochs)?;
    }
    if found.damaged {
        tracing::error!(
            "the log is damaged below what was flushed: this replica acknowledges nothing and counts for nothing. Move the whole data folder aside (on a fixed master: all of it but rocket/coordinator), and the replica comes back as a new one and copies everything from its group"
        );
    }
    let (disk, run) = (saved.meta.disk_id, fresh.incarnation);
    let evidence = Evidence {
        damaged: found.damaged,
        clean: Evidence::clean_run(saved.clean, ends.appended, &epochs),
        resident: items.residence().begin(disk, run),
        noted: saved.runs,
    };
    items.remove_clean()?;
    let (max_epoch, max_version) = saved.seen;
    Ok(Recovered {
        disk_id: saved.meta.disk_id,
        meta: saved.meta.replica,
        former: saved.meta.former,
        incarnation: fresh.incarnation,
        max_epoch,
        max_version,
        epochs,
        log_min: ends.min,
        log_end: ends.appended,
        durable_end: ends.durable,
        // A log that was begun anew now begins where everything before is committed.
        confirm: found.confirm.clamp(ends.min, ends.appended),
        evidence,
    })
}

/// §8.2.2. A log that is adopted gets an epoch of its own, before all others, so that slaves can be sent its bytes.
fn format<L: Log>(
    items: &Items,
    log: &L,
    disk_id: DiskId,
    held: Held,
) -> Result<Saved, StartError> {
    let ends = log.ends();
    let mut epochs = Epochs::default();
    if ends.appended > ends.min || ends.min > PhysicalOffset(0) {
        if held == Held::Refuse {
            let (min, end) = (ends.min, ends.appended);
            return Err(StartError::Stranger { min, end });
        }
        let (epoch, start) = (Epoch(0), ends.min);
        // The first entry of an empty list is in order.
        let _ = epochs.push(EpochStart { epoch, start });
    }
    items.format(disk_id, &epochs)?;
    let formatted = items.load()?;
    formatted.ok_or_else(|| {
        StartError::Item(ItemError::Missing {
            path: crate::sealed::FOLDER.to_owned(),
        })
    })
}

/// §8.2.3. All of it may have been done already, and told too.
fn finish<L: Log, O: Observer>(
    items: &Items,
    log: &mut L,
    intent: &Intent,
    observer: &mut O,
) -> Result<(), StartError> {
    let found = log.ends().appended;
    let done = match intent.then {
        Then::Cut => log.cut(intent.to, intent.epoch),
        Then::StartAnew => log.start_anew(intent.to, intent.epoch),
    };
    done.map_err(|source| StartError::Cut {
        to: intent.to,
        source,
    })?;
    items.save_epochs(&intent.epochs)?;
    observer.tell(intent.told(found));
    Ok(items.remove_cut()?)
}

#[cfg(test)]
#[path = "start_tests.rs"]
mod tests;

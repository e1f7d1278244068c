//! What is still known of a log whose checkpoint is gone: both of its slots, or the file.
//!
//! Without a floor the first damage would be taken for a torn tail, and everything behind it would be cut. But the floor can
//! be told from what is made only of what a flush has covered: the newest table of the queues, and the newest checksum of a
//! block. A folder that has neither is Apache's, or new.

use rocket_mapped_file::Directory;

use crate::checkpoint::Bounds;
use crate::checksums::Checksums;
use crate::commit_log::{self, CommitLog, TailRule};
use crate::error::OpenError;
use crate::{queues, tail};

/// What the floor is the end of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Floor {
    /// A record, as that of a checkpoint is.
    Record,
    /// A block: it may lie within a record. See [`between_records`].
    Block,
}

/// Lower bounds, from other files than the checkpoint; `None` where there never was one.
pub(crate) fn bounds(
    dir: &dyn Directory,
    block_bytes: u64,
) -> Result<Option<(Bounds, Floor)>, OpenError> {
    let table = queues::newest_table(dir).map_err(OpenError::io("read", queues::FOLDER))?;
    let summed = summed(dir, block_bytes)?;
    if table.is_none() && summed.is_none() {
        return Ok(None);
    }
    let (dispatched, upper) = table.unwrap_or_default();
    let summed = summed.unwrap_or(0);
    let bounds = Bounds {
        floor: upper.max(summed),
        dispatched,
        // To be compared wherever there is a checksum.
        sealed: u64::MAX,
        ..Bounds::default()
    };
    tracing::error!(
        floor = bounds.floor,
        dispatched,
        "the checkpoint is lost; what was flushed is taken from the queues and the checksums"
    );
    let floor = if upper < summed {
        Floor::Block
    } else {
        Floor::Record
    };
    Ok(Some((bounds, floor)))
}

/// Bounds whose floor is the end of a block, with one that lies between records, as all else takes it to: where the record
/// across it is damaged, what lies behind would be taken for a torn tail. All of that record was flushed with the block, so the
/// next good one is a lower bound as well.
pub(crate) fn between_records(log: &CommitLog, bounds: Bounds) -> Result<Bounds, OpenError> {
    let (floor, rule) = (bounds.floor, TailRule::Ours);
    let Some(file) = log.file_at(floor) else {
        return Ok(bounds);
    };
    // A file begins with a record, and so does what is not dispatched.
    let mut at = file.start.max(bounds.dispatched);
    while at < floor {
        let scanned = log.scan(at, floor, rule, |at, _| {
            let is_before = at < floor;
            is_before.then_some(()).ok_or("it begins behind")
        })?;
        at = scanned.end;
        if at >= floor {
            return Ok(bounds);
        }
        at = tail::resume(log, at, floor, rule)?;
    }
    while at < file.end()
        && let Some(candidate) = CommitLog::next_head(&file, at, file.end())
    {
        if log.is_record(candidate, rule)? {
            return Ok(Bounds {
                floor: candidate,
                ..bounds
            });
        }
        at = candidate + 1;
    }
    // It was the last one of its file.
    let next = file.end();
    let floor = if log.is_record(next, rule)? {
        next
    } else {
        floor
    };
    Ok(Bounds { floor, ..bounds })
}

/// Where the last block ends that has a checksum.
fn summed(dir: &dyn Directory, block_bytes: u64) -> Result<Option<u64>, OpenError> {
    let folder = commit_log::FOLDER;
    let entries = dir.list(folder).map_err(OpenError::io("list", folder))?;
    let files = entries
        .iter()
        .filter(|entry| !entry.is_folder && entry.name.len() == 20);
    for entry in files.rev() {
        let Ok(start) = entry.name.parse() else {
            continue;
        };
        let end = Checksums::summed_end(dir, start, entry.len, block_bytes)
            .map_err(OpenError::io("read", &crate::checksums::path_of(start)))?;
        if let Some(end) = end {
            return Ok(Some(start + end));
        }
    }
    Ok(None)
}

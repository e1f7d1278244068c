//! What is still known of a log whose checkpoint is gone: both of its slots, or the file.
//!
//! Without a floor the first damage would be taken for a torn tail, and everything behind it would be cut. But the floor can
//! be told from what is made only of what a flush has covered: the newest table of the queues, and the newest checksum of a
//! block. A folder that has neither is Apache's, or new.

use rocket_mapped_file::Directory;

use crate::checkpoint::Bounds;
use crate::checksums::Checksums;
use crate::error::OpenError;
use crate::{commit_log, queues};

/// Lower bounds, from other files than the checkpoint; `None` where there never was one.
pub(crate) fn bounds(dir: &dyn Directory, block_bytes: u64) -> Result<Option<Bounds>, OpenError> {
    let table = queues::newest_table(dir).map_err(OpenError::io("read", queues::FOLDER))?;
    let summed = summed(dir, block_bytes)?;
    if table.is_none() && summed.is_none() {
        return Ok(None);
    }
    let (dispatched, upper) = table.unwrap_or_default();
    let bounds = Bounds {
        floor: upper.max(summed.unwrap_or(0)),
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
    Ok(Some(bounds))
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

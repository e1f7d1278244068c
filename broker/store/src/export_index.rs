//! The index of an exported store, as Apache's broker keeps it, made from its log: the log is read anyway, and
//! so the files are the same whatever form ours have.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rocket_mapped_file::disk::DiskDirectory;
use rocket_mapped_file::{Directory, SegmentOptions};
use rocket_protocol::RecordView;
use rocket_protocol::message::RecordFacts;
use rocket_protocol::message::hash::IndexPrefix;

use crate::checkpoint::Checkpoint;
use crate::checksums;
use crate::commit_log::{self, CommitLog, TailRule};
use crate::deleted::Deleted;
use crate::dispatch::keys_of;
use crate::index::apache::Sizes;
use crate::index::apache_files::ApacheWriter;
use crate::index::{Noted, State};
use crate::tail;

/// Writes the index files of the store `source`, which is locked, for the copy of its log in `target`. How many files
/// and bytes; none when the store keeps no index.
pub(crate) fn write(source: &Path, target: &Path) -> io::Result<(u64, u64)> {
    let source: Arc<dyn Directory> = Arc::new(DiskDirectory::open(source)?);
    let Noted::State(state) = State::read(&*source)? else {
        return Ok((0, 0));
    };
    let target: Arc<dyn Directory> = Arc::new(DiskDirectory::open(target)?);
    let deleted = Deleted::open(Arc::clone(&source))?;
    let floor = Checkpoint::open(Arc::clone(&source))?.0.bounds.floor;
    let last = source.list(commit_log::FOLDER)?.pop();
    let segment_bytes = last.map_or(0, |entry| entry.len);
    let (options, block_bytes) = (SegmentOptions::default(), checksums::BLOCK_BYTES);
    // Without a floor no file is taken for one that was never used: the source is left as it is.
    let log = CommitLog::open(source, segment_bytes, options, block_bytes, None)
        .map_err(io::Error::other)?;
    let sizes = Sizes {
        slots: state.slots,
        entries: state.entries,
    };
    let mut writer = ApacheWriter::new(&*target, sizes)?;
    let mut written = Ok(());
    let each = |offset, view: &RecordView<'_>, _| {
        if !deleted.covers(view.topic(), offset) {
            let facts = RecordFacts::read(view.properties());
            keys_of(view, &facts, IndexPrefix::new(view.topic()), |hash| {
                if written.is_ok() {
                    written = writer.add(hash, offset, view.store_timestamp().0);
                }
            });
        }
        Ok(())
    };
    let found = tail::follow(&log, log.min(), floor, TailRule::Apache, each);
    let found = found.map_err(io::Error::other)?;
    written?;
    writer.finish()?;
    for damaged in &found.damaged {
        tracing::warn!(from = %damaged.from, to = %damaged.to, "damaged; keys of these messages are not exported");
    }
    Ok((writer.files, writer.files * sizes.file_bytes()))
}

//! A closed store as a folder for Apache's broker: a copy without what is ours, the consume queues in Apache's form, and
//! index files made from the log.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rocket_mapped_file::Directory;
use rocket_mapped_file::disk::DiskDirectory;
use thiserror::Error;

use crate::apache_queue::{FOLDER, Writer, folder_of};
use crate::checkpoint::Checkpoint;
use crate::commit_log;
use crate::config::QueueLogConfig;
use crate::deleted::Deleted;
use crate::engine::ABORT;
use crate::export_index;
use crate::queues::{Known, Queue, Queues, Secured};
use crate::unit::{UNIT_BYTES, Unit};

/// Size of a file of a consume queue as Apache's broker has it unless it is told otherwise.
const FILE_BYTES: u64 = 6_000_000;
/// The size that the store was configured with; Apache's broker opens files of no other than its own configuration names.
const FILE_BYTES_NOTE: &str = "rocket/consumequeue-file-bytes";
/// Units written at once.
const RUN: usize = 4096;

/// What an export wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExportReport {
    /// Files.
    pub files: u64,
    /// Their lengths, holes included.
    pub bytes: u64,
}

/// Why an export was not made, or not finished.
#[derive(Debug, Error)]
pub enum ExportError {
    /// A broker has the store open; stop it first.
    #[error("{0} is in use")]
    InUse(PathBuf),
    /// The store was not closed in order; start the broker on it once, so that it recovers, and stop it.
    #[error("{0} was not closed in order")]
    NotClosed(PathBuf),
    /// There is something at the target already.
    #[error("{0} exists already")]
    TargetExists(PathBuf),
    /// The target lies in the store: the copy would have no end. Choose another one.
    #[error("{target} lies within {store}, which is to be copied")]
    TargetWithin {
        /// Where the copy was to go.
        target: PathBuf,
        /// The store.
        store: PathBuf,
    },
    /// The system failed a call.
    #[error("cannot copy {path}: {source}")]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ExportError {
    let path = path.to_owned();
    move |source| ExportError::Io { path, source }
}

/// Notes for a later export how large the files of consume queues are to be.
pub(crate) fn note_file_bytes(dir: &dyn Directory, bytes: u64) -> io::Result<()> {
    let note = bytes.to_string();
    if dir.read(FILE_BYTES_NOTE)?.as_deref() == Some(note.as_bytes()) {
        return Ok(());
    }
    dir.replace(FILE_BYTES_NOTE, note.as_bytes())
}

fn noted_file_bytes(dir: &dyn Directory) -> io::Result<u64> {
    let Some(note) = dir.read(FILE_BYTES_NOTE)? else {
        return Ok(FILE_BYTES);
    };
    let bytes = String::from_utf8_lossy(&note).parse().ok();
    let is_whole = |bytes: &u64| *bytes > 0 && bytes.is_multiple_of(UNIT_BYTES);
    bytes
        .filter(is_whole)
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Copies the store in `source` to the new folder `target` in Apache's layout, flushed.
pub fn to_apache_layout(source: &Path, target: &Path) -> Result<ExportReport, ExportError> {
    let dir = DiskDirectory::open(source).map_err(at(source))?;
    let _lock = dir.lock("lock").map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => ExportError::InUse(source.to_owned()),
        _ => at(source)(error),
    })?;
    if source.join(ABORT).exists() {
        return Err(ExportError::NotClosed(source.to_owned()));
    }
    if target.exists() {
        return Err(ExportError::TargetExists(target.to_owned()));
    }
    if lies_within(target, source).map_err(at(target))? {
        return Err(ExportError::TargetWithin {
            target: target.to_owned(),
            store: source.to_owned(),
        });
    }
    let mut report = ExportReport::default();
    copy(source, target, true, &mut report)?;
    write_queues(Arc::new(dir), source, target, &mut report)?;
    let (files, bytes) = export_index::write(source, target).map_err(at(target))?;
    report.files += files;
    report.bytes += bytes;
    Ok(report)
}

/// Whether `target`, which does not exist, would be made somewhere in `source`.
fn lies_within(target: &Path, source: &Path) -> io::Result<bool> {
    let target = std::path::absolute(target)?;
    let above = target.ancestors().find(|above| above.exists());
    let above = above.unwrap_or(&target).canonicalize()?;
    Ok(above.starts_with(source.canonicalize()?))
}

fn write_queues(
    dir: Arc<dyn Directory>,
    source: &Path,
    target: &Path,
    report: &mut ExportReport,
) -> Result<(), ExportError> {
    let file_bytes = noted_file_bytes(&*dir).map_err(at(&source.join(FILE_BYTES_NOTE)))?;
    let Some(queues) = open_queues(dir).map_err(at(&source.join(FOLDER)))? else {
        return Err(ExportError::NotClosed(source.to_owned()));
    };
    let target = DiskDirectory::open(target).map_err(at(target))?;
    let target: Arc<dyn Directory> = Arc::new(target);
    for queue in queues.all() {
        let path = folder_of(queue.topic(), queue.queue_id());
        write_queue(&queue, &target, file_bytes, report).map_err(at(Path::new(&path)))?;
    }
    Ok(())
}

/// The queues of a store that was closed in order; `None` if they are not there as they should be.
fn open_queues(dir: Arc<dyn Directory>) -> io::Result<Option<Queues>> {
    let (_, bounds) = Checkpoint::open(Arc::clone(&dir))?;
    let first = dir
        .list(commit_log::FOLDER)?
        .iter()
        .find_map(|entry| entry.name.parse().ok());
    let secured = bounds.map(|bounds| Secured {
        log_min: first.unwrap_or(0),
        dispatched: bounds.dispatched,
    });
    let deleted = Deleted::open(Arc::clone(&dir))?;
    let (queues, known) = Queues::open(dir, QueueLogConfig::default(), secured, &deleted)?;
    let is_whole = |known: Known| bounds.is_some_and(|bounds| known.covered >= bounds.dispatched);
    Ok(known.is_some_and(is_whole).then_some(queues))
}

fn write_queue(
    queue: &Queue,
    target: &Arc<dyn Directory>,
    file_bytes: u64,
    report: &mut ExportReport,
) -> io::Result<()> {
    let (mut next, max) = queue.range();
    let Some(last) = max.checked_sub(1) else {
        return Ok(());
    };
    let target = Arc::clone(target);
    let first = next.min(last);
    let mut copy = Writer::new(target, queue.topic(), queue.queue_id(), file_bytes, first)?;
    if next == max {
        // No messages any more, but the offset of the next one.
        copy.append(&[Unit::PADDING])?;
    }
    let mut units = Vec::new();
    while next < max {
        units.clear();
        queue.read(next, RUN, &mut units)?;
        if units.is_empty() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        copy.append(&units)?;
        next += units.len() as u64;
    }
    for file in copy.finish()? {
        report.files += 1;
        report.bytes += file.len();
    }
    Ok(())
}

fn copy(
    source: &Path,
    target: &Path,
    is_root: bool,
    report: &mut ExportReport,
) -> Result<(), ExportError> {
    fs::create_dir_all(target).map_err(at(target))?;
    for entry in fs::read_dir(source).map_err(at(source))? {
        let entry = entry.map_err(at(source))?;
        let (from, to) = (entry.path(), target.join(entry.file_name()));
        let ours = [
            crate::checkpoint::FOLDER,
            crate::quarantine::FOLDER,
            FOLDER,
            "index",
            "lock",
        ];
        if is_root && ours.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        if entry.file_type().map_err(at(&from))?.is_dir() {
            copy(&from, &to, false, report)?;
        } else {
            report.bytes += fs::copy(&from, &to).map_err(at(&from))?;
            File::open(&to)
                .and_then(|file| file.sync_all())
                .map_err(at(&to))?;
            report.files += 1;
        }
    }
    File::open(target)
        .and_then(|folder| folder.sync_all())
        .map_err(at(target))
}

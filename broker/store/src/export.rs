//! A closed store as a folder for Apache's broker. In this version our files are Apache's, so an export is a copy
//! without what is ours; when queues take another form this is where they are written as Apache's.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rocket_mapped_file::Directory;
use rocket_mapped_file::disk::DiskDirectory;
use thiserror::Error;

use crate::engine::ABORT;

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
    let mut report = ExportReport::default();
    copy(source, target, true, &mut report)?;
    Ok(report)
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
        let ours = entry.file_name() == crate::checkpoint::FOLDER || entry.file_name() == "lock";
        if is_root && ours {
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

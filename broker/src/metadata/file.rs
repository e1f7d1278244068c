//! One JSON file of metadata that survives a crash at any moment.
//!
//! Written as Apache's broker leaves it: the new text in `x.json`, the one before in `x.json.bak`. The new text is complete
//! and synced under another name before it takes its place, so between the two renames at worst only the `.bak` is there,
//! and a reader falls back to it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rocket_protocol::json::JsonError;
use thiserror::Error;

use super::log::LogError;

/// Why metadata cannot be read or written.
#[derive(Debug, Error)]
pub enum FileError {
    /// The system failed a call. Writing may be tried again; at start, stop.
    #[error("{action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The change was to be written with those of others.
    #[error(transparent)]
    Together(Arc<FileError>),
    /// In a group changes go through its log, and this one did not.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Neither the file nor its `.bak` is what was written. Stop: starting without would forget what clients were promised.
    #[error("{path} is damaged and there is no good .bak beside it")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: JsonError,
    },
}

/// See the module.
#[derive(Debug)]
pub struct JsonFile {
    path: PathBuf,
    backup: PathBuf,
    /// A file that was found damaged must not replace the good `.bak`.
    is_good: AtomicBool,
}

impl JsonFile {
    /// The file `name` in `dir`, which is made if it is not there: it survives a power cut as its files do.
    pub fn new(dir: &Path, name: &str) -> Result<Self, FileError> {
        fs::create_dir_all(dir).map_err(io_error("make the folder", dir))?;
        if let Some(above) = dir.parent() {
            sync_folder(above)?;
        }
        Ok(Self {
            path: dir.join(name),
            backup: dir.join(format!("{name}.bak")),
            is_good: AtomicBool::new(true),
        })
    }

    /// Reads the file, or the `.bak` when the file is missing or damaged; `None` when neither is there.
    pub fn load<T>(
        &self,
        parse: impl Fn(&[u8]) -> Result<T, JsonError>,
    ) -> Result<Option<T>, FileError> {
        let damage = match read(&self.path)? {
            None => None,
            Some(text) => match parse(&text) {
                Ok(value) => return Ok(Some(value)),
                Err(error) => Some(error),
            },
        };
        let from_backup = match read(&self.backup)? {
            None => None,
            Some(text) => parse(&text).ok(),
        };
        match (from_backup, damage) {
            (Some(value), damage) => {
                self.is_good.store(false, Ordering::Relaxed);
                tracing::warn!(file = %self.path.display(), damage = ?damage, "metadata file is missing or damaged, read its .bak");
                Ok(Some(value))
            }
            (None, None) => Ok(None),
            (None, Some(source)) => Err(FileError::Damaged {
                path: self.path.clone(),
                source,
            }),
        }
    }

    /// Replaces the file's text. When this returns, the text survives a power cut.
    pub fn save(&self, text: &[u8]) -> Result<(), FileError> {
        let fresh = self.path.with_extension("json.tmp");
        let mut file = File::create(&fresh).map_err(io_error("create", &fresh))?;
        if let Err(error) = file.write_all(text).and_then(|()| file.sync_all()) {
            // On a full disk a part of it would take the room that is missing. It is written over or removed later else.
            let _ = fs::remove_file(&fresh);
            return Err(io_error("write", &fresh)(error));
        }
        if self.is_good.load(Ordering::Relaxed) {
            match fs::rename(&self.path, &self.backup) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error("rename", &self.path)(error));
                }
                _ => {}
            }
        }
        fs::rename(&fresh, &self.path).map_err(io_error("rename", &fresh))?;
        self.is_good.store(true, Ordering::Relaxed);
        sync_folder(self.path.parent().unwrap_or(Path::new(".")))
    }

    /// Removes the file and its `.bak`. When this returns, they stay away after a power cut.
    pub(super) fn remove(&self) -> Result<(), FileError> {
        for path in [&self.path, &self.backup] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error("remove", path)(error));
                }
                _ => {}
            }
        }
        sync_folder(self.path.parent().unwrap_or(Path::new(".")))
    }
}

fn sync_folder(dir: &Path) -> Result<(), FileError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(io_error("sync the folder", dir))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", path)(error)),
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Io {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use rocket_protocol::json;

    use super::*;

    fn file(dir: &tempfile::TempDir) -> JsonFile {
        JsonFile::new(&dir.path().join("config"), "x.json").unwrap()
    }

    fn load(file: &JsonFile) -> Option<i64> {
        file.load(json::parse_as::<i64>).unwrap()
    }

    #[test]
    fn the_newest_text_is_read_and_the_one_before_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(&dir);
        assert_eq!(load(&file), None);
        file.save(b"1").unwrap();
        file.save(b"2").unwrap();
        assert_eq!(load(&file), Some(2));
        assert_eq!(fs::read(&file.backup).unwrap(), b"1");
    }

    #[test]
    fn a_missing_or_torn_file_is_read_from_its_bak_and_never_replaces_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = file(&dir);
        first.save(b"1").unwrap();
        first.save(b"2").unwrap();
        fs::remove_file(&first.path).unwrap();
        assert_eq!(load(&file(&dir)), Some(1));
        fs::write(&first.path, b"[").unwrap();
        let again = file(&dir);
        assert_eq!(load(&again), Some(1));
        again.save(b"3").unwrap();
        assert_eq!(fs::read(&again.backup).unwrap(), b"1");
        again.save(b"4").unwrap();
        assert_eq!(fs::read(&again.backup).unwrap(), b"3");
    }

    #[test]
    fn two_damaged_files_are_an_error_and_not_an_empty_table() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(&dir);
        fs::write(&file.path, b"[").unwrap();
        fs::write(&file.backup, b"").unwrap();
        assert!(matches!(
            file.load(json::parse_as::<i64>),
            Err(FileError::Damaged { .. })
        ));
    }
}

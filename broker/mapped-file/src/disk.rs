//! The seam on a real file system.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FlockOperation, RenameFlags};
use rustix::io::Errno;

use crate::segment::{Directory, Entry, Lock, Pace, Segment, SegmentOptions, Space};

mod fill;
mod maps;
mod segment;

use segment::DiskSegment;

/// How the name of a file ends that is being made. Listings do not show them.
const MAKING: &str = ".making";

/// A folder on a file system.
#[derive(Debug)]
pub struct DiskDirectory {
    root: PathBuf,
    /// Files that were begun: each has a name of its own while it is made.
    begun: AtomicU64,
}

impl DiskDirectory {
    /// The folder `root`, which is made if it is missing.
    pub fn open(root: &Path) -> io::Result<Self> {
        make_folders(root)?;
        let root = root.canonicalize()?;
        if let Some(parent) = root.parent() {
            sync_folder(parent)?;
        }
        Ok(Self {
            root,
            begun: AtomicU64::new(0),
        })
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn sync_parent(path: &Path) -> io::Result<()> {
        path.parent().map_or(Ok(()), sync_folder)
    }

    /// Makes the file at `making` and gives it the name `path` when all of it is on the disk.
    fn make(
        making: &Path,
        path: &Path,
        len: u64,
        options: SegmentOptions,
        pace: &mut dyn FnMut(u64) -> Pace,
    ) -> io::Result<DiskSegment> {
        // Opened before there is anything of that name: nothing may be in want of a descriptor after that.
        let folder = File::open(path.parent().unwrap_or(path))?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(making)?;
        fill::fill(&file, making, len, options.fill, pace)?;
        file.sync_all()?;
        let segment = DiskSegment::made(file, making, len, path, options)?;
        rename_to_new(making, path)?;
        if let Err(error) = folder.sync_all() {
            // Nothing was made, and the next try is not to find something in its way.
            let _ = fs::remove_file(path);
            return Err(error);
        }
        Ok(segment)
    }
}

/// Fails if there is a file `to`.
fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    let here = rustix::fs::CWD;
    match rustix::fs::renameat_with(here, from, here, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        // A file system without that flag.
        Err(Errno::INVAL | Errno::NOSYS) if !to.exists() => fs::rename(from, to),
        Err(error) => Err(error.into()),
    }
}

/// Makes a folder and those above it that are missing, each of them durable.
fn make_folders(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().unwrap_or(folder);
    make_folders(parent)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let here = parent.as_os_str().is_empty();
    sync_folder(if here { Path::new(".") } else { parent })
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// What a listing shows of an entry: nothing of a file that is being made, nor of one that went since the folder was read.
fn shown(entry: &fs::DirEntry) -> io::Result<Option<Entry>> {
    let Ok(name) = entry.file_name().into_string() else {
        return Ok(None);
    };
    if name.ends_with(MAKING) {
        return Ok(None);
    }
    let meta = match entry.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        meta => meta?,
    };
    let is_folder = meta.is_dir();
    Ok(Some(Entry {
        name,
        is_folder,
        len: if is_folder { 0 } else { meta.len() },
    }))
}

fn unless_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

impl Directory for DiskDirectory {
    fn list(&self, folder: &str) -> io::Result<Vec<Entry>> {
        let entries = match fs::read_dir(self.path(folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut list = Vec::new();
        for entry in entries {
            list.extend(shown(&entry?)?);
        }
        list.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(list)
    }

    fn create_folder(&self, folder: &str) -> io::Result<()> {
        let mut made = self.root.clone();
        for part in folder.split('/').filter(|part| !part.is_empty()) {
            let above = made.clone();
            made.push(part);
            match fs::create_dir(&made) {
                Ok(()) => sync_folder(&above)?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn create(
        &self,
        path: &str,
        len: u64,
        options: SegmentOptions,
    ) -> io::Result<Arc<dyn Segment>> {
        self.create_paced(path, len, options, &mut |_| Pace::GoOn)
    }

    fn create_paced(
        &self,
        path: &str,
        len: u64,
        options: SegmentOptions,
        pace: &mut dyn FnMut(u64) -> Pace,
    ) -> io::Result<Arc<dyn Segment>> {
        let path = self.path(path);
        if path.try_exists()? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        let mut making = path.clone().into_os_string();
        making.push(format!(".{number}{MAKING}"));
        let making = PathBuf::from(making);
        match Self::make(&making, &path, len, options, pace) {
            Ok(segment) => Ok(Arc::new(segment)),
            Err(error) => {
                // What is left of it is removed by the next start, if not now.
                let _ = fs::remove_file(&making);
                Err(error)
            }
        }
    }

    fn remove_unfinished(&self, folder: &str) -> io::Result<()> {
        let entries = match fs::read_dir(self.path(folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            if entry
                .file_name()
                .as_encoded_bytes()
                .ends_with(MAKING.as_bytes())
            {
                unless_missing(fs::remove_file(entry.path()))?;
            }
        }
        Ok(())
    }

    fn open(&self, path: &str, options: SegmentOptions) -> io::Result<Arc<dyn Segment>> {
        let path = self.path(path);
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let len = file.metadata()?.len();
        let segment = DiskSegment::made(file, &path, len, &path, options)?;
        Ok(Arc::new(segment))
    }

    fn open_later(
        &self,
        path: &str,
        len: u64,
        options: SegmentOptions,
    ) -> io::Result<Arc<dyn Segment>> {
        Ok(Arc::new(DiskSegment::known(len, &self.path(path), options)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.path(from), self.path(to));
        rename_to_new(&from, &to)?;
        // The new name first: a crash between the two may leave both, never none.
        Self::sync_parent(&to)?;
        Self::sync_parent(&from)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        unless_missing(fs::remove_file(self.path(path)))
    }

    fn remove_folder(&self, folder: &str) -> io::Result<()> {
        unless_missing(fs::remove_dir_all(self.path(folder)))
    }

    fn sync(&self, folder: &str) -> io::Result<()> {
        unless_missing(sync_folder(&self.path(folder)))
    }

    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path(path)) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn replace(&self, path: &str, content: &[u8]) -> io::Result<()> {
        let path = self.path(path);
        let mut temporary = path.clone().into_os_string();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        fs::write(&temporary, content)?;
        OpenOptions::new()
            .write(true)
            .open(&temporary)?
            .sync_all()?;
        fs::rename(&temporary, &path)?;
        Self::sync_parent(&path)
    }

    fn space(&self) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(&self.root)?;
        Ok(Space {
            capacity: stat
                .f_blocks
                .saturating_sub(stat.f_bfree.saturating_sub(stat.f_bavail))
                * stat.f_frsize,
            available: stat.f_bavail * stat.f_frsize,
        })
    }

    fn lock(&self, path: &str) -> io::Result<Box<dyn Lock>> {
        let path = self.path(path);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        // flock keeps out other opens in this process, the POSIX lock keeps out a Java broker, which knows only that kind.
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::ACCESS | Errno::AGAIN) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => return Err(error.into()),
        }
        file.write_all_at(b"lock", 0)?;
        Ok(Box::new(FileLock { _file: file }))
    }
}

struct FileLock {
    _file: File,
}

impl Lock for FileLock {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_while_a_folder_is_listed_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let making = format!("b.0{MAKING}");
        for name in ["a", &making, "c"] {
            fs::write(folder.path().join(name), b"four").unwrap();
        }
        let entries = fs::read_dir(folder.path()).unwrap();
        let entries: Vec<_> = entries.map(Result::unwrap).collect();
        assert_eq!(entries.len(), 3);
        fs::remove_file(folder.path().join("a")).unwrap();
        // It has its name by now.
        fs::rename(folder.path().join(&making), folder.path().join("b")).unwrap();
        let listed: Vec<_> = entries
            .iter()
            .filter_map(|entry| shown(entry).unwrap())
            .collect();
        let left = Entry {
            name: "c".to_owned(),
            is_folder: false,
            len: 4,
        };
        assert_eq!(listed, [left]);
    }
}

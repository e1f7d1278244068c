//! The seam on a real file system.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use memmap2::Mmap;
use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::io::{Errno, ReadWriteFlags};

use crate::segment::{Advice, Directory, Entry, Fill, Lock, Segment, SegmentOptions, Space};

/// Bytes of one write of zeros.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
/// Residence is asked for once in these many bytes: the kernel reads and evicts in larger pieces than pages.
const SAMPLE_BYTES: u64 = 64 << 10;
/// Parts of one `pwritev` at most (`IOV_MAX` on Linux).
const PARTS_MAX: usize = 1024;

/// A folder on a file system.
#[derive(Debug)]
pub struct DiskDirectory {
    root: PathBuf,
}

impl DiskDirectory {
    /// The folder `root`, which is made if it is missing.
    pub fn open(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        let root = root.canonicalize()?;
        if let Some(parent) = root.parent() {
            sync_folder(parent)?;
        }
        Ok(Self { root })
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn sync_parent(path: &Path) -> io::Result<()> {
        path.parent().map_or(Ok(()), sync_folder)
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
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
            let entry = entry?;
            let meta = entry.metadata()?;
            if let Ok(name) = entry.file_name().into_string() {
                let is_folder = meta.is_dir();
                list.push(Entry {
                    name,
                    is_folder,
                    len: if is_folder { 0 } else { meta.len() },
                });
            }
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
        let path = self.path(path);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        let filled = fill(&file, len, options.fill).and_then(|()| file.sync_all());
        let opened = filled.and_then(|()| DiskSegment::new(file, len, &path, options));
        match opened {
            Ok(segment) => {
                Self::sync_parent(&path)?;
                Ok(Arc::new(segment))
            }
            Err(error) => {
                fs::remove_file(&path)?;
                Err(error)
            }
        }
    }

    fn open(&self, path: &str, options: SegmentOptions) -> io::Result<Arc<dyn Segment>> {
        let path = self.path(path);
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let len = file.metadata()?.len();
        Ok(Arc::new(DiskSegment::new(file, len, &path, options)?))
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

fn fill(file: &File, len: u64, fill: Fill) -> io::Result<()> {
    match fill {
        Fill::Sparse => file.set_len(len),
        Fill::Reserve => match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len) {
            Ok(()) => Ok(()),
            // A file system without reservation: take the blocks by writing them.
            Err(Errno::OPNOTSUPP) => write_zeros(file, 0, len),
            Err(error) => Err(error.into()),
        },
        Fill::Zeros => write_zeros(file, 0, len),
    }
}

fn write_zeros(file: &File, from: u64, to: u64) -> io::Result<()> {
    let mut at = from;
    while at < to {
        let part = usize::try_from(to - at).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
        file.write_all_at(ZEROS.get(..part).unwrap_or(&ZEROS), at)?;
        at += part as u64;
    }
    Ok(())
}

/// A file of fixed length.
struct DiskSegment {
    file: File,
    lanes: Vec<OwnedFd>,
    len: u64,
    published: AtomicU64,
    /// Held while writing and while publishing, so that nothing is published under a write that is still running.
    writing: Mutex<()>,
    map: OnceLock<Arc<Map>>,
}

impl DiskSegment {
    fn new(file: File, len: u64, path: &Path, options: SegmentOptions) -> io::Result<Self> {
        let lanes = (0..options.lanes)
            .map(|_| {
                OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open(path)
                    .map(OwnedFd::from)
            })
            .collect::<io::Result<_>>()?;
        Ok(Self {
            file,
            lanes,
            len,
            published: AtomicU64::new(0),
            writing: Mutex::new(()),
            map: OnceLock::new(),
        })
    }

    fn may_write(&self, from: u64, to: u64) -> io::Result<()> {
        if from < self.published.load(Ordering::Acquire) || to < from || to > self.len {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(())
    }

    fn map(&self) -> io::Result<&Arc<Map>> {
        if let Some(map) = self.map.get() {
            return Ok(map);
        }
        // SAFETY: the file has its full length and is never shortened; the folder's lock keeps other processes away.
        // Bytes of the map are read only through `lease`, below the published position, where `write_at` and `zero`
        // refuse to write.
        let map = unsafe { Mmap::map(&self.file) }?;
        Ok(self.map.get_or_init(|| Arc::new(Map(map))))
    }
}

/// A read-only map; its bytes may be looked at only below the published position of its segment.
struct Map(Mmap);

/// A published part of a map, kept alive as long as someone reads it.
struct Lease {
    map: Arc<Map>,
    offset: usize,
    len: usize,
}

impl AsRef<[u8]> for Lease {
    fn as_ref(&self) -> &[u8] {
        published_bytes(&self.map, self.offset, self.len)
    }
}

/// Bytes of a map; the caller has checked that `offset + len` lies below the published position of its segment.
fn published_bytes(map: &Map, offset: usize, len: usize) -> &[u8] {
    let start = map.0.as_ptr();
    // SAFETY: the callers checked that `offset + len` lies below the published position and so within the map.
    let first = unsafe { start.add(offset) };
    // SAFETY: these bytes are mapped as long as `map` lives, which the result borrows, and being published they never
    // change any more. No reference to other bytes of the map is made, so none covers bytes that still change.
    unsafe { std::slice::from_raw_parts(first, len) }
}

impl Segment for DiskSegment {
    fn len(&self) -> u64 {
        self.len
    }

    fn write_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let total = parts.iter().map(|part| part.len() as u64).sum::<u64>();
        let _writing = self.writing.lock();
        self.may_write(offset, offset.saturating_add(total))?;
        let mut owned: Vec<IoSlice<'_>> = parts.to_vec();
        let mut left: &mut [IoSlice<'_>] = &mut owned;
        let mut at = offset;
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            let now = left.get(..left.len().min(PARTS_MAX)).unwrap_or_default();
            let written = match rustix::io::pwritev(self.file.as_fd(), now, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            at += written as u64;
            IoSlice::advance_slices(&mut left, written);
        }
        Ok(())
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, offset)
    }

    fn zero(&self, from: u64, to: u64) -> io::Result<()> {
        let _writing = self.writing.lock();
        self.may_write(from, to)?;
        if from == to {
            return Ok(());
        }
        let flags = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, flags, from, to - from) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP) => write_zeros(&self.file, from, to),
            Err(error) => Err(error.into()),
        }
    }

    fn publish(&self, end: u64) {
        assert!(end <= self.len, "published beyond the end of a segment");
        let _writing = self.writing.lock();
        self.published.fetch_max(end, Ordering::AcqRel);
    }

    fn published(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    fn lease(&self, offset: u64, len: usize) -> io::Result<Option<Bytes>> {
        let published = self.published();
        if offset
            .checked_add(len as u64)
            .is_none_or(|end| end > published)
        {
            return Ok(None);
        }
        if len == 0 {
            return Ok(Some(Bytes::new()));
        }
        let Ok(offset) = usize::try_from(offset) else {
            return Ok(None);
        };
        let map = Arc::clone(self.map()?);
        Ok(Some(Bytes::from_owner(Lease { map, offset, len })))
    }

    fn copy(&self, offset: u64, len: usize, into: &mut Vec<u8>) -> io::Result<bool> {
        let published = self.published();
        if offset
            .checked_add(len as u64)
            .is_none_or(|end| end > published)
        {
            return Ok(false);
        }
        if len > 0 {
            let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
            into.extend_from_slice(published_bytes(self.map()?, offset, len));
        }
        Ok(true)
    }

    fn is_resident(&self, offset: u64, len: u64) -> bool {
        let end = offset.saturating_add(len).min(self.len);
        let mut at = offset;
        while at < end {
            let mut byte = [0];
            let into = &mut [IoSliceMut::new(&mut byte)];
            match rustix::io::preadv2(&self.file, into, at, ReadWriteFlags::NOWAIT) {
                Err(Errno::AGAIN) => return false,
                // Not known here.
                Err(_) => return true,
                Ok(_) => at += SAMPLE_BYTES,
            }
        }
        true
    }

    fn advise(&self, offset: u64, len: u64, advice: Advice) {
        let advice = match advice {
            Advice::WillNeed => rustix::fs::Advice::WillNeed,
            Advice::DontNeed => rustix::fs::Advice::DontNeed,
        };
        if let Some(len) = NonZeroU64::new(len) {
            // A hint.
            let _ = rustix::fs::fadvise(&self.file, offset, Some(len), advice);
        }
    }

    fn flush(&self, lane: usize) -> io::Result<()> {
        let lane = self.lanes.get(lane).ok_or(io::ErrorKind::InvalidInput)?;
        rustix::fs::fdatasync(lane).map_err(io::Error::from)
    }

    fn forget_cache(&self) -> io::Result<()> {
        rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed)
            .map_err(io::Error::from)
    }
}

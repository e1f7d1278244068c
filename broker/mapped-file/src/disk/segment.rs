//! One file: written by `pwritev`, flushed by lanes, read through a read-only map or by `pread`.
//!
//! Nothing is opened before it is needed: a store of thousands of files that are only there to be read some day holds
//! no descriptor and no map of them. What is needed for writing is opened together and before the first write, so that
//! no lane misses the kernel's report of a lost one, and closed by `retire`.
//!
//! SIGBUS: a map of a file that became shorter, or of a sector that cannot be read, kills the process at the look. The
//! length is therefore compared when the file is opened, and whoever reads what is not in memory does so by `read_at` or
//! `read_aside`, from which the same faults come as errors.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arc_swap::Guard;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use rustix::fs::FallocateFlags;
use rustix::io::{Errno, ReadWriteFlags};

use super::fill::write_zeros;
use super::maps::{Map, Maps};
use crate::published::Published;
use crate::segment::{Advice, Fill, Segment, SegmentOptions};

/// Residence is asked for once in these many bytes: the kernel reads and evicts in larger pieces than pages.
const SAMPLE_BYTES: u64 = 64 << 10;
/// Parts of one `pwritev` at most (`IOV_MAX` on Linux).
const PARTS_MAX: usize = 1024;

/// A file of fixed length.
pub(super) struct DiskSegment {
    path: PathBuf,
    len: u64,
    options: SegmentOptions,
    published: Published,
    /// Held while writing and while publishing, so that nothing is published under a write that is still running.
    writing: Mutex<()>,
    writer: RwLock<Option<Arc<Writer>>>,
    reader: OnceLock<File>,
    maps: Maps,
}

/// What writing needs.
struct Writer {
    file: File,
    lanes: Vec<OwnedFd>,
}

impl Writer {
    fn open(file: File, path: &Path, lanes: usize) -> io::Result<Self> {
        let lane = |_| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(path)
                .map(OwnedFd::from)
        };
        Ok(Self {
            file,
            lanes: (0..lanes).map(lane).collect::<io::Result<_>>()?,
        })
    }
}

impl DiskSegment {
    /// A file that is open for reading and writing under the name `now`, and will have the name `path`.
    pub(super) fn made(
        file: File,
        now: &Path,
        len: u64,
        path: &Path,
        options: SegmentOptions,
    ) -> io::Result<Self> {
        let reader = read_as_asked(file.try_clone()?);
        let segment = Self::known(len, path, options);
        *segment.writer.write() = Some(Arc::new(Writer::open(file, now, options.lanes)?));
        let _is_new = segment.reader.set(reader);
        Ok(segment)
    }

    /// A file of known length that is not opened yet.
    pub(super) fn known(len: u64, path: &Path, options: SegmentOptions) -> Self {
        Self {
            path: path.to_owned(),
            len,
            options,
            published: Published::new(len),
            writing: Mutex::new(()),
            writer: RwLock::new(None),
            reader: OnceLock::new(),
            maps: Maps::default(),
        }
    }

    fn checked(&self, file: File) -> io::Result<File> {
        if file.metadata()?.len() < self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(file)
    }

    fn reader(&self) -> io::Result<&File> {
        if let Some(file) = self.reader.get() {
            return Ok(file);
        }
        let file = read_as_asked(self.checked(File::open(&self.path)?)?);
        Ok(self.reader.get_or_init(|| file))
    }

    fn writer(&self) -> io::Result<Arc<Writer>> {
        if let Some(writer) = &*self.writer.read() {
            return Ok(Arc::clone(writer));
        }
        let mut writer = self.writer.write();
        if let Some(writer) = &*writer {
            return Ok(Arc::clone(writer));
        }
        let file = OpenOptions::new().read(true).write(true).open(&self.path)?;
        let opened = Writer::open(self.checked(file)?, &self.path, self.options.lanes)?;
        Ok(Arc::clone(writer.insert(Arc::new(opened))))
    }

    /// Reads end with the segment, also where the file goes on.
    fn may_read(&self, offset: u64, len: usize) -> io::Result<()> {
        match offset.checked_add(len as u64) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn may_write(&self, from: u64, to: u64) -> io::Result<()> {
        if self.published.admits(from, to) {
            Ok(())
        } else {
            Err(io::ErrorKind::InvalidInput.into())
        }
    }

    fn map(&self) -> io::Result<Guard<Option<Arc<Map>>>> {
        self.maps.current(|| self.reader())
    }
}

/// Has the kernel read from `file` what it is asked for and nothing ahead of it: who wants that says so ([`Segment::advise`]),
/// counts it and gives it up. Where the device's `read_ahead_kb` is large, one reader that is behind would bring in everything.
fn read_as_asked(file: File) -> File {
    // A hint.
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random);
    file
}

/// A published part of a map, kept alive as long as someone reads it.
struct Lease {
    map: Arc<Map>,
    offset: usize,
    len: usize,
}

impl AsRef<[u8]> for Lease {
    fn as_ref(&self) -> &[u8] {
        self.map.published_bytes(self.offset, self.len)
    }
}

impl Segment for DiskSegment {
    fn len(&self) -> u64 {
        self.len
    }

    fn write_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let total = parts.iter().map(|part| part.len() as u64).sum::<u64>();
        let writer = self.writer()?;
        let _writing = self.writing.lock();
        self.may_write(offset, offset.saturating_add(total))?;
        // Almost always one part, which needs no list of its own.
        let mut one;
        let mut several;
        let mut left: &mut [IoSlice<'_>] = if let [part] = parts {
            one = [*part];
            &mut one
        } else {
            several = parts.to_vec();
            &mut several
        };
        let mut at = offset;
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            let now = left.get(..left.len().min(PARTS_MAX)).unwrap_or_default();
            let written = match rustix::io::pwritev(writer.file.as_fd(), now, at) {
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
        self.may_read(offset, into.len())?;
        self.reader()?.read_exact_at(into, offset)
    }

    fn replace_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.may_read(offset, bytes.len())
            .map_err(|_| io::ErrorKind::InvalidInput)?;
        let end = offset + bytes.len() as u64;
        let withheld = usize::try_from(offset).unwrap_or(usize::MAX)
            ..usize::try_from(end).unwrap_or(usize::MAX);
        self.maps.withhold(self.reader()?, withheld)?;
        // Opened before the write, so that the kernel tells this flush of a write that was lost.
        let file = OpenOptions::new().read(true).write(true).open(&self.path)?;
        let file = self.checked(file)?;
        let written = {
            let _writing = self.writing.lock();
            file.write_all_at(bytes, offset)
        };
        let flushed = written.and_then(|()| rustix::fs::fdatasync(&file).map_err(io::Error::from));
        if let (Err(_), Some(len)) = (&flushed, NonZeroU64::new(bytes.len() as u64)) {
            // What the disk does not have must not be read from memory as if it had. A hint.
            let _ = rustix::fs::fadvise(&file, offset, Some(len), rustix::fs::Advice::DontNeed);
        }
        flushed?;
        self.maps.show_all(self.reader()?)
    }

    fn show_all(&self) -> io::Result<()> {
        self.maps.show_all(self.reader()?)
    }

    fn zero(&self, from: u64, to: u64) -> io::Result<()> {
        let writer = self.writer()?;
        let _writing = self.writing.lock();
        self.may_write(from, to)?;
        if from == to {
            return Ok(());
        }
        if self.options.fill == Fill::Zeros {
            // To make the range anew would cost what writing zeros ahead has gained.
            return write_zeros(&writer.file, from, to);
        }
        let flags = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&writer.file, flags, from, to - from) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP) => write_zeros(&writer.file, from, to),
            Err(error) => Err(error.into()),
        }
    }

    fn publish(&self, end: u64) {
        let _writing = self.writing.lock();
        self.published.raise(end);
    }

    fn published(&self) -> u64 {
        self.published.get()
    }

    fn lease(&self, offset: u64, len: usize) -> io::Result<Option<Bytes>> {
        if !self.published.covers(offset, len as u64) {
            return Ok(None);
        }
        if len == 0 {
            return Ok(Some(Bytes::new()));
        }
        let Ok(offset) = usize::try_from(offset) else {
            return Ok(None);
        };
        let current = self.map()?;
        let Some(map) = current.as_ref().filter(|map| map.shows(offset, len)) else {
            return Ok(None);
        };
        let map = Arc::clone(map);
        Ok(Some(Bytes::from_owner(Lease { map, offset, len })))
    }

    fn look(&self, offset: u64, len: usize, look: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
        if !self.published.covers(offset, len as u64) {
            return Ok(false);
        }
        if len > 0 {
            let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
            let current = self.map()?;
            let Some(map) = current.as_ref().filter(|map| map.shows(offset, len)) else {
                return Ok(false);
            };
            look(map.published_bytes(offset, len));
        }
        Ok(true)
    }

    fn is_resident(&self, offset: u64, len: u64) -> bool {
        let Ok(file) = self.reader() else {
            return true;
        };
        let end = offset.saturating_add(len).min(self.len);
        let mut at = offset;
        while at < end {
            let mut byte = [0];
            let into = &mut [IoSliceMut::new(&mut byte)];
            match rustix::io::preadv2(file, into, at, ReadWriteFlags::NOWAIT) {
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
        if let (Some(len), Ok(file)) = (NonZeroU64::new(len), self.reader()) {
            // A hint.
            let _ = rustix::fs::fadvise(file, offset, Some(len), advice);
        }
    }

    fn flush(&self, lane: usize) -> io::Result<()> {
        let writer = self.writer()?;
        let lane = writer.lanes.get(lane).ok_or(io::ErrorKind::InvalidInput)?;
        rustix::fs::fdatasync(lane).map_err(io::Error::from)
    }

    fn forget_cache(&self) -> io::Result<()> {
        // Pages that were never written out cannot be given up, so they are written first; those whose writing failed
        // count as clean and go.
        rustix::fs::fdatasync(&self.writer()?.file)?;
        rustix::fs::fadvise(self.reader()?, 0, None, rustix::fs::Advice::DontNeed)
            .map_err(io::Error::from)
    }

    fn read_aside(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.may_read(offset, into.len())?;
        // A descriptor of its own: reading ahead is a property of the open file.
        let file = self.checked(File::open(&self.path)?)?;
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random)?;
        let was_there = {
            let parts = &mut [IoSliceMut::new(into)];
            rustix::io::preadv2(&file, parts, offset, ReadWriteFlags::NOWAIT)
        };
        if was_there == Ok(into.len()) {
            return Ok(());
        }
        file.read_exact_at(into, offset)?;
        if let Some(len) = NonZeroU64::new(into.len() as u64) {
            // A hint.
            let _ = rustix::fs::fadvise(&file, offset, Some(len), rustix::fs::Advice::DontNeed);
        }
        Ok(())
    }

    fn is_named(&self) -> io::Result<bool> {
        let writer = self.writer.read().clone();
        let links = match (&writer, self.reader.get()) {
            (Some(writer), _) => rustix::fs::fstat(&writer.file)?.st_nlink,
            (None, Some(file)) => rustix::fs::fstat(file)?.st_nlink,
            (None, None) => match rustix::fs::stat(&self.path) {
                Err(Errno::NOENT) => 0,
                other => other?.st_nlink,
            },
        };
        Ok(links > 0)
    }

    fn ready_to_write(&self) -> io::Result<()> {
        self.writer().map(drop)
    }

    fn retire(&self) {
        drop(self.writer.write().take());
    }
}

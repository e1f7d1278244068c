//! The segment of the twin in memory.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Counts, EIO, File, SECTOR_BYTES, World};
use crate::published::Published;
use crate::segment::Segment;

/// What the page cache of Linux goes by.
const PAGE_BYTES: usize = 4096;

pub(super) struct MemorySegment {
    world: Arc<Mutex<World>>,
    folder: Arc<str>,
    file: Result<File, io::ErrorKind>,
    len: u64,
    published: Published,
    is_open: AtomicBool,
}

impl MemorySegment {
    pub(super) fn new(
        world: Arc<Mutex<World>>,
        folder: &str,
        file: Result<File, io::ErrorKind>,
        len: u64,
    ) -> Self {
        Self {
            world,
            folder: folder.into(),
            file,
            len,
            published: Published::new(len),
            is_open: AtomicBool::new(false),
        }
    }

    pub(super) fn count_open(&self) {
        if !self.is_open.swap(true, Ordering::Relaxed) {
            self.count(|counts| counts.opens += 1);
        }
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(self.world.lock().counts_in(&self.folder));
    }

    /// The file, opened if it is not.
    fn opened(&self) -> io::Result<&File> {
        if !self.is_open.load(Ordering::Relaxed) {
            self.world.lock().may_open()?;
        }
        self.count_open();
        match &self.file {
            Ok(file) if (file.lock().cache.len() as u64) < self.len => {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Ok(file) => Ok(file),
            Err(kind) => Err((*kind).into()),
        }
    }

    fn range(&self, from: u64, to: u64, least: u64) -> io::Result<(usize, usize)> {
        if from < least || to < from || to > self.len {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        match (usize::try_from(from), usize::try_from(to)) {
            (Ok(from), Ok(to)) => Ok((from, to)),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// How many of `len` bytes a write at `at` may do, and how it then fails.
    fn admitted(&self, at: usize, len: usize) -> (usize, Option<io::Error>) {
        let mut world = self.world.lock();
        world.writes += 1;
        let counts = world.counts_in(&self.folder);
        counts.writes += 1;
        counts.bytes_written += len as u64;
        counts.pages_written += ((at + len).div_ceil(PAGE_BYTES) - at / PAGE_BYTES) as u64;
        if let Err(error) = world.count_change() {
            return (0, Some(error));
        }
        if let Some((at, error)) = world.faults.write_error_at
            && world.writes >= at
        {
            return (0, Some(io::Error::from_raw_os_error(error)));
        }
        if world.faults.short_write_at == Some(world.writes) {
            let part = world.dice().below(len as u64 + 1);
            let error = io::Error::other("input/output error (injected)");
            return (usize::try_from(part).unwrap_or(0), Some(error));
        }
        (len, None)
    }

    /// Counts a lease. A look at a sector that cannot be read kills a process, so it does here.
    fn look(&self, from: usize, to: usize) -> io::Result<()> {
        self.count(|counts| counts.leases += 1);
        assert!(
            !self.opened()?.lock().is_bad(from, to),
            "SIGBUS: a map shows a sector that cannot be read"
        );
        Ok(())
    }
}

impl Segment for MemorySegment {
    fn len(&self) -> u64 {
        self.len
    }

    fn write_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let (at, _) = self.range(
            offset,
            offset.saturating_add(bytes.len() as u64),
            self.published(),
        )?;
        let file = self.opened()?;
        let (part, error) = self.admitted(at, bytes.len());
        file.lock().write(at, bytes.get(..part).unwrap_or_default());
        error.map_or(Ok(()), Err)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let (from, to) = self
            .range(offset, offset.saturating_add(into.len() as u64), 0)
            .map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        self.count(|counts| {
            counts.reads += 1;
            counts.bytes_read += (to - from) as u64;
        });
        let image = self.opened()?.lock();
        if image.is_bad(from, to) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let bytes = image
            .cache
            .get(from..to)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(bytes);
        Ok(())
    }

    fn replace_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        // Leases are copies here, so none is in the way.
        let (from, to) = self.range(offset, offset.saturating_add(bytes.len() as u64), 0)?;
        let file = self.opened()?;
        let (part, error) = self.admitted(from, bytes.len());
        {
            let mut image = file.lock();
            image.write(from, bytes.get(..part).unwrap_or_default());
            // A disk gives a sector that is written over another place.
            image.bad.take_if(|bad| from <= bad.start && bad.end <= to);
        }
        error.map_or(Ok(()), Err)?;
        self.flush(0)
    }

    fn zero(&self, from: u64, to: u64) -> io::Result<()> {
        let (from, to) = self.range(from, to, self.published())?;
        self.world.lock().count_change()?;
        let mut image = self.opened()?.lock();
        // Only sectors that were not zero are written, so that a crash has few to choose from.
        let mut at = from;
        while at < to {
            let end = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(to);
            if image
                .cache
                .get(at..end)
                .is_some_and(|bytes| bytes.iter().any(|&byte| byte != 0))
            {
                image.write(at, &vec![0; end - at]);
            }
            at = end;
        }
        Ok(())
    }

    fn publish(&self, end: u64) {
        self.published.raise(end);
    }

    fn published(&self) -> u64 {
        self.published.get()
    }

    fn lease(&self, offset: u64, len: usize) -> io::Result<Option<Bytes>> {
        if !self.published.covers(offset, len as u64) {
            return Ok(None);
        }
        let (from, to) = self.range(offset, offset + len as u64, 0)?;
        self.look(from, to)?;
        Ok(self
            .opened()?
            .lock()
            .cache
            .get(from..to)
            .map(Bytes::copy_from_slice))
    }

    fn flush(&self, _: usize) -> io::Result<()> {
        let file = self.opened()?;
        let mut world = self.world.lock();
        world.count_change()?;
        world.flushes += 1;
        world.counts_in(&self.folder).flushes += 1;
        let fails = world.faults.flush_error_at == Some(world.flushes);
        let mut image = file.lock();
        let dirty = std::mem::take(&mut image.dirty);
        if fails {
            let kept: Vec<usize> = dirty
                .into_iter()
                .filter(|_| world.dice().below(2) == 0)
                .collect();
            image.settle(kept.into_iter());
            return Err(io::Error::other("input/output error (injected)"));
        }
        image.settle(dirty.into_iter());
        Ok(())
    }

    fn forget_cache(&self) -> io::Result<()> {
        let mut guard = self.opened()?.lock();
        let image = &mut *guard;
        let dirty = std::mem::take(&mut image.dirty);
        image.settle(dirty.into_iter());
        image.cache.clone_from(&image.disk);
        Ok(())
    }

    fn ready_to_write(&self) -> io::Result<()> {
        self.opened().map(drop)
    }

    fn is_named(&self) -> io::Result<bool> {
        let (file, world) = (self.opened()?, self.world.lock());
        Ok(world.files.values().any(|other| Arc::ptr_eq(other, file)))
    }
}

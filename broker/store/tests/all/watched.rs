//! The disk in memory with a page cache over it that is watched: what was in it, what it was told, what was asked of it.

use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use rocket_mapped_file::memory::MemoryDirectory;
use rocket_mapped_file::{Advice, Directory, Entry, Lock, Segment, SegmentOptions, Space};

/// The cache is watched in pieces of this many bytes.
pub(crate) const PIECE: u64 = 1 << 20;

/// A file and a piece of it.
pub(crate) type Piece = (String, u64);

#[derive(Default)]
pub(crate) struct Cache {
    pub(crate) resident: BTreeSet<Piece>,
    pub(crate) resident_max: usize,
    /// In the order that it came.
    pub(crate) advised: Vec<(Advice, Piece)>,
    /// Pieces whose residence was asked for.
    pub(crate) asked: usize,
    /// Leases and copies through the map of what was not resident: each would have waited for the disk.
    pub(crate) faults: usize,
}

impl Cache {
    fn add(&mut self, piece: Piece) {
        self.resident.insert(piece);
        self.resident_max = self.resident_max.max(self.resident.len());
    }
}

/// What happens once, when a byte of a file has been read and whoever read it does not know yet.
struct Deed {
    path: String,
    at: u64,
    act: Box<dyn FnOnce() + Send>,
}

#[derive(Clone)]
pub(crate) struct Watched {
    dir: MemoryDirectory,
    cache: Arc<Mutex<Cache>>,
    deed: Arc<Mutex<Option<Deed>>>,
    /// This small file cannot be replaced.
    refused: Option<&'static str>,
}

impl Watched {
    pub(crate) fn new(dir: MemoryDirectory) -> Self {
        Self {
            dir,
            cache: Arc::default(),
            deed: Arc::default(),
            refused: None,
        }
    }

    /// The same disk, full whenever the file at `path` is to be replaced.
    pub(crate) fn refusing(self, path: &'static str) -> Self {
        Self {
            refused: Some(path),
            ..self
        }
    }

    /// `act` is called when the byte at `at` of a file has been read.
    pub(crate) fn when_read(&self, path: &str, at: u64, act: impl FnOnce() + Send + 'static) {
        *self.deed.lock().unwrap() = Some(Deed {
            path: path.to_owned(),
            at,
            act: Box::new(act),
        });
    }

    pub(crate) fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap()
    }

    fn watch(&self, path: &str, segment: Arc<dyn Segment>) -> Arc<dyn Segment> {
        Arc::new(WatchedSegment {
            path: path.to_owned(),
            segment,
            cache: Arc::clone(&self.cache),
            deed: Arc::clone(&self.deed),
        })
    }
}

impl Directory for Watched {
    fn list(&self, folder: &str) -> io::Result<Vec<Entry>> {
        self.dir.list(folder)
    }
    fn create_folder(&self, folder: &str) -> io::Result<()> {
        self.dir.create_folder(folder)
    }
    fn create(
        &self,
        path: &str,
        len: u64,
        options: SegmentOptions,
    ) -> io::Result<Arc<dyn Segment>> {
        Ok(self.watch(path, self.dir.create(path, len, options)?))
    }
    fn open(&self, path: &str, options: SegmentOptions) -> io::Result<Arc<dyn Segment>> {
        Ok(self.watch(path, self.dir.open(path, options)?))
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        self.dir.remove(path)
    }
    fn remove_folder(&self, folder: &str) -> io::Result<()> {
        self.dir.remove_folder(folder)
    }
    fn sync(&self, folder: &str) -> io::Result<()> {
        self.dir.sync(folder)
    }
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        self.dir.read(path)
    }
    fn replace(&self, path: &str, content: &[u8]) -> io::Result<()> {
        if self.refused == Some(path) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.dir.replace(path, content)
    }
    fn space(&self) -> io::Result<Space> {
        self.dir.space()
    }
    fn lock(&self, path: &str) -> io::Result<Box<dyn Lock>> {
        self.dir.lock(path)
    }
}

struct WatchedSegment {
    path: String,
    segment: Arc<dyn Segment>,
    cache: Arc<Mutex<Cache>>,
    deed: Arc<Mutex<Option<Deed>>>,
}

impl WatchedSegment {
    fn pieces(&self, offset: u64, len: u64) -> impl Iterator<Item = Piece> {
        let last = (offset + len).saturating_sub(1) / PIECE;
        (offset / PIECE..=last).map(|piece| (self.path.clone(), piece))
    }

    fn touch(&self, offset: u64, len: u64, through_map: bool) {
        let mut cache = self.cache.lock().unwrap();
        for piece in self.pieces(offset, len) {
            if through_map && !cache.resident.contains(&piece) {
                cache.faults += 1;
            }
            cache.add(piece);
        }
    }
}

impl Segment for WatchedSegment {
    fn len(&self) -> u64 {
        self.segment.len()
    }
    fn write_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        self.touch(
            offset,
            parts.iter().map(|part| part.len() as u64).sum(),
            false,
        );
        self.segment.write_at(offset, parts)
    }
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.touch(offset, into.len() as u64, false);
        self.segment.read_at(offset, into)?;
        let read = offset..offset + into.len() as u64;
        let is_due = |deed: &mut Deed| deed.path == self.path && read.contains(&deed.at);
        let due = self.deed.lock().unwrap().take_if(is_due);
        if let Some(deed) = due {
            (deed.act)();
        }
        Ok(())
    }
    fn replace_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.segment.replace_at(offset, bytes)
    }
    fn zero(&self, from: u64, to: u64) -> io::Result<()> {
        self.segment.zero(from, to)
    }
    fn publish(&self, end: u64) {
        self.segment.publish(end);
    }
    fn published(&self) -> u64 {
        self.segment.published()
    }
    fn lease(&self, offset: u64, len: usize) -> io::Result<Option<Bytes>> {
        self.touch(offset, len as u64, true);
        self.segment.lease(offset, len)
    }
    fn flush(&self, lane: usize) -> io::Result<()> {
        self.segment.flush(lane)
    }
    fn forget_cache(&self) -> io::Result<()> {
        self.segment.forget_cache()
    }
    fn is_resident(&self, offset: u64, len: u64) -> bool {
        let mut cache = self.cache.lock().unwrap();
        cache.asked += 1;
        self.pieces(offset, len)
            .all(|piece| cache.resident.contains(&piece))
    }
    fn advise(&self, offset: u64, len: u64, advice: Advice) {
        let mut cache = self.cache.lock().unwrap();
        for piece in self.pieces(offset, len) {
            cache.advised.push((advice, piece.clone()));
            match advice {
                Advice::WillNeed => cache.add(piece),
                Advice::DontNeed => {
                    cache.resident.remove(&piece);
                }
            }
        }
    }
}

//! The disk in memory with a page cache over it that is watched: what was in it, what it was told, what was asked of it.

use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use rocket_mapped_file::memory::MemoryDirectory;
use rocket_mapped_file::{Advice, Directory, Segment};

use crate::wrapped::Wrapped;

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

/// See the module.
pub(crate) struct Watched {
    disk: Wrapped,
    cache: Arc<Mutex<Cache>>,
    deed: Arc<Mutex<Option<Deed>>>,
}

impl Watched {
    pub(crate) fn new(dir: MemoryDirectory) -> Self {
        let cache: Arc<Mutex<Cache>> = Arc::default();
        let deed: Arc<Mutex<Option<Deed>>> = Arc::default();
        let (to_cache, to_deed) = (Arc::clone(&cache), Arc::clone(&deed));
        let watch = move |path: &str, segment| -> Arc<dyn Segment> {
            Arc::new(WatchedSegment {
                path: path.to_owned(),
                segment,
                cache: Arc::clone(&to_cache),
                deed: Arc::clone(&to_deed),
            })
        };
        let disk = Wrapped::new(dir).with(watch);
        Self { disk, cache, deed }
    }

    pub(crate) fn disk(&self) -> Arc<dyn Directory> {
        Arc::new(self.disk.clone())
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

//! The seam in memory, with the faults of a disk.
//!
//! A file has two images: what a read sees (the page cache) and what is on the disk. A write changes the first and marks
//! its 512-byte sectors; a flush brings the marked ones over. A crash of the machine keeps any subset of the marked
//! sectors, chosen by a seed, and undoes any suffix of the changes to folders that were not flushed. A flush that fails
//! brings over any subset and marks nothing any more: the cache then shows bytes that the disk does not have, and a
//! later flush succeeds without them, as on Linux.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::segment::{Directory, Entry, Lock, Segment, SegmentOptions, Space};

/// What a disk writes all or nothing.
pub const SECTOR_BYTES: usize = 512;

/// A number sequence from a seed (SplitMix64); the whole of this twin's chance.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// The sequence of `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 if `end` is 0.
    pub const fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.roll() % end }
    }
}

/// Faults to come. Counts are of calls from the moment the faults were set; 1 is the next one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// This flush of a segment fails with an I/O error.
    pub flush_error_at: Option<u64>,
    /// This write fails with an I/O error after a part of it was written.
    pub short_write_at: Option<u64>,
    /// Decides how much the failing calls did.
    pub seed: u64,
}

#[derive(Default)]
struct Image {
    cache: Vec<u8>,
    disk: Vec<u8>,
    dirty: BTreeSet<usize>,
}

impl Image {
    fn settle(&mut self, sectors: impl Iterator<Item = usize>) {
        for sector in sectors {
            let from = sector * SECTOR_BYTES;
            let to = (from + SECTOR_BYTES).min(self.cache.len());
            if let (Some(disk), Some(cache)) =
                (self.disk.get_mut(from..to), self.cache.get(from..to))
            {
                disk.copy_from_slice(cache);
            }
        }
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if let Some(target) = self.cache.get_mut(at..at + bytes.len()) {
            target.copy_from_slice(bytes);
        }
        self.dirty
            .extend(at / SECTOR_BYTES..=(at + bytes.len() - 1) / SECTOR_BYTES);
    }
}

type File = Arc<Mutex<Image>>;

enum Undo {
    Created(String),
    Removed(String, File),
}

#[derive(Default)]
struct World {
    files: BTreeMap<String, File>,
    folders: BTreeSet<String>,
    unsynced: Vec<(String, Undo)>,
    locks: BTreeSet<String>,
    faults: Faults,
    flushes: u64,
    writes: u64,
    capacity: u64,
    dice: Option<Dice>,
}

impl World {
    fn dice(&mut self) -> &mut Dice {
        let seed = self.faults.seed;
        self.dice.get_or_insert_with(|| Dice::new(seed))
    }

    fn used(&self) -> u64 {
        self.files
            .values()
            .map(|file| file.lock().cache.len() as u64)
            .sum()
    }
}

/// A folder in memory. Clones share it.
#[derive(Clone)]
pub struct MemoryDirectory {
    world: Arc<Mutex<World>>,
}

impl Default for MemoryDirectory {
    fn default() -> Self {
        Self::with_capacity(u64::MAX)
    }
}

impl MemoryDirectory {
    /// An empty folder on a disk of `capacity` bytes; the sizes of files count, written or not.
    pub fn with_capacity(capacity: u64) -> Self {
        Self {
            world: Arc::new(Mutex::new(World {
                capacity,
                ..World::default()
            })),
        }
    }

    /// Sets the faults to come and starts counting anew.
    pub fn set_faults(&self, faults: Faults) {
        let mut world = self.world.lock();
        world.faults = faults;
        world.flushes = 0;
        world.writes = 0;
        world.dice = None;
    }

    /// Changes the size of the disk.
    pub fn set_capacity(&self, capacity: u64) {
        self.world.lock().capacity = capacity;
    }

    /// How many flushes of segments were asked for since the faults were set.
    pub fn flushes(&self) -> u64 {
        self.world.lock().flushes
    }

    /// The folder as the next process finds it after this one was killed: all that was written is there.
    #[must_use]
    pub fn killed(&self) -> Self {
        let world = self.world.lock();
        let mut next = World {
            folders: world.folders.clone(),
            capacity: world.capacity,
            ..World::default()
        };
        for (path, file) in &world.files {
            let file = file.lock();
            let image = Image {
                cache: file.cache.clone(),
                disk: file.disk.clone(),
                dirty: file.dirty.clone(),
            };
            next.files.insert(path.clone(), Arc::new(Mutex::new(image)));
        }
        Self {
            world: Arc::new(Mutex::new(next)),
        }
    }

    /// The folder as it is found after the machine lost power: of what was not flushed, any subset by `seed`.
    #[must_use]
    pub fn crashed(&self, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let next = self.killed();
        {
            let mut world = next.world.lock();
            let mut old = self.world.lock();
            let keep = dice.below(old.unsynced.len() as u64 + 1);
            let unsynced = std::mem::take(&mut old.unsynced);
            let (keep, count) = (usize::try_from(keep).unwrap_or(usize::MAX), unsynced.len());
            for (_, undo) in unsynced.into_iter().rev().take(count - keep.min(count)) {
                undo.apply(&mut world);
            }
            for file in world.files.values() {
                let mut guard = file.lock();
                let image = &mut *guard;
                let dirty = std::mem::take(&mut image.dirty);
                // All, none, or a coin for each: the plain cases must come up often too.
                let kind = dice.below(4);
                let kept: Vec<usize> = dirty
                    .into_iter()
                    .filter(|_| keeps(kind, &mut dice))
                    .collect();
                image.settle(kept.into_iter());
                image.cache.clone_from(&image.disk);
            }
        }
        next
    }

    /// Flips one bit of what is on the disk and in the cache. For damage that no crash makes.
    ///
    /// # Panics
    /// When there is no such byte.
    #[expect(
        clippy::expect_used,
        clippy::indexing_slicing,
        reason = "a test names a byte that does not exist"
    )]
    pub fn flip(&self, path: &str, at: usize) {
        let world = self.world.lock();
        let mut image = world.files.get(path).expect("a file of that name").lock();
        image.cache[at] ^= 1;
        image.disk[at] ^= 1;
    }

    fn file(&self, path: &str) -> io::Result<File> {
        self.world
            .lock()
            .files
            .get(path)
            .cloned()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn segment(&self, file: File) -> Arc<dyn Segment> {
        let len = file.lock().cache.len() as u64;
        Arc::new(MemorySegment {
            world: Arc::clone(&self.world),
            file,
            len,
            published: AtomicU64::new(0),
        })
    }
}

fn keeps(kind: u64, dice: &mut Dice) -> bool {
    match kind {
        0 => true,
        1 => false,
        _ => dice.below(2) == 0,
    }
}

impl Undo {
    fn apply(self, world: &mut World) {
        match self {
            Self::Created(path) => {
                world.files.remove(&path);
            }
            Self::Removed(path, file) => {
                let file = file.lock();
                let image = Image {
                    cache: file.disk.clone(),
                    disk: file.disk.clone(),
                    dirty: BTreeSet::new(),
                };
                world.files.insert(path, Arc::new(Mutex::new(image)));
            }
        }
    }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

impl Directory for MemoryDirectory {
    fn list(&self, folder: &str) -> io::Result<Vec<Entry>> {
        let world = self.world.lock();
        let files = world
            .files
            .iter()
            .filter(|(path, _)| split(path).0 == folder)
            .map(|(path, file)| Entry {
                name: split(path).1.to_owned(),
                is_folder: false,
                len: file.lock().cache.len() as u64,
            });
        let folders = world
            .folders
            .iter()
            .filter(|path| split(path).0 == folder)
            .map(|path| Entry {
                name: split(path).1.to_owned(),
                is_folder: true,
                len: 0,
            });
        let mut list: Vec<Entry> = files.chain(folders).collect();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(list)
    }

    fn create_folder(&self, folder: &str) -> io::Result<()> {
        let mut world = self.world.lock();
        let mut path = String::new();
        for part in folder.split('/').filter(|part| !part.is_empty()) {
            if !path.is_empty() {
                path.push('/');
            }
            path.push_str(part);
            world.folders.insert(path.clone());
        }
        Ok(())
    }

    fn create(&self, path: &str, len: u64, _: SegmentOptions) -> io::Result<Arc<dyn Segment>> {
        let file = {
            let mut world = self.world.lock();
            if world.files.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            if world.used().saturating_add(len) > world.capacity {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let zeros = vec![0; usize::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?];
            let file = Arc::new(Mutex::new(Image {
                cache: zeros.clone(),
                disk: zeros,
                dirty: BTreeSet::new(),
            }));
            world.files.insert(path.to_owned(), Arc::clone(&file));
            world
                .unsynced
                .push((split(path).0.to_owned(), Undo::Created(path.to_owned())));
            file
        };
        self.sync(split(path).0)?;
        Ok(self.segment(file))
    }

    fn open(&self, path: &str, _: SegmentOptions) -> io::Result<Arc<dyn Segment>> {
        Ok(self.segment(self.file(path)?))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut world = self.world.lock();
        if let Some(file) = world.files.remove(path) {
            let undo = Undo::Removed(path.to_owned(), file);
            world.unsynced.push((split(path).0.to_owned(), undo));
        }
        Ok(())
    }

    fn remove_folder(&self, folder: &str) -> io::Result<()> {
        let mut world = self.world.lock();
        let below = format!("{folder}/");
        let files: Vec<String> = world
            .files
            .keys()
            .filter(|path| path.starts_with(&below))
            .cloned()
            .collect();
        for path in files {
            if let Some(file) = world.files.remove(&path) {
                world
                    .unsynced
                    .push((split(folder).0.to_owned(), Undo::Removed(path, file)));
            }
        }
        world
            .folders
            .retain(|path| path != folder && !path.starts_with(&below));
        Ok(())
    }

    fn sync(&self, folder: &str) -> io::Result<()> {
        let mut world = self.world.lock();
        // A journal commits in order: what was changed before a change that is flushed is flushed with it.
        if let Some(last) = world
            .unsynced
            .iter()
            .rposition(|(changed, _)| changed == folder)
        {
            world.unsynced.drain(..=last);
        }
        Ok(())
    }

    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        match self.file(path) {
            Ok(file) => Ok(Some(file.lock().cache.clone())),
            Err(_) => Ok(None),
        }
    }

    fn replace(&self, path: &str, content: &[u8]) -> io::Result<()> {
        let mut world = self.world.lock();
        let image = Image {
            cache: content.to_vec(),
            disk: content.to_vec(),
            dirty: BTreeSet::new(),
        };
        world
            .files
            .insert(path.to_owned(), Arc::new(Mutex::new(image)));
        drop(world);
        self.sync(split(path).0)
    }

    fn space(&self) -> io::Result<Space> {
        let world = self.world.lock();
        Ok(Space {
            capacity: world.capacity,
            available: world.capacity.saturating_sub(world.used()),
        })
    }

    fn lock(&self, path: &str) -> io::Result<Box<dyn Lock>> {
        if !self.world.lock().locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(MemoryLock {
            world: Arc::clone(&self.world),
            path: path.to_owned(),
        }))
    }
}

struct MemoryLock {
    world: Arc<Mutex<World>>,
    path: String,
}

impl Lock for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.world.lock().locks.remove(&self.path);
    }
}

struct MemorySegment {
    world: Arc<Mutex<World>>,
    file: File,
    len: u64,
    published: AtomicU64,
}

impl MemorySegment {
    fn range(&self, from: u64, to: u64, least: u64) -> io::Result<(usize, usize)> {
        if from < least || to < from || to > self.len {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        match (usize::try_from(from), usize::try_from(to)) {
            (Ok(from), Ok(to)) => Ok((from, to)),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// How many of `len` bytes a write may do, and whether it then fails.
    fn admitted(&self, len: usize) -> (usize, bool) {
        let mut world = self.world.lock();
        world.writes += 1;
        if world.faults.short_write_at == Some(world.writes) {
            let part = world.dice().below(len as u64 + 1);
            return (usize::try_from(part).unwrap_or(0), true);
        }
        (len, false)
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
        let (part, fails) = self.admitted(bytes.len());
        self.file
            .lock()
            .write(at, bytes.get(..part).unwrap_or_default());
        if fails {
            Err(io::Error::other("input/output error (injected)"))
        } else {
            Ok(())
        }
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let (from, to) = self
            .range(offset, offset.saturating_add(into.len() as u64), 0)
            .map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        let image = self.file.lock();
        let bytes = image
            .cache
            .get(from..to)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(bytes);
        Ok(())
    }

    fn zero(&self, from: u64, to: u64) -> io::Result<()> {
        let (from, to) = self.range(from, to, self.published())?;
        let mut image = self.file.lock();
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
        assert!(end <= self.len, "published beyond the end of a segment");
        self.published.fetch_max(end, Ordering::AcqRel);
    }

    fn published(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    fn lease(&self, offset: u64, len: usize) -> io::Result<Option<Bytes>> {
        let end = offset.saturating_add(len as u64);
        if end > self.published() {
            return Ok(None);
        }
        let (from, to) = self.range(offset, end, 0)?;
        Ok(self
            .file
            .lock()
            .cache
            .get(from..to)
            .map(Bytes::copy_from_slice))
    }

    fn flush(&self, _: usize) -> io::Result<()> {
        let mut world = self.world.lock();
        world.flushes += 1;
        let fails = world.faults.flush_error_at == Some(world.flushes);
        let mut image = self.file.lock();
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
        let mut guard = self.file.lock();
        let image = &mut *guard;
        let dirty = std::mem::take(&mut image.dirty);
        image.settle(dirty.into_iter());
        image.cache.clone_from(&image.disk);
        Ok(())
    }
}

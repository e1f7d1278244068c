//! The seam in memory, with the faults of a disk.
//!
//! A file has two images: what a read sees (the page cache) and what is on the disk. A write changes the first and marks
//! its 512-byte sectors; a flush brings the marked ones over. A crash of the machine keeps any subset of the marked
//! sectors, chosen by a seed, and undoes any suffix of the changes to folders that were not flushed, as a journal that commits
//! in order does; or any of them, as the seam allows ([`MemoryDirectory::crashed_in_any_order`]). A flush that fails
//! brings over any subset and marks nothing any more: the cache then shows bytes that the disk does not have, and a
//! later flush succeeds without them, as on Linux.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Add;
use std::sync::Arc;

use parking_lot::Mutex;

mod dice;
mod faults;
mod folder;
mod fuse;
mod image;
mod segment;

pub use dice::Dice;
pub use faults::{Counts, Faults};
pub use fuse::{Change, FusedDirectory};

use faults::EIO;
use image::Image;

/// What a disk writes all or nothing.
pub const SECTOR_BYTES: usize = 512;

type File = Arc<Mutex<Image>>;

#[derive(Clone)]
enum Undo {
    Created(String),
    Removed(String, File),
}

/// A change of the entries of a folder that was not flushed.
#[derive(Clone)]
struct Unsynced {
    folder: String,
    undo: Undo,
    /// A later change was flushed, of another folder: a journal that commits in order has brought this one over as well.
    is_carried: bool,
}

#[derive(Default)]
struct World {
    files: BTreeMap<String, File>,
    folders: BTreeSet<String>,
    unsynced: Vec<Unsynced>,
    locks: BTreeSet<String>,
    faults: Faults,
    /// The folder was taken away under those who have files of it open.
    is_lost: bool,
    flushes: u64,
    writes: u64,
    creates: u64,
    changes: u64,
    /// By folder.
    counts: BTreeMap<Arc<str>, Counts>,
    capacity: u64,
    dice: Option<Dice>,
}

impl World {
    fn dice(&mut self) -> &mut Dice {
        let seed = self.faults.seed;
        self.dice.get_or_insert_with(|| Dice::new(seed))
    }

    /// The entries of `folder` changed.
    fn changed(&mut self, folder: &str, undo: Undo) {
        self.unsynced.push(Unsynced {
            folder: folder.to_owned(),
            undo,
            is_carried: false,
        });
    }

    /// Counts a change, unless the disk is dead.
    fn count_change(&mut self) -> io::Result<()> {
        if self
            .faults
            .dies_after
            .is_some_and(|last| self.changes >= last)
        {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        self.changes += 1;
        Ok(())
    }

    /// Whether the entries of folders can be changed, which counts as a change.
    fn change(&mut self) -> io::Result<()> {
        self.may_change().and_then(|()| self.count_change())
    }

    /// Whether the entries of folders can be changed.
    fn may_change(&self) -> io::Result<()> {
        match self.faults.change_error {
            Some(error) => Err(io::Error::from_raw_os_error(error)),
            None if self.is_lost => Err(io::ErrorKind::NotFound.into()),
            None => Ok(()),
        }
    }

    /// Whether a file can be made.
    fn may_create(&self, path: &str, len: u64) -> io::Result<()> {
        self.may_change().and_then(|()| self.may_open())?;
        if self.files.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if self.used().saturating_add(len) > self.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    /// Whether a file can be opened.
    fn may_open(&self) -> io::Result<()> {
        let error = self.faults.open_error.map(io::Error::from_raw_os_error);
        error.map_or(Ok(()), Err)
    }

    /// Brings over any subset of the sectors that were not flushed.
    fn settle(&self, dice: &mut Dice) {
        for file in self.files.values() {
            let mut guard = file.lock();
            let image = &mut *guard;
            let dirty = std::mem::take(&mut image.dirty);
            // All, none, or a coin for each: the plain cases must come up often too.
            let kind = dice.below(4);
            let kept: Vec<usize> = dirty.into_iter().filter(|_| keeps(kind, dice)).collect();
            image.settle(kept.into_iter());
            image.cache.clone_from(&image.disk);
        }
    }

    fn counts_in(&mut self, folder: &Arc<str>) -> &mut Counts {
        self.counts.entry(Arc::clone(folder)).or_default()
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
        world.creates = 0;
        world.changes = 0;
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

    /// How many changes of any kind were done since the faults were set.
    pub fn changes(&self) -> u64 {
        self.world.lock().changes
    }

    /// The folder as the next process finds it after this one was killed: all that was written is there, and of what was not flushed
    /// the machine may still lose anything.
    #[must_use]
    pub fn killed(&self) -> Self {
        let world = self.world.lock();
        let copy = |file: &File| Arc::new(Mutex::new(file.lock().clone()));
        let mut next = World {
            folders: world.folders.clone(),
            unsynced: world.unsynced.clone(),
            capacity: world.capacity,
            ..World::default()
        };
        for change in &mut next.unsynced {
            if let Undo::Removed(_, file) = &mut change.undo {
                *file = copy(file);
            }
        }
        for (path, file) in &world.files {
            next.files.insert(path.clone(), copy(file));
        }
        Self {
            world: Arc::new(Mutex::new(next)),
        }
    }

    /// The folder as it is found after the machine lost power: of what was not flushed, any subset by `seed`; of the changes of
    /// folders the first ones.
    #[must_use]
    pub fn crashed(&self, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let next = self.killed();
        {
            let mut world = next.world.lock();
            let mut unsynced = std::mem::take(&mut world.unsynced);
            unsynced.retain(|change| !change.is_carried);
            let keep = dice.below(unsynced.len() as u64 + 1);
            let (keep, count) = (usize::try_from(keep).unwrap_or(usize::MAX), unsynced.len());
            for change in unsynced.into_iter().rev().take(count - keep.min(count)) {
                change.undo.apply(&mut world);
            }
            world.settle(&mut dice);
        }
        next
    }

    /// As [`MemoryDirectory::crashed`], of a file system that brings over changes of folders in any order: only what the seam
    /// promises is there. Of one path the first changes.
    #[must_use]
    pub fn crashed_in_any_order(&self, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let next = self.killed();
        {
            let mut world = next.world.lock();
            let unsynced = std::mem::take(&mut world.unsynced);
            let kind = dice.below(4);
            let mut kept = BTreeSet::new();
            for change in unsynced.into_iter().rev() {
                if kept.contains(change.undo.path()) || keeps(kind, &mut dice) {
                    kept.insert(change.undo.path().to_owned());
                } else {
                    change.undo.apply(&mut world);
                }
            }
            world.settle(&mut dice);
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

    /// Takes the end of a file away, from `len` on. For damage that no crash makes.
    ///
    /// # Panics
    /// When there is no such file.
    #[expect(
        clippy::expect_used,
        reason = "a test names a file that does not exist"
    )]
    pub fn truncate(&self, path: &str, len: usize) {
        let world = self.world.lock();
        let mut image = world.files.get(path).expect("a file of that name").lock();
        image.cache.truncate(len);
        image.disk.truncate(len);
    }

    /// Sectors `from..to` cannot be read from now on: a read is an I/O error. A look at a map would be SIGBUS; a lease of
    /// them panics.
    ///
    /// # Panics
    /// When there is no such file.
    #[expect(
        clippy::expect_used,
        reason = "a test names a file that does not exist"
    )]
    pub fn break_sectors(&self, path: &str, from: usize, to: usize) {
        let world = self.world.lock();
        let file = world.files.get(path).expect("a file of that name");
        file.lock().bad = Some(from..to);
    }

    /// Takes the whole folder away, as `rm -r` by someone else does: who has files open keeps them without a name.
    pub fn lose(&self) {
        let mut world = self.world.lock();
        world.files.clear();
        world.folders.clear();
        world.is_lost = true;
    }

    /// Names of the files in `folder`, sorted.
    pub fn list_names(&self, folder: &str) -> Vec<String> {
        let below = format!("{folder}/");
        let world = self.world.lock();
        let names = world
            .files
            .keys()
            .filter_map(|path| path.strip_prefix(&below));
        names.map(str::to_owned).collect()
    }

    /// What was asked so far.
    pub fn counts(&self) -> Counts {
        let world = self.world.lock();
        world
            .counts
            .values()
            .copied()
            .fold(Counts::default(), Add::add)
    }

    /// What was asked so far of the files that were made or opened in `folder`, those in folders below it not among them.
    pub fn counts_in(&self, folder: &str) -> Counts {
        let world = self.world.lock();
        world.counts.get(folder).copied().unwrap_or_default()
    }

    /// Begins counting anew.
    pub fn reset_counts(&self) {
        self.world.lock().counts.clear();
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
    fn path(&self) -> &str {
        match self {
            Self::Created(path) | Self::Removed(path, _) => path,
        }
    }

    fn apply(self, world: &mut World) {
        match self {
            Self::Created(path) => {
                world.files.remove(&path);
            }
            Self::Removed(path, file) => {
                let image = Image::of(file.lock().disk.clone());
                world.files.insert(path, Arc::new(Mutex::new(image)));
            }
        }
    }
}

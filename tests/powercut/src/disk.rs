//! The whole medium: files, names, room, faults to come, and the moment at which the power goes.
//!
//! Everything is decided under one lock by its caller and depends on nothing but the calls and a seed. The moment of a
//! cut is one of the commit log's own events (the n-th write, the begin or the end of the n-th sync), since the moments
//! between those are where a store can be wrong; from then on nothing reaches the medium any more.

mod faults;
mod sync;

use std::collections::HashMap;

use rocket_mapped_file::memory::Dice;

pub use self::faults::{Counts, Faults, Moment};
use crate::image::{Image, PAGE_BYTES};
use crate::names::{Names, Node, ROOT};

/// Why a call fails, as the system says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// ENOENT
    NotFound,
    /// EEXIST
    Exists,
    /// ENOTEMPTY
    NotEmpty,
    /// EISDIR
    IsFolder,
    /// EIO
    Io,
    /// ENOSPC
    NoSpace,
    /// EROFS
    ReadOnly,
}

/// What the medium holds after the cut, and what was certain before it.
#[derive(Debug, Clone)]
pub struct Frozen {
    /// The medium after the cut.
    pub after: Box<Disk>,
    /// When it was cut.
    pub at_us: u64,
    /// Everything written to the commit log before this is on the medium.
    pub durable_until_us: u64,
    /// When a planned fault struck before.
    pub struck_us: Option<u64>,
}

/// What a node is.
#[derive(Debug, Clone)]
enum Kind {
    Folder,
    File(Image),
}

#[derive(Debug, Clone)]
struct Entry {
    kind: Kind,
    /// Part of the commit log.
    is_log: bool,
}

/// What is told about a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// Its number.
    pub node: Node,
    /// A folder, not a file.
    pub is_folder: bool,
    /// Length in bytes.
    pub len: u64,
    /// Pages taken.
    pub pages: u64,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Disk {
    entries: HashMap<Node, Entry>,
    names: Names,
    next_node: Node,
    next_sync: u64,
    faults: Faults,
    counts: Counts,
    is_read_only: bool,
    /// What a failed sync has lost was written after this.
    lost_since_us: Option<u64>,
    dice: Dice,
    frozen: Option<Frozen>,
    /// Open files, and of how many failed syncs of their file each was told.
    handles: HashMap<u64, u64>,
    next_handle: u64,
    /// Failed syncs of each file. Linux tells each open file of a failure once, and not only the one that asked.
    failures: HashMap<Node, u64>,
}

impl Disk {
    /// An empty medium.
    pub fn new(seed: u64) -> Self {
        let root = Entry {
            kind: Kind::Folder,
            is_log: false,
        };
        Self {
            entries: [(ROOT, root)].into(),
            names: Names::default(),
            next_node: ROOT + 1,
            next_sync: 1,
            faults: Faults::default(),
            counts: Counts::default(),
            is_read_only: false,
            lost_since_us: None,
            dice: Dice::new(seed),
            frozen: None,
            handles: HashMap::new(),
            next_handle: 1,
            failures: HashMap::new(),
        }
    }

    /// Sets the faults to come, forgets those that were, and counts anew.
    pub fn arm(&mut self, faults: Faults) {
        self.faults = faults;
        self.counts = Counts::default();
        self.is_read_only = false;
        self.lost_since_us = None;
    }

    /// What has happened since.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Changes the size of the medium.
    pub const fn set_capacity(&mut self, capacity: Option<u64>) {
        self.faults.capacity = capacity;
    }

    /// Bytes taken.
    pub fn used(&self) -> u64 {
        let pages = |entry: &Entry| match &entry.kind {
            Kind::File(image) => image.pages(),
            Kind::Folder => 1,
        };
        self.entries.values().map(pages).sum::<u64>() * PAGE_BYTES as u64
    }

    /// Size of the medium, if it has one.
    pub const fn capacity(&self) -> Option<u64> {
        self.faults.capacity
    }

    /// The power goes now: what is on the medium is chosen, and nothing more reaches it.
    pub fn cut(&mut self, now_us: u64) {
        if self.frozen.is_none() {
            self.frozen = Some(Frozen {
                durable_until_us: self.durable_until_us(now_us),
                struck_us: self.counts.struck_us,
                at_us: now_us,
                after: Box::new(self.after_cut()),
            });
        }
    }

    /// Whether the power is gone.
    pub const fn is_cut(&self) -> bool {
        self.frozen.is_some()
    }

    /// What is left after the cut.
    pub fn take_frozen(&mut self) -> Option<Frozen> {
        self.frozen.take()
    }

    /// Everything that was written to the commit log before this time is on the medium.
    pub fn durable_until_us(&self, now_us: u64) -> u64 {
        let logs = self.entries.values().filter(|entry| entry.is_log);
        logs.filter_map(|entry| match &entry.kind {
            Kind::File(image) => image.unsynced_since_us(),
            Kind::Folder => None,
        })
        .chain(self.lost_since_us)
        .min()
        .unwrap_or(now_us)
    }

    fn after_cut(&mut self) -> Self {
        let mut dice = Dice::new(self.dice.roll());
        let names = self.names.after_cut(&mut dice);
        let mut nodes = names.reachable();
        nodes.sort_unstable();
        let entries = nodes
            .into_iter()
            .filter_map(|node| {
                let entry = self.entries.get(&node)?;
                let kind = match &entry.kind {
                    Kind::Folder => Kind::Folder,
                    Kind::File(image) => Kind::File(image.after_cut(&mut dice)),
                };
                let is_log = entry.is_log;
                Some((node, Entry { kind, is_log }))
            })
            .collect();
        Self {
            entries,
            names,
            next_node: self.next_node,
            next_sync: self.next_sync,
            faults: Faults::default(),
            counts: Counts::default(),
            is_read_only: false,
            lost_since_us: None,
            dice,
            frozen: None,
            handles: HashMap::new(),
            next_handle: 1,
            failures: HashMap::new(),
        }
    }

    /// What `name` in `folder` is.
    ///
    /// # Errors
    /// It is not there.
    pub fn lookup(&self, folder: Node, name: &str) -> Result<About, Refusal> {
        let node = self.names.get(folder, name).ok_or(Refusal::NotFound)?;
        self.about(node)
    }

    /// What `node` is.
    ///
    /// # Errors
    /// It is not there.
    pub fn about(&self, node: Node) -> Result<About, Refusal> {
        let entry = self.entries.get(&node).ok_or(Refusal::NotFound)?;
        let (is_folder, len, pages) = match &entry.kind {
            Kind::Folder => (true, 0, 1),
            Kind::File(image) => (false, image.len(), image.pages()),
        };
        Ok(About {
            node,
            is_folder,
            len,
            pages,
        })
    }

    /// All names in `folder`.
    pub fn list(&self, folder: Node) -> Vec<(String, About)> {
        let names = self.names.list(folder);
        names
            .filter_map(|(name, node)| Some((name.to_owned(), self.about(node).ok()?)))
            .collect()
    }

    /// Makes a file or folder.
    ///
    /// # Errors
    /// The name is taken, the medium is full or read-only.
    pub fn create(&mut self, folder: Node, name: &str, is_folder: bool) -> Result<About, Refusal> {
        self.may_change()?;
        if self.names.get(folder, name).is_some() {
            return Err(Refusal::Exists);
        }
        self.room_for(1)?;
        let above = self.entries.get(&folder).ok_or(Refusal::NotFound)?;
        let is_log = above.is_log || (is_folder && name == "commitlog");
        let kind = if is_folder {
            Kind::Folder
        } else {
            Kind::File(Image::default())
        };
        let node = self.next_node;
        self.next_node += 1;
        self.entries.insert(node, Entry { kind, is_log });
        self.names.set(folder, name, node);
        self.about(node)
    }

    /// Removes a name; who has the file open keeps it.
    ///
    /// # Errors
    /// It is not there or not empty, or the medium is read-only.
    pub fn remove(&mut self, folder: Node, name: &str) -> Result<(), Refusal> {
        self.may_change()?;
        let node = self.names.get(folder, name).ok_or(Refusal::NotFound)?;
        if self.names.list(node).next().is_some() {
            return Err(Refusal::NotEmpty);
        }
        self.names.unset(folder, name, node);
        Ok(())
    }

    /// Renames, over what is there.
    ///
    /// # Errors
    /// It is not there, or the medium is read-only.
    pub fn rename(&mut self, from: (Node, &str), to: (Node, &str)) -> Result<(), Refusal> {
        self.may_change()?;
        let node = self.names.get(from.0, from.1).ok_or(Refusal::NotFound)?;
        self.names.rename(from, to, node);
        Ok(())
    }

    /// Reads.
    ///
    /// # Errors
    /// It is no file.
    pub fn read(&self, node: Node, at: u64, bytes: usize) -> Result<Vec<u8>, Refusal> {
        match self.entries.get(&node).map(|entry| &entry.kind) {
            Some(Kind::File(image)) => Ok(image.read(at, bytes)),
            Some(Kind::Folder) => Err(Refusal::IsFolder),
            None => Err(Refusal::NotFound),
        }
    }

    /// Writes; returns how many bytes.
    ///
    /// # Errors
    /// The planned ones, and a full medium.
    pub fn write(
        &mut self,
        node: Node,
        at: u64,
        bytes: &[u8],
        now_us: u64,
    ) -> Result<usize, Refusal> {
        let is_log = self.entries.get(&node).is_some_and(|entry| entry.is_log);
        let mut bytes = bytes;
        let mut refused = None;
        if is_log {
            self.counts.writes += 1;
            let number = self.counts.writes;
            if self.faults.read_only_at.is_some_and(|from| number >= from) {
                self.strike(now_us);
                self.is_read_only = true;
            }
            if self
                .faults
                .write_error_at
                .is_some_and(|from| number >= from)
            {
                self.strike(now_us);
                refused = Some(Refusal::Io);
            }
            let shortened = self
                .faults
                .short_every
                .is_some_and(|every| number.is_multiple_of(every));
            if refused.is_some() || (shortened && bytes.len() > 1) {
                let part = usize::try_from(self.dice.within(1, bytes.len() as u64)).unwrap_or(1);
                bytes = bytes.get(..part).unwrap_or(bytes);
            }
        }
        self.may_change()?;
        let missing = match self.entries.get(&node).map(|entry| &entry.kind) {
            Some(Kind::File(image)) => image.pages_missing(at, bytes.len() as u64),
            Some(Kind::Folder) => return Err(Refusal::IsFolder),
            None => return Err(Refusal::NotFound),
        };
        self.room_for(missing)?;
        if let Some(image) = self.image(node) {
            image.write(at, bytes, now_us);
        }
        if is_log && self.faults.cut_at == Some(Moment::Write(self.counts.writes)) {
            self.cut(now_us);
        }
        refused.map_or(Ok(bytes.len()), Err)
    }

    /// Makes a range zero or reserves room for it.
    ///
    /// # Errors
    /// A full or read-only medium.
    pub fn allocate(
        &mut self,
        node: Node,
        range: std::ops::Range<u64>,
        zero: bool,
        now_us: u64,
    ) -> Result<(), Refusal> {
        self.may_change()?;
        let pages = range.end.div_ceil(PAGE_BYTES as u64);
        let held = match self.entries.get(&node).map(|entry| &entry.kind) {
            Some(Kind::File(image)) => image.pages(),
            Some(Kind::Folder) => return Err(Refusal::IsFolder),
            None => return Err(Refusal::NotFound),
        };
        if zero {
            if let Some(image) = self.image(node) {
                image.zero(range.start, range.end, now_us);
            }
            return Ok(());
        }
        self.room_for(pages.saturating_sub(held))?;
        if let Some(image) = self.image(node) {
            image.reserve(range.end);
        }
        Ok(())
    }

    /// Changes a file's length.
    ///
    /// # Errors
    /// A read-only medium.
    pub fn set_len(&mut self, node: Node, len: u64, now_us: u64) -> Result<(), Refusal> {
        self.may_change()?;
        if let Some(image) = self.image(node) {
            image.set_len(len, now_us);
        }
        Ok(())
    }

    /// Gives back the room of files that have no name. Called when nobody has a file open.
    pub fn forget_nameless(&mut self) {
        let reachable: std::collections::HashSet<Node> =
            self.names.reachable().into_iter().collect();
        if self.names.unsynced() == 0 {
            self.entries.retain(|node, _| reachable.contains(node));
        }
    }

    fn image(&mut self, node: Node) -> Option<&mut Image> {
        match &mut self.entries.get_mut(&node)?.kind {
            Kind::File(image) => Some(image),
            Kind::Folder => None,
        }
    }

    fn strike(&mut self, now_us: u64) {
        self.counts.struck_us.get_or_insert(now_us);
    }

    const fn may_change(&self) -> Result<(), Refusal> {
        if self.is_read_only {
            return Err(Refusal::ReadOnly);
        }
        Ok(())
    }

    fn room_for(&mut self, pages: u64) -> Result<(), Refusal> {
        let Some(capacity) = self.faults.capacity else {
            return Ok(());
        };
        if pages > 0 && self.used() + pages * PAGE_BYTES as u64 > capacity {
            self.counts.no_space += 1;
            return Err(Refusal::NoSpace);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

//! The seam between a store and its files.

use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::Bytes;

/// How the bytes of a new segment come to be zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// A hole: blocks are taken when they are written. For files of which most stay empty.
    Sparse,
    /// Blocks are reserved now, so that a later write cannot find the disk full.
    Reserve,
    /// Zeros are written through: as `Reserve`, and a later flush has no extents to convert. Few of them are left in the
    /// page cache: a write of a part of a page that is not there has to read it first, one of a whole page has not.
    Zeros,
}

/// Zeros are written in pieces of this many bytes.
pub const FILL_PIECE_BYTES: u64 = 1 << 20;

/// What whoever wants a new segment says while it is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Fill on.
    GoOn,
    /// It is needed now: what is not filled yet stays reserved.
    Enough,
    /// It is not wanted any more: making it fails with `Interrupted` and leaves nothing.
    GiveUp,
}

/// How to make or open a segment.
#[derive(Debug, Clone, Copy)]
pub struct SegmentOptions {
    /// How a new segment's bytes come to be.
    pub fill: Fill,
    /// How many flushes may run at once: each lane reports write errors of its own ([`Segment::flush`]).
    pub lanes: usize,
}

impl Default for SegmentOptions {
    fn default() -> Self {
        Self {
            fill: Fill::Sparse,
            lanes: 1,
        }
    }
}

/// What lies in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name without the folder.
    pub name: String,
    /// A folder, not a file.
    pub is_folder: bool,
    /// Length in bytes; 0 for folders.
    pub len: u64,
}

/// Room on the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Space {
    /// Bytes in all.
    pub capacity: u64,
    /// Bytes that this process may still take.
    pub available: u64,
}

/// What a reader tells the page cache about a part of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Advice {
    /// It will be read soon: to be fetched in the background.
    WillNeed,
    /// It was read once and is not needed again: may be given up.
    DontNeed,
}

/// Held as long as the folder is ours.
pub trait Lock: Send + Sync {}

/// A folder and all below it. Paths are relative to it and separated by `/`.
///
/// The rule: a file made by [`Directory::create`] has its name only when it has its full length and all of that is on the
/// disk, so that whatever ends the process or the machine leaves a whole file or none of that name. A change made by `remove` or
/// `remove_folder` may be undone by a crash unless [`Directory::sync`] of the folder that held it returned, whatever became of later ones.
pub trait Directory: Send + Sync {
    /// The entries of `folder`, sorted by name; none if it does not exist. What others make or remove meanwhile is there or
    /// not, and no error.
    fn list(&self, folder: &str) -> io::Result<Vec<Entry>>;
    /// Makes `folder` and those above it, if they are missing, and flushes that.
    fn create_folder(&self, folder: &str) -> io::Result<()>;
    /// Makes a segment of `len` zero bytes, flushes it and its folder. Fails if the path exists; leaves nothing behind
    /// when it fails. Not to be called for one path by two at once.
    fn create(&self, path: &str, len: u64, options: SegmentOptions)
    -> io::Result<Arc<dyn Segment>>;
    /// As [`Directory::create`], and asks `pace` how to go on, first with 0 and then, with [`Fill::Zeros`], each time that
    /// [`FILL_PIECE_BYTES`] more have been written with how many have. `pace` may take its time.
    fn create_paced(
        &self,
        path: &str,
        len: u64,
        options: SegmentOptions,
        pace: &mut dyn FnMut(u64) -> Pace,
    ) -> io::Result<Arc<dyn Segment>> {
        match pace(0) {
            Pace::GoOn | Pace::Enough => self.create(path, len, options),
            Pace::GiveUp => Err(io::ErrorKind::Interrupted.into()),
        }
    }
    /// Removes what is left in `folder` of files whose making was interrupted by the end of a process. Only for whoever
    /// holds the lock, and before anything is made.
    fn remove_unfinished(&self, _folder: &str) -> io::Result<()> {
        Ok(())
    }
    /// Opens a segment; its length is the file's.
    fn open(&self, path: &str, options: SegmentOptions) -> io::Result<Arc<dyn Segment>>;
    /// A segment whose length a listing told: the file itself is opened when it is first used, so that a folder of
    /// thousands costs nothing. What opening would have said comes from that first use then; a file that was shortened
    /// meanwhile is `UnexpectedEof`.
    fn open_later(
        &self,
        path: &str,
        _len: u64,
        options: SegmentOptions,
    ) -> io::Result<Arc<dyn Segment>> {
        self.open(path, options)
    }
    /// Gives a file another name, durably. Segments that are open stay so; one from [`Directory::open_later`] that was not
    /// used yet will not be found any more. Fails if there is a file of the new name.
    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Removes a file; not to find it is no error. Leases of it stay valid.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Removes a folder with all that is in it; not to find it is no error.
    fn remove_folder(&self, folder: &str) -> io::Result<()>;
    /// Makes earlier changes of the entries of `folder` survive a crash of the machine.
    fn sync(&self, folder: &str) -> io::Result<()>;
    /// A small file as a whole; `None` if it does not exist.
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>>;
    /// Replaces a small file so that after a crash it is whole, the old or the new one; durable on return.
    fn replace(&self, path: &str, content: &[u8]) -> io::Result<()>;
    /// Room on the file system.
    fn space(&self) -> io::Result<Space>;
    /// Takes the exclusive lock file at `path`, against other processes and other users in this one.
    ///
    /// # Errors
    /// `WouldBlock` when someone else holds it.
    fn lock(&self, path: &str) -> io::Result<Box<dyn Lock>>;
}

/// A file of fixed length with a published position.
///
/// The rule: what lies below [`Segment::published`] never changes and may be leased; what lies at or above it may be
/// written and must not be leased. The one exception is [`Segment::replace_at`], which nobody sees who was lent anything.
pub trait Segment: Send + Sync {
    /// Length in bytes; never changes.
    fn len(&self) -> u64;
    /// Whether the segment has no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Writes all of `parts` at `offset`.
    ///
    /// # Errors
    /// `InvalidInput` below the published position or beyond the end. Any other error leaves the bytes there undefined.
    fn write_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()>;
    /// Reads exactly `into.len()` bytes at `offset`, published or not, without a map.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;
    /// Writes `bytes` over what lies at `offset`, published or not, and flushes that: what was there is not what it should be.
    /// From the first call on nobody is lent any of it; it is written when nobody has a lease of it left from before, and lent
    /// again then. One range at a time; not beyond what was written before, where an append may be under way.
    ///
    /// # Errors
    /// `WouldBlock` while such a lease lives: nothing was written, and it is to be tried again, or given up with
    /// [`Segment::show_all`]. Any other error is final as that of a flush is.
    fn replace_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Lends again what [`Segment::replace_at`] withholds.
    ///
    /// # Errors
    /// It cannot be mapped now; it is withheld still.
    fn show_all(&self) -> io::Result<()> {
        Ok(())
    }
    /// Makes `from..to` zero. Same rule as for writing.
    fn zero(&self, from: u64, to: u64) -> io::Result<()>;
    /// Raises the published position to `end`; never lowers it.
    ///
    /// # Panics
    /// When `end` is beyond the segment: an invariant of the caller.
    fn publish(&self, end: u64);
    /// The published position.
    fn published(&self) -> u64;
    /// Bytes `offset..offset + len`, shared, as long as the lease lives; `None` unless all of them are published.
    fn lease(&self, offset: u64, len: usize) -> io::Result<Option<Bytes>>;
    /// Appends the bytes `offset..offset + len` to `into`; `false` and nothing appended unless all of them are published.
    /// Cheaper than a lease for few bytes: it makes no object.
    fn copy(&self, offset: u64, len: usize, into: &mut Vec<u8>) -> io::Result<bool> {
        self.look(offset, len, &mut |bytes| into.extend_from_slice(bytes))
    }
    /// Whether a read there would be served from memory, as far as a few samples tell. A guess in both directions: `true`
    /// where the file system cannot say.
    fn is_resident(&self, _offset: u64, _len: u64) -> bool {
        true
    }
    /// Tells the page cache. A hint: what it comes to is the kernel's affair, and so is its failure.
    fn advise(&self, _offset: u64, _len: u64, _advice: Advice) {}
    /// Shows the bytes that [`Segment::lease`] would lend to `look`, without a lease's allocation. Whether they are published.
    fn look(&self, offset: u64, len: usize, look: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
        let lease = self.lease(offset, len)?;
        if let Some(bytes) = &lease {
            look(bytes);
        }
        Ok(lease.is_some())
    }
    /// Makes every write that returned before this call survive a crash of the machine. `lane` is below
    /// [`SegmentOptions::lanes`], and no two calls may use the same lane at once: each lane is an open file of its own,
    /// since the kernel reports a lost write once per open file, and a flush must not take the report meant for another.
    ///
    /// # Errors
    /// Final: the bytes may be lost though a later flush succeeds.
    fn flush(&self, lane: usize) -> io::Result<()>;
    /// Gives up cached pages, so that the next reads come from the disk. For use after a failed flush of an earlier process.
    fn forget_cache(&self) -> io::Result<()>;
    /// As [`Segment::read_at`], and leaves the page cache as it was: what was not in it is given up behind the read, and
    /// nothing is read ahead. For whoever looks at everything once.
    fn read_aside(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.read_at(offset, into)
    }
    /// Whether the file still has a name. A file that lost it takes writes and flushes as before, and all of it is gone
    /// when the process ends.
    fn is_named(&self) -> io::Result<bool> {
        Ok(true)
    }
    /// Takes now what the first write and the flushes will need, so that they are not in want of it.
    ///
    /// # Errors
    /// Too many files are open, say: nothing is lost, and it can be tried again.
    fn ready_to_write(&self) -> io::Result<()> {
        Ok(())
    }
    /// Nothing will be written any more and all that was is flushed: what was kept open for that is closed.
    fn retire(&self) {}
}

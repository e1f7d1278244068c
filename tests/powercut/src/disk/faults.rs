//! What is to happen to a medium, and what has happened.

/// An event at which something is to happen; counts are of the commit log's own from [`Disk::arm`](super::Disk::arm) on, 1 is the next. A
/// sync counts when it has bytes to bring over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// After this write, before it is answered.
    Write(u64),
    /// When this sync begins: nothing of it is certain.
    SyncBegin(u64),
    /// When this sync has ended, before it is answered: all of it is there and nobody knows.
    SyncEnd(u64),
}

/// Faults to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// The power goes.
    pub cut_at: Option<Moment>,
    /// This sync of the commit log says EIO.
    pub sync_error_at: Option<u64>,
    /// From this write on writes to the commit log say EIO after a part was done. Not once only: the kernel may have cut
    /// one write of the process into several, and tells an error of a later part as a short write.
    pub write_error_at: Option<u64>,
    /// From this write on everything that changes something says EROFS.
    pub read_only_at: Option<u64>,
    /// Every so many writes to the commit log only a part is done, and said so.
    pub short_every: Option<u64>,
    /// Bytes of the medium; without it there is always room.
    pub capacity: Option<u64>,
}

/// What has happened since [`Disk::arm`](super::Disk::arm).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Writes to the commit log.
    pub writes: u64,
    /// Syncs of the commit log that began.
    pub syncs: u64,
    /// Calls that said ENOSPC.
    pub no_space: u64,
    /// When the first fault struck, in the caller's microseconds.
    pub struck_us: Option<u64>,
}

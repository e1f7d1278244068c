//! The faults of the disk in memory, and counts of what was asked of it.

use std::ops::Add;

/// Faults to come. Counts are of calls from the moment the faults were set; 1 is the next one. Errors are numbers of Linux.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// This flush of a segment fails with an I/O error.
    pub flush_error_at: Option<u64>,
    /// This write fails with an I/O error after a part of it was written.
    pub short_write_at: Option<u64>,
    /// This write and all after it fail with this error, and write nothing.
    pub write_error_at: Option<(u64, i32)>,
    /// Nothing can be made, replaced, renamed or removed: it fails with this error.
    pub change_error: Option<i32>,
    /// This making of a segment and all after it fail with this error.
    pub create_error_at: Option<(u64, i32)>,
    /// No file can be opened or made: it fails with this error.
    pub open_error: Option<i32>,
    /// So many changes of any kind (of bytes, of entries of folders, of what is on the disk) are done; all after them fail
    /// with an I/O error and do nothing, as if the process had ended there.
    pub dies_after: Option<u64>,
    /// Decides how much the failing calls did.
    pub seed: u64,
}

/// What was asked of the files in memory since they were made or counting was begun anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Files opened.
    pub opens: u64,
    /// Reads of parts of files.
    pub reads: u64,
    /// Their bytes.
    pub bytes_read: u64,
    /// Leases and copies of published bytes.
    pub leases: u64,
    /// Writes of parts of files.
    pub writes: u64,
    /// Their bytes.
    pub bytes_written: u64,
    /// Pages of 4 KiB that they touched, each counted once per write: what a device writes at most.
    pub pages_written: u64,
    /// Flushes of files.
    pub flushes: u64,
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            opens: self.opens + other.opens,
            reads: self.reads + other.reads,
            bytes_read: self.bytes_read + other.bytes_read,
            leases: self.leases + other.leases,
            writes: self.writes + other.writes,
            bytes_written: self.bytes_written + other.bytes_written,
            pages_written: self.pages_written + other.pages_written,
            flushes: self.flushes + other.flushes,
        }
    }
}

/// `EIO` of Linux.
pub(super) const EIO: i32 = 5;

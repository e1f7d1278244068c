//! The bytes of a new file.
//!
//! A file whose blocks are only reserved consists of *unwritten* extents: the first write of each block changes the file's
//! metadata, so that a flush of it has to commit the file system's journal too. Zeros that were written once make a later
//! flush a write and nothing else. They go past the page cache, which belongs to readers, and at most a piece at a time,
//! so that a flush of another file never queues behind more than that.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::Errno;

use crate::segment::{FILL_PIECE_BYTES, Fill, Pace};

/// What was written between two flushes while a file is filled.
const FLUSH_BYTES: u64 = 8 << 20;
/// Memory and disk agree on multiples of this; what does not fit goes through the page cache.
const ALIGN: u64 = 4096;
/// Zeros in memory; one write has many of them.
const BLOCK: usize = 64 << 10;

#[repr(C, align(4096))]
struct Zeros([u8; BLOCK]);

static ZEROS: Zeros = Zeros([0; BLOCK]);

/// Gives the new `file` at `path` its length and its blocks. Not flushed.
pub(super) fn fill(
    file: &File,
    path: &Path,
    len: u64,
    fill: Fill,
    pace: &mut dyn FnMut(u64) -> Pace,
) -> io::Result<()> {
    let is_reserved = match fill {
        Fill::Sparse => {
            file.set_len(len)?;
            true
        }
        Fill::Reserve | Fill::Zeros => reserve(file, len)?,
    };
    if fill != Fill::Zeros && is_reserved {
        return may_go_on(pace(0)).map(drop);
    }
    // Another open file: how it writes is a property of it.
    let past_the_cache = OpenOptions::new()
        .write(true)
        .custom_flags(OFlags::DIRECT.bits().cast_signed())
        .open(path)
        .ok();
    let (mut at, mut flushed) = (0, 0);
    while at < len {
        // Blocks that nobody reserved are taken by writing them, all of them.
        if !may_go_on(pace(at))? && is_reserved {
            break;
        }
        let to = len.min(at + FILL_PIECE_BYTES);
        write_piece(file, past_the_cache.as_ref(), at, to)?;
        at = to;
        if at - flushed >= FLUSH_BYTES {
            file.sync_data()?;
            forget(file, flushed, at);
            flushed = at;
        }
    }
    file.sync_data()?;
    forget(file, flushed, at);
    Ok(())
}

/// Whether to fill on.
fn may_go_on(pace: Pace) -> io::Result<bool> {
    match pace {
        Pace::GoOn => Ok(true),
        Pace::Enough => Ok(false),
        Pace::GiveUp => Err(io::ErrorKind::Interrupted.into()),
    }
}

/// Whether the file system took the blocks; some cannot.
fn reserve(file: &File, len: u64) -> io::Result<bool> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn write_piece(file: &File, past_the_cache: Option<&File>, from: u64, to: u64) -> io::Result<()> {
    let whole = to - to % ALIGN;
    let mut at = from;
    if let Some(direct) = past_the_cache
        && from.is_multiple_of(ALIGN)
    {
        match write_zeros(direct, from, whole) {
            Ok(()) => at = whole.max(from),
            // A file system that would have it otherwise.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
            Err(error) => return Err(error),
        }
    }
    write_zeros(file, at, to)
}

/// Writes zeros to `from..to`.
pub(super) fn write_zeros(file: &File, from: u64, to: u64) -> io::Result<()> {
    let mut at = from;
    while at < to {
        let mut left = usize::try_from(to - at).unwrap_or(usize::MAX);
        let mut parts = [IoSlice::new(&[]); 16];
        for part in &mut parts {
            let len = left.min(BLOCK);
            *part = IoSlice::new(ZEROS.0.get(..len).unwrap_or_default());
            left -= len;
        }
        match rustix::io::pwritev(file, &parts, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => at += written as u64,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn forget(file: &File, from: u64, to: u64) {
    if let Some(len) = NonZeroU64::new(to - from) {
        // A hint.
        let _ = rustix::fs::fadvise(file, from, Some(len), rustix::fs::Advice::DontNeed);
    }
}

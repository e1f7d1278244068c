//! Records of a read on their way into an answer: neighbours in the log leave as one piece.
//!
//! Messages of one queue lie scattered in the log, some hundred bytes here and there, or in a row when they were sent as a
//! batch. Long rows are leased from the map and never copied here; short ones are copied side by side into one buffer: the
//! kernel takes one piece of 40 KiB with less work than 32 pieces, and a lease costs an object each. Measured on loopback
//! (CPU of the sender per answer of 32 records of 1,300 bytes): vectored write of 32 pieces 20 µs, one copied piece 15 µs,
//! sendfile of 32 pieces 190 µs; of one row of 256 KiB: written from the map 33 µs, copied 37 µs, sendfile 43 µs. So there
//! is no sendfile here: it saves nothing where the copy into the socket is as cheap as the pinning of pages, and its calls
//! cost per piece.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::checksums::is_damage;
use crate::commit_log::{CommitLog, LogFile};
use crate::sound::Unsound;

/// Rows from this length on are leased.
const LEASE_BYTES_MIN: usize = 8 << 10;

/// How bytes are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Through {
    /// The map: no call of the kernel for what is in memory; waits in a page fault for what is not.
    Map,
    /// `pread`: leaves no page mapped, and tells a bad disk by an error.
    File,
}

enum Piece {
    /// In the buffer.
    Copied(Range<usize>),
    Leased(Bytes),
}

/// See the module.
pub(crate) struct Gather<'a> {
    log: &'a CommitLog,
    through: Through,
    /// The file of the last record: the next one is most likely in it, too.
    file: Option<Arc<LogFile>>,
    buffer: Vec<u8>,
    pieces: Vec<Piece>,
    /// Something could not be read for a reason that may pass: it must be asked for again, not passed over.
    pub(crate) is_later: bool,
}

impl<'a> Gather<'a> {
    /// For about `bytes` bytes.
    pub(crate) fn new(log: &'a CommitLog, through: Through) -> Self {
        Self {
            log,
            through,
            file: None,
            buffer: Vec::new(),
            pieces: Vec::new(),
            is_later: false,
        }
    }

    /// Makes room for what will be copied, given the lengths of all rows.
    pub(crate) fn reserve(&mut self, rows: impl Iterator<Item = usize>) {
        let through = self.through;
        let copied = rows.filter(|len| !is_leased(through, *len)).sum();
        self.buffer.reserve_exact(copied);
    }

    /// Adds `len` published bytes at `offset`. `false`: they cannot be had, and nothing was added.
    pub(crate) fn add(&mut self, offset: u64, len: usize) -> bool {
        match self.try_add(offset, len) {
            Ok(added) => added,
            Err(error) => {
                tracing::warn!(offset, len, %error, "the log cannot be read");
                self.is_later |= !is_damage(&error);
                false
            }
        }
    }

    fn try_add(&mut self, offset: u64, len: usize) -> io::Result<bool> {
        let is_elsewhere = self
            .file
            .as_ref()
            .is_none_or(|file| offset < file.start || offset >= file.end());
        if is_elsewhere {
            self.file = self.log.file_at(offset);
        }
        let Some(file) = &self.file else {
            return Ok(false);
        };
        if let Err(unsound) = self.log.may_serve(file, offset, len) {
            self.is_later |= unsound == Unsound::Later;
            return Ok(false);
        }
        let at = offset - file.start;
        if is_leased(self.through, len) {
            let lease = file.segment.lease(at, len)?;
            let is_there = lease.is_some();
            self.pieces.extend(lease.map(Piece::Leased));
            return Ok(is_there);
        }
        let before = self.buffer.len();
        let added = match self.through {
            Through::Map => file.segment.copy(at, len, &mut self.buffer)?,
            Through::File => {
                let is_published = at.saturating_add(len as u64) <= file.segment.published();
                if is_published {
                    self.buffer.resize(before + len, 0);
                    let into = self.buffer.get_mut(before..).unwrap_or_default();
                    if let Err(error) = file.segment.read_at(at, into) {
                        self.buffer.truncate(before);
                        return Err(error);
                    }
                }
                is_published
            }
        };
        let after = self.buffer.len();
        match self.pieces.last_mut() {
            Some(Piece::Copied(range)) => range.end = after,
            _ if added => self.pieces.push(Piece::Copied(before..after)),
            _ => {}
        }
        Ok(added)
    }

    /// All that was added, in order.
    pub(crate) fn into_chunks(self) -> Vec<Bytes> {
        if self.pieces.len() == 1 && !self.buffer.is_empty() {
            return vec![Bytes::from(self.buffer)];
        }
        let copied = Bytes::from(self.buffer);
        self.pieces
            .into_iter()
            .map(|piece| match piece {
                Piece::Leased(bytes) => bytes,
                Piece::Copied(range) => copied.slice(range),
            })
            .collect()
    }
}

fn is_leased(through: Through, len: usize) -> bool {
    through == Through::Map && len >= LEASE_BYTES_MIN
}

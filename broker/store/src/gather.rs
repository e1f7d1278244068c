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
            let lease = file.lend(at, len)?;
            let is_there = lease.is_some();
            self.pieces.extend(lease.map(Piece::Leased));
            return Ok(is_there);
        }
        if at.saturating_add(len as u64) > file.segment.published() {
            return Ok(false);
        }
        let before = self.buffer.len();
        let is_copied =
            self.through == Through::Map && file.segment.copy(at, len, &mut self.buffer)?;
        // Also what is shown to nobody now: see `LogFile::lend`.
        if !is_copied {
            self.buffer.resize(before + len, 0);
            let into = self.buffer.get_mut(before..).unwrap_or_default();
            if let Err(error) = file.segment.read_at(at, into) {
                self.buffer.truncate(before);
                return Err(error);
            }
        }
        let after = self.buffer.len();
        match self.pieces.last_mut() {
            Some(Piece::Copied(range)) => range.end = after,
            _ => self.pieces.push(Piece::Copied(before..after)),
        }
        Ok(true)
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

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, IoSlice};

    use rocket_mapped_file::SegmentOptions;
    use rocket_mapped_file::disk::DiskDirectory;

    use super::*;

    #[test]
    fn what_is_shown_to_nobody_while_damage_beside_it_is_repaired_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Arc::new(DiskDirectory::open(folder.path()).unwrap());
        let log =
            CommitLog::open(dir, 64 << 10, SegmentOptions::default(), 32 << 10, None).unwrap();
        let file = log.ensure(0, &|| Ok(())).unwrap();
        let bytes: Vec<u8> = (0..=250).cycle().take(40_000).collect();
        file.segment.write_at(0, &[IoSlice::new(&bytes)]).unwrap();
        file.segment.publish(40_000);
        let lent = file.segment.lease(0, 100).unwrap().unwrap();
        let replaced = file.segment.replace_at(0, &bytes[..32 << 10]);
        assert_eq!(replaced.unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(file.segment.lease(10, 100).unwrap(), None);
        for through in [Through::Map, Through::File] {
            for len in [100, LEASE_BYTES_MIN] {
                let mut gather = Gather::new(&log, through);
                assert!(gather.add(10, len) && !gather.is_later);
                assert!(!gather.add(39_990, 20), "not published");
                assert_eq!(gather.into_chunks().concat(), bytes[10..10 + len]);
            }
        }
        assert_eq!(log.read(10, 100).unwrap(), bytes[10..110]);
        assert_eq!(lent, bytes[..100]);
    }
}

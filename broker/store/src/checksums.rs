//! Checksums of the log's blocks, in files beside it: the body checksum of a record covers nothing but the body.
//!
//! ```text
//! rocket/checksums/<20-digit offset of the log file>, big-endian
//!   0 magic "RKB1" · 4 bytes of a block u32 · 8 bytes of the log file u64 · 16 zeros up to 64
//!  64 one entry of 8 bytes per block of the file, the last one may be shorter:
//!     0 CRC32C of the block u32 · 4 CRC32C of (number of the block u32, the first four bytes)
//! ```
//!
//! An entry vouches for itself: one that was never written, was torn or is damaged is none, and is made again from the
//! log. So a bad checksum file never condemns a good log, and no order of flushes is needed but this: a block is summed
//! only behind the durable end, where it never changes any more.
//!
//! A block is compared once in the life of a process, before the first of its bytes is served; one that was summed here
//! counts as compared. Blocks that have no entry yet (a log that Apache's broker wrote) are read once all the same, so that a
//! sector that cannot be read is met by `pread`, which says so, and not through the map, which would end the process.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rocket_mapped_file::{Directory, Segment, SegmentOptions};

use crate::error::is_too_many_open;

/// The folder of the checksum files.
pub(crate) const FOLDER: &str = "rocket/checksums";
/// Bytes of a block, unless the settings say otherwise (tests have small ones).
pub(crate) const BLOCK_BYTES: u64 = 64 << 10;
const MAGIC: [u8; 4] = *b"RKB1";
const HEAD_BYTES: u64 = 64;
const HEAD_USED: usize = 16;
/// Zeros behind that, up to the entries.
const HEAD_REST: usize = 48;
const ENTRY_BYTES: u64 = 8;

thread_local! {
    /// Where a block is read to. Made anew for each it would cost several times what the reading costs: pages that the
    /// allocator gives back and takes again.
    static BLOCK: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What comparing a block came to.
#[derive(Debug)]
pub(crate) enum Compared {
    /// It is what was summed, or nothing is known against it.
    Good,
    /// It has no entry; this is its checksum.
    Unknown(u32),
    /// It is not what was written, or cannot be read: why.
    Bad(String),
    /// It could not be looked at now.
    Later(io::Error),
}

/// The checksums of one log file.
pub(crate) struct Checksums {
    dir: Arc<dyn Directory>,
    path: String,
    block_bytes: u64,
    len: u64,
    file: Mutex<Option<Arc<dyn Segment>>>,
    /// Blocks that were compared in this process, by bit.
    compared: Box<[AtomicU64]>,
}

impl Checksums {
    /// Those of the log file of `len` bytes at `start`; nothing is opened yet.
    pub(crate) fn new(dir: Arc<dyn Directory>, start: u64, len: u64, block_bytes: u64) -> Self {
        let blocks = len.div_ceil(block_bytes);
        let words = usize::try_from(blocks.div_ceil(64)).unwrap_or(0);
        Self {
            dir,
            path: path_of(start),
            block_bytes,
            len,
            file: Mutex::new(None),
            compared: (0..words).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Number of the block that holds the byte at `at` of the file.
    pub(crate) fn block_of(&self, at: u64) -> u64 {
        at / self.block_bytes
    }

    /// Begin and end of a block within the file.
    pub(crate) fn range(&self, block: u64) -> (u64, u64) {
        let from = block * self.block_bytes;
        (from, (from + self.block_bytes).min(self.len))
    }

    fn word(&self, block: u64) -> Option<(&AtomicU64, u64)> {
        let word = self.compared.get(usize::try_from(block / 64).ok()?)?;
        Some((word, 1 << (block % 64)))
    }

    /// Whether the block was compared in this process and found good.
    pub(crate) fn is_compared(&self, block: u64) -> bool {
        self.word(block)
            .is_some_and(|(word, bit)| word.load(Ordering::Acquire) & bit != 0)
    }

    /// The block was compared, or summed, and is good.
    pub(crate) fn set_compared(&self, block: u64) {
        if let Some((word, bit)) = self.word(block) {
            word.fetch_or(bit, Ordering::AcqRel);
        }
    }

    /// The block is not to be served before it is compared again.
    pub(crate) fn clear_compared(&self, block: u64) {
        if let Some((word, bit)) = self.word(block) {
            word.fetch_and(!bit, Ordering::AcqRel);
        }
    }

    /// Reads a block of the log file by `read` and compares it.
    pub(crate) fn compare(
        &self,
        block: u64,
        read: impl FnOnce(u64, &mut [u8]) -> io::Result<()>,
    ) -> Compared {
        let (from, to) = self.range(block);
        let len = usize::try_from(to - from).unwrap_or(0);
        let sum = BLOCK.with_borrow_mut(|bytes| {
            if bytes.len() < len {
                bytes.resize(len, 0);
            }
            let bytes = bytes.get_mut(..len).unwrap_or_default();
            read(from, bytes).map(|()| crc32c::crc32c(bytes))
        });
        let sum = match sum {
            Ok(sum) => sum,
            Err(error) if is_damage(&error) => return Compared::Bad(error.to_string()),
            Err(error) => return Compared::Later(error),
        };
        match self.known(block) {
            Err(error) => Compared::Later(error),
            Ok(None) => Compared::Unknown(sum),
            Ok(Some(known)) if known == sum => Compared::Good,
            Ok(Some(known)) => Compared::Bad(format!("checksum {sum:08x} instead of {known:08x}")),
        }
    }

    /// The checksum that a block had when it was written, if that is known.
    ///
    /// # Errors
    /// It cannot be looked at now: nothing may be taken for good, or for unknown, before it was.
    pub(crate) fn known(&self, block: u64) -> io::Result<Option<u32>> {
        match self.entry(block) {
            Err(error) if is_passing(&error) => Err(error),
            // Without entries nothing can be compared; that is no fault of the log.
            Err(error) => {
                tracing::warn!(file = self.path, %error, "checksums cannot be read");
                Ok(None)
            }
            found => found,
        }
    }

    fn entry(&self, block: u64) -> io::Result<Option<u32>> {
        let Some(file) = self.opened(false)? else {
            return Ok(None);
        };
        let mut entry = [0; 8];
        file.read_at(HEAD_BYTES + block * ENTRY_BYTES, &mut entry)?;
        Ok(decode(block, entry))
    }

    /// Where the last block ends, within the log file of `len` bytes at `start`, that has a checksum. Reads the whole file.
    pub(crate) fn summed_end(
        dir: &dyn Directory,
        start: u64,
        len: u64,
        block_bytes: u64,
    ) -> io::Result<Option<u64>> {
        let bytes = match dir.read(&path_of(start)) {
            Ok(Some(bytes)) => bytes,
            Err(error) if !is_damage(&error) => return Err(error),
            _ => return Ok(None),
        };
        let head = head_of(block_bytes, len);
        let entries = bytes
            .strip_prefix(&head[..])
            .and_then(|rest| rest.get(HEAD_REST..))
            .unwrap_or_default();
        let (entries, _) = entries.as_chunks();
        let is_known = |(block, entry): &(u64, &[u8; 8])| decode(*block, **entry).is_some();
        let last = (0..).zip(entries).filter(is_known).last();
        Ok(last.map(|(block, _)| ((block + 1) * block_bytes).min(len)))
    }

    /// Enters checksums of adjacent blocks from `first` on.
    pub(crate) fn enter(&self, first: u64, sums: &[u32]) -> io::Result<()> {
        let Some(file) = self.opened(true)? else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let mut bytes = Vec::with_capacity(sums.len() * 8);
        for (block, sum) in (first..).zip(sums) {
            bytes.extend_from_slice(&encode(block, *sum));
        }
        file.write_at(HEAD_BYTES + first * ENTRY_BYTES, &[IoSlice::new(&bytes)])
    }

    /// The blocks from `first` on have no checksum any more: the log is cut there. Durable on return; nobody may enter one
    /// meanwhile. To be done before the log changes: who reads a block that is changing finds nothing to condemn it by.
    ///
    /// Takes no room on the disk where there is no checksum. A file that cannot be read goes as a whole.
    pub(crate) fn forget_from(&self, first: u64) -> io::Result<()> {
        for block in first..self.len.div_ceil(self.block_bytes) {
            self.clear_compared(block);
        }
        match self.zero_from(first) {
            Err(error) if is_damage(&error) => {
                tracing::warn!(file = self.path, %error, "checksums cannot be read, and are made again");
                *self.file.lock() = None;
                self.remove()?;
                self.dir.sync(FOLDER)
            }
            done => done,
        }
    }

    fn zero_from(&self, first: u64) -> io::Result<()> {
        let Some(file) = self.opened(false)? else {
            return Ok(());
        };
        let from = HEAD_BYTES + first * ENTRY_BYTES;
        let left = file.len().saturating_sub(from);
        // Also what an earlier process made zero in the page cache alone is still there.
        file.forget_cache()?;
        let mut entries = vec![0; usize::try_from(left).unwrap_or(0)];
        file.read_at(from, &mut entries)?;
        if entries.iter().any(|&byte| byte != 0) {
            file.zero(from, file.len())?;
            file.flush(0)?;
        }
        Ok(())
    }

    /// Makes what was entered survive a crash of the machine.
    pub(crate) fn flush(&self) -> io::Result<()> {
        let file = self.file.lock().clone();
        file.map_or(Ok(()), |file| file.flush(0))
    }

    /// The file, made if `make`; one of another shape is made anew.
    fn opened(&self, make: bool) -> io::Result<Option<Arc<dyn Segment>>> {
        let mut slot = self.file.lock();
        if let Some(file) = &*slot {
            return Ok(Some(Arc::clone(file)));
        }
        let len = HEAD_BYTES + self.len.div_ceil(self.block_bytes) * ENTRY_BYTES;
        let options = SegmentOptions::default();
        match self.dir.open(&self.path, options) {
            Ok(file) if file.len() == len && self.has_head(&*file)? => {
                return Ok(Some(Arc::clone(slot.insert(file))));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ if !make => return Ok(None),
            Ok(_) => self.dir.remove(&self.path)?,
            Err(_) => {}
        }
        let file = self.dir.create(&self.path, len, options)?;
        file.write_at(0, &[IoSlice::new(&self.head())])?;
        Ok(Some(Arc::clone(slot.insert(file))))
    }

    fn head(&self) -> Vec<u8> {
        head_of(self.block_bytes, self.len)
    }

    fn has_head(&self, file: &dyn Segment) -> io::Result<bool> {
        let mut head = [0; 16];
        file.read_at(0, &mut head)?;
        Ok(head[..] == self.head()[..])
    }

    /// Removes the file: its log file is gone.
    pub(crate) fn remove(&self) -> io::Result<()> {
        self.dir.remove(&self.path)
    }
}

pub(crate) fn path_of(start: u64) -> String {
    format!("{FOLDER}/{start:020}")
}

fn head_of(block_bytes: u64, len: u64) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD_USED);
    head.extend_from_slice(&MAGIC);
    head.extend_from_slice(&u32::try_from(block_bytes).unwrap_or(0).to_be_bytes());
    head.extend_from_slice(&len.to_be_bytes());
    head
}

fn check_of(block: u64, sum: u32) -> u32 {
    let number = u32::try_from(block).unwrap_or(u32::MAX).to_be_bytes();
    crc32c::crc32c_append(crc32c::crc32c(&number), &sum.to_be_bytes())
}

fn encode(block: u64, sum: u32) -> [u8; 8] {
    (u64::from(sum) << 32 | u64::from(check_of(block, sum))).to_be_bytes()
}

fn decode(block: u64, entry: [u8; 8]) -> Option<u32> {
    let both = u64::from_be_bytes(entry);
    let sum = u32::try_from(both >> 32).ok()?;
    (encode(block, sum) == entry).then_some(sum)
}

/// Whether something was wanting that may be there the next time: descriptors, memory.
fn is_passing(error: &io::Error) -> bool {
    is_too_many_open(error) || error.kind() == io::ErrorKind::OutOfMemory
}

/// Whether the device says that these bytes are lost, rather than that they cannot be had now.
pub(crate) fn is_damage(error: &io::Error) -> bool {
    const EIO: i32 = 5;
    const EBADMSG: i32 = 74;
    const EUCLEAN: i32 = 117;
    error.kind() == io::ErrorKind::UnexpectedEof
        || matches!(error.raw_os_error(), Some(EIO | EBADMSG | EUCLEAN))
}

#[cfg(test)]
mod tests {
    use rocket_mapped_file::memory::{Faults, MemoryDirectory};

    use super::*;

    #[test]
    fn an_entry_vouches_for_itself() {
        assert_eq!(decode(7, encode(7, 0xdead_beef)), Some(0xdead_beef));
        assert_eq!(decode(8, encode(7, 0xdead_beef)), None, "of another block");
        assert_eq!(decode(0, [0; 8]), None, "never written");
        for bit in 0..64 {
            let flipped = (u64::from_be_bytes(encode(7, 1)) ^ 1 << bit).to_be_bytes();
            assert_eq!(decode(7, flipped), None, "bit {bit}");
        }
    }

    /// Checksums of three blocks, flushed.
    fn summed(dir: &MemoryDirectory) {
        let sums = Checksums::new(Arc::new(dir.clone()), 0, 10_000, 4096);
        sums.enter(0, &[7, 8, 9]).unwrap();
        sums.flush().unwrap();
    }

    #[test]
    fn what_is_forgotten_does_not_come_back_whatever_ended_the_first_try() {
        let open = |dir: &MemoryDirectory| Checksums::new(Arc::new(dir.clone()), 0, 10_000, 4096);
        for changes in 0..3 {
            let dir = MemoryDirectory::default();
            summed(&dir);
            dir.set_faults(Faults {
                dies_after: Some(changes),
                ..Faults::default()
            });
            let _ = open(&dir).forget_from(1);
            let next = dir.killed();
            open(&next).forget_from(1).unwrap();
            for seed in 0..8 {
                let left = open(&next.crashed(seed));
                let known = [0, 1, 2].map(|block| left.known(block).unwrap());
                assert_eq!(known, [Some(7), None, None], "{changes} {seed}");
            }
        }
    }

    #[test]
    fn checksums_that_cannot_be_read_are_forgotten_as_a_whole() {
        let dir = MemoryDirectory::default();
        summed(&dir);
        dir.break_sectors(&path_of(0), 0, 1);
        let sums = Checksums::new(Arc::new(dir.clone()), 0, 10_000, 4096);
        sums.forget_from(1).unwrap();
        assert_eq!(dir.crashed(1).list_names(FOLDER), Vec::<String>::new());
        sums.enter(0, &[5]).unwrap();
        assert_eq!(sums.known(0).unwrap(), Some(5));
    }

    #[test]
    fn a_flipped_bit_in_the_log_is_seen_and_one_in_the_checksums_condemns_nothing() {
        let dir = MemoryDirectory::default();
        let make = || Checksums::new(Arc::new(dir.clone()), 0, 10_000, 4096);
        let blocks = [vec![1; 4096], vec![2; 4096], vec![3; 1808]];
        let compare = |checksums: &Checksums, block: usize, flip: bool| {
            checksums.compare(block as u64, |_, into| {
                into.copy_from_slice(&blocks[block]);
                into[5] ^= u8::from(flip);
                Ok(())
            })
        };
        let first = make();
        assert!(matches!(compare(&first, 0, false), Compared::Unknown(_)));
        let sums: Vec<u32> = blocks.iter().map(|block| crc32c::crc32c(block)).collect();
        first.enter(0, &sums).unwrap();
        first.flush().unwrap();
        let again = make();
        for block in 0..3 {
            assert!(matches!(compare(&again, block, false), Compared::Good));
            assert!(matches!(compare(&again, block, true), Compared::Bad(_)));
        }
        dir.flip(&path_of(0), 64 + 8 + 1);
        assert!(matches!(compare(&again, 1, false), Compared::Unknown(_)));
        dir.flip(&path_of(0), 1);
        assert!(
            matches!(compare(&make(), 0, false), Compared::Unknown(_)),
            "a file of another kind"
        );
        let fails = |errno| again.compare(0, |_, _| Err(io::Error::from_raw_os_error(errno)));
        assert!(matches!(fails(5), Compared::Bad(_)));
        assert!(
            matches!(fails(24), Compared::Later(_)),
            "too many open files is no damage"
        );
    }
}

//! What of the log is in memory, so that nobody waits for a disk who must not, and how catch-up readers get at the rest.
//!
//! Three temperatures, by blocks of the log: *hot* is what this process wrote last, read through the map without a look;
//! *warm* is what the page cache holds all the same, which a look tells (remembered for a moment, so that a reader pays it
//! once per block); *cold* is the rest. Cold blocks are brought in ahead of their readers by advice to the kernel, read with
//! `pread` (a page in a map cannot be given up), and given up behind them: [`crate::cold_blocks`]. As long as they are kept,
//! all read them that way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rocket_mapped_file::{Advice, Segment};
use rocket_protocol::UnixMillis;

use crate::cold_blocks::{BLOCK_BYTES, ColdBlocks};
use crate::commit_log::{CommitLog, LogFile};
use crate::pace::Pace;

/// The newest part of what was written is in memory without a look.
const HOT_BYTES: u64 = 64 << 20;
/// Blocks that are brought in ahead of a catch-up reader.
const AHEAD_BLOCKS: u64 = 4;
/// How long a look at a block counts.
const LOOK_MS: i64 = 2_000;
const SLOTS: usize = 1024;

/// See the module.
pub(crate) struct Heat {
    /// What lies before this was written by an earlier process.
    written_from: u64,
    cold: Mutex<ColdBlocks>,
    /// How many blocks are in `cold`, so that nobody locks it for nothing.
    cold_count: AtomicUsize,
    pace: Mutex<Pace>,
    /// Blocks that were in memory when they were last looked at: a block and a time in each, at the block's place.
    warm: Box<[(AtomicU64, AtomicU64)]>,
}

impl Heat {
    /// Of a log that this process goes on with at `end`; readers that are behind keep `cold_bytes` of it in memory and fetch at most
    /// `bytes_per_second` while somebody appends.
    pub(crate) fn new(end: u64, cold_bytes: u64, bytes_per_second: u64) -> Self {
        let blocks_max = (cold_bytes / BLOCK_BYTES).max(2 * AHEAD_BLOCKS);
        Self {
            written_from: end,
            cold: Mutex::new(ColdBlocks::new(
                usize::try_from(blocks_max).unwrap_or(usize::MAX),
            )),
            cold_count: AtomicUsize::new(0),
            pace: Mutex::new(Pace::new(bytes_per_second)),
            warm: (0..SLOTS).map(|_| Default::default()).collect(),
        }
    }

    /// Whether `len` bytes at `offset` can be read through the map without waiting for a disk, most likely.
    pub(crate) fn is_in_memory(
        &self,
        log: &CommitLog,
        end: u64,
        now: UnixMillis,
        offset: u64,
        len: usize,
    ) -> bool {
        let hot_from = self.hot_from(end);
        let last = offset.saturating_add(len as u64).saturating_sub(1) / BLOCK_BYTES;
        offset >= hot_from
            || (offset / BLOCK_BYTES..=last).all(|block| self.is_warm(log, now, block))
    }

    /// For who reads on and on through the map, which brings in single pages only: has `len` bytes at `offset` of the log fetched,
    /// and as many behind them, unless they are hot. They stay.
    pub(crate) fn fetch_on(&self, file: &LogFile, end: u64, offset: u64, len: u64) {
        if offset < self.hot_from(end) {
            let (at, len) = (offset - file.start, len.saturating_mul(2));
            file.segment.advise(at, len, Advice::WillNeed);
        }
    }

    fn hot_from(&self, end: u64) -> u64 {
        self.written_from.max(end.saturating_sub(HOT_BYTES))
    }

    fn is_warm(&self, log: &CommitLog, now: UnixMillis, block: u64) -> bool {
        if self.cold_count.load(Ordering::Relaxed) > 0 && self.cold.lock().contains(block) {
            return false;
        }
        let slot = usize::try_from(block % SLOTS as u64)
            .ok()
            .and_then(|slot| self.warm.get(slot));
        let Some((seen, at)) = slot else { return false };
        let now = u64::try_from(now.0).unwrap_or(0);
        // Two stores, not one: a mix of two looks is a guess that is a little older.
        if seen.load(Ordering::Relaxed) == block + 1
            && now.abs_diff(at.load(Ordering::Relaxed)) < LOOK_MS.unsigned_abs()
        {
            return true;
        }
        let is_resident = parts(log, block).all(|part| part.is_resident());
        if is_resident {
            seen.store(block + 1, Ordering::Relaxed);
            at.store(now, Ordering::Relaxed);
        } else {
            seen.store(0, Ordering::Relaxed);
        }
        is_resident
    }

    /// A flush, or a write, begins that senders wait for. Times are of a clock that nobody sets.
    pub(crate) fn wait_begins(&self, elapsed: Duration) {
        self.pace.lock().begins(elapsed);
    }

    /// It ended, and was so long.
    pub(crate) fn wait_ended(&self, elapsed: Duration, wait: Duration) {
        self.pace.lock().ended(elapsed, wait);
    }

    /// How long a catch-up reader is to wait for the sake of senders.
    pub(crate) fn pause(&self, elapsed: Duration) -> Duration {
        self.pace.lock().pause(elapsed)
    }

    /// Notes what [`Heat::bring`] had fetched.
    pub(crate) fn fetched(&self, elapsed: Duration, bytes: u64) {
        self.pace.lock().fetched(elapsed, bytes);
    }

    /// Prepares for `len` bytes at `offset` to be read with `pread`: has what comes next fetched and what lies behind given
    /// up. Returns how many bytes are fetched.
    pub(crate) fn bring(
        &self,
        log: &CommitLog,
        end: u64,
        now: UnixMillis,
        offset: u64,
        len: usize,
    ) -> u64 {
        let mut fetched = 0;
        let hot_block = self.hot_from(end) / BLOCK_BYTES;
        let first = offset / BLOCK_BYTES;
        let last = offset.saturating_add(len as u64).saturating_sub(1) / BLOCK_BYTES;
        for block in first..=last.saturating_add(AHEAD_BLOCKS) {
            // A block that this process still writes to, or wrote lately, is never given up.
            if block >= hot_block {
                break;
            }
            let is_cold = {
                let mut cold = self.cold.lock();
                if block <= last {
                    cold.read(block)
                } else {
                    cold.contains(block)
                }
            };
            if is_cold || self.is_warm(log, now, block) {
                continue;
            }
            let given_up = {
                let mut cold = self.cold.lock();
                let given_up = cold.bring(block);
                if given_up.is_none() {
                    self.cold_count.fetch_add(1, Ordering::Relaxed);
                }
                given_up
            };
            for part in parts(log, block) {
                part.advise(Advice::WillNeed);
                fetched += part.len;
            }
            if let Some(block) = given_up {
                parts(log, block).for_each(|part| part.advise(Advice::DontNeed));
            }
        }
        fetched
    }
}

/// A block, or what of it lies in one file.
struct Part {
    segment: Arc<dyn Segment>,
    offset: u64,
    len: u64,
}

impl Part {
    fn is_resident(&self) -> bool {
        self.segment.is_resident(self.offset, self.len)
    }

    fn advise(&self, advice: Advice) {
        self.segment.advise(self.offset, self.len, advice);
    }
}

fn parts(log: &CommitLog, block: u64) -> impl Iterator<Item = Part> {
    let mut at = block * BLOCK_BYTES;
    let end = at + BLOCK_BYTES;
    std::iter::from_fn(move || {
        let file = (at < end).then(|| log.file_at(at))??;
        let part = Part {
            segment: Arc::clone(&file.segment),
            offset: at - file.start,
            len: file.end().min(end) - at,
        };
        at += part.len;
        Some(part)
    })
}

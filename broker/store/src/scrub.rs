//! What is done to the log behind its end, by a thread of its own: blocks that became durable get their checksums, and all
//! blocks are read again and compared from time to time, so that damage is found while another copy is still there.
//!
//! The scrubber is slow on purpose ([`crate::StoreConfig::scrub_bytes_per_second`]): it reads one block at a time past the
//! page cache, and goes on where the last process left off.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::api::Completion;
use crate::checkpoint::Bounds;
use crate::commit_log::LogFile;
use crate::engine::{Engine, Step};
use crate::sound::{Through, Unsound};

/// Blocks that get their checksums in one step.
const SEAL_BLOCKS: u64 = 1024;
/// Two passes of the scrubber begin at least so far apart.
const PASS_INTERVAL: Duration = Duration::from_hours(1);

/// Where the scrubber is.
#[derive(Default)]
pub(crate) struct Scrub {
    pass: Mutex<Option<Pass>>,
    /// When the last pass ended.
    ended: Mutex<Option<Duration>>,
    pub(crate) bytes: AtomicU64,
    pub(crate) passes: AtomicU64,
}

/// One walk over the log.
struct Pass {
    at: u64,
    bytes: u64,
    damaged: u64,
    begun: Duration,
}

impl<C: Completion> Engine<C> {
    /// Sums the blocks that became durable since. To be called about once a second: each call ends with a flush of the
    /// checksums.
    pub fn seal_step(&self) -> Step {
        let _alone = self.alone.read_recursive();
        self.tell_damage();
        let sound = self.log.sound();
        let durable = self.positions().durable.0;
        let from = sound.sealed().max(self.log.min());
        let Some(file) = self.log.file_at(from) else {
            // Files are missing here: nothing to sum up to the next one.
            let next = self
                .log
                .files()
                .iter()
                .map(|file| file.start)
                .find(|&start| start > from);
            if let Some(next) = next.filter(|&next| next <= durable) {
                sound.seal(next);
                return Step::Worked;
            }
            return Step::Idle;
        };
        let first = file.sums.block_of(from - file.start);
        let mut block = first;
        let mut run: Vec<u32> = Vec::new();
        let end_of = |block: u64| file.start + file.sums.range(block).1;
        while block - first < SEAL_BLOCKS && end_of(block) <= durable && end_of(block) > from {
            // Asked before it is read: a repair may end in between, and what was read is what was damaged.
            let was_damaged = self.is_damaged(&file, block);
            match sound.compare(&file, block, Through::Cache) {
                Ok(Some(sum)) if !was_damaged && !self.is_damaged(&file, block) => run.push(sum),
                Ok(_) | Err(Unsound::Damaged) => {
                    if !Self::enter(&file, block - run.len() as u64, &run) {
                        return Step::Idle;
                    }
                    run.clear();
                }
                Err(Unsound::Later) => break,
            }
            block += 1;
            if end_of(block - 1) == file.end() {
                break;
            }
        }
        if block == first || !Self::enter(&file, block - run.len() as u64, &run) {
            return Step::Idle;
        }
        if let Err(error) = file.sums.flush() {
            tracing::warn!(file = %file.path(), %error, "checksums were not flushed");
            return Step::Idle;
        }
        let sealed = end_of(block - 1);
        sound.seal(sealed);
        // A start believes no block above the floor, so that one goes along.
        self.note(|bounds| Bounds {
            sealed,
            floor: bounds.floor.max(durable),
            ..bounds
        });
        Step::Worked
    }

    /// Whether the block is known to hold damage.
    fn is_damaged(&self, file: &LogFile, block: u64) -> bool {
        let (from, to) = file.sums.range(block);
        let known = self.log.damage().within(file.start + from, file.start + to);
        known.is_some()
    }

    /// The block reads as it was written; it may have been known as damaged.
    fn heals_by_itself(&self, file: &LogFile, block: u64) {
        if !self.is_damaged(file, block) {
            return;
        }
        if let Err(error) = file.segment.show_all() {
            tracing::warn!(file = %file.path(), %error, "a block that is sound again cannot be shown yet");
            return;
        }
        let (from, to) = file.sums.range(block);
        self.log.damage().heal(file.start + from, file.start + to);
    }

    /// Not to be able to keep checksums is no failure of the store; it is tried again.
    pub(crate) fn enter(file: &Arc<LogFile>, first: u64, sums: &[u32]) -> bool {
        if sums.is_empty() {
            return true;
        }
        let entered = file.sums.enter(first, sums);
        if let Err(error) = &entered {
            tracing::warn!(file = %file.path(), %error, "checksums cannot be kept");
        }
        entered.is_ok()
    }

    /// Reads at most `budget` bytes of the log again, at least one block, and compares them.
    pub fn scrub_step(&self, budget: u64) {
        let _alone = self.alone.read_recursive();
        let mut slot = self.scrub.pass.lock();
        let Some(mut pass) = slot.take().or_else(|| self.begin_pass()) else {
            return;
        };
        let mut left = budget.max(1);
        let mut last: Option<Arc<LogFile>> = None;
        let mut sums = 0;
        while left > 0 {
            let Some((file, block)) = self.block_at(&mut pass.at) else {
                self.end_pass(&pass);
                pass.at = 0;
                break;
            };
            let (from, to) = file.sums.range(block);
            let was_damaged = self.is_damaged(&file, block);
            match self.log.sound().compare(&file, block, Through::Aside) {
                Ok(None) => self.heals_by_itself(&file, block),
                // A checksum of damage would vouch for it, also when that is repaired by now.
                Ok(Some(_)) if was_damaged || self.is_damaged(&file, block) => {}
                Ok(Some(sum)) => {
                    if Self::enter(&file, block, &[sum]) {
                        sums += 1;
                    }
                }
                Err(Unsound::Damaged) => pass.damaged += 1,
                Err(Unsound::Later) => {}
            }
            pass.at = file.start + to;
            pass.bytes += to - from;
            self.scrub.bytes.fetch_add(to - from, Ordering::Relaxed);
            left = left.saturating_sub(to - from);
            if let Some(before) = last.replace(Arc::clone(&file))
                && before.start != file.start
                && let Err(error) = before.sums.flush()
            {
                tracing::warn!(file = %before.path(), %error, "checksums were not flushed");
            }
        }
        if sums > 0
            && let Some(file) = last
            && let Err(error) = file.sums.flush()
        {
            tracing::warn!(file = %file.path(), %error, "checksums were not flushed");
        }
        let scrubbed = pass.at;
        self.note(|bounds| Bounds { scrubbed, ..bounds });
        if scrubbed > 0 {
            *slot = Some(pass);
        }
        drop(slot);
        self.tell_damage();
    }

    /// The log is cut at `end`: goes on there at most.
    pub(crate) fn scrub_before(&self, end: u64) {
        if let Some(pass) = &mut *self.scrub.pass.lock() {
            pass.at = pass.at.min(end);
        }
    }

    /// The block at `at` or the next one that is there and summed.
    fn block_at(&self, at: &mut u64) -> Option<(Arc<LogFile>, u64)> {
        *at = (*at).max(self.log.min());
        let file = if let Some(file) = self.log.file_at(*at) {
            file
        } else {
            let next = self.log.files().into_iter().find(|file| file.start > *at)?;
            *at = next.start;
            next
        };
        let block = file.sums.block_of(*at - file.start);
        (file.start + file.sums.range(block).1 <= self.log.sound().sealed())
            .then_some((file, block))
    }

    fn begin_pass(&self) -> Option<Pass> {
        let now = self.clock.elapsed();
        let ended = *self.scrub.ended.lock();
        if ended.is_some_and(|ended| now.saturating_sub(ended) < PASS_INTERVAL) {
            return None;
        }
        Some(Pass {
            at: self.bounds().scrubbed,
            bytes: 0,
            damaged: 0,
            begun: now,
        })
    }

    fn end_pass(&self, pass: &Pass) {
        let now = self.clock.elapsed();
        *self.scrub.ended.lock() = Some(now);
        self.scrub.passes.fetch_add(1, Ordering::Relaxed);
        if pass.bytes > 0 {
            let seconds = now.saturating_sub(pass.begun).as_secs();
            tracing::info!(
                bytes = pass.bytes,
                damaged_blocks = pass.damaged,
                seconds,
                "the log was read again and compared"
            );
        }
    }

    /// Tells of damage that was found since, by whomever.
    fn tell_damage(&self) {
        for damaged in self.log.damage().take_untold() {
            self.events.damaged(&damaged);
        }
    }
}

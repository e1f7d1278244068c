//! An upper bound of what was ever written to the log, durable before anything is written beyond it.
//!
//! Recovery makes zero what lies behind the last good record: an old record there could otherwise be taken for a new one
//! when a new one ends just where it begins. How far it has to go is what the ceiling tells; without it the whole rest of
//! the file, whose zeros were written ahead so that flushes are quick, would have to be read or made anew. It is raised by
//! the house in good time, and by the writer only when that did not happen.

use std::io;

use rocket_mapped_file::Fill;

use crate::api::Completion;
use crate::checkpoint::{Bounds, PATH};
use crate::config::StoreConfig;
use crate::engine::Engine;
use crate::error::is_no_room;

/// The step where what lies behind the end has to be written to be zero: some 30 ms of a start.
const STEP_MAX: u64 = 16 << 20;

/// How far the ceiling is raised at a time: a part of a file, so that it is raised seldom and little is made zero.
pub(crate) fn step(config: &StoreConfig) -> u64 {
    let step = config.segment_bytes / 16;
    match config.fill() {
        Fill::Zeros => step.min(STEP_MAX),
        // Made zero without being written; and messages may come so fast that less is gone before the house looks again,
        // which would leave it to the writer, behind a flush of the checkpoint that waits for all that the log has in the air.
        Fill::Reserve | Fill::Sparse => config.segment_bytes / 4,
    }
    .max(512)
}

impl<C: Completion> Engine<C> {
    /// To be called before anything is written to the log that ends at `end`.
    pub(crate) fn admit(&self, end: u64) -> io::Result<()> {
        if end <= self.log.ceiling() {
            return Ok(());
        }
        self.raise_ceiling(end)
    }

    /// Raises the ceiling to a step beyond `end`, durably.
    pub(crate) fn raise_ceiling(&self, end: u64) -> io::Result<()> {
        let ceiling = end.saturating_add(step(&self.config));
        let mut checkpoint = self.checkpoint.lock();
        let bounds = checkpoint.bounds;
        // What is set may come from a try whose flush failed, so that it does not count before this one's succeeds.
        let ceiling = ceiling.max(bounds.ceiling);
        checkpoint.set(Bounds { ceiling, ..bounds });
        checkpoint.flush()?;
        self.log.set_ceiling(ceiling);
        Ok(())
    }

    /// Raises the ceiling when half a step is left. That there is no room is no failure yet: the writer will try.
    pub fn ceiling_step(&self) {
        let end = self.appender.lock().end();
        let half = step(&self.config) / 2;
        if end.saturating_add(half) <= self.log.ceiling() {
            return;
        }
        match self.raise_ceiling(end) {
            Ok(()) => {}
            Err(error) if is_no_room(&error) => {
                tracing::warn!(%error, "the ceiling of the log could not be raised ahead");
            }
            Err(error) => self.fail(PATH, &error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rocket_mapped_file::Directory as _;
    use rocket_mapped_file::memory::{Faults, MemoryDirectory};
    use rocket_protocol::UnixMillis;

    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::commit_log::FOLDER;
    use crate::test_support::message;
    use crate::{Clock, LocalPolicy, NoEvents, Preallocate, Promise, PutOutcome};

    struct Noon;

    impl Clock for Noon {
        fn now(&self) -> UnixMillis {
            UnixMillis(1)
        }
    }

    #[test]
    fn what_a_start_has_to_write_is_little() {
        let step_of = |preallocate| {
            step(&StoreConfig {
                preallocate,
                ..StoreConfig::default()
            })
        };
        assert_eq!(step_of(Preallocate::Zeros), 16 << 20);
        assert_eq!(step_of(Preallocate::Reserve), 256 << 20);
    }

    fn opened(dir: &MemoryDirectory, segment_bytes: u64) -> Engine<fn(PutOutcome)> {
        let config = StoreConfig {
            segment_bytes,
            ..StoreConfig::default()
        };
        let policy = LocalPolicy {
            flush: config.flush,
        };
        let opened = Engine::open(
            config,
            Arc::new(dir.clone()),
            Arc::new(Noon),
            Arc::new(policy),
            Arc::new(NoEvents),
        );
        opened.unwrap().0
    }

    /// One behind the last byte of the log that is not zero.
    fn written(dir: &MemoryDirectory) -> u64 {
        let ends = dir.list_names(FOLDER).into_iter().map(|name| {
            let bytes = dir.read(&format!("{FOLDER}/{name}")).unwrap().unwrap();
            let last = bytes.iter().rposition(|&byte| byte != 0);
            let start: u64 = name.parse().unwrap();
            last.map_or(0, |last| start + last as u64 + 1)
        });
        ends.max().unwrap_or(0)
    }

    /// The house raises nothing ahead here: the writer alone does.
    #[test]
    fn no_crash_leaves_anything_at_or_beyond_the_ceiling_that_it_leaves() {
        let one = message("t", 0, 3000);
        let mut crashes = 0;
        for changes in 0.. {
            let dir = MemoryDirectory::default();
            let engine = opened(&dir, 1 << 14);
            dir.set_faults(Faults {
                dies_after: Some(changes),
                ..Faults::default()
            });
            for _ in 0..10 {
                let _taken = engine.append(&[one.as_ref()], Promise::Kept, |_| {});
                engine.write_step();
                engine.flush_step(0);
            }
            for seed in 0..8 {
                let left = dir.crashed_in_any_order(seed);
                let written = written(&left);
                let (_, bounds) = Checkpoint::open(Arc::new(left)).unwrap();
                let ceiling = bounds.unwrap().ceiling;
                assert!(written <= ceiling, "{changes} {seed}: {written} {ceiling}");
            }
            if !engine.has_failed() {
                assert!(written(&dir) > 30_000);
                break;
            }
            crashes += 1;
        }
        assert!(crashes > 20, "{crashes}");
    }

    #[test]
    fn a_ceiling_whose_flush_failed_does_not_count_until_one_succeeded() {
        let dir = MemoryDirectory::default();
        let engine = opened(&dir, 1 << 16);
        let before = engine.log.ceiling();
        dir.set_faults(Faults {
            flush_error_at: Some(1),
            ..Faults::default()
        });
        assert!(engine.raise_ceiling(before).is_err());
        assert_eq!(engine.log.ceiling(), before);
        engine.raise_ceiling(before).unwrap();
        assert!(engine.log.ceiling() > before);
        for seed in 0..16 {
            let (_, found) = Checkpoint::open(Arc::new(dir.crashed(seed))).unwrap();
            assert_eq!(
                found.map(|bounds| bounds.ceiling),
                Some(engine.log.ceiling())
            );
        }
    }
}

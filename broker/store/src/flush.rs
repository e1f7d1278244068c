//! Flushing the log: a flush takes everything that is written when it begins, several may be in flight, and what counts
//! is the contiguous prefix of those that succeeded ([`crate::progress`]).

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::api::Completion;
use crate::checkpoint::Bounds;
use crate::cohort::Expected;
use crate::commit_log::{FOLDER, LogFile};
use crate::config::Flush;
use crate::engine::{Engine, Step};
use crate::mutant::{self, Mutant};
use crate::progress::Flight;

/// A flush to be run without any lock held.
pub struct FlushJob {
    flight: Flight,
    /// By [`crate::Clock::elapsed`].
    begun: Duration,
    /// Senders wait for it.
    is_awaited: bool,
    lane: usize,
    /// Almost always the only file.
    first: Option<Arc<LogFile>>,
    more: Vec<Arc<LogFile>>,
    /// From here on no file was found for what it is to cover.
    missing: Option<u64>,
}

impl FlushJob {
    /// Flushes; to be called without any lock held.
    pub fn run(&self) -> Result<(), (String, io::Error)> {
        self.first.iter().chain(&self.more).try_for_each(|file| {
            file.segment
                .flush(self.lane)
                .map_err(|error| (file.path(), error))
        })
    }
}

impl<C: Completion> Engine<C> {
    /// Whether a flush lane should write what was appended and flush it now; when not, who flushes looks again.
    pub fn is_flush_due(&self) -> bool {
        let placed = self.appender.lock().placed();
        let progress = self.progress.lock();
        progress.is_flush_due(placed, self.config.flush_flights)
    }

    /// Whom the next flush waits for.
    pub(crate) fn expected(&self) -> Option<Expected> {
        self.progress.lock().expected()
    }

    /// They were waited for long enough.
    pub(crate) fn give_up(&self, on: Expected) {
        self.progress.lock().give_up(on);
    }

    /// Begins a flush in `lane` of all that is written and in no other flight; to be run and ended by the caller.
    pub fn flush_begin(&self, lane: usize) -> Option<FlushJob> {
        let flight = self
            .progress
            .lock()
            .flush_begin(self.config.flush_flights)?;
        self.events.flush_begins();
        let mut files = std::iter::successors(self.log.file_at(flight.from), |file| {
            self.log.file_at(file.end())
        })
        .take_while(|file| file.start < flight.to);
        let (first, more) = (files.next(), files.collect::<Vec<_>>());
        let last = more.last().or(first.as_ref());
        let found = last.map_or(flight.from, |file| file.end());
        let begun = self.clock.elapsed();
        let is_awaited = self.flush_mode.now() == Flush::Sync;
        if is_awaited {
            self.heat.wait_begins(begun);
        }
        Some(FlushJob {
            flight,
            begun,
            is_awaited,
            lane,
            first,
            more,
            missing: (found < flight.to).then_some(found),
        })
    }

    /// Ends a flush with what [`FlushJob::run`] said.
    pub fn flush_end(&self, job: &FlushJob, result: Result<(), (String, io::Error)>) {
        if let Err((file, error)) = result {
            self.fail(&file, &error);
            return;
        }
        if let Some(error) = self.uncovered(job) {
            self.fail(FOLDER, &error);
            return;
        }
        self.events.flush_succeeded();
        self.counters.flushes.fetch_add(1, Ordering::Relaxed);
        let elapsed = self.clock.elapsed();
        let took = elapsed.saturating_sub(job.begun);
        if job.is_awaited {
            self.heat.wait_ended(elapsed, took);
        }
        self.events.flushed(took, job.flight.to - job.flight.from);
        let moved = {
            let mut progress = self.progress.lock();
            // Not of the appender: those who wait for this flush would wait for a file that is being made. With the lock held
            // it is no older than what other lanes have begun to flush.
            let appends = self.placed.load(Ordering::Acquire);
            progress.flush_end(job.flight.id, took, appends)
        };
        if moved {
            self.settle();
        }
    }

    /// That bytes count as flushed which no file holds, unless a cut took them, and the flight with them.
    fn uncovered(&self, job: &FlushJob) -> Option<io::Error> {
        let from = job.missing?;
        // A cut that is under way takes the files first.
        let _alone = self.alone.read_recursive();
        let to = job.flight.to;
        let is_in_flight = self.progress.lock().is_in_flight(job.flight.id);
        is_in_flight.then(|| {
            let why = format!("there is no file for {from} to {to}, which are to be flushed");
            io::Error::new(io::ErrorKind::NotFound, why)
        })
    }

    /// Writes how far the log is flushed to the checkpoint, so that a killed process leaves a floor that is close. Costs no
    /// flush, and is nothing that a flush of the log waits for.
    pub fn mark_step(&self) {
        self.mark();
        // Not to be able to is no failure of the store: the bound stays lower.
        if let Err(error) = self.checkpoint.lock().write() {
            tracing::warn!(%error, "the checkpoint was not written");
        }
    }

    /// Lets the next checkpoint say how far the log is flushed and committed.
    pub(crate) fn mark(&self) {
        // Bounds of a log that was cut since must not be noted.
        let _alone = self.alone.read_recursive();
        let (local, committed) = {
            let progress = self.progress.lock();
            (progress.local(), progress.ends().committed)
        };
        let floor = if mutant::is_on(Mutant::FloorTooHigh) {
            local.appended
        } else {
            local.durable
        };
        self.note(|bounds| Bounds {
            floor: floor.0.max(bounds.floor),
            confirm: committed.0.max(bounds.confirm),
            ..bounds
        });
    }

    /// Flushes in `lane` all that is written.
    pub fn flush_step(&self, lane: usize) -> Step {
        let Some(job) = self.flush_begin(lane) else {
            return Step::Idle;
        };
        if mutant::is_on(Mutant::AckBeforeFlush) {
            self.flush_end(&job, Ok(()));
        }
        let mut result = job.run();
        if result.is_err() && mutant::is_on(Mutant::FlushRetried) {
            result = job.run();
        }
        self.flush_end(&job, result);
        Step::Worked
    }

    /// Changes what the next checkpoint will say.
    pub(crate) fn note(&self, change: impl FnOnce(Bounds) -> Bounds) {
        let mut checkpoint = self.checkpoint.lock();
        let bounds = change(checkpoint.bounds);
        checkpoint.set(bounds);
    }

    pub(crate) fn bounds(&self) -> Bounds {
        self.checkpoint.lock().bounds
    }
}

#[cfg(test)]
#[cfg(not(feature = "loom"))]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc;

    use rocket_mapped_file::memory::{Faults, MemoryDirectory};
    use rocket_protocol::UnixMillis;

    use crate::test_support::message;
    use crate::{
        Clock, Completion, Engine, Flush, LocalPolicy, NoEvents, Promise, PutOutcome, PutStatus,
        StoreConfig,
    };

    struct Never;

    impl Clock for Never {
        fn now(&self) -> UnixMillis {
            UnixMillis(1)
        }
    }

    struct Told(mpsc::Sender<PutStatus>);

    impl Completion for Told {
        fn complete(self, outcome: PutOutcome) {
            self.0.send(outcome.status).unwrap();
        }
    }

    #[test]
    fn a_flush_answers_though_the_appender_is_held_for_a_file_that_is_made() {
        let policy = Arc::new(LocalPolicy { flush: Flush::Sync });
        let dir = Arc::new(MemoryDirectory::default());
        let config = StoreConfig {
            segment_bytes: 4096,
            ..StoreConfig::default()
        };
        let opened = Engine::open(config, dir, Arc::new(Never), policy, Arc::new(NoEvents));
        let (engine, _) = opened.unwrap();
        let (told, answers) = mpsc::channel();
        let one = message("t", 0, 10);
        let appended = engine.append(&[one.as_ref()], Promise::Kept, Told(told));
        assert!(appended.is_ok());
        engine.write_step();
        let job = engine.flush_begin(0).unwrap();
        let _held = engine.appender.lock();
        // With the lock this thread would wait for itself, and for ever.
        engine.flush_end(&job, job.run());
        assert_eq!(answers.try_recv(), Ok(PutStatus::Ok));
    }

    /// Bytes that no file holds are not flushed, though no flush failed.
    #[test]
    fn flush_that_finds_no_file_is_none_unless_a_cut_took_the_bytes() {
        for is_cut in [false, true] {
            let policy = Arc::new(LocalPolicy { flush: Flush::Sync });
            let dir = Arc::new(MemoryDirectory::default());
            let config = StoreConfig {
                segment_bytes: 4096,
                ..StoreConfig::default()
            };
            let opened = Engine::open(config, dir, Arc::new(Never), policy, Arc::new(NoEvents));
            let (engine, _) = opened.unwrap();
            let (told, answers) = mpsc::channel();
            let one = message("t", 0, 900);
            // Into a second file.
            for _ in 0..5 {
                let appended = engine.append(&[one.as_ref()], Promise::Kept, Told(told.clone()));
                assert!(appended.is_ok());
            }
            engine.write_step();
            assert_eq!(engine.log.files().len(), 2);
            // As amid a cut.
            engine.log.cut(4096, u64::MAX).unwrap();
            let job = engine.flush_begin(0).unwrap();
            if is_cut {
                engine.progress.lock().cut(4096);
            }
            engine.flush_end(&job, job.run());
            assert_eq!(engine.has_failed(), !is_cut);
            assert!(answers.try_iter().all(|status| status != PutStatus::Ok));
        }
    }

    /// A killed process may have had no time to note that a flush failed, and a disk that fails may not take the note.
    #[test]
    fn what_a_failed_flush_did_not_bring_to_the_disk_is_not_believed_though_nobody_noted_it() {
        let open = |dir: &MemoryDirectory| {
            let config = StoreConfig {
                segment_bytes: 4096,
                ..StoreConfig::default()
            };
            let policy = Arc::new(LocalPolicy { flush: Flush::Sync });
            let dir = Arc::new(dir.clone());
            Engine::<Told>::open(config, dir, Arc::new(Never), policy, Arc::new(NoEvents)).unwrap()
        };
        let mut has_lost = false;
        for seed in 0..20 {
            let dir = MemoryDirectory::default();
            let (engine, _) = open(&dir);
            let (told, _answers) = mpsc::channel();
            let one = message("t", 0, 900);
            let appended = engine.append(&[one.as_ref()], Promise::Kept, Told(told));
            assert!(appended.is_ok());
            engine.write_step();
            let end = engine.positions().appended;
            dir.set_faults(Faults {
                flush_error_at: Some(1),
                change_error: Some(5),
                seed,
                ..Faults::default()
            });
            engine.flush_step(0);
            let left = dir.killed();
            // What this start believes it flushes, and then may promise.
            let (next, found) = open(&left);
            drop(next);
            let (_, after) = open(&left.crashed(seed));
            let told = (found.log_end, 0);
            assert_eq!((after.log_end, after.damaged_ranges), told, "seed {seed}");
            has_lost |= found.log_end < end;
        }
        assert!(has_lost, "no failed flush lost anything");
    }

    /// Counterexample found by a seed of the simulation: the bound stayed beyond the log, and at the start after the next one
    /// messages that had come in place of the lost ones counted as committed.
    #[test]
    fn a_log_that_lost_its_end_takes_the_bound_of_what_is_committed_with_it() {
        let open = |dir: &MemoryDirectory| {
            let config = StoreConfig {
                segment_bytes: 4096,
                flush: Flush::Async,
                ..StoreConfig::default()
            };
            let flush = Flush::Async;
            let policy = Arc::new(LocalPolicy { flush });
            let dir = Arc::new(dir.clone());
            Engine::<Told>::open(config, dir, Arc::new(Never), policy, Arc::new(NoEvents)).unwrap()
        };
        let dir = MemoryDirectory::default();
        let (engine, _) = open(&dir);
        let (told, _answers) = mpsc::channel();
        for _ in 0..3 {
            let one = message("t", 0, 900);
            let appended = engine.append(&[one.as_ref()], Promise::Kept, Told(told.clone()));
            assert!(appended.is_ok());
            engine.write_step();
            engine.settle();
        }
        // It says what is committed, and that nothing of it is flushed.
        engine.checkpoint_step();
        let end = engine.positions().committed;
        let mut has_lost = false;
        for seed in 0..20 {
            let (_, first) = open(&dir.crashed(seed));
            assert!(first.confirm <= first.log_end, "seed {seed}: {first:?}");
            has_lost |= first.log_end < end;
            let again = dir.crashed(seed);
            drop(open(&again));
            let (_, second) = open(&again.killed());
            assert!(second.confirm <= first.log_end, "seed {seed}: {second:?}");
        }
        assert!(has_lost, "no crash took anything");
    }
}

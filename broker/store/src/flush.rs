//! Flushing the log: a flush takes everything that is written when it begins, several may be in flight, and what counts
//! is the contiguous prefix of those that succeeded ([`crate::progress`]).

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::api::Completion;
use crate::checkpoint::Bounds;
use crate::commit_log::LogFile;
use crate::engine::{Engine, Step};
use crate::mutant::{self, Mutant};
use crate::progress::Flight;

/// A flush to be run without any lock held.
pub struct FlushJob {
    flight: Flight,
    /// By [`crate::Clock::elapsed`].
    begun: Duration,
    lane: usize,
    /// Almost always the only file.
    first: Option<Arc<LogFile>>,
    more: Vec<Arc<LogFile>>,
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
        let placed = self.appender.lock().end();
        let progress = self.progress.lock();
        progress.is_flush_due(placed, self.config.flush_flights)
    }

    /// Begins a flush in `lane` of all that is written and in no other flight; to be run and ended by the caller.
    pub fn flush_begin(&self, lane: usize) -> Option<FlushJob> {
        let flight = self
            .progress
            .lock()
            .flush_begin(self.config.flush_flights)?;
        let mut files = std::iter::successors(self.log.file_at(flight.from), |file| {
            self.log.file_at(file.end())
        })
        .take_while(|file| file.start < flight.to);
        Some(FlushJob {
            flight,
            begun: self.clock.elapsed(),
            lane,
            first: files.next(),
            more: files.collect(),
        })
    }

    /// Ends a flush with what [`FlushJob::run`] said.
    pub fn flush_end(&self, job: &FlushJob, result: Result<(), (String, io::Error)>) {
        if let Err((file, error)) = result {
            self.fail(&file, &error);
            return;
        }
        self.counters.flushes.fetch_add(1, Ordering::Relaxed);
        let took = self.clock.elapsed().saturating_sub(job.begun);
        self.events.flushed(took, job.flight.to - job.flight.from);
        let moved = {
            let mut progress = self.progress.lock();
            progress
                .flush_end(job.flight.id, took)
                .then(|| (progress.local().durable.0, progress.ends().committed.0))
        };
        if let Some((durable, confirm)) = moved {
            let durable = if mutant::is_on(Mutant::FloorTooHigh) {
                self.positions().appended.0
            } else {
                durable
            };
            self.settle();
            let mut checkpoint = self.checkpoint.lock();
            let bounds = checkpoint.bounds;
            checkpoint.set(Bounds {
                floor: durable.max(bounds.floor),
                confirm: confirm.max(bounds.confirm),
                ..bounds
            });
            // Not to be able to is no failure of the store: the bound stays lower.
            if let Err(error) = checkpoint.write() {
                tracing::warn!(%error, "the checkpoint was not written");
            }
        }
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

//! Telling those who wait: "kept" when their promise is, "unknown" when that takes too long, when a write or flush
//! failed, or when the store stops. A failure is final: nothing is acknowledged after it.

use std::io;
use std::sync::Arc;

use crate::api::{Completion, FlushFailure, PutStatus};
use crate::engine::Engine;
use crate::failure::{self, FailureKind};
use crate::waiters::Closed;

/// Answers given before the next ones are taken out.
const ANSWERS_MAX: usize = 256;

impl<C: Completion> Engine<C> {
    /// Asks the commit policy again and answers everyone whose promise is kept, in log order. Returns at once when another
    /// thread is at it: that one looks again before it leaves.
    pub fn settle(&self) {
        self.answering.run(|due| {
            let Some(ends) = self.progress.lock().settle(&*self.policy) else {
                return;
            };
            loop {
                let mut waiters = self.waiters.lock();
                waiters.take_due(ends.appended, &ends.on, ANSWERS_MAX, due);
                drop(waiters);
                if due.is_empty() {
                    return;
                }
                C::together(|| {
                    for waiter in due.drain(..) {
                        waiter.answer(PutStatus::Ok);
                    }
                });
            }
        });
    }

    /// Answers "unknown" to everyone who waited too long.
    pub fn expire(&self) {
        let now = self.clock.elapsed();
        let expired = self.waiters.lock().take_expired(now);
        let durable = self.durable();
        for waiter in expired {
            waiter.answer_unknown(durable);
        }
    }

    /// From now on appends are refused; those taken are still to be done.
    pub fn begin_close(&self) {
        self.waiters.lock().close(Closed::Stopping);
    }

    /// Everyone who still waits is told that the outcome is unknown.
    pub fn abandon(&self) {
        self.leave_nobody(Closed::Stopping);
    }

    fn leave_nobody(&self, why: Closed) {
        let waiting = {
            let mut waiters = self.waiters.lock();
            waiters.close(why);
            waiters.take_all()
        };
        let durable = self.durable();
        for waiter in waiting {
            waiter.answer_unknown(durable);
        }
    }

    fn durable(&self) -> u64 {
        self.progress.lock().local().durable.0
    }

    /// A write or flush failed: final. Nothing is acknowledged from here on.
    pub(crate) fn fail(&self, file: &str, error: &io::Error) {
        self.fail_as(FailureKind::of(error), file, error);
    }

    /// As [`Engine::fail`], when the caller knows of what kind it is.
    pub(crate) fn fail_as(&self, kind: FailureKind, file: &str, error: &io::Error) {
        let reason: Arc<str> = format!("{file}: {error}").into();
        let is_first = self.progress.lock().fail(Arc::clone(&reason));
        if is_first {
            tracing::error!(file, error = %error, "write or flush failed; the store is read-only from now on");
        }
        self.leave_nobody(Closed::Failed(Arc::clone(&reason)));
        if !is_first {
            tracing::debug!(file, error = %error, "another failure of a store that has failed");
            return;
        }
        let note = failure::note(self.now(), kind, &reason);
        if let Err(error) = self.dir.replace(failure::PATH, note.as_bytes()) {
            tracing::error!(error = %error, "the failure could not be noted for the next start");
        }
        self.events.failed(&FlushFailure {
            file: file.to_owned(),
            error: error.to_string(),
        });
    }

    /// See [`crate::Store::condemn`].
    pub fn condemn(&self, reason: &str) {
        self.fail("rocket/replica", &io::Error::other(reason.to_owned()));
    }

    pub(crate) fn failed(&self) -> Option<Arc<str>> {
        self.progress.lock().failed().cloned()
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.progress.lock().failed().is_some()
    }

    /// A step that was left by a panic, an assertion that did not hold above all, is as final as a flush that failed: what
    /// it left behind is not known.
    pub(crate) fn panicked(&self) {
        let error = io::Error::other("a step of the store panicked; the log tells where");
        self.fail_as(FailureKind::Store, "store", &error);
    }

    /// Looks whether that happened on a caller's thread.
    pub(crate) fn fail_if_broken(&self) {
        let is_broken = self.writing.is_broken() || self.answering.is_broken();
        if is_broken && !self.has_failed() {
            self.panicked();
        }
    }
}

//! Taking back the end of the log (replication protocol §8.5): bytes that a master does not have go, and what follows from
//! them with them.
//!
//! ```text
//! what goes is kept aside ─▶ intent ─▶ checksums, files, zeros ─▶ damage, deleted topics ─▶ bounds ─▶ intent removed
//!                              └──────────── a start finishes all of this after a crash ──────────┘
//! ```
//!
//! What was visible may have been read, dispatched and lent, so it is never taken back in a running store: then only the
//! intent is written, and the next start does the rest before it believes anything. That happens where bytes that counted
//! are given up, after an unclean election or without waiting for replicas; what replication waits for is cut in place.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;
use rocket_protocol::{PhysicalOffset, RecordView};
use thiserror::Error;

use crate::api::Completion;
use crate::appender::{Appender, Role};
use crate::checkpoint;
use crate::commit_log::{FOLDER, TailRule};
use crate::engine::{Engine, Step};
use crate::error::is_no_room;
use crate::intent::{self, Deed, Intent};
use crate::mutant::{self, Mutant};
use crate::quarantine;
use crate::queues::SharedQueue;
use crate::replica_log::answer_unknown;
use crate::tail;
use crate::unit::Unit;
use crate::waiters::Closed;

/// What becomes of bytes that are cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aside {
    /// They are gone.
    Nothing,
    /// They are kept in the folder `quarantine`.
    Kept {
        /// Bytes of all that is kept there; the oldest goes first (`quarantine_limit`).
        bytes_max: u64,
    },
}

/// Why the log was not cut.
#[derive(Debug, Error)]
pub enum CutError {
    /// The log cannot end there; nothing was changed. A fault of the caller.
    #[error("the log from {min} to {end} cannot end at {at}")]
    NotThere {
        /// Where it was to end.
        at: PhysicalOffset,
        /// It begins here.
        min: PhysicalOffset,
        /// It ends here.
        end: PhysicalOffset,
    },
    /// What goes could not be kept aside, or the log not be looked at; nothing was cut.
    #[error("what is cut off cannot be kept aside: {0}")]
    Aside(#[source] io::Error),
    /// There is no room to keep aside what goes, or too many files are open; nothing was cut. To be asked again.
    #[error(
        "there is no room in the folder quarantine for the {bytes} bytes that are cut off: {source}"
    )]
    NoRoom {
        /// How many are to be kept.
        bytes: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is noted durably what is to be cut, and the next start does it before anything else: what was visible goes, which
    /// no running store takes back. Nothing is appended any more; the store is to be closed and opened again.
    #[error("the next start of the store cuts the log")]
    NeedsRestart,
    /// A write or flush failed, now or earlier: final. The next start finishes what was begun.
    #[error("the store failed: {0}")]
    Failed(Arc<str>),
}

/// How a cut ended under the locks.
enum Undone {
    Refused(CutError),
    Failed(&'static str, io::Error),
}

impl Undone {
    fn failed(path: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Failed(path, error)
    }
}

impl<C: Completion> Engine<C> {
    /// Lets the log end at `to`, which lies between records; nothing is to be done where it ends there or before. Everybody
    /// who still waits is told that the outcome is unknown; from here on only copies are appended. Durable on return.
    ///
    /// `epoch` is that of the master that caused it. One caller at a time; flushes may be in flight.
    ///
    /// # Errors
    /// See [`CutError`].
    pub fn cut(&self, to: PhysicalOffset, epoch: u64, aside: Aside) -> Result<(), CutError> {
        self.change_log(|appender| self.cut_log(appender, to.0, epoch, aside))
    }

    /// Empties the log and lets it begin at `at` (`BehindRetention`); what is not known to be committed is put `aside`. In
    /// place only where it is empty already: a copy that was never used joins without a restart. Durable on return.
    ///
    /// # Errors
    /// See [`CutError`].
    pub fn start_anew(&self, at: PhysicalOffset, epoch: u64, aside: Aside) -> Result<(), CutError> {
        self.change_log(|appender| {
            let len = self.config.segment_bytes;
            let shown = self.visible().max(self.dispatched());
            let (min, end) = (self.log.min(), appender.end());
            let committed = self.progress.lock().ends().committed.0;
            self.keep_aside((committed.max(min), end), epoch, aside)?;
            if end == min && at.0 >= shown {
                return self.begin_anew(appender, at.0, len, epoch);
            }
            self.intend(appender, Deed::Anew { len }, at.0, epoch)?;
            Err(self.restart(appender))
        })
    }

    /// Makes the first file of a log that is still empty anew, so that it ends where a master's does.
    pub(crate) fn refit_first(&self, at: u64, len: u64) -> Result<(), CutError> {
        self.change_log(|appender| {
            let (min, end) = (self.log.min(), appender.end());
            if (min, end) != (at, at) {
                return Err(not_there(at, min, end));
            }
            self.begin_anew(appender, at, len, 0)
        })
    }

    /// Runs `change` alone: nothing is appended, noted or summed meanwhile, and nobody waits for an answer.
    fn change_log(
        &self,
        change: impl FnOnce(&mut Appender) -> Result<(), Undone>,
    ) -> Result<(), CutError> {
        let (waiting, changed) = {
            let _alone = self.alone.write();
            let mut appender = self.written().map_err(CutError::Failed)?;
            if appender.role() == Role::Waits {
                return Err(CutError::NeedsRestart);
            }
            // With the lock held nobody enters after this.
            let waiting = self.waiters.lock().take_all();
            (waiting, change(&mut appender))
        };
        answer_unknown(waiting);
        match changed {
            Ok(()) => Ok(()),
            Err(Undone::Refused(error)) => Err(error),
            Err(Undone::Failed(path, error)) => {
                self.fail(path, &error);
                Err(CutError::Failed(self.reason_of(&error)))
            }
        }
    }

    fn cut_log(
        &self,
        appender: &mut Appender,
        to: u64,
        epoch: u64,
        aside: Aside,
    ) -> Result<(), Undone> {
        let (min, end) = (self.log.min(), appender.end());
        let read = |error| Undone::Refused(CutError::Aside(error));
        if to < min || to < end && !self.log.may_end_at(to).map_err(read)? {
            return Err(not_there(to, min, end));
        }
        appender.follow(end, appender.file_end());
        if to >= end {
            return Ok(());
        }
        self.keep_aside((to, end), epoch, aside)?;
        let is_shown = to < self.visible().max(self.dispatched());
        // What is not flushed may be lost before the next start, and comes again from a master.
        let durable = self.progress.lock().local().durable.0;
        let stays = (to.min(durable), end);
        self.lower_carried(stays, is_shown).map_err(read)?;
        tracing::warn!(from = to, to = end, epoch, "the end of the log is cut off");
        self.intend(appender, Deed::Cut, to, epoch)?;
        if is_shown {
            return Err(self.restart(appender));
        }
        self.cut_in_place(to)?;
        let file_end = self.log.file_at(to).map_or(to, |file| file.end());
        appender.follow(to, file_end);
        Ok(())
    }

    /// Copies `range` of the log to where it is looked for later.
    fn keep_aside(&self, range: (u64, u64), epoch: u64, aside: Aside) -> Result<(), Undone> {
        match aside {
            Aside::Kept { bytes_max } if range.0 < range.1 => {
                let kept = quarantine::keep(&*self.dir, &self.log, range, epoch, bytes_max);
                kept.map_err(|source| {
                    let bytes = (range.1 - range.0).min(bytes_max);
                    Undone::Refused(if is_no_room(&source) {
                        CutError::NoRoom { bytes, source }
                    } else {
                        CutError::Aside(source)
                    })
                })
            }
            Aside::Kept { .. } | Aside::Nothing => Ok(()),
        }
    }

    /// Sees to it that offsets of messages that go, from `from` to `end` of the log, are given again, and others not: where
    /// queues are to be built again, or have been and wait for what was known of them.
    fn lower_carried(&self, (from, end): (u64, u64), is_shown: bool) -> io::Result<()> {
        if !is_shown && !self.carried.is_pending() {
            return Ok(());
        }
        let mut cut = BTreeMap::new();
        let each = |offset, view: &RecordView<'_>, _| {
            if let Some(queue) = self.queue_of(offset, view) {
                cut.entry(queue).or_insert(view.queue_offset().0);
            }
            Ok(())
        };
        tail::follow(&self.log, from, end, TailRule::Ours, each).map_err(io::Error::other)?;
        if self.log.damage().within(from, end).is_some() {
            // Of messages that cannot be read only the queues tell.
            for queue in self.queues.all() {
                let next = self.goes_on_at(&queue, from)?;
                let first = cut.entry((queue.topic().clone(), queue.queue_id()));
                first
                    .and_modify(|first| *first = next.min(*first))
                    .or_insert(next);
            }
        }
        let put = if is_shown {
            self.queues.put_offsets()
        } else {
            Vec::new()
        };
        self.carried.lower(put, &cut)
    }

    /// The offset at which `queue` goes on when the log ends at `from`, by what the queue tells of its messages. A place that stands
    /// for a message in damage goes with its neighbours, unless there is damage too that stays.
    fn goes_on_at(&self, queue: &SharedQueue, from: u64) -> io::Result<u64> {
        let (min, max) = queue.range();
        // Before the first one that can be read lie expired ones, and in a log that has its beginning damaged ones only.
        let first = if self.log.min() == 0 { 0 } else { min };
        let (mut next, mut stays, mut begin) = (max, first, self.log.min());
        for index in (min..max).rev() {
            let unit = queue.get(index);
            match unit.inspect_err(|error| self.judge(queue, index, error))? {
                Some(unit) if unit.is_at_least(from) => next = index,
                Some(Unit::PADDING) => {}
                Some(unit) => {
                    stays = index + 1;
                    begin = unit.physical_offset + u64::from(unit.size);
                    break;
                }
                None => break,
            }
        }
        let is_any_left = self.log.damage().within(begin, from).is_some();
        Ok(if is_any_left { next } else { stays })
    }

    /// Notes durably what is to be done.
    fn intend(&self, appender: &Appender, deed: Deed, at: u64, epoch: u64) -> Result<(), Undone> {
        if mutant::is_on(Mutant::CutWithoutIntent) {
            return Ok(());
        }
        let intent = Intent {
            deed,
            at,
            end: appender.end(),
            dispatched: self.dispatched(),
            epoch,
        };
        intent
            .write(&*self.dir)
            .map_err(Undone::failed(intent::PATH))
    }

    /// The next start does it; until then nothing is appended.
    fn restart(&self, appender: &mut Appender) -> Undone {
        appender.wait();
        self.waiters.lock().close(Closed::Stopping);
        Undone::Refused(CutError::NeedsRestart)
    }

    fn cut_in_place(&self, to: u64) -> Result<(), Undone> {
        self.events.flush_begins();
        let done = self.log.cut(to, self.log.ceiling());
        if done.is_ok() {
            self.events.flush_succeeded();
        }
        done.and_then(|()| self.log.damage().forget_from(to))
            .and_then(|()| self.deleted.cut(to))
            .map_err(Undone::failed(FOLDER))?;
        let sealed = self.log.sound().sealed();
        self.lower(|bounds| bounds.cut(to, sealed))?;
        Intent::remove(&*self.dir).map_err(Undone::failed(intent::PATH))?;
        self.progress.lock().cut(to);
        self.scrub_before(to);
        Ok(())
    }

    fn begin_anew(
        &self,
        appender: &mut Appender,
        at: u64,
        len: u64,
        epoch: u64,
    ) -> Result<(), Undone> {
        // Held so that nothing is dispatched where the position moves.
        let mut dispatcher = self.dispatcher.lock();
        self.intend(appender, Deed::Anew { len }, at, epoch)?;
        let done = self.log.begin_at(at, len);
        done.and_then(|()| self.log.damage().forget_from(0))
            .and_then(|()| self.deleted.cut(0))
            .and_then(|()| self.carried.clear())
            .map_err(Undone::failed(FOLDER))?;
        self.lower(|bounds| bounds.empty(at))?;
        Intent::remove(&*self.dir).map_err(Undone::failed(intent::PATH))?;
        self.progress.lock().begin_at(at);
        self.scrub_before(at);
        dispatcher.position = at;
        self.dispatched.store(at, Ordering::Release);
        appender.follow(at, at + len);
        Ok(())
    }

    /// Changes the bounds, durably; the ceiling counts at once.
    fn lower(
        &self,
        change: impl FnOnce(checkpoint::Bounds) -> checkpoint::Bounds,
    ) -> Result<(), Undone> {
        let mut checkpoint = self.checkpoint.lock();
        let bounds = change(checkpoint.bounds);
        checkpoint.set(bounds);
        checkpoint
            .flush()
            .map_err(Undone::failed(checkpoint::PATH))?;
        self.log.set_ceiling(bounds.ceiling);
        Ok(())
    }

    /// The appender, when everything that it placed is written.
    ///
    /// # Errors
    /// The store failed; the reason.
    pub(crate) fn written(&self) -> Result<MutexGuard<'_, Appender>, Arc<str>> {
        loop {
            let wrote = self.write_step();
            if let Some(reason) = self.failed() {
                return Err(reason);
            }
            let appender = self.appender.lock();
            if self.progress.lock().local().appended.0 == appender.end() {
                return Ok(appender);
            }
            drop(appender);
            if wrote == Step::Idle {
                // Another thread is at it.
                std::thread::yield_now();
            }
        }
    }

    /// Why the store failed, where `error` may have been the first sign of it.
    pub(crate) fn reason_of(&self, error: &io::Error) -> Arc<str> {
        self.failed().unwrap_or_else(|| error.to_string().into())
    }
}

fn not_there(at: u64, min: u64, end: u64) -> Undone {
    Undone::Refused(CutError::NotThere {
        at: PhysicalOffset(at),
        min: PhysicalOffset(min),
        end: PhysicalOffset(end),
    })
}

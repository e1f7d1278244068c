//! From the caller's bytes to the log: [`Engine::append`] gives messages their place and encodes them into the batch that
//! is being filled; [`Engine::write_step`] takes that batch to the log, for everybody who appended to it.
//!
//! Nothing here waits for a flush. The one thing that may take long is to make the next log file, which is made ahead of
//! its need (`prepare_step`) and here only if that did not happen.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rocket_mapped_file::Fill;
use rocket_protocol::message::MessageRef;
use rocket_protocol::message::encode::EncodeError;
use rocket_protocol::message::record::BLANK_HEAD_BYTES;

use crate::api::{Completion, Promise, PutStatus, Refused};
use crate::appender::{Appender, Batch, is_queued};
use crate::checkpoint;
use crate::commit_log::FOLDER;
use crate::config::Flush;
use crate::engine::{Engine, Step};
use crate::error::is_no_room;
use crate::room::Writer;
use crate::waiters::{Closed, Waiter};

impl<C: Completion> Engine<C> {
    /// Takes messages of one topic and queue: adjacent queue offsets, contiguous in the log, each a record of its own, all
    /// or nothing as far as the answer goes. They are encoded before this returns and written by the next
    /// [`Engine::write_step`].
    pub fn append(
        &self,
        messages: &[MessageRef<'_>],
        promise: Promise,
        completion: C,
    ) -> Result<(), Refused<C>> {
        if self.disk.read().refused || self.no_room.is_any() {
            self.counters
                .refused_disk_full
                .fetch_add(1, Ordering::Relaxed);
            return Err(Refused::DiskFull(completion));
        }
        let bytes = match self.check(messages) {
            Ok(bytes) => bytes,
            Err(status) => return Err(Refused::Status(completion, status)),
        };
        let mut appender = self.appender.lock();
        while self.is_full(&appender, bytes) {
            drop(appender);
            self.write_now();
            appender = self.appender.lock();
        }
        let now = self.clock.now();
        // Asked under the lock: who takes it after the policy began to refuse knows that nothing more is appended.
        let may = self.policy.may_append();
        if let Err(status) = may.and_then(|()| appender.may_place()) {
            return Err(Refused::Status(completion, status));
        }
        let terms = self.policy.terms();
        // By a clock that nobody sets: a jump must not answer everybody "unknown".
        let elapsed = appender.elapsed_at(now, || self.clock.elapsed());
        let deadline = elapsed.saturating_add(self.config.promise_timeout);
        // Held while the messages get their place: whoever closes the store or sees a write fail takes everyone out under
        // this lock, and nobody's records may get into a batch after that.
        let mut waiters = self.waiters.lock();
        if let Some(closed) = waiters.closed() {
            return Err(refused(completion, closed));
        }
        if waiters.len() >= self.config.append_queue_max {
            self.counters.refused_busy.fetch_add(1, Ordering::Relaxed);
            return Err(Refused::Busy(completion));
        }
        let lens = messages.iter().map(MessageRef::encoded_len);
        let files = appender.files_needed(lens, |start| self.file_len(start));
        if !files.is_empty() {
            // It may take long, and those who wait are not to wait for that.
            drop(waiters);
            if let Err(error) = self.make_files(&files) {
                drop(appender);
                return Err(self.refused_file(completion, &error));
            }
            waiters = self.waiters.lock();
            if let Some(closed) = waiters.closed() {
                return Err(refused(completion, closed));
            }
        }
        let appended = appender.place(messages, now, |start| self.file_len(start));
        let appends = appender.placed().appends;
        self.placed.store(appends, Ordering::Release);
        let waiter = Waiter {
            end: appender.end(),
            deadline,
            completion,
            appended,
        };
        waiters.push(promise, terms, waiter);
        Ok(())
    }

    /// Whether messages can be stored at all. Returns the bytes of their records.
    fn check(&self, messages: &[MessageRef<'_>]) -> Result<usize, PutStatus> {
        let illegal = |reason: &str| Err(PutStatus::MessageIllegal(reason.into()));
        let Some(first) = messages.first() else {
            return illegal("no message");
        };
        let mut bytes = 0;
        for (index, message) in messages.iter().enumerate() {
            if index > 0
                && (message.topic != first.topic
                    || message.queue_id != first.queue_id
                    || is_queued(message.sys_flag) != is_queued(first.sys_flag))
            {
                return illegal("messages of a batch go to one queue");
            }
            match message.check() {
                Ok(()) => {}
                Err(EncodeError::PropertiesTooLong(_)) => return Err(PutStatus::PropertiesTooLong),
                Err(EncodeError::BodyTooLong(_)) => return illegal("the body is too long"),
            }
            let len = message.encoded_len();
            if (len + BLANK_HEAD_BYTES) as u64 > self.config.segment_bytes {
                return illegal("the message is larger than a log file");
            }
            // Recovery takes zero bytes there for a sector that a crash lost.
            if message.properties.contains(&0) || message.more_properties.contains(&0) {
                return illegal("the properties hold a zero byte");
            }
            bytes += len;
        }
        Ok(bytes)
    }

    /// Whether so many more bytes may not wait in memory: what waits has to be written first.
    fn is_full(&self, appender: &Appender, bytes: usize) -> bool {
        let waiting = appender.waiting_bytes();
        waiting > 0 && waiting + bytes > self.config.append_bytes_max
    }

    fn file_len(&self, start: u64) -> u64 {
        self.log
            .file_at(start)
            .map_or(self.config.segment_bytes, |file| file.segment.len())
    }

    fn make_files(&self, starts: &[u64]) -> io::Result<()> {
        starts.iter().try_for_each(|&start| {
            let file = self.log.ensure(start, &|| self.may_make_file())?;
            // One that an earlier process made ahead: what it needs is taken now, where a lack of it can be waited out.
            file.segment.ready_to_write()
        })
    }

    /// Another log file could not be made; called with no lock held.
    fn refused_file(&self, completion: C, error: &io::Error) -> Refused<C> {
        if is_no_room(error) {
            if self.no_room.set(Writer::Log) {
                tracing::warn!(%error, "no room for another log file; messages are refused until there is");
            }
            return Refused::DiskFull(completion);
        }
        self.fail(FOLDER, error);
        let reason = self.failed().unwrap_or_else(|| error.to_string().into());
        Refused::ReadOnly(completion, reason)
    }

    /// Writes what was appended and answers who waited only for that. Returns at once when another thread is at it: that
    /// one looks again before it leaves.
    pub fn write_step(&self) -> Step {
        let mut did = Step::Idle;
        self.writing.run(|batch| {
            if self.write_filled(batch) == Step::Worked {
                did = Step::Worked;
            }
        });
        if did == Step::Worked {
            self.settle();
        }
        did
    }

    /// As [`Engine::write_step`], and waits for another thread that is at it.
    fn write_now(&self) {
        let mut did = Step::Idle;
        self.writing
            .run_after(|batch| did = self.write_filled(batch));
        if did == Step::Worked {
            self.settle();
        }
    }

    fn write_filled(&self, batch: &mut Batch) -> Step {
        if !self.appender.lock().take(batch) {
            return Step::Idle;
        }
        self.write(batch);
        batch.clear();
        Step::Worked
    }

    fn write(&self, batch: &mut Batch) {
        // Nothing is written after a failure; who waits was told when it happened.
        if self.has_failed() {
            return;
        }
        let bytes = batch.bytes.len() as u64;
        let is_awaited = self.flush_mode.now() == Flush::Async;
        let written = if is_awaited {
            let begun = self.clock.elapsed();
            self.heat.wait_begins(begun);
            let written = self.write_pieces(batch);
            let elapsed = self.clock.elapsed();
            self.heat.wait_ended(elapsed, elapsed.saturating_sub(begun));
            written
        } else {
            self.write_pieces(batch)
        };
        if let Err((file, error)) = written {
            // Whole records may have been written: the outcome is unknown, not "failed".
            self.fail(&file, &error);
            return;
        }
        let counters = &self.counters;
        counters
            .messages_appended
            .fetch_add(batch.messages, Ordering::Relaxed);
        counters.bytes_appended.fetch_add(bytes, Ordering::Relaxed);
        counters.batches_appended.fetch_add(1, Ordering::Relaxed);
        self.progress.lock().appended(batch.end);
    }

    fn write_pieces(&self, batch: &mut Batch) -> Result<(), (String, io::Error)> {
        self.admit(batch.end.end)
            .map_err(|error| (checkpoint::PATH.to_owned(), error))?;
        let (end, fill) = (batch.end.end, self.config.fill());
        let mut written = usize::MAX;
        if fill == Fill::Zeros {
            written = batch.bytes.len();
            // Whole pages, so that none of them is read first. Behind the end there are zeros, and only this writes there.
            batch.bytes.resize(written + page_rest(end), 0);
        }
        for piece in &batch.pieces {
            let file = self.log.file_at(piece.at).ok_or_else(|| {
                (
                    "commitlog".to_owned(),
                    io::Error::from(io::ErrorKind::NotFound),
                )
            })?;
            let at = piece.at - file.start;
            let mut range = piece.range.clone();
            if range.end == written {
                let room = usize::try_from(file.segment.len() - at).unwrap_or(usize::MAX);
                range.end = batch.bytes.len().min(range.start + room);
            }
            let bytes = batch.bytes.get(range).unwrap_or_default();
            file.segment
                .write_at(at, &[IoSlice::new(bytes)])
                .map_err(|error| (file.path(), error))?;
            file.segment.publish(at + piece.range.len() as u64);
        }
        Ok(())
    }
}

fn refused<C>(completion: C, closed: &Closed) -> Refused<C> {
    match closed {
        Closed::Stopping => Refused::Closing(completion),
        Closed::Failed(reason) => Refused::ReadOnly(completion, Arc::clone(reason)),
    }
}

/// Bytes from `end` to where a page ends.
pub(crate) fn page_rest(end: u64) -> usize {
    const PAGE_BYTES: u64 = 4096;
    usize::try_from(end.next_multiple_of(PAGE_BYTES) - end).unwrap_or_default()
}

#[cfg(test)]
#[cfg(not(feature = "loom"))]
mod tests {
    use std::sync::Arc;

    use rocket_mapped_file::memory::MemoryDirectory;
    use rocket_protocol::UnixMillis;

    use crate::test_support::message;
    use crate::{
        Clock, Completion, Engine, Flush, LocalPolicy, NoEvents, Promise, PutOutcome, Refused,
        StoreConfig,
    };

    struct Never;

    impl Clock for Never {
        fn now(&self) -> UnixMillis {
            UnixMillis(1)
        }
    }

    struct Nobody;

    impl Completion for Nobody {
        fn complete(self, _: PutOutcome) {}
    }

    /// Java's client takes SYSTEM_BUSY for the end of its send.
    #[test]
    fn what_is_too_much_to_wait_in_memory_is_written_and_not_refused() {
        let config = StoreConfig {
            append_bytes_max: 10_000,
            append_queue_max: 100,
            ..StoreConfig::default()
        };
        let policy = Arc::new(LocalPolicy { flush: Flush::Sync });
        let dir = Arc::new(MemoryDirectory::default());
        let opened = Engine::open(config, dir, Arc::new(Never), policy, Arc::new(NoEvents));
        let (engine, _) = opened.unwrap();
        let begun = engine.positions().appended.0;
        let one = message("t", 0, 4000);
        let append = || engine.append(&[one.as_ref()], Promise::Kept, Nobody);
        for _ in 0..100 {
            assert!(append().is_ok());
            assert!(engine.appender.lock().waiting_bytes() <= 10_000);
        }
        let written = engine.positions().appended.0 - begun;
        assert!(written > 98 * 4000, "{written}");
        assert!(matches!(append(), Err(Refused::Busy(_))));
        assert_eq!(engine.stats().refused_busy, 1);
    }
}

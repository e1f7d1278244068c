//! The engine's steps beside those of a message's path: securing positions, preparing files, retention.

use std::io;
use std::sync::atomic::Ordering;

use rocket_mapped_file::Segment;
use rocket_protocol::{PhysicalOffset, TopicName, UnixMillis};

use crate::api::{Completion, DiskUsage, Removed};
use crate::checkpoint::{Bounds, PATH};
use crate::engine::Engine;
use crate::index::Index;
use crate::queues::TableDue;
use crate::recovery::store_time;
use crate::retention::{Candidate, decide};

impl<C: Completion> Engine<C> {
    /// What writing queues or index said. A full disk is waited out, since they follow from the log; all else is final.
    pub(crate) fn derived(&self, result: io::Result<()>) -> bool {
        match result {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                tracing::warn!(error = %error, "no room for queues or index");
                self.no_room.store(true, Ordering::Release);
                false
            }
            Err(error) => {
                self.fail("rocket/queues", &error);
                false
            }
        }
    }

    /// Secures queues and index up to the dispatched position and notes it. Nothing is noted that a flush has not covered.
    pub fn checkpoint_step(&self) {
        self.secure_step(false);
    }

    /// As [`Engine::checkpoint_step`]; `at_last` tells Apache's file too.
    pub(crate) fn secure_step(&self, at_last: bool) {
        self.retire_files();
        let ((position, time), saved, table) = {
            let dispatcher = self.dispatcher.lock();
            let index = || {
                self.index
                    .as_ref()
                    .map_or(Ok(u64::MAX), |index| index.save(dispatcher.position))
            };
            let position = dispatcher.position;
            let saved = self.queues.save(position).and_then(|()| index());
            let table = self.begin_table(position);
            ((position, dispatcher.time), saved, table)
        };
        let mut indexed = 0;
        let saved = saved.map(|secured| indexed = secured);
        if self.has_failed() || !self.derived(saved) {
            return;
        }
        let mut files = self.queues.take_unflushed();
        files.extend(
            self.index
                .as_ref()
                .map(Index::take_unflushed)
                .unwrap_or_default(),
        );
        for (path, segment) in files {
            if let Err(error) = flush(&*segment) {
                self.fail(&path, &error);
                return;
            }
        }
        let durable = self.positions().durable.0;
        let dispatched = position.min(durable).min(indexed);
        self.note(|bounds| Bounds {
            dispatched: dispatched.max(bounds.dispatched),
            dispatched_time: time,
            ..bounds
        });
        let secured = {
            let mut checkpoint = self.checkpoint.lock();
            let secured = checkpoint.secure(time, at_last);
            secured.and_then(|()| checkpoint.is_named())
        };
        match secured {
            Ok(true) => {}
            // Everything written and flushed since goes to a file that will be gone with this process.
            Ok(false) => self.fail(PATH, &io::Error::other("the folder was taken away")),
            Err(error) => self.fail(PATH, &error),
        }
        self.secure_table(table);
    }

    /// Closes what was open for writing of files that are full and flushed.
    fn retire_files(&self) {
        let durable = self.positions().durable.0;
        for file in self.log.files().iter().rev() {
            if file.end() <= durable && file.retire() {
                break;
            }
        }
    }

    fn begin_table(&self, position: u64) -> Option<TableDue> {
        match self.queues.begin_table(position) {
            Ok(table) => table,
            Err(error) => {
                self.derived(Err(error));
                None
            }
        }
    }

    /// Writes the table of the queues that is due, and makes the one count that is written once the log is durable so far.
    fn secure_table(&self, due: Option<TableDue>) {
        if self.queues.is_damaged() {
            self.fail(
                "rocket/queues",
                &io::Error::new(
                    io::ErrorKind::InvalidData,
                    "damaged; the next start builds it again from the log",
                ),
            );
        }
        if self.has_failed() {
            return;
        }
        match due.map_or(Ok(()), |due| self.queues.write_table(due)) {
            Ok(()) => {}
            Err((_, error)) if error.kind() == io::ErrorKind::StorageFull => {
                self.derived(Err(error));
            }
            Err((path, error)) => return self.fail(&path, &error),
        }
        let durable = self.positions().durable.0;
        if let Err(error) = self.queues.commit_table(durable) {
            self.fail("rocket/queues", &error);
        }
    }

    /// Makes the next log file ahead when the current one is half full, or when there was no room for it before.
    pub fn prepare_step(&self) {
        let (end, file_end) = {
            let appender = self.appender.lock();
            (appender.end(), appender.file_end())
        };
        self.raise_ceiling_ahead(end);
        let had_no_room = self.no_room.load(Ordering::Acquire);
        if !had_no_room && file_end.saturating_sub(end) > self.config.segment_bytes / 2 {
            return;
        }
        match self.log.ensure(file_end) {
            Ok(_) => self.no_room.store(false, Ordering::Release),
            Err(error) if had_no_room => {
                tracing::debug!(error = %error, "still no room for another log file");
            }
            Err(error) => {
                tracing::warn!(error = %error, "the next log file could not be made ahead");
            }
        }
    }

    /// Looks how full the disk is; decides whether appends are refused for it.
    pub fn look_at_disk(&self) {
        match self.dir.space() {
            Ok(space) => {
                let used = space.capacity.saturating_sub(space.available);
                #[expect(clippy::cast_precision_loss, reason = "a ratio needs no 53 bits")]
                let ratio = if space.capacity == 0 {
                    0.0
                } else {
                    used as f64 / space.capacity as f64
                };
                let refused = ratio * 100.0 > f64::from(self.config.watermarks.refuse);
                *self.disk.write() = DiskUsage {
                    used,
                    capacity: space.capacity,
                    ratio,
                    refused,
                };
            }
            Err(error) => tracing::warn!(error = %error, "the room on the disk is not known"),
        }
    }

    /// Removes what retention asks for.
    pub fn retention_step(&self) {
        self.checkpoint_step();
        for _ in 0..self.config.retention.files_per_round {
            self.look_at_disk();
            let candidates = self.candidates();
            let used = self.disk.read().ratio;
            let decided = decide(
                self.now(),
                used,
                &candidates,
                &self.config.retention,
                self.config.watermarks,
            );
            let Some((count, reason)) = decided else {
                break;
            };
            let from = self.log.min();
            match self.log.remove_first(count) {
                Ok(removed) => {
                    let bytes = removed.iter().map(|file| file.segment.len()).sum();
                    self.tell_removed(&Removed {
                        from: PhysicalOffset(from),
                        to: PhysicalOffset(self.log.min()),
                        bytes,
                        reason,
                        messages: self.remove_derived(),
                    });
                }
                Err(error) => {
                    tracing::warn!(error = %error, "log files could not be removed");
                    break;
                }
            }
        }
        self.look_at_disk();
    }

    /// The oldest files that nobody needs any more but consumers: flushed, committed, and secured in queues and index,
    /// since what is not would be missing from a queue after a crash and leave a gap.
    fn candidates(&self) -> Vec<Candidate> {
        let positions = self.positions();
        let end = positions
            .durable
            .min(positions.committed)
            .0
            .min(self.bounds().dispatched);
        let files = self.log.files();
        let pairs = files.iter().zip(files.iter().skip(1));
        pairs
            .take_while(|(file, _)| file.end() <= end)
            .map_while(|(_, after)| {
                Some(Candidate {
                    newest: UnixMillis(store_time(&self.log.read(after.start, 128)?)?),
                })
            })
            .collect()
    }

    /// Removes what queues and index say of removed records. Returns how many messages each queue lost.
    fn remove_derived(&self) -> Vec<(TopicName, rocket_protocol::QueueId, u64)> {
        let min = self.log.min();
        let messages = self.queues.remove_before(min).unwrap_or_else(|error| {
            tracing::warn!(error = %error, "queue files could not be removed");
            Vec::new()
        });
        let index = self
            .index
            .as_ref()
            .map_or(Ok(()), |index| index.remove_before(min));
        if let Err(error) = index.and_then(|()| self.deleted.forget_before(min)) {
            tracing::warn!(error = %error, "index files could not be removed");
        }
        messages
    }

    fn tell_removed(&self, removed: &Removed) {
        let messages: u64 = removed.messages.iter().map(|(_, _, count)| count).sum();
        self.counters
            .messages_removed
            .fetch_add(messages, Ordering::Relaxed);
        self.counters
            .bytes_removed
            .fetch_add(removed.bytes, Ordering::Relaxed);
        tracing::info!(from = %removed.from, to = %removed.to, messages, reason = ?removed.reason, "retention removed log files");
        self.events.removed(removed);
    }
}

fn flush(segment: &dyn Segment) -> io::Result<()> {
    segment.flush(0)
}

//! The engine's steps beside appending and flushing: dispatching, securing positions, preparing files, retention.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use rocket_mapped_file::Segment;
use rocket_protocol::{PhysicalOffset, RecordError, RecordView, TopicName, UnixMillis};

use crate::api::{Arrival, Completion, DiskUsage, Removed};
use crate::checkpoint::Bounds;
use crate::commit_log::LogFile;
use crate::dispatch::{keys_of, unit_of};
use crate::engine::{Engine, Step};
use crate::queues::TableDue;
use crate::recovery::store_time;
use crate::retention::{Candidate, decide};

/// Bytes of records dispatched in one step, unless one record is larger.
const STEP_BYTES: usize = 1 << 20;
/// Records dispatched in one step.
const STEP_RECORDS: usize = 4096;

impl<C: Completion> Engine<C> {
    /// Puts visible records into queues and index and tells of their arrival.
    pub fn dispatch_step(&self) -> Step {
        let mut dispatcher = self.dispatcher.lock();
        let visible = self.visible();
        if dispatcher.position >= visible || self.has_failed() {
            return Step::Idle;
        }
        let Some(file) = self.log.file_at(dispatcher.position) else {
            return Step::Idle;
        };
        let end = visible.min(file.published_end());
        let at = dispatcher.position - file.start;
        let len = usize::try_from(end.saturating_sub(dispatcher.position)).unwrap_or(usize::MAX);
        let bytes = match file.segment.lease(at, len) {
            Ok(bytes) => bytes.unwrap_or_default(),
            Err(error) => {
                self.fail(&file.path(), &error);
                return Step::Idle;
            }
        };
        let mut arrivals = Vec::new();
        let done = self.dispatch_records(&file, &bytes, &mut arrivals);
        let before = dispatcher.position;
        dispatcher.position = done.map_or(file.end(), |done| before + done as u64);
        if self.queues.is_save_due() {
            self.derived(self.queues.save(dispatcher.position));
        }
        if let Some(last) = arrivals.last() {
            dispatcher.time = last.store_timestamp.0;
        }
        self.dispatched
            .store(dispatcher.position, Ordering::Release);
        let moved = dispatcher.position > before;
        drop(dispatcher);
        self.counters
            .messages_dispatched
            .fetch_add(arrivals.len() as u64, Ordering::Relaxed);
        if !arrivals.is_empty() {
            self.events.arrived(&arrivals);
        }
        if moved { Step::Worked } else { Step::Idle }
    }

    /// Dispatches whole records at the start of `bytes`. How many bytes that was; `None` when the file ends there.
    fn dispatch_records(
        &self,
        file: &Arc<LogFile>,
        bytes: &Bytes,
        arrivals: &mut Vec<Arrival>,
    ) -> Option<usize> {
        let mut done = 0;
        while done < STEP_BYTES && arrivals.len() < STEP_RECORDS {
            match RecordView::parse_trusting(bytes.get(done..).unwrap_or_default()) {
                Ok((view, len)) => {
                    let result = self.dispatch_record(&view, arrivals);
                    self.derived(result);
                    done += len;
                }
                Err(RecordError::Blank { .. }) => return None,
                // The visible end lies within a record: the rest comes later.
                Err(RecordError::Torn { .. }) => break,
                Err(error) => {
                    self.fail(
                        &file.path(),
                        &io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
                    );
                    break;
                }
            }
        }
        Some(done)
    }

    fn dispatch_record(
        &self,
        view: &RecordView<'_>,
        arrivals: &mut Vec<Arrival>,
    ) -> io::Result<()> {
        let offset = view.physical_offset().0;
        if self.deleted.covers(view.topic(), offset) {
            return Ok(());
        }
        let Ok(topic) = TopicName::parse(view.topic()) else {
            tracing::warn!(
                topic = view.topic(),
                offset,
                "a record's topic is none; it gets no queue"
            );
            return Ok(());
        };
        let mut result = Ok(());
        if let Some(unit) = unit_of(view, &self.config.delay_levels_ms) {
            let queue = self.queues.get_or_make(&topic, view.queue_id());
            result = queue.put(view.queue_offset().0, unit);
            arrivals.push(Arrival {
                topic,
                queue_id: view.queue_id(),
                queue_offset: view.queue_offset(),
                tags_code: unit.tags_code,
                store_timestamp: view.store_timestamp(),
            });
        }
        if let Some(index) = &self.index {
            let mut index = index.lock();
            keys_of(view, |hash| index.add(hash, offset, view.store_timestamp()));
            result = result.and(index.save_if_many());
        }
        result
    }

    /// What writing queues or index said. A full disk is waited out, since they follow from the log; all else is final.
    fn derived(&self, result: io::Result<()>) -> bool {
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
        let (dispatcher, saved, table) = {
            let dispatcher = self.dispatcher.lock();
            let index = || {
                self.index
                    .as_ref()
                    .map_or(Ok(()), |index| index.lock().save())
            };
            let saved = self.queues.save(dispatcher.position);
            let saved = saved.and_then(|()| index());
            (*dispatcher, saved, self.begin_table(dispatcher.position))
        };
        if self.has_failed() || !self.derived(saved) {
            return;
        }
        let mut files = self.queues.take_unflushed();
        files.extend(
            self.index
                .as_ref()
                .map(|index| index.lock().take_unflushed())
                .unwrap_or_default(),
        );
        for (path, segment) in files {
            if let Err(error) = flush(&*segment) {
                self.fail(&path, &error);
                return;
            }
        }
        let durable = self.positions().durable.0;
        let dispatched = dispatcher.position.min(durable);
        self.note(|bounds| Bounds {
            dispatched: dispatched.max(bounds.dispatched),
            dispatched_time: dispatcher.time,
            ..bounds
        });
        if let Err(error) = self.secure_checkpoint(dispatcher.time) {
            self.fail("checkpoint", &error);
        }
        self.secure_table(table);
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
            .map_or(Ok(()), |index| index.lock().remove_before(min));
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

//! Retention as the engine does it: looks at the disk and the files, has `retention` decide, removes, and says what went
//! and who had not consumed it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;
use rocket_protocol::{PhysicalOffset, QueueId, TopicName, UnixMillis};

use crate::api::{Completion, RemovalReason, Removed};
use crate::appender::Role;
use crate::by_time::store_time;
use crate::commit_log::LogFile;
use crate::engine::{Engine, Step};
use crate::readers::{Needed, Reader};
use crate::retention::{Candidate, Due, Scene, due, granted, is_forced};
use crate::room::{Freeing, ratio_of};

/// What one look decided.
enum Decision {
    Nothing,
    /// Who reads is not known yet.
    Later,
    /// The first so many files go.
    Remove(usize, RemovalReason),
}

impl<C: Completion> Engine<C> {
    /// Removes what retention asks for. `Worked`: to be called again soon, as not all consumers were looked at or damage is being
    /// repaired.
    pub fn retention_step(&self) -> Step {
        let _alone = self.alone.read_recursive();
        if self.appender.lock().role() == Role::Waits {
            // The next start cuts the log, and finds where.
            return Step::Idle;
        }
        self.checkpoint_step();
        if self.has_failed() {
            // What is secured is not known any more.
            return Step::Idle;
        }
        let (now, elapsed) = (self.now(), self.clock.elapsed());
        let reserved = self.config.retention.reserved;
        let has_ages = self.ages.lock().now(now, elapsed, reserved).is_some();
        let mut left = self.config.retention.files_per_round;
        let mut step = Step::Idle;
        let mut freeing = Freeing::default();
        while left > 0 {
            let room = self.room_on_disk().map(|space| freeing.room(space));
            let used = room
                .as_ref()
                .map_or_else(|| self.disk.read().ratio, ratio_of);
            let candidates = self.candidates();
            let files = self.log.files();
            let scene = Scene {
                now,
                has_ages,
                used,
                is_short: room.is_some_and(|room| self.is_short(&room)),
                log_bytes: files.iter().map(|file| file.segment.len()).sum(),
                files: candidates.get(..left).unwrap_or(&candidates),
                is_held: self.counters.bytes_held.load(Ordering::Relaxed) > 0,
            };
            match self.decide(&scene) {
                Decision::Nothing => break,
                Decision::Later => {
                    step = Step::Worked;
                    break;
                }
                Decision::Remove(count, reason) => {
                    // Not waited for: that is for a write and a flush, and nobody else keeps house.
                    let Some(repairing) = self.repairing.try_lock() else {
                        step = Step::Worked;
                        break;
                    };
                    left -= count.min(left);
                    match self.remove(count, reason, repairing) {
                        0 => break,
                        bytes => freeing.removed(bytes),
                    }
                }
            }
        }
        self.look_at_disk();
        step
    }

    fn decide(&self, scene: &Scene<'_>) -> Decision {
        let (retention, marks) = (&self.config.retention, self.config.watermarks);
        let due = due(scene, retention, marks);
        let mut later = false;
        if let Some(due) = due {
            match self.granted(scene, due) {
                Some(count) if count > 0 => return Decision::Remove(count, due.reason),
                Some(_) => {}
                None => later = true,
            }
        } else {
            self.end_look();
            self.note_held(0, None);
        }
        if is_forced(scene, marks) && !scene.files.is_empty() {
            // One at a time: the disk is looked at again before the next one goes.
            return Decision::Remove(1, RemovalReason::Forced);
        }
        if later {
            Decision::Later
        } else {
            Decision::Nothing
        }
    }

    /// How many of the files that are due consumers let go; `None` if that is not known yet.
    fn granted(&self, scene: &Scene<'_>, due: Due) -> Option<usize> {
        let retention = &self.config.retention;
        let files = scene.files.get(..due.count).unwrap_or(scene.files);
        let ends = || files.first().zip(files.last());
        let (needed, holder) = match ends() {
            Some((first, last)) if !retention.unconsumed_extra.is_zero() => {
                match self.needed(first.end, last.end) {
                    Needed::From(needed, holder) => (needed, holder),
                    Needed::NotKnownYet => return None,
                }
            }
            _ => (u64::MAX, None),
        };
        let count = granted(scene, due.count, needed, retention);
        let held = files.iter().skip(count).map(|file| file.bytes).sum();
        self.note_held(held, holder.as_deref());
        Some(count)
    }

    /// Counts what waits for consumers, and says so when that begins and ends.
    fn note_held(&self, bytes: u64, holder: Option<&Reader>) {
        let before = self.counters.bytes_held.swap(bytes, Ordering::Relaxed);
        match (before, bytes, holder) {
            (
                0,
                1..,
                Some(Reader {
                    group,
                    topic,
                    queue_id,
                    next,
                    ..
                }),
            ) => {
                tracing::warn!(%group, %topic, queue = %queue_id, offset = %next, bytes,
                    "log files are due, and kept because a consumer group has not consumed them");
            }
            (0, 1.., None) => tracing::info!(
                bytes,
                "log files are due, and kept until it is known who reads"
            ),
            (1.., 0, _) => tracing::info!("no log file that is due waits for consumers any more"),
            _ => {}
        }
    }

    /// Removes the oldest files; nothing is `repairing` meanwhile. How many bytes they had; 0 if that failed.
    fn remove(&self, count: usize, reason: RemovalReason, repairing: MutexGuard<'_, ()>) -> u64 {
        let from = self.log.min();
        let readers = self.readers.get();
        let readers = readers.map_or_else(Vec::new, |readers| readers.readers(self.now()));
        let removed = match self.log.remove_first(count) {
            Ok(removed) => removed,
            Err(error) => {
                tracing::warn!(error = %error, "log files could not be removed");
                return 0;
            }
        };
        drop(repairing);
        let bytes = removed.iter().map(|file| file.segment.len()).sum();
        let messages = self.remove_derived();
        self.tell_removed(&Removed {
            from: PhysicalOffset(from),
            to: PhysicalOffset(self.log.min()),
            bytes,
            reason,
            unconsumed: self.unconsumed(readers, &messages),
            messages,
        });
        bytes
    }

    /// The oldest files that nobody needs any more but consumers: flushed, committed, and secured in queues and index,
    /// since what is not would be missing from a queue after a crash and leave a gap.
    fn candidates(&self) -> Vec<Candidate> {
        let positions = self.positions();
        let end = positions
            .durable
            .min(positions.committed)
            .0
            .min(self.bounds().dispatched)
            .min(self.kept_from.load(Ordering::Acquire));
        let files = self.log.files();
        // Nothing in a file is newer than what comes first in any later one; the next one may not be readable.
        let begun = |file: &Arc<LogFile>| {
            let head = self.log.read(file.start, 128)?;
            store_time(&head).map(UnixMillis)
        };
        files
            .iter()
            .enumerate()
            .take_while(|(_, file)| file.end() <= end)
            .take(self.config.retention.files_per_round)
            .map_while(|(at, file)| {
                Some(Candidate {
                    newest: files.get(at + 1..)?.iter().find_map(begun)?,
                    end: file.end(),
                    bytes: file.segment.len(),
                })
            })
            .collect()
    }

    /// Removes what queues and index say of removed records. Returns how many messages each queue lost.
    fn remove_derived(&self) -> Vec<(TopicName, QueueId, u64)> {
        let min = self.log.min();
        let (messages, files) = self.queues.remove_before(min);
        if let Err(error) = files {
            tracing::warn!(error = %error, "queue files could not be removed");
        }
        let index = self
            .index
            .as_ref()
            .map_or(Ok(()), |index| index.remove_before(min));
        let tables_from = self.queues.tables_from();
        if let Err(error) = index.and_then(|()| self.deleted.forget_before(min, tables_from)) {
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
        tracing::info!(from = %removed.from, to = %removed.to, bytes = removed.bytes, messages, reason = ?removed.reason, "retention removed log files");
        self.events.removed(removed);
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use rocket_mapped_file::memory::MemoryDirectory;

    use super::*;
    use crate::test_support::message;
    use crate::{Clock, Flush, LocalPolicy, NoEvents, Promise, PutOutcome, Retention, StoreConfig};

    struct Noon;

    impl Clock for Noon {
        fn now(&self) -> UnixMillis {
            UnixMillis(1_800_000_000_000)
        }
    }

    #[test]
    fn entries_that_retention_took_under_a_reader_are_no_damage() {
        let config = StoreConfig {
            segment_bytes: 4096,
            retention: Retention {
                bytes_max: 10_000,
                ..StoreConfig::default().retention
            },
            ..StoreConfig::default()
        };
        let (engine, _) = Engine::<fn(PutOutcome)>::open(
            config,
            Arc::new(MemoryDirectory::default()),
            Arc::new(Noon),
            Arc::new(LocalPolicy { flush: Flush::Sync }),
            Arc::new(NoEvents),
        )
        .unwrap();
        let one = message("t", 0, 1000);
        for _ in 0..30 {
            let taken = engine.append(&[one.as_ref()], Promise::Kept, |_| {});
            assert!(taken.is_ok());
            engine.write_step();
            engine.flush_step(0);
            engine.dispatch_step();
        }
        engine.checkpoint_step();
        engine.retention_step();
        let topic = TopicName::parse("t").unwrap();
        let queue = engine.queues.get(&topic, QueueId(0)).unwrap();
        let (min, _) = queue.range();
        assert!(min > 0);
        let error = io::Error::from(io::ErrorKind::InvalidData);
        engine.judge(&queue, min - 1, &error);
        assert!(!engine.queues.is_damaged());
        engine.judge(&queue, min, &error);
        assert!(engine.queues.is_damaged());
    }
}

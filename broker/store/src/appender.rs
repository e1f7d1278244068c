//! Gives every message its place and writes its record into the batch of the next write. Pure: the files that it may
//! fill are told to it.
//!
//! Queue offsets follow all records of the log, also those that nobody may see yet (replication protocol D1). Prepared
//! and rolled-back messages get queue offset 0 and no place in a queue, as in RocketMQ. Store times never fall within
//! the log, so that a search by time works after a clock was set back.

use std::ops::Range;
use std::time::Duration;

use rocket_protocol::message::record::BLANK_HEAD_BYTES;
use rocket_protocol::message::{MessageRef, TransactionState, write_blank};
use rocket_protocol::{PhysicalOffset, QueueOffset, SysFlag, UnixMillis};

use crate::api::{Appended, PutStatus};
use crate::progress::Placed;
use crate::queues::Queues;

/// Memory that an empty batch keeps.
const BATCH_BYTES_KEPT: usize = 4 << 20;

/// Whether a record has a place in a queue.
pub(crate) fn is_queued(sys_flag: SysFlag) -> bool {
    matches!(
        sys_flag.transaction(),
        TransactionState::None | TransactionState::Commit
    )
}

/// A part of a batch and where it goes: within one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Offset in the log.
    pub(crate) at: u64,
    /// Part of [`Batch::bytes`].
    pub(crate) range: Range<usize>,
}

/// Whole records that one write takes to the log. Two of them take turns, so that their memory is kept: one is filled
/// while the other is written.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The records, and fillers between files.
    pub(crate) bytes: Vec<u8>,
    /// What of them goes where, in log order.
    pub(crate) pieces: Vec<Piece>,
    /// How many records.
    pub(crate) messages: u64,
    /// How far the log goes when the batch is written.
    pub(crate) end: Placed,
}

impl Batch {
    /// Was written.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.pieces.clear();
        self.messages = 0;
        // One burst of huge messages must not hold its memory for ever.
        self.bytes.shrink_to(BATCH_BYTES_KEPT);
    }
}

/// Who appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Senders: each message gets its place here.
    Writes,
    /// A master: its records are copied, and next queue offsets are not kept.
    Follows,
    /// Nobody: what a cut left to be done is done by the next start.
    Waits,
}

/// See the module.
pub(crate) struct Appender {
    role: Role,
    /// End of all that was placed.
    end: u64,
    /// How many appends.
    appends: u64,
    /// End of the file that is being filled.
    file_end: u64,
    /// Begin of that file.
    file_start: u64,
    /// Keep the next queue offsets, those of placed messages included.
    queues: Queues,
    timestamp: UnixMillis,
    /// A time of the clock on the wall, and of the one that nobody sets.
    clocks: Option<(UnixMillis, Duration)>,
    filling: Batch,
}

impl Appender {
    /// Goes on at `end` in a file that ends at `file_end`.
    pub(crate) fn new(end: u64, file_end: u64, queues: Queues, timestamp: UnixMillis) -> Self {
        Self {
            role: Role::Writes,
            end,
            appends: 0,
            file_end,
            file_start: end,
            queues,
            timestamp,
            clocks: None,
            filling: Batch::default(),
        }
    }

    /// End of all that was placed.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// All that was placed.
    pub(crate) fn placed(&self) -> Placed {
        Placed {
            end: self.end,
            appends: self.appends,
        }
    }

    /// End of the file that is being filled.
    pub(crate) fn file_end(&self) -> u64 {
        self.file_end
    }

    /// Who appends.
    pub(crate) fn role(&self) -> Role {
        self.role
    }

    /// What the clock that nobody sets says when the one on the wall says `now`. It is read once for each millisecond of that
    /// one, and not for each append.
    pub(crate) fn elapsed_at(
        &mut self,
        now: UnixMillis,
        read: impl FnOnce() -> Duration,
    ) -> Duration {
        match self.clocks {
            Some((at, elapsed)) if at == now => elapsed,
            _ => self.clocks.insert((now, read())).1,
        }
    }

    /// Whether messages may get a place.
    pub(crate) fn may_place(&self) -> Result<(), PutStatus> {
        match self.role {
            Role::Writes => Ok(()),
            Role::Follows | Role::Waits => Err(PutStatus::ServiceNotAvailable(
                "this copy of the log follows another one".into(),
            )),
        }
    }

    /// Goes on at `end`, in a file that ends at `file_end`, with what a master has. Everything placed was taken.
    pub(crate) fn follow(&mut self, end: u64, file_end: u64) {
        debug_assert!(self.filling.bytes.is_empty(), "placed and not taken");
        self.role = Role::Follows;
        (self.end, self.file_end, self.file_start) = (end, file_end, end);
    }

    /// Nothing is appended any more.
    pub(crate) fn wait(&mut self) {
        self.role = Role::Waits;
    }

    /// Messages get their places from here on. Next queue offsets follow all records of the log, the last of which was
    /// stored at `time` at the latest.
    pub(crate) fn lead(&mut self, time: UnixMillis) {
        self.role = Role::Writes;
        self.timestamp = self.timestamp.max(time);
    }

    /// Bytes that were placed and not taken yet.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.filling.bytes.len()
    }

    /// Exchanges what was placed for the empty `spare`. Whether there was something.
    pub(crate) fn take(&mut self, spare: &mut Batch) -> bool {
        if self.filling.bytes.is_empty() {
            return false;
        }
        self.filling.end = self.placed();
        std::mem::swap(&mut self.filling, spare);
        true
    }

    /// Ends of the files that are needed for records of these lengths, beyond the one being filled; `file_len` tells the
    /// length that the file beginning at an offset has or will have.
    pub(crate) fn files_needed(
        &self,
        lens: impl Iterator<Item = usize>,
        file_len: impl Fn(u64) -> u64,
    ) -> Vec<u64> {
        let (mut end, mut file_end) = (self.end, self.file_end);
        let mut starts = Vec::new();
        for len in lens {
            while end + (len + BLANK_HEAD_BYTES) as u64 > file_end {
                starts.push(file_end);
                end = file_end;
                file_end += file_len(end);
            }
            end += len as u64;
        }
        starts
    }

    /// Places messages of one topic and queue and writes their records into the batch. Every file that
    /// [`Appender::files_needed`] named exists; `file_len` is the same.
    pub(crate) fn place(
        &mut self,
        messages: &[MessageRef<'_>],
        now: UnixMillis,
        file_len: impl Fn(u64) -> u64,
    ) -> Appended {
        self.timestamp = self.timestamp.max(now);
        let queued = messages.first().filter(|first| is_queued(first.sys_flag));
        let first_queue_offset = queued.map_or(0, |first| {
            let count = messages.len() as u64;
            self.queues.give_offsets(first.topic, first.queue_id, count)
        });
        let mut appended = Appended {
            physical_offset: PhysicalOffset(self.end),
            queue_offset: QueueOffset(first_queue_offset),
            len: 0,
            store_timestamp: self.timestamp,
            count: u32::try_from(messages.len()).unwrap_or(u32::MAX),
            physical_offsets: Vec::new(),
        };
        if messages.len() > 1 {
            appended.physical_offsets.reserve_exact(messages.len());
        }
        let mut queue_offset = first_queue_offset;
        for (index, message) in messages.iter().enumerate() {
            self.make_room(message.encoded_len(), &file_len);
            let physical_offset = PhysicalOffset(self.end);
            let from = self.filling.bytes.len();
            message.encode(
                QueueOffset(queue_offset),
                physical_offset,
                self.timestamp,
                &mut self.filling.bytes,
            );
            self.extend_piece(from);
            if queued.is_some() {
                queue_offset += 1;
            }
            if index == 0 {
                appended.physical_offset = physical_offset;
            }
            if messages.len() > 1 {
                appended.physical_offsets.push(physical_offset);
            }
            appended.len += self.end - physical_offset.0;
        }
        self.filling.messages += messages.len() as u64;
        self.appends += 1;
        appended
    }

    /// Fills up the file if a record of `len` bytes and the head of a filler do not fit any more.
    fn make_room(&mut self, len: usize, file_len: &impl Fn(u64) -> u64) {
        while self.end + (len + BLANK_HEAD_BYTES) as u64 > self.file_end {
            let remaining = usize::try_from(self.file_end - self.end).unwrap_or(usize::MAX);
            if remaining > 0 {
                let from = self.filling.bytes.len();
                write_blank(remaining, &mut self.filling.bytes);
                self.extend_piece(from);
            }
            self.end = self.file_end;
            self.file_start = self.end;
            self.file_end += file_len(self.end);
        }
    }

    /// The buffer grew from `from`: these bytes go to `end`.
    fn extend_piece(&mut self, from: usize) {
        let to = self.filling.bytes.len();
        let at = self.end;
        self.end += (to - from) as u64;
        match self.filling.pieces.last_mut() {
            Some(last) if last.at >= self.file_start && last.at + last.range.len() as u64 == at => {
                last.range.end = to;
            }
            _ => self.filling.pieces.push(Piece {
                at,
                range: from..to,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::message;

    fn appender() -> Appender {
        Appender::new(0, 4096, Queues::in_memory(), UnixMillis(0))
    }

    #[test]
    fn a_record_that_does_not_fit_leaves_a_filler_and_goes_to_the_next_file() {
        let mut appender = appender();
        let big = message("t", 0, 2500);
        let file_len = |_| 4096;
        appender.place(&[big.as_ref()], UnixMillis(1), file_len);
        let first = appender.end();
        assert_eq!(
            appender.files_needed([big.encoded_len()].into_iter(), file_len),
            [4096]
        );
        let second = appender.place(&[big.as_ref()], UnixMillis(1), file_len);
        assert_eq!(second.physical_offset, PhysicalOffset(4096));
        let mut batch = Batch::default();
        assert!(appender.take(&mut batch) && !appender.take(&mut Batch::default()));
        let places: Vec<_> = batch
            .pieces
            .iter()
            .map(|piece| (piece.at, piece.range.len() as u64))
            .collect();
        assert_eq!(places, [(0, first + 8), (4096, first)]);
        assert_eq!(batch.bytes.len() as u64, 2 * first + 8);
        assert_eq!((batch.messages, batch.end.end), (2, 4096 + first));
        assert_eq!(batch.end.appends, 2);
    }

    #[test]
    fn prepared_messages_take_no_queue_offset() {
        let mut appender = appender();
        let plain = message("t", 0, 10);
        let mut prepared = plain.clone();
        prepared.sys_flag = SysFlag(SysFlag::TRANSACTION_PREPARED);
        let offsets: Vec<u64> = [&plain, &prepared, &plain]
            .into_iter()
            .map(|message| {
                appender
                    .place(&[message.as_ref()], UnixMillis(1), |_| 4096)
                    .queue_offset
                    .0
            })
            .collect();
        assert_eq!(offsets, [0, 0, 1]);
    }

    #[test]
    fn the_second_clock_is_read_once_a_millisecond_whichever_way_the_first_one_goes() {
        let mut appender = appender();
        let mut reads = 0;
        let mut elapsed = |now| {
            let read = || {
                reads += 1;
                Duration::from_millis(reads)
            };
            appender.elapsed_at(UnixMillis(now), read).as_millis()
        };
        let all = [7, 7, 8, 8, 3, 3, 7].map(&mut elapsed);
        assert_eq!(all, [1, 1, 2, 2, 3, 3, 4]);
    }

    #[test]
    fn store_times_do_not_fall_when_the_clock_does() {
        let mut appender = appender();
        let one = message("t", 0, 10);
        let mut time = |now| {
            appender
                .place(&[one.as_ref()], UnixMillis(now), |_| 4096)
                .store_timestamp
                .0
        };
        assert_eq!([time(5), time(3), time(7)], [5, 5, 7]);
    }
}

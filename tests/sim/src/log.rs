//! What the world wants of the log of a machine, and the twin in memory as one.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use rocket_ha::memory::{Image, MemoryLog, Told};
use rocket_ha::{Found, Log, Residence};
use rocket_replication::PhysicalOffset;
use rocket_store::{CommitPolicy, Flush, PutStatus};

use crate::fuse::FusedDirectory;

/// Begins every message, so that it is found in a log; the sender's number follows in 8 bytes.
const MARK: u8 = b'#';

/// The bytes of message `ticket`.
pub(crate) fn payload(ticket: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![MARK];
    bytes.extend_from_slice(&ticket.to_be_bytes());
    bytes.resize(9 + len, b'.');
    bytes
}

/// Which message it is.
pub(crate) fn ticket_of(payload: &[u8]) -> Option<u64> {
    let (mark, rest) = payload.split_first()?;
    let (ticket, _) = rest.split_first_chunk()?;
    (*mark == MARK).then(|| u64::from_be_bytes(*ticket))
}

/// What a log holds, as the world sees it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mirror {
    /// First byte.
    pub(crate) min: u64,
    /// The bytes from there on.
    pub(crate) bytes: Vec<u8>,
    /// End of what is flushed.
    pub(crate) durable: u64,
    /// Bits flipped in it, and that is known: what lies there and behind is not among `bytes`.
    pub(crate) is_damaged: bool,
}

impl Mirror {
    pub(crate) fn end(&self) -> u64 {
        self.min + self.bytes.len() as u64
    }

    /// The bytes from `from` to `to`, as far as they are there.
    pub(crate) fn slice(&self, from: u64, to: u64) -> &[u8] {
        let at = |offset: u64| (offset.saturating_sub(self.min) as usize).min(self.bytes.len());
        &self.bytes[at(from)..at(to).max(at(from))]
    }

    /// Only what is below `end` stays.
    pub(crate) fn keep_below(&mut self, end: u64) {
        self.bytes.truncate(end.saturating_sub(self.min) as usize);
        self.durable = self.durable.min(self.end());
    }

    /// How far it is the same as `other`, which begins at 0, and reaches it.
    pub(crate) fn same_until(&self, other: &[u8]) -> u64 {
        let theirs = other.get(self.min as usize..).unwrap_or_default();
        let common = self.bytes.iter().zip(theirs);
        self.min + common.take_while(|(a, b)| a == b).count() as u64
    }
}

/// A message that a consumer was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Where.
    pub(crate) offset: u64,
    /// Where the next one is.
    pub(crate) next: u64,
    /// Which.
    pub(crate) ticket: u64,
}

/// A log that the world can look into. Clones are the same one.
pub(crate) trait GroupLog: Log + Clone + Send + 'static {
    /// Queues that messages go to.
    const QUEUES: u64;
    /// Bytes in one `Data`, about; and those that may be on their way.
    const DATA_BYTES: u64;

    /// Opens what a process left. `residence` hears of every flush.
    ///
    /// # Errors
    /// Why a broker would not start.
    fn open(
        dir: &FusedDirectory,
        image: Image,
        policy: Arc<dyn CommitPolicy>,
        flush: Flush,
        residence: &Arc<Residence>,
    ) -> Result<(Self, Found), String>;
    /// What is left of it beside the folder.
    fn left(&self) -> Image;
    /// Appends a message. It is in the page cache on return.
    fn send(&self, queue: u64, payload: &[u8], ticket: u64) -> Result<(), PutStatus>;
    /// A flush of everything ends, well or not.
    fn flush(&self);
    /// What a store does beside: shows what is visible, secures positions, makes files ahead. `kind` chooses.
    fn keep_house(&self, kind: u64);
    /// The disk fails from now on.
    fn fail(&self, dir: &FusedDirectory, kind: u64);
    /// Whether it failed.
    fn has_failed(&self) -> bool;
    /// Bits flip below what is flushed, where `number` says, and the scrubber looks. Whether it found that; if not, they are as
    /// they were.
    fn rot(&self, dir: &FusedDirectory, number: u64) -> bool;
    /// What senders were told since the last call.
    fn take_told(&self) -> Vec<(u64, Told)>;
    /// Whether something waits for a flush.
    fn is_flush_wanted(&self) -> bool;
    /// Whether a send could be appended.
    fn takes_sends(&self) -> bool;
    /// End of what consumers may see.
    fn visible(&self) -> u64;
    /// Brings `mirror` up to date. What it holds of the log is right, as far as the log reaches.
    fn refresh(&self, mirror: &mut Mirror);
    /// What a consumer gets that asks for the messages of `queue` from `from` on.
    fn read(&self, queue: u64, from: u64) -> Vec<Seen>;
    /// What another replica lacks.
    ///
    /// # Errors
    /// It is not to be had here.
    fn read_range(&self, offset: PhysicalOffset, length: u32) -> io::Result<Bytes>;
    /// The first message of `queue` that is there or comes next, by what its consumers are told.
    fn first(&self, queue: u64) -> u64;
    /// Retention takes what lies below `below`, the end of a record, or less.
    fn retain(&self, below: u64);
    /// Ends of records, for retention to choose from; none if it takes nothing now.
    fn boundaries(&self) -> Vec<u64>;
    /// Applies the snapshots that are visible, as metadata of a broker does (docs/replication.md §10, T8).
    fn follow_snapshots(&self) -> Followed;
    /// Appends a snapshot.
    fn take_snapshot(&self);
    /// Whether the log has gone into another file since the last one.
    fn is_snapshot_due(&self) -> bool;
    /// What is wrong with the places in queues of a log from its very beginning on (I11).
    fn places(&self, log: &[u8]) -> Result<(), String>;
    /// What is wrong with what follows from the log (I13), when everything is visible.
    fn derived(&self) -> Result<(), String>;
    /// What lies in the quarantine: begin and end of each piece.
    fn quarantine(&self) -> Vec<(u64, u64)>;
}

/// How far snapshots were followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Followed {
    /// All that are visible are applied, or nothing is to be told.
    All,
    /// The same, and there is none.
    None,
    /// Not now.
    Later,
}

/// A handful of records.
const FILE_BYTES: u64 = 200;

impl GroupLog for MemoryLog {
    const QUEUES: u64 = 1;
    const DATA_BYTES: u64 = 60;

    fn open(
        _: &FusedDirectory,
        image: Image,
        policy: Arc<dyn CommitPolicy>,
        _: Flush,
        // Its flushes succeed, or are none.
        _: &Arc<Residence>,
    ) -> Result<(Self, Found), String> {
        let found = Found {
            damaged: !image.damaged.is_empty(),
            confirm: PhysicalOffset(image.confirm),
        };
        Ok((Self::open(image, policy, FILE_BYTES), found))
    }

    fn left(&self) -> Image {
        self.image()
    }

    fn send(&self, _: u64, payload: &[u8], ticket: u64) -> Result<(), PutStatus> {
        self.send(payload, ticket).map(drop)
    }

    fn flush(&self) {
        self.flush();
    }

    fn keep_house(&self, _: u64) {
        self.checkpoint();
    }

    fn fail(&self, _: &FusedDirectory, _: u64) {
        self.fail();
    }

    fn has_failed(&self) -> bool {
        self.fails()
    }

    fn rot(&self, _: &FusedDirectory, number: u64) -> bool {
        let place = self.look(|image| {
            let ends = image.boundaries();
            let starts = std::iter::once(image.min).chain(ends.iter().copied());
            let records: Vec<(u64, u64)> = starts
                .zip(ends.iter().copied())
                .filter(|(_, end)| *end <= image.durable)
                .collect();
            let at = number.checked_rem(records.len() as u64)?;
            records.get(at as usize).copied()
        });
        if let Some((from, to)) = place {
            self.rot(from, to);
        }
        place.is_some()
    }

    fn take_told(&self) -> Vec<(u64, Told)> {
        self.take_told()
    }

    fn is_flush_wanted(&self) -> bool {
        self.is_flush_wanted()
    }

    fn takes_sends(&self) -> bool {
        self.takes_sends()
    }

    fn visible(&self) -> u64 {
        self.visible()
    }

    fn refresh(&self, mirror: &mut Mirror) {
        self.look(|image| {
            if image.min != mirror.min {
                mirror.bytes.clear();
                mirror.min = image.min;
            }
            let whole = image.damaged.first().map_or(image.end(), |(from, _)| *from);
            let whole = &image.bytes[..whole.saturating_sub(image.min) as usize];
            mirror.bytes.truncate(whole.len());
            mirror.bytes.extend_from_slice(&whole[mirror.bytes.len()..]);
            mirror.durable = image.durable;
            mirror.is_damaged = !image.damaged.is_empty();
        });
    }

    fn read(&self, _: u64, from: u64) -> Vec<Seen> {
        let end = self.visible();
        self.look(|image| {
            let (mut at, mut seen) = (from.max(image.min), Vec::new());
            while at < end
                && seen.len() < 4
                && let Some((next, payload)) = image.record_at(at)
            {
                // A filler is no message, and what is damaged is passed over.
                if let Some(ticket) = ticket_of(payload)
                    && !image.is_damaged(at, next)
                {
                    let offset = at;
                    seen.push(Seen {
                        offset,
                        next,
                        ticket,
                    });
                }
                at = next;
            }
            seen
        })
    }

    fn read_range(&self, offset: PhysicalOffset, length: u32) -> io::Result<Bytes> {
        self.read_range(offset, length)
    }

    fn first(&self, _: u64) -> u64 {
        0
    }

    fn retain(&self, below: u64) {
        self.retain_from(below);
    }

    fn follow_snapshots(&self) -> Followed {
        Followed::All
    }

    fn take_snapshot(&self) {}

    fn is_snapshot_due(&self) -> bool {
        false
    }

    fn places(&self, _: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn boundaries(&self) -> Vec<u64> {
        self.image().boundaries()
    }

    fn derived(&self) -> Result<(), String> {
        Ok(())
    }

    fn quarantine(&self) -> Vec<(u64, u64)> {
        self.look(|image| {
            let pieces = image.quarantine.iter();
            pieces
                .map(|(from, bytes)| (*from, from + bytes.len() as u64))
                .collect()
        })
    }
}

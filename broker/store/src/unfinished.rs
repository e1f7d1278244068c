//! What Apache's broker had begun in a folder and not finished: prepared messages of transactions, timer messages, and messages that POP has
//! given to consumers who have not acknowledged them. Whoever takes the folder over without these parts never delivers them.
//!
//! Nothing is changed here. Consume queues are read as [`crate::apache_queue`] says; what else tells of them, all big-endian:
//!
//! ```text
//! config/timercheck            0 slots before this time are delivered, ms i64 · 8 … · 16 next offset of the timer queue i64
//! timerwheel, timerwheel.<n>   slots of 32 bytes: 0 time i64, s · 8 … · 24 messages i32 · 28 …
//! ```
//!
//! The numbers are upper bounds: Apache notes what became of a transaction up to a minute later, and does not note the acknowledgements of POP
//! that its memory matched.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use rocket_mapped_file::Directory;
use rocket_mapped_file::disk::DiskDirectory;
use rocket_protocol::message::hash::tags_code;
use rocket_protocol::name::system_topic;
use rocket_protocol::{QueueId, TopicName};

use crate::apache_queue::{FOLDER, LastRead, Reader};
use crate::commit_log;

/// The groups under which Apache's broker keeps how far it has come (`MixAll.CID_SYS_RMQ_TRANS`, `PopAckConstants.REVIVE_GROUP`).
const TRANSACTIONS: &str = "CID_RMQ_SYS_TRANS";
const REVIVE: &str = "CID_RMQ_SYS_REVIVE_GROUP";
/// How the topics begin in which what POP gave is noted; the cluster's name follows.
const REVIVE_TOPIC: &str = "rmq_sys_REVIVE_LOG_";
/// The tag of what was given; other messages of the topic acknowledge that.
const GIVEN: &str = "ck";
const TIMER_CHECK: &str = "config/timercheck";
const WHEEL: &str = "timerwheel";
const SLOT: usize = 32;
/// Unless `timerPrecisionMs` says otherwise.
const SLOT_MS: i64 = 1_000;
/// Units read at once.
const RUN: usize = 4096;

/// So many messages at most are not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unfinished {
    /// Prepared, neither committed nor rolled back.
    pub transactions: u64,
    /// Not delivered yet; what POP has given lately waits here too.
    pub timers: u64,
    /// Given by POP and not acknowledged: how often, of several messages each.
    pub pops: u64,
}

impl Unfinished {
    /// Whether everything is finished.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// Reads what is unfinished in the folder `dir`; nothing where there is no consume queue in Apache's form. `file_bytes`: the size of the files of
/// consume queues. `position`: what `config/consumerOffset.json` says of a topic, a group and a queue. A queue whose newest file is of another size
/// counts with one message at least: nobody can tell.
///
/// # Errors
/// The folder cannot be read.
pub fn unfinished(
    dir: &Path,
    file_bytes: u64,
    position: &dyn Fn(&str, &str, QueueId) -> Option<u64>,
) -> io::Result<Unfinished> {
    let mut found = Unfinished::default();
    if !dir.join(FOLDER).is_dir() {
        return Ok(found);
    }
    let folder: Arc<dyn Directory> = Arc::new(DiskDirectory::open(dir)?);
    let (log_min, timers) = (log_min(&*folder)?, TimerCheck::read(&*folder)?);
    for entry in folder.list(FOLDER)? {
        let name = entry.name.as_str();
        let is_revive = name.starts_with(REVIVE_TOPIC);
        if !(is_revive || name == system_topic::TRANS_HALF || name == system_topic::TIMER) {
            continue;
        }
        let Ok(topic) = TopicName::parse(name) else {
            continue;
        };
        for (queue, reader) in queues(&folder, &topic, file_bytes)? {
            let there = Pending::of(reader, log_min)?;
            if is_revive {
                // The position is that of the last one that is done with.
                let next = position(name, REVIVE, queue).map_or(0, |last| last + 1);
                found.pops += there.tagged(next, GIVEN)?;
            } else if name == system_topic::TIMER {
                found.timers += there.left(timers.next);
            } else {
                let next = position(name, TRANSACTIONS, queue).unwrap_or(0);
                found.transactions += there.left(next);
            }
        }
    }
    found.timers += on_wheels(dir, timers.delivered_ms)?;
    Ok(found)
}

/// The first byte of the log.
fn log_min(dir: &dyn Directory) -> io::Result<u64> {
    let files = dir.list(commit_log::FOLDER)?;
    let starts = files.iter().filter_map(|file| file.name.parse().ok());
    Ok(starts.min().unwrap_or(0))
}

fn queues(
    dir: &Arc<dyn Directory>,
    topic: &TopicName,
    file_bytes: u64,
) -> io::Result<Vec<(QueueId, Reader)>> {
    let last = LastRead::new(Arc::clone(dir));
    let mut found = Vec::new();
    for entry in dir.list(&format!("{FOLDER}/{topic}"))? {
        if let (true, Ok(id)) = (entry.is_folder, entry.name.parse().map(QueueId)) {
            found.push((id, Reader::open(&last, topic, id, file_bytes)?));
        }
    }
    Ok(found)
}

/// The messages of a queue that the log still has.
struct Pending {
    reader: Reader,
    start: u64,
    end: u64,
}

impl Pending {
    fn of(reader: Reader, log_min: u64) -> io::Result<Self> {
        let range = reader.range(log_min, u64::MAX)?;
        Ok(Self {
            reader,
            start: range.start,
            end: range.end,
        })
    }

    /// How many there are from `next` on.
    fn left(&self, next: u64) -> u64 {
        let known = self.end.saturating_sub(self.start.max(next));
        known.max(u64::from(!self.reader.is_whole()))
    }

    /// How many of them have `tag`.
    fn tagged(&self, next: u64, tag: &str) -> io::Result<u64> {
        if !self.reader.is_whole() {
            return Ok(self.left(next));
        }
        let (mut at, mut count, code) = (self.start.max(next), 0, tags_code(tag));
        while at < self.end {
            let units = self.reader.read(at, RUN)?;
            if units.is_empty() {
                break;
            }
            at += units.len() as u64;
            count += units.iter().filter(|unit| unit.tags_code == code).count() as u64;
        }
        Ok(count)
    }
}

/// What `config/timercheck` says.
struct TimerCheck {
    delivered_ms: i64,
    next: u64,
}

impl TimerCheck {
    fn read(dir: &dyn Directory) -> io::Result<Self> {
        let bytes = dir.read(TIMER_CHECK)?.unwrap_or_default();
        let at = |place| bytes_at(&bytes, place).map_or(0, i64::from_be_bytes);
        Ok(Self {
            delivered_ms: at(0),
            next: u64::try_from(at(16)).unwrap_or(0),
        })
    }
}

fn bytes_at<const N: usize>(bytes: &[u8], place: usize) -> Option<[u8; N]> {
    bytes.get(place..)?.first_chunk().copied()
}

/// Messages on the wheel that are due at `delivered_ms` or later. Snapshots of it hold what it holds, so the fullest one counts.
fn on_wheels(dir: &Path, delivered_ms: i64) -> io::Result<u64> {
    let mut most = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let rest = name.to_str().and_then(|name| name.strip_prefix(WHEEL));
        let is_wheel = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        if is_wheel && entry.file_type()?.is_file() {
            let file = BufReader::with_capacity(1 << 20, File::open(entry.path())?);
            most = most.max(on_wheel(file, delivered_ms)?);
        }
    }
    Ok(most)
}

fn on_wheel(mut wheel: impl Read, delivered_ms: i64) -> io::Result<u64> {
    let (mut slot, mut sum) = ([0; SLOT], 0);
    loop {
        match wheel.read_exact(&mut slot) {
            Ok(()) => sum += waiting_in(slot, delivered_ms),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(sum),
            Err(error) => return Err(error),
        }
    }
}

/// Messages of a slot. The time of one that is far too early is of a wheel of another precision: nobody can tell when it is.
fn waiting_in(slot: [u8; SLOT], delivered_ms: i64) -> u64 {
    let due_ms = bytes_at(&slot, 0)
        .map_or(0, i64::from_be_bytes)
        .saturating_mul(SLOT_MS);
    let messages = bytes_at(&slot, 24).map_or(0, i32::from_be_bytes);
    let messages = u64::try_from(messages).unwrap_or(0);
    let is_delivered = due_ms < delivered_ms && due_ms > delivered_ms / 2;
    if is_delivered { 0 } else { messages }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(due_s: i64, messages: i32) -> [u8; SLOT] {
        let mut slot = [0; SLOT];
        slot[..8].copy_from_slice(&due_s.to_be_bytes());
        slot[24..28].copy_from_slice(&messages.to_be_bytes());
        slot
    }

    #[test]
    fn slots_that_are_due_later_count_and_those_of_another_precision() {
        let delivered_ms = 1_700_000_000_000;
        for (due_s, messages, waiting) in [
            (1_699_999_999, 5, 0),
            (1_700_000_000, 5, 5),
            (1_700_000_001, 0, 0),
            (1_700_000_001, -1, 0),
            // In tenths of a second, and in minutes.
            (17_000_000_000, 2, 2),
            (28_333_333, 2, 2),
            (0, 0, 0),
        ] {
            let slot = slot(due_s, messages);
            assert_eq!(waiting_in(slot, delivered_ms), waiting, "{due_s}");
        }
        let wheel = [slot(1_700_000_000, 1), slot(1_700_000_009, 2)].concat();
        assert_eq!(on_wheel(&wheel[..], delivered_ms).unwrap(), 3);
        // A wheel that was never used is zeros; what is torn at its end is no slot.
        assert_eq!(on_wheel(&[0_u8; 3 * SLOT + 5][..], 0).unwrap(), 0);
    }
}

//! Entries of the fuzzer (`broker/fuzz`): every decoder of bytes that a disk may hold. A finding is a panic.
//!
//! What has a checksum is taken as it is or *dressed*: the input is the content, and the head before it is made to fit, so
//! that the fuzzer comes past the checksum.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a finding is a panic"
)]

use std::sync::Arc;

use rocket_mapped_file::Directory;
use rocket_mapped_file::memory::MemoryDirectory;
use rocket_protocol::message::record::MAGIC_BLANK;
use rocket_protocol::{PhysicalOffset, RecordView, UnixMillis};

use crate::checkpoint::Checkpoint;
use crate::checksums::Checksums;
use crate::damage::Damage;
use crate::deleted::Deleted;
use crate::import::ApacheQueues;
use crate::intent::Intent;
use crate::{
    Appended, Clock, Completion, Engine, Flush, GetStatus, LocalPolicy, NoEvents, PutOutcome,
    QueueLogConfig, ReadLimits, StoreConfig,
};

/// Name and entry of a target.
pub type Target = (&'static str, fn(&[u8]));

/// All of this crate.
pub const TARGETS: &[Target] = &[
    ("log", log),
    ("checkpoint", checkpoint),
    ("checksums", checksums),
    ("store_notes", store_notes),
    ("copied", copied),
    ("apache_queue", apache_queue),
    ("queues", crate::queues::fuzzing::queues),
    ("index_run", crate::index::fuzzing::index_run),
    ("index_tail", crate::index::fuzzing::index_tail),
    ("index_state", crate::index::fuzzing::index_state),
    ("apache_index", crate::index::fuzzing::apache_index),
];

/// Takes texts apart: a length of two bytes, and as much as there is of it.
pub(crate) fn part<'a>(data: &mut &'a [u8]) -> &'a [u8] {
    let Some((len, rest)) = data.split_first_chunk() else {
        return std::mem::take(data);
    };
    let len = usize::from(u16::from_be_bytes(*len)).min(rest.len());
    let (part, rest) = rest.split_at(len);
    *data = rest;
    part
}

/// A folder with this one file.
pub(crate) fn folder_with(path: &str, content: &[u8]) -> Arc<dyn Directory> {
    let dir = MemoryDirectory::default();
    dir.replace(path, content).unwrap();
    Arc::new(dir)
}

struct Never;

impl Clock for Never {
    fn now(&self) -> UnixMillis {
        UnixMillis(1_700_000_000_000)
    }
}

struct Deaf;

impl Completion for Deaf {
    fn complete(self, outcome: PutOutcome) {
        let _: Option<Appended> = outcome.appended;
    }
}

/// A whole store whose first log file holds the bytes: opened, read by queue, and opened again.
fn log(data: &[u8]) {
    let Some((&kind, data)) = data.split_first() else {
        return;
    };
    let dir = MemoryDirectory::default();
    let mut file = data.to_vec();
    file.resize(4096, 0);
    dir.replace("commitlog/00000000000000000000", &file)
        .unwrap();
    if kind % 2 == 1 {
        // Not Apache's folder, and all of it was flushed.
        let (mut checkpoint, _) = Checkpoint::open(Arc::new(dir.clone())).unwrap();
        checkpoint.bounds.floor = u64::from(kind) * 16;
        checkpoint.bounds.ceiling = 4096;
        checkpoint.flush().unwrap();
    }
    let mut next = dir;
    for _ in 0..2 {
        let config = StoreConfig {
            segment_bytes: 4096,
            queue_log: QueueLogConfig {
                file_bytes: 1500,
                journal_bytes: 700,
                extent_units: 4,
                table_units: 24,
            },
            index_slots: 16,
            index_entries: 64,
            checksum_block_bytes: 512,
            ..StoreConfig::default()
        };
        let policy = Arc::new(LocalPolicy { flush: Flush::Sync });
        let dir: Arc<dyn Directory> = Arc::new(next.clone());
        let opened = Engine::<Deaf>::open(config, dir, Arc::new(Never), policy, Arc::new(NoEvents));
        let Ok((engine, _)) = opened else {
            return;
        };
        read_all(&engine);
        engine.seal_step();
        engine.checkpoint_step();
        next = next.killed();
    }
}

fn read_all(engine: &Engine<Deaf>) {
    for (topic, queue_id) in engine.queues() {
        let range = engine
            .queue_range(&topic, queue_id)
            .expect("a queue that is listed");
        let mut from = range.min.to_wire();
        // A record may name any queue offset, and what lies before it is filled up.
        for _ in 0..64 {
            let limits = ReadLimits {
                messages_max: 32,
                bytes_max: 1 << 20,
            };
            let result = engine.get(&topic, queue_id, from, limits, &|_, _| true);
            for chunk in &result.chunks {
                let mut rest = &chunk[..];
                while !rest.is_empty() {
                    let (_, len) =
                        RecordView::parse_trusting(rest).expect("what is served is a record");
                    rest = &rest[len..];
                }
            }
            let goes_on = matches!(
                result.status,
                GetStatus::Found | GetStatus::MessageWasRemoving | GetStatus::NoMatchedMessage
            );
            if !goes_on || result.next_begin >= range.max.to_wire() {
                break;
            }
            assert!(result.next_begin > from, "a consumer gets on");
            from = result.next_begin;
        }
    }
}

/// What a link brought, for the end of an empty log: taken or refused as a whole.
fn copied(data: &[u8]) {
    let config = StoreConfig {
        segment_bytes: 4096,
        checksum_block_bytes: 512,
        ..StoreConfig::default()
    };
    let policy = Arc::new(LocalPolicy {
        flush: Flush::Async,
    });
    let dir = Arc::new(MemoryDirectory::default());
    let opened = Engine::<Deaf>::open(config, dir, Arc::new(Never), policy, Arc::new(NoEvents));
    let (engine, _) = opened.expect("an empty folder");
    let (at, len) = (PhysicalOffset(0), data.len() as u64);
    let mut file_end = PhysicalOffset(len.max(4096));
    if matches!(data.get(4..8), Some(magic) if magic == MAGIC_BLANK.to_be_bytes()) {
        file_end = PhysicalOffset(len);
    }
    let Ok(end) = engine.append_copied(at, file_end, data) else {
        assert_eq!(engine.positions().appended, at, "nothing of it is there");
        return;
    };
    let mut next = at;
    while next < end {
        let records = engine
            .read_records(next, end, 1)
            .expect("what was taken is handed out");
        let from = usize::try_from(next.0).unwrap();
        assert_eq!(records.bytes[..], data[from..from + records.bytes.len()]);
        next = records.to;
    }
    while engine.dispatch_step() == crate::Step::Worked {}
    read_all(&engine);
    engine.become_writer().expect("whole records are followed");
}

/// Both slots, as they are or with checksums that fit.
fn checkpoint(data: &[u8]) {
    let Some((&kind, data)) = data.split_first() else {
        return;
    };
    let mut file = data.to_vec();
    file.resize(1024, 0);
    for slot in file.chunks_exact_mut(512).take(usize::from(kind % 3)) {
        slot[..8].copy_from_slice(b"RKC1\0\0\0\x02");
        // A number from which a store can go on for some time.
        slot[8] = 0;
        let crc = crc32fast::hash(&slot[..72]).to_be_bytes();
        slot[72..76].copy_from_slice(&crc);
    }
    let dir = folder_with("rocket/checkpoint", &file);
    let (mut checkpoint, bounds) = Checkpoint::open(Arc::clone(&dir)).expect("no slot is no error");
    if let Some(bounds) = bounds {
        assert_eq!(checkpoint.bounds, bounds);
    }
    checkpoint.bounds.floor ^= 1;
    checkpoint.flush().unwrap();
    let (again, _) = Checkpoint::open(dir).unwrap();
    assert_eq!(again.bounds, checkpoint.bounds);
}

/// The checksums of a log file of 16 small blocks.
fn checksums(data: &[u8]) {
    const BLOCKS: u64 = 16;
    const BLOCK_BYTES: u64 = 64;
    let mut file = b"RKB1".to_vec();
    file.extend_from_slice(&BLOCK_BYTES.to_be_bytes()[4..]);
    file.extend_from_slice(&(BLOCKS * BLOCK_BYTES).to_be_bytes());
    file.resize(64, 0);
    file.extend_from_slice(data);
    file.resize(64 + 8 * 16, 0);
    let dir = folder_with(&crate::checksums::path_of(0), &file);
    let sums = Checksums::new(dir, 0, BLOCKS * BLOCK_BYTES, BLOCK_BYTES);
    for block in 0..BLOCKS {
        let _ = sums.compare(block, |_, _| Ok(()));
        sums.enter(block, &[crc32c::crc32c(&[0; 64])]).unwrap();
        let again = sums.compare(block, |_, _| Ok(()));
        assert!(
            matches!(again, crate::checksums::Compared::Good),
            "{again:?}"
        );
    }
}

/// The notes in JSON.
fn store_notes(data: &[u8]) {
    let dir = folder_with("rocket/deleted-topics.json", data);
    if let Ok(deleted) = Deleted::open(dir) {
        deleted.covers("t", 1);
        deleted.forget_before(u64::MAX / 2, u64::MAX).unwrap();
    }
    for content in [data.to_vec(), Intent::dressed(data)] {
        if let Ok(Some(intent)) = Intent::read(&*folder_with(crate::intent::PATH, &content)) {
            let dir = MemoryDirectory::default();
            dir.create_folder("rocket").unwrap();
            intent.write(&dir).unwrap();
            assert_eq!(Intent::read(&dir).unwrap(), Some(intent));
        }
    }
    let damage = Damage::open(folder_with("rocket/damage.json", data)).expect("it is left out");
    let _ = (damage.within(10, 20), damage.all());
    damage.forget_before(u64::MAX / 2);
}

/// A file of a consume queue that Apache's broker wrote.
fn apache_queue(data: &[u8]) {
    let mut file = data.to_vec();
    file.resize(400, 0);
    let dir = folder_with("consumequeue/t/0/00000000000000000000", &file);
    dir.create_folder("consumequeue/t/0").unwrap();
    let queues = ApacheQueues::open(&dir, 400).expect("any units are units");
    let _ = (queues.is_empty(), queues.end(0));
}

#[cfg(test)]
mod tests {
    use super::TARGETS;

    #[test]
    fn what_the_fuzzer_found_worth_keeping_goes_through_its_decoder() {
        for (name, run) in TARGETS {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/");
            for entry in std::fs::read_dir(format!("{folder}{name}")).expect(name) {
                run(&std::fs::read(entry.unwrap().path()).unwrap());
            }
        }
    }
}

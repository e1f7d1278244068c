//! What opening a store costs: it must not depend on the size of the log.

use std::sync::Arc;

use rocket_mapped_file::memory::{Counts, MemoryDirectory};
use rocket_store::{
    Engine, Flush, LocalPolicy, NoEvents, OpenError, Promise, RecoveryReport, StoreConfig,
};

use crate::support::{Tell, clock, message, small};

pub(crate) const SEGMENT: u64 = 64 << 10;

pub(crate) fn config() -> StoreConfig {
    StoreConfig {
        segment_bytes: SEGMENT,
        consume_queue_file_bytes: 200_000,
        index_slots: 1024,
        index_entries: 100_000,
        checksum_block_bytes: 4096,
        ..small("unused".as_ref())
    }
}

pub(crate) fn open(dir: &MemoryDirectory) -> (Engine<Tell>, RecoveryReport) {
    try_open(dir).unwrap()
}

pub(crate) fn try_open(dir: &MemoryDirectory) -> Result<(Engine<Tell>, RecoveryReport), OpenError> {
    Engine::open(
        config(),
        Arc::new(dir.clone()),
        clock(1_800_000_000_000),
        Arc::new(LocalPolicy { flush: Flush::Sync }),
        Arc::new(NoEvents),
    )
}

/// Appends `count` messages of about 1 KiB, flushed and dispatched.
pub(crate) fn fill(engine: &Engine<Tell>, count: u32) {
    for n in 0..count {
        let mut body = format!("{n:08}").into_bytes();
        body.resize(1000, b'.');
        let message = message("t", 0, body, &format!("KEYS\u{1}k{n}\u{2}"));
        let (tell, _told) = std::sync::mpsc::channel();
        let taken = engine.append(&[message.as_ref()], Promise::Kept, Tell(tell));
        taken.map_err(|_| "refused").unwrap();
        engine.write_step();
        if n % 16 == 15 || n + 1 == count {
            engine.flush_step(0);
            engine.dispatch_step();
        }
    }
}

/// A log of `messages` messages, killed some time after a checkpoint, is opened, and one message is sent.
fn cost(messages: u32) -> (Counts, RecoveryReport) {
    let dir = MemoryDirectory::default();
    let (engine, _) = open(&dir);
    fill(&engine, messages);
    engine.seal_step();
    engine.checkpoint_step();
    fill(&engine, 100);
    let next = dir.killed();
    drop(engine);
    next.reset_counts();
    let (engine, report) = open(&next);
    fill(&engine, 1);
    (next.counts(), report)
}

#[test]
fn a_log_of_many_files_opens_with_as_few_reads_as_one_of_few() {
    let (few, report) = cost(400);
    let (many, big) = cost(6400);
    assert_eq!(
        report.records_scanned, 100,
        "what came after the checkpoint"
    );
    assert_eq!(big.records_scanned, 100);
    assert!(big.log_end.0 > 16 * (report.log_end.0 - 100 * SEGMENT / 60));
    println!("few files: {few:?}\nmany files: {many:?}");
    // The consume queue is searched in halves: a few reads of twenty bytes more.
    // The log has a hundred files more; what is opened beside a few of them are the extents of the queues.
    assert!(many.opens <= few.opens + 16, "{many:?} {few:?}");
    assert!(many.reads <= few.reads + 16, "{many:?} {few:?}");
    assert!(
        many.bytes_read <= few.bytes_read + 4 * SEGMENT,
        "{many:?} {few:?}"
    );
    assert!(many.bytes_read < 10 * SEGMENT, "{many:?}");
    assert_eq!(many.leases, few.leases);
}

#[test]
fn what_was_made_ahead_is_kept_and_only_what_was_written_is_made_zero() {
    let dir = MemoryDirectory::default();
    let (engine, _) = open(&dir);
    fill(&engine, 40);
    engine.prepare_step();
    engine.checkpoint_step();
    let next = dir.killed();
    drop(engine);
    next.reset_counts();
    let (engine, report) = open(&next);
    assert!(!report.tail_cut, "{report:?}");
    let path = format!("commitlog/{SEGMENT:020}");
    assert!(
        next.list_names("commitlog")
            .contains(&path[10..].to_owned())
    );
    assert!(next.counts().bytes_written < 8192, "{:?}", next.counts());
    fill(&engine, 100);
    assert_eq!(engine.stats().messages_appended, 100);
}

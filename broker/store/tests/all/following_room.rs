//! A copy on a disk that becomes full: retention makes room for it as it does for messages.

use std::sync::Arc;
use std::sync::mpsc::channel;

use rocket_mapped_file::memory::MemoryDirectory;
use rocket_protocol::PhysicalOffset;
use rocket_store::{
    CopyError, Engine, Flush, LocalPolicy, NoEvents, Promise, QueueLogConfig, Step, StoreConfig,
    Watermarks,
};

use crate::support::{Tell, clock, message_of};

const FILE: u64 = 4096;

fn open(dir: &MemoryDirectory) -> Engine<Tell> {
    let config = StoreConfig {
        segment_bytes: FILE,
        queue_log: QueueLogConfig {
            file_bytes: 1000,
            journal_bytes: 500,
            extent_units: 4,
            table_units: 20,
        },
        // A file is more than what lies between the marks.
        watermarks: Watermarks {
            clean: 100,
            force: Some(100),
            refuse: 100,
        },
        ..StoreConfig::default()
    };
    let opened = Engine::open(
        config,
        Arc::new(dir.clone()),
        clock(1_800_000_000_000),
        Arc::new(LocalPolicy { flush: Flush::Sync }),
        Arc::new(NoEvents),
    );
    opened.unwrap().0
}

/// A log of so many files of one message each.
fn master(files: usize) -> Engine<Tell> {
    let engine = open(&MemoryDirectory::default());
    for _ in 0..files {
        let (tell, _told) = channel();
        let message = message_of("t", 0, 3800);
        let taken = engine.append(&[message.as_ref()], Promise::Kept, Tell(tell));
        assert!(taken.is_ok());
        engine.write_step();
        engine.flush_step(0);
    }
    engine
}

/// Copies what begins before `to`, flushed and dispatched.
fn follow(slave: &Engine<Tell>, master: &Engine<Tell>, to: u64) -> Result<(), CopyError> {
    let master_end = master.positions().appended;
    loop {
        let at = slave.positions().appended;
        if at >= master_end.min(PhysicalOffset(to)) {
            return Ok(());
        }
        let records = master.read_records(at, master_end, 1).unwrap();
        slave.append_copied(at, records.file_end, &records.bytes)?;
        while slave.flush_step(0) == Step::Worked {}
        while slave.dispatch_step() == Step::Worked {}
    }
}

#[test]
fn a_copy_without_room_for_its_next_file_has_reached_the_hard_limit() {
    let master = master(10);
    let dir = MemoryDirectory::default();
    let slave = open(&dir);
    follow(&slave, &master, 6 * FILE).unwrap();
    slave.checkpoint_step();
    slave.look_at_disk();
    dir.set_capacity(slave.disk_usage().used + FILE / 2);
    slave.retention_step();
    assert_eq!(slave.positions().min.0, 0, "nothing is in want of room yet");
    let refused = follow(&slave, &master, u64::MAX);
    assert!(matches!(refused, Err(CopyError::NoRoom(_))), "{refused:?}");
    assert!(slave.disk_usage().refused, "it is told");
    slave.retention_step();
    let min = slave.positions().min.0;
    assert!(
        (1..=2).contains(&(min / FILE)),
        "the oldest file goes, and no more than needed: {min}"
    );
    follow(&slave, &master, 7 * FILE).unwrap();
    assert!(!slave.disk_usage().refused);
    // And so on, at the pace of the master.
    while slave.positions().appended < master.positions().appended {
        if follow(&slave, &master, u64::MAX).is_err() {
            let before = slave.positions().min;
            slave.retention_step();
            assert!(slave.positions().min > before, "stuck");
        }
    }
}

//! Too many open files where a block of the log is to be compared: it waits, and is compared when there are fewer.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rocket_mapped_file::memory::MemoryDirectory;
use rocket_protocol::{PhysicalOffset, QueueId};
use rocket_store::{
    Engine, Flush, GetStatus, Health, LocalPolicy, NoEvents, ReadLimits, RepairError,
};

use crate::damage::{FIRST, consumed, world};
use crate::opening::config;
use crate::support::{Tell, clock, topic};
use crate::wrapped::Wrapped;

const EMFILE: i32 = 24;

/// A store, and the switch by which no file of checksums can be opened.
fn open(dir: MemoryDirectory) -> (Engine<Tell>, Arc<AtomicBool>) {
    let is_scarce = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&is_scarce);
    let scarce = Wrapped::new(dir).opening(move |path| {
        if path.starts_with("rocket/checksums/") && switch.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        Ok(())
    });
    let opened = Engine::open(
        config(),
        Arc::new(scarce),
        clock(1_800_000_000_000),
        Arc::new(LocalPolicy { flush: Flush::Sync }),
        Arc::new(NoEvents),
    );
    (opened.unwrap().0, is_scarce)
}

#[test]
fn a_block_that_cannot_be_compared_now_is_not_taken_for_a_good_one() {
    let (dir, _) = world();
    dir.flip(FIRST, 3 * 4096 + 15);
    let (engine, is_scarce) = open(dir);
    is_scarce.store(true, Ordering::Relaxed);
    let limits = ReadLimits {
        messages_max: 1,
        bytes_max: 64 << 10,
    };
    for offset in 0..50 {
        let result = engine.get(&topic("t"), QueueId(0), offset, limits, &|_, _| true);
        let waits = (GetStatus::OffsetOverflowOne, offset);
        assert_eq!((result.status, result.next_begin), waits, "{offset}");
        assert!(result.chunks.is_empty());
    }
    assert_eq!(engine.damage(), [], "and nothing is called damaged");
    is_scarce.store(false, Ordering::Relaxed);
    assert!(consumed(&engine).len() < 200, "the damage is found");
    assert_eq!(engine.damage().len(), 1);
    assert_eq!(engine.health(), Health::Writable);
}

/// What comes from another copy is held to nothing less than its checksum.
#[test]
fn a_repair_waits_for_a_checksum_that_cannot_be_had_now() {
    let (dir, before) = world();
    dir.flip(FIRST, 3 * 4096 + 15);
    let (engine, _) = open(dir.clone());
    engine.scrub_step(u64::MAX);
    assert_eq!(engine.damage().len(), 1);
    drop(engine);
    let (engine, is_scarce) = open(dir);
    let repair = || engine.repair(PhysicalOffset(3 * 4096), &before[3 * 4096..4 * 4096]);
    is_scarce.store(true, Ordering::Relaxed);
    let later = repair();
    assert!(matches!(later, Err(RepairError::Later { .. })), "{later:?}");
    is_scarce.store(false, Ordering::Relaxed);
    repair().unwrap();
    assert_eq!((engine.damage(), consumed(&engine).len()), (vec![], 200));
}

//! Both slots of the checkpoint are lost, and the floor is the end of a block with a checksum, amid a record.

use rocket_mapped_file::Directory as _;
use rocket_mapped_file::memory::MemoryDirectory;
use rocket_protocol::RecordView;
use rocket_store::Step;

use crate::damage::{FIRST, consumed};
use crate::opening::{fill, open};

const BLOCK: usize = 4096;

/// Where the records begin, and where the last one ends.
fn boundaries(log: &[u8]) -> Vec<usize> {
    let mut all = vec![0];
    let mut at = 0;
    while let Ok((_, len)) = RecordView::parse(&log[at..]) {
        at += len;
        all.push(at);
    }
    all
}

/// The first `count` messages of a log, of which the last block is not summed, of a store that was killed and lost its checkpoint.
fn lost(count: u32) -> (MemoryDirectory, Vec<u8>) {
    let dir = MemoryDirectory::default();
    let (engine, _) = open(&dir);
    fill(&engine, count);
    while engine.seal_step() == Step::Worked {}
    drop(engine);
    let dir = dir.killed();
    for slot in [0, 4096] {
        dir.flip("rocket/checkpoint", slot + 1);
    }
    let log = dir.read(FIRST).unwrap().unwrap();
    (dir, log)
}

#[test]
fn damage_across_the_last_block_that_is_summed_is_no_torn_tail() {
    let (dir, log) = lost(20);
    let boundaries = boundaries(&log);
    let end = boundaries[20];
    let floor = end / BLOCK * BLOCK;
    let across = boundaries.partition_point(|&at| at <= floor) - 1;
    let (from, to) = (boundaries[across], boundaries[across + 1]);
    // In its body, and behind the block.
    let at = floor.max(from + 100) + 1;
    assert!(
        from < floor && at < to - 50 && to < end,
        "{from} {at} {to} {end}"
    );
    dir.flip(FIRST, at);
    let (engine, report) = open(&dir);
    assert_eq!((report.log_end.0, report.damaged_ranges), (end as u64, 1));
    let damage = engine.damage();
    let place = (damage[0].from.0, damage[0].to.0);
    assert_eq!(place, (from as u64, to as u64), "{damage:?}");
    let across = u32::try_from(across).unwrap();
    let rest: Vec<u32> = (0..20).filter(|&n| n != across).collect();
    assert_eq!(consumed(&engine), rest);
}

#[test]
fn a_sound_record_across_the_last_block_that_is_summed_is_followed_by_what_may_be_torn() {
    let (dir, log) = lost(20);
    let boundaries = boundaries(&log);
    // The last message of all: nobody knows that it was flushed.
    dir.flip(FIRST, boundaries[19] + 300);
    let (engine, report) = open(&dir);
    assert_eq!(report.log_end.0, boundaries[19] as u64);
    assert!(report.tail_cut && report.damaged_ranges == 0, "{report:?}");
    assert_eq!(consumed(&engine).len(), 19);
}

/// The newest bounds were not on the disk yet, and something rotted since: a start takes blocks that have their checksums for a
/// torn tail.
#[test]
fn checksums_of_what_a_start_cut_hold_for_nothing_that_comes_there() {
    let dir = MemoryDirectory::default();
    let (engine, _) = open(&dir);
    fill(&engine, 10);
    engine.checkpoint_step();
    fill(&engine, 20);
    while engine.seal_step() == Step::Worked {}
    drop(engine);
    let next = dir.killed();
    let boundaries = boundaries(&next.read(FIRST).unwrap().unwrap());
    next.flip(FIRST, boundaries[15] + 300);
    let (engine, report) = open(&next);
    assert_eq!(report.log_end.0, boundaries[15] as u64);
    fill(&engine, 20);
    drop(engine);
    for dir in [next.killed(), next.crashed(1)] {
        for slot in [0, 4096] {
            dir.flip("rocket/checkpoint", slot + 1);
        }
        let (engine, _) = open(&dir);
        engine.scrub_step(u64::MAX);
        assert_eq!(engine.damage(), []);
        assert_eq!(consumed(&engine).len(), 35);
    }
}

//! Sectors that cannot be read: what is made from the log is made again, what lies around them is served, and no start
//! stays closed for them.

use std::sync::Arc;
use std::sync::mpsc::channel;

use rocket_mapped_file::memory::MemoryDirectory;
use rocket_protocol::{QueueId, UnixMillis};
use rocket_store::{
    Boundary, Engine, Flush, LocalPolicy, NoEvents, Promise, RecoveryReport, Step, StoreConfig,
};

use crate::opening::fill;
use crate::rebuilding::numbers;
use crate::support::{Tell, clock, message, small, topic};

const MIB: u64 = 1 << 20;
const FIRST: &str = "commitlog/00000000000000000000";

fn open_with(
    dir: &MemoryDirectory,
    change: impl FnOnce(&mut StoreConfig),
) -> (Engine<Tell>, RecoveryReport) {
    let mut config = StoreConfig {
        segment_bytes: MIB,
        index_slots: 1024,
        index_entries: 300,
        checksum_block_bytes: 4096,
        ..small("unused".as_ref())
    };
    change(&mut config);
    Engine::open(
        config,
        Arc::new(dir.clone()),
        clock(1_800_000_000_000),
        Arc::new(LocalPolicy { flush: Flush::Sync }),
        Arc::new(NoEvents),
    )
    .unwrap()
}

fn open(dir: &MemoryDirectory) -> (Engine<Tell>, RecoveryReport) {
    open_with(dir, |_| {})
}

fn finds(engine: &Engine<Tell>, number: u32) -> bool {
    let (begin, end) = (UnixMillis(0), UnixMillis(i64::MAX));
    let found = engine.query(&topic("t"), &format!("k{number}"), 1, begin, end);
    !found.records.is_empty()
}

#[test]
fn a_bad_sector_below_the_floor_costs_no_more_than_its_block() {
    let dir = MemoryDirectory::default();
    let (engine, _) = open(&dir);
    fill(&engine, 800);
    // Flushed and known to be, and nothing else secured or summed: the start reads all of it.
    engine.mark_step();
    drop(engine);
    let dir = dir.killed();
    let bad = 500 << 10;
    dir.break_sectors(FIRST, bad, bad + 512);
    let (engine, report) = open(&dir);
    assert_eq!(report.damaged_ranges, 1);
    let damage = &engine.damage()[0];
    assert!(
        damage.from.0 <= bad as u64 && bad as u64 - damage.from.0 < 2000,
        "{damage:?}: what lies before it is good"
    );
    assert!(
        damage.to.0 - damage.from.0 < (64 << 10) + 2000,
        "{damage:?}"
    );
    let found = numbers(&engine);
    assert!(found.len() > 800 - 60, "{}", found.len());
    assert_eq!(found.last_key_value(), Some((&799, &799)));
}

#[test]
fn what_is_made_from_the_log_is_made_again_when_it_cannot_be_read() {
    let dir = MemoryDirectory::default();
    let (engine, _) = open(&dir);
    fill(&engine, 1500);
    while engine.seal_step() == Step::Worked {}
    engine.checkpoint_step();
    while engine.index_step() == Step::Worked {}
    engine.checkpoint_step();
    drop(engine);
    let mut broken = 0;
    for folder in ["rocket/queues", "rocket/index"] {
        for name in dir.list_names(folder) {
            let dir = dir.killed();
            dir.break_sectors(&format!("{folder}/{name}"), 0, usize::MAX);
            let (engine, _) = open(&dir);
            while engine.index_step() == Step::Worked {}
            assert_eq!(numbers(&engine).len(), 1500, "{name}");
            assert!((0..1500).step_by(100).all(|n| finds(&engine, n)), "{name}");
            broken += 1;
        }
    }
    assert!(broken >= 6, "{broken} files");
}

#[test]
fn what_cannot_be_read_behind_the_floor_is_the_end_of_the_log() {
    let dir = MemoryDirectory::default();
    let (engine, _) = open(&dir);
    fill(&engine, 100);
    engine.checkpoint_step();
    let floor = usize::try_from(engine.positions().appended.0).unwrap();
    fill(&engine, 50);
    let end = usize::try_from(engine.positions().appended.0).unwrap();
    drop(engine);
    // Never written; a record that is not known to be flushed; the sectors at the very end.
    for (from, kept) in [(end + 4096, 150), (floor + 1500, 101), (end, 150)] {
        let dir = dir.killed();
        let from = from.next_multiple_of(512);
        dir.break_sectors(FIRST, from, from + 512);
        let (engine, report) = open(&dir);
        assert_eq!(report.damaged_ranges, 0);
        assert_eq!(numbers(&engine).len(), kept, "{from} of {end}");
    }
}

#[test]
fn an_index_that_is_made_late_passes_over_sectors_that_cannot_be_read() {
    let dir = MemoryDirectory::default();
    let (engine, _) = open_with(&dir, |config| config.index_enabled = false);
    fill(&engine, 1500);
    while engine.seal_step() == Step::Worked {}
    engine.checkpoint_step();
    drop(engine);
    let dir = dir.killed();
    let bad = 300 << 10;
    dir.break_sectors(FIRST, bad, bad + 512);
    let (engine, report) = open(&dir);
    assert!(report.index_missing > MIB, "{report:?}");
    while engine.index_step() == Step::Worked {}
    let lost = (0..1500).filter(|&n| !finds(&engine, n)).count();
    assert!((1..10).contains(&lost), "{lost} keys are not found");
    assert!(finds(&engine, 1499));
}

/// What a start found damaged before the block had a checksum is not vouched for by one that is made later.
#[test]
fn damage_that_is_older_than_the_checksum_of_its_block_does_not_heal() {
    let dir = MemoryDirectory::default();
    let (engine, _) = open(&dir);
    fill(&engine, 100);
    engine.mark_step();
    drop(engine);
    let dir = dir.killed();
    dir.flip(FIRST, 20_500);
    let (engine, report) = open(&dir);
    assert_eq!(report.damaged_ranges, 1);
    let damage = engine.damage();
    while engine.seal_step() == Step::Worked {}
    engine.checkpoint_step();
    engine.scrub_step(u64::MAX);
    assert_eq!(engine.damage(), damage);
    drop(engine);
    let (engine, _) = open(&dir.killed());
    engine.scrub_step(u64::MAX);
    assert_eq!(engine.damage(), damage);
}

#[test]
fn a_search_by_time_is_not_led_astray_by_damage() {
    let dir = MemoryDirectory::default();
    let config = || StoreConfig {
        segment_bytes: MIB,
        checksum_block_bytes: 4096,
        ..small("unused".as_ref())
    };
    let clock = clock(1000);
    let open = |dir: &MemoryDirectory| {
        let opened = Engine::<Tell>::open(
            config(),
            Arc::new(dir.clone()),
            Arc::clone(&clock) as _,
            Arc::new(LocalPolicy { flush: Flush::Sync }),
            Arc::new(NoEvents),
        );
        opened.unwrap().0
    };
    let engine = open(&dir);
    for _ in 0..200 {
        clock.0.fetch_add(10, std::sync::atomic::Ordering::Relaxed);
        fill(&engine, 1);
    }
    while engine.seal_step() == Step::Worked {}
    engine.checkpoint_step();
    drop(engine);
    let dir = dir.killed();
    let half = usize::try_from(100 * 1200_u64).unwrap() / 4096;
    for block in half - 3..half + 3 {
        dir.flip(FIRST, block * 4096 + 7);
    }
    let engine = open(&dir);
    let found: Vec<i64> = numbers_of(&engine);
    assert!(found.len() < 190, "some are damaged");
    for offset in found {
        let time = UnixMillis(1000 + 10 * (offset + 1));
        for boundary in [Boundary::Lower, Boundary::Upper] {
            let at = engine.offset_by_time(&topic("t"), QueueId(0), time, boundary);
            let at = at.unwrap();
            // What lies in damage right before a message may count as stored with it.
            let is_right = at == offset || boundary == Boundary::Lower && offset - at < 30;
            assert!(is_right, "{at} instead of {offset}, {boundary:?}");
        }
    }
}

/// The offsets of messages that are served.
fn numbers_of(engine: &Engine<Tell>) -> Vec<i64> {
    let served = numbers(engine).into_keys();
    served
        .map(|offset| i64::try_from(offset).unwrap())
        .collect()
}

#[test]
fn who_asks_for_a_record_at_any_offset_has_no_more_than_its_head_read() {
    let dir = MemoryDirectory::default();
    let (engine, _) = open(&dir);
    // Every four bytes say: a record of 240 KiB.
    let forged = [0_u8, 3, 0xc0, 0].repeat(250);
    for _ in 0..600 {
        let (tell, _told) = channel();
        let message = message("t", 0, forged.clone(), "");
        let taken = engine.append(&[message.as_ref()], Promise::Kept, Tell(tell));
        assert!(taken.is_ok());
        engine.write_step();
    }
    engine.flush_step(0);
    while engine.dispatch_step() == Step::Worked {}
    while engine.seal_step() == Step::Worked {}
    engine.checkpoint_step();
    drop(engine);
    let dir = dir.killed();
    let (engine, _) = open(&dir);
    dir.reset_counts();
    for at in 0..8 {
        let offset = rocket_protocol::PhysicalOffset(200_000 + at);
        assert_eq!(engine.record_at(offset), None);
    }
    let read = dir.counts().bytes_read;
    assert!(read < 4 * 4096, "{read} bytes");
}

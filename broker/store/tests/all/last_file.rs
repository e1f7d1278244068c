//! The last file of the log, when it does not look like one that was used.

use std::sync::Arc;

use rocket_mapped_file::memory::MemoryDirectory;
use rocket_mapped_file::{Directory as _, SegmentOptions};
use rocket_store::{Engine, Flush, LocalPolicy, NoEvents, RecoveryReport, Step, StoreConfig};

use crate::damage::consumed;
use crate::opening::{config, fill};
use crate::support::{Tell, clock};

const FILE: u64 = 4096;

fn open(dir: &MemoryDirectory, segment_bytes: u64) -> (Engine<Tell>, RecoveryReport) {
    let opened = Engine::open(
        StoreConfig {
            segment_bytes,
            ..config()
        },
        Arc::new(dir.clone()),
        clock(1_800_000_000_000),
        Arc::new(LocalPolicy { flush: Flush::Sync }),
        Arc::new(NoEvents),
    );
    opened.unwrap()
}

/// The first bytes of a file, which a disk acknowledged and lost.
fn lose_head(dir: &MemoryDirectory, path: &str) {
    let segment = dir.open(path, SegmentOptions::default()).unwrap();
    segment.zero(0, 8).unwrap();
    segment.flush(0).unwrap();
}

#[test]
fn a_file_below_the_floor_stays_whatever_its_first_bytes_are() {
    let dir = MemoryDirectory::default();
    let (engine, _) = open(&dir, FILE);
    // Three in a file: the last one has two.
    fill(&engine, 8);
    engine.mark_step();
    let end = engine.positions().durable;
    drop(engine);
    let dir = dir.killed();
    let last = format!("commitlog/{:020}", 2 * FILE);
    assert_eq!(dir.list_names("commitlog").len(), 3);
    lose_head(&dir, &last);
    // Files of another size are made now.
    let (engine, report) = open(&dir, 2 * FILE);
    assert_eq!(dir.list_names("commitlog").len(), 3, "nothing is removed");
    assert_eq!((report.damaged_ranges, report.log_end), (1, end));
    let damage = engine.damage();
    assert_eq!(damage[0].from.0, 2 * FILE, "{damage:?}");
    assert_eq!(consumed(&engine), [0, 1, 2, 3, 4, 5, 7]);
    fill(&engine, 5);
    while engine.dispatch_step() == Step::Worked {}
    assert_eq!(consumed(&engine).len(), 12, "the log goes on");
}

#[test]
fn a_file_that_was_made_ahead_makes_room_for_one_of_the_size_that_is_wanted_now() {
    let dir = MemoryDirectory::default();
    let (engine, _) = open(&dir, FILE);
    fill(&engine, 8);
    engine.prepare_step();
    engine.mark_step();
    drop(engine);
    let dir = dir.killed();
    assert_eq!(dir.list_names("commitlog").len(), 4);
    let (engine, _) = open(&dir, 2 * FILE);
    fill(&engine, 5);
    let entries = dir.list("commitlog").unwrap();
    let lens: Vec<u64> = entries.iter().map(|entry| entry.len).collect();
    assert_eq!(lens, [FILE, FILE, FILE, 2 * FILE]);
}

/// As a start leaves it that found a file missing before another one, and took that one away behind the end of the log.
#[test]
fn what_is_said_of_damage_behind_the_end_holds_for_nothing_that_comes_there() {
    let dir = MemoryDirectory::default();
    let (engine, _) = open(&dir, FILE);
    fill(&engine, 2);
    engine.mark_step();
    drop(engine);
    let dir = dir.killed();
    let note = format!(
        r#"[{{"file": "commitlog/{:020}", "from": {FILE}, "to": {}, "reason": "files are missing"}}]"#,
        0,
        2 * FILE
    );
    dir.replace("rocket/damage.json", note.as_bytes()).unwrap();
    let (engine, report) = open(&dir, FILE);
    assert_eq!(report.damaged_ranges, 0);
    fill(&engine, 5);
    while engine.dispatch_step() == Step::Worked {}
    assert_eq!(consumed(&engine).len(), 7);
    drop(engine);
    let (engine, _) = open(&dir.killed(), FILE);
    assert_eq!((engine.damage(), consumed(&engine).len()), (vec![], 7));
}

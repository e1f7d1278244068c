//! The index against a plain list, and what it costs.

mod cost;
mod model;

use std::sync::Arc;

use rocket_mapped_file::Directory;
use rocket_mapped_file::memory::MemoryDirectory;
use rocket_protocol::UnixMillis;

use super::apache::Sizes;
use super::{Index, Known};

/// Nothing known: a new store.
const NEW: Known = Known {
    sizes: Sizes {
        slots: 7,
        entries: 20,
    },
    clean: true,
    dispatched: 0,
    min: 0,
    end: 0,
};

fn open(dir: &MemoryDirectory, known: Known) -> (Index, u64) {
    Index::open_with(Arc::new(dir.clone()), known, 16, 3).unwrap()
}

fn find(index: &Index, hash: i32, begin: i64, end: i64) -> Vec<u64> {
    let mut found = Vec::new();
    index
        .lookup(hash, begin, end, |offset| {
            found.push(offset);
            true
        })
        .unwrap();
    found
}

fn secure(index: &Index, position: u64) -> u64 {
    let secured = index.save(position).unwrap();
    for (_, segment) in index.take_unflushed() {
        segment.flush(0).unwrap();
    }
    secured.min(position)
}

/// Adds messages number `from..to`, each of 100 bytes with one key out of `hashes` and a second apart.
fn add(index: &Index, from: u64, to: u64, hashes: u64) {
    for number in from..to {
        let hash = i32::try_from(number % hashes).unwrap();
        let time = UnixMillis(1000 * i64::try_from(number).unwrap());
        index.lock().add(hash, number * 100, time);
    }
}

#[test]
fn keys_are_found_newest_first_in_memory_and_runs_of_all_levels() {
    let dir = MemoryDirectory::default();
    let (index, _) = open(&dir, NEW);
    for from in (0..400).step_by(10) {
        add(&index, from, from + 10, 5);
        while index.step(u64::MAX, 0).unwrap() {}
    }
    let levels: Vec<u32> = index.lock().runs.iter().map(|run| run.head.level).collect();
    assert!(levels.contains(&2) && levels.len() < 9, "{levels:?}");
    let expected: Vec<u64> = (0..80).rev().map(|n| (n * 5 + 3) * 100).collect();
    assert_eq!(find(&index, 3, 0, i64::MAX), expected);
    assert_eq!(find(&index, 5, 0, i64::MAX), [] as [u64; 0]);
    assert_eq!(index.newest().1.0, 39_900);
    let mut few = Vec::new();
    index
        .lookup(3, 0, i64::MAX, |offset| {
            few.push(offset);
            few.len() < 2
        })
        .unwrap();
    assert_eq!(few, [39_800, 39_300], "who has enough stops");
}

#[test]
fn a_message_at_the_edge_of_the_times_is_found() {
    let dir = MemoryDirectory::default();
    let (index, _) = open(&dir, NEW);
    let times = [1_000, 1_000, 1_001, 1_999, 2_000, 1_990, 2_001];
    for (number, time) in (0_u64..).zip(times.repeat(9)) {
        index.lock().add(7, number, UnixMillis(time));
        index.step(u64::MAX, 0).unwrap();
    }
    for (begin, end) in [(1_999, 1_999), (2_000, 2_000), (1_001, 1_001), (0, 1_000)] {
        let found = find(&index, 7, begin, end);
        for (number, time) in (0_u64..).zip(times.repeat(9)) {
            let wanted = (begin..=end).contains(&time);
            assert!(
                !wanted || found.contains(&number),
                "{time} in {begin}..={end}"
            );
        }
    }
}

#[test]
fn times_leave_out_what_was_stored_at_others() {
    let dir = MemoryDirectory::default();
    let (index, _) = open(&dir, NEW);
    add(&index, 0, 160, 1);
    while index.step(u64::MAX, 0).unwrap() {}
    let found = find(&index, 0, 40_000, 42_000);
    assert_eq!(found, [4200, 4100, 4000]);
}

#[test]
fn a_hash_that_fills_many_blocks_is_found_as_a_whole() {
    let dir = MemoryDirectory::default();
    let known = NEW;
    let (index, _) = Index::open_with(Arc::new(dir.clone()), known, 5000, 3).unwrap();
    for number in 0..5001_u64 {
        let hash = if number % 10 == 0 { 1_000_000 } else { 77 };
        index.lock().add(hash, number * 100, UnixMillis(5));
    }
    assert!(index.step(u64::MAX, 0).unwrap());
    assert!(index.lock().runs[0].head.blocks > 3);
    let expected: Vec<u64> = (0..5001)
        .rev()
        .filter(|n| n % 10 != 0)
        .map(|n| n * 100)
        .collect();
    assert_eq!(find(&index, 77, 0, 9), expected);
    assert_eq!(find(&index, 1_000_000, 0, 9).len(), 501);
}

#[test]
fn an_orderly_stop_and_start_writes_no_run() {
    let dir = MemoryDirectory::default();
    let (index, _) = open(&dir, NEW);
    add(&index, 0, 10, 5);
    assert_eq!(secure(&index, 1000), 1000);
    drop(index);
    let known = Known {
        dispatched: 1000,
        end: 1000,
        ..NEW
    };
    let (index, missing) = open(&dir, known);
    assert_eq!(missing, 0);
    assert!(index.lock().runs.is_empty());
    assert_eq!(find(&index, 3, 0, i64::MAX), [800, 300]);
    add(&index, 10, 12, 5);
    assert_eq!(secure(&index, 1200), 1200);
    drop(index);
    let known = Known {
        dispatched: 1200,
        end: 1200,
        ..NEW
    };
    let (index, _) = open(&dir, known);
    assert_eq!(find(&index, 1, 0, i64::MAX), [1100, 600, 100]);
}

#[test]
fn a_run_waits_for_the_flush_of_the_log() {
    let dir = MemoryDirectory::default();
    let (index, _) = open(&dir, NEW);
    add(&index, 0, 40, 5);
    assert!(!index.step(1599, 0).unwrap());
    assert!(index.step(1600, 0).unwrap());
    assert_eq!(find(&index, 3, 0, i64::MAX).len(), 8);
}

#[test]
fn many_frames_of_few_keys_end_the_table_early() {
    let dir = MemoryDirectory::default();
    let (index, _) = open(&dir, NEW);
    let mut position = 0;
    for number in 0..300 {
        if number % 40 == 0 {
            add(&index, number, number + 1, 5);
        }
        position = number * 100 + 100;
        secure(&index, position);
        index.step(u64::MAX, 0).unwrap();
    }
    assert!(!index.lock().runs.is_empty());
    assert_eq!(secure(&index, position), position);
    assert_eq!(find(&index, 0, 0, i64::MAX).len(), 8);
}

#[test]
fn what_is_damaged_is_told_and_indexed_again() {
    for damage in ["run", "tail", "state", "block"] {
        let dir = MemoryDirectory::default();
        let (index, _) = open(&dir, NEW);
        for from in (0..40).step_by(8) {
            add(&index, from, from + 8, 5);
            index.step(u64::MAX, 0).unwrap();
        }
        secure(&index, 4000);
        let path = match damage {
            "tail" => "rocket/index/tail-0".to_owned(),
            "state" => "rocket/index/state".to_owned(),
            _ => index.lock().runs[1].path.clone(),
        };
        dir.flip(&path, if damage == "block" { 4096 + 30 } else { 9 });
        let known = Known {
            dispatched: 4000,
            end: 4000,
            ..NEW
        };
        let (index, missing) = open(&dir.killed(), known);
        let expected = match damage {
            // What the tail holds does not join any more.
            "run" => 2400,
            "tail" => 800,
            _ => 0,
        };
        assert_eq!(missing, expected, "{damage}");
        find(&index, 3, 0, i64::MAX);
        let read = |range: std::ops::Range<u64>, add: &mut super::Add<'_>| {
            for number in range.start / 100..range.end / 100 {
                let time = 1000 * i64::try_from(number).unwrap();
                add(i32::try_from(number % 5).unwrap(), number * 100, time);
            }
            Some(range.end)
        };
        let mut filled = 0;
        while index.fill_step(0, read).unwrap() {
            filled += 1;
        }
        assert_eq!(filled > 0, damage != "state");
        let expected: Vec<u64> = (0..8).rev().map(|n| (n * 5 + 3) * 100).collect();
        assert_eq!(find(&index, 3, 0, i64::MAX), expected, "{damage}");
    }
}

#[test]
fn runs_and_apache_files_go_with_the_log() {
    let dir = MemoryDirectory::default();
    dir.create_folder("index").unwrap();
    let mut writer = super::apache_files::ApacheWriter::new(&dir, NEW.sizes).unwrap();
    for number in 0..10 {
        writer.add(3, number * 100, 5).unwrap();
    }
    writer.finish().unwrap();
    let known = Known {
        dispatched: 1000,
        end: 1000,
        ..NEW
    };
    let (index, missing) = open(&dir, known);
    assert_eq!(missing, 0);
    add(&index, 10, 100, 5);
    while index.step(u64::MAX, 0).unwrap() {}
    assert_eq!(find(&index, 3, 0, i64::MAX).len(), 18 + 10);
    index.remove_before(1000).unwrap();
    assert_eq!(find(&index, 3, 0, i64::MAX).len(), 18);
    assert!(dir.list("index").unwrap().is_empty());
    let runs = index.lock().runs.len();
    index.remove_before(9000).unwrap();
    assert!(index.lock().runs.len() < runs);
    assert_eq!(find(&index, 3, 0, i64::MAX)[..2], [9800, 9300]);
}

//! Crashes while files of the log are removed, on a file system that brings over changes of folders in any order.

use std::io::IoSlice;

use rocket_mapped_file::memory::{Faults, MemoryDirectory};

use super::*;

const FILE: u64 = 4096;
const FILES: u64 = 4;
const MAY: fn() -> io::Result<()> = || Ok(());

/// A log of some files with a checksum each, of which all is flushed.
fn log_in(dir: &MemoryDirectory) -> CommitLog {
    let dir: Arc<dyn Directory> = Arc::new(dir.clone());
    let log = CommitLog::open(dir, FILE, SegmentOptions::default(), 512, None).unwrap();
    for number in 0..FILES {
        let file = log.ensure(number * FILE, &MAY).unwrap();
        file.sums.enter(0, &[7]).unwrap();
        file.sums.flush().unwrap();
    }
    log
}

fn starts(dir: &MemoryDirectory, folder: &str) -> Vec<u64> {
    let names = dir.list_names(folder).into_iter();
    names.map(|name| name.parse().unwrap()).collect()
}

/// What is left of the log, and of its checksums, by each crash in the middle of `remove`; and at last when that is done.
fn left_by(remove: impl Fn(&CommitLog) -> io::Result<()>) -> Vec<(Vec<u64>, Vec<u64>)> {
    let mut left = Vec::new();
    for changes in 0.. {
        for seed in 0..16 {
            let dir = MemoryDirectory::default();
            let log = log_in(&dir);
            dir.set_faults(Faults {
                dies_after: Some(changes),
                ..Faults::default()
            });
            let removed = remove(&log);
            let crashed = dir.crashed_in_any_order(seed);
            left.push((
                starts(&crashed, FOLDER),
                starts(&crashed, checksums::FOLDER),
            ));
            if removed.is_ok() && seed == 15 {
                return left;
            }
        }
    }
    left
}

#[test]
fn of_the_oldest_files_none_comes_back_behind_which_another_one_is_missing() {
    let left = left_by(|log| log.remove_first(3).map(drop));
    for (log, _) in &left {
        let all: Vec<u64> = (0..FILES).map(|number| number * FILE).collect();
        assert!(all.ends_with(log) && !log.is_empty(), "{log:?}");
    }
    assert!(left.iter().any(|(log, _)| log.len() == 3), "in the middle");
    assert_eq!(left.last().unwrap().0, [3 * FILE]);
}

#[test]
fn of_files_beyond_the_end_none_comes_back_behind_a_gap_and_no_checksums_without_their_file() {
    let written = |log: &CommitLog| log.remove_written_beyond(FILE - 1).map(drop);
    let cut = |log: &CommitLog| log.cut(FILE, FILES * FILE);
    for (left, has_gaps) in [(left_by(written), false), (left_by(cut), true)] {
        for (log, sums) in &left {
            let all: Vec<u64> = (0..FILES).map(|number| number * FILE).collect();
            // A cut that is not finished is begun again, by its note.
            assert!(has_gaps || all.starts_with(log), "{log:?}");
            assert!(sums.iter().all(|start| log.contains(start)), "{sums:?}");
        }
        assert_eq!(left.last().unwrap(), &(vec![0], vec![0]));
    }
}

/// Opens the log again, as the next process does.
fn log_again(dir: &MemoryDirectory) -> CommitLog {
    let dir: Arc<dyn Directory> = Arc::new(dir.clone());
    CommitLog::open(dir, FILE, SegmentOptions::default(), 512, None).unwrap()
}

/// A process is killed in the middle of making a file or of removing one, the next one goes by what it finds, and then the power goes.
#[test]
fn what_a_start_finds_in_the_folder_of_the_log_outlasts_a_loss_of_power() {
    let make = |log: &CommitLog| log.ensure(FILES * FILE, &MAY).map(drop);
    let remove = |log: &CommitLog| log.remove_first(1).map(drop);
    for change in [make as fn(&CommitLog) -> io::Result<()>, remove] {
        for changes in 0..4 {
            for seed in 0..16 {
                let dir = MemoryDirectory::default();
                let log = log_in(&dir);
                dir.set_faults(Faults {
                    dies_after: Some(changes),
                    ..Faults::default()
                });
                let _ = change(&log);
                let next = dir.killed();
                let log = log_again(&next);
                let last = Arc::clone(log.files().last().unwrap());
                let bytes = [IoSlice::new(&[7; 100])];
                last.segment.write_at(0, &bytes).unwrap();
                last.segment.flush(0).unwrap();
                let crashed = next.crashed_in_any_order(seed);
                assert_eq!(starts(&crashed, FOLDER), starts(&next, FOLDER), "{changes}");
                let left = crashed.read(&last.path()).unwrap().unwrap();
                assert_eq!(left[..100], [7; 100]);
            }
        }
    }
}

#[test]
fn no_start_leaves_checksums_of_a_log_file_that_was_removed() {
    for changes in 0..16 {
        for seed in 0..4 {
            let dir = MemoryDirectory::default();
            let log = log_in(&dir);
            dir.set_faults(Faults {
                dies_after: Some(changes),
                ..Faults::default()
            });
            let _ = log.remove_first(3);
            for next in [dir.killed(), dir.crashed_in_any_order(seed)] {
                let log = log_again(&next);
                let there: Vec<u64> = log.files().iter().map(|file| file.start).collect();
                assert_eq!(starts(&next, checksums::FOLDER), there, "{changes}");
            }
        }
    }
}

/// What ends retention, or the start after it, and then takes the power: of the files that are there what was damaged is known, and of
/// those that are gone nothing is.
#[test]
fn damage_goes_with_its_file_whatever_ends_the_removal() {
    let damaged = |from, to| Damaged {
        file: path_of(from / FILE * FILE),
        from: PhysicalOffset(from),
        to: PhysicalOffset(to),
        reason: "flipped".to_owned(),
    };
    let all = [damaged(512, 1024), damaged(FILE, 2 * FILE + 512)];
    let known = |dir: &MemoryDirectory| {
        let log = CommitLog::open(
            Arc::new(dir.clone()),
            FILE,
            SegmentOptions::default(),
            512,
            None,
        );
        let log = log.unwrap();
        let there = |damaged: &Damaged| damaged.to.0 > log.min();
        let expected = all
            .clone()
            .into_iter()
            .filter(there)
            .map(|damaged| Damaged {
                from: damaged.from.max(PhysicalOffset(log.min())),
                ..damaged
            });
        assert_eq!(log.damage().all(), expected.collect::<Vec<_>>());
        log.min()
    };
    let mut mins = std::collections::BTreeSet::new();
    for changes in 0..16 {
        for seed in 0..16 {
            let dir = MemoryDirectory::default();
            let log = log_in(&dir);
            for damaged in &all {
                log.damage().note(damaged);
            }
            dir.set_faults(Faults {
                dies_after: Some(changes),
                ..Faults::default()
            });
            let _ = log.remove_first(3);
            let is_there = |damaged: &Damaged| damaged.from.0 >= log.min();
            assert!(log.damage().all().iter().all(is_there));
            let killed = dir.killed();
            let crashed = killed.crashed_in_any_order(seed);
            let killed_min = known(&killed);
            let again = killed.crashed_in_any_order(seed);
            mins.extend([known(&crashed), killed_min, known(&again)]);
        }
    }
    assert_eq!(mins.len(), 4, "{mins:?}");
}

/// Retention does not wait until its checksums are gone for good.
#[test]
fn checksums_that_come_back_hold_for_no_file_that_is_made_there() {
    let dir = MemoryDirectory::default();
    let log = log_in(&dir);
    let comes_back = |start| {
        let dir = Arc::new(dir.clone());
        let sums = Checksums::new(dir, start, FILE, 512);
        sums.enter(0, &[7]).unwrap();
        sums.flush().unwrap();
    };
    comes_back(FILES * FILE);
    let made = log.ensure(FILES * FILE, &MAY).unwrap();
    assert_eq!(made.sums.known(0).unwrap(), None);
    comes_back(9 * FILE);
    log.begin_at(9 * FILE, FILE).unwrap();
    let begun = log.file_at(9 * FILE).unwrap();
    assert_eq!(begun.sums.known(0).unwrap(), None);
}

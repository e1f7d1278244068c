use std::sync::Arc;

use rocket_mapped_file::memory::MemoryDirectory;
use rocket_replication::effect::Report;
use rocket_replication::recovery::CleanMark;
use rocket_replication::{GroupUid, ReplicaId, Version};
use rocket_store::{Flush, LocalPolicy};

use super::*;
use crate::disk::Meta;
use crate::memory::{Image, MemoryLog};
use crate::surroundings::News;

const FRESH: Fresh = Fresh {
    disk_id: DiskId(1),
    incarnation: Incarnation(2),
};
const FOUND: Found = Found {
    damaged: false,
    confirm: PhysicalOffset(20),
};

/// A log of ten records of ten bytes.
fn log() -> MemoryLog {
    let bytes = [0, 0, 0, 10, 0, 1, 2, 3, 4, 5].repeat(10);
    let image = Image {
        bytes,
        durable: 100,
        ..Image::default()
    };
    open(image)
}

fn open(image: Image) -> MemoryLog {
    let policy = LocalPolicy { flush: Flush::Sync };
    MemoryLog::open(image, Arc::new(policy), 1_000)
}

fn epochs(entries: &[(u64, u64)]) -> Epochs {
    let entry = |(epoch, start): &(u64, u64)| EpochStart {
        epoch: Epoch(*epoch),
        start: PhysicalOffset(*start),
    };
    Epochs::new(entries.iter().map(entry).collect()).unwrap()
}

fn items(entries: &[(u64, u64)]) -> (MemoryDirectory, Items) {
    let dir = MemoryDirectory::default();
    let items = Items::new(Arc::new(dir.clone()));
    items.format(DiskId(9), &epochs(entries)).unwrap();
    items
        .save_meta(&Meta {
            disk_id: DiskId(9),
            replica: Some((GroupUid(3), ReplicaId(4))),
            former: None,
        })
        .unwrap();
    items.save_seen(Epoch(6), Version(60)).unwrap();
    (dir, items)
}

fn run(items: &Items, log: &mut MemoryLog) -> Result<Recovered, StartError> {
    heard(items, log).0
}

/// What a start comes to, and what it told.
fn heard(items: &Items, log: &mut MemoryLog) -> (Result<Recovered, StartError>, Vec<News>) {
    let mut told = Vec::new();
    let tell = &mut |news: News| told.push(news);
    let started = start(items, log, FOUND, FRESH, Held::Refuse, tell);
    (started, told)
}

#[test]
fn empty_folder_is_formatted_once() {
    let dir = MemoryDirectory::default();
    let items = Items::new(Arc::new(dir));
    let mut log = open(Image::default());
    let first = run(&items, &mut log).unwrap();
    assert_eq!((first.disk_id, first.meta), (DiskId(1), None));
    let other = Fresh {
        disk_id: DiskId(7),
        incarnation: Incarnation(8),
    };
    let second = start(
        &items,
        &mut log,
        FOUND,
        other,
        Held::Refuse,
        &mut |_: News| {},
    )
    .unwrap();
    assert_eq!(second.disk_id, DiskId(1));
    assert_eq!(second.incarnation, Incarnation(8));
}

#[test]
fn what_was_saved_comes_back_with_the_ends_of_the_log() {
    let (_, items) = items(&[(1, 0), (5, 70)]);
    let found = run(&items, &mut log()).unwrap();
    assert_eq!(found.meta, Some((GroupUid(3), ReplicaId(4))));
    assert_eq!(
        (found.max_epoch, found.max_version),
        (Epoch(6), Version(60))
    );
    assert_eq!(found.epochs, epochs(&[(1, 0), (5, 70)]));
    assert_eq!(found.log_end, PhysicalOffset(100));
    assert_eq!(found.confirm, PhysicalOffset(20));
}

/// Were it dropped in memory alone, it would be back when the log has grown over its start with bytes of another epoch.
#[test]
fn epoch_that_the_log_lost_is_dropped_for_good() {
    let (dir, items) = items(&[(1, 0), (5, 120)]);
    let found = run(&items, &mut log()).unwrap();
    assert_eq!(found.epochs, epochs(&[(1, 0)]));
    for seed in 0..4 {
        let later = Items::new(Arc::new(dir.crashed(seed)));
        assert_eq!(later.load().unwrap().unwrap().epochs, epochs(&[(1, 0)]));
    }
}

#[test]
fn mark_of_an_orderly_stop_counts_once() {
    for (end, expected) in [(100, Some(Incarnation(77))), (90, None)] {
        let (dir, items) = items(&[(1, 0)]);
        let mark = CleanMark {
            incarnation: Incarnation(77),
            log_end: PhysicalOffset(end),
            last_epoch: Epoch(1),
        };
        items.save_clean(&mark).unwrap();
        let found = run(&items, &mut log()).unwrap();
        assert_eq!(found.evidence.clean, expected);
        for seed in 0..4 {
            let later = Items::new(Arc::new(dir.crashed(seed)));
            let found = run(&later, &mut log()).unwrap();
            assert_eq!(found.evidence.clean, None);
        }
    }
}

#[test]
fn intent_is_finished_from_every_point_at_which_it_was_left() {
    let intent = Intent {
        then: Then::Cut,
        to: PhysicalOffset(70),
        epoch: Epoch(6),
        from: PhysicalOffset(70),
        end: PhysicalOffset(100),
        report: Report::Event,
        epochs: epochs(&[(1, 0)]),
    };
    let before = [(1, 0), (5, 70)];
    for done in 0..3 {
        let (_, items) = items(&before);
        let mut log = log();
        items.save_cut(&intent).unwrap();
        if done > 0 {
            log.cut(PhysicalOffset(70), Epoch(6)).unwrap();
        }
        if done > 1 {
            items.save_epochs(&intent.epochs).unwrap();
        }
        let (found, told) = heard(&items, &mut log);
        let found = found.unwrap();
        assert_eq!(found.log_end, PhysicalOffset(70));
        // However much of it the former run had done: it told nobody (P4).
        let cut = News::Cut {
            to: PhysicalOffset(70),
            from_end: PhysicalOffset(100),
            epoch: Epoch(6),
            report: Report::Event,
        };
        assert_eq!(told, [cut]);
        // The entry that begins at the cut, too: the master did not have it.
        assert_eq!(found.epochs, epochs(&[(1, 0)]));
        assert_eq!(items.load().unwrap().unwrap().cut, None);
    }
}

#[test]
fn start_without_room_for_what_a_cut_takes_away_changes_nothing() {
    for then in [Then::Cut, Then::StartAnew] {
        let (_, items) = items(&[(1, 0), (5, 70)]);
        let mut log = log();
        let intent = Intent {
            then,
            to: PhysicalOffset(70),
            epoch: Epoch(6),
            from: PhysicalOffset(70),
            end: PhysicalOffset(100),
            report: Report::Event,
            epochs: epochs(&[(1, 0)]),
        };
        items.save_cut(&intent).unwrap();
        let before = log.image();
        log.lack_room(true);
        let (found, told) = heard(&items, &mut log);
        let source = match found {
            Err(StartError::Cut { source, .. }) => source,
            found => panic!("{found:?}"),
        };
        assert!(matches!(source, CutError::NoRoom(_)), "{source}");
        assert_eq!((told, log.image().bytes), (Vec::new(), before.bytes));
        log.lack_room(false);
        let (found, told) = heard(&items, &mut log);
        assert!(found.is_ok() && told.len() == 1, "{found:?} {told:?}");
        assert_eq!(items.load().unwrap().unwrap().cut, None);
    }
}

#[test]
fn log_that_was_being_emptied_is_empty() {
    let (_, items) = items(&[(1, 0), (5, 70)]);
    let mut log = log();
    items
        .save_cut(&Intent {
            then: Then::StartAnew,
            to: PhysicalOffset(400),
            epoch: Epoch(6),
            from: PhysicalOffset(30),
            end: PhysicalOffset(100),
            report: Report::Quiet,
            epochs: epochs(&[(3, 200)]),
        })
        .unwrap();
    let (found, told) = heard(&items, &mut log);
    let (found, at) = (found.unwrap(), PhysicalOffset(400));
    let anew = News::StartedAnew {
        at,
        from: PhysicalOffset(30),
        from_end: PhysicalOffset(100),
        epoch: Epoch(6),
        report: Report::Quiet,
    };
    assert_eq!(told, [anew]);
    assert_eq!((found.log_min, found.log_end), (at, at));
    assert_eq!(found.confirm, at, "what was before is committed elsewhere");
    assert_eq!(found.epochs, epochs(&[(3, 200)]));
}

#[test]
fn messages_of_no_group_are_the_beginning_of_one_only_when_that_is_said() {
    let items = Items::new(Arc::new(MemoryDirectory::default()));
    let mut log = log();
    let refused = run(&items, &mut log);
    assert!(matches!(refused, Err(StartError::Stranger { .. })));
    assert_eq!(items.load().unwrap(), None, "nothing was written");
    let adopted = start(
        &items,
        &mut log,
        FOUND,
        FRESH,
        Held::Adopt,
        &mut |_: News| {},
    )
    .unwrap();
    assert_eq!(adopted.epochs, epochs(&[(0, 0)]));
    // And from then on without saying it again.
    assert_eq!(run(&items, &mut log).unwrap().epochs, epochs(&[(0, 0)]));
}

//! What is left of the bounds after a crash, a kill, a torn slot and a sector that cannot be read.

use rocket_mapped_file::memory::{Faults, MemoryDirectory};

use super::*;

#[test]
fn a_torn_slot_leaves_the_older_one() {
    let dir = MemoryDirectory::default();
    let bounds = |floor| Bounds {
        confirm: 1,
        floor,
        dispatched: 3,
        dispatched_time: -4,
        ceiling: 5,
        sealed: 6,
        scrubbed: 7,
    };
    let (mut checkpoint, found) = Checkpoint::open(Arc::new(dir.clone())).unwrap();
    assert_eq!(found, None);
    for floor in [10, 20] {
        checkpoint.set(bounds(floor));
        checkpoint.flush().unwrap();
    }
    assert_eq!(
        Checkpoint::open(Arc::new(dir.killed())).unwrap().1,
        Some(bounds(20))
    );
    dir.flip(PATH, 20);
    assert_eq!(
        Checkpoint::open(Arc::new(dir.killed())).unwrap().1,
        Some(bounds(10))
    );
    dir.flip(PATH, SLOT + 30);
    assert_eq!(Checkpoint::open(Arc::new(dir.killed())).unwrap().1, None);
}

#[test]
fn a_sector_that_cannot_be_read_takes_one_slot() {
    for bad in [0, SLOT] {
        let dir = MemoryDirectory::default();
        let (mut checkpoint, _) = Checkpoint::open(Arc::new(dir.clone())).unwrap();
        for floor in [10, 20] {
            checkpoint.set(Bounds {
                floor,
                ..Bounds::default()
            });
            checkpoint.flush().unwrap();
        }
        dir.break_sectors(PATH, bad, bad + SLOT);
        let (_, found) = Checkpoint::open(Arc::new(dir)).unwrap();
        let floor = found.unwrap().floor;
        assert!(floor == 10 || floor == 20);
    }
}

#[test]
fn a_file_of_an_earlier_version_is_read_and_made_anew() {
    for newest in [0, 512] {
        let bounds = |floor| Bounds {
            floor,
            ceiling: 77,
            ..Bounds::default()
        };
        let mut file = vec![0; 1024];
        file[newest..newest + SUMMED + 4].copy_from_slice(&encode(6, bounds(60)));
        file[512 - newest..][..SUMMED + 4].copy_from_slice(&encode(5, bounds(50)));
        let dir = MemoryDirectory::default();
        dir.replace(PATH, &file).unwrap();
        let (mut checkpoint, found) = Checkpoint::open(Arc::new(dir.clone())).unwrap();
        assert_eq!(found, Some(bounds(60)));
        checkpoint.set(bounds(70));
        checkpoint.write().unwrap();
        for seed in 0..8 {
            let (_, found) = Checkpoint::open(Arc::new(dir.crashed(seed))).unwrap();
            assert!([Some(bounds(60)), Some(bounds(70))].contains(&found));
        }
        checkpoint.flush().unwrap();
        let (_, found) = Checkpoint::open(Arc::new(dir.crashed(1))).unwrap();
        assert_eq!(found, Some(bounds(70)));
    }
}

fn ceiling_found(dir: MemoryDirectory) -> Option<u64> {
    let bounds = Checkpoint::open(Arc::new(dir)).unwrap().1;
    bounds.map(|bounds| bounds.ceiling)
}

#[test]
fn a_flushed_ceiling_is_not_lost_to_what_is_written_later() {
    let dir = MemoryDirectory::default();
    let (mut checkpoint, _) = Checkpoint::open(Arc::new(dir.clone())).unwrap();
    let mut bounds = Bounds::default();
    for ceiling in [1000, 2000] {
        bounds.ceiling = ceiling;
        checkpoint.set(bounds);
        checkpoint.flush().unwrap();
    }
    for floor in 1..6 {
        bounds.floor = floor;
        checkpoint.set(bounds);
        checkpoint.write().unwrap();
        for seed in 0..16 {
            let crashed = dir.crashed(seed);
            assert_eq!(ceiling_found(crashed.killed()), Some(2000));
            // Torn: the bytes of a write that was under way are neither the old nor the new ones.
            crashed.flip(PATH, usize::try_from(checkpoint.next).unwrap() * SLOT + 50);
            assert_eq!(ceiling_found(crashed), Some(2000));
        }
    }
}

/// A flush that failed may have lost what it was for, and the next one would succeed without it.
#[test]
fn what_a_failed_flush_lost_is_written_again() {
    for seed in 0..16 {
        let dir = MemoryDirectory::default();
        let (mut checkpoint, _) = Checkpoint::open(Arc::new(dir.clone())).unwrap();
        dir.set_faults(Faults {
            flush_error_at: Some(1),
            seed,
            ..Faults::default()
        });
        checkpoint.set(Bounds {
            ceiling: 1000,
            ..Bounds::default()
        });
        assert!(checkpoint.flush().is_err());
        checkpoint.flush().unwrap();
        assert_eq!(ceiling_found(dir.crashed(seed)), Some(1000));
    }
}

#[test]
fn what_is_found_is_on_the_disk() {
    let dir = MemoryDirectory::default();
    let (mut checkpoint, _) = Checkpoint::open(Arc::new(dir.clone())).unwrap();
    checkpoint.set(Bounds::default());
    checkpoint.write().unwrap();
    let next = dir.killed();
    let (_, found) = Checkpoint::open(Arc::new(next.clone())).unwrap();
    assert!(found.is_some());
    for seed in 0..16 {
        assert_eq!(
            Checkpoint::open(Arc::new(next.crashed(seed))).unwrap().1,
            found
        );
    }
}

#[test]
fn what_was_set_and_not_flushed_is_not_known_later() {
    let dir = MemoryDirectory::default();
    let (mut checkpoint, _) = Checkpoint::open(Arc::new(dir.clone())).unwrap();
    checkpoint.set(Bounds {
        floor: 10,
        ..Bounds::default()
    });
    assert_eq!(Checkpoint::open(Arc::new(dir.killed())).unwrap().1, None);
    checkpoint.flush().unwrap();
    let known = Checkpoint::open(Arc::new(dir.crashed(1))).unwrap().1;
    assert_eq!(known.map(|bounds| bounds.floor), Some(10));
}

#[test]
fn a_slot_whose_number_cannot_grow_is_none() {
    let bounds = Bounds::default();
    let slot = |sequence| {
        let mut slot = encode(sequence, bounds).to_vec();
        slot.resize(SLOT, 0);
        slot
    };
    assert_eq!(decode(&slot(u64::MAX)), None);
    assert_eq!(decode(&slot(7)), Some((7, bounds)));
}

#[test]
fn a_slot_of_the_first_version_is_read_and_knows_no_ceiling() {
    let mut slot = Vec::new();
    slot.extend_from_slice(&MAGIC);
    slot.extend_from_slice(&1_u32.to_be_bytes());
    for field in [9_u64, 1, 2, 3, 4] {
        slot.extend_from_slice(&field.to_be_bytes());
    }
    slot.extend_from_slice(&crc32fast::hash(&slot).to_be_bytes());
    slot.resize(SLOT, 0);
    let (sequence, bounds) = decode(&slot).unwrap();
    assert_eq!((sequence, bounds.floor, bounds.dispatched_time), (9, 2, 4));
    assert_eq!(bounds.ceiling, u64::MAX);
}

use rocket_mapped_file::memory::MemoryDirectory;
use rocket_replication::effect::Report;

use super::*;
use crate::intent::Then;

fn epochs() -> Epochs {
    let entry = |epoch, start| EpochStart {
        epoch: Epoch(epoch),
        start: PhysicalOffset(start),
    };
    Epochs::new(vec![entry(1, 0), entry(4, 700), entry(5, 700)]).unwrap()
}

fn everything() -> Saved {
    Saved {
        meta: Meta {
            disk_id: DiskId(0xd15c),
            replica: Some((GroupUid(77), ReplicaId(3))),
            former: Some(Former {
                group_uid: GroupUid(76),
                max_epoch: Epoch(4),
            }),
        },
        seen: (Epoch(5), Version(41)),
        epochs: epochs(),
        clean: Some(CleanMark {
            incarnation: Incarnation(8),
            log_end: PhysicalOffset(900),
            last_epoch: Epoch(5),
        }),
        cut: Some(Intent {
            then: Then::Cut,
            to: PhysicalOffset(800),
            epoch: Epoch(6),
            from: PhysicalOffset(800),
            end: PhysicalOffset(900),
            report: Report::Quiet,
            epochs: epochs(),
        }),
        runs: Some(vec![Incarnation(7), Incarnation(8)]),
    }
}

fn saved() -> (MemoryDirectory, Items) {
    let dir = MemoryDirectory::default();
    let items = Items::new(Arc::new(dir.clone()));
    let all = everything();
    items.format(all.meta.disk_id, &Epochs::default()).unwrap();
    items.save_meta(&all.meta).unwrap();
    items.save_seen(all.seen.0, all.seen.1).unwrap();
    items.save_epochs(&all.epochs).unwrap();
    items.save_clean(&all.clean.unwrap()).unwrap();
    items.save_cut(all.cut.as_ref().unwrap()).unwrap();
    items.save_runs(all.runs.as_ref().unwrap()).unwrap();
    (dir, items)
}

#[test]
fn what_is_saved_is_read_after_a_power_cut() {
    let (dir, _) = saved();
    for seed in 0..8 {
        let items = Items::new(Arc::new(dir.crashed(seed)));
        assert_eq!(items.load().unwrap(), Some(everything()));
    }
}

#[test]
fn no_byte_of_any_file_can_change_unseen() {
    let (dir, items) = saved();
    for kind in [
        Kind::Meta,
        Kind::Seen,
        Kind::Epochs,
        Kind::Clean,
        Kind::Cut,
        Kind::Runs,
    ] {
        let path = kind.path();
        let whole = dir.read(&path).unwrap().unwrap();
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut file = whole.clone();
                file[at] ^= 1 << bit;
                dir.replace(&path, &file).unwrap();
                let error = items.load().unwrap_err();
                assert!(
                    matches!(&error, ItemError::Damaged { path: named, .. } if *named == path),
                    "{path}, byte {at}, bit {bit}: {error}"
                );
            }
            dir.replace(&path, &whole[..at]).unwrap();
            assert!(items.load().is_err(), "{path} cut at {at}");
        }
        let mut longer = whole.clone();
        longer.push(0);
        dir.replace(&path, &longer).unwrap();
        assert!(items.load().is_err(), "{path} with a byte more");
        dir.replace(&path, &whole).unwrap();
    }
    assert_eq!(items.load().unwrap(), Some(everything()));
}

/// Bodies of every length with a good checksum: nothing panics, and nothing but the true layout is taken.
#[test]
fn malformed_bodies_with_good_checksums_are_refused() {
    let (dir, items) = saved();
    let path = Kind::Epochs.path();
    let bad: [&[u8]; 6] = [
        &[],
        &[0xff; 4],
        // Two entries announced, one there.
        &[&[0, 0, 0, 2][..], &[0; 16]].concat(),
        // One more byte than announced.
        &[&[0, 0, 0, 0][..], &[9]].concat(),
        // Epochs that do not rise.
        &[&[0, 0, 0, 2][..], &[0; 32]].concat(),
        &u32::try_from(EPOCHS_MAX + 1).unwrap().to_be_bytes(),
    ];
    for body in bad {
        dir.replace(&path, &seal(Kind::Epochs, 1, body)).unwrap();
        assert!(matches!(items.load(), Err(ItemError::Damaged { .. })));
    }
    // The body of one file in the place of another.
    dir.replace(&path, &seal(Kind::Seen, 1, &[0; 16])).unwrap();
    assert!(matches!(items.load(), Err(ItemError::Damaged { .. })));
}

#[test]
fn format_of_a_newer_program_is_named() {
    let (dir, items) = saved();
    let mut file = seal(Kind::Seen, 1, &[0; 16]);
    file[7] = 9;
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&file[..12]), &file[16..]);
    file[12..16].copy_from_slice(&checksum.to_be_bytes());
    dir.replace(&Kind::Seen.path(), &file).unwrap();
    let error = items.load().unwrap_err();
    assert!(
        matches!(
            error,
            ItemError::Format {
                found: 9,
                known: 1,
                ..
            }
        ),
        "{error}"
    );
}

/// Where there is nothing more to say the file is what it always was, and older programs read it.
#[test]
fn meta_without_a_former_group_is_of_the_first_version() {
    let (dir, items) = saved();
    let path = Kind::Meta.path();
    let meta = Meta {
        former: None,
        ..everything().meta
    };
    items.save_meta(&meta).unwrap();
    let mut body = Vec::new();
    body.put_u128(0xd15c);
    body.put_u8(1);
    body.put_u128(77);
    body.put_u32(3);
    let first = seal(Kind::Meta, 1, &body);
    assert_eq!(dir.read(&path).unwrap(), Some(first));
    assert_eq!(items.load().unwrap().unwrap().meta, meta);
    // The second one has more, and only of a replica that is in a group.
    dir.replace(&path, &seal(Kind::Meta, 2, &body)).unwrap();
    assert!(matches!(items.load(), Err(ItemError::Damaged { .. })));
    body.put_u128(76);
    body.put_u64(4);
    dir.replace(&path, &seal(Kind::Meta, 2, &body)).unwrap();
    assert_eq!(items.load().unwrap().unwrap().meta, everything().meta);
    body[16] = 0;
    dir.replace(&path, &seal(Kind::Meta, 2, &body)).unwrap();
    assert!(matches!(items.load(), Err(ItemError::Damaged { .. })));
}

/// A program that ended in the middle of a cut may have been of an older version.
#[test]
fn note_of_a_cut_that_does_not_say_what_goes_is_read() {
    let (dir, items) = saved();
    for (then, from) in [(Then::Cut, 800), (Then::StartAnew, 0)] {
        let mut body = vec![u8::from(then == Then::StartAnew)];
        body.put_u64(800);
        body.put_u64(6);
        put_epochs(&epochs(), &mut body);
        dir.replace(&Kind::Cut.path(), &seal(Kind::Cut, 1, &body))
            .unwrap();
        let (from, end) = (PhysicalOffset(from), PhysicalOffset(from));
        let expected = Intent {
            then,
            to: PhysicalOffset(800),
            epoch: Epoch(6),
            from,
            end,
            report: Report::Event,
            epochs: epochs(),
        };
        let found = items.load().unwrap().and_then(|saved| saved.cut);
        assert_eq!(found, Some(expected));
    }
}

#[test]
fn file_that_vanished_is_no_empty_one() {
    for kind in [Kind::Meta, Kind::Seen, Kind::Epochs] {
        let (dir, items) = saved();
        dir.remove(&kind.path()).unwrap();
        let error = items.load().unwrap_err();
        assert!(matches!(&error, ItemError::Missing { path } if *path == kind.path()));
    }
}

#[test]
fn malformed_notes_of_runs_are_refused() {
    let (dir, items) = saved();
    let path = Kind::Runs.path();
    let bad: [&[u8]; 4] = [
        &[],
        // Two runs announced, one there; and one there that was not announced.
        &[&[0, 0, 0, 2][..], &[1; 16]].concat(),
        &[&[0, 0, 0, 0][..], &[1; 16]].concat(),
        &u32::try_from(RUNS_MAX + 1).unwrap().to_be_bytes(),
    ];
    for body in bad {
        dir.replace(&path, &seal(Kind::Runs, 1, body)).unwrap();
        assert!(matches!(items.load(), Err(ItemError::Damaged { .. })));
    }
}

/// Runs of older programs noted nothing.
#[test]
fn folder_without_a_note_of_its_runs_is_read() {
    let (dir, items) = saved();
    dir.remove(&Kind::Runs.path()).unwrap();
    let loaded = items.load().unwrap().unwrap();
    assert_eq!(
        loaded,
        Saved {
            runs: None,
            ..everything()
        }
    );
}

#[test]
fn interrupted_formatting_is_done_again() {
    let dir = MemoryDirectory::default();
    let items = Items::new(Arc::new(dir.clone()));
    assert_eq!(items.load().unwrap(), None);
    items.format(DiskId(1), &Epochs::default()).unwrap();
    dir.remove(&Kind::Meta.path()).unwrap();
    assert_eq!(items.load().unwrap(), None);
    items.format(DiskId(2), &Epochs::default()).unwrap();
    assert_eq!(items.load().unwrap().unwrap().meta.disk_id, DiskId(2));
}

#[test]
fn mark_and_intent_are_gone_for_good_when_removed() {
    let (dir, items) = saved();
    items.remove_clean().unwrap();
    items.remove_cut().unwrap();
    for seed in 0..8 {
        let loaded = Items::new(Arc::new(dir.crashed(seed))).load().unwrap();
        let loaded = loaded.unwrap();
        assert_eq!((loaded.clean, loaded.cut), (None, None));
    }
}

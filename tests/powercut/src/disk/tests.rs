//! Faults strike where they were planned.

use super::*;

fn log() -> (Disk, Node) {
    let mut disk = Disk::new(1);
    let folder = disk.create(ROOT, "commitlog", true).unwrap().node;
    let file = disk.create(folder, "0", false).unwrap().node;
    disk.sync_folder(ROOT).unwrap();
    disk.sync_folder(folder).unwrap();
    (disk, file)
}

fn sync(disk: &mut Disk, file: Node) -> Result<(), Refusal> {
    let sync = disk.sync_begin(file, 0);
    disk.sync_end(file, 0, sync, 0)
}

#[test]
fn the_power_goes_at_the_planned_write_and_nothing_later_is_kept() {
    let (mut disk, file) = log();
    disk.arm(Faults {
        cut_at: Some(Moment::Write(2)),
        ..Faults::default()
    });
    disk.write(file, 0, b"one", 10).unwrap();
    sync(&mut disk, file).unwrap();
    assert!(!disk.is_cut());
    disk.write(file, 3, b"two", 20).unwrap();
    assert!(disk.is_cut());
    assert_eq!(sync(&mut disk, file), Err(Refusal::Io));
    let frozen = disk.take_frozen().unwrap();
    assert_eq!((frozen.at_us, frozen.durable_until_us), (20, 20));
    assert_eq!(frozen.after.read(file, 0, 3).unwrap(), b"one");
}

#[test]
fn a_sync_that_ended_at_the_cut_is_kept_and_one_that_began_is_open() {
    let (mut disk, file) = log();
    disk.arm(Faults {
        cut_at: Some(Moment::SyncEnd(1)),
        ..Faults::default()
    });
    disk.write(file, 0, b"one", 10).unwrap();
    sync(&mut disk, file).unwrap();
    let frozen = disk.take_frozen().unwrap();
    assert_eq!(frozen.after.read(file, 0, 3).unwrap(), b"one");

    let kept = (0..64)
        .filter(|seed| {
            let (mut disk, file) = log();
            disk.dice = Dice::new(*seed);
            disk.arm(Faults {
                cut_at: Some(Moment::SyncBegin(1)),
                ..Faults::default()
            });
            disk.write(file, 0, b"one", 10).unwrap();
            disk.sync_begin(file, 30);
            let frozen = disk.take_frozen().unwrap();
            assert_eq!(frozen.durable_until_us, 10);
            frozen.after.read(file, 0, 3).unwrap() == b"one"
        })
        .count();
    assert!(kept > 0 && kept < 64, "{kept}");
}

#[test]
fn the_planned_sync_fails_and_its_bytes_stay_lost() {
    let lost = (0..64).any(|seed| {
        let (mut disk, file) = log();
        disk.dice = Dice::new(seed);
        disk.arm(Faults {
            sync_error_at: Some(2),
            ..Faults::default()
        });
        disk.write(file, 512, b"zero", 5).unwrap();
        sync(&mut disk, file).unwrap();
        sync(&mut disk, file).unwrap();
        disk.write(file, 0, b"one", 10).unwrap();
        assert_eq!(sync(&mut disk, file), Err(Refusal::Io));
        assert_eq!(disk.durable_until_us(50), 10);
        sync(&mut disk, file).unwrap();
        disk.cut(60);
        let after = disk.take_frozen().unwrap().after;
        after.read(file, 0, 3).unwrap() != b"one"
    });
    assert!(lost);
}

#[test]
fn writes_are_short_or_refused_as_planned() {
    let (mut disk, file) = log();
    disk.arm(Faults {
        short_every: Some(2),
        write_error_at: Some(3),
        ..Faults::default()
    });
    assert_eq!(disk.write(file, 0, &[1; 100], 0), Ok(100));
    assert!(disk.write(file, 100, &[1; 100], 0).unwrap() < 100);
    assert_eq!(disk.write(file, 200, &[1; 100], 7), Err(Refusal::Io));
    assert_eq!(disk.counts().struck_us, Some(7));
    disk.arm(Faults {
        read_only_at: Some(1),
        ..Faults::default()
    });
    assert_eq!(disk.write(file, 0, &[1; 100], 0), Err(Refusal::ReadOnly));
    assert_eq!(disk.create(ROOT, "x", false), Err(Refusal::ReadOnly));
}

#[test]
fn a_full_medium_takes_nothing_new_and_what_was_reserved() {
    let (mut disk, file) = log();
    disk.allocate(file, 0..8192, false, 0).unwrap();
    let used = disk.used();
    disk.set_capacity(Some(used + 4096));
    assert_eq!(disk.write(file, 0, &[1; 8192], 0), Ok(8192));
    assert_eq!(disk.write(file, 8192, &[1; 4097], 0), Err(Refusal::NoSpace));
    assert_eq!(disk.counts().no_space, 1);
    assert_eq!(
        disk.allocate(file, 0..20_000, false, 0),
        Err(Refusal::NoSpace)
    );
    disk.set_capacity(None);
    assert_eq!(disk.write(file, 8192, &[1; 4097], 0), Ok(4097));
}

#[test]
fn every_open_file_is_told_of_a_failed_sync_once() {
    let (mut disk, file) = log();
    let (one, other) = (disk.open(file), disk.open(file));
    disk.arm(Faults {
        sync_error_at: Some(1),
        ..Faults::default()
    });
    disk.write(file, 0, b"one", 10).unwrap();
    let sync = |disk: &mut Disk, handle| {
        let sync = disk.sync_begin(file, 0);
        disk.sync_end(file, handle, sync, 0)
    };
    assert_eq!(sync(&mut disk, one), Err(Refusal::Io));
    assert_eq!(sync(&mut disk, other), Err(Refusal::Io));
    assert_eq!(sync(&mut disk, one), Ok(()));
    assert_eq!(sync(&mut disk, other), Ok(()));
    let later = disk.open(file);
    assert_eq!(sync(&mut disk, later), Ok(()));
}

//! The rules of the seam, over both implementations.

use std::io::{ErrorKind, IoSlice};

use rocket_mapped_file::disk::DiskDirectory;
use rocket_mapped_file::memory::MemoryDirectory;
use rocket_mapped_file::{Directory, FILL_PIECE_BYTES, Fill, Pace, SegmentOptions};

/// Runs `rule` on the disk and on its twin.
fn both(rule: impl Fn(&dyn Directory)) {
    let folder = tempfile::tempdir().unwrap();
    rule(&DiskDirectory::open(folder.path()).unwrap());
    rule(&MemoryDirectory::default());
}

fn options() -> SegmentOptions {
    SegmentOptions::default()
}

#[test]
fn what_is_published_is_never_written_again() {
    both(|dir| {
        let segment = dir.create("s", 4096, options()).unwrap();
        segment
            .write_at(0, &[IoSlice::new(b"first"), IoSlice::new(b"second")])
            .unwrap();
        assert_eq!(segment.lease(0, 5).unwrap(), None, "not published yet");
        segment.publish(11);
        let again = segment.write_at(10, &[IoSlice::new(b"x")]).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::InvalidInput);
        assert_eq!(
            segment.zero(0, 20).unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        assert_eq!(segment.lease(0, 11).unwrap().unwrap(), "firstsecond");
        assert_eq!(segment.lease(0, 12).unwrap(), None, "one byte too many");
        segment.publish(5);
        assert_eq!(segment.published(), 11, "the position never falls");
    });
}

#[test]
fn what_was_published_is_replaced_on_the_disk_and_lent_again() {
    both(|dir| {
        let segment = dir.create("a", 8192, options()).unwrap();
        segment.write_at(0, &[IoSlice::new(&[1; 6000])]).unwrap();
        segment.publish(6000);
        let lent = segment.lease(0, 1000).unwrap().unwrap();
        assert_eq!(lent, vec![1; 1000]);
        drop(lent);
        segment.replace_at(4096, &[2; 1904]).unwrap();
        let lent = segment.lease(4000, 2000).unwrap().unwrap();
        assert!(lent[..96].iter().all(|&byte| byte == 1) && lent[96..].iter().all(|&b| b == 2));
        let outside = segment.replace_at(8192, &[3]).unwrap_err();
        assert_eq!(outside.kind(), ErrorKind::InvalidInput);
        assert_eq!(segment.published(), 6000);
        segment.show_all().unwrap();
    });
}

#[test]
fn a_lease_never_sees_that_what_it_shows_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let dir = DiskDirectory::open(folder.path()).unwrap();
    let segment = dir.create("a", 16 << 10, options()).unwrap();
    let bytes = vec![1; 16 << 10];
    segment.write_at(0, &[IoSlice::new(&bytes)]).unwrap();
    segment.publish(16 << 10);
    let before = segment.lease(4096, 4096).unwrap().unwrap();
    let replace = || segment.replace_at(4096, &[2; 4096]).map_err(|e| e.kind());
    assert_eq!(replace(), Err(ErrorKind::WouldBlock));
    assert!(segment.lease(4000, 97).unwrap().is_none(), "withheld");
    assert!(!segment.look(8191, 1, &mut |_| {}).unwrap(), "withheld");
    let beside = segment.lease(8192, 100).unwrap().unwrap();
    assert_eq!(replace(), Err(ErrorKind::WouldBlock), "it is lent still");
    assert_eq!(before, vec![1; 4096]);
    drop(before);
    assert_eq!(replace(), Ok(()), "who reads beside it is not in the way");
    assert_eq!(beside, vec![1; 100]);
    assert_eq!(segment.lease(4096, 4096).unwrap().unwrap(), vec![2; 4096]);

    let before = segment.lease(0, 10).unwrap().unwrap();
    let first = || segment.replace_at(0, &[3; 4096]).map_err(|e| e.kind());
    assert_eq!(first(), Err(ErrorKind::WouldBlock));
    segment.show_all().unwrap();
    assert_eq!(segment.lease(0, 10).unwrap().unwrap(), before, "given up");
}

#[test]
fn a_lease_outlives_its_file_and_its_segment() {
    both(|dir| {
        let segment = dir.create("s", 4096, options()).unwrap();
        segment.write_at(0, &[IoSlice::new(b"kept")]).unwrap();
        segment.publish(4);
        let lease = segment.lease(0, 4).unwrap().unwrap();
        dir.remove("s").unwrap();
        drop(segment);
        assert_eq!(lease, "kept");
    });
}

#[test]
fn a_retired_segment_is_read_and_can_be_written_on() {
    both(|dir| {
        let segment = dir.create("s", 4096, options()).unwrap();
        segment.write_at(0, &[IoSlice::new(b"one")]).unwrap();
        segment.publish(3);
        segment.flush(0).unwrap();
        segment.retire();
        assert_eq!(segment.lease(0, 3).unwrap().unwrap(), "one");
        segment.write_at(3, &[IoSlice::new(b"two")]).unwrap();
        segment.flush(0).unwrap();
        let mut all = [0; 6];
        segment.read_at(0, &mut all).unwrap();
        assert_eq!(&all, b"onetwo");
    });
}

#[test]
fn a_file_that_lost_its_name_says_so() {
    both(|dir| {
        let segment = dir.create("s", 4096, options()).unwrap();
        assert!(segment.is_named().unwrap());
        dir.remove("s").unwrap();
        segment.write_at(0, &[IoSlice::new(b"gone")]).unwrap();
        segment.flush(0).unwrap();
        assert!(!segment.is_named().unwrap(), "a flush alone would not tell");
    });
}

#[test]
fn a_file_that_is_opened_later_and_is_shorter_than_it_was_is_an_error_and_no_map() {
    both(|dir| {
        dir.replace("s", b"short").unwrap();
        let segment = dir.open_later("s", 4096, options()).unwrap();
        segment.publish(4096);
        assert_eq!(
            segment.lease(0, 4096).unwrap_err().kind(),
            ErrorKind::UnexpectedEof
        );
        let missing = dir.open_later("none", 4096, options()).unwrap();
        missing.publish(4096);
        assert_eq!(missing.lease(0, 1).unwrap_err().kind(), ErrorKind::NotFound);
    });
}

#[test]
fn a_renamed_file_keeps_its_bytes_and_does_not_replace_another() {
    both(|dir| {
        let segment = dir.create("a", 4096, options()).unwrap();
        segment.write_at(9, &[IoSlice::new(b"bytes")]).unwrap();
        dir.replace("b", b"other").unwrap();
        assert_eq!(
            dir.rename("a", "b").unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
        dir.rename("a", "c").unwrap();
        let mut found = [0; 5];
        dir.open("c", options())
            .unwrap()
            .read_at(9, &mut found)
            .unwrap();
        assert_eq!(&found, b"bytes");
        assert_eq!(dir.read("b").unwrap().unwrap(), b"other");
    });
}

/// How a kill in the middle of making a file once left it: there, and of no length. Whoever then listed the folder passed
/// over it, and whoever made the file failed, at every start again.
#[test]
fn a_file_has_its_name_only_when_it_is_whole() {
    for fill in [Fill::Sparse, Fill::Reserve, Fill::Zeros] {
        both(|dir| {
            let options = SegmentOptions { fill, lanes: 2 };
            let len = 3 * FILL_PIECE_BYTES + 5000;
            let mut asked = Vec::new();
            let made = dir.create_paced("s", len, options, &mut |filled| {
                asked.push(filled);
                assert_eq!(dir.list("").unwrap(), [], "not before it is whole");
                assert_eq!(dir.read("s").unwrap(), None);
                Pace::GoOn
            });
            assert_eq!(made.unwrap().len(), len);
            assert_eq!(dir.list("").unwrap()[0].len, len);
            let pieces = if fill == Fill::Zeros { 4 } else { 1 };
            assert_eq!(asked.len(), pieces, "{fill:?}: {asked:?}");
        });
    }
}

#[test]
fn what_an_interrupted_making_left_is_no_file_and_goes() {
    let folder = tempfile::tempdir().unwrap();
    let dir = DiskDirectory::open(folder.path()).unwrap();
    let next = tempfile::tempdir().unwrap();
    let mut kept = None;
    let made = dir.create_paced("s", 4096, options(), &mut |_| {
        // As the next process finds it after a kill.
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), next.path().join(entry.file_name())).unwrap();
            kept = Some(entry.file_name());
        }
        Pace::GoOn
    });
    made.unwrap();
    let kept = next.path().join(kept.unwrap());
    let dir = DiskDirectory::open(next.path()).unwrap();
    assert_eq!(dir.list("").unwrap(), []);
    dir.create("s", 4096, options()).unwrap();
    assert_eq!(dir.list("").unwrap().len(), 1);
    std::fs::write(&kept, "left").unwrap();
    dir.remove_unfinished("").unwrap();
    dir.remove_unfinished("none").unwrap();
    assert!(!kept.exists() && dir.list("").unwrap().len() == 1);
}

#[test]
fn a_file_that_is_needed_at_once_is_whole_and_one_that_is_not_wanted_leaves_nothing() {
    both(|dir| {
        let options = SegmentOptions {
            fill: Fill::Zeros,
            lanes: 1,
        };
        let len = 5 * FILL_PIECE_BYTES;
        let segment = dir.create_paced("s", len, options, &mut |filled| {
            if filled == 0 {
                Pace::GoOn
            } else {
                Pace::Enough
            }
        });
        let segment = segment.unwrap();
        let mut bytes = vec![1; usize::try_from(len).unwrap()];
        segment.read_at(0, &mut bytes).unwrap();
        assert!(bytes.iter().all(|&byte| byte == 0));
        let given_up = dir.create_paced("t", len, options, &mut |filled| {
            if filled == 0 {
                Pace::GoOn
            } else {
                Pace::GiveUp
            }
        });
        assert_eq!(
            given_up.map(drop).unwrap_err().kind(),
            ErrorKind::Interrupted
        );
        assert_eq!(dir.list("").unwrap().len(), 1);
    });
}

#[test]
fn a_making_that_fails_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let dir = DiskDirectory::open(folder.path()).unwrap();
    let made = dir.create(
        "s",
        u64::MAX >> 1,
        SegmentOptions {
            fill: Fill::Reserve,
            lanes: 1,
        },
    );
    assert!(made.is_err());
    assert!(dir.create("none/s", 4096, options()).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

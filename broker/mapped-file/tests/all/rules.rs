//! The rules of the seam, over both implementations.

use std::io::{ErrorKind, IoSlice};

use rocket_mapped_file::disk::DiskDirectory;
use rocket_mapped_file::memory::MemoryDirectory;
use rocket_mapped_file::{Directory, SegmentOptions};

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

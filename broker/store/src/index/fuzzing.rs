//! The files of the index as the fuzzer makes them; see [`crate::fuzzing`].
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a finding is a panic"
)]

use std::sync::Arc;

use rocket_mapped_file::{Directory, SegmentOptions};

use super::apache::{ApacheFiles, Sizes};
use super::block::BLOCK;
use super::run::{Opened, Run, path_of};
use super::state::State;
use super::tail;
use crate::fuzzing::folder_with;

/// A run: first page and up to two blocks, with checksums that fit unless the first byte says otherwise.
pub(crate) fn index_run(data: &[u8]) {
    let Some((&kind, data)) = data.split_first() else {
        return;
    };
    let mut pages = data.to_vec();
    pages.resize(
        pages.len().clamp(BLOCK, 3 * BLOCK).next_multiple_of(BLOCK),
        0,
    );
    if kind % 4 > 0 {
        let (head, blocks) = pages.split_at_mut(BLOCK);
        head[..8].copy_from_slice(b"RKIR\0\0\0\x01");
        head[84..88].fill(0);
        let crc = crc32fast::hash(head).to_be_bytes();
        head[84..88].copy_from_slice(&crc);
        for (number, block) in (0_u64..).zip(blocks.chunks_exact_mut(BLOCK)) {
            let covered = [&head[16..24], &number.to_be_bytes(), &block[4..]].concat();
            block[..4].copy_from_slice(&crc32fast::hash(&covered).to_be_bytes());
        }
    }
    let path = path_of(0, 100, 0);
    let dir = folder_with(&path, &pages);
    if let Opened::Run(run) = Run::open(&*dir, path).expect("a short page is none") {
        for hash in [0, 1, 0x8000_0000, u32::MAX] {
            let mut left = 100;
            let _ = run.lookup(hash, (0, i64::MAX), &mut |_| {
                left -= 1;
                left > 0
            });
        }
    }
}

/// Frames of a tail: the input is cut into heads and keys, with a checksum that fits unless the first byte says otherwise.
pub(crate) fn index_tail(data: &[u8]) {
    let Some((&kind, data)) = data.split_first() else {
        return;
    };
    let mut file = Vec::new();
    if kind % 4 == 0 {
        file.extend_from_slice(data);
    } else {
        let len = usize::from(kind).max(48);
        for frame in data.chunks(len).filter(|frame| frame.len() >= 44) {
            let (head, keys) = frame.split_at(44);
            let from = file.len();
            file.extend_from_slice(b"RKIT");
            file.extend_from_slice(&u32::try_from(keys.len()).unwrap().to_be_bytes());
            file.extend_from_slice(head);
            let crc = crc32fast::hash(&[&file[from..], keys].concat());
            file.extend_from_slice(&crc.to_be_bytes());
            file.extend_from_slice(keys);
        }
    }
    let dir = folder_with("rocket/index/tail-0", &file);
    let segment = dir.open("rocket/index/tail-0", SegmentOptions::default());
    for frame in tail::load(&*segment.unwrap()).expect("what is no frame ends the list") {
        assert!(frame.end <= file.len() as u64);
    }
}

/// The note beside the runs.
pub(crate) fn index_state(data: &[u8]) {
    let mut dressed = b"RKIS\0\0\0\x01".to_vec();
    dressed.extend_from_slice(data);
    let crc = crc32fast::hash(&dressed).to_be_bytes();
    dressed.extend_from_slice(&crc);
    for content in [data, &dressed] {
        let _ = State::read(&*folder_with("rocket/index/state", content)).unwrap();
    }
}

/// An index file that Apache's broker wrote: looked through, and cut after a crash.
pub(crate) fn apache_index(data: &[u8]) {
    let sizes = Sizes {
        slots: 7,
        entries: 20,
    };
    let mut file = data.to_vec();
    file.resize(usize::try_from(sizes.file_bytes()).unwrap(), 0);
    let dir: Arc<dyn Directory> = folder_with("index/20260101000000000", &file);
    let mut files = ApacheFiles::open(&*dir, sizes).expect("any bytes are entries");
    let look = |files: &ApacheFiles| {
        let _ = files.newest();
        for hash in 0..7 {
            let mut left = 100;
            let _ = files.lookup(hash, 0, i64::MAX, |_| {
                left -= 1;
                left > 0
            });
        }
    };
    look(&files);
    files.keep_before(&*dir, 1 << 40).unwrap();
    look(&files);
    let _ = files.remove_before(&*dir, 1 << 20);
}

//! The page cache: writing into it, and reading a mapped file out of it.

use std::io::IoSlice;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use rocket_mapped_file::disk::DiskDirectory;
use rocket_mapped_file::{Directory, Segment, SegmentOptions};

use super::flush::{Scratch, fill};
use super::megabytes_per_second;

const FILE_BYTES: u64 = 64 << 20;
const WRITE_BYTES: usize = 64 << 10;

/// `pwrite` of 64 KiB, again and again over 64 MiB that are in the cache.
pub(super) fn pwrite(dir: &Path, time: Duration) -> anyhow::Result<f64> {
    let scratch = Scratch::new(dir, "rocket-bench-cache")?;
    let file = scratch.open()?;
    fill(&file, FILE_BYTES)?;
    let data = vec![0x5a_u8; WRITE_BYTES];
    let begin = Instant::now();
    let mut bytes = 0;
    while bytes == 0 || begin.elapsed() < time {
        file.write_all_at(&data, bytes % FILE_BYTES)?;
        bytes += WRITE_BYTES as u64;
    }
    Ok(megabytes_per_second(bytes, begin.elapsed().as_secs_f64()))
}

/// Copies of 64 KiB out of a map of a cached file, the way the broker's store reads.
pub(super) fn map_read(dir: &Path, time: Duration) -> anyhow::Result<f64> {
    let name = format!("rocket-bench-map-{}", std::process::id());
    let directory = DiskDirectory::open(dir)?;
    let segment = directory.create(&name, FILE_BYTES, SegmentOptions::default())?;
    let outcome = read_through(segment.as_ref(), time);
    directory.remove(&name)?;
    outcome
}

fn read_through(segment: &dyn Segment, time: Duration) -> anyhow::Result<f64> {
    let data = vec![0x5a_u8; 1 << 20];
    for at in (0..FILE_BYTES).step_by(data.len()) {
        segment.write_at(at, &[IoSlice::new(&data)])?;
    }
    segment.publish(FILE_BYTES);
    let mut copy = vec![0_u8; WRITE_BYTES];
    let begin = Instant::now();
    let mut bytes = 0;
    while bytes == 0 || begin.elapsed() < time {
        let piece = segment
            .lease(bytes % FILE_BYTES, WRITE_BYTES)?
            .context("bytes that were published")?;
        copy.copy_from_slice(&piece);
        std::hint::black_box(&mut copy);
        bytes += WRITE_BYTES as u64;
    }
    Ok(megabytes_per_second(bytes, begin.elapsed().as_secs_f64()))
}

//! `pwrite` and `fdatasync`: one after the other, and several at once on files of their own descriptor.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;
use rustix::fs::{FallocateFlags, fallocate};
use serde::{Deserialize, Serialize};

use super::pattern_bytes;
use crate::load::latency::{Percentiles, histogram, record};
use crate::load::nanos;

const SIZES: [u32; 2] = [4096, 65536];
const DEPTHS: [u32; 4] = [1, 2, 4, 8];
const PATTERN_LANES: [u32; 3] = [2, 4, 8];

/// Bytes of the file that is written over and over.
const ZEROS_BYTES: u64 = 64 << 20;

/// Bytes for one combination in the file with reserved blocks: what a fast disk takes in the time.
const REGION_BYTES: u64 = 192 << 20;

/// How a file's blocks came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// Reserved; a flush has to note that they were written.
    Fallocated,
    /// Written before; a flush has no metadata to write.
    Zeros,
}

/// One combination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Flush {
    /// The file.
    pub file: FileKind,
    /// Bytes of each write.
    pub bytes: u32,
    /// How many are under way at once.
    pub depth: u32,
    /// Writes with their flush per second.
    pub per_s: f64,
    /// Half took no longer than this many µs.
    pub p50_us: f64,
    /// 99 of 100 took no longer.
    pub p99_us: f64,
}

/// Each combination for `time`.
pub(super) fn measure(dir: &Path, time: Duration) -> anyhow::Result<Vec<Flush>> {
    let mut combinations = Vec::new();
    for bytes in SIZES {
        combinations.extend(DEPTHS.map(|depth| (bytes, depth)));
    }
    combinations.extend(PATTERN_LANES.map(|lanes| (pattern_bytes(lanes), lanes)));
    let mut all = Vec::new();
    for kind in [FileKind::Fallocated, FileKind::Zeros] {
        let scratch = Scratch::new(dir, "rocket-bench-flush")?;
        let file = scratch.open()?;
        let regions = combinations.len() as u64;
        match kind {
            FileKind::Fallocated => {
                fallocate(&file, FallocateFlags::empty(), 0, regions * REGION_BYTES)
                    .context("reserving blocks")?;
            }
            FileKind::Zeros => fill(&file, ZEROS_BYTES)?,
        }
        file.sync_all()?;
        for (number, (bytes, depth)) in (0_u64..).zip(&combinations) {
            let region = match kind {
                FileKind::Fallocated => {
                    Region::once(number * REGION_BYTES, REGION_BYTES, u64::from(*bytes))
                }
                FileKind::Zeros => Region::again(ZEROS_BYTES, u64::from(*bytes)),
            };
            all.push(run(&scratch, kind, (*bytes, *depth), &region, time)?);
        }
    }
    Ok(all)
}

/// Writes zeros, so that the blocks are no longer merely reserved.
pub(super) fn fill(file: &File, bytes: u64) -> anyhow::Result<()> {
    let zeros = vec![0_u8; 1 << 20];
    for at in (0..bytes).step_by(zeros.len()) {
        file.write_all_at(&zeros, at)?;
    }
    Ok(())
}

/// Where the next write goes.
struct Region {
    start: u64,
    places: u64,
    bytes: u64,
    wraps: bool,
    next: AtomicU64,
}

impl Region {
    fn once(start: u64, len: u64, bytes: u64) -> Self {
        Self {
            start,
            places: len / bytes,
            bytes,
            wraps: false,
            next: AtomicU64::new(0),
        }
    }

    fn again(len: u64, bytes: u64) -> Self {
        Self {
            wraps: true,
            ..Self::once(0, len, bytes)
        }
    }

    fn take(&self) -> Option<u64> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let place = if self.wraps {
            number % self.places
        } else {
            number
        };
        (place < self.places).then(|| self.start + place * self.bytes)
    }
}

fn run(
    scratch: &Scratch,
    kind: FileKind,
    (bytes, depth): (u32, u32),
    region: &Region,
    time: Duration,
) -> anyhow::Result<Flush> {
    let begin = Instant::now();
    let lane = || -> anyhow::Result<Histogram<u64>> {
        let file = scratch.open()?;
        let data = vec![0x5a_u8; bytes as usize];
        let mut latencies = histogram();
        while latencies.is_empty() || begin.elapsed() < time {
            let Some(at) = region.take() else { break };
            let start = Instant::now();
            file.write_all_at(&data, at)?;
            file.sync_data()?;
            record(&mut latencies, nanos(start.elapsed()));
        }
        Ok(latencies)
    };
    let lanes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..depth).map(|_| scope.spawn(lane)).collect();
        threads
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect()
    });
    let seconds = begin.elapsed().as_secs_f64();
    let mut latencies = histogram();
    for lane in lanes {
        let lane = lane.map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        latencies.add(lane)?;
    }
    let percentiles = Percentiles::of(&latencies);
    #[expect(
        clippy::cast_precision_loss,
        reason = "a rate needs no more than 53 bits"
    )]
    Ok(Flush {
        file: kind,
        bytes,
        depth,
        per_s: latencies.len() as f64 / seconds,
        p50_us: percentiles.p50,
        p99_us: percentiles.p99,
    })
}

/// A file that goes with this value.
pub(super) struct Scratch(std::path::PathBuf);

impl Scratch {
    pub(super) fn new(dir: &Path, name: &str) -> anyhow::Result<Self> {
        let path = dir.join(format!("{name}-{}", std::process::id()));
        File::create(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }

    pub(super) fn open(&self) -> anyhow::Result<File> {
        File::options()
            .read(true)
            .write(true)
            .open(&self.0)
            .with_context(|| self.0.display().to_string())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

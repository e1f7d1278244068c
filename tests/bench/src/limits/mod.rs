//! What this machine can do right now: the figures that a broker's are held against, in less than ten seconds.
//!
//! A virtual machine's disk and cores are not the same from one minute to the next, so every comparison runs this before and
//! after, and does not count what it measured between two runs that differ too much ([`Limits::drift`]).

mod cpu;
mod flush;
mod memory;
mod network;

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use flush::{FileKind, Flush};

/// Requests in flight whose flush pattern is measured: 8 connections with 8 each.
pub const PATTERN_IN_FLIGHT: u32 = 64;

/// Bytes of a record with a body of 1 KiB, in that pattern.
pub const PATTERN_RECORD_BYTES: u32 = 1280;

/// With this time for each figure the whole takes about six seconds.
pub const USUAL_TIME: Duration = Duration::from_millis(130);

/// All figures. MB are 10^6 bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Write and flush, by file, size and depth.
    pub flushes: Vec<Flush>,
    /// `pwrite` of 64 KiB into the page cache, MB/s.
    pub pwrite_mb_per_s: f64,
    /// Copying out of a mapped file in the page cache, MB/s.
    pub map_read_mb_per_s: f64,
    /// `sendfile` of a cached file into a loopback connection, MB/s.
    pub sendfile_mb_per_s: f64,
    /// The same per CPU second of the sending thread.
    pub sendfile_mb_per_cpu_s: f64,
    /// From a loopback connection into a file with `pwrite`, MB/s.
    pub receive_pwrite_mb_per_s: f64,
    /// Round trips of 1 KiB and 64 B answered, one at a time, per second.
    pub echo_1_per_s: f64,
    /// Half of these round trips are not slower, µs.
    pub echo_1_p50_us: f64,
    /// The same with 64 in flight, per second.
    pub echo_64_per_s: f64,
    /// Steps of a loop without memory access on one core, 10^6 per second.
    pub cpu_million_per_s: f64,
}

/// Measures everything with files in `dir`, each figure for `time` ([`USUAL_TIME`]) or twice that; `progress` is told what comes next.
///
/// # Errors
/// Files or loopback connections cannot be made.
pub fn measure(
    dir: &Path,
    time: Duration,
    progress: &mut dyn FnMut(&str),
) -> anyhow::Result<Limits> {
    progress("processor");
    let cpu = cpu::million_per_second();
    progress("flush");
    let flushes = flush::measure(dir, time)?;
    progress("page cache");
    let pwrite = memory::pwrite(dir, time)?;
    let map_read = memory::map_read(dir, time)?;
    progress("network");
    let (sendfile, sendfile_cpu) = network::sendfile(dir, 2 * time)?;
    let receive = network::receive_pwrite(dir, 2 * time)?;
    let (echo_1, p50) = network::echo(1, 2 * time)?;
    let (echo_64, _) = network::echo(64, 2 * time)?;
    Ok(Limits {
        flushes,
        pwrite_mb_per_s: pwrite,
        map_read_mb_per_s: map_read,
        sendfile_mb_per_s: sendfile,
        sendfile_mb_per_cpu_s: sendfile_cpu,
        receive_pwrite_mb_per_s: receive,
        echo_1_per_s: echo_1,
        echo_1_p50_us: p50,
        echo_64_per_s: echo_64,
        cpu_million_per_s: cpu,
    })
}

impl Limits {
    /// The flush of this file, size and depth.
    pub fn flush(&self, file: FileKind, bytes: u32, depth: u32) -> Option<&Flush> {
        self.flushes
            .iter()
            .find(|flush| (flush.file, flush.bytes, flush.depth) == (file, bytes, depth))
    }

    /// Messages of 1 KiB per second that 64 requests in flight could have, were there nothing but flushes: the best over the
    /// number of lanes that share them and over the kinds of files.
    pub fn sync_messages_per_s(&self) -> f64 {
        self.flushes
            .iter()
            .filter(|flush| flush.bytes == pattern_bytes(flush.depth))
            .map(|flush| flush.per_s * f64::from(PATTERN_IN_FLIGHT / flush.depth))
            .fold(0.0, f64::max)
    }

    /// The best median of one small flush at a time, µs.
    pub fn flush_p50_us(&self) -> f64 {
        self.flushes
            .iter()
            .filter(|flush| (flush.bytes, flush.depth) == (4096, 1))
            .map(|flush| flush.p50_us)
            .fold(f64::INFINITY, f64::min)
    }

    /// By which factor the two differ where they differ most, and where that is. The single round trip is left out: it tells
    /// mostly how long an idle core takes to wake.
    pub fn drift(&self, other: &Self) -> (f64, &'static str) {
        type Figure = (&'static str, fn(&Limits) -> f64);
        let figures: [Figure; 5] = [
            ("flush of 4 KiB, one at a time", |limits| {
                rate(limits, FileKind::Fallocated, 4096, 1)
            }),
            ("flush of 64 KiB, four at a time", |limits| {
                rate(limits, FileKind::Fallocated, 65536, 4)
            }),
            ("pwrite", |limits| limits.pwrite_mb_per_s),
            ("TCP with 64 in flight", |limits| limits.echo_64_per_s),
            ("processor", |limits| limits.cpu_million_per_s),
        ];
        figures
            .iter()
            .map(|(name, figure)| {
                let (a, b) = (figure(self), figure(other));
                (if a > b { a / b } else { b / a }, *name)
            })
            .fold(
                (1.0, "nothing"),
                |worst, one| {
                    if one.0 > worst.0 { one } else { worst }
                },
            )
    }
}

fn rate(limits: &Limits, file: FileKind, bytes: u32, depth: u32) -> f64 {
    limits
        .flush(file, bytes, depth)
        .map_or(f64::NAN, |flush| flush.per_s)
}

/// Bytes of one flush when `lanes` share the pattern's requests.
fn pattern_bytes(lanes: u32) -> u32 {
    PATTERN_IN_FLIGHT / lanes * PATTERN_RECORD_BYTES
}

/// Megabytes per second.
#[expect(
    clippy::cast_precision_loss,
    reason = "a rate needs no more than 53 bits"
)]
fn megabytes_per_second(bytes: u64, seconds: f64) -> f64 {
    bytes as f64 / 1e6 / seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(flush_per_s: f64) -> Limits {
        let flush = |bytes, depth, per_s| Flush {
            file: FileKind::Fallocated,
            bytes,
            depth,
            per_s,
            p50_us: 100.0,
            p99_us: 200.0,
        };
        Limits {
            flushes: vec![
                flush(4096, 1, flush_per_s),
                flush(65536, 4, 1000.0),
                flush(pattern_bytes(2), 2, 9000.0),
                flush(pattern_bytes(8), 8, 20_000.0),
            ],
            pwrite_mb_per_s: 2000.0,
            map_read_mb_per_s: 5000.0,
            sendfile_mb_per_s: 3000.0,
            sendfile_mb_per_cpu_s: 4000.0,
            receive_pwrite_mb_per_s: 1000.0,
            echo_1_per_s: 20_000.0,
            echo_1_p50_us: 50.0,
            echo_64_per_s: 800_000.0,
            cpu_million_per_s: 700.0,
        }
    }

    #[test]
    fn drift_is_the_largest_factor_in_either_direction_and_names_its_place() {
        let (usual, slow) = (limits(5000.0), limits(3000.0));
        for (a, b) in [(&usual, &slow), (&slow, &usual)] {
            let (factor, place) = a.drift(b);
            assert!((factor - 5.0 / 3.0).abs() < 1e-9);
            assert_eq!(place, "flush of 4 KiB, one at a time");
        }
        assert!((usual.drift(&usual).0 - 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_limit_of_synchronous_sends_is_the_best_of_the_patterns() {
        // 9,000 flushes of 32 messages beat 20,000 of 8.
        assert!((limits(1.0).sync_messages_per_s() - 288_000.0).abs() < 1e-6);
    }

    #[test]
    fn all_figures_are_measured_in_a_folder_that_is_empty_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let mut told = Vec::new();
        let limits = measure(dir.path(), Duration::from_millis(5), &mut |what| {
            told.push(what.to_owned());
        })
        .unwrap();
        assert_eq!(told.len(), 4);
        for flush in &limits.flushes {
            assert!(flush.per_s > 0.0 && flush.p50_us > 0.0, "{flush:?}");
        }
        assert_eq!(limits.flushes.len(), 22);
        assert!(limits.flush(FileKind::Zeros, 65536, 8).is_some());
        assert!(limits.sync_messages_per_s() > 0.0 && limits.flush_p50_us().is_finite());
        for figure in [
            limits.pwrite_mb_per_s,
            limits.map_read_mb_per_s,
            limits.sendfile_mb_per_s,
            limits.sendfile_mb_per_cpu_s,
            limits.receive_pwrite_mb_per_s,
            limits.echo_1_per_s,
            limits.echo_64_per_s,
            limits.cpu_million_per_s,
        ] {
            assert!(figure.is_finite() && figure > 0.0, "{limits:?}");
        }
        assert!(limits.drift(&limits).0 < 1.0 + 1e-9);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

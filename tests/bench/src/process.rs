//! What processes cost while something is measured: CPU, memory, bytes to the device, as `/proc` tells it.
//!
//! *Foreign* CPU is what other programs used: all user and system time and all time that the hypervisor gave to others, less
//! the processes that are measured, this one, and the kernel's own threads. A measurement beside foreign work is worth nothing.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// Ticks of `/proc` per second (USER_HZ, the same on every Linux that we run on).
const TICKS: f64 = 100.0;

/// Flag of kernel threads in `/proc/PID/stat` (PF_KTHREAD).
const KERNEL_THREAD: u64 = 0x0020_0000;

/// Counters of one process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Process {
    /// User and system time in ticks.
    pub cpu_ticks: u64,
    /// Bytes that it caused to be written to devices, less those of files removed before.
    pub write_bytes: u64,
    /// Bytes that it caused to be read from devices.
    pub read_bytes: u64,
    /// Anonymous memory in bytes: what is really its own.
    pub anonymous_bytes: u64,
}

impl Process {
    /// Reads the counters; all zero when there is no such process.
    pub fn read(pid: u32) -> Self {
        let file =
            |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let io = file("io");
        let written =
            field(&io, "write_bytes:").saturating_sub(field(&io, "cancelled_write_bytes:"));
        Self {
            cpu_ticks: cpu_ticks(&file("stat")).unwrap_or(0),
            write_bytes: written,
            read_bytes: field(&io, "read_bytes:"),
            anonymous_bytes: field(&file("status"), "RssAnon:") * 1024,
        }
    }
}

/// Bytes that the threads called `name` of a process caused to be written to devices; 0 without such a thread.
pub fn written_by_threads(pid: u32, name: &str) -> u64 {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return 0;
    };
    let read = |thread: &fs::DirEntry, file| fs::read_to_string(thread.path().join(file)).ok();
    threads
        .flatten()
        .filter(|thread| read(thread, "comm").is_some_and(|comm| comm.trim_end() == name))
        .filter_map(|thread| Some(field(&read(&thread, "io")?, "write_bytes:")))
        .sum()
}

/// The block device that holds a folder.
#[derive(Debug, Clone)]
pub struct Device {
    stat: PathBuf,
}

impl Device {
    /// `None` where the file system has no block device that tells what is written to it.
    pub fn of(folder: &Path) -> Option<Self> {
        let device = fs::metadata(folder).ok()?.dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let stat = PathBuf::from(format!("/sys/dev/block/{major}:{minor}/stat"));
        let it = Self { stat };
        it.written()?;
        Some(it)
    }

    /// Bytes written to it since the machine began, by whomever.
    pub fn written(&self) -> Option<u64> {
        // Documentation/block/stat.rst: write sectors, of 512 bytes each, are the seventh field.
        let text = fs::read_to_string(&self.stat).ok()?;
        let sectors: u64 = text.split_whitespace().nth(6)?.parse().ok()?;
        Some(sectors * 512)
    }
}

fn field(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

/// Fields of `/proc/PID/stat` behind the command's name, which may hold anything; the first is the state.
fn stat_fields(stat: &str) -> Option<Vec<&str>> {
    let (_, rest) = stat.rsplit_once(')')?;
    Some(rest.split_whitespace().collect())
}

fn cpu_ticks(stat: &str) -> Option<u64> {
    let fields = stat_fields(stat)?;
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(ticks(11)? + ticks(12)?)
}

fn kernel_thread_ticks() -> u64 {
    let mut sum = 0;
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let is_pid = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        if !is_pid {
            continue;
        }
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let flags = stat_fields(&stat)
            .and_then(|fields| fields.get(6)?.parse::<u64>().ok())
            .unwrap_or(0);
        if flags & KERNEL_THREAD != 0 {
            sum += cpu_ticks(&stat).unwrap_or(0);
        }
    }
    sum
}

/// Time of all cores in ticks: programs, and what the hypervisor took.
fn system_ticks() -> (u64, u64) {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let numbers: Vec<u64> = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .map(|number| number.parse().unwrap_or(0))
        .collect();
    let at = |index: usize| numbers.get(index).copied().unwrap_or(0);
    (at(0) + at(1) + at(2), at(7))
}

/// All counters at one moment.
#[derive(Debug, Clone)]
pub struct Sample {
    at: Instant,
    targets: Vec<Process>,
    own: Process,
    programs: u64,
    stolen: u64,
    kernel: u64,
}

impl Sample {
    /// Reads them.
    pub fn read(targets: &[u32]) -> Self {
        let (programs, stolen) = system_ticks();
        Self {
            at: Instant::now(),
            targets: targets.iter().map(|pid| Process::read(*pid)).collect(),
            own: Process::read(std::process::id()),
            programs,
            stolen,
            kernel: kernel_thread_ticks(),
        }
    }
}

/// What was used between two samples. Cores are CPU seconds per second.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Seconds between the samples.
    pub seconds: f64,
    /// Cores of the measured processes.
    pub target_cores: f64,
    /// Cores of this process: the generator.
    pub own_cores: f64,
    /// Cores of the kernel's threads: writeback, block layer.
    pub kernel_cores: f64,
    /// Cores of all others.
    pub foreign_cores: f64,
    /// Bytes that the measured processes caused to be written to devices.
    pub write_bytes: u64,
    /// Bytes that they caused to be read from devices.
    pub read_bytes: u64,
    /// Their anonymous memory at the end.
    pub anonymous_bytes: u64,
}

impl Usage {
    /// The difference of two samples of the same processes.
    #[expect(
        clippy::cast_precision_loss,
        reason = "ticks of a run need no more than 53 bits"
    )]
    pub fn between(begin: &Sample, end: &Sample) -> Self {
        let seconds = end.at.duration_since(begin.at).as_secs_f64().max(1e-9);
        let cores = |ticks: u64| ticks as f64 / TICKS / seconds;
        let sum = |sample: &Sample, what: fn(&Process) -> u64| -> u64 {
            sample.targets.iter().map(what).sum()
        };
        let grown = |what: fn(&Process) -> u64| sum(end, what).saturating_sub(sum(begin, what));
        let target = grown(|process| process.cpu_ticks);
        let own = end.own.cpu_ticks.saturating_sub(begin.own.cpu_ticks);
        let kernel = end.kernel.saturating_sub(begin.kernel);
        let all =
            end.programs.saturating_sub(begin.programs) + end.stolen.saturating_sub(begin.stolen);
        Self {
            seconds,
            target_cores: cores(target),
            own_cores: cores(own),
            kernel_cores: cores(kernel),
            foreign_cores: cores(all.saturating_sub(target + own + kernel)),
            write_bytes: grown(|process| process.write_bytes),
            read_bytes: grown(|process| process.read_bytes),
            anonymous_bytes: sum(end, |process| process.anonymous_bytes),
        }
    }

    /// CPU seconds of the measured processes.
    pub fn target_seconds(&self) -> f64 {
        self.target_cores * self.seconds
    }
}

/// Samples at the two ends of a run's window.
#[derive(Debug)]
pub struct Meter {
    targets: Vec<u32>,
    begin: Option<Sample>,
    end: Option<Sample>,
}

impl Meter {
    /// Of these processes.
    pub fn new(targets: &[u32]) -> Self {
        Self {
            targets: targets.to_vec(),
            begin: None,
            end: None,
        }
    }

    /// What was used; zeros when the run had no window.
    pub fn usage(&self) -> Usage {
        match (&self.begin, &self.end) {
            (Some(begin), Some(end)) => Usage::between(begin, end),
            _ => Usage::default(),
        }
    }
}

impl crate::load::Watch for Meter {
    fn begin(&mut self) {
        self.begin = Some(Sample::read(&self.targets));
    }

    fn end(&mut self) {
        self.end = Some(Sample::read(&self.targets));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_process_is_seen_as_its_own_and_not_as_foreign() {
        let own = std::process::id();
        let begin = Sample::read(&[]);
        let start = Instant::now();
        let mut number = 1_u64;
        while start.elapsed().as_millis() < 300 {
            number = std::hint::black_box(number.wrapping_mul(3));
        }
        let usage = Usage::between(&begin, &Sample::read(&[]));
        assert!(usage.own_cores > 0.1, "{usage:?}");
        assert!(Process::read(own).anonymous_bytes > 0);
        assert_eq!(Process::read(u32::MAX), Process::default());
    }

    #[test]
    fn a_command_name_with_a_parenthesis_does_not_shift_fields() {
        let stat = "7 (a) b (c) R 1 7 7 0 -1 4194304 1 2 3 4 50 60 0 0 20 0 1 0 9 9";
        assert_eq!(cpu_ticks(stat), Some(110));
    }

    fn sample(at: Instant, target: u64, own: u64, programs: u64, stolen: u64) -> Sample {
        let process = |cpu_ticks| Process {
            cpu_ticks,
            ..Process::default()
        };
        Sample {
            at,
            targets: vec![process(target)],
            own: process(own),
            programs,
            stolen,
            kernel: 0,
        }
    }

    #[test]
    fn what_is_flushed_to_a_device_is_counted() {
        let folder = tempfile::tempdir_in(".").unwrap();
        let Some(device) = Device::of(folder.path()) else {
            return;
        };
        let before = device.written().unwrap();
        let mut file = fs::File::create(folder.path().join("f")).unwrap();
        std::io::Write::write_all(&mut file, &vec![1; 1 << 16]).unwrap();
        file.sync_all().unwrap();
        assert!(device.written().unwrap() >= before + (1 << 16));
    }

    #[test]
    fn what_is_neither_target_nor_own_is_foreign_and_stolen_time_too() {
        let begin = Instant::now();
        let end = begin + std::time::Duration::from_secs(10);
        let usage = Usage::between(
            &sample(begin, 100, 10, 1000, 0),
            &sample(end, 1100, 310, 2700, 100),
        );
        let near = |value: f64, wanted: f64| assert!((value - wanted).abs() < 1e-9, "{usage:?}");
        near(usage.target_cores, 1.0);
        near(usage.own_cores, 0.3);
        near(usage.foreign_cores, 0.5);
        near(usage.target_seconds(), 10.0);
    }
}

//! What a row gave, as one line of JSON: everything that the report is made from.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::pairs::{DRIFT_MAX, Figures, Pair};
use super::row::Row;
use crate::limits::Limits;

/// Where it was measured, and what.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Setting {
    /// Day, UTC.
    pub date: String,
    /// Processor and number of cores.
    pub processor: String,
    /// Memory.
    pub memory: String,
    /// Kernel.
    pub kernel: String,
    /// File system of the stores.
    pub file_system: String,
    /// Our version and revision.
    pub ours: String,
    /// Apache's version.
    pub apache: String,
    /// The Java that runs it.
    pub java: String,
    /// Cores that both brokers may use; empty for all.
    pub cores: String,
}

/// A measured row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Which.
    pub row: Row,
    /// Where and what.
    pub setting: Setting,
    /// How long and how much, in words.
    pub parameters: String,
    /// Whether durations were cut short to try the tools.
    pub quick: bool,
    /// Limits before the first pair.
    pub limits_before: Limits,
    /// Limits after the last pair.
    pub limits_after: Limits,
    /// Pairs that count.
    pub pairs: Vec<Pair>,
    /// Why others do not.
    pub refused: Vec<String>,
    /// What else happened, in whole sentences.
    pub remarks: Vec<String>,
    /// Points of a curve: in-flight, and both brokers' figures.
    #[serde(default)]
    pub curve: Vec<(u32, Figures, Figures)>,
}

impl Outcome {
    /// The mean of the limits before and after, where targets use them.
    pub fn limits(&self) -> Limits {
        let (before, after) = (&self.limits_before, &self.limits_after);
        let mean = f64::midpoint;
        let mut limits = before.clone();
        for (flush, later) in limits.flushes.iter_mut().zip(&after.flushes) {
            flush.per_s = mean(flush.per_s, later.per_s);
            flush.p50_us = mean(flush.p50_us, later.p50_us);
            flush.p99_us = mean(flush.p99_us, later.p99_us);
        }
        for (own, later) in [
            (&mut limits.pwrite_mb_per_s, after.pwrite_mb_per_s),
            (&mut limits.map_read_mb_per_s, after.map_read_mb_per_s),
            (&mut limits.sendfile_mb_per_s, after.sendfile_mb_per_s),
            (
                &mut limits.sendfile_mb_per_cpu_s,
                after.sendfile_mb_per_cpu_s,
            ),
            (
                &mut limits.receive_pwrite_mb_per_s,
                after.receive_pwrite_mb_per_s,
            ),
            (&mut limits.echo_1_per_s, after.echo_1_per_s),
            (&mut limits.echo_1_p50_us, after.echo_1_p50_us),
            (&mut limits.echo_64_per_s, after.echo_64_per_s),
            (&mut limits.cpu_million_per_s, after.cpu_million_per_s),
        ] {
            *own = mean(*own, later);
        }
        limits
    }

    /// By how much the machine changed meanwhile, if that is too much. Counts and bytes of memory do not depend on it, and a
    /// try of the tools counts nothing.
    pub fn drift(&self) -> Option<String> {
        let (factor, place) = self.limits_before.drift(&self.limits_after);
        let matters = !self.quick && !matches!(self.row, Row::P11 | Row::P12);
        (matters && factor > DRIFT_MAX).then(|| {
            format!(
                "the machine changed meanwhile: {place} differs by {factor:.2}× before and after"
            )
        })
    }

    /// Why the row as a whole does not count, if so.
    pub fn refusal(&self) -> Option<String> {
        if let Some(why) = self.drift() {
            return Some(why);
        }
        if self.pairs.is_empty() && self.curve.is_empty() {
            return Some(match self.refused.last() {
                Some(why) => format!("no pair counts: {why}"),
                None => "no pair was measured".to_owned(),
            });
        }
        None
    }
}

/// Appends to `path`, one line each.
///
/// # Errors
/// As writing.
pub fn append(path: &Path, outcome: &Outcome) -> anyhow::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    }
    let mut file = fs::File::options()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| path.display().to_string())?;
    let mut line = serde_json::to_vec(outcome)?;
    line.push(b'\n');
    file.write_all(&line)?;
    Ok(())
}

/// The latest outcome of each row in all `*.json` files of a folder, by their names' order; full runs win over quick ones. None where
/// there is no such folder yet.
///
/// # Errors
/// A file that cannot be read.
pub fn latest(dir: &Path) -> anyhow::Result<Vec<Outcome>> {
    if !dir.try_exists()? {
        return Ok(Vec::new());
    }
    let mut files: Vec<_> = fs::read_dir(dir)
        .with_context(|| dir.display().to_string())?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .collect();
    files.sort();
    let mut rows: std::collections::BTreeMap<Row, Outcome> = std::collections::BTreeMap::new();
    for path in files {
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let outcome: Outcome =
                serde_json::from_str(line).with_context(|| path.display().to_string())?;
            let better = |known: &Outcome| {
                (known.refusal().is_none(), !known.quick)
                    > (outcome.refusal().is_none(), !outcome.quick)
            };
            if !rows.get(&outcome.row).is_some_and(better) {
                rows.insert(outcome.row, outcome);
            }
        }
    }
    Ok(rows.into_values().collect())
}

/// What a program said; nothing when it failed.
fn said(program: &str, args: &[&str]) -> String {
    match Command::new(program).args(args).output() {
        Ok(output) if output.status.success() => {
            // Java tells its version on standard error.
            let both = [output.stdout, output.stderr].concat();
            String::from_utf8_lossy(&both).trim().to_owned()
        }
        _ => "unknown".to_owned(),
    }
}

impl Setting {
    /// Asks the machine.
    pub fn here(dir: &Path, apache: &str, cores: &str) -> Self {
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpus
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("processor", |(_, name)| name);
        let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kibibytes: u64 = memory
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .unwrap_or(0);
        let version = said("java", &["-version"]);
        Self {
            date: said("date", &["-u", "+%Y-%m-%d"]),
            processor: format!("{count} cores, {model}"),
            memory: format!("{} GiB", (kibibytes + (1 << 19)) >> 20),
            kernel: said("uname", &["-sr"]),
            file_system: said("stat", &["-f", "-c", "%T", &dir.display().to_string()]),
            ours: format!(
                "{} ({})",
                env!("CARGO_PKG_VERSION"),
                said("git", &["describe", "--always", "--dirty"])
            ),
            apache: apache.to_owned(),
            java: version.lines().nth(1).unwrap_or(&version).to_owned(),
            cores: cores.to_owned(),
        }
    }
}

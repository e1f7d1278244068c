//! Apache's broker and ours on the same machine, measured in interleaved pairs.
//!
//! One command starts both, warms Java's compiler, measures the limits of the machine before and after each row, runs the row's
//! pairs with the same generator and the same frames, and appends what it found as one line of JSON. The report is made from
//! these lines alone.

mod counts;
mod launch;
mod memory;
pub mod pairs;
pub mod record;
mod recovery;
mod replicated;
pub mod report;
pub mod row;
mod scrape;
mod sends;
mod server;
mod slow;
mod stage;
pub mod svg;
mod targets;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use rocket_protocol::command::HeaderFormat;

use crate::limits::{self, Limits};
use pairs::FOREIGN_CORES_MAX;
use record::{Outcome, Setting};
use row::Row;
use server::{Cast, Flush, NameServer};
use stage::Stage;

/// The machine changed when so many runs of the limits in a row say so: each is a few seconds, and one disturbance is no drift.
const LIMITS_TRIES: u32 = 3;

/// How a comparison is to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Rows, in this order.
    pub rows: Vec<Row>,
    /// Pairs of a row that must count.
    pub pairs: usize,
    /// Pairs of the rows that take minutes each.
    pub slow_pairs: usize,
    /// Measured time of one run.
    pub measured: Duration,
    /// Warming of Apache's broker after its start.
    pub warm: Duration,
    /// Whether durations are cut short to try the tools.
    pub quick: bool,
    /// Measured time of a run of P5.
    pub open_loop: Duration,
    /// Backlog of P8 in bytes.
    pub backlog_bytes: u64,
    /// Queues of P9: topics and queues of each.
    pub many_queues: (u32, u32),
    /// The same for the aim, with our broker alone; 0 topics leaves it out.
    pub million_queues: (u32, u32),
    /// Sizes of the logs of P10 in bytes.
    pub log_bytes: (u64, u64),
    /// Both stores together are emptied beyond this size, between pairs.
    pub store_bytes_max: u64,
    /// Cores of both brokers, as `taskset -c` takes them.
    pub cores: Option<String>,
    /// Form of the headers.
    pub header: HeaderFormat,
    /// Further keys of our broker's configuration.
    pub set: Vec<String>,
    /// Folder with Apache's jars and what they need.
    pub apache_jars: PathBuf,
    /// Apache's version.
    pub apache_version: String,
    /// Our broker.
    pub broker_bin: PathBuf,
    /// Folder of stores and logs, on the disk that is to be measured.
    pub work: PathBuf,
    /// File that outcomes are appended to.
    pub results: PathBuf,
}

impl Options {
    /// A try of the tools counts nothing, so it refuses nothing.
    fn foreign_max(&self) -> f64 {
        if self.quick {
            f64::INFINITY
        } else {
            FOREIGN_CORES_MAX
        }
    }

    fn pairs_of(&self, row: Row) -> usize {
        if row.is_slow() {
            self.slow_pairs
        } else {
            self.pairs
        }
    }

    /// About how many seconds a row takes; rough, for the progress.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn estimate(&self, row: Row) -> f64 {
        let pairs = self.pairs_of(row) as f64;
        let run = self.measured.as_secs_f64() * 1.2 + 0.5;
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        7.0 + match row {
            Row::P5 => pairs * 2.0 * (self.open_loop.as_secs_f64() * 1.05) + 6.0 * run,
            Row::P8 => {
                pairs * 2.0 * (20.0 + 6.0 * gib(self.backlog_bytes))
                    + 20.0 * gib(self.backlog_bytes)
            }
            Row::R5 => pairs * 10.0 * (1.0 + gib(self.backlog_bytes)),
            Row::P9 => 60.0 + pairs * 4.0 * run,
            Row::P10 => pairs * 24.0 + 20.0 * gib(self.log_bytes.1),
            Row::P7 | Row::P11 => pairs * 2.0 * run + 10.0,
            Row::P12 => self.pairs as f64 * run,
            Row::CurveSync | Row::CurveAsync => 20.0 * run,
            _ => pairs * 2.0 * run,
        }
    }
}

/// Progress with the time that has passed and an estimate of the time that is left.
pub struct Talk {
    begin: Instant,
    left: std::cell::Cell<f64>,
    out: Box<dyn Fn(&str)>,
}

impl Talk {
    fn say(&self, text: &str) {
        let passed = self.begin.elapsed().as_secs();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an estimate"
        )]
        let left = self.left.get().max(0.0) as u64;
        (self.out)(&format!(
            "[{}:{:02}, about {}:{:02} left] {text}",
            passed / 60,
            passed % 60,
            left / 60,
            left % 60
        ));
    }
}

/// What a row's measuring gave, besides what is the same for all rows.
#[derive(Default)]
struct Found {
    pairs: Vec<pairs::Pair>,
    refused: Vec<String>,
    remarks: Vec<String>,
    curve: Vec<(u32, pairs::Figures, pairs::Figures)>,
}

impl From<pairs::Gather> for Found {
    fn from(gather: pairs::Gather) -> Self {
        Self {
            pairs: gather.accepted,
            refused: gather.refused,
            ..Self::default()
        }
    }
}

/// Measures all rows and appends each as soon as it is there.
///
/// # Errors
/// A server that does not start, a run that fails, a file that cannot be written. What was appended before stays.
pub fn run(options: &Options, out: Box<dyn Fn(&str)>) -> anyhow::Result<Vec<Outcome>> {
    std::fs::create_dir_all(&options.work).with_context(|| options.work.display().to_string())?;
    let setting = Setting::here(
        &options.work,
        &options.apache_version,
        options.cores.as_deref().unwrap_or_default(),
    );
    let talk = Talk {
        begin: Instant::now(),
        left: std::cell::Cell::new(
            options
                .rows
                .iter()
                .map(|row| options.estimate(*row) + 5.0)
                .sum(),
        ),
        out,
    };
    talk.say("starting Apache's name server");
    let namesrv = NameServer::start(options)?;
    let mut outcomes = Vec::new();
    let mut rows = options.rows.clone();
    // Rows of one stage follow one another, so that a stage starts once.
    rows.sort_by_key(|row| (stage_of(*row).0, *row));
    rows.dedup();
    let mut stage: Option<Stage<'_>> = None;
    for row in rows {
        let (_, cast) = stage_of(row);
        if stage.as_ref().is_some_and(|present| present.cast != cast) {
            stage = None;
        }
        if stage.is_none() && !own_stage(row) {
            stage = Some(Stage::start(options, &talk, &namesrv, cast)?);
        }
        let present = stage.as_mut();
        let outcome = measure_row(options, &talk, &namesrv, &setting, row, present)?;
        record::append(&options.results, &outcome)?;
        outcomes.push(outcome);
        talk.left.set(talk.left.get() - options.estimate(row));
    }
    talk.say("done");
    Ok(outcomes)
}

/// In which order a row is measured, and who takes part.
fn stage_of(row: Row) -> (u8, Cast) {
    let (order, name) = match row {
        Row::P1 | Row::P2 | Row::P12 | Row::CurveSync => (0, "sync"),
        Row::P11 => (1, "memory"),
        Row::P3 | Row::P4 | Row::P5 | Row::P6 | Row::P7 | Row::CurveAsync => (2, "async"),
        Row::P8 => (3, "cold"),
        Row::P9 => (4, "queues"),
        Row::P10 => (5, "recovery"),
        Row::R1 | Row::R3 => (6, "one-slave"),
        Row::R2 | Row::R5 => (7, "two-slaves"),
        Row::R4 => (8, "two-slaves-sync"),
    };
    let cast = Cast {
        name,
        flush: match row {
            Row::P1 | Row::P2 | Row::P12 | Row::CurveSync | Row::R4 => Flush::Sync,
            _ => Flush::Async,
        },
        slaves: match row {
            Row::R1 | Row::R3 => 1,
            Row::R2 | Row::R4 | Row::R5 => 2,
            _ => 0,
        },
    };
    (order, cast)
}

/// Rows that start and stop their brokers themselves.
fn own_stage(row: Row) -> bool {
    matches!(row, Row::P9)
}

/// Waits until the disk has what earlier runs, of whichever broker, left to be written back.
fn settle(options: &Options) -> anyhow::Result<()> {
    rustix::fs::syncfs(std::fs::File::open(&options.work)?)?;
    Ok(())
}

fn limits_now(options: &Options, talk: &Talk) -> anyhow::Result<Limits> {
    talk.say("  limits of this machine");
    settle(options)?;
    limits::measure(&options.work, limits::USUAL_TIME, &mut |_| {})
}

/// The limits before a row: measured until two in a row agree. Other work that is just ending, or a disk that still frees
/// what was deleted, is not the machine that the row meets, and that would be found out only at its end.
fn limits_before(options: &Options, talk: &Talk) -> anyhow::Result<Limits> {
    let mut before = limits_now(options, talk)?;
    for _ in 1..LIMITS_TRIES {
        let again = limits_now(options, talk)?;
        let (factor, place) = before.drift(&again);
        before = again;
        if factor <= pairs::DRIFT_MAX {
            break;
        }
        talk.say(&format!(
            "  {place} differs by {factor:.2}×; a moment or for good?"
        ));
    }
    Ok(before)
}

/// Measures a row between two runs of the limits; once more when the machine changed meanwhile.
fn measure_row(
    options: &Options,
    talk: &Talk,
    namesrv: &NameServer,
    setting: &Setting,
    row: Row,
    mut stage: Option<&mut Stage<'_>>,
) -> anyhow::Result<Outcome> {
    let mut second = false;
    loop {
        talk.say(&format!("{row:?}: {}", row.workload()));
        let before = limits_before(options, talk)?;
        let found = match stage.as_deref_mut() {
            Some(stage) => in_stage(row, stage)?,
            None => slow::many_queues(options, talk, namesrv, stage_of(row).1)?,
        };
        let mut after = limits_now(options, talk)?;
        for _ in 1..LIMITS_TRIES {
            let (factor, place) = before.drift(&after);
            if factor <= pairs::DRIFT_MAX {
                break;
            }
            talk.say(&format!(
                "  {place} differs by {factor:.2}×; a moment or for good?"
            ));
            after = limits_now(options, talk)?;
        }
        let outcome = Outcome {
            row,
            setting: setting.clone(),
            parameters: parameters(options, row),
            quick: options.quick,
            limits_before: before,
            limits_after: after,
            pairs: found.pairs,
            refused: found.refused,
            remarks: found.remarks,
            curve: found.curve,
        };
        for line in report::judgement_lines(&outcome) {
            talk.say(&format!("  {line}"));
        }
        if outcome.drift().is_none() || second || row.is_slow() {
            return Ok(outcome);
        }
        talk.say("  once more");
        second = true;
    }
}

fn in_stage(row: Row, stage: &mut Stage<'_>) -> anyhow::Result<Found> {
    match row {
        Row::P1 | Row::P2 | Row::P3 | Row::P4 | Row::P6 | Row::R1 | Row::R2 | Row::R4 => {
            sends::closed_loop(row, stage)
        }
        Row::P5 => sends::open_loop(stage),
        Row::P7 => sends::catch_up(stage),
        Row::CurveSync | Row::CurveAsync => sends::curve(stage),
        Row::P8 => slow::cold_catch_up(stage),
        Row::P10 => recovery::measure(stage),
        Row::P11 => counts::memory(stage),
        Row::P12 => counts::per_message(stage),
        Row::R3 => replicated::one_in_flight(stage),
        Row::R5 => replicated::catch_up(stage),
        Row::P9 => Ok(Found::default()),
    }
}

fn parameters(options: &Options, row: Row) -> String {
    let gib = |bytes: u64| format!("{:.2} GiB", stage::mebibytes(bytes) / 1024.0);
    let pairs = options.pairs_of(row);
    let seconds = options.measured.as_secs_f64();
    match row {
        Row::P5 => format!("{pairs} pairs of {:.0} s", options.open_loop.as_secs_f64()),
        Row::P8 => format!("{pairs} pairs, backlog {}", gib(options.backlog_bytes)),
        Row::R5 => format!("{pairs} rounds, log from {} on", gib(options.backlog_bytes)),
        Row::P9 => {
            let (topics, queues) = options.many_queues;
            format!("{pairs} pairs of {seconds:.0} s, {topics} topics × {queues} queues")
        }
        Row::P10 => {
            let (small, large) = options.log_bytes;
            format!(
                "{pairs} rounds each, logs of {} and {}",
                gib(small),
                gib(large)
            )
        }
        Row::CurveSync | Row::CurveAsync => format!("{seconds:.0} s a point"),
        _ => format!("{pairs} pairs of {seconds:.0} s"),
    }
}

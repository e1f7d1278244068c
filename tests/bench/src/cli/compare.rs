//! `compare` and `report`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use bench::compare::row::Row;
use bench::compare::{self, Options, record, report};
use clap::Args;

use super::target::Header;

#[derive(Args)]
#[command(after_help = "\
tests/bench/compare builds the broker, fetches Apache's jars and calls this with the right paths.

Rows: P1 to P12 and R1 to R5 as in docs/benchmarks.md, CURVESYNC and CURVEASYNC for the plots. A full run takes hours with the long
rows (P5, P8, P9, P10, R5) at seven pairs each; --slow-pairs cuts these down, --quick tries everything in minutes and its
results are marked as such.

Examples:
  tests/bench/compare --rows P1,P3
  tests/bench/compare --quick
  tests/bench/compare --slow-pairs 3 --open-loop-seconds 60
  tests/bench/compare --report                      docs/benchmarks.md again from what was recorded")]
pub(super) struct Compare {
    /// Rows, separated by commas; all without it
    #[arg(long, value_delimiter = ',', ignore_case = true)]
    rows: Vec<Row>,
    /// Pairs that must count, of each row
    #[arg(long)]
    pairs: Option<usize>,
    /// Pairs of the rows that take minutes each (P5, P8, P9, P10, R5); as --pairs without it
    #[arg(long)]
    slow_pairs: Option<usize>,
    /// Measured seconds of one run
    #[arg(long)]
    seconds: Option<f64>,
    /// Seconds for which Apache's broker is warmed after its start
    #[arg(long)]
    warm_seconds: Option<f64>,
    /// Short runs of everything, to try the tools: 2 pairs of 1 s, small logs, few queues
    #[arg(long)]
    quick: bool,
    /// Measured seconds of a run of P5 [default: 180]
    #[arg(long)]
    open_loop_seconds: Option<f64>,
    /// Backlog of P8 and least log of R5 in MiB [default: 4096]
    #[arg(long)]
    backlog_mib: Option<u64>,
    /// Queues of P9 [default: 50000], in topics of 1000
    #[arg(long)]
    many_queues: Option<u32>,
    /// Queues of the aim of P9 [default: 1000000], in topics of 1000; 0 leaves it out
    #[arg(long)]
    million_queues: Option<u32>,
    /// Small and large log of P10 in MiB [default: 1024,8192]
    #[arg(long, value_delimiter = ',', num_args = 2)]
    log_mib: Vec<u64>,
    /// Stores are emptied between pairs when both together take more than this many GiB
    #[arg(long, default_value_t = 12)]
    store_gib: u64,
    /// Cores of both brokers, as `taskset -c` takes them; all without it
    #[arg(long)]
    cores: Option<String>,
    /// Form of the headers
    #[arg(long, value_enum, default_value = "compact")]
    header: Header,
    /// A key of our broker's configuration, as KEY=VALUE; may be repeated
    #[arg(long)]
    set: Vec<String>,
    /// Only make the report again
    #[arg(long)]
    report: bool,
    /// Folder with Apache's jars
    #[arg(long, required_unless_present = "report")]
    apache_jars: Option<PathBuf>,
    /// Apache's version
    #[arg(long, default_value = "5.4.0")]
    apache_version: String,
    /// Our broker
    #[arg(long, required_unless_present = "report")]
    broker_bin: Option<PathBuf>,
    /// Folder of stores and logs, on the disk that is to be measured
    #[arg(long, default_value = "target/bench/work")]
    work: PathBuf,
    /// Folder of the recorded results: kept with the source, so that another machine can make the report again or measure a row more
    #[arg(long, default_value = "docs/benchmarks/records")]
    results: PathBuf,
    /// Folder of the report
    #[arg(long, default_value = "docs")]
    docs: PathBuf,
    /// Prose that the report takes over
    #[arg(long, default_value = "tests/bench/notes.md")]
    notes: PathBuf,
}

pub(super) fn run(args: &Compare) -> anyhow::Result<ExitCode> {
    if !args.report {
        let options = options(args)?;
        compare::run(&options, Box::new(|line| eprintln!("{line}")))?;
    }
    let outcomes = record::latest(&args.results)?;
    if outcomes.is_empty() {
        bail!(
            "nothing is recorded in {}: measure first, without --report; {} is left as it is",
            args.results.display(),
            args.docs.join("benchmarks.md").display()
        );
    }
    let notes = std::fs::read_to_string(&args.notes).unwrap_or_default();
    report::write(&outcomes, &notes, &args.docs)?;
    for outcome in &outcomes {
        for line in report::judgement_lines(outcome) {
            println!("{line}");
        }
    }
    eprintln!(
        "{} is made from {}",
        args.docs.join("benchmarks.md").display(),
        args.results.display()
    );
    Ok(ExitCode::SUCCESS)
}

fn options(args: &Compare) -> anyhow::Result<Options> {
    let quick = args.quick;
    let seconds = |given: Option<f64>, usual: f64, short: f64, flag: &'static str| {
        Duration::try_from_secs_f64(given.unwrap_or(if quick { short } else { usual }))
            .context(flag)
    };
    let number = |given: Option<u64>, usual: u64, short: u64| {
        given.unwrap_or(if quick { short } else { usual })
    };
    let topics = |queues: u64| -> anyhow::Result<(u32, u32)> {
        let queues = u32::try_from(queues)?;
        Ok((queues.div_ceil(1000), queues.min(1000)))
    };
    let pairs = args.pairs.unwrap_or(if quick { 2 } else { 7 }).max(1);
    let (small, large) = match (&args.log_mib[..], quick) {
        ([small, large], _) => (*small, *large),
        (_, true) => (64, 256),
        _ => (1024, 8192),
    };
    let rows = if args.rows.is_empty() {
        Row::ALL.to_vec()
    } else {
        args.rows.clone()
    };
    let work = absolute(&args.work)?;
    let stamp = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)?
        .as_secs();
    Ok(Options {
        rows,
        pairs,
        slow_pairs: args.slow_pairs.unwrap_or(pairs).max(1),
        measured: seconds(args.seconds, 5.0, 1.0, "--seconds")?,
        warm: seconds(args.warm_seconds, 12.0, 4.0, "--warm-seconds")?,
        quick,
        open_loop: seconds(args.open_loop_seconds, 180.0, 5.0, "--open-loop-seconds")?,
        backlog_bytes: number(args.backlog_mib, 4096, 256) << 20,
        many_queues: topics(number(args.many_queues.map(u64::from), 50_000, 2000))?,
        million_queues: topics(number(args.million_queues.map(u64::from), 1_000_000, 5000))?,
        log_bytes: (small << 20, large << 20),
        store_bytes_max: args.store_gib << 30,
        cores: args.cores.clone(),
        header: args.header.into(),
        set: args.set.clone(),
        apache_jars: absolute(args.apache_jars.as_deref().context("--apache-jars")?)?,
        apache_version: args.apache_version.clone(),
        broker_bin: existing(args.broker_bin.as_deref().context("--broker-bin")?)?,
        work,
        results: args.results.join(format!("{stamp}.json")),
    })
}

fn existing(path: &Path) -> anyhow::Result<PathBuf> {
    if !path.exists() {
        bail!("{} does not exist", path.display());
    }
    absolute(path)
}

/// Servers start in folders of their own.
fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| path.display().to_string())
}

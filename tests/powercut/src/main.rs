//! `powercut`: flags, progress and output.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool answers on its standard output"
)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};
use powercut::load::Shape;
use powercut::plan::{Flush, Plan};
use powercut::round::{self, Places, Shown};
use powercut::{namespace, selftest};

/// Power cuts, kills and disk faults under a real broker process.
#[derive(Parser)]
#[command(
    name = "powercut",
    version,
    after_help = "Status: 0 all rounds passed, 1 a round failed (its store and histories are kept), 77 cannot be shown on this machine.\n\nExample: tests/powercut/run --rounds 100 --seed 1 --flush sync"
)]
struct Cli {
    /// Rounds of each flush mode
    #[arg(long, default_value_t = 6)]
    rounds: u64,
    /// Seed of the first round; each further round has the next one
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Kills only, the power stays: so many under each of small messages, large ones and batches
    #[arg(long, value_name = "KILLS", conflicts_with_all = ["rounds", "times"])]
    kills: Option<u64>,
    /// Flush mode; both without it
    #[arg(long, value_enum)]
    flush: Option<Mode>,
    /// Run each seed so many times
    #[arg(long, default_value_t = 1)]
    times: u64,
    /// Go on after a failed round
    #[arg(long)]
    go_on: bool,
    /// The broker
    #[arg(long, env = "ROCKET_BROKER_BIN", value_name = "FILE")]
    broker: PathBuf,
    /// Where failed rounds are kept
    #[arg(long, value_name = "DIR", default_value = "target/powercut")]
    keep: PathBuf,
    /// Set a variable of the broker's environment
    #[arg(long = "env", value_name = "NAME=VALUE")]
    environment: Vec<String>,
    /// Only try the medium itself
    #[arg(long, hide = true)]
    selftest: bool,
    /// Tell each run
    #[arg(long, short)]
    verbose: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Sync,
    Async,
}

const CANNOT: u8 = 77;
/// Each look reads the whole store, so a store is given up after so many.
const KILLS_OF_A_STORE: u64 = 10;

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    if let Some(obstacle) = namespace::obstacle() {
        println!("SKIPPED, not shown here: power cuts: {obstacle}");
        return Ok(ExitCode::from(CANNOT));
    }
    namespace::enter()?;
    if cli.selftest {
        selftest::run()?;
        return Ok(ExitCode::SUCCESS);
    }
    let modes = match cli.flush {
        Some(Mode::Sync) => vec![Flush::Sync],
        Some(Mode::Async) => vec![Flush::Async],
        None => vec![Flush::Sync, Flush::Async],
    };
    if let Some(kills) = cli.kills {
        return Ok(run_kills(&cli, &modes, kills));
    }
    let mut failed = 0_u64;
    for flush in modes {
        let begin = Instant::now();
        let mut total = Shown::default();
        let mut passed = 0_u64;
        for seed in (cli.seed..cli.seed + cli.rounds)
            .flat_map(|seed| std::iter::repeat_n(seed, usize::try_from(cli.times).unwrap_or(1)))
        {
            match one(&cli, &Plan::of(seed, flush)) {
                Ok(shown) => {
                    passed += 1;
                    add(&mut total, shown);
                    println!("{} seed {seed}: {}", flush.setting(), tell(shown));
                }
                Err(error) => {
                    failed += 1;
                    println!("FAILED {} seed {seed}: {error:#}", flush.setting());
                    if !cli.go_on {
                        return Ok(ExitCode::FAILURE);
                    }
                }
            }
        }
        println!(
            "{}: {passed} rounds passed, seeds {} to {}, in {} s: {}",
            flush.setting(),
            cli.seed,
            cli.seed + cli.rounds - 1,
            begin.elapsed().as_secs(),
            tell(total)
        );
    }
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Kills under every shape of load; stops at the first broken rule.
fn run_kills(cli: &Cli, modes: &[Flush], kills: u64) -> ExitCode {
    for &flush in modes {
        for shape in [Shape::Small, Shape::Large, Shape::Batch] {
            let begin = Instant::now();
            let name = format!("{} {shape:?}", flush.setting());
            let mut total = Shown::default();
            let mut seed = cli.seed;
            while u64::from(total.ends) < kills {
                let count = (kills - u64::from(total.ends)).min(KILLS_OF_A_STORE);
                match one(cli, &Plan::of_kills(seed, flush, shape, count)) {
                    Ok(shown) => add(&mut total, shown),
                    Err(error) => {
                        println!("FAILED {name} seed {seed}: {error:#}");
                        return ExitCode::FAILURE;
                    }
                }
                seed += 1;
            }
            println!(
                "{name}: {kills} kills passed, seeds {} to {}, in {} s: {} acknowledged, {} open",
                cli.seed,
                seed - 1,
                begin.elapsed().as_secs(),
                total.acked,
                total.unknown
            );
        }
    }
    ExitCode::SUCCESS
}

fn one(cli: &Cli, plan: &Plan) -> anyhow::Result<Shown> {
    let work = tempfile::Builder::new()
        .prefix("rocket-powercut-")
        .tempdir()?;
    let environment = cli
        .environment
        .iter()
        .map(|pair| match pair.split_once('=') {
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => bail!("--env {pair}: not NAME=VALUE"),
        });
    let places = Places {
        bin: cli.broker.clone(),
        environment: environment.collect::<anyhow::Result<_>>()?,
        work: work.path().to_owned(),
    };
    let mut told = |line: String| {
        if cli.verbose {
            eprintln!("  {line}");
        }
    };
    let result = round::run(plan, &places, &mut told);
    if result.is_err() {
        let kept = cli
            .keep
            .join(format!("{}-{}", plan.flush.setting(), plan.seed));
        std::fs::write(work.path().join("plan.txt"), format!("{plan:#?}\n"))?;
        keep(work.path(), &kept)?;
        return result.with_context(|| format!("kept in {}", kept.display()));
    }
    result
}

/// Copies what a failed round has left.
fn keep(from: &Path, to: &Path) -> anyhow::Result<()> {
    let _ = std::fs::remove_dir_all(to);
    if let Some(above) = to.parent() {
        std::fs::create_dir_all(above)?;
    }
    let status = std::process::Command::new("cp")
        .args(["-r", "--sparse=always"])
        .arg(from)
        .arg(to)
        .status()?;
    if !status.success() {
        bail!("the failed round could not be copied");
    }
    Ok(())
}

const fn add(total: &mut Shown, shown: Shown) {
    total.ends += shown.ends;
    total.cuts += shown.cuts;
    total.acked += shown.acked;
    total.unknown += shown.unknown;
    total.lost += shown.lost;
    if shown.window_ms > total.window_ms {
        total.window_ms = shown.window_ms;
    }
}

fn tell(shown: Shown) -> String {
    let Shown {
        ends,
        cuts,
        acked,
        unknown,
        lost,
        window_ms,
    } = shown;
    format!(
        "{ends} ends, {cuts} power cuts, {acked} acknowledged, {unknown} open, {lost} lost as ASYNC_FLUSH may, oldest unflushed {window_ms} ms"
    )
}

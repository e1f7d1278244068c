//! `sim`: campaigns, replays, and the table of mutants.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool answers on its standard output"
)]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use sim::campaign::{Campaign, Verdict, schedule};
use sim::plan::{Column, Plan, Weight};
use sim::{Reached, mutants};

/// Runs replica groups from seeds, against faults: the same seed, the same run.
#[derive(Parser)]
#[command(
    name = "sim",
    version,
    after_help = "Status: 0 all schedules passed, 1 one did not (the command that replays it is printed).\n\nExamples:\n  sim campaign --schedules 1000000 --jobs 2    a million schedules, with progress\n  sim campaign --heavy --schedules 1000        over the store's engine\n  sim replay --column D --seed 17              one schedule, with what happens in it\n  sim mutants --write docs/replication.md      rules broken on purpose, and who notices (needs --features mutants)"
)]
struct Cli {
    #[command(subcommand)]
    deed: Deed,
}

#[derive(Subcommand)]
enum Deed {
    /// Many schedules
    Campaign {
        #[command(flatten)]
        which: Which,
        /// How many, over all columns
        #[arg(long, default_value_t = 10_000)]
        schedules: u64,
        /// The first seed
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// Threads
        #[arg(long, default_value_t = 1)]
        jobs: usize,
        /// Go on after a schedule that did not pass
        #[arg(long)]
        go_on: bool,
    },
    /// One schedule, with what happens in it
    Replay {
        #[command(flatten)]
        which: Which,
        /// Its seed
        #[arg(long)]
        seed: u64,
    },
    /// Rules broken on purpose, and who notices
    Mutants(mutants::Wanted),
}

#[derive(Args)]
struct Which {
    /// Column of docs/replication.md §11: A, B, C1, C, D; all of them in turn without it (a replay: D)
    #[arg(long)]
    column: Option<Column>,
    /// Over the store's engine, not over the twin of the log
    #[arg(long)]
    heavy: bool,
    /// Break a rule of docs/replication.md §13.3, as M4 (needs --features mutants)
    #[arg(long = "mutant", value_name = "RULE")]
    mutants: Vec<String>,
}

impl Which {
    fn weight(&self) -> Weight {
        if self.heavy {
            Weight::Heavy
        } else {
            Weight::Light
        }
    }
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().deed {
        Deed::Campaign {
            which,
            schedules,
            seed,
            jobs,
            go_on,
        } => {
            let mutations = mutants::named(&which.mutants)?;
            let campaign = Campaign {
                first: seed,
                schedules,
                columns: which.column.map_or(Column::ALL.to_vec(), |one| vec![one]),
                weight: which.weight(),
                jobs,
            };
            Ok(run(&campaign, |plan| plan.mutations = mutations, go_on))
        }
        Deed::Replay { which, seed } => {
            let mut plan = Plan::of(seed, which.column.unwrap_or(Column::D), which.weight());
            plan.mutations = mutants::named(&which.mutants)?;
            let verdict = schedule(plan, true);
            print!("{}", verdict.trace);
            println!("{:?}", verdict.reached);
            Ok(told(&verdict))
        }
        Deed::Mutants(wanted) => mutants::table(&wanted).map(|()| ExitCode::SUCCESS),
    }
}

fn told(verdict: &Verdict) -> ExitCode {
    match &verdict.broken {
        None => ExitCode::SUCCESS,
        Some(what) => {
            println!(
                "column {}, seed {}: {what}",
                verdict.plan.column, verdict.plan.seed
            );
            ExitCode::FAILURE
        }
    }
}

fn run(campaign: &Campaign, change: impl Fn(&mut Plan) + Sync, go_on: bool) -> ExitCode {
    let begin = Instant::now();
    let (mut done, mut broken, mut reached) = (0_u64, 0_u64, Reached::default());
    let mut next = Duration::from_secs(5);
    // A panic breaks a schedule and is told with it.
    std::panic::set_hook(Box::new(|_| {}));
    campaign.run(change, |verdict| {
        done += 1;
        reached.add(&verdict.reached);
        if let Some(what) = &verdict.broken {
            broken += 1;
            println!(
                "column {}: {what}\n  {}",
                verdict.plan.column,
                verdict.replay()
            );
        }
        if begin.elapsed() >= next {
            next += Duration::from_secs(5);
            eprintln!(
                "{}",
                progress(done, campaign.schedules, broken, begin.elapsed())
            );
        }
        broken == 0 || go_on
    });
    println!(
        "{}",
        progress(done, campaign.schedules, broken, begin.elapsed())
    );
    println!("{reached:?}");
    if broken == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn progress(done: u64, of: u64, broken: u64, took: Duration) -> String {
    let rate = u128::from(done) * 1000 / took.as_millis().max(1);
    format!("{done} of {of} schedules, {rate} a second, {broken} did not pass")
}

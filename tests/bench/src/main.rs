//! `rocket-bench`: flags, progress and output.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool answers on its standard output"
)]

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bench::{check, history, produce, route, verify};
use clap::{Args, Parser, Subcommand};

/// Load on any RocketMQ cluster, and a checker of what it acknowledged.
#[derive(Parser)]
#[command(
    name = "rocket-bench",
    version,
    after_help = "Example: rocket-bench produce --topic t --history h.jsonl --seconds 10 && rocket-bench verify --topic t --history h.jsonl"
)]
struct Cli {
    #[command(subcommand)]
    command: Kind,
}

#[derive(Subcommand)]
enum Kind {
    /// Send in a closed loop; progress on standard error, a summary on standard output
    Produce(Produce),
    /// Pull a whole topic and hold it against a history; exit code 1 when a rule is broken
    Verify(Verify),
}

#[derive(Args)]
struct Target {
    /// Address of a name server
    #[arg(long, default_value = "127.0.0.1:9876")]
    namesrv: String,
    /// Topic
    #[arg(long)]
    topic: String,
}

#[derive(Args)]
struct Produce {
    #[command(flatten)]
    target: Target,
    /// Create the topic first, with this many queues on every master
    #[arg(long, value_name = "QUEUES")]
    create_topic: Option<u32>,
    /// TCP connections
    #[arg(long, default_value_t = 4)]
    connections: u32,
    /// Requests in flight on each connection
    #[arg(long, default_value_t = 16)]
    in_flight: u32,
    /// Bytes of a body
    #[arg(long, default_value_t = 1024)]
    body_bytes: usize,
    /// Messages in one request
    #[arg(long, default_value_t = 1, value_name = "MESSAGES")]
    batch: u32,
    /// Stop after this many requests
    #[arg(long)]
    count: Option<u64>,
    /// Stop after this many seconds (default 10 when there is no --count)
    #[arg(long)]
    seconds: Option<f64>,
    /// Write what was sent and what was answered to this file
    #[arg(long)]
    history: Option<PathBuf>,
    /// Prefix of message keys; two runs on one topic need two
    #[arg(long, default_value = "run")]
    run: String,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Verify {
    #[command(flatten)]
    target: Target,
    /// Histories of all runs on this topic
    #[arg(long, required = true, num_args = 1..)]
    history: Vec<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    match cli.command {
        Kind::Produce(args) => runtime.block_on(run_produce(args)),
        Kind::Verify(args) => runtime.block_on(run_verify(args)),
    }
}

async fn run_produce(args: Produce) -> anyhow::Result<ExitCode> {
    let seconds = args
        .seconds
        .or_else(|| args.count.is_none().then_some(10.0));
    if let Some(queues) = args.create_topic {
        route::create(&args.target.namesrv, &args.target.topic, queues).await?;
    }
    let options = produce::Options {
        namesrv: args.target.namesrv,
        topic: args.target.topic,
        connections: args.connections.max(1),
        in_flight: args.in_flight.max(1),
        body_bytes: args.body_bytes.max(1),
        batch: args.batch.max(1),
        count: args.count,
        duration: seconds
            .map(Duration::try_from_secs_f64)
            .transpose()
            .context("--seconds")?,
        run: args.run,
        stop: Arc::default(),
    };
    let summary = produce::run(options, args.history.as_deref(), |acked| {
        eprintln!("{acked} acknowledged");
    })
    .await?;
    if args.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        let [p50, p90, p99, p999, max] = summary.latency_us;
        println!(
            "{} acknowledged, {} unknown, {} refused in {:.2} s: {:.0}/s",
            summary.acked, summary.unknown, summary.refused, summary.seconds, summary.rate
        );
        println!("latency in µs: p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p999}, max {max}");
    }
    Ok(ExitCode::SUCCESS)
}

async fn run_verify(args: Verify) -> anyhow::Result<ExitCode> {
    let mut events = Vec::new();
    for path in &args.history {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        let further =
            history::read(BufReader::new(file)).with_context(|| path.display().to_string())?;
        history::append(&mut events, further);
    }
    let contents = verify::read(&args.target.namesrv, &args.target.topic).await?;
    let verdict = check::check(&events, &contents.found, &contents.first);
    for violation in verdict.violations.iter().take(20) {
        println!("{violation}");
    }
    println!(
        "{} sent, {} acknowledged, {} unknown of which {} are stored, {} found, {} broken rules",
        verdict.sent,
        verdict.acked,
        verdict.unknown,
        verdict.unknown_stored,
        verdict.found,
        verdict.violations.len()
    );
    Ok(if verdict.violations.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

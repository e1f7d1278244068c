//! `consume`.

use std::process::ExitCode;

use anyhow::Context;
use bench::load::latency::Percentiles;
use bench::load::pull::{AtEnd, From, Reading};
use bench::process::Usage;
use clap::Args;
use serde::Serialize;

use super::output::{self, Output, Progress, line};
use super::target::{Target, Time};

#[derive(Args)]
#[command(after_help = "\
Each queue has one pull open at a time; offsets must be consecutive.
For a cold catch-up drop the page cache before (as root: echo 3 > /proc/sys/vm/drop_caches).

Examples:
  rocket-bench consume --topic t                      until the end, at most 10 s
  rocket-bench consume --topic t --again --seconds 30  begins again at each queue's end
  rocket-bench consume --topic t --group g --commit")]
pub(super) struct Consume {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    time: Time,
    /// TCP connections
    #[arg(long, default_value_t = 4)]
    connections: u32,
    /// Consumer group
    #[arg(long, default_value = "rocket-bench")]
    group: String,
    /// Most messages of one answer
    #[arg(long, default_value_t = 32)]
    pull: u32,
    /// Begin again at the end of a queue
    #[arg(long)]
    again: bool,
    /// Commit offsets with each pull
    #[arg(long)]
    commit: bool,
    #[command(flatten)]
    output: Output,
}

#[derive(Serialize)]
struct Result {
    messages: u64,
    bytes: u64,
    pulls: u64,
    seconds: f64,
    rate: f64,
    megabytes_per_second: f64,
    pull_latency_us: Percentiles,
    usage: Usage,
}

pub(super) fn run(args: &Consume) -> anyhow::Result<ExitCode> {
    let (brokers, queues) = args.target.find()?;
    let broker = *brokers.first().context("no broker")?;
    let (warm_up, measured) = args.time.parts()?;
    let reading = Reading {
        topics: args.target.topics,
        queues,
        format: args.target.header.into(),
        connections: args.connections,
        group: args.group.clone(),
        messages_max: args.pull,
        from: From::First,
        at_end: if args.again {
            AtEnd::Again
        } else {
            AtEnd::Stop
        },
        commits: args.commit,
        // A backlog that is read once is measured from its first message.
        warm_up: if args.again {
            warm_up
        } else {
            std::time::Duration::ZERO
        },
        measured,
        ..Reading::on(broker, &args.target.topic)
    };
    let mut progress = Progress::new(&args.output);
    let pulled = reading.run(&mut progress)?;
    let usage = progress.meter.usage();
    let result = Result {
        messages: pulled.messages,
        bytes: pulled.bytes,
        pulls: pulled.pulls,
        seconds: pulled.seconds,
        rate: pulled.rate(),
        megabytes_per_second: pulled.megabytes_per_second(),
        pull_latency_us: Percentiles::of(&pulled.latency),
        usage,
    };
    if args.output.json {
        output::json(&result)?;
        return Ok(ExitCode::SUCCESS);
    }
    line(
        "pulled",
        format!(
            "{} messages in {:.2} s: {:.0}/s",
            result.messages, result.seconds, result.rate
        ),
    );
    line(
        "records",
        format!("{:.1} MB/s", result.megabytes_per_second),
    );
    output::latency("latency of a pull", &result.pull_latency_us);
    output::usage(&usage, !args.output.pids.is_empty());
    Ok(ExitCode::SUCCESS)
}

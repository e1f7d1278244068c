//! `produce`.

use std::path::PathBuf;
use std::process::ExitCode;

use bench::load::latency::Percentiles;
use bench::load::send::{Load, Sent, Spread};
use bench::load::stored;
use bench::process::Usage;
use clap::Args;
use serde::Serialize;

use super::output::{self, Output, Progress, line};
use super::target::{Target, Time};

#[derive(Args)]
#[command(after_help = "\
Without --rate the loop is closed: a request leaves when an answer came. With --rate it is open: requests are intended at fixed
moments and latency counts from there, so that a broker's pause is seen as its clients would see it.

Each answer's code is checked, and that the offsets of each queue are consecutive; a sample of the messages is read back.

Examples:
  rocket-bench produce --topic t --create-topic 8 --connections 4 --in-flight 64 --body-bytes 128
  rocket-bench produce --topic t --rate 20000 --seconds 180
  rocket-bench produce --topic t --batch 128
  rocket-bench produce --broker 127.0.0.1:10911 --topic t --topics 50 --create-topic 1000 --random
  rocket-bench produce --topic t --history h.jsonl --count 10000     each message is written down for `verify`

With a history SIGTERM ends it in order: no further request leaves, and the history is whole.")]
pub(super) struct Produce {
    #[command(flatten)]
    pub(super) target: Target,
    /// Create the topic first, with this many queues on every master
    #[arg(long, value_name = "QUEUES")]
    create_topic: Option<u32>,
    /// TCP connections
    #[arg(long, default_value_t = 4)]
    pub(super) connections: u32,
    /// Requests in flight on each connection
    #[arg(long, default_value_t = 16)]
    pub(super) in_flight: u32,
    /// Bytes of a body
    #[arg(long, default_value_t = 1024)]
    pub(super) body_bytes: usize,
    /// Messages of a request; above 1 requests are batches
    #[arg(long, default_value_t = 1, value_name = "MESSAGES")]
    pub(super) batch: u32,
    /// Requests per second: an open loop
    #[arg(long, conflicts_with = "history")]
    rate: Option<f64>,
    /// Choose queues at random instead of one after the other
    #[arg(long, conflicts_with = "history")]
    random: bool,
    /// Other producers use the topic too: do not check that offsets are consecutive
    #[arg(long, conflicts_with = "history")]
    shared: bool,
    /// Threads of the generator
    #[arg(long, default_value_t = 1, conflicts_with = "history")]
    threads: u32,
    /// Stop after this many requests
    #[arg(long)]
    pub(super) count: Option<u64>,
    /// Stop after this many seconds (default 10 when there is no --count)
    #[arg(long)]
    pub(super) seconds: Option<f64>,
    /// Seconds before, not measured
    #[arg(long, default_value_t = 1.0, conflicts_with = "history")]
    warm_up: f64,
    /// Write what was sent and what was answered to this file
    #[arg(long, conflicts_with = "broker")]
    history: Option<PathBuf>,
    /// With a history: seconds that an answer is waited for; then its connection is left, as RocketMQ's clients do. Connecting to a
    /// broker takes no longer either
    #[arg(long, default_value_t = 5.0, requires = "history")]
    pub(super) timeout: f64,
    /// With a history: seconds that each of the requests in flight rests after its answer, for a load that leaves the machine room
    #[arg(long, default_value_t = 0.0, requires = "history")]
    pub(super) rest: f64,
    /// Prefix of message keys in a history; two runs on one topic need two
    #[arg(long, default_value = "run")]
    pub(super) run: String,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Serialize)]
struct Result {
    acked: u64,
    refused: u64,
    unanswered: u64,
    seconds: f64,
    rate: f64,
    latency_us: Percentiles,
    usage: Usage,
    trouble: Option<String>,
}

pub(super) fn run(args: &Produce) -> anyhow::Result<ExitCode> {
    if let Some(queues) = args.create_topic {
        args.target.create(queues)?;
    }
    if let Some(path) = &args.history {
        return super::history::produce(args, path);
    }
    let mut load = args.target.load()?;
    if let (Some(queues), true) = (args.create_topic, args.target.broker.is_some()) {
        load.queues = queues;
    }
    let endless = if args.count.is_some() { 86_400.0 } else { 10.0 };
    let warm_up = if args.count.is_some() {
        0.0
    } else {
        args.warm_up
    };
    let time = Time {
        seconds: args.seconds.unwrap_or(endless),
        warm_up,
    };
    (load.warm_up, load.measured) = time.parts()?;
    load.connections = args.connections.max(1);
    load.in_flight = args.in_flight.max(1);
    load.body_bytes = args.body_bytes;
    load.batch = args.batch.max(1);
    load.rate = args.rate;
    load.threads = args.threads;
    load.requests_max = args.count.unwrap_or(u64::MAX);
    if args.random {
        load.spread = Spread::Random;
    }
    let mut progress = Progress::new(&args.output);
    let begin = std::time::Instant::now();
    let mut sent = load.run(&mut progress)?;
    if args.count.is_some() {
        sent.seconds = begin.elapsed().as_secs_f64();
    }
    let usage = progress.meter.usage();
    report(args, &sent, &usage)?;
    judge(args, &load, &sent)
}

fn report(args: &Produce, sent: &Sent, usage: &Usage) -> anyhow::Result<()> {
    let result = Result {
        acked: sent.messages,
        refused: sent.refused,
        unanswered: sent.unanswered,
        seconds: sent.seconds,
        rate: sent.rate(),
        latency_us: Percentiles::of(&sent.latency),
        usage: *usage,
        trouble: sent.first_trouble.clone(),
    };
    if args.output.json {
        return output::json(&result);
    }
    line(
        "acknowledged",
        format!(
            "{} in {:.2} s: {:.0}/s",
            result.acked, result.seconds, result.rate
        ),
    );
    if result.refused + result.unanswered > 0 {
        let trouble = result.trouble.as_deref().unwrap_or_default();
        line(
            "not acknowledged",
            format!(
                "{} refused, {} unanswered: {trouble}",
                result.refused, result.unanswered
            ),
        );
    }
    let what = if args.rate.is_some() {
        "latency (intended)"
    } else {
        "latency"
    };
    output::latency(what, &result.latency_us);
    output::usage(usage, !args.output.pids.is_empty());
    if usage.target_cores > 0.0 {
        line(
            "broker CPU per message",
            format!("{:.2} µs", usage.target_cores * 1e6 / result.rate),
        );
    }
    Ok(())
}

fn judge(args: &Produce, load: &Load, sent: &Sent) -> anyhow::Result<ExitCode> {
    if args.shared {
        return Ok(ExitCode::SUCCESS);
    }
    sent.check_dense()?;
    let each = (load.topics.max(1) * load.queues.max(1)) as usize;
    for (broker, seen) in load.brokers.iter().zip(sent.seen.chunks(each)) {
        let place = (load.topic.as_str(), load.topics, load.queues);
        stored::check(*broker, place, load.body_bytes, seen)?;
    }
    if !args.output.json {
        line(
            "offsets",
            "consecutive in each queue; a sample was read back",
        );
    }
    Ok(ExitCode::SUCCESS)
}

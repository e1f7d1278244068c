//! `end-to-end`.

use std::process::ExitCode;

use anyhow::Context;
use bench::load::end_to_end;
use bench::load::latency::Percentiles;
use bench::process::Usage;
use clap::Args;
use serde::Serialize;

use super::output::{self, Output, Progress, line};
use super::target::{Target, Time};

#[derive(Args)]
#[command(after_help = "\
Latency is from the moment that a message was intended to be sent to the moment that a long-polling consumer has it.

Example:
  rocket-bench end-to-end --topic t --create-topic 8 --rate 5000 --seconds 30")]
pub(super) struct EndToEnd {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    time: Time,
    /// Create the topic first, with this many queues
    #[arg(long, value_name = "QUEUES")]
    create_topic: Option<u32>,
    /// Messages per second
    #[arg(long, default_value_t = 5000.0)]
    rate: f64,
    /// TCP connections of the producer
    #[arg(long, default_value_t = 4)]
    connections: u32,
    /// Bytes of a body, at least 8
    #[arg(long, default_value_t = 1024)]
    body_bytes: usize,
    #[command(flatten)]
    output: Output,
}

#[derive(Serialize)]
struct Result {
    sent: u64,
    received: u64,
    seconds: f64,
    send_latency_us: Percentiles,
    end_to_end_latency_us: Percentiles,
    usage: Usage,
}

pub(super) fn run(args: &EndToEnd) -> anyhow::Result<ExitCode> {
    if let Some(queues) = args.create_topic {
        args.target.create(queues)?;
    }
    let mut load = args.target.load()?;
    if let (Some(queues), true) = (args.create_topic, args.target.broker.is_some()) {
        load.queues = queues;
    }
    load.brokers.truncate(1);
    (load.warm_up, load.measured) = args.time.parts()?;
    load.connections = args.connections;
    load.body_bytes = args.body_bytes.max(8);
    load.rate = Some(args.rate);
    let mut progress = Progress::new(&args.output);
    let (sent, pulled) = end_to_end::run(&load, &mut progress).context("end to end")?;
    let usage = progress.meter.usage();
    let result = Result {
        sent: sent.messages,
        received: pulled.latency.len(),
        seconds: sent.seconds,
        send_latency_us: Percentiles::of(&sent.latency),
        end_to_end_latency_us: Percentiles::of(&pulled.latency),
        usage,
    };
    if args.output.json {
        output::json(&result)?;
    } else {
        line(
            "sent and received",
            format!("{} and {}", result.sent, result.received),
        );
        output::latency("latency of the send", &result.send_latency_us);
        output::latency("latency to the receipt", &result.end_to_end_latency_us);
        output::usage(&usage, !args.output.pids.is_empty());
    }
    sent.check_dense()?;
    Ok(if result.received == result.sent {
        ExitCode::SUCCESS
    } else {
        eprintln!("not every message was received");
        ExitCode::FAILURE
    })
}

//! The producer that writes a history, and the checker of histories.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use bench::allowed::{Allowed, MayLose};
use bench::{check, history, produce, verify as contents};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::target::async_run;

#[derive(Args)]
#[command(after_help = "Example: rocket-bench verify --topic t --history first.jsonl second.jsonl")]
pub(super) struct Verify {
    /// Address of a name server
    #[arg(long, default_value = "127.0.0.1:9876")]
    namesrv: String,
    /// Topic
    #[arg(long)]
    topic: String,
    /// Histories of all runs on this topic
    #[arg(long, required = true, num_args = 1..)]
    history: Vec<PathBuf>,
    /// Acknowledged messages of a run that may be lost: their records begin at these physical offsets (the last one not included),
    /// and they were acknowledged before this time, microseconds since 1970. May be given several times
    #[arg(long, value_name = "RUN:FROM-TO@BEFORE")]
    may_lose: Vec<MayLose>,
    /// The producers send again by themselves when they are in doubt, as RocketMQ's clients do: a message may be there more than once
    #[arg(long)]
    retried: bool,
}

/// Sends with a history: lanes that wait for each answer and go on over a broken connection.
pub(super) fn produce(
    args: &super::produce::Produce,
    path: &std::path::Path,
) -> anyhow::Result<ExitCode> {
    let seconds = args
        .seconds
        .or_else(|| args.count.is_none().then_some(10.0));
    let options = produce::Options {
        namesrv: args.target.namesrv.clone(),
        topic: args.target.topic.clone(),
        connections: args.connections.max(1),
        in_flight: args.in_flight.max(1),
        body_bytes: args.body_bytes.max(1),
        batch: args.batch.max(1),
        count: args.count,
        duration: seconds
            .map(Duration::try_from_secs_f64)
            .transpose()
            .context("--seconds")?,
        run: args.run.clone(),
        patience: Duration::try_from_secs_f64(args.timeout).context("--timeout")?,
        rest: Duration::try_from_secs_f64(args.rest).context("--rest")?,
        stop: Arc::default(),
    };
    let summary = async_run(until_told(options, path))?;
    if args.output.json {
        super::output::json(&summary)?;
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

/// Runs to the end, or until SIGTERM and all answers that are still waited for.
async fn until_told(
    options: produce::Options,
    path: &std::path::Path,
) -> anyhow::Result<produce::Summary> {
    let mut told = signal(SignalKind::terminate()).context("SIGTERM")?;
    let stop = Arc::clone(&options.stop);
    let progress = |acked| eprintln!("{acked} acknowledged");
    let mut running = Box::pin(produce::run(options, Some(path), progress));
    tokio::select! {
        summary = &mut running => return summary,
        _ = told.recv() => stop.store(true, Ordering::Relaxed),
    }
    running.await
}

pub(super) fn verify(args: &Verify) -> anyhow::Result<ExitCode> {
    let mut events = Vec::new();
    for path in &args.history {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        let further =
            history::read(BufReader::new(file)).with_context(|| path.display().to_string())?;
        history::append(&mut events, further);
    }
    let contents = async_run(contents::read(&args.namesrv, &args.topic))?;
    let mut verdict = check::check(&events, &contents.found, &contents.first);
    let allowed = Allowed {
        losses: args.may_lose.clone(),
        retried: args.retried,
    };
    let lost = allowed.forgive(&events, &contents.found, &mut verdict);
    for violation in verdict.violations.iter().take(20) {
        println!("{violation}");
    }
    println!(
        "{} sent, {} acknowledged, {} unknown of which {} are stored, {} found, {} broken rules, {lost} lost as allowed",
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

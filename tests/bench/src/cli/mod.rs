//! The subcommands.

mod compare;
mod consume;
mod end_to_end;
mod history;
mod limits;
mod output;
mod produce;
mod recovery;
mod target;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Load on any RocketMQ cluster, what this machine can do, and a checker of what a cluster acknowledged.
#[derive(Parser)]
#[command(name = "rocket-bench", version, disable_help_subcommand = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Kind,
}

const EXAMPLES: &str = "\
Examples:
  rocket-bench produce --topic t --create-topic 8 --connections 8 --in-flight 8 --pid $(pidof rocket-broker)
  rocket-bench produce --topic t --rate 20000 --seconds 60        open loop: latency from the intended moment
  rocket-bench consume --topic t
  rocket-bench limits --dir /data
  rocket-bench produce --topic t --history h.jsonl --seconds 10 && rocket-bench verify --topic t --history h.jsonl";

#[derive(Subcommand)]
enum Kind {
    /// Send, in a closed loop or at a rate
    Produce(produce::Produce),
    /// Pull a topic from its first message
    Consume(consume::Consume),
    /// Send at a rate and consume with long polling; latency from the intended send to the receipt
    EndToEnd(end_to_end::EndToEnd),
    /// Kill a broker under load and measure from its next start to the first SEND_OK
    Recovery(recovery::Recovery),
    /// What this machine can do right now: disk, page cache, network, processor
    Limits(limits::LimitsArgs),
    /// Apache's broker and ours in interleaved pairs; rewrites docs/benchmarks.md
    Compare(Box<compare::Compare>),
    /// Pull a whole topic and hold it against a history; exit code 1 when a rule is broken
    Verify(history::Verify),
}

pub(crate) fn run() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Kind::Produce(args) => produce::run(&args),
        Kind::Consume(args) => consume::run(&args),
        Kind::EndToEnd(args) => end_to_end::run(&args),
        Kind::Recovery(args) => recovery::run(&args),
        Kind::Limits(args) => limits::run(&args),
        Kind::Compare(args) => compare::run(&args),
        Kind::Verify(args) => history::verify(&args),
    }
}

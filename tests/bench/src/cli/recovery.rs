//! `recovery`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use bench::load::recovery::{Round, await_send_ok, round};
use bench::load::send::Load;
use bench::program::Program;
use bench::wire::call::{Caller, resolve};
use clap::Args;

use super::output;

#[derive(Args)]
#[command(after_help = "\
The command must be the broker itself (no shell around it), so that its pid is the one that is killed.

Example:
  rocket-bench recovery --broker 127.0.0.1:10911 --rounds 5 -- \\
      target/programs/rocket-broker standalone --data /tmp/rocket --set flushDiskType=SYNC_FLUSH")]
pub(super) struct Recovery {
    /// Address of the broker
    #[arg(long, default_value = "127.0.0.1:10911")]
    broker: String,
    /// Topic; it is created
    #[arg(long, default_value = "recovery")]
    topic: String,
    /// Kills and restarts
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Fill the log with about this many MiB first
    #[arg(long, default_value_t = 0)]
    log_mib: u64,
    /// Seconds of load before each kill
    #[arg(long, default_value_t = 2.0)]
    load_seconds: f64,
    /// Bytes of a body
    #[arg(long, default_value_t = 1024)]
    body_bytes: usize,
    /// Where the broker's output goes
    #[arg(long, default_value = "rocket-bench-broker.log")]
    log: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// Program and arguments that start the broker
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

pub(super) fn run(args: &Recovery) -> anyhow::Result<ExitCode> {
    let broker = resolve(&args.broker)?;
    if std::net::TcpStream::connect(broker).is_ok() {
        bail!("something listens on {broker} already");
    }
    let program = Program {
        command: args.command.clone(),
        dir: None,
        log: args.log.clone(),
    };
    let mut running = program.start()?;
    await_send_ok(broker, &args.topic, || running.has_ended())?;
    Caller::connect(broker)?.create_topic(&args.topic, 8)?;
    let load = Load {
        body_bytes: args.body_bytes,
        ..Load::on(broker, &args.topic)
    };
    if args.log_mib > 0 {
        eprintln!("filling the log with {} MiB", args.log_mib);
        fill(&load, args.log_mib << 20)?;
    }
    let before_kill = Duration::try_from_secs_f64(args.load_seconds).context("--load-seconds")?;
    let mut rounds: Vec<Round> = Vec::new();
    for number in 1..=args.rounds {
        let (next, outcome) = round(&program, running, &load, before_kill)?;
        running = next;
        eprintln!(
            "round {number}: {:.1} ms to the first SEND_OK, killed after {} messages",
            outcome.seconds * 1e3,
            outcome.acked
        );
        rounds.push(outcome);
    }
    if args.json {
        output::json(&rounds)?;
    } else {
        let mut all: Vec<f64> = rounds.iter().map(|round| round.seconds * 1e3).collect();
        all.sort_by(f64::total_cmp);
        if let (Some(least), Some(most)) = (all.first(), all.last()) {
            let middle = all.get(all.len() / 2).copied().unwrap_or(*least);
            println!(
                "exec to first SEND_OK: {least:.1} / {middle:.1} / {most:.1} ms (least / median / most)"
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Sends batches until about this many bytes are in the log.
fn fill(load: &Load, bytes: u64) -> anyhow::Result<()> {
    let filling = bench::load::send::Load {
        batch: 32,
        connections: 4,
        in_flight: 2,
        requests_max: (bytes / (32 * (load.body_bytes as u64 + 200))).max(1),
        warm_up: Duration::ZERO,
        measured: Duration::from_hours(1),
        ..load.clone()
    };
    let sent = filling.run(&mut bench::load::Nobody)?;
    sent.check_dense()
}

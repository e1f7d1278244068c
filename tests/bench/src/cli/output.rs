//! Progress on standard error, results on standard output as a table or as JSON.

use bench::load::Watch;
use bench::load::latency::Percentiles;
use bench::process::{Meter, Usage};
use clap::Args;
use serde::Serialize;

#[derive(Args)]
pub(super) struct Output {
    /// Print the result as JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Process of the broker whose CPU, memory and device bytes are told; may be repeated
    #[arg(long = "pid", value_name = "PID")]
    pub(super) pids: Vec<u32>,
}

/// A meter that also tells progress.
pub(super) struct Progress {
    pub(super) meter: Meter,
    last: u64,
}

impl Progress {
    pub(super) fn new(output: &Output) -> Self {
        Self {
            meter: Meter::new(&output.pids),
            last: 0,
        }
    }
}

impl Watch for Progress {
    fn begin(&mut self) {
        self.meter.begin();
        eprintln!("measuring");
    }

    fn end(&mut self) {
        self.meter.end();
    }

    fn second(&mut self, messages: u64) {
        eprintln!("{messages} messages, {}/s", messages - self.last);
        self.last = messages;
    }
}

/// One line of a table: what, and how much.
pub(super) fn line(what: &str, value: impl std::fmt::Display) {
    println!("{what:<28} {value}");
}

pub(super) fn latency(what: &str, latency: &Percentiles) {
    let text: Vec<String> = latency
        .named()
        .iter()
        .map(|(name, micros)| format!("{name} {}", span(*micros)))
        .collect();
    line(what, text.join(", "));
}

/// A latency in the unit that reads best.
pub(super) fn span(micros: f64) -> String {
    if micros < 1000.0 {
        format!("{micros:.0} µs")
    } else if micros < 1_000_000.0 {
        format!("{:.2} ms", micros / 1000.0)
    } else {
        format!("{:.2} s", micros / 1_000_000.0)
    }
}

pub(super) fn usage(usage: &Usage, targets: bool) {
    if targets {
        line("broker CPU", format!("{:.2} cores", usage.target_cores));
        line(
            "broker anonymous memory",
            format!("{:.1} MiB", mebibytes(usage.anonymous_bytes)),
        );
        line(
            "broker wrote to the device",
            format!("{:.1} MiB", mebibytes(usage.write_bytes)),
        );
    }
    line("generator CPU", format!("{:.2} cores", usage.own_cores));
    line(
        "kernel threads' CPU",
        format!("{:.2} cores", usage.kernel_cores),
    );
    let foreign = if targets {
        "foreign CPU"
    } else {
        "foreign CPU (with the broker)"
    };
    line(foreign, format!("{:.2} cores", usage.foreign_cores));
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

pub(super) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}

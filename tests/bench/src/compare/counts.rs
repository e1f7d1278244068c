//! P11 and P12: memory, and what a message costs in counts that do not depend on the machine's mood.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;

use super::Found;
use super::pairs::{Figures, Side};
use super::stage::{Stage, mebibytes};
use crate::load::Watch;
use crate::load::send::Load;
use crate::process::{Device, Meter, Usage, written_by_threads};

/// P11: before the first request, and during 64 connections with 8 in flight each.
pub(super) fn memory(stage: &mut Stage<'_>) -> anyhow::Result<Found> {
    let pairs = stage.options.pairs;
    let gather = stage.pairs(pairs, |stage, side| {
        let load = Load {
            connections: 64,
            ..stage.load(side)?
        };
        let mut figures = stage.send(side, &load)?;
        let loaded = figures.get("anonymous_mib").copied().unwrap_or(0.0);
        figures.insert("loaded_mib".to_owned(), loaded);
        let idle = mebibytes(stage.broker(side)?.idle_bytes);
        figures.insert("idle_mib".to_owned(), idle);
        Ok(figures)
    })?;
    let mut found = Found::from(gather);
    found.remarks.push(
        "Idle is one second after the port opened; loaded is the end of a run of 64 connections with 8 in flight each.".to_owned(),
    );
    Ok(found)
}

/// The broker's thread that makes log files ahead: what it writes is counted apart.
const PREPARING: &str = "store-prepare";

/// P12, our broker alone.
pub(super) fn per_message(stage: &mut Stage<'_>) -> anyhow::Result<Found> {
    let mut found = Found::default();
    for _ in 0..stage.options.pairs {
        let load = stage.load(Side::Ours)?;
        let pid = stage.broker(Side::Ours)?.pid();
        let device = Device::of(&stage.options.work);
        let mut watch = Counting::new(pid, load.measured, device);
        let sent = load.run(&mut watch)?;
        stage.check(Side::Ours, &load, &sent)?;
        let figures = watch.figures(sent.messages, load.body_bytes);
        let told = |name: &str| {
            figures
                .get(name)
                .map_or("-".to_owned(), |count| format!("{count:.3}"))
        };
        stage.talk.say(&format!(
            "  {} messages: {} system calls, {} device bytes per byte of body",
            sent.messages,
            told("syscalls"),
            told("device_bytes")
        ));
        if let Some(trouble) = watch.trouble {
            found
                .remarks
                .push(format!("System calls were not counted: {trouble}."));
        }
        found.pairs.push(super::pairs::Pair {
            apache: Figures::new(),
            ours: figures,
        });
    }
    found.remarks.push(
        "System calls: `perf stat -e raw_syscalls:sys_enter` on the broker's process. Device bytes: the sectors that the disk wrote meanwhile, \
         less what the thread wrote that fills log files with zeros ahead (`prepared_bytes`). `accounted_bytes` is `write_bytes` of `/proc/PID/io` \
         less the same: the kernel counts a whole folio of several pages there when one of them becomes dirty."
            .to_owned(),
    );
    found.remarks.push(
        "Heap allocations per message are counted by tests with a counting allocator (`tests/counting`), not here."
            .to_owned(),
    );
    found.remarks.dedup();
    Ok(found)
}

/// Counts system calls over the window, with perf.
struct Counting {
    meter: Meter,
    pid: u32,
    /// Written by the thread that prepares files.
    prepared: u64,
    device: Option<Device>,
    /// Written to it by all.
    written: u64,
    measured: Duration,
    perf: Option<std::process::Child>,
    trouble: Option<String>,
    syscalls: Option<f64>,
}

impl Counting {
    fn new(pid: u32, measured: Duration, device: Option<Device>) -> Self {
        Self {
            meter: Meter::new(&[pid]),
            pid,
            prepared: 0,
            device,
            written: 0,
            measured,
            perf: None,
            trouble: None,
            syscalls: None,
        }
    }

    fn figures(&mut self, messages: u64, body_bytes: usize) -> Figures {
        let usage: Usage = self.meter.usage();
        #[expect(clippy::cast_precision_loss, reason = "figures for ratios")]
        let (messages, prepared, written, accounted, bodies) = (
            (messages as f64).max(1.0),
            self.prepared as f64,
            self.written.saturating_sub(self.prepared) as f64,
            usage.write_bytes.saturating_sub(self.prepared) as f64,
            (messages as f64 * body_bytes as f64).max(1.0),
        );
        let mut figures: Figures = [
            ("accounted_bytes".to_owned(), accounted / bodies),
            ("prepared_bytes".to_owned(), prepared / bodies),
            ("cpu_us".to_owned(), usage.target_seconds() * 1e6 / messages),
        ]
        .into();
        if self.device.is_some() {
            figures.insert("device_bytes".to_owned(), written / bodies);
        }
        if let Some(count) = self.syscalls {
            figures.insert("syscalls".to_owned(), count / messages);
        }
        figures
    }

    fn written(&self) -> u64 {
        self.device
            .as_ref()
            .and_then(Device::written)
            .unwrap_or_default()
    }

    fn start_perf(&self) -> anyhow::Result<std::process::Child> {
        Command::new("perf")
            .args(["stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p"])
            .arg(self.pid.to_string())
            .args(["--", "sleep", &self.measured.as_secs_f64().to_string()])
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("perf cannot be started")
    }
}

impl Watch for Counting {
    fn begin(&mut self) {
        match self.start_perf() {
            Ok(child) => self.perf = Some(child),
            Err(error) => self.trouble = Some(format!("{error:#}")),
        }
        self.prepared = written_by_threads(self.pid, PREPARING);
        self.written = self.written();
        self.meter.begin();
    }

    fn end(&mut self) {
        self.meter.end();
        self.written = self.written().saturating_sub(self.written);
        self.prepared = written_by_threads(self.pid, PREPARING).saturating_sub(self.prepared);
        let Some(perf) = self.perf.take() else { return };
        // It ends by itself, as its own window is as long as ours.
        match perf.wait_with_output() {
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stderr).into_owned();
                self.syscalls = count(&text);
                if self.syscalls.is_none() {
                    let line = text
                        .lines()
                        .next()
                        .unwrap_or("perf said nothing")
                        .to_owned();
                    self.trouble = Some(line);
                }
            }
            Err(error) => self.trouble = Some(error.to_string()),
        }
    }
}

/// The first field of perf's line about the event.
fn count(text: &str) -> Option<f64> {
    text.lines()
        .find(|line| line.contains("raw_syscalls:sys_enter"))?
        .split(',')
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perf_says_a_number_or_that_it_could_not_count() {
        let said = "123456,,raw_syscalls:sys_enter,5000,100.00,,\n";
        assert_eq!(count(said), Some(123_456.0));
        assert_eq!(
            count("<not counted>,,raw_syscalls:sys_enter,0,100.00,,"),
            None
        );
        assert_eq!(count("event syntax error: 'raw_syscalls:sys_enter'"), None);
    }
}

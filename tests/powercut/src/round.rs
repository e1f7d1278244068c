//! One round: one store, one topic, several runs of the broker that each end badly, and a look after each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bench::audit::{Audit, Loss};
use bench::check::Violation;
use bench::{route, verify};
use tokio::runtime::Runtime;

use crate::broker::{Broker, Program, Start, namesrv};
use crate::disk::{Disk, Faults};
use crate::load::{Load, Shape};
use crate::mount::{Mounted, now_us};
use crate::plan::{End, Flush, Phase, Plan};
use crate::watch::Watch;

const TOPIC: &str = "powercut";
const QUEUES: u32 = 4;
/// For what takes milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// A load that has not reached the planned event by then is cut where it is.
const LOAD: Duration = Duration::from_millis(1500);
/// How long the medium stays full.
const FULL: Duration = Duration::from_millis(500);
/// The status of a broker whose store failed.
const STORE_FAILED: i32 = 3;
/// Beside the window: what a busy machine may take to wake a thread.
const SLACK_MS: u64 = 1500;

/// What a round has shown.
#[derive(Debug, Default, Clone, Copy)]
pub struct Shown {
    /// Times that the broker ended.
    pub ends: u32,
    /// Of these, with the power.
    pub cuts: u32,
    /// Acknowledged messages.
    pub acked: u64,
    /// Open ones.
    pub unknown: u64,
    /// Acknowledged under `ASYNC_FLUSH`, and lost as it may.
    pub lost: usize,
    /// The oldest bytes that a cut has lost or could have, in milliseconds before it.
    pub window_ms: u64,
}

/// Where things are.
#[derive(Debug, Clone)]
pub struct Places {
    /// The broker.
    pub bin: PathBuf,
    /// Environment for it.
    pub environment: Vec<(String, String)>,
    /// An empty folder for this round: histories, log, and the mounted medium.
    pub work: PathBuf,
}

struct Round<'a> {
    plan: &'a Plan,
    places: &'a Places,
    runtime: Runtime,
    program: Program,
    mounted: Option<Mounted>,
    audit: Audit,
    shown: Shown,
    remounts: u64,
}

/// What the end of a run allows.
struct Ended {
    loss: Loss,
    /// The power went with or after it.
    was_cut: bool,
}

/// Runs a round.
///
/// # Errors
/// A broken rule or a broken broker, with what is needed to look into it.
pub fn run(plan: &Plan, places: &Places, tell: &mut dyn FnMut(String)) -> anyhow::Result<Shown> {
    let medium = places.work.join("medium");
    std::fs::create_dir_all(&medium)?;
    let program = Program {
        bin: places.bin.clone(),
        settings: plan.settings(),
        environment: places.environment.clone(),
        data: medium.join("data"),
        log: places.work.join("broker.log"),
    };
    let mounted = Mounted::new(Disk::new(plan.seed), &medium, plan.sync_us, plan.seed)
        .context("mounting the medium")?;
    let mut round = Round {
        plan,
        places,
        runtime: tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?,
        program,
        mounted: Some(mounted),
        audit: Audit::default(),
        shown: Shown::default(),
        remounts: 0,
    };
    let result = round.all(tell);
    if result.is_err() {
        round.keep();
    }
    if let Some(mounted) = round.mounted.take() {
        mounted.unmount().context("unmounting")?;
    }
    result
}

impl Round<'_> {
    fn all(&mut self, tell: &mut dyn FnMut(String)) -> anyhow::Result<Shown> {
        let mut broker = self.start()?;
        self.runtime
            .block_on(route::create(&namesrv(), TOPIC, QUEUES))
            .context("creating the topic")?;
        for (number, phase) in self.plan.phases.iter().enumerate() {
            tell(format!("{number}: {phase}"));
            broker = self
                .phase(number, phase, broker)
                .with_context(|| format!("run {number} ({phase})"))?;
        }
        broker.send_terminate()?;
        let status = broker.wait(PATIENCE)?;
        if !status.success() {
            bail!("an orderly stop ended with {status}:\n{}", broker.log());
        }
        Ok(self.shown)
    }

    fn mounted(&self) -> anyhow::Result<&Mounted> {
        self.mounted.as_ref().context("no medium is mounted")
    }

    /// Starts the broker and waits until it serves.
    fn start(&self) -> anyhow::Result<Broker> {
        let mut broker = self.program.start()?;
        match broker.wait_ready(PATIENCE) {
            Start::Ready => Ok(broker),
            Start::Pending => bail!("the broker does not become ready:\n{}", broker.log()),
            Start::Ended => bail!("the broker does not start:\n{}", broker.log()),
        }
    }

    /// One load, one end, one start, one look. Returns the broker that serves after it.
    fn phase(
        &mut self,
        number: usize,
        phase: &Phase,
        mut broker: Broker,
    ) -> anyhow::Result<Broker> {
        self.mounted()?.disk().arm(phase.faults);
        let history = self.places.work.join(format!("history-{number}.jsonl"));
        let load = Load::start(
            &namesrv(),
            TOPIC,
            phase.shape,
            format!("r{number}"),
            history,
        );
        let watch = Watch::start(namesrv(), TOPIC);
        let ended = self.end(phase, &mut broker);
        drop(broker);
        let told = watch.end();
        let (summary, events) = load.end()?;
        let mut ended = ended?;
        self.shown.acked += summary.acked;
        self.shown.unknown += summary.unknown;
        self.shown.ends += 1;
        self.shown.cuts += u32::from(ended.was_cut);
        self.audit.add(events);
        if let Some(moment) = phase.in_recovery {
            let again = self.cut_recovery(Faults {
                cut_at: Some(moment),
                ..Faults::default()
            })?;
            ended.loss = either(ended.loss, again.loss);
        }
        let broker = self.start()?;
        self.look(ended.loss, &told, &broker)?;
        Ok(broker)
    }

    /// Brings the run to its end; afterwards the process is gone and the medium is as the next one finds it.
    fn end(&mut self, phase: &Phase, broker: &mut Broker) -> anyhow::Result<Ended> {
        match phase.end {
            End::Cut => {
                if !self.mounted()?.wait_for_cut(LOAD) {
                    self.mounted()?.disk().cut(now_us());
                }
                self.kill(broker)?;
                self.remount()
            }
            End::Kill => {
                self.wait_for_writes(phase)?;
                self.kill(broker)?;
                Ok(Ended {
                    loss: Loss::Nothing,
                    was_cut: false,
                })
            }
            End::Stop => {
                self.wait_for_writes(phase)?;
                broker.send_terminate()?;
                let status = broker.wait(PATIENCE)?;
                if !status.success() {
                    bail!("an orderly stop ended with {status}:\n{}", broker.log());
                }
                self.mounted()?.disk().cut(now_us());
                self.remount()?;
                Ok(Ended {
                    loss: Loss::Nothing,
                    was_cut: true,
                })
            }
            End::SyncError | End::WriteError | End::ReadOnly => self.fault(phase, broker),
            End::Full => {
                self.fill(phase, broker)?;
                self.mounted()?.disk().cut(now_us());
                self.kill(broker)?;
                self.remount()
            }
        }
    }

    /// The process must leave by itself, with its own status.
    fn fault(&mut self, phase: &Phase, broker: &mut Broker) -> anyhow::Result<Ended> {
        let end = Instant::now() + LOAD;
        while self.mounted()?.disk().counts().struck_us.is_none() {
            if Instant::now() > end {
                // Too few events on this machine: a power cut will do.
                self.mounted()?.disk().cut(now_us());
                self.kill(broker)?;
                return self.remount();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let status = broker.wait(PATIENCE)?;
        if status.code() != Some(STORE_FAILED) {
            bail!(
                "after the fault the broker ended with {status}, not with status {STORE_FAILED}:\n{}",
                broker.log()
            );
        }
        let mut disk = self.mounted()?.disk();
        // A failed sync has lost bytes whether the power goes or not; a failed write has not.
        let durable_until_us = disk.durable_until_us(now_us());
        let lost_bytes = phase.end == End::SyncError;
        if phase.power_goes {
            disk.cut(now_us());
        }
        disk.arm(Faults::default());
        drop(disk);
        if phase.power_goes {
            self.remount()?;
        }
        let loss = match self.plan.flush {
            Flush::Async if lost_bytes || phase.power_goes => Loss::EndSince(durable_until_us),
            Flush::Async | Flush::Sync => Loss::Nothing,
        };
        Ok(Ended {
            loss,
            was_cut: phase.power_goes,
        })
    }

    /// A full medium refuses, keeps running, and takes messages again when there is room.
    fn fill(&mut self, phase: &Phase, broker: &mut Broker) -> anyhow::Result<()> {
        let mounted = self.mounted()?;
        {
            let mut disk = mounted.disk();
            let capacity = disk.used() + phase.room;
            disk.set_capacity(Some(capacity));
        }
        let end = Instant::now() + FULL;
        let before = mounted.disk().counts().writes;
        while Instant::now() < end && mounted.disk().counts().no_space == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        if !broker.is_running()? {
            bail!(
                "the broker left when the medium was full:\n{}",
                broker.log()
            );
        }
        mounted.disk().set_capacity(None);
        let end = Instant::now() + PATIENCE;
        let full = mounted.disk().counts().writes.max(before);
        while mounted.disk().counts().writes < full + 5 {
            if Instant::now() > end {
                bail!(
                    "nothing is written {PATIENCE:?} after there is room again:\n{}",
                    broker.log()
                );
            }
            if !broker.is_running()? {
                bail!(
                    "the broker left when the medium was full:\n{}",
                    broker.log()
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Waits until the load has got somewhere.
    fn wait_for_writes(&self, phase: &Phase) -> anyhow::Result<()> {
        let wanted = match phase.shape {
            Shape::Small => 20 + phase.room % 300,
            Shape::Large | Shape::Batch => 20 + phase.room % 100,
        };
        let end = Instant::now() + LOAD;
        while self.mounted()?.disk().counts().writes < wanted && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn kill(&self, broker: &mut Broker) -> anyhow::Result<()> {
        broker.send_kill()?;
        self.mounted()?.release();
        // A sync that was on its way at the kill is answered later; who waits for it ends then.
        let end = Instant::now() + PATIENCE;
        while broker.is_running()? {
            self.mounted()?.release();
            if Instant::now() > end {
                bail!("a killed broker does not end");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Mounts what the cut has left.
    fn remount(&mut self) -> anyhow::Result<Ended> {
        let mounted = self.mounted.take().context("no medium is mounted")?;
        let frozen = mounted.disk().take_frozen().context("the power is on")?;
        mounted.unmount().context("unmounting")?;
        self.remounts += 1;
        let medium = self.places.work.join("medium");
        let again = Mounted::new(
            *frozen.after,
            &medium,
            self.plan.sync_us,
            self.plan.seed ^ self.remounts,
        );
        self.mounted = Some(again.context("mounting the medium again")?);
        // A process that a fault has ended answers nothing more while it leaves.
        let struck = frozen.struck_us.unwrap_or(frozen.at_us);
        let window_ms = struck.saturating_sub(frozen.durable_until_us) / 1000;
        if self.plan.flush == Flush::Async {
            self.shown.window_ms = self.shown.window_ms.max(window_ms);
            let stated = self.plan.flush_interval_ms + 2 * self.plan.sync_us / 1000;
            if window_ms > stated + SLACK_MS {
                bail!("bytes were unflushed for {window_ms} ms; the interval is {stated} ms");
            }
        }
        let loss = match self.plan.flush {
            Flush::Sync => Loss::Nothing,
            Flush::Async => Loss::EndSince(frozen.durable_until_us),
        };
        Ok(Ended {
            loss,
            was_cut: true,
        })
    }

    /// A start that the power leaves in the middle.
    fn cut_recovery(&mut self, faults: Faults) -> anyhow::Result<Ended> {
        self.mounted()?.disk().arm(faults);
        let mut broker = self.program.start()?;
        let end = Instant::now() + PATIENCE;
        loop {
            if self.mounted()?.wait_for_cut(Duration::from_millis(2)) {
                break;
            }
            match broker.wait_ready(Duration::ZERO) {
                Start::Pending if Instant::now() < end => {}
                Start::Ready => {
                    self.mounted()?.disk().cut(now_us());
                    break;
                }
                Start::Pending | Start::Ended => {
                    bail!("the broker does not start:\n{}", broker.log())
                }
            }
        }
        self.kill(&mut broker)?;
        drop(broker);
        self.shown.cuts += 1;
        self.remount()
    }

    /// Reads everything and judges it.
    fn look(
        &mut self,
        loss: Loss,
        told: &BTreeMap<u32, u64>,
        broker: &Broker,
    ) -> anyhow::Result<()> {
        let contents = self
            .runtime
            .block_on(verify::read(&namesrv(), TOPIC))
            .with_context(|| format!("reading everything:\n{}", broker.log()))?;
        let outcome = self.audit.look(&contents.found, &contents.first, loss);
        self.shown.lost += outcome.lost;
        let broken = &outcome.verdict.violations;
        if !broken.is_empty() {
            bail!(
                "{} broken rules, {} found:\n{}\n{}",
                broken.len(),
                outcome.verdict.found,
                some(broken),
                broker.log()
            );
        }
        if self.plan.flush == Flush::Sync {
            told_is_there(told, &contents)?;
        }
        if outcome.lost > 0 && !broker.log().contains("may be lost") {
            bail!(
                "{} acknowledged messages are lost and the broker does not say so:\n{}",
                outcome.lost,
                broker.log()
            );
        }
        Ok(())
    }

    /// Copies the store beside the histories.
    fn keep(&self) {
        let copy = self.places.work.join("store");
        let _ = std::process::Command::new("cp")
            .args(["-r", "--sparse=always"])
            .arg(Path::new(&self.program.data))
            .arg(copy)
            .status();
    }
}

/// Where an answer waits for the flush, a reader must not be told of what a cut can take.
fn told_is_there(told: &BTreeMap<u32, u64>, contents: &verify::Contents) -> anyhow::Result<()> {
    for (queue, told) in told {
        let found = contents.found.iter().filter(|found| found.queue == *queue);
        let end = found.map(|found| found.offset + 1).max().unwrap_or(0);
        if end < *told {
            bail!("readers were told that queue {queue} ends at {told}; now it ends at {end}");
        }
    }
    Ok(())
}

/// What two stops may have cost together.
const fn either(one: Loss, other: Loss) -> Loss {
    match (one, other) {
        (Loss::EndSince(one), Loss::EndSince(other)) if other < one => Loss::EndSince(other),
        (Loss::EndSince(since), _) | (Loss::Nothing, Loss::EndSince(since)) => {
            Loss::EndSince(since)
        }
        (Loss::Nothing, Loss::Nothing) => Loss::Nothing,
    }
}

fn some(broken: &[Violation]) -> String {
    let lines = broken.iter().take(10).map(|broken| format!("  {broken}\n"));
    lines.collect()
}

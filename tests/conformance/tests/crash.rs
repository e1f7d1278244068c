//! `kill -9` under acknowledged load: what was answered with `SEND_OK` is there afterwards, once, in order.
//!
//! A round starts the broker on the store that all rounds before have left, loads it with `rocket-bench`, which writes down each
//! answer, kills the broker in the middle, starts it again and holds the histories against what it gives back. The process is
//! killed, not the machine, so both flush modes must lose nothing. `ROCKET_CRASH_ROUNDS` sets the number of rounds.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use conformance::process::scratch;
use conformance::standalone::{Standalone, broker_bin};

const DEFAULT_ROUNDS: u32 = 50;
/// So much of a history shows that answers flow.
const FLOWING_BYTES: u64 = 32 * 1024;
const PATIENCE: Duration = Duration::from_secs(20);
/// Small files, so that rounds meet the ends of files too.
const SETTINGS: [(&str, &str); 3] = [
    ("maxMessageSize", "65536"),
    ("mappedFileSizeCommitLog", "4194304"),
    ("mappedFileSizeConsumeQueue", "60000"),
];

#[test]
fn nothing_acknowledged_is_lost_when_killed_under_sync_flush() {
    campaign("SYNC_FLUSH").expect("fifty rounds");
}

#[test]
fn nothing_acknowledged_is_lost_when_killed_under_async_flush() {
    campaign("ASYNC_FLUSH").expect("fifty rounds");
}

fn campaign(flush: &'static str) -> Result<()> {
    let rounds = match std::env::var("ROCKET_CRASH_ROUNDS") {
        Ok(text) => text.parse().context("ROCKET_CRASH_ROUNDS")?,
        Err(_) => DEFAULT_ROUNDS,
    };
    let data = scratch(&format!("crash-{flush}"))?;
    let histories = scratch(&format!("crash-history-{flush}"))?;
    let mut topics: Vec<(String, PathBuf)> = Vec::new();
    for round in 0..rounds {
        let topic = format!("crash-{round}");
        let history = histories.join(format!("{topic}.jsonl"));
        let settings = settings(flush);
        let broker = Standalone::open(&data, &settings)
            .with_context(|| format!("start of round {round}"))?;
        load_and_kill(broker, round, &topic, &history)?;
        topics.push((topic, history));
        let broker = Standalone::open(&data, &settings)
            .with_context(|| format!("recovery in round {round}"))?;
        // Each round checks its own messages; every tenth and the last all that came before as well.
        let all = round % 10 == 9 || round + 1 == rounds;
        let from = if all { 0 } else { topics.len() - 1 };
        for (topic, history) in topics.iter().skip(from) {
            verify(&broker, topic, history).with_context(|| format!("after round {round}"))?;
        }
        // Half of the stores are left in order and half are not, so that both starts meet a killed store's heir.
        if round % 2 == 0 {
            broker.stop()?;
        } else {
            broker.kill();
        }
    }
    Ok(())
}

fn settings(flush: &'static str) -> Vec<(&'static str, &'static str)> {
    SETTINGS
        .into_iter()
        .chain([("flushDiskType", flush)])
        .collect()
}

fn load_and_kill(broker: Standalone, round: u32, topic: &str, history: &Path) -> Result<()> {
    let namesrv = broker.namesrv.to_string();
    let mut load = Command::new(bench_bin()?)
        .args([
            "produce",
            "--namesrv",
            &namesrv,
            "--topic",
            topic,
            "--create-topic",
            "4",
            "--run",
            topic,
        ])
        .args([
            "--connections",
            "4",
            "--in-flight",
            "16",
            "--seconds",
            "1.5",
        ])
        .args([
            "--body-bytes",
            if round.is_multiple_of(3) {
                "4000"
            } else {
                "200"
            },
        ])
        .arg("--history")
        .arg(history)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("rocket-bench")?;
    let end = Instant::now() + PATIENCE;
    while std::fs::metadata(history).map_or(0, |m| m.len()) < FLOWING_BYTES {
        if Instant::now() > end || load.try_wait()?.is_some() {
            load.kill().ok();
            bail!("no answers flowed in round {round}:\n{}", broker.log_end());
        }
        std::thread::yield_now();
    }
    // Somewhere within the next half second, elsewhere in each round.
    std::thread::sleep(Duration::from_millis(u64::from(round * 37 % 500)));
    broker.kill();
    let status = load.wait()?;
    if !status.success() {
        bail!("rocket-bench ended with {status} in round {round}");
    }
    Ok(())
}

fn verify(broker: &Standalone, topic: &str, history: &Path) -> Result<()> {
    let output = Command::new(bench_bin()?)
        .args([
            "verify",
            "--namesrv",
            &broker.namesrv.to_string(),
            "--topic",
            topic,
            "--history",
        ])
        .arg(history)
        .output()
        .context("rocket-bench")?;
    if !output.status.success() {
        bail!(
            "{topic}: {}{}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            broker.log_end()
        );
    }
    Ok(())
}

/// `ROCKET_BENCH_BIN`, else beside the broker.
fn bench_bin() -> Result<PathBuf> {
    if let Some(bin) = std::env::var_os("ROCKET_BENCH_BIN") {
        return Ok(bin.into());
    }
    let bin = broker_bin()?.with_file_name("rocket-bench");
    if !bin.exists() {
        bail!(
            "{} does not exist: build it with `cargo build -p bench`, or set ROCKET_BENCH_BIN",
            bin.display()
        );
    }
    Ok(bin)
}

//! Lets Apache's broker write small stores, and says what is in them.
//!
//! The manifest beside a store is what Apache's own broker serves from a copy of that store, read by Apache's client after a restart.
//! Every message that was acknowledged before the kill has to be in it, or the recording fails.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use conformance::apache::{Broker, BrokerOptions, NameServer};
use conformance::process::scratch;
use conformance::programs::Programs;
use conformance::stores::{acknowledged, drive};
use serde_json::{Value, json};

use crate::say;

const PATIENCE: Duration = Duration::from_mins(2);
const COMMIT_LOG_FILE_BYTES: u64 = 1_048_576;
/// The writer is killed as soon as it has begun this many further files.
const FILES_BEFORE_KILL: usize = 2;
const STOPPED: &str = "filled, then stopped in order";
/// Small files, so that the log, the consume queues and the index all have more than one.
const SETTINGS: [(&str, &str); 7] = [
    ("mappedFileSizeCommitLog", "1048576"),
    ("mappedFileSizeConsumeQueue", "2000"),
    ("maxHashSlotNum", "128"),
    ("maxIndexNum", "512"),
    ("timerWheelEnable", "false"),
    ("transactionCheckInterval", "3600000"),
    ("fileReservedTime", "720"),
];

/// Writes both stores and their manifests.
pub(crate) fn record(programs: &Programs, out: &Path) -> Result<()> {
    std::fs::create_dir_all(out)?;
    let namesrv = NameServer::start(programs)?;
    let recording = Recording {
        programs,
        namesrv,
        out,
    };
    recording.clean()?;
    recording.killed()
}

struct Recording<'a> {
    programs: &'a Programs,
    namesrv: NameServer,
    out: &'a Path,
}

impl Recording<'_> {
    fn clean(&self) -> Result<()> {
        let data = scratch("store-clean")?;
        let broker = self.broker(&data)?;
        let facts = self.drive("store_fill")?;
        broker.stop()?;
        self.keep("apache-5.4.0-clean", STOPPED, &data, &facts)
    }

    fn killed(&self) -> Result<()> {
        let data = scratch("store-killed")?;
        let broker = self.broker(&data)?;
        let mut facts = self.drive("store_fill")?;
        let before = files(&data.join("commitlog"))?;
        let (ended, end) = mpsc::channel();
        std::thread::scope(|threads| -> Result<()> {
            threads.spawn(|| ended.send(self.drive("store_load")));
            let patience = Instant::now() + PATIENCE;
            while files(&data.join("commitlog"))? < before + FILES_BEFORE_KILL {
                if Instant::now() > patience {
                    bail!("the load did not fill {FILES_BEFORE_KILL} files");
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            broker.kill();
            facts.extend(end.recv_timeout(PATIENCE).context("end of the load")??);
            Ok(())
        })?;
        self.keep(
            "apache-5.4.0-killed",
            "filled, then killed with SIGKILL while four senders wrote",
            &data,
            &facts,
        )
    }

    fn broker(&self, data: &Path) -> Result<Broker> {
        let mut options = BrokerOptions::plain(self.namesrv.addr, data)?;
        for (key, value) in SETTINGS {
            options = options.set(key, value);
        }
        Broker::start(self.programs, &options)
    }

    fn drive(&self, scenario: &str) -> Result<Vec<Value>> {
        drive(self.programs, self.namesrv.addr, scenario)
    }

    /// Packs the store, then lets Apache's broker say what a copy of it holds.
    fn keep(&self, name: &str, how: &str, data: &Path, said: &[Value]) -> Result<()> {
        let tar = self.out.join(format!("{name}.tar.gz"));
        let pack = format!(
            "tar -C '{}' --sort=name --owner=0 --group=0 --numeric-owner --exclude=./rocksdbstore -cf - . | gzip -9n >'{}'",
            data.display(),
            tar.display()
        );
        sh(&pack)?;
        let packed_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        let copy = scratch("store-copy")?;
        sh(&format!(
            "cp -a '{}/.' '{}'",
            data.display(),
            copy.display()
        ))?;
        let broker = self.broker(&copy)?;
        let mut stored = self.drive("store_read")?;
        broker.stop()?;
        // What the second broker wrote itself (a half message moves on at its start) is in the copy alone.
        stored.retain(|f| {
            f["fact"] != "stored"
                || f["store_time"]
                    .as_u64()
                    .is_some_and(|t| u128::from(t) <= packed_ms)
        });
        let acknowledged = acknowledged(said);
        let present: HashSet<&str> = stored.iter().filter_map(|f| f["id"].as_str()).collect();
        let lost: Vec<&String> = acknowledged
            .iter()
            .filter(|id| !present.contains(id.as_str()))
            .collect();
        if !lost.is_empty() {
            bail!(
                "{name}: {} acknowledged messages are not in the store, as {}",
                lost.len(),
                lost.first().map_or("", |l| l)
            );
        }
        std::fs::write(
            self.out.join(format!("{name}.json")),
            manifest(name, how, acknowledged.len(), said, &stored)?,
        )?;
        say(&format!(
            "{name}: {} acknowledged, {} stored, {} bytes packed",
            acknowledged.len(),
            present.len(),
            std::fs::metadata(&tar)?.len()
        ))
    }
}

fn manifest(
    name: &str,
    how: &str,
    acknowledged: usize,
    said: &[Value],
    stored: &[Value],
) -> Result<String> {
    let settings: BTreeMap<&str, &str> = SETTINGS.into_iter().collect();
    let committed: Vec<Value> = said
        .iter()
        .filter(|f| f["fact"] == "committed" && how == STOPPED) // a killed broker loses the last five seconds of offsets
        .map(|f| json!({"group": f["group"], "topic": f["topic"], "queue": f["queue"], "offset": f["offset"]}))
        .collect();
    let mut text = format!(
        "{{\n\"store\": {}, \"written_by\": \"Apache RocketMQ 5.4.0\", \"how\": {}, \"acknowledged\": {acknowledged},\n\"settings\": {},\n\"committed\": {},\n\"queues\": [",
        json!(name),
        json!(how),
        json!(settings),
        json!(committed)
    );
    for (i, queue) in stored.iter().filter(|f| f["fact"] == "queue").enumerate() {
        let messages: Vec<String> = stored
            .iter()
            .filter(|f| f["fact"] == "stored" && f["topic"] == queue["topic"] && f["queue"] == queue["queue"])
            .map(|m| {
                let entry = json!({
                    "offset": m["offset"], "physical": m["physical"], "size": m["store_size"], "msg_id": m["offset_id"],
                    "uniq_key": m["id"], "keys": m["keys"], "tags": m["tags"], "body_size": m["size"], "body_crc": m["crc"],
                    "store_time": m["store_time"],
                });
                format!("\n  {entry}")
            })
            .collect();
        let min = queue["min"].as_u64().context("min of a queue")?;
        let max = min + u64::try_from(messages.len())?;
        let comma = if i == 0 { "" } else { "," };
        let (topic, id) = (&queue["topic"], &queue["queue"]);
        write!(
            text,
            "{comma}\n {{\"topic\": {topic}, \"queue\": {id}, \"min\": {min}, \"max\": {max}, \"messages\": [{}]}}",
            messages.join(",")
        )?;
    }
    text.push_str("\n]\n}\n");
    serde_json::from_str::<Value>(&text).context("the manifest itself")?;
    Ok(text)
}

fn files(dir: &Path) -> Result<usize> {
    // Apache's broker makes the next file ahead of need: one that only holds zeros is not counted.
    let mut written = 0;
    for file in std::fs::read_dir(dir)? {
        let file = file?;
        if file.metadata()?.len() == COMMIT_LOG_FILE_BYTES && first_bytes_written(&file.path())? {
            written += 1;
        }
    }
    Ok(written)
}

fn first_bytes_written(file: &Path) -> Result<bool> {
    let mut start = [0; 4];
    std::io::Read::read_exact(&mut std::fs::File::open(file)?, &mut start)?;
    Ok(start != [0; 4])
}

fn sh(script: &str) -> Result<()> {
    let status = Command::new("sh").args(["-c", script]).status()?;
    if !status.success() {
        bail!("{script}: {status}");
    }
    Ok(())
}

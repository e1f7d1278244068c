//! What a group may lose in modes whose master answers alone, and whether it told: an election costs the end of the former master's
//! log, from where the next mastership began (the record says it) for as many bytes as that replica says that it cut off.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use super::stage::{GROUP, Lead, now_us};
use crate::kubernetes::objects::text;
use crate::kubernetes::space::Space;

/// How soon a watch that is to end looks up.
const LOOK: Duration = Duration::from_millis(50);

/// A master that opened for writes.
struct Opened {
    pod: String,
    /// Where its log went on.
    start: u64,
    /// When this was seen, in microseconds since 1970.
    at_us: u64,
}

/// The masterships of the group, noted while they begin.
struct Masterships {
    is_over: Arc<AtomicBool>,
    noting: Option<JoinHandle<BTreeMap<u64, Opened>>>,
}

impl Masterships {
    fn watch(space: &Space) -> Self {
        let watch = space.watch("rbg");
        let is_over = Arc::<AtomicBool>::default();
        let ends = Arc::clone(&is_over);
        let noting = std::thread::spawn(move || {
            let mut opened = BTreeMap::new();
            while !ends.load(Ordering::Relaxed) {
                match watch.events.recv_timeout(LOOK) {
                    Ok(event) => note(&mut opened, &event["object"]),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            opened
        });
        Self {
            is_over,
            noting: Some(noting),
        }
    }

    /// Those that there were, by epoch; `record` is the newest.
    fn until(mut self, record: &Value) -> BTreeMap<u64, Opened> {
        self.is_over.store(true, Ordering::Relaxed);
        let mut opened = self.noting.take().unwrap().join().unwrap();
        note(&mut opened, record);
        opened
    }
}

impl Drop for Masterships {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

fn note(opened: &mut BTreeMap<u64, Opened>, record: &Value) {
    let number = |pointer| record.pointer(pointer).and_then(Value::as_u64);
    if text(record, "/metadata/name") != GROUP {
        return;
    }
    if let (Some(epoch), Some(start)) = (
        number("/status/activated/epoch"),
        number("/status/activated/startOffset"),
    ) {
        opened.entry(epoch).or_insert_with(|| Opened {
            pod: text(record, "/status/masterName").to_owned(),
            start,
            at_us: now_us(),
        });
    }
}

/// What one broker says of the ends that it cut off its log.
struct Cut {
    /// When its process started: it counts from then.
    started: String,
    bytes: u64,
}

impl Cut {
    #[track_caller]
    fn of(space: &Space, pod: &str) -> Self {
        let path = format!(
            "/api/v1/namespaces/{}/pods/{pod}:5557/proxy/metrics",
            space.name
        );
        let page = space.kubectl(&["get", "--raw", &path]);
        let bytes = sample(&page, "rocket_divergent_bytes_total");
        Self {
            started: sample(&page, "rocket_start_time_seconds").to_owned(),
            bytes: bytes.parse().unwrap(),
        }
    }

    /// Bytes since an earlier look.
    fn since(&self, before: &Self) -> u64 {
        if self.started == before.started {
            self.bytes - before.bytes
        } else {
            self.bytes
        }
    }
}

/// The one sample of a metric.
#[track_caller]
fn sample<'a>(page: &'a str, metric: &str) -> &'a str {
    let value = page.lines().find_map(|line| {
        let rest = line.strip_prefix(metric)?;
        let rest = rest.starts_with(['{', ' ']).then_some(rest)?;
        rest.rsplit(' ').next()
    });
    value.unwrap_or_else(|| panic!("no {metric} in {page}"))
}

/// A round in which something may be lost.
pub(super) struct Losing {
    first: Lead,
    masterships: Masterships,
    cuts: BTreeMap<String, Cut>,
}

impl Losing {
    /// Begins before the fault, with the brokers' pods.
    pub(super) fn begin(space: &Space, pods: &[String], first: &Lead) -> Self {
        Self {
            first: first.clone(),
            masterships: Masterships::watch(space),
            cuts: pods
                .iter()
                .map(|pod| (pod.clone(), Cut::of(space, pod)))
                .collect(),
        }
    }

    /// What may be lost, as rocket-bench is told it, when all is whole again. `runs` are the histories of the round, each with the
    /// time before which what it acknowledged may have been taken by the former master: without one that is when the next one was
    /// seen to have opened.
    pub(super) fn end(self, space: &Space, runs: &[(&str, Option<u64>)]) -> Vec<String> {
        let opened = self.masterships.until(&space.get("rbg", GROUP));
        let mut former = self.first.pod.as_str();
        let mut ranges = Vec::new();
        for next in opened
            .range(self.first.epoch + 1..)
            .map(|(_, opened)| opened)
        {
            let bytes = Cut::of(space, former).since(&self.cuts[former]);
            for (run, before_us) in runs.iter().filter(|_| bytes > 0) {
                let (from, to) = (next.start, next.start + bytes);
                let before_us = before_us.unwrap_or(next.at_us);
                ranges.push(format!("{run}:{from}-{to}@{before_us}"));
            }
            former = &next.pod;
        }
        ranges
    }
}

/// Waits for the Warning that an election since `first` may have cost acknowledged messages.
#[track_caller]
pub(super) fn until_told(space: &Space, first: &Lead) {
    let epoch_of = |note: &str| -> Option<u64> {
        let (_, rest) = note.split_once("in epoch ")?;
        rest.split(';').next()?.parse().ok()
    };
    let tells = |event: &Value| {
        let note = text(event, "/message");
        text(event, "/type") == "Warning"
            && text(event, "/reason") == "Elected"
            && note.contains("may be lost")
            && epoch_of(note).is_some_and(|epoch| epoch > first.epoch)
    };
    let promise = "a Warning that acknowledged messages may be lost";
    space.until("events", promise, |events| events.iter().any(tells));
}

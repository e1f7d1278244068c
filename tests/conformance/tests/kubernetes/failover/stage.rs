//! A group that elects, each replica on a node of its own, with messages in it; and one round of a fault under acknowledged load.

use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::column::{Column, Fault};
use super::faults::{Site, node_of};
use super::load::{Load, acknowledged_at, longest_pause, seconds};
use super::losses::{self, Losing};
use crate::kubernetes::bench::Bench;
use crate::kubernetes::objects::{condition, is_ready, merge, says, small_with, text};
use crate::kubernetes::space::Space;

pub(super) const CLUSTER: &str = "demo";
pub(super) const GROUP: &str = "demo-0";
/// The topic of the messages that there are before the first fault.
pub(super) const TOPIC: &str = "orders";

/// A group on its nodes with messages in it.
pub(super) struct Stage {
    shows: &'static str,
    pub(super) column: Column,
    pub(super) bench: Bench,
    pub(super) site: Site,
    pub(super) space: Space,
    topics: Vec<Topic>,
    /// How many elections outside of the complete replicas the record has to tell of: each a person's doing.
    pub(super) unclean: usize,
}

/// All that was sent to a topic. Each round has one of its own, so that no round has to read what all before it sent.
struct Topic {
    name: String,
    /// Histories.
    runs: Vec<String>,
    /// What may be lost of it, as rocket-bench is told.
    may_lose: Vec<String>,
}

/// Who leads, as the record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lead {
    pub(super) pod: String,
    pub(super) node: String,
    pub(super) epoch: u64,
}

/// What the fault has to do with the mastership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mastership {
    /// It goes on in another epoch; where, is not said.
    Changes,
    /// It moves to another pod.
    Moves,
    /// It stays.
    Stays,
}

/// What was seen of a round.
pub(super) struct Seen {
    /// When the messages of its load were acknowledged, in microseconds since 1970.
    pub(super) acknowledged: Vec<u64>,
    /// How many acknowledged messages went, as the column allows.
    pub(super) lost: u64,
}

impl Stage {
    /// In the column that was asked for; none after a loud skip.
    pub(super) fn new(slug: &str, shows: &'static str) -> Option<Self> {
        Self::with(slug, shows, Column::chosen(), &json!({}))
    }

    /// With more in the cluster's specification; none after a loud skip.
    pub(super) fn with(
        slug: &str,
        shows: &'static str,
        column: Column,
        more: &Value,
    ) -> Option<Self> {
        let stage = Self {
            shows,
            column,
            bench: Bench::new(shows)?,
            site: Site::new(shows)?,
            space: Space::new(slug, shows)?,
            topics: vec![Topic {
                name: TOPIC.to_owned(),
                runs: vec!["first".to_owned()],
                may_lose: Vec::new(),
            }],
            unclean: 0,
        };
        stage.site.make_zones();
        let mut spec = json!({
            "nameServers": {"replicas": 2},
            "scheduling": {"zoneSpread": "Required"},
        });
        merge(&mut spec, &column.spec());
        merge(&mut spec, &mutant());
        merge(&mut spec, more);
        stage.space.apply(&small_with(CLUSTER, &spec));
        stage.whole();
        let is_in_force = |record: &Value| {
            let in_force = &record["status"]["inForce"];
            in_force["flush"] == spec["flush"]
                && in_force["replication"] == spec["replication"]["mode"]
                && in_force["minInSync"] == spec["replication"]["minInSync"]
        };
        let (space, bench) = (&stage.space, &stage.bench);
        space.until_one("rbg", GROUP, "its modes in force", is_in_force);
        let summary = bench.produce(space, CLUSTER, (TOPIC, "first"), 200, 200);
        assert_eq!(summary["acked"], 200, "{summary}");
        Some(stage)
    }

    /// Names of the brokers' pods.
    pub(super) fn pods(&self) -> Vec<String> {
        (0..self.column.replicas())
            .map(|ordinal| format!("{GROUP}-{ordinal}"))
            .collect()
    }

    /// Waits until every replica has everything and could take over.
    #[track_caller]
    pub(super) fn whole(&self) -> Value {
        let has_heirs = |cluster: &Value| {
            let reason = text(condition(cluster, "FailoverReady"), "/reason");
            says(cluster, "FailoverReady", "True")
                || self.column.answers_alone()
                    && says(cluster, "FailoverReady", "False")
                    && reason == "AnsweredByMaster"
        };
        // A status of before the fault would say so too.
        let since = epoch(&self.space.get("rbg", GROUP));
        let is_of_now = |cluster: &Value| {
            let group = &cluster["status"]["groups"][0];
            group["epoch"].as_u64() >= Some(since)
        };
        let whole = |cluster: &Value| {
            is_of_now(cluster)
                && is_ready(cluster)
                && says(cluster, "ReplicationHealthy", "True")
                && has_heirs(cluster)
        };
        let promise = "Ready, all replicas in sync";
        self.space.until_one("rkt", CLUSTER, promise, whole)
    }

    pub(super) fn lead(&self) -> Lead {
        let record = self.space.get("rbg", GROUP);
        let pod = text(&record, "/status/masterName").to_owned();
        Lead {
            node: node_of(&self.space.get("pod", &pod)),
            pod,
            epoch: epoch(&record),
        }
    }

    /// Waits until somebody was elected after `former`.
    pub(super) fn elected_after(&self, former: &Lead) {
        let is_later = |record: &Value| epoch(record) > former.epoch;
        let promise = "another mastership";
        self.space.until_one("rbg", GROUP, promise, is_later);
    }

    /// A round whose fault §11 has no row for: it may cost nothing in any mode. Returns when its messages were acknowledged.
    pub(super) fn round(
        &mut self,
        number: u32,
        mastership: Mastership,
        fault: impl FnOnce(&Self, &Lead, &Load) -> Vec<String>,
    ) -> Vec<u64> {
        self.round_of(Fault::Nothing, number, mastership, fault)
            .acknowledged
    }

    /// Load before the fault, in it and after it, and then its messages are looked at; in the last round all that there are. `fault`
    /// returns when it is over, with the histories of what else was sent to the topic of the round.
    pub(super) fn round_of(
        &mut self,
        kind: Fault,
        number: u32,
        mastership: Mastership,
        fault: impl FnOnce(&Self, &Lead, &Load) -> Vec<String>,
    ) -> Seen {
        let before = self.lead();
        let name = round_name(number);
        let losing = self
            .column
            .may_lose_an_end(kind)
            .then(|| Losing::begin(&self.space, &self.pods(), &before));
        let load = Load::start(&self.bench, &self.space, (&name, &name), None);
        // It must not begin with the other run's name and `-`: what a run may lose is told by the prefix of its keys.
        let probe_name = format!("impatient-{name}");
        let probe = Load::impatient(&self.bench, &self.space, (&name, &probe_name));
        load.goes_on();
        probe.goes_on();
        let others = fault(self, &before, &load);
        load.goes_on();
        match mastership {
            Mastership::Changes | Mastership::Moves => self.elected_after(&before),
            Mastership::Stays => {}
        }
        self.whole();
        let whole_us = now_us();
        load.goes_on();
        // Its longest pause says something only when it was acknowledged before the fault and after it.
        probe.goes_on();
        let summary = load.stop();
        probe.stop();
        let after = self.lead();
        match mastership {
            Mastership::Changes => assert!(after.epoch > before.epoch, "{before:?} {after:?}"),
            Mastership::Moves => assert_ne!(after.pod, before.pod, "{before:?} {after:?}"),
            Mastership::Stays => assert_eq!(after, before),
        }
        let may_lose = losing.map(|losing| {
            // Who stood beside the former master may have been answered by it until all was whole again.
            let beside = others.iter().map(|run| (run.as_str(), Some(whole_us)));
            let runs: Vec<_> = [(name.as_str(), None), (probe_name.as_str(), None)]
                .into_iter()
                .chain(beside)
                .collect();
            losing.end(&self.space, &runs)
        });
        let acknowledged = acknowledged_at(&self.bench, &name);
        let pause = seconds(longest_pause(&acknowledged));
        let closed = seconds(longest_pause(&acknowledged_at(&self.bench, &probe_name)));
        self.topics.push(Topic {
            runs: [name.clone(), probe_name]
                .into_iter()
                .chain(others)
                .collect(),
            name,
            may_lose: may_lose.unwrap_or_default(),
        });
        let lost = self.nothing_else_is_missing(number + 1 == rounds().end);
        if lost > 0 {
            losses::until_told(&self.space, &before);
        }
        let (column, lost_end) = match (self.column, lost) {
            (Column::D, _) => (String::new(), String::new()),
            (column, 0) => (format!(", column {column:?}"), String::new()),
            (column, lost) => (
                format!(", column {column:?}"),
                format!(", {lost} lost with the end of a log, and told"),
            ),
        };
        tell(&format!(
            "{}{column}, round {number}: no acknowledgement for {pause:.2} s ({closed:.2} s for who waits 0.2 s); epoch {} to {}, {} to {}; {} acknowledged, {} unknown, {} refused{lost_end}",
            self.shows,
            before.epoch,
            after.epoch,
            before.pod,
            after.pod,
            summary["acked"],
            summary["unknown"],
            summary["refused"],
        ));
        Seen { acknowledged, lost }
    }

    /// Everything acknowledged is there at its offset, once, in order, but for what this round may lose, which is counted; and nobody
    /// was elected who might lack something that was committed.
    #[track_caller]
    fn nothing_else_is_missing(&self, anywhere: bool) -> u64 {
        let first = if anywhere { 0 } else { self.topics.len() - 1 };
        let mut lost = 0;
        for topic in self.topics.iter().skip(first) {
            lost = self.verify(&topic.name, &topic.runs, &topic.may_lose);
        }
        let record = self.space.get("rbg", GROUP);
        let unclean = record["status"]["unclean"].as_array();
        assert_eq!(unclean.map_or(0, Vec::len), self.unclean, "{record}");
        lost
    }

    /// Reads a topic whole and holds it against histories; returns how many messages were lost as they may be.
    #[track_caller]
    fn verify(&self, topic: &str, runs: &[String], may_lose: &[String]) -> u64 {
        let runs: Vec<&str> = runs.iter().map(String::as_str).collect();
        let allowed: Vec<&str> = may_lose
            .iter()
            .flat_map(|range| ["--may-lose", range])
            .collect();
        let verdict = self
            .bench
            .verify_but(&self.space, CLUSTER, topic, &runs, &allowed);
        assert!(verdict.contains(", 0 broken rules"), "{verdict}");
        let lost = verdict.trim_end().strip_suffix(" lost as allowed");
        let lost = lost.and_then(|verdict| verdict.rsplit(' ').next()?.parse().ok());
        lost.unwrap_or_else(|| panic!("{verdict}"))
    }
}

/// Brokers that break a rule on purpose, where the environment names one (`on-cluster --mutant`): the tests then have to fail.
fn mutant() -> Value {
    let variable = |name| std::env::var(name).ok();
    match (
        variable("ROCKET_MUTANT_BROKER_IMAGE"),
        variable("ROCKET_FAILOVER_MUTANT"),
    ) {
        (Some(image), Some(mutant)) => {
            let env = json!([{"name": "ROCKET_MUTANT", "value": mutant}]);
            json!({"image": image, "podTemplate": {"env": env}})
        }
        _ => json!({}),
    }
}

/// Name of the topic of a round, and of its history.
pub(super) fn round_name(number: u32) -> String {
    format!("round-{number}")
}

fn epoch(record: &Value) -> u64 {
    record["status"]["epoch"].as_u64().unwrap_or_default()
}

/// Says what was seen, past the capture of test output and on a line of its own: it is what one wants to know of a failover.
pub(super) fn tell(seen: &str) {
    let _ = std::io::stderr().write_all(format!("\nSEEN: {seen}\n").as_bytes());
}

pub(super) fn rounds() -> std::ops::Range<u32> {
    let asked = std::env::var("ROCKET_FAILOVER_ROUNDS").ok();
    0..asked.map_or(1, |rounds| rounds.parse().unwrap())
}

pub(super) fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_micros()).unwrap()
}

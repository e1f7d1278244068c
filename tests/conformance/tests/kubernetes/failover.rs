//! Groups of three that elect, on nodes that fail, under acknowledged load: whatever becomes of the master, its node, its network,
//! its operator or the API server, every acknowledged message is there at its offset, no offset is given twice, nobody is elected who
//! lacks something, and the group heals.
//!
//! One round of each; `tests/conformance/on-cluster --rounds N kubernetes::failover` runs more. How long nothing was acknowledged is
//! printed and never judged.

mod faults;
mod load;
mod requests;

use std::io::Write as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::kubernetes::space::{Bench, Space, is_ready, says, small_with, text};
use faults::{Site, node_of};
use load::{Load, acknowledged_at, longest_pause, seconds};

const CLUSTER: &str = "demo";
const GROUP: &str = "demo-0";
const TOPIC: &str = "orders";

/// How long a process stands still.
const FROZEN: Duration = Duration::from_secs(10);
/// How long the API server is away.
const WITHOUT_API: Duration = Duration::from_mins(1);

/// A group on three nodes with messages in it.
struct Stage {
    shows: &'static str,
    bench: Bench,
    site: Site,
    space: Space,
    /// Histories of all that was sent.
    runs: Vec<String>,
}

/// Who leads, as the record says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Lead {
    pod: String,
    node: String,
    epoch: u64,
}

/// What the fault has to do with the mastership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mastership {
    /// It goes on in another epoch; where, is not said.
    Changes,
    /// It moves to another pod.
    Moves,
    /// It stays.
    Stays,
}

impl Stage {
    /// None after a loud skip.
    fn new(slug: &str, shows: &'static str) -> Option<Self> {
        let stage = Self {
            shows,
            bench: Bench::new(shows)?,
            site: Site::new(shows)?,
            space: Space::new(slug, shows)?,
            runs: vec!["first".to_owned()],
        };
        stage.site.make_zones();
        let spec = json!({
            "nameServers": {"replicas": 2},
            "groups": {"replicas": 3},
            "scheduling": {"zoneSpread": "Required"},
        });
        stage.space.apply(&small_with(CLUSTER, &spec));
        stage.whole();
        let (space, bench) = (&stage.space, &stage.bench);
        let summary = bench.produce(space, CLUSTER, (TOPIC, "first"), 200, 200);
        assert_eq!(summary["acked"], 200, "{summary}");
        Some(stage)
    }

    /// Waits until every replica has everything and could take over.
    #[track_caller]
    fn whole(&self) -> Value {
        let whole = |cluster: &Value| {
            let conditions = ["ReplicationHealthy", "FailoverReady"];
            is_ready(cluster) && conditions.iter().all(|type_| says(cluster, type_, "True"))
        };
        let promise = "Ready, all replicas in sync";
        self.space.until_one("rkt", CLUSTER, promise, whole)
    }

    fn lead(&self) -> Lead {
        let record = self.space.get("rbg", GROUP);
        let pod = text(&record, "/status/masterName").to_owned();
        Lead {
            node: node_of(&self.space.get("pod", &pod)),
            pod,
            epoch: epoch(&record),
        }
    }

    /// Waits until somebody was elected after `former`.
    fn elected_after(&self, former: &Lead) {
        let is_later = |record: &Value| epoch(record) > former.epoch;
        let promise = "another mastership";
        self.space.until_one("rbg", GROUP, promise, is_later);
    }

    /// Load before the fault, in it and after it, and then every message is looked at. `fault` returns when it is over, with the
    /// histories of what else was sent. Returns when the messages of this load were acknowledged.
    fn round(
        &mut self,
        number: u32,
        mastership: Mastership,
        fault: impl FnOnce(&Self, &Lead, &Load) -> Vec<String>,
    ) -> Vec<u64> {
        let before = self.lead();
        let run = format!("round-{number}");
        let load = Load::start(&self.bench, &self.space, &run, None);
        load.goes_on();
        let others = fault(self, &before, &load);
        load.goes_on();
        self.whole();
        load.goes_on();
        let summary = load.stop();
        let after = self.lead();
        match mastership {
            Mastership::Changes => assert!(after.epoch > before.epoch, "{before:?} {after:?}"),
            Mastership::Moves => assert_ne!(after.pod, before.pod, "{before:?} {after:?}"),
            Mastership::Stays => assert_eq!(after, before),
        }
        let acknowledged = acknowledged_at(&self.bench, &run);
        let pause = seconds(longest_pause(&acknowledged));
        self.runs.push(run);
        self.runs.extend(others);
        self.nothing_is_missing();
        // Past the capture of test output, on a line of its own: it is what one wants to know of a failover.
        let told = format!(
            "\nSEEN: {}, round {number}: no acknowledgement for {pause:.2} s; epoch {} to {}, {} to {}; {} acknowledged, {} unknown, {} refused\n",
            self.shows,
            before.epoch,
            after.epoch,
            before.pod,
            after.pod,
            summary["acked"],
            summary["unknown"],
            summary["refused"],
        );
        let _ = std::io::stderr().write_all(told.as_bytes());
        acknowledged
    }

    /// Everything acknowledged is there at its offset, once, in order; and nobody was elected who might lack something.
    #[track_caller]
    fn nothing_is_missing(&self) {
        let runs: Vec<&str> = self.runs.iter().map(String::as_str).collect();
        let verdict = self.bench.verify(&self.space, CLUSTER, TOPIC, &runs);
        assert!(verdict.contains(", 0 broken rules"), "{verdict}");
        let record = self.space.get("rbg", GROUP);
        let unclean = record["status"]["unclean"].as_array();
        assert!(unclean.is_none_or(Vec::is_empty), "{record}");
    }
}

fn epoch(record: &Value) -> u64 {
    record["status"]["epoch"].as_u64().unwrap_or_default()
}

fn rounds() -> std::ops::Range<u32> {
    let asked = std::env::var("ROCKET_FAILOVER_ROUNDS").ok();
    0..asked.map_or(1, |rounds| rounds.parse().unwrap())
}

fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_micros()).unwrap()
}

#[test]
fn three_replicas_elect_a_master_and_copy_what_it_takes() {
    let Some(stage) = Stage::new("elects", "a group of three elects and copies") else {
        return;
    };
    let cluster = stage.whole();
    let status = &cluster["status"];
    assert_eq!(status["effective"]["minInSync"], 2);
    assert_eq!(status["groups"][0]["inSync"].as_array().unwrap().len(), 3);
    let record = stage.space.get("rbg", GROUP);
    assert_eq!(text(&record, "/status/rule"), "Elected");
    let nodes = ["demo-0-0", "demo-0-1", "demo-0-2"].map(|pod| {
        let pod = stage.space.get("pod", pod);
        let role = text(&pod, "/metadata/labels/rocketcluster.io~1role");
        let is_master = text(&pod, "/metadata/name") == text(&record, "/status/masterName");
        assert_eq!(role == "master", is_master, "{pod}");
        node_of(&pod)
    });
    assert!(nodes[0] != nodes[1] && nodes[1] != nodes[2] && nodes[0] != nodes[2]);
    // The record is written when a set or a role changes, never because messages come.
    let (space, bench) = (&stage.space, &stage.bench);
    let summary = bench.produce(space, CLUSTER, (TOPIC, "second"), 2000, 200);
    assert_eq!(summary["acked"], 2000, "{summary}");
    let later = stage.space.get("rbg", GROUP);
    assert_eq!(later["status"], record["status"]);
    let verdict = bench.verify(space, CLUSTER, TOPIC, &["first", "second"]);
    assert!(verdict.contains("2200 found, 0 broken rules"), "{verdict}");
}

#[test]
fn master_whose_process_is_killed_is_replaced() {
    let Some(mut stage) = Stage::new("killed", "container of the master killed") else {
        return;
    };
    for round in rounds() {
        stage.round(round, Mastership::Changes, |stage, master, _| {
            stage.site.kill(&stage.space.get("pod", &master.pod));
            Vec::new()
        });
    }
}

#[test]
fn master_whose_node_loses_power_is_replaced_and_comes_back_as_a_slave() {
    let Some(mut stage) = Stage::new("power", "node of the master powered off") else {
        return;
    };
    for round in rounds() {
        stage.round(round, Mastership::Moves, |stage, master, load| {
            let off = stage.site.power_off(&master.node);
            load.goes_on();
            off.mend();
            Vec::new()
        });
    }
}

#[test]
fn master_that_is_cut_off_with_a_client_acknowledges_nothing_once_another_one_does() {
    let Some(mut stage) = Stage::new("cut", "node of the master cut off, a client beside it")
    else {
        return;
    };
    for round in rounds() {
        let run = format!("inside-{round}");
        let (mut cut_us, mut healed_us) = (0, 0);
        let outside = stage.round(round, Mastership::Moves, |stage, master, load| {
            let inside = Load::start(&stage.bench, &stage.space, &run, Some(&master.node));
            inside.goes_on();
            cut_us = now_us();
            let cut = stage.site.cut(&master.node);
            // The other side has a master that acknowledges.
            load.goes_on();
            healed_us = now_us();
            cut.mend();
            stage.whole();
            inside.goes_on();
            inside.stop();
            vec![run.clone()]
        });
        let in_the_cut = |times: &[u64]| -> Vec<u64> {
            let inner = times.iter().filter(|at| (cut_us..healed_us).contains(*at));
            std::iter::once(cut_us).chain(inner.copied()).collect()
        };
        let (_, next_master) = longest_pause(&in_the_cut(&outside));
        let inside = in_the_cut(&acknowledged_at(&stage.bench, &run));
        let last = inside.last().copied().unwrap_or_default();
        assert!(
            last < next_master,
            "the lone master acknowledged at {last}, the next one since {next_master}"
        );
    }
}

#[test]
fn master_that_stands_still_is_replaced_and_acknowledges_nothing_when_it_goes_on() {
    let Some(mut stage) = Stage::new("frozen", "SIGSTOP of the master for 10 s") else {
        return;
    };
    for round in rounds() {
        stage.round(round, Mastership::Moves, |stage, master, load| {
            let end = Instant::now() + FROZEN;
            let frozen = stage.site.freeze(&stage.space, &master.pod);
            load.goes_on();
            std::thread::sleep(end.saturating_duration_since(Instant::now()));
            frozen.mend();
            Vec::new()
        });
    }
}

#[test]
fn master_whose_node_is_drained_hands_over_and_comes_back() {
    let Some(mut stage) = Stage::new("drained", "kubectl drain of the master's node") else {
        return;
    };
    for round in rounds() {
        stage.round(round, Mastership::Moves, |stage, master, load| {
            let cordoned = stage.site.drain(&master.node);
            load.goes_on();
            cordoned.mend();
            Vec::new()
        });
    }
}

#[test]
fn operator_that_is_killed_in_the_middle_of_a_promotion_changes_nothing() {
    let shows = "operator killed with the master, and again after the election";
    let Some(mut stage) = Stage::new("operator", shows) else {
        return;
    };
    for round in rounds() {
        stage.round(round, Mastership::Changes, |stage, master, load| {
            // It has hardly missed the master, and dies: who is to be killed is known before, so that nothing comes in between.
            let (operator, pod) = (
                stage.site.leading_operator(),
                stage.space.get("pod", &master.pod),
            );
            stage.site.kill(&pod);
            stage.site.kill(&operator);
            load.goes_on();
            stage.whole();
            // It has just written an election: neither the address of the group nor anything else may hang on what it did next.
            let master = stage.lead();
            let operator = stage.site.leading_operator();
            stage.site.kill(&stage.space.get("pod", &master.pod));
            stage.elected_after(&master);
            stage.site.kill(&operator);
            Vec::new()
        });
    }
}

#[test]
fn without_the_api_server_a_group_goes_on_and_nobody_is_elected() {
    let Some(mut stage) = Stage::new("api", "API server down for a minute") else {
        return;
    };
    for round in rounds() {
        stage.round(round, Mastership::Stays, |stage, _, load| {
            let end = Instant::now() + WITHOUT_API;
            let off = stage.site.api_off();
            while Instant::now() < end {
                load.goes_on();
            }
            off.mend();
            Vec::new()
        });
    }
}

#[test]
fn replacing_every_pod_under_load_loses_nothing() {
    let Some(mut stage) = Stage::new("rolled", "rolling restart by the operator") else {
        return;
    };
    for round in rounds() {
        stage.round(round, Mastership::Changes, |stage, _, load| {
            let hours = 48 + round;
            let edit = json!({"retention": {"hours": hours}});
            stage.space.edit(CLUSTER, &edit);
            stage.whole();
            load.goes_on();
            Vec::new()
        });
    }
}

//! Groups that elect, on nodes that fail, under acknowledged load: whatever becomes of the master, its node, its network,
//! its operator or the API server, every acknowledged message is there at its offset, no offset is given twice, nobody is elected who
//! lacks something, and the group heals.
//!
//! One round of each; `tests/conformance/on-cluster --rounds N kubernetes::failover` runs more, and `--column` in other modes of
//! docs/replication.md §11, which may then cost what its table says, if it is told. How long nothing was acknowledged is printed and
//! never judged.

mod column;
mod faults;
mod java;
mod load;
mod losses;
mod requests;
mod stage;
mod two_operators;
mod upgrade;

use std::time::{Duration, Instant};

use serde_json::json;

use crate::kubernetes::objects::text;
use column::{Column, Fault};
use faults::node_of;
use load::{Load, acknowledged_at, longest_pause};
use stage::{CLUSTER, GROUP, Mastership, Stage, TOPIC, now_us, round_name, rounds};

/// How long a process stands still.
const FROZEN: Duration = Duration::from_secs(10);
/// How long the API server is away, in the first round and in later ones.
const WITHOUT_API: [Duration; 2] = [Duration::from_mins(1), Duration::from_secs(10)];

#[test]
fn replicas_elect_a_master_and_copy_what_it_takes() {
    let Some(stage) = Stage::new("elects", "a group elects and copies") else {
        return;
    };
    let (cluster, wanted) = (stage.whole(), stage.column.spec());
    let status = &cluster["status"];
    assert_eq!(
        status["effective"]["minInSync"],
        wanted["replication"]["minInSync"]
    );
    let in_sync = status["groups"][0]["inSync"].as_array().unwrap();
    assert_eq!(in_sync.len(), stage.column.replicas());
    let record = stage.space.get("rbg", GROUP);
    assert_eq!(text(&record, "/status/rule"), "Elected");
    let mut nodes: Vec<String> = stage
        .pods()
        .iter()
        .map(|pod| {
            let pod = stage.space.get("pod", pod);
            let role = text(&pod, "/metadata/labels/rocketcluster.io~1role");
            let is_master = text(&pod, "/metadata/name") == text(&record, "/status/masterName");
            assert_eq!(role == "master", is_master, "{pod}");
            node_of(&pod)
        })
        .collect();
    nodes.sort_unstable();
    nodes.dedup();
    assert_eq!(nodes.len(), stage.column.replicas(), "{nodes:?}");
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
        let killed = |stage: &Stage, master: &stage::Lead, _: &Load| {
            stage.site.kill(&stage.space.get("pod", &master.pod));
            Vec::new()
        };
        stage.round_of(Fault::Killed, round, Mastership::Changes, killed);
    }
}

#[test]
fn master_whose_node_loses_power_is_replaced_and_comes_back_as_a_slave() {
    let Some(mut stage) = Stage::new("power", "node of the master powered off") else {
        return;
    };
    for round in rounds() {
        let off = |stage: &Stage, master: &stage::Lead, load: &Load| {
            let off = stage.site.power_off(&master.node);
            load.goes_on();
            off.mend();
            Vec::new()
        };
        stage.round_of(Fault::PowerLost, round, Mastership::Moves, off);
    }
}

#[test]
fn master_that_is_cut_off_with_a_client_acknowledges_nothing_once_another_one_does() {
    let Some(mut stage) = Stage::new("cut", "node of the master cut off, a client beside it")
    else {
        return;
    };
    for round in rounds() {
        cut_off(&mut stage, round);
    }
}

/// The one fault in which a mode that answers alone loses for certain: what the lone master acknowledged goes, and nothing else.
#[test]
fn what_a_lone_master_answered_by_itself_is_lost_and_told() {
    let shows = "master that answers alone cut off, a client beside it";
    let Some(mut stage) = Stage::with("alone", shows, Column::B, &json!({})) else {
        return;
    };
    let lost = cut_off(&mut stage, 0);
    assert!(lost > 0, "the lone master acknowledged, and kept all of it");
}

/// A round in which the node of the master is cut off with a client beside it; returns how many acknowledged messages it cost.
fn cut_off(stage: &mut Stage, round: u32) -> u64 {
    let (topic, run) = (round_name(round), format!("inside-{round}"));
    let (mut cut_us, mut healed_us) = (0, 0);
    let seen = stage.round_of(
        Fault::CutOff,
        round,
        Mastership::Moves,
        |stage, master, load| {
            let place = (topic.as_str(), run.as_str());
            let inside = Load::start(&stage.bench, &stage.space, place, Some(&master.node));
            inside.goes_on();
            cut_us = now_us();
            let cut = stage.site.cut(&master.node);
            // The other side has a master that acknowledges.
            load.goes_on();
            if stage.column.answers_alone() {
                inside.goes_on();
            }
            healed_us = now_us();
            cut.mend();
            stage.whole();
            inside.goes_on();
            inside.stop();
            vec![run.clone()]
        },
    );
    if stage.column.answers_alone() {
        return seen.lost;
    }
    let in_the_cut = |times: &[u64]| -> Vec<u64> {
        let inner = times.iter().filter(|at| (cut_us..healed_us).contains(*at));
        std::iter::once(cut_us).chain(inner.copied()).collect()
    };
    let (_, next_master) = longest_pause(&in_the_cut(&seen.acknowledged));
    let inside = in_the_cut(&acknowledged_at(&stage.bench, &run));
    let last = inside.last().copied().unwrap_or_default();
    assert!(
        last < next_master,
        "the lone master acknowledged at {last}, the next one since {next_master}"
    );
    seen.lost
}

#[test]
fn master_that_stands_still_is_replaced_and_acknowledges_nothing_when_it_goes_on() {
    let Some(mut stage) = Stage::new("frozen", "SIGSTOP of the master for 10 s") else {
        return;
    };
    for round in rounds() {
        let frozen = |stage: &Stage, master: &stage::Lead, load: &Load| {
            let end = Instant::now() + FROZEN;
            let frozen = stage.site.freeze(&stage.space, &master.pod);
            load.goes_on();
            std::thread::sleep(end.saturating_duration_since(Instant::now()));
            frozen.mend();
            Vec::new()
        };
        stage.round_of(Fault::Paused, round, Mastership::Moves, frozen);
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
        let killed = |stage: &Stage, master: &stage::Lead, load: &Load| {
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
        };
        stage.round_of(Fault::Killed, round, Mastership::Changes, killed);
    }
}

#[test]
fn without_the_api_server_a_group_goes_on_and_nobody_is_elected() {
    let [first, later] = WITHOUT_API;
    let Some(mut stage) = Stage::new("api", "API server down") else {
        return;
    };
    for round in rounds() {
        stage.round(round, Mastership::Stays, |stage, _, load| {
            let end = Instant::now() + if round == 0 { first } else { later };
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

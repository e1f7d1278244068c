//! The official Java clients as anybody has them, with all their defaults: they ask for the route every 30 s, wait 3 s for an answer and
//! try twice more. What carries them over a failover is the address of the group, which leads to the next master.

use std::collections::BTreeMap;
use std::process::Command;

use conformance::process::scratch;
use conformance::programs::{java, loads_or_skip, orderlies_or_skip};
use serde_json::json;

use super::column::{Column, Fault};
use super::faults::node_of;
use super::load::{Load, acknowledged_at, longest_pause, seconds};
use super::requests::another_than;
use super::stage::{CLUSTER, Lead, Mastership, Stage, round_name, rounds, tell};
use crate::kubernetes::bench::namesrv;

const SENDERS: &str = "4";

impl Stage {
    /// A node that the master is not on.
    fn other_node(&self, master: &Lead) -> String {
        let mut nodes = self
            .pods()
            .into_iter()
            .map(|pod| node_of(&self.space.get("pod", &pod)));
        nodes.find(|node| *node != master.node).unwrap()
    }

    /// One of our Java programs in the network of a node.
    fn java(&self, class_path: &str, name: &str, node: &str) -> Command {
        let folder = scratch("java").unwrap();
        let program = java(class_path, 128, &folder, &BTreeMap::new());
        let mut command = self.bench.inside(Some(node));
        command
            .arg(program.get_program())
            .args(program.get_args())
            .args([name, &namesrv(&self.space, CLUSTER)])
            .current_dir(folder);
        command
    }

    /// A Java producer in the network of a node, of whose run topic and history have the name.
    fn java_load(&self, class_path: &str, run: &str, node: &str) -> Load {
        let mut command = self.java(class_path, "Load", node);
        command
            .args([run, run])
            .arg(self.bench.history(run))
            .arg(SENDERS);
        Load::of(command, run)
    }

    /// Two orderly Java consumers of a group in the network of a node.
    fn orderly(&self, class_path: &str, topic: &str, group: &str, node: &str) -> Load {
        let mut command = self.java(class_path, "Orderly", node);
        command.args([topic, group]);
        Load::of(command, group)
    }
}

/// Rounds of a fault under both clients; `fault` returns when it is over.
fn outlived(slug: &str, shows: &'static str, kind: Fault, fault: impl Fn(&Stage, &Lead, &Load)) {
    let Some(clients) = loads_or_skip(shows) else {
        return;
    };
    let Some(mut stage) = Stage::with(slug, shows, Column::D, &json!({})) else {
        return;
    };
    for round in rounds() {
        let runs = clients
            .each_ref()
            .map(|(version, _)| format!("java-{}-{round}", version.replace('.', "_")));
        let befallen = |stage: &Stage, master: &Lead, load: &Load| {
            let node = stage.other_node(master);
            let loads: Vec<Load> = clients
                .iter()
                .zip(&runs)
                .map(|((_, class_path), run)| stage.java_load(class_path, run, &node))
                .collect();
            loads.iter().for_each(Load::goes_on);
            fault(stage, master, load);
            loads.iter().for_each(Load::goes_on);
            stage.whole();
            for load in loads {
                load.goes_on();
                load.stop();
            }
            Vec::new()
        };
        stage.round_of(kind, round, Mastership::Changes, befallen);
        for ((version, _), run) in clients.iter().zip(&runs) {
            // They send again what they are in doubt of, so it may be there twice.
            let (bench, runs) = (&stage.bench, [run.as_str()]);
            let verdict = bench.verify_but(&stage.space, CLUSTER, run, &runs, &["--retried"]);
            assert!(verdict.contains(", 0 broken rules"), "{verdict}");
            let pause = seconds(longest_pause(&acknowledged_at(bench, run)));
            tell(&format!(
                "Java client {version} in it, round {round}: no SEND_OK for {pause:.2} s; {}",
                verdict.trim_end()
            ));
        }
    }
}

#[test]
fn java_clients_outlive_a_master_that_is_killed() {
    let shows = "Java clients with their defaults, container of the master killed";
    outlived("java", shows, Fault::Killed, |stage, master, load| {
        stage.site.kill(&stage.space.get("pod", &master.pod));
        load.goes_on();
    });
}

/// Nothing closes their connections: they have to find out by themselves.
#[test]
fn java_clients_outlive_a_master_whose_node_loses_power() {
    let shows = "Java clients with their defaults, node of the master powered off";
    outlived(
        "java-off",
        shows,
        Fault::PowerLost,
        |stage, master, load| {
            let off = stage.site.power_off(&master.node);
            load.goes_on();
            off.mend();
        },
    );
}

/// The next master knows none of them and none of their locks: they keep their queues until it knows all of them.
#[test]
fn orderly_java_consumers_keep_their_queues_over_a_switchover() {
    let shows = "orderly Java consumers with their defaults, a Switchover";
    let Some(clients) = orderlies_or_skip(shows) else {
        return;
    };
    let Some(mut stage) = Stage::with("orderly", shows, Column::D, &json!({})) else {
        return;
    };
    for round in rounds() {
        let mut seen = Vec::new();
        stage.round(round, Mastership::Moves, |stage, master, load| {
            let (topic, node) = (round_name(round), stage.other_node(master));
            let consumers = clients.each_ref().map(|(version, class_path)| {
                let group = format!("orderly-{}-{round}", version.replace('.', "_"));
                stage.orderly(class_path, &topic, &group, &node)
            });
            consumers.iter().for_each(Load::goes_on);
            let to = another_than(master);
            let name = format!("orderly-{round}");
            let ended = stage.request("switchover.yaml", &name, &json!({"to": to}));
            assert_eq!(ended["phase"], "Succeeded", "{ended}");
            load.goes_on();
            consumers.iter().for_each(Load::goes_on);
            seen.extend(consumers.map(Load::stop));
            Vec::new()
        });
        for ((version, _), seen) in clients.iter().zip(&seen) {
            assert_eq!(
                (&seen["overlaps"], &seen["backwards"]),
                (&json!(0), &json!(0)),
                "client {version}: {seen}"
            );
            tell(&format!(
                "orderly Java consumers {version}, round {round}: {} messages, none twice and never two in a queue",
                seen["consumed"]
            ));
        }
    }
}

//! The official Java clients as anybody has them, with all their defaults: they ask for the route every 30 s, wait 3 s for an answer and
//! try twice more. What carries them over a failover is the address of the group, which leads to the next master.

use std::collections::BTreeMap;

use conformance::process::scratch;
use conformance::programs::{java, loads_or_skip};
use serde_json::json;

use super::column::{Column, Fault};
use super::faults::node_of;
use super::load::{Load, acknowledged_at, longest_pause, seconds};
use super::stage::{CLUSTER, Lead, Mastership, Stage, rounds, tell};
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

    /// A Java producer in the network of a node, of whose run topic and history have the name.
    fn java_load(&self, class_path: &str, run: &str, node: &str) -> Load {
        let folder = scratch("java").unwrap();
        let program = java(class_path, 128, &folder, &BTreeMap::new());
        let mut command = self.bench.inside(Some(node));
        command
            .arg(program.get_program())
            .args(program.get_args())
            .args(["Load", &namesrv(&self.space, CLUSTER), run, run])
            .arg(self.bench.history(run))
            .arg(SENDERS)
            .current_dir(folder);
        Load::of(command, run)
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

//! The examples that people copy, applied as they are.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::kubernetes::bench::Bench;
use crate::kubernetes::objects::{condition, merge, text};
use crate::kubernetes::space::{Space, run};

/// Applies an example and returns it as the API server took it.
fn apply(space: &Space, file: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../examples")
        .join(file);
    let path = path.to_str().unwrap();
    serde_json::from_str(&space.kubectl(&["apply", "-f", path, "-o", "json"])).unwrap()
}

#[test]
fn quickstart_serves() {
    let Some(space) = Space::new("quickstart", "examples/quickstart.yaml") else {
        return;
    };
    apply(&space, "quickstart.yaml");
    space.ready("quickstart");
    if let Some(bench) = Bench::new("messages in the quickstart example") {
        let summary = bench.produce(&space, "quickstart", ("hello", "run"), 200, 100);
        assert_eq!(summary["acked"], 200, "{summary}");
        bench.verify(&space, "quickstart", "hello", &["run"]);
    }
}

#[test]
fn low_latency_async_serves() {
    let Some(space) = Space::new("async", "examples/low-latency-async.yaml") else {
        return;
    };
    apply(&space, "low-latency-async.yaml");
    // Its requests are those of real machines; whether they fit here is not what is shown.
    space.edit(
        "clicks",
        &json!({"groups": {"resources": {"requests": {"cpu": "10m", "memory": "64Mi"}}}}),
    );
    let cluster = space.ready("clicks");
    assert_eq!(cluster["status"]["groupsReady"], "2/2");
    let conf = space.get("cm", &space.config("clicks-1"));
    for line in [
        "flushDiskType=ASYNC_FLUSH",
        "replicationMode=ASYNC",
        "fileReservedTime=12",
        "flushIntervalCommitLog=200",
    ] {
        assert!(
            text(&conf, "/data/broker.conf")
                .lines()
                .any(|present| present == line),
            "{line} in {conf}"
        );
    }
}

#[test]
fn production_is_accepted_and_told_what_it_lacks_here() {
    let Some(space) = Space::new("production", "examples/production.yaml") else {
        return;
    };
    let taken = apply(&space, "production.yaml");
    assert_eq!(taken["spec"]["groups"]["count"], 3);
    // This Kubernetes has neither the priority class nor three zones of large nodes: the cluster says so instead of pretending.
    let cluster = space.until_one("rkt", "orders", "says that it is not Ready", |cluster| {
        condition(cluster, "Ready")["status"] == "False"
            && cluster["status"]["groups"]
                .as_array()
                .is_some_and(|all| all.len() == 3)
    });
    assert_eq!(
        condition(&cluster, "Available")["reason"],
        "GroupWithoutMaster"
    );
    assert_eq!(
        condition(&cluster, "ReplicationHealthy")["reason"],
        "ReplicasBehind"
    );
    assert_eq!(cluster["status"]["brokersReady"], "0/9");
    for index in 0..3 {
        let set = space.get("sts", &format!("orders-{index}"));
        assert_eq!(set["spec"]["replicas"], 3);
        let mut wanted = set["spec"].clone();
        merge(
            &mut wanted,
            &json!({"template": {"spec": {"priorityClassName": "messaging", "nodeSelector": {"node.example.com/disk": "local-nvme"}}}}),
        );
        assert_eq!(wanted, set["spec"], "scheduling as written");
        assert_eq!(
            set.pointer("/spec/volumeClaimTemplates/0/spec/storageClassName"),
            Some(&json!("fast"))
        );
    }
    assert_eq!(space.list("rbg").len(), 3);
}

#[test]
fn every_example_is_applied_by_a_test() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| {
            Path::new(name)
                .extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect();
    files.sort();
    assert_eq!(
        files,
        [
            "force-elect.yaml", // this one, and the other requests, in failover/requests.rs
            "low-latency-async.yaml",
            "production.yaml",
            "quickstart.yaml",
            "rebuild.yaml",
            "restart.yaml",
            "switchover.yaml",
        ],
        "an example without a test: add one"
    );
    // And their own words are right: each names only fields that exist (strictly decoded), which needs no cluster to run.
    let Some(space) = Space::new("examples", "examples against the schema") else {
        return;
    };
    for file in files {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../examples")
            .join(&file);
        let said = run(
            Command::new(std::env::var("KUBECTL").unwrap())
                .args([
                    "-n",
                    &space.name,
                    "create",
                    "--dry-run=server",
                    "--validate=strict",
                    "-f",
                ])
                .arg(path),
            "",
        );
        assert!(
            said.as_ref().is_ok_and(|said| !said.contains("Warning")),
            "{file}: {said:?}"
        );
    }
}

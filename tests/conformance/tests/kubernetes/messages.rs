//! Acknowledged messages outlive what happens to pods, StatefulSets and the cluster object itself: a load with a history, the
//! event, and every message read again and held against the history.

use std::cell::RefCell;
use std::io::Write as _;

use serde_json::{Value, json};

use crate::kubernetes::bench::Bench;
use crate::kubernetes::objects::{pod_is_ready, small, text, uid};
use crate::kubernetes::space::{Space, run};

const COUNT: u64 = 3000;

/// A cluster with acknowledged messages in it.
fn loaded(slug: &str, shows: &str) -> Option<(Space, Bench)> {
    let bench = Bench::new(shows)?;
    let space = Space::new(slug, shows)?;
    space.make(&small("demo"));
    let summary = bench.produce(&space, "demo", ("orders", "first"), COUNT, 200);
    assert_eq!(summary["acked"], COUNT, "{summary}");
    Some((space, bench))
}

/// All is there, and the broker goes on where it was.
fn goes_on(space: &Space, bench: &Bench) {
    space.ready("demo");
    let verdict = bench.verify(space, "demo", "orders", &["first"]);
    assert!(
        verdict.contains(&format!("{COUNT} found, 0 broken rules")),
        "{verdict}"
    );
    let summary = bench.produce(space, "demo", ("orders", "second"), 500, 200);
    assert_eq!(summary["acked"], 500, "{summary}");
    let verdict = bench.verify(space, "demo", "orders", &["first", "second"]);
    assert!(
        verdict.contains(&format!("{} found, 0 broken rules", COUNT + 500)),
        "{verdict}"
    );
}

fn successor(space: &Space, former: &Value) {
    let former = uid(former);
    space.until_one("pods", "demo-0-0", "a ready successor", |pod| {
        pod_is_ready(pod) && uid(pod) != former
    });
}

#[test]
fn they_survive_the_deletion_of_their_pod() {
    let Some((space, bench)) = loaded("m-pod", "messages over the deletion of a pod") else {
        return;
    };
    let pod = space.get("pod", "demo-0-0");
    space.kubectl(&["delete", "pod", "demo-0-0"]);
    successor(&space, &pod);
    goes_on(&space, &bench);
}

#[test]
fn they_survive_the_sudden_end_of_their_pod() {
    let Some((space, bench)) = loaded("m-kill", "messages over the sudden end of a pod") else {
        return;
    };
    let pod = space.get("pod", "demo-0-0");
    space.kubectl(&["delete", "pod", "demo-0-0", "--grace-period=0", "--force"]);
    successor(&space, &pod);
    goes_on(&space, &bench);
}

#[test]
fn they_survive_the_deletion_of_their_stateful_set() {
    let Some((space, bench)) = loaded("m-set", "messages over the deletion of a StatefulSet")
    else {
        return;
    };
    let pod = space.get("pod", "demo-0-0");
    space.kubectl(&["delete", "sts", "demo-0"]);
    successor(&space, &pod);
    goes_on(&space, &bench);
}

#[test]
fn they_survive_the_deletion_of_their_cluster() {
    let Some((space, bench)) = loaded("m-cluster", "messages over the deletion of a cluster")
    else {
        return;
    };
    space.kubectl(&["delete", "rkt", "demo"]);
    space.until("pods", "the cluster's pods are gone", <[Value]>::is_empty);
    space.make(&small("demo"));
    goes_on(&space, &bench);
}

#[test]
fn they_survive_a_change_of_flush_mode_and_a_further_group() {
    let Some((space, bench)) = loaded("m-edit", "messages over edits") else {
        return;
    };
    space.edit("demo", &json!({"flush": "Async", "groups": {"count": 2}}));
    goes_on(&space, &bench);
}

/// What the broker of a pod says of itself.
fn readyz(bench: &Bench, pod: &Value) -> String {
    let url = format!("http://{}:5557/readyz", text(pod, "/status/podIP"));
    let mut asking = bench.inside(None);
    asking.args(["curl", "-s", "--max-time", "2", &url]);
    run(&mut asking, "").unwrap_or_default()
}

/// A broker without room is not ready. Consumers that come now must reach it all the same, since they alone make room.
#[test]
fn newcomers_read_them_while_a_full_disk_refuses_sends() {
    let shows = "messages on a full disk";
    let Some((space, bench)) = loaded("m-full", shows) else {
        return;
    };
    let former = uid(&space.get("pod", "demo-0-0"));
    // The lowest marks that can be written.
    let marks = json!({"diskHighWatermarkPercent": 34, "diskRejectPercent": 35});
    space.edit("demo", &json!({"retention": marks}));
    let said = RefCell::new(String::new());
    let next = space.until_one("pods", "demo-0-0", "a successor that tells", |pod| {
        let is_next = !pod.is_null() && uid(pod) != former;
        if is_next && pod["status"]["podIP"].is_string() {
            said.replace(readyz(&bench, pod));
        }
        is_next && (said.borrow().contains("% full") || pod_is_ready(pod))
    });
    if pod_is_ready(&next) {
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED, NOT SHOWN: {shows}: less than 35 % of this machine's disk are used"
        );
        return;
    }
    let verdict = bench.verify(&space, "demo", "orders", &["first"]);
    assert!(
        verdict.contains(&format!("{COUNT} found, 0 broken rules")),
        "{verdict}"
    );
    let now = space.get("pod", "demo-0-0");
    assert!(!pod_is_ready(&now), "{}", readyz(&bench, &now));
    let marks = json!({"diskHighWatermarkPercent": 75, "diskRejectPercent": 90});
    space.edit("demo", &json!({"retention": marks}));
    goes_on(&space, &bench);
}

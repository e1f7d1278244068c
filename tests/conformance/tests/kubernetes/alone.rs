//! What counts requests, or stops the operator that all tests share: one at a time, after the others.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

use crate::kubernetes::objects::{pod_is_ready, says, small, text, uid};
use crate::kubernetes::space::{PATIENCE, Space, operator_namespace, program, run};

const OPERATOR: &str = "app.kubernetes.io/name=rocket-operator";

/// Name of the pod that leads; a former leader's name may still stand in the lease for a while.
pub(crate) fn leader(operator: &Space) -> String {
    let leads = |lease: &Value| match text(lease, "/spec/holderIdentity") {
        "" => false,
        holder => pod_is_ready(&operator.get("pod", holder)),
    };
    let lease = operator.until_one("leases", "rocket-operator", "a ready pod leads", leads);
    text(&lease, "/spec/holderIdentity").to_owned()
}

/// Samples of a metric by their labels.
fn samples(page: &str, metric: &str) -> BTreeMap<String, f64> {
    let line = |line: &str| {
        let rest = line.strip_prefix(metric)?.strip_prefix('{')?;
        let (labels, value) = rest.rsplit_once("} ")?;
        Some((labels.to_owned(), value.trim().parse().ok()?))
    };
    page.lines().filter_map(line).collect()
}

/// Writes that the API server answered for our own kinds, by verb and resource, whoever asked.
fn writes_seen_by_the_server(space: &Space) -> BTreeMap<String, f64> {
    let mut seen = samples(
        &space.kubectl(&["get", "--raw", "/metrics"]),
        "apiserver_request_total",
    );
    seen.retain(|labels, _| {
        labels.contains("group=\"rocketcluster.io\"")
            && !["GET", "LIST", "WATCH"]
                .iter()
                .any(|verb| labels.contains(&format!("verb=\"{verb}\"")))
    });
    seen
}

/// Writes that the operator counted at its own transport, without its lease (the only thing that it updates in a steady state).
fn writes_told_by_the_operator(operator: &Space, pod: &str) -> (BTreeMap<String, f64>, f64) {
    let path = format!(
        "/api/v1/namespaces/{}/pods/{pod}:8080/proxy/metrics",
        operator.name
    );
    let page = operator.kubectl(&["get", "--raw", &path]);
    let mut requests = samples(&page, "rocket_operator_api_requests_total");
    assert!(
        requests
            .keys()
            .any(|labels| labels.contains("verb=\"get\"")),
        "{page}"
    );
    requests.retain(|labels, _| {
        ["create", "patch", "delete"]
            .iter()
            .any(|verb| labels.contains(&format!("verb=\"{verb}\"")))
    });
    let reconciles = samples(&page, "rocket_operator_reconcile_total");
    (requests, reconciles.values().sum())
}

#[test]
fn in_a_steady_state_nothing_is_written() {
    let Some(space) = Space::new("steady", "no writes in a steady state") else {
        return;
    };
    let operator = Space::operator("no writes in a steady state").unwrap();
    let leader = leader(&operator);
    space.make(&small("demo"));
    let ours = format!("-{}", std::process::id());
    space.until(
        "namespaces",
        "what other tests made is gone",
        |namespaces| {
            let of_this_run = namespaces
                .iter()
                .filter(|one| text(one, "/metadata/name").ends_with(&ours));
            of_this_run.count() == 1
        },
    );
    // The last events of making it (endpoints, pod status) have to be over: a reconcile that came after everything was ready.
    nudge(&space, &operator, &leader, 0);
    let resource_versions = || -> Vec<(String, String)> {
        [
            "rkt",
            "rbg",
            "sts",
            "cm",
            "svc",
            "sa",
            "roles",
            "rolebindings",
            "pdb",
            "netpol",
            "pvc",
            "pods",
        ]
        .iter()
        .flat_map(|kind| space.list(kind))
        .filter(|object| object["kind"] != "RocketCluster")
        .map(|object| {
            (
                uid(&object),
                text(&object, "/metadata/resourceVersion").to_owned(),
            )
        })
        .collect()
    };
    let (told, _) = writes_told_by_the_operator(&operator, &leader);
    let (seen, objects) = (writes_seen_by_the_server(&space), resource_versions());
    let status = space.get("rkt", "demo")["status"].clone();
    for round in 1..=3 {
        nudge(&space, &operator, &leader, round);
    }
    let (told_later, _) = writes_told_by_the_operator(&operator, &leader);
    assert_eq!(told_later, told, "writes counted by the operator");
    assert_eq!(resource_versions(), objects, "objects that changed");
    assert_eq!(space.get("rkt", "demo")["status"], status);
    let later = writes_seen_by_the_server(&space);
    let more: BTreeMap<&String, f64> = later
        .iter()
        .map(|(labels, count)| {
            (
                labels,
                count - seen.get(labels).copied().unwrap_or_default(),
            )
        })
        .filter(|(_, more)| *more != 0.0)
        .collect();
    // Our own three nudges are the only writes to objects of our kinds.
    assert!(
        more.len() == 1
            && more.iter().all(|(labels, count)| {
                (count - 3.0).abs() < 0.5
                    && labels.contains("verb=\"PATCH\"")
                    && labels.contains("resource=\"rocketclusters\"")
                    && labels.contains("subresource=\"\"")
            }),
        "{more:?}"
    );
}

/// Forces a reconcile by an annotation, and waits until the operator has done one.
fn nudge(space: &Space, operator: &Space, leader: &str, round: u32) {
    let (_, before) = writes_told_by_the_operator(operator, leader);
    let annotation =
        json!({"metadata": {"annotations": {"test.example.com/round": round.to_string()}}});
    space.kubectl(&[
        "patch",
        "rkt",
        "demo",
        "--type=merge",
        "-p",
        &annotation.to_string(),
    ]);
    let end = Instant::now() + PATIENCE;
    // A counter cannot be watched; each look is a request of its own.
    while writes_told_by_the_operator(operator, leader).1 <= before {
        assert!(
            Instant::now() < end,
            "no reconcile after a changed annotation"
        );
    }
}

#[test]
fn a_stopping_leader_gives_the_lease_back_and_the_other_takes_it() {
    let Some(operator) = Space::operator("hand-over of the lease") else {
        return;
    };
    ready_operators(&operator, &[]);
    let first = leader(&operator);
    let watch = operator.watch("leases");
    let end = Instant::now() + PATIENCE;
    let mut holders: Vec<String> = Vec::new();
    while !holders
        .last()
        .is_some_and(|holder| !holder.is_empty() && *holder != first)
    {
        let event = watch
            .events
            .recv_timeout(end.saturating_duration_since(Instant::now()))
            .unwrap_or_else(|e| panic!("{e}; holders so far: {holders:?}"));
        if event["object"]["metadata"]["name"] == "rocket-operator" {
            let holder = text(&event["object"], "/spec/holderIdentity").to_owned();
            if holders.is_empty() {
                // The watch has begun, so no later holder is missed.
                operator.kubectl(&["delete", "pod", &first, "--wait=false"]);
            }
            if holders.last() != Some(&holder) {
                holders.push(holder);
            }
        }
    }
    assert_eq!(holders.len(), 3, "{holders:?}");
    assert_eq!(
        holders[..2],
        [first, String::new()],
        "held, then given back"
    );
}

/// Waits until two operators are ready, none of them one of `former`.
fn ready_operators(operator: &Space, former: &[String]) -> Vec<String> {
    let is_operator = |pod: &&Value| {
        pod["metadata"]["labels"]["app.kubernetes.io/name"] == "rocket-operator"
            && pod_is_ready(pod)
    };
    let pods = operator.until("pods", "two ready operators", |pods| {
        let ready: Vec<String> = pods.iter().filter(is_operator).map(uid).collect();
        ready.len() >= 2 && !ready.iter().any(|pod| former.contains(pod))
    });
    pods.iter().filter(is_operator).map(uid).collect()
}

#[test]
fn an_operator_that_dies_in_the_middle_is_no_matter() {
    let Some(space) = Space::new("restart", "restart of the operator in the middle") else {
        return;
    };
    let operator = Space::operator("restart of the operator in the middle").unwrap();
    let former = ready_operators(&operator, &[]);
    let selector = [
        "delete",
        "pod",
        "-l",
        OPERATOR,
        "--grace-period=0",
        "--force",
    ];
    // In the middle of making a cluster.
    space.apply(&small("demo"));
    space.until("configmaps", "the first objects are there", |objects| {
        objects
            .iter()
            .any(|object| object["metadata"]["name"] == "demo-namesrv-config")
    });
    operator.kubectl(&selector);
    space.ready("demo");
    let between = ready_operators(&operator, &former);
    // In the middle of an edit.
    let before = uid(&space.get("pod", "demo-0-0"));
    space.edit("demo", &json!({"flush": "Async", "groups": {"count": 2}}));
    operator.kubectl(&selector);
    let cluster = space.ready("demo");
    ready_operators(&operator, &between);
    assert_eq!(cluster["status"]["groupsReady"], "2/2");
    assert!(says(&cluster, "ConfigApplied", "True"), "{cluster}");
    assert_ne!(uid(&space.get("pod", "demo-0-0")), before);
    for group in ["demo-0", "demo-1"] {
        let conf = space.get("cm", &space.config(group));
        assert!(
            text(&conf, "/data/broker.conf").contains("flushDiskType=ASYNC_FLUSH"),
            "{conf}"
        );
    }
}

#[test]
fn an_upgrade_of_the_chart_restarts_no_broker() {
    let shows = "upgrade of the chart";
    let Some(helm) = program("HELM", shows) else {
        return;
    };
    let (Some(space), Some(operator)) = (Space::new("upgrade", shows), Space::operator(shows))
    else {
        return;
    };
    space.make(&small("demo"));
    let identity = |name: &str| uid(&space.get("pod", name));
    let before = (identity("demo-0-0"), identity("demo-namesrv-0"));
    let former = ready_operators(&operator, &[]);
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/rocket-operator");
    let namespace = operator_namespace();
    let upgrade = [
        "upgrade",
        "rocket-operator",
        chart,
        "-n",
        &namespace,
        "--reuse-values",
        "--wait",
        "--timeout",
        "150s",
        "--set",
        "concurrency=15",
    ];
    run(Command::new(&helm).args(upgrade), "")
        .unwrap_or_else(|error| panic!("helm upgrade: {error}"));
    ready_operators(&operator, &former);
    leader(&operator);
    // The new operator has looked at it: it applies an edit.
    space.edit("demo", &json!({"nameServers": {"replicas": 2}}));
    space.ready("demo");
    assert_eq!((identity("demo-0-0"), identity("demo-namesrv-0")), before);
}

#[test]
fn helm_test_passes() {
    let Some(helm) = program("HELM", "helm test") else {
        return;
    };
    let namespace = operator_namespace();
    let args = [
        "test",
        "rocket-operator",
        "-n",
        &namespace,
        "--timeout",
        "120s",
    ];
    let said =
        run(Command::new(helm).args(args), "").unwrap_or_else(|error| panic!("helm test: {error}"));
    assert!(said.contains("Succeeded"), "{said}");
}

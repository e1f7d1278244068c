//! Edits of a running cluster: each arrives where it must, and disturbs nothing else.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::kubernetes::objects::{condition, is_ready, pod_is_ready, says, small, text, uid};
use crate::kubernetes::space::Space;

/// Identity of every pod.
fn pods(space: &Space) -> BTreeMap<String, String> {
    let pods = space.list("pods");
    pods.iter()
        .map(|pod| (text(pod, "/metadata/name").to_owned(), uid(pod)))
        .collect()
}

/// Whether the `broker.conf` of a group has this line.
fn has_line(space: &Space, group: &str, line: &str) -> bool {
    text(&space.get("cm", &space.config(group)), "/data/broker.conf")
        .lines()
        .any(|present| present == line)
}

#[test]
fn another_flush_mode_reaches_the_running_broker() {
    let Some(space) = Space::new("flush", "change of the flush mode") else {
        return;
    };
    space.make(&small("demo"));
    assert!(has_line(&space, "demo-0", "flushDiskType=SYNC_FLUSH"));
    let before = pods(&space);
    space.edit(
        "demo",
        &json!({"flush": "Async", "replication": {"mode": "Async"}}),
    );
    let cluster = space.ready("demo");
    assert!(says(&cluster, "ConfigApplied", "True"), "{cluster}");
    assert!(has_line(&space, "demo-0", "flushDiskType=ASYNC_FLUSH"));
    assert!(has_line(&space, "demo-0", "replicationMode=ASYNC"));
    let after = pods(&space);
    assert_ne!(
        after["demo-0-0"], before["demo-0-0"],
        "the broker was restarted with it"
    );
    assert_eq!(
        after["demo-namesrv-0"], before["demo-namesrv-0"],
        "the name server was not"
    );
    let pod = space.get("pod", "demo-0-0");
    assert_eq!(
        pod["metadata"]["annotations"]["rocketcluster.io/config-hash"],
        space.get("sts", "demo-0")["spec"]["template"]["metadata"]["annotations"]["rocketcluster.io/config-hash"]
    );
}

#[test]
fn groups_come_and_go_by_kubectl_scale_without_touching_the_others() {
    let Some(space) = Space::new("scale", "kubectl scale") else {
        return;
    };
    space.make(&small("demo"));
    let before = pods(&space);
    space.kubectl(&["scale", "rkt", "demo", "--replicas=3"]);
    let cluster = space.ready("demo");
    assert_eq!(cluster["status"]["groupsReady"], "3/3");
    let grown = pods(&space);
    let expected = ["demo-0-0", "demo-1-0", "demo-2-0", "demo-namesrv-0"];
    assert_eq!(
        grown.keys().map(String::as_str).collect::<Vec<_>>(),
        expected
    );
    for (name, identity) in &before {
        assert_eq!(&grown[name], identity, "{name} went on");
    }
    space.kubectl(&["scale", "rkt", "demo", "--replicas=1"]);
    space.until("pods", "pods of the removed groups are gone", |pods| {
        pods.len() == 2
    });
    let cluster = space.ready("demo");
    assert_eq!(cluster["status"]["groupsReady"], "1/1");
    assert_eq!(pods(&space), before);
    let sets: Vec<Value> = space.list("sts");
    assert_eq!(sets.len(), 2, "{sets:?}");
}

#[test]
fn more_name_servers_restart_no_broker() {
    let Some(space) = Space::new("namesrv", "change of the number of name servers") else {
        return;
    };
    space.make(&small("demo"));
    let before = pods(&space);
    space.edit("demo", &json!({"nameServers": {"replicas": 3}}));
    let cluster = space.ready("demo");
    assert_eq!(cluster["status"]["nameServersReady"], "3/3");
    let after = pods(&space);
    assert_eq!((after.len(), &after["demo-0-0"]), (4, &before["demo-0-0"]));
    assert_eq!(after["demo-namesrv-0"], before["demo-namesrv-0"]);
}

#[test]
fn a_wrong_key_is_told_and_its_correction_is_not_held_up() {
    let Some(space) = Space::new("wrong-key", "a key that the broker does not know") else {
        return;
    };
    space.make(&small("demo"));
    space.edit("demo", &json!({"config": {"maxMesageSize": "4096"}}));
    let cluster = space.until_one(
        "rkt",
        "demo",
        "says that the broker does not start",
        |cluster| {
            says(cluster, "Degraded", "True")
                && condition(cluster, "Degraded")["reason"] == "PodFailing"
        },
    );
    let message = text(condition(&cluster, "Degraded"), "/message").to_owned();
    assert!(
        message.contains("demo-0-0") && message.contains("ended with status"),
        "{message}"
    );
    // Every start says it in the log; which one `kubectl logs` shows depends on the moment.
    let log = ["", "--previous"].map(|which| {
        let args: Vec<&str> = ["logs", "demo-0-0", which]
            .into_iter()
            .filter(|arg| !arg.is_empty())
            .collect();
        space.ask(&args, "").unwrap_or_default()
    });
    assert!(
        log.iter()
            .any(|log| log.contains("maxMesageSize") && log.contains("maxMessageSize")),
        "{log:?}"
    );
    space.edit(
        "demo",
        &json!({"config": {"maxMesageSize": null, "maxMessageSize": "4096"}}),
    );
    space.ready("demo");
    assert!(has_line(&space, "demo-0", "maxMessageSize=4096"));
}

#[test]
fn a_paused_cluster_serves_and_waits() {
    let Some(space) = Space::new("paused", "a paused cluster") else {
        return;
    };
    space.make(&small("demo"));
    let before = pods(&space);
    space.edit("demo", &json!({"paused": true, "flush": "Async"}));
    let cluster = space.until_one("rkt", "demo", "says that it is paused", |cluster| {
        says(cluster, "Paused", "True")
    });
    assert_eq!(cluster["status"]["phase"], "Paused");
    assert!(says(&cluster, "Available", "True"), "{cluster}");
    assert!(says(&cluster, "ConfigApplied", "False"), "{cluster}");
    space.edit("demo", &json!({"groups": {"count": 2}}));
    space.until_one("rkt", "demo", "has seen the second edit", |cluster| {
        says(cluster, "Paused", "True")
    });
    // What somebody deletes now stays deleted, and Kubernetes' own part goes on.
    space.kubectl(&["delete", "pdb", "demo-0"]);
    space.kubectl(&["delete", "pod", "demo-0-0"]);
    space.until_one("pods", "demo-0-0", "back by its StatefulSet", |pod| {
        pod_is_ready(pod) && uid(pod) != before["demo-0-0"]
    });
    assert!(has_line(&space, "demo-0", "flushDiskType=SYNC_FLUSH"));
    assert_eq!(space.get("sts", "demo-1"), Value::Null);
    assert_eq!(space.get("pdb", "demo-0"), Value::Null);
    space.edit("demo", &json!({"paused": false}));
    let cluster = space.ready("demo");
    assert!(says(&cluster, "Paused", "False"), "{cluster}");
    assert_eq!(cluster["status"]["groupsReady"], "2/2");
    assert!(has_line(&space, "demo-0", "flushDiskType=ASYNC_FLUSH"));
    assert!(space.get("pdb", "demo-0").is_object());
}

#[test]
fn volumes_grow_around_running_pods() {
    let Some(space) = Space::new("grow", "growing volumes") else {
        return;
    };
    let class = space.list("storageclasses").into_iter().find(|class| {
        class["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true"
    });
    if class.is_none_or(|class| class["allowVolumeExpansion"] != true) {
        use std::io::Write as _;
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED, NOT SHOWN: growing volumes: the default storage class does not allow it"
        );
        return;
    }
    space.make(&small("demo"));
    let before = pods(&space);
    space.edit("demo", &json!({"groups": {"storage": {"size": "512Mi"}}}));
    space.until_one("pvc", "data-demo-0-0", "has grown", |claim| {
        claim["status"]["capacity"]["storage"] == "512Mi"
    });
    space.until_one("sts", "demo-0", "asks for the new size", |set| {
        set.pointer("/spec/volumeClaimTemplates/0/spec/resources/requests/storage")
            == Some(&json!("512Mi"))
    });
    space.ready("demo");
    assert_eq!(pods(&space), before, "no pod was restarted");
}

#[test]
fn replicas_added_to_a_fixed_master_are_standbys_and_the_status_says_so() {
    let Some(space) = Space::new("standbys", "replicas beyond a fixed master") else {
        return;
    };
    space.make(&small("demo"));
    space.edit("demo", &json!({"groups": {"replicas": 2}}));
    let cluster = space.ready("demo");
    assert_eq!(
        condition(&cluster, "ReplicationHealthy")["reason"],
        "StandbysHoldNoData"
    );
    assert_eq!(condition(&cluster, "ReplicationHealthy")["status"], "False");
    assert_eq!(cluster["status"]["brokersReady"], "2/2");
    assert_eq!(
        cluster.pointer("/status/groups/0/master"),
        Some(&json!("demo-0-0"))
    );
    assert_eq!(
        cluster.pointer("/status/groups/0/standbys"),
        Some(&json!(["demo-0-1"]))
    );
    for (pod, role) in [("demo-0-0", "master"), ("demo-0-1", "standby")] {
        assert_eq!(
            space.get("pod", pod)["metadata"]["labels"]["rocketcluster.io/role"],
            role,
            "{pod}"
        );
    }
    let slices = space.until(
        "endpointslices",
        "the master's Service has an address",
        |slices| !addressed(slices, "demo-0").is_empty(),
    );
    assert_eq!(
        addressed(&slices, "demo-0"),
        ["demo-0-0"],
        "clients reach the master only"
    );
    space.edit("demo", &json!({"replication": {"minInSync": 2}}));
    let cluster = space.until_one("rkt", "demo", "refuses copies", |cluster| {
        condition(cluster, "Degraded")["reason"] == "SpecRefused"
    });
    let degraded = condition(&cluster, "Degraded");
    assert!(
        text(degraded, "/message").contains("the masters of this cluster are fixed"),
        "{degraded}"
    );
    space.edit(
        "demo",
        &json!({"groups": {"replicas": 1}, "replication": {"minInSync": null}}),
    );
    space.until("pods", "the standby is gone", |pods| pods.len() == 2);
    let cluster = space.until_one("rkt", "demo", "Ready with one replica", is_ready);
    assert_eq!(condition(&cluster, "ReplicationHealthy")["status"], "True");
}

/// Pods to which a Service leads.
fn addressed<'a>(slices: &'a [Value], service: &str) -> Vec<&'a str> {
    slices
        .iter()
        .filter(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"] == service)
        .flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten())
        .map(|endpoint| text(endpoint, "/targetRef/name"))
        .collect()
}

//! The end of a cluster, and of parts of it: everything that it made goes, volumes as the policy says.

use serde_json::{Value, json};

use crate::kubernetes::objects::{small, small_with, uid};
use crate::kubernetes::space::Space;

/// All kinds of which a cluster has objects.
const KINDS: &str = "rkt,rbg,statefulsets,pods,services,configmaps,serviceaccounts,roles,rolebindings,poddisruptionbudgets,networkpolicies";

fn names(objects: &[Value]) -> Vec<String> {
    let name = |object: &Value| {
        let part = |pointer| {
            object
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or("?")
                .to_owned()
        };
        format!("{}/{}", part("/kind"), part("/metadata/name"))
    };
    objects.iter().map(name).collect()
}

/// What Kubernetes itself puts into every namespace.
fn is_everywhere(object: &Value) -> bool {
    ["kube-root-ca.crt", "default"]
        .iter()
        .any(|name| object["metadata"]["name"] == *name)
}

fn wait_until_gone(space: &Space) {
    for kind in KINDS.split(',') {
        space.until(
            kind,
            "all that belonged to the cluster is gone",
            |objects| objects.iter().all(is_everywhere),
        );
    }
}

#[test]
fn deleting_a_cluster_keeps_its_volumes_unless_told_otherwise() {
    let Some(space) = Space::new("retain", "deletion with volumes kept") else {
        return;
    };
    space.make(&small("demo"));
    let claim = uid(&space.get("pvc", "data-demo-0-0"));
    space.kubectl(&["delete", "rkt", "demo"]);
    wait_until_gone(&space);
    let claims = space.list("pvc");
    assert_eq!(names(&claims), ["PersistentVolumeClaim/data-demo-0-0"]);
    assert!(claims[0]["metadata"]["deletionTimestamp"].is_null());
    space.make(&small("demo"));
    assert_eq!(
        uid(&space.get("pvc", "data-demo-0-0")),
        claim,
        "a cluster of the same name takes the volume up again"
    );
}

#[test]
fn deleting_a_cluster_deletes_its_volumes_when_told_so() {
    let Some(space) = Space::new("delete", "deletion with volumes") else {
        return;
    };
    let delete = json!({"groups": {"storage": {"reclaim": {"onDelete": "Delete"}}}});
    let cluster = space.make(&small_with("demo", &delete));
    assert_eq!(
        cluster["metadata"]["finalizers"],
        json!(["rocketcluster.io/volumes"])
    );
    // A volume of somebody else with a name of the same pattern stays.
    let other = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data-demo-0-7"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}});
    space.apply(&other);
    space.kubectl(&["delete", "rkt", "demo"]);
    wait_until_gone(&space);
    space.until(
        "pvc",
        "only the volume of somebody else is left",
        |claims| names(claims) == ["PersistentVolumeClaim/data-demo-0-7"],
    );
}

#[test]
fn scaling_in_deletes_volumes_only_when_told_so() {
    let Some(space) = Space::new("scale-in", "volumes of removed groups") else {
        return;
    };
    space.make(&small_with("demo", &json!({"groups": {"count": 2}})));
    let claims = || {
        let mut names = names(&space.list("pvc"));
        names.sort();
        names
    };
    let both = [
        "PersistentVolumeClaim/data-demo-0-0",
        "PersistentVolumeClaim/data-demo-1-0",
    ];
    assert_eq!(claims(), both);
    let kept = uid(&space.get("pvc", "data-demo-1-0"));
    space.edit("demo", &json!({"groups": {"count": 1}}));
    space.until("pods", "the pod of the removed group is gone", |pods| {
        !pods.iter().any(|pod| pod["metadata"]["name"] == "demo-1-0")
    });
    space.ready("demo");
    assert_eq!(claims(), both, "onScaleIn is Retain unless told otherwise");
    space.edit("demo", &json!({"groups": {"count": 2}}));
    space.ready("demo");
    assert_eq!(
        uid(&space.get("pvc", "data-demo-1-0")),
        kept,
        "the group comes back on its volume"
    );

    let delete = json!({"groups": {"count": 1, "storage": {"reclaim": {"onScaleIn": "Delete"}}}});
    space.edit("demo", &delete);
    space.until("pvc", "the volume of the removed group is gone", |claims| {
        names(claims) == both[..1]
    });
    space.until("rbg", "its record is gone with it", |groups| {
        groups.len() == 1
    });
    space.ready("demo");
}

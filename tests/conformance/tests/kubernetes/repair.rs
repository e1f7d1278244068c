//! What somebody deleted or bent by hand comes back as it was, on the same volume.

use serde_json::{Value, json};

use crate::kubernetes::objects::{condition, is_ready, pod_is_ready, small, text, uid};
use crate::kubernetes::space::Space;

#[test]
fn a_deleted_pod_comes_back_as_master_on_its_volume() {
    let Some(space) = Space::new("pod", "a deleted pod") else {
        return;
    };
    space.make(&small("demo"));
    let (pod, claim) = (
        uid(&space.get("pod", "demo-0-0")),
        uid(&space.get("pvc", "data-demo-0-0")),
    );
    space.kubectl(&["delete", "pod", "demo-0-0"]);
    let next = space.until_one("pods", "demo-0-0", "a ready successor", |next| {
        pod_is_ready(next) && uid(next) != pod
    });
    space.until_one("pods", "demo-0-0", "master by label", |next| {
        next["metadata"]["labels"]["rocketcluster.io/role"] == "master"
    });
    assert_eq!(uid(&space.get("pvc", "data-demo-0-0")), claim);
    assert_eq!(
        next.pointer("/spec/volumes/0/persistentVolumeClaim/claimName")
            .or_else(|| next.pointer("/spec/volumes/1/persistentVolumeClaim/claimName")),
        Some(&json!("data-demo-0-0"))
    );
    space.ready("demo");
    has_endpoint(&space, "demo-0", "demo-0-0");
}

/// Waits until the master's Service leads to this pod.
fn has_endpoint(space: &Space, service: &str, pod: &str) {
    space.until(
        "endpointslices",
        &format!("{service} leads to {pod}"),
        |slices| {
            slices.iter().any(|slice| {
                slice["metadata"]["labels"]["kubernetes.io/service-name"] == service
                    && slice["endpoints"].as_array().is_some_and(|all| {
                        all.iter().any(|e| {
                            e["targetRef"]["name"] == pod && e["conditions"]["ready"] == true
                        })
                    })
            })
        },
    );
}

#[test]
fn deleted_stateful_sets_are_made_again_on_their_volumes() {
    let Some(space) = Space::new("sets", "deleted StatefulSets") else {
        return;
    };
    space.make(&small("demo"));
    let claim = uid(&space.get("pvc", "data-demo-0-0"));
    let before = (
        uid(&space.get("sts", "demo-0")),
        uid(&space.get("sts", "demo-namesrv")),
    );
    let pod = uid(&space.get("pod", "demo-0-0"));
    space.kubectl(&["delete", "sts", "demo-0", "demo-namesrv"]);
    for (name, before) in [("demo-0", &before.0), ("demo-namesrv", &before.1)] {
        space.until_one("sts", name, "made again", |set| {
            !set.is_null() && uid(set) != *before && set["status"]["readyReplicas"] == 1
        });
    }
    space.until_one("rkt", "demo", "Ready again", is_ready);
    assert_ne!(uid(&space.get("pod", "demo-0-0")), pod);
    assert_eq!(uid(&space.get("pvc", "data-demo-0-0")), claim);
}

#[test]
fn a_stateful_set_deleted_without_its_pods_gets_them_back_unharmed() {
    let Some(space) = Space::new("orphans", "pods that lost their StatefulSet") else {
        return;
    };
    space.make(&small("demo"));
    let (set, pod) = (
        uid(&space.get("sts", "demo-0")),
        uid(&space.get("pod", "demo-0-0")),
    );
    space.kubectl(&["delete", "sts", "demo-0", "--cascade=orphan"]);
    let next = space.until_one("sts", "demo-0", "made again, its pod taken up", |next| {
        !next.is_null() && uid(next) != set && next["status"]["readyReplicas"] == 1
    });
    space.ready("demo");
    let adopted = space.get("pod", "demo-0-0");
    assert_eq!(uid(&adopted), pod, "the pod went on");
    assert_eq!(
        text(&adopted, "/metadata/ownerReferences/0/uid"),
        uid(&next)
    );
}

#[test]
fn everything_that_somebody_deleted_comes_back() {
    let Some(space) = Space::new("children", "every deleted object of a cluster") else {
        return;
    };
    space.make(&small("demo"));
    let pod = uid(&space.get("pod", "demo-0-0"));
    let file = space.config("demo-0");
    let objects = [
        ("services", "demo-namesrv"),
        ("services", "demo-namesrv-replicas"),
        ("services", "demo-0"),
        ("services", "demo-0-replicas"),
        ("configmaps", "demo-namesrv-config"),
        ("configmaps", &file),
        ("poddisruptionbudgets", "demo-namesrv"),
        ("poddisruptionbudgets", "demo-0"),
        ("serviceaccounts", "demo-0"),
        ("roles", "demo-0"),
        ("rolebindings", "demo-0"),
        ("networkpolicies", "demo-namesrv"),
        ("networkpolicies", "demo-broker"),
        ("rbg", "demo-0"),
    ];
    let before: Vec<Value> = objects
        .iter()
        .map(|(kind, name)| space.get(kind, name))
        .collect();
    for ((kind, name), former) in objects.iter().zip(&before) {
        uid(former);
        space.kubectl(&["delete", kind, name, "--wait=false"]);
    }
    for ((kind, name), former) in objects.iter().zip(&before) {
        let again = space.until_one(kind, name, "there again", |object| {
            !object.is_null() && uid(object) != uid(former)
        });
        for part in ["data", "rules", "subjects", "roleRef"] {
            assert_eq!(again[part], former[part], "{part} of {kind} {name}");
        }
        if *kind == "services" {
            assert_eq!(
                again["spec"]["selector"], former["spec"]["selector"],
                "{name}"
            );
        } else if *kind != "rbg" {
            assert_eq!(again["spec"], former["spec"], "{kind} {name}");
        }
    }
    let group = space.until_one("rbg", "demo-0", "its master recorded again", |group| {
        group["status"]["masterName"] == "demo-0-0"
    });
    assert_eq!(group["status"]["epoch"], 1);
    space.ready("demo");
    assert_eq!(
        uid(&space.get("pod", "demo-0-0")),
        pod,
        "no pod was restarted for it"
    );
    has_endpoint(&space, "demo-0", "demo-0-0");
}

#[test]
fn what_somebody_bent_is_straightened_and_what_they_added_stays() {
    let Some(space) = Space::new("bent", "edited objects of a cluster") else {
        return;
    };
    space.make(&small("demo"));
    let patch = |kind: &str, name: &str, patch: Value| {
        space.kubectl(&[
            "patch",
            kind,
            name,
            "--type=merge",
            "-p",
            &patch.to_string(),
        ]);
    };
    let file = space.config("demo-0");
    let conf = text(&space.get("cm", &file), "/data/broker.conf").to_owned();
    patch(
        "cm",
        &file,
        json!({"data": {"broker.conf": "brokerId=7\n", "mine": "stays"}}),
    );
    patch(
        "svc",
        "demo-0",
        json!({"spec": {"selector": {"rocketcluster.io/role": "standby"}}}),
    );
    patch("sts", "demo-0", json!({"spec": {"replicas": 0}}));
    patch("role", "demo-0", json!({"rules": []}));
    patch(
        "pod",
        "demo-namesrv-0",
        json!({"metadata": {"annotations": {"mine": "stays"}}}),
    );
    space.until_one("cm", &file, "its file again", |object| {
        text(object, "/data/broker.conf") == conf
    });
    assert_eq!(space.get("cm", &file)["data"]["mine"], "stays");
    space.until_one("svc", "demo-0", "leads to the master again", |object| {
        object["spec"]["selector"]["rocketcluster.io/role"].is_null()
    });
    space.until_one("role", "demo-0", "its rules again", |role| {
        role["rules"]
            .as_array()
            .is_some_and(|rules| rules.len() == 2)
    });
    space.until_one("sts", "demo-0", "one pod again", |set| {
        set["spec"]["replicas"] == 1 && set["status"]["readyReplicas"] == 1
    });
    space.ready("demo");
    // A role label is the operator's word.
    space.kubectl(&[
        "label",
        "pod",
        "demo-0-0",
        "rocketcluster.io/role=standby",
        "--overwrite",
    ]);
    space.until_one("pods", "demo-0-0", "master again", |pod| {
        pod["metadata"]["labels"]["rocketcluster.io/role"] == "master"
    });
    space.ready("demo");
}

#[test]
fn an_object_of_somebody_else_is_not_taken_over() {
    let Some(space) = Space::new("taken", "names that are taken") else {
        return;
    };
    let theirs = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "demo-namesrv-config", "labels": {"rocketcluster.io/cluster": "demo"}}, "data": {"theirs": "yes"}});
    space.apply(&theirs);
    space.apply(&small("demo"));
    let cluster = space.until_one("rkt", "demo", "says that a name is taken", |cluster| {
        condition(cluster, "Degraded")["reason"] == "NameTaken"
    });
    let message = text(condition(&cluster, "Degraded"), "/message").to_owned();
    assert!(
        message.contains(
            "demo-namesrv-config exists and does not belong to this RocketCluster: delete or rename it"
        ),
        "{message}"
    );
    assert_eq!(
        space.get("cm", "demo-namesrv-config")["data"],
        json!({"theirs": "yes"})
    );
    space.kubectl(&["delete", "cm", "demo-namesrv-config"]);
    space.ready("demo");
}

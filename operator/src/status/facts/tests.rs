//! What is counted of a cluster as it was seen.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use rocket_coordinator::kubernetes::status_of;
use rocket_replication::memory;
use serde_json::{Value, json};

use super::*;
use crate::build::{Present, build};
use crate::kind::Kind;
use crate::validate::validate;

fn cluster(groups: &Value) -> RocketCluster {
    let cluster = json!({"apiVersion": "rocketcluster.io/v1alpha1", "kind": "RocketCluster", "metadata": {"name": "orders", "namespace": "mq", "uid": "u"}, "spec": {"groups": groups}});
    serde_json::from_value(cluster).unwrap()
}

/// Everything that a cluster consists of, but no pod, and no record of a group.
fn objects_of(cluster: &RocketCluster) -> Observed {
    let checked = validate(cluster, &Observed::default(), &Settings::default()).unwrap();
    let mut observed = Observed::default();
    for object in build(&checked, &Present::default()) {
        let (kind, name) = object.key.clone();
        if kind == Kind::StatefulSet {
            let set = serde_json::from_value(object.object.clone()).unwrap();
            observed.stateful_sets.insert(name, set);
        }
        if kind != Kind::BrokerGroup {
            observed.children.insert(object.key, object.object);
        }
    }
    observed
}

fn gather(cluster: &RocketCluster, observed: &Observed, pass: Pass) -> Facts {
    let settings = Settings::default();
    let validated = validate(cluster, observed, &settings);
    Facts::gather(cluster, &settings, &validated, observed, pass)
}

#[test]
fn a_cluster_that_elects_is_told_as_one_while_a_refusal_meets_a_lost_record() {
    let mut observed = objects_of(&cluster(&json!({"replicas": 3})));
    let claim = json!({"metadata": {"name": "data-orders-0-0"}});
    let claim: PersistentVolumeClaim = serde_json::from_value(claim).unwrap();
    observed.claims.push(claim);
    let fewer = cluster(&json!({"replicas": 2}));
    let facts = gather(&fewer, &observed, Pass::default());
    assert!(
        matches!(facts.problems.as_slice(), [Problem::RecordUnusable(group), Problem::Refused(words)]
            if words.contains("record is lost") && group.contains("orders-0: has no state")),
        "{:?}",
        facts.problems
    );
    assert!(facts.is_elected());
    assert_eq!((facts.copies_wanted(), facts.heirs()), (2, 0));
}

/// The scheduler says `Unschedulable` also of a pod whose volume is about to be made.
#[test]
fn a_pod_without_a_node_needs_a_person_after_a_minute() {
    let since = Timestamp::from_second(1_800_000_000).unwrap();
    let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "pod has unbound immediate PersistentVolumeClaims.", "lastTransitionTime": since.to_string()});
    let pod = json!({"metadata": {"name": "orders-0-0"}, "status": {"phase": "Pending", "conditions": [condition]}});
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let observed = Observed {
        pods: vec![pod],
        ..Observed::default()
    };
    let failing = |seconds| {
        let pass = Pass {
            now: since + SignedDuration::from_secs(seconds),
            ..Pass::default()
        };
        gather(&cluster(&json!({})), &observed, pass).failing
    };
    assert!(failing(59).is_empty());
    let told = "orders-0-0: no node takes it (pod has unbound immediate PersistentVolumeClaims)";
    assert_eq!(failing(61), [told]);
}

#[test]
fn a_crash_loop_is_one_trouble_from_its_second_restart_on() {
    let start = Timestamp::from_second(1_800_000_000).unwrap();
    let at = |seconds| (start + SignedDuration::from_secs(seconds)).to_string();
    let failing = |seconds, restarts: i32, state: &Value, last: &Value| {
        let container = json!({"name": "broker", "image": "", "imageID": "", "ready": false, "restartCount": restarts, "state": state, "lastState": last});
        let pod = json!({"metadata": {"name": "orders-0-0"}, "status": {"phase": "Running", "containerStatuses": [container]}});
        let observed = Observed {
            pods: vec![serde_json::from_value(pod).unwrap()],
            ..Observed::default()
        };
        let pass = Pass {
            now: start + SignedDuration::from_secs(seconds),
            ..Pass::default()
        };
        gather(&cluster(&json!({})), &observed, pass).failing
    };
    let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    let running = json!({"running": {"startedAt": at(0)}});
    let ended = |code: i32, seconds: i64| json!({"terminated": {"exitCode": code, "startedAt": at(-20 - seconds), "finishedAt": at(-20)}});
    let last = ended(4, 3);
    let told = ["orders-0-0: CrashLoopBackOff, the last run ended with status 4"];
    assert_eq!(failing(0, 2, &waiting, &last), told);
    assert_eq!(failing(5, 2, &running, &last), told);
    assert_eq!(failing(5, 2, &last, &ended(1, 3)), told);
    let nothing = [""; 0];
    // It may be well now: it was never tried again, or it has run for a while, or did before, or ended as it was told.
    assert_eq!(failing(5, 1, &running, &last), nothing);
    assert_eq!(failing(600, 2, &running, &last), nothing);
    assert_eq!(failing(5, 2, &running, &ended(137, 600)), nothing);
    assert_eq!(failing(5, 2, &running, &ended(0, 3)), nothing);
}

#[test]
fn a_volume_that_goes_with_its_pod_needs_a_person() {
    let cluster = cluster(&json!({"replicas": 3}));
    let mut observed = objects_of(&cluster);
    let mut state = memory::group(3);
    let mut told = |in_sync: &[u32], leaving: &Value, pod: &Value| {
        state.in_sync = in_sync.iter().copied().map(memory::member).collect();
        let record = json!({"metadata": {"name": "orders-0", "uid": "00000000-0000-0000-0000-000000000009"}, "spec": {"cluster": "orders", "index": 0}, "status": status_of(&state).unwrap()});
        let record = serde_json::from_value(record).unwrap();
        observed.groups.insert("orders-0".to_owned(), record);
        let claim = json!({"metadata": {"name": "data-orders-0-0", "deletionTimestamp": leaving}});
        observed.claims = vec![serde_json::from_value(claim).unwrap()];
        let status = json!({"phase": "Running"});
        let other = json!({"metadata": {"name": "orders-0-1"}, "status": status});
        let pods = [pod.clone(), other].map(|pod| serde_json::from_value(pod).unwrap());
        observed.pods = pods.into();
        gather(&cluster, &observed, Pass::default()).problems
    };
    let since = json!("2026-01-01T00:00:00Z");
    let pod = json!({"metadata": {"name": "orders-0-0"}});
    let says = |problems: &[Problem], words: &str| matches!(problems, [Problem::VolumeTerminating(message)] if message.starts_with("volume claim data-orders-0-0 is being deleted") && message.contains(words));
    let alone = told(&[1], &since, &pod);
    assert!(says(&alone, "Keep it until another"), "{alone:?}");
    let one_of_two = told(&[1, 2], &since, &pod);
    assert!(says(&one_of_two, "so delete the pod"), "{one_of_two:?}");
    assert_eq!(told(&[1], &Value::Null, &pod), []);
    let leaving = json!({"metadata": {"name": "orders-0-0", "deletionTimestamp": since}});
    assert_eq!(told(&[1, 2], &since, &leaving), []);
}

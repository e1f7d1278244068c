//! Which pods go next, by what was observed.

use std::collections::BTreeSet;

use rocket_api::RocketBrokerGroup;
use rocket_coordinator::kubernetes::status_of;
use rocket_replication::memory;
use rocket_replication::state::{Activation, State};
use serde_json::json;

use super::*;
use crate::validate::{Settings, validate};

/// A group of three replicas that elected the first, with the pods of `old` on a former template.
fn group(in_sync: &[u32], old: &[i32]) -> (ValidatedCluster, Observed) {
    let mut state = memory::group(3);
    state.in_sync = in_sync.iter().copied().map(memory::member).collect();
    state.last_complete = in_sync.iter().copied().map(ReplicaId).collect();
    state.activated = Some(Activation {
        epoch: state.epoch,
        start_offset: rocket_replication::PhysicalOffset(0),
    });
    observed(&state, &old.iter().copied().collect())
}

fn observed(state: &State, old: &BTreeSet<i32>) -> (ValidatedCluster, Observed) {
    let mut seen = Observed::default();
    let record = json!({"metadata": {"name": "orders-0", "uid": "00000000-0000-0000-0000-000000000009"}, "spec": {"cluster": "orders", "index": 0}, "status": status_of(state).unwrap()});
    let record: RocketBrokerGroup = serde_json::from_value(record).unwrap();
    seen.groups.insert("orders-0".into(), record);
    for (set, uid) in [("orders-0", "set"), ("orders-namesrv", "names")] {
        let set_object = json!({"metadata": {"name": set, "uid": uid, "generation": 1}, "status": {"observedGeneration": 1, "updateRevision": "new", "replicas": 3}});
        seen.stateful_sets
            .insert(set.into(), serde_json::from_value(set_object).unwrap());
    }
    for ordinal in 0..3 {
        let revision = if old.contains(&ordinal) { "old" } else { "new" };
        let pod = json!({
            "metadata": {
                "name": format!("orders-0-{ordinal}"),
                "uid": format!("pod-{ordinal}"),
                "labels": {"controller-revision-hash": revision, "rocketcluster.io/group": "0"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "orders-0", "uid": "set", "controller": true}],
            },
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        });
        seen.pods.push(serde_json::from_value(pod).unwrap());
    }
    let cluster = json!({"apiVersion": "rocketcluster.io/v1alpha1", "kind": "RocketCluster", "metadata": {"name": "orders", "namespace": "mq", "uid": "u"}, "spec": {"groups": {"replicas": 3}}});
    let cluster = serde_json::from_value(cluster).unwrap();
    let checked = validate(&cluster, &seen, &Settings::default()).unwrap();
    (checked, seen)
}

/// Their brokers run and are not ready, as those whose disks are full.
fn not_ready(seen: &mut Observed, ordinals: &[usize]) {
    let status = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]});
    for ordinal in ordinals {
        seen.pods[*ordinal].status = serde_json::from_value(status.clone()).unwrap();
    }
}

fn restarted((cluster, observed): (ValidatedCluster, Observed)) -> Vec<String> {
    let step = |step| match step {
        Step::Restart(restart) => restart.pod,
        Step::HandOver { index, to } => format!("group {index} to replica {to}"),
    };
    next(&cluster, &observed).into_iter().map(step).collect()
}

#[test]
fn slaves_are_replaced_first_and_only_when_all_are_in_sync() {
    assert_eq!(restarted(group(&[1, 2, 3], &[0, 1, 2])), ["orders-0-1"]);
    assert_eq!(restarted(group(&[1, 2, 3], &[0, 2])), ["orders-0-2"]);
    assert_eq!(restarted(group(&[1, 3], &[0, 2])), [""; 0]);
    assert_eq!(restarted(group(&[1, 2, 3], &[])), [""; 0]);
}

#[test]
fn what_a_request_restarts_goes_the_same_way() {
    let (cluster, mut seen) = group(&[1, 2, 3], &[]);
    let ask = |seen: &mut Observed, pods: &[&str]| {
        seen.restarting = pods.iter().map(|pod| (*pod).to_owned()).collect();
    };
    ask(&mut seen, &["pod-0", "pod-1", "pod-2"]);
    let told = |seen: &Observed| restarted((cluster.clone(), seen.clone()));
    assert_eq!(told(&seen), ["orders-0-1"]);
    ask(&mut seen, &["pod-0"]);
    assert_eq!(told(&seen), ["group 0 to replica 2"]);
    // Its successor of the same name has another UID.
    ask(&mut seen, &["pod-of-earlier-times"]);
    assert_eq!(told(&seen), [""; 0]);
    // One that is not ready is restarted at once, unless the group counts on it.
    ask(&mut seen, &["pod-0", "pod-1", "pod-2"]);
    seen.pods[2].status = None;
    assert_eq!(told(&seen), [""; 0]);
    let (_, behind) = group(&[1, 2], &[]);
    seen.groups = behind.groups;
    assert_eq!(told(&seen), ["orders-0-2"]);
}

#[test]
fn master_hands_over_before_its_pod_goes() {
    assert_eq!(restarted(group(&[1, 2, 3], &[0])), ["group 0 to replica 2"]);
    let mut state = memory::group(3);
    state.in_sync = [1, 2, 3].map(memory::member).into();
    state.last_complete = [1, 2, 3].map(ReplicaId).into();
    // It has not opened yet: nothing may be missing beside it.
    assert_eq!(restarted(observed(&state, &[0].into())), [""; 0]);
}

#[test]
fn pods_that_are_not_ready_have_their_turn_while_their_group_counts_on_them() {
    let told = |in_sync: &[u32], old: &[i32], ill: &[usize]| {
        let (cluster, mut seen) = group(in_sync, old);
        not_ready(&mut seen, ill);
        restarted((cluster, seen))
    };
    let (all, every) = ([1, 2, 3], [0, 1, 2]);
    let old = [0, 1, 2];
    assert_eq!(told(&all, &old, &every), ["orders-0-1"]);
    assert_eq!(told(&all, &[0, 2], &every), ["orders-0-2"]);
    assert_eq!(told(&all, &[0], &every), ["group 0 to replica 2"]);
    // The one before is not back yet, or copies what it lacks.
    assert_eq!(told(&[1, 3], &[0, 2], &every), [""; 0]);
    assert_eq!(told(&[1, 3], &[0, 2], &[1, 2]), [""; 0]);
    // Nobody counts on the second, which its former specification may keep from coming back.
    assert_eq!(told(&[1, 3], &old, &every), ["orders-0-1"]);
    // Pods that are ready wait for those that are up to date.
    assert_eq!(told(&all, &[0, 2], &[1]), [""; 0]);
}

#[test]
fn group_without_a_master_gets_the_present_specification_all_the_same() {
    let now =
        |cluster: &ValidatedCluster, seen: &Observed| restarted((cluster.clone(), seen.clone()));
    // No broker runs, as with a key that none starts with, and the record still names a master.
    let (cluster, mut seen) = group(&[1, 2, 3], &[0, 1, 2]);
    for pod in &mut seen.pods {
        pod.status = None;
    }
    assert_eq!(now(&cluster, &seen), ["orders-0-0"]);
    let leaving = json!("2026-01-01T00:00:00Z");
    seen.pods[0].metadata.deletion_timestamp = serde_json::from_value(leaving).unwrap();
    assert_eq!(now(&cluster, &seen), [""; 0]);
    let (_, next) = group(&[1, 2, 3], &[1, 2]);
    seen.pods[0] = next.pods[0].clone();
    seen.pods[0].status = None;
    assert_eq!(now(&cluster, &seen), ["orders-0-1"]);

    // All run, and nobody is elected.
    let mut state = memory::group(3);
    state.in_sync = [1, 2, 3].map(memory::member).into();
    state.master = None;
    let (cluster, mut seen) = observed(&state, &[0, 1].into());
    not_ready(&mut seen, &[0, 1, 2]);
    assert_eq!(now(&cluster, &seen), ["orders-0-0"]);
    seen.pods[2].status = None;
    assert_eq!(
        now(&cluster, &seen),
        [""; 0],
        "the one before does not run yet"
    );
    // Nobody knows who is master while the record is lost: who runs may be.
    not_ready(&mut seen, &[2]);
    seen.groups.clear();
    assert_eq!(now(&cluster, &seen), [""; 0]);
    seen.pods[1].status = None;
    assert_eq!(now(&cluster, &seen), ["orders-0-1"]);
}

/// There are eligible replicas only while their group takes no writes, which the former specification may be the cause of.
#[test]
fn replica_that_is_eligible_alone_gets_the_present_specification_at_once() {
    let mut state = memory::group(3);
    state.min_in_sync = 2;
    state.in_sync = [memory::member(1)].into();
    state.eligible = [memory::member(2)].into();
    state.last_complete = [1, 2].map(ReplicaId).into();
    state.activated = Some(Activation {
        epoch: state.epoch,
        start_offset: rocket_replication::PhysicalOffset(0),
    });
    let (cluster, mut seen) = observed(&state, &[0, 1].into());
    not_ready(&mut seen, &[0, 1]);
    assert_eq!(restarted((cluster, seen)), ["orders-0-1"]);
}

#[test]
fn nothing_that_serves_is_replaced_where_writes_would_stop_meanwhile() {
    let (cluster, mut seen) = group(&[1, 2, 3], &[0, 1, 2]);
    let all = ValidatedCluster {
        min_in_sync: 3,
        ..cluster.clone()
    };
    assert_eq!(restarted((all.clone(), seen.clone())), [""; 0]);
    not_ready(&mut seen, &[0, 1, 2]);
    assert_eq!(restarted((all, seen.clone())), [""; 0]);
    // What the record says holds until another number is written.
    let record = seen.groups.get_mut("orders-0").unwrap();
    record.status.as_mut().unwrap().min_in_sync = 3;
    assert_eq!(restarted((cluster, seen)), [""; 0]);
}

#[test]
fn pod_whose_volume_goes_with_it_stays_while_no_other_replica_has_everything() {
    let claim = |ordinal: i32| {
        let leaving = "2026-01-01T00:00:00Z";
        let claim = json!({"metadata": {"name": format!("data-orders-0-{ordinal}"), "deletionTimestamp": leaving}});
        serde_json::from_value(claim).unwrap()
    };
    // Replicas that have everything begin anew on other volumes.
    let (cluster, mut seen) = group(&[1, 2, 3], &[1]);
    seen.claims.push(claim(1));
    assert_eq!(restarted((cluster, seen)), ["orders-0-1"]);
    // No broker runs, and the first one alone has everything: it would go at once.
    let (cluster, mut seen) = group(&[1], &[0]);
    for pod in &mut seen.pods {
        pod.status = None;
    }
    let told = |seen: &Observed| restarted((cluster.clone(), seen.clone()));
    assert_eq!(told(&seen), ["orders-0-0"]);
    seen.claims.push(claim(0));
    assert_eq!(told(&seen), [""; 0]);
    // All claims were deleted at once, and no broker runs.
    let (_, both) = group(&[1, 2], &[0, 1]);
    seen.claims = vec![claim(0), claim(1), claim(2)];
    let lost = Observed {
        groups: both.groups,
        ..seen.clone()
    };
    assert_eq!(told(&lost), [""; 0]);
    seen.claims = vec![claim(0)];
    // A fixed master, ready or not.
    let fixed = ValidatedCluster {
        rule: GroupRule::Static,
        masters: vec![Some(0)],
        ..cluster.clone()
    };
    assert_eq!(restarted((fixed.clone(), seen.clone())), [""; 0]);
    let (_, ready) = group(&[1], &[0]);
    seen.pods = ready.pods;
    assert_eq!(restarted((fixed.clone(), seen.clone())), [""; 0]);
    seen.claims.clear();
    assert_eq!(restarted((fixed, seen)), ["orders-0-0"]);
}

//! Specifications beside what exists: what is decided, and what is refused with which words.

use rocket_coordinator::kubernetes::status_of;
use rocket_replication::memory::{group, member};
use rocket_replication::{ReplicaId, State};
use serde_json::{Value, json};

use super::*;

/// By an operator that has masters fixed, as those of earlier versions did.
fn check(spec: &Value, observed: &Observed) -> Result<ValidatedCluster, Refusal> {
    check_by(false, spec, observed)
}

fn check_by(
    elections: bool,
    spec: &Value,
    observed: &Observed,
) -> Result<ValidatedCluster, Refusal> {
    let cluster = json!({"apiVersion": "rocketcluster.io/v1alpha1", "kind": "RocketCluster", "metadata": {"name": "orders", "namespace": "mq", "uid": "u"}, "spec": spec});
    let settings = Settings {
        elections,
        ..Settings::default()
    };
    validate(
        &serde_json::from_value(cluster).unwrap(),
        observed,
        &settings,
    )
}

#[test]
fn what_was_left_open_is_decided() {
    let cluster = check(&json!({"groups": {"count": 2}}), &Observed::default()).unwrap();
    assert_eq!(
        (cluster.image.as_str(), cluster.min_in_sync, cluster.masters),
        ("rocketcluster/broker:0.1.0", 1, vec![Some(0), Some(0)])
    );
}

fn electing(spec: &Value, observed: &Observed) -> Result<ValidatedCluster, Refusal> {
    check_by(true, spec, observed)
}

/// What a cluster observes of a group that elected its first replica, with these replicas in sync.
fn elected_group(in_sync: &[u32]) -> Observed {
    let mut state = group(3);
    state.in_sync = in_sync.iter().copied().map(member).collect();
    recorded(&state)
}

fn recorded(state: &State) -> Observed {
    observed_group(&json!(status_of(state).unwrap()))
}

fn observed_group(status: &Value) -> Observed {
    let uid = "00000000-0000-0000-0000-000000000009";
    let group = json!({"metadata": {"name": "orders-0", "uid": uid}, "spec": {"cluster": "orders", "index": 0}, "status": status});
    let mut observed = Observed::default();
    observed
        .groups
        .insert("orders-0".into(), serde_json::from_value(group).unwrap());
    observed
}

#[test]
fn new_clusters_with_replicas_elect_and_everything_else_stays_as_it_is() {
    let none = Observed::default();
    let rule = |spec: Value, observed: &Observed| {
        let cluster = electing(&spec, observed).unwrap();
        (cluster.rule, cluster.min_in_sync)
    };
    let replicas = |replicas: i32| json!({"groups": {"replicas": replicas}});
    assert_eq!(rule(replicas(3), &none), (GroupRule::Elected, 2));
    assert_eq!(rule(replicas(2), &none), (GroupRule::Elected, 1));
    assert_eq!(rule(replicas(1), &none), (GroupRule::Static, 1));
    let asked = json!({"groups": {"replicas": 3}, "replication": {"minInSync": 3}});
    assert_eq!(rule(asked, &none), (GroupRule::Elected, 3));
    let claim = json!({"metadata": {"name": "data-orders-0-0"}});
    let volumes = Observed {
        claims: vec![serde_json::from_value(claim).unwrap()],
        ..Observed::default()
    };
    assert_eq!(rule(replicas(3), &volumes), (GroupRule::Static, 1));
    assert_eq!(
        rule(replicas(3), &elected_group(&[1])),
        (GroupRule::Elected, 2)
    );
    let recorded = json!({"format": 1, "groupUid": "u", "version": 1, "epoch": 1, "minInSync": 1, "nextReplicaId": 2, "rule": "Static"});
    let recorded = observed_group(&recorded);
    assert_eq!(rule(replicas(3), &recorded), (GroupRule::Static, 1));
    // What is off is off, except where a record says otherwise.
    assert_eq!(check(&replicas(3), &none).unwrap().rule, GroupRule::Static);
    assert_eq!(
        check(&replicas(3), &elected_group(&[1])).unwrap().rule,
        GroupRule::Elected
    );
}

#[test]
fn volumes_of_a_group_that_elected_are_not_begun_with_a_fixed_master() {
    let replicas = json!({"groups": {"count": 2}});
    let noted = json!({"metadata": {"name": "data-orders-1-0", "labels": {"rocketcluster.io/rule": "Elected"}}});
    let mut observed = Observed {
        claims: vec![
            claim("data-orders-0-0"),
            serde_json::from_value(noted).unwrap(),
        ],
        ..Observed::default()
    };
    let rule = electing(&replicas, &observed).unwrap().rule;
    assert_eq!(rule, GroupRule::Elected);
    // The other group says that masters are fixed here.
    let fixed = json!({"format": 1, "groupUid": "u", "version": 1, "epoch": 1, "minInSync": 1, "nextReplicaId": 2, "rule": "Static"});
    observed.groups = observed_group(&fixed).groups;
    let refusal = electing(&replicas, &observed).unwrap_err();
    assert!(refusal.0.starts_with("group 1 elects"), "{refusal}");
    assert!(electing(&json!({}), &observed).is_ok());
}

#[test]
fn replicas_that_have_everything_go_only_when_those_that_stay_have_too() {
    let two = json!({"groups": {"replicas": 2}});
    let refusal = electing(&two, &elected_group(&[1, 3])).unwrap_err();
    assert!(
        refusal.0.contains("one that stays is not in sync"),
        "{refusal}"
    );
    for in_sync in [&[1, 2, 3][..], &[1, 2], &[1]] {
        assert!(electing(&two, &elected_group(in_sync)).is_ok());
    }
    let mut moved = elected_group(&[1, 2, 3]);
    let group = moved.groups.get_mut("orders-0").unwrap();
    group.status.as_mut().unwrap().master = Some(rocket_api::Member {
        replica_id: 3,
        incarnation: rocket_api::Incarnation::unregistered(),
    });
    let refusal = electing(&two, &moved).unwrap_err();
    assert!(
        refusal.0.contains("the present master of group 0"),
        "{refusal}"
    );
}

/// Nobody stays who is known to have everything.
#[test]
fn replica_that_may_be_the_only_one_with_everything_is_not_scaled_away() {
    let two = json!({"groups": {"replicas": 2}});
    let three = json!({"groups": {"replicas": 3}});
    // S is empty, and the third was complete, or may have the most.
    let mut nobody = group(3);
    nobody.master = None;
    nobody.in_sync.clear();
    for complete in [&[1, 2, 3][..], &[3], &[1]] {
        nobody.last_complete = complete.iter().copied().map(ReplicaId).collect();
        let mut observed = recorded(&nobody);
        observed.claims.push(claim("data-orders-0-2"));
        let refusal = electing(&two, &observed).unwrap_err();
        assert!(refusal.0.contains("write at least 3"), "{refusal}");
        assert!(electing(&three, &observed).is_ok());
    }
    // Its bytes were given up; or nothing was ever promised.
    let mut lost = nobody.clone();
    lost.replicas.get_mut(&ReplicaId(3)).unwrap().lost = true;
    nobody.last_complete.clear();
    for state in [lost, nobody] {
        let mut observed = recorded(&state);
        observed.claims.push(claim("data-orders-0-2"));
        assert!(electing(&two, &observed).is_ok());
    }
    // The first is dead, and the third left S while nothing could be committed without it.
    let mut left = group(3);
    left.min_in_sync = 2;
    left.eligible = [member(3)].into();
    left.last_complete = [1, 3].map(ReplicaId).into();
    assert!(electing(&two, &recorded(&left)).is_err());
    // All that stay are in sync; without a master they do not take over what the third has.
    left.in_sync = [1, 2].map(member).into();
    left.eligible.clear();
    left.last_complete = [1, 2, 3].map(ReplicaId).into();
    assert!(electing(&two, &recorded(&left)).is_ok());
    left.master = None;
    assert!(electing(&two, &recorded(&left)).is_err());
}

#[test]
fn nobody_is_scaled_away_while_the_record_is_lost() {
    let set = json!({"metadata": {"name": "orders-0"}, "spec": {"replicas": 3, "selector": {}, "serviceName": "", "template": {}}});
    let config = json!({"data": {"broker.conf": "coordinator=kubernetes:mq/orders-0"}});
    let mut lost = Observed {
        claims: vec![claim("data-orders-0-2")],
        ..Observed::default()
    };
    lost.children.insert(
        (crate::kind::Kind::ConfigMap, "orders-0-config-0123".into()),
        config,
    );
    lost.stateful_sets
        .insert("orders-0".into(), serde_json::from_value(set).unwrap());
    let mut bad = group(3);
    bad.group_uid = rocket_replication::GroupUid(77);
    let mut restored = lost.clone();
    restored.groups = recorded(&bad).groups;
    let replicas = |replicas: i32| json!({"groups": {"replicas": replicas}});
    for observed in [&lost, &restored] {
        let refusal = electing(&replicas(2), observed).unwrap_err();
        assert!(refusal.0.contains("write 3, have the record"), "{refusal}");
        assert!(electing(&replicas(3), observed).is_ok());
    }
}

fn claim(name: &str) -> k8s_openapi::api::core::v1::PersistentVolumeClaim {
    serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
}

#[test]
fn a_whole_reference_is_taken_as_it_is() {
    let spec = RocketClusterSpec::default();
    for (setting, image) in [
        (
            "registry.test:5000/broker",
            "registry.test:5000/broker:0.1.0",
        ),
        ("registry.test:5000/broker:x", "registry.test:5000/broker:x"),
        ("broker@sha256:0", "broker@sha256:0"),
    ] {
        assert_eq!(super::image(&spec, setting), image);
    }
}

#[test]
fn refusals_say_what_to_write_instead() {
    let cases = [
        (
            json!({"groups": {"replicas": 3}, "replication": {"minInSync": 2}}),
            "leave minInSync out or write 1",
        ),
        (
            json!({"replication": {"minInSync": 4}}),
            "lower minInSync or raise groups.replicas",
        ),
        (
            json!({"groups": {"count": 0}}),
            "groups.count is 0: write a number from 1 to 64",
        ),
        (
            json!({"groups": {"storage": {"size": "huge"}}}),
            "not an amount",
        ),
        (
            json!({"groups": {"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}}}),
            "raise the limit or lower the request",
        ),
        (
            json!({"config": {"brokerRole": "SLAVE"}}),
            "set spec.replication.mode",
        ),
        (
            json!({"retention": {"diskHighWatermarkPercent": 90, "diskRejectPercent": 90}}),
            "write a number from 91 to 98",
        ),
    ];
    for (spec, sentence) in cases {
        let refusal = check(&spec, &Observed::default()).unwrap_err().to_string();
        assert!(refusal.contains(sentence), "{spec}: {refusal}");
    }
}

#[test]
fn a_master_is_not_scaled_away() {
    let claim = serde_json::from_value(json!({"metadata": {"name": "data-orders-0-2"}})).unwrap();
    let observed = Observed {
        claims: vec![claim],
        ..Observed::default()
    };
    let refusal = check(&json!({"groups": {"replicas": 2}}), &observed)
        .unwrap_err()
        .to_string();
    assert!(
        refusal.contains("would remove orders-0-2, the master of group 0")
            && refusal.contains("at least 3"),
        "{refusal}"
    );
    assert_eq!(
        check(&json!({"groups": {"replicas": 3}}), &observed)
            .unwrap()
            .masters,
        [Some(2)]
    );
}

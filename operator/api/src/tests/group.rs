//! `RocketBrokerGroup`: what the protocol forbids.

use kube::CustomResourceExt;
use kube::core::cel::Validator;
use serde_json::{Value, json};

use super::*;

fn state(changes: &Value) -> Value {
    let member = json!({"replicaId": 1, "incarnation": "0".repeat(32)});
    let known =
        json!({"name": "orders-0-0", "address": "", "incarnation": "0".repeat(32), "lost": false});
    let mut state = json!({
        "format": 1, "groupUid": "u", "version": 5, "epoch": 3, "master": member, "inSync": [member], "eligible": [], "minInSync": 1,
        "replicas": {"1": known, "2": known}, "nextReplicaId": 3, "lastComplete": [1], "unclean": [],
    });
    for (key, value) in changes.as_object().unwrap() {
        state[key] = value.clone();
    }
    state
}

fn check_state(before: &Value, after: &Value) -> Result<(), kube::core::cel::ValidationErrors> {
    let crd = serde_json::to_value(RocketBrokerGroup::crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"];
    Validator::new().validate(schema, after, Some(before))
}

#[test]
fn the_group_object_refuses_what_the_protocol_forbids() {
    let before = state(&json!({}));
    let other = json!({"replicaId": 2, "incarnation": "0".repeat(32)});
    let restarted = json!({"replicaId": 2, "incarnation": "1".repeat(32)});
    let first = before["master"].clone();
    let cases = [
        (json!({"version": 4}), "version grows by exactly one"),
        (json!({"version": 7}), "version grows by exactly one"),
        (json!({"minInSync": 2}), "must raise version"),
        (json!({"version": 6, "epoch": 2}), "epoch never falls"),
        (
            json!({"version": 6, "nextReplicaId": 2}),
            "nextReplicaId never falls",
        ),
        (
            json!({"version": 6, "groupUid": "v"}),
            "groupUid never changes",
        ),
        (
            json!({"version": 6, "master": other, "inSync": [other]}),
            "another master needs a higher epoch",
        ),
        (
            json!({"version": 6, "inSync": [other]}),
            "the master is a member of inSync",
        ),
        (
            json!({"version": 6, "inSync": [first, restarted]}),
            "a member of inSync is known under its present incarnation",
        ),
        (
            json!({"version": 6, "minInSync": 3, "eligible": [restarted]}),
            "a member of eligible is known under its present incarnation",
        ),
        (
            json!({"version": 6, "eligible": [other]}),
            "eligible is empty while",
        ),
        (
            json!({"version": 6, "minInSync": 2, "eligible": [first]}),
            "nobody is in inSync and in eligible",
        ),
    ];
    for (changes, sentence) in cases {
        let said = refusal(check_state(&before, &state(&changes)));
        assert!(said.contains(sentence), "{changes}: {said}");
    }
    for changes in [
        json!({}),
        json!({"version": 6, "inSync": [first, other]}),
        json!({"version": 6, "epoch": 4, "master": other, "inSync": [other]}),
        json!({"version": 6, "minInSync": 2, "eligible": [other]}),
    ] {
        check_state(&before, &state(&changes)).unwrap();
    }
}

//! `RocketOperation`: requests that mean nothing, and that neither they nor their end change.

use kube::CustomResourceExt;
use kube::core::cel::{Validator, validate_cel, validate_cel_update};
use serde_json::{Value, json};

use super::*;

fn request(spec: &Value) -> RocketOperation {
    serde_json::from_value(json!({"apiVersion": "rocketcluster.io/v1alpha1", "kind": "RocketOperation", "metadata": {"name": "sw"}, "spec": spec})).unwrap()
}

#[test]
fn requests_that_mean_nothing_are_refused_with_what_to_write_instead() {
    let force = json!({"cluster": "orders", "type": "ForceElect", "group": 0, "to": "orders-0-2", "epoch": 7, "requestedBy": "ada"});
    let without = |field: &str| {
        let mut spec = force.clone();
        spec.as_object_mut().unwrap().remove(field);
        spec
    };
    for (spec, sentence) in [
        (
            json!({"cluster": "orders", "type": "Switchover"}),
            "write its index as group",
        ),
        (without("group"), "write its index as group"),
        (
            json!({"cluster": "orders", "type": "Restart", "to": "orders-0-2"}),
            "have no target",
        ),
        (
            json!({"cluster": "orders", "type": "Rebuild", "group": 0}),
            "names who decided",
        ),
        (
            json!({"cluster": "orders", "type": "Rebuild", "requestedBy": "ada"}),
            "write its index as group",
        ),
        (
            json!({"cluster": "orders", "type": "Rebuild", "group": 0, "to": "orders-0-2", "requestedBy": "ada"}),
            "have no target",
        ),
        (without("to"), "names the replica"),
        (without("epoch"), "names the replica"),
        (without("requestedBy"), "names the replica"),
        (
            json!({"cluster": "orders", "type": "Switchover", "group": 0, "epoch": 7}),
            "for a ForceElect only",
        ),
        (
            json!({"cluster": "orders", "type": "Switchover", "group": 0, "to": "others-0-2"}),
            "a broker pod of the group",
        ),
    ] {
        let said = refusal(validate_cel(&request(&spec)));
        assert!(said.contains(sentence), "{spec}: {said}");
    }
    for spec in [
        force.clone(),
        json!({"cluster": "orders", "type": "Switchover", "group": 0}),
        json!({"cluster": "orders", "type": "Switchover", "group": 10, "to": "orders-10-2"}),
        json!({"cluster": "orders", "type": "Restart"}),
        json!({"cluster": "orders", "type": "Rebuild", "group": 0, "requestedBy": "ada"}),
        json!({"cluster": "orders", "type": "Restart", "group": 3, "deadlineSeconds": 600, "ttlSecondsAfterFinished": 0}),
    ] {
        validate_cel(&request(&spec)).unwrap();
    }
}

#[test]
fn request_does_not_change_and_neither_does_how_it_ended() {
    let before = request(&json!({"cluster": "orders", "type": "Restart"}));
    let after = request(&json!({"cluster": "orders", "type": "Restart", "group": 0}));
    let said = refusal(validate_cel_update(&after, &before));
    assert!(
        said.contains("cannot be changed after it was made"),
        "{said}"
    );
    validate_cel_update(&before, &before).unwrap();

    let crd = serde_json::to_value(RocketOperation::crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"];
    let status = |phase: &str, ended: bool| {
        let mut status = json!({"phase": phase, "target": "group 0", "message": phase});
        if ended {
            status["finishedAt"] = json!("2026-11-20T10:00:00Z");
        }
        status
    };
    let check =
        |before: &Value, after: &Value| Validator::new().validate(schema, after, Some(before));
    let ended = status("Failed", true);
    for after in [status("Succeeded", true), status("Failed", false)] {
        let said = refusal(check(&ended, &after));
        assert!(said.contains("has ended does not change"), "{said}");
    }
    check(&ended, &ended).unwrap();
    check(&status("Running", false), &ended).unwrap();
}

#[test]
fn request_that_a_later_operator_ended_has_ended() {
    let mut ended = request(&json!({"cluster": "orders", "type": "Restart"}));
    assert!(!ended.has_ended());
    let status = json!({"phase": "Cancelled", "finishedAt": "2026-11-20T10:00:00Z"});
    ended.status = Some(serde_json::from_value(status).unwrap());
    assert!(ended.has_ended());
}

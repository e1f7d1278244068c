//! The schema's rules, evaluated as the API server does it. Every refusal is checked by the sentence that a person reads.

use kube::CustomResourceExt;
use kube::core::cel::{Validator, validate_cel, validate_cel_update};
use serde_json::{Value, json};

use super::*;

fn cluster(spec: &Value) -> RocketCluster {
    named("orders", spec)
}

fn named(name: &str, spec: &Value) -> RocketCluster {
    serde_json::from_value(json!({"apiVersion": "rocketcluster.io/v1alpha1", "kind": "RocketCluster", "metadata": {"name": name}, "spec": spec})).unwrap()
}

fn refusal(result: Result<(), kube::core::cel::ValidationErrors>) -> String {
    result.expect_err("the object must be refused").to_string()
}

#[test]
fn an_empty_spec_is_a_working_cluster_with_safe_defaults() {
    let cluster = cluster(&json!({}));
    validate_cel(&cluster).unwrap();
    assert_eq!(cluster.spec, RocketClusterSpec::default());
    assert_eq!(
        (cluster.spec.flush, cluster.spec.replication.mode),
        (Flush::Sync, ReplicationMode::Sync)
    );
    assert_eq!(
        cluster.spec.groups.storage.reclaim.on_delete,
        ReclaimPolicy::Retain
    );
    assert!(!cluster.spec.defaults.auto_create_topics);
}

#[test]
fn defaults_of_the_schema_are_defaults_of_the_type() {
    let crd = serde_json::to_value(RocketCluster::crd()).unwrap();
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    let ours = serde_json::to_value(RocketClusterSpec::default()).unwrap();
    for field in [
        "version",
        "groups",
        "nameServers",
        "flush",
        "replication",
        "retention",
        "defaults",
        "paused",
    ] {
        assert_eq!(spec[field]["default"], ours[field], "{field}");
    }
}

#[test]
fn impossible_specifications_are_refused_with_what_to_write_instead() {
    let cases = [
        (
            json!({"replication": {"minInSync": 2}}),
            "lower minInSync or raise groups.replicas",
        ),
        (
            json!({"groups": {"storage": {"size": "ten gigabytes"}}}),
            "such as 100Gi",
        ),
        (
            json!({"groups": {"storage": {"size": "1Mi"}}}),
            "at least 128Mi",
        ),
        (
            json!({"groups": {"resources": {"requests": {"cpu": "many"}}}}),
            "such as 2, 500m or 1Gi",
        ),
        (
            json!({"nameServers": {"resources": {"limits": {"memory": "-1Gi"}}}}),
            "such as 2, 500m or 1Gi",
        ),
        (
            json!({"retention": {"diskHighWatermarkPercent": 90, "diskRejectPercent": 80}}),
            "diskRejectPercent must be above",
        ),
        (
            json!({"podTemplate": {"metadata": {"labels": {"rocketcluster.io/role": "master"}}}}),
            "choose a prefix of your own",
        ),
        (
            json!({"podTemplate": {"metadata": {"labels": {"app.kubernetes.io/name": "x"}}}}),
            "choose a prefix of your own",
        ),
        (
            json!({"podTemplate": {"metadata": {"annotations": {"rocketcluster.io/config-hash": "x"}}}}),
            "choose a prefix of your own",
        ),
        (
            json!({"podTemplate": {"env": [{"name": "POD_NAME", "value": "x"}]}}),
            "choose another name",
        ),
        (
            json!({"config": {"bad key": "x"}}),
            "letters, digits, dot and underscore",
        ),
        (
            json!({"config": {"maxMessageSize": "1\nbrokerRole=SLAVE"}}),
            "one line",
        ),
        (
            json!({"config": {"enableDLegerCommitLog": "true"}}),
            "there is no DLedger",
        ),
        (json!({"image": "a b"}), "white space"),
        (
            json!({"networkPolicy": {"clients": [{}]}}),
            "write namespaceLabels or podLabels",
        ),
    ];
    for (spec, sentence) in cases {
        let said = refusal(validate_cel(&cluster(&spec)));
        assert!(said.contains(sentence), "{spec}: {said}");
    }
}

#[test]
fn each_owned_config_key_is_refused_with_the_name_of_its_field() {
    for owned in OWNED_KEYS {
        let said = refusal(validate_cel(&cluster(&json!({"config": {owned.key: "x"}}))));
        assert!(said.contains(owned.instead), "{}: {said}", owned.key);
    }
    validate_cel(&cluster(
        &json!({"config": {"maxMessageSize": "4194304", "transientStorePoolEnable": "false"}}),
    ))
    .unwrap();
}

#[test]
fn names_that_do_not_fit_into_names_made_from_them_are_refused() {
    let long = "a".repeat(41);
    for (name, sentence) in [
        (long.as_str(), "at most 40 characters"),
        ("orders.eu", "without dots"),
        ("1orders", "starting with a letter"),
    ] {
        let said = refusal(validate_cel(&named(name, &json!({}))));
        assert!(said.contains(sentence), "{name}: {said}");
    }
    validate_cel(&named(&"a".repeat(40), &json!({}))).unwrap();
}

#[test]
fn edits_that_cannot_take_effect_are_refused() {
    let before =
        json!({"version": "1.4.2", "groups": {"storage": {"size": "10Gi", "className": "fast"}}});
    let cases = [
        (
            json!({"version": "1.4.2", "groups": {"storage": {"size": "9Gi", "className": "fast"}}}),
            "can only grow",
        ),
        (
            json!({"version": "1.4.2", "groups": {"storage": {"size": "10Gi", "className": "slow"}}}),
            "className cannot change",
        ),
        (
            json!({"version": "1.4.2", "groups": {"storage": {"size": "10Gi"}}}),
            "className cannot change",
        ),
        (
            json!({"version": "1.3.9", "groups": {"storage": {"size": "10Gi", "className": "fast"}}}),
            "earlier minor release",
        ),
        (
            json!({"version": "0.9.0", "groups": {"storage": {"size": "10Gi", "className": "fast"}}}),
            "earlier minor release",
        ),
    ];
    for (after, sentence) in cases {
        let said = refusal(validate_cel_update(&cluster(&after), &cluster(&before)));
        assert!(said.contains(sentence), "{after}: {said}");
    }
    for after in [
        json!({"version": "1.4.1", "groups": {"storage": {"size": "10240Mi", "className": "fast"}}}),
        json!({"version": "1.10.0", "groups": {"count": 3, "storage": {"size": "1Ti", "className": "fast"}}}),
        json!({"version": "2.0.0", "groups": {"storage": {"size": "10Gi", "className": "fast"}}}),
    ] {
        validate_cel_update(&cluster(&after), &cluster(&before)).unwrap();
    }
}

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

#[test]
fn definitions_stay_small_enough_for_kubectl_apply() {
    for crd in custom_resource_definitions() {
        let bytes = serde_json::to_vec(&crd).unwrap().len();
        assert!(
            bytes < 64 * 1024,
            "{}: {bytes} bytes",
            crd.metadata.name.unwrap()
        );
    }
}

#[test]
fn every_field_is_documented() {
    fn walk(path: &str, schema: &Value, missing: &mut Vec<String>) {
        // Kubernetes' own types carry no descriptions here on purpose.
        if ["affinity", "tolerations"]
            .iter()
            .any(|foreign| path.ends_with(foreign))
        {
            return;
        }
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            if field["description"].as_str().is_none_or(str::is_empty) {
                missing.push(path.clone());
            }
            walk(&path, field, missing);
            walk(&path, &field["items"], missing);
            walk(&path, &field["additionalProperties"], missing);
        }
    }
    let mut missing = Vec::new();
    for crd in custom_resource_definitions() {
        let crd = serde_json::to_value(crd).unwrap();
        walk(
            "",
            &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"],
            &mut missing,
        );
    }
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn words_of_reasons_and_conditions_are_those_in_the_object() {
    for type_ in ConditionType::ALL {
        assert_eq!(serde_json::to_value(type_).unwrap(), type_.as_str());
    }
    for phase in Phase::ALL {
        assert_eq!(serde_json::to_value(phase).unwrap(), phase.as_str());
    }
    for phase in [
        OperationPhase::Pending,
        OperationPhase::Running,
        OperationPhase::Succeeded,
        OperationPhase::Failed,
    ] {
        assert_eq!(serde_json::to_value(phase).unwrap(), phase.as_str());
    }
    for type_ in [
        OperationType::Switchover,
        OperationType::Restart,
        OperationType::ForceElect,
        OperationType::Rebuild,
    ] {
        assert_eq!(serde_json::to_value(type_).unwrap(), type_.as_str());
    }
    assert_eq!(
        serde_json::to_value(Reason::StandbysHoldNoData).unwrap(),
        Reason::StandbysHoldNoData.as_str()
    );
}

#[test]
fn a_status_of_a_later_operator_does_not_make_the_object_unreadable() {
    let condition = |type_: &str, reason: &str| json!({"type": type_, "status": "True", "reason": reason, "message": "", "observedGeneration": 1, "lastTransitionTime": "2026-11-20T10:00:00Z"});
    let status: RocketClusterStatus = serde_json::from_value(json!({
        "phase": "Hibernated",
        "conditions": [condition("Ready", "AllGroupsServing"), condition("Ready", "SomethingNew"), condition("Balanced", "UpToDate")],
    }))
    .unwrap();
    assert_eq!(
        (status.phase, status.conditions.len()),
        (Phase::default(), 1)
    );
}

//! `RocketCluster`: defaults, specifications and edits that cannot take effect, a status that a later operator wrote.

use kube::CustomResourceExt;
use kube::core::cel::{validate_cel, validate_cel_schema, validate_cel_update};
use serde_json::{Value, json};

use super::*;

fn cluster(spec: &Value) -> RocketCluster {
    named("orders", spec)
}

fn named(name: &str, spec: &Value) -> RocketCluster {
    serde_json::from_value(json!({"apiVersion": "rocketcluster.io/v1alpha1", "kind": "RocketCluster", "metadata": {"name": name}, "spec": spec})).unwrap()
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

/// As a person writes it: our types leave empty maps out.
#[test]
fn a_client_is_selected_by_at_least_one_label() {
    let check = |selector: Value| validate_cel_schema::<ClientSelector>(&selector, None);
    for selector in [
        json!({}),
        json!({"podLabels": {}}),
        json!({"podLabels": {}, "namespaceLabels": {}}),
    ] {
        let said = refusal(check(selector.clone()));
        assert!(said.contains("leave clients empty"), "{selector}: {said}");
    }
    check(json!({"podLabels": {"app": "x"}})).unwrap();
    check(json!({"podLabels": {}, "namespaceLabels": {"team": "x"}})).unwrap();
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

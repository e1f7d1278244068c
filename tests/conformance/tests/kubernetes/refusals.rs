//! What a person may get wrong, refused by the API server itself with a sentence that helps.

use serde_json::{Value, json};

use crate::kubernetes::objects::{condition, small, text};
use crate::kubernetes::space::Space;

/// A manifest with this mistake in its specification.
fn wrong(spec: &Value) -> Value {
    json!({"apiVersion": "rocketcluster.io/v1alpha1", "kind": "RocketCluster", "metadata": {"name": "wrong"}, "spec": spec})
}

fn named(name: &str) -> Value {
    let mut cluster = wrong(&json!({}));
    cluster["metadata"]["name"] = json!(name);
    cluster
}

/// A mistake, with words of the sentence that has to come.
type Mistake = (Value, &'static str);

/// Names.
fn names() -> Vec<Mistake> {
    let long = "a".repeat(41);
    vec![
        (
            named(&long),
            "metadata.name is too long: at most 40 characters",
        ),
        (
            named("a.b"),
            "metadata.name becomes a host name: write lower-case letters, digits and dashes",
        ),
        (named("1a"), "metadata.name becomes a host name"),
    ]
}

/// Numbers, alone and together.
fn numbers() -> Vec<Mistake> {
    vec![
        (
            wrong(&json!({"groups": {"count": 0}})),
            "spec.groups.count: Invalid value: 0: spec.groups.count in body should be greater than or equal to 1",
        ),
        (
            wrong(&json!({"groups": {"count": 65}})),
            "spec.groups.count in body should be less than or equal to 64",
        ),
        (
            wrong(&json!({"groups": {"replicas": 8}})),
            "spec.groups.replicas in body should be less than or equal to 7",
        ),
        (
            wrong(&json!({"nameServers": {"replicas": 0}})),
            "spec.nameServers.replicas in body should be greater than or equal to 1",
        ),
        (
            wrong(&json!({"groups": {"replicas": 2}, "replication": {"minInSync": 3}})),
            "no write could ever be acknowledged: lower minInSync or raise groups.replicas",
        ),
        (
            wrong(&json!({"retention": {"hours": 0}})),
            "spec.retention.hours in body should be greater than or equal to 1",
        ),
        (
            wrong(&json!({"retention": {"diskHighWatermarkPercent": 90, "diskRejectPercent": 90}})),
            "retention.diskRejectPercent must be above diskHighWatermarkPercent, so that old files are deleted before writes are refused",
        ),
        (
            wrong(&json!({"podTemplate": {"terminationGracePeriodSeconds": 0}})),
            "spec.podTemplate.terminationGracePeriodSeconds in body should be greater than or equal to 1",
        ),
    ]
}

/// Amounts and times.
fn amounts() -> Vec<Mistake> {
    vec![
        (
            wrong(&json!({"groups": {"storage": {"size": "10Mi"}}})),
            "write an amount of at least 128Mi, such as 100Gi",
        ),
        (
            wrong(&json!({"groups": {"storage": {"size": "huge"}}})),
            "groups.storage.size is not a usable size",
        ),
        (
            wrong(&json!({"groups": {"resources": {"requests": {"memory": "lots"}}}})),
            "is not an amount: write a number with an optional suffix, such as 2, 500m or 1Gi",
        ),
        (
            wrong(&json!({"retention": {"deleteAt": "4am"}})),
            "spec.retention.deleteAt in body should match",
        ),
        (
            wrong(&json!({"monitoring": {"interval": "often"}})),
            "spec.monitoring.interval in body should match",
        ),
    ]
}

/// Words of a closed list, versions, images.
fn words() -> Vec<Mistake> {
    vec![
        (
            wrong(&json!({"flush": "Sometimes"})),
            "Unsupported value: \"Sometimes\": supported values: \"Sync\", \"Async\"",
        ),
        (
            wrong(&json!({"replication": {"mode": "None"}})),
            "spec.replication.mode: Unsupported value: \"None\"",
        ),
        (
            wrong(&json!({"scheduling": {"zoneSpread": "Maybe"}})),
            "supported values: \"Preferred\", \"Required\", \"Off\"",
        ),
        (
            wrong(&json!({"imagePullPolicy": "Sometimes"})),
            "supported values: \"Always\", \"IfNotPresent\", \"Never\"",
        ),
        (
            wrong(&json!({"groups": {"storage": {"reclaim": {"onDelete": "Burn"}}}})),
            "supported values: \"Retain\", \"Delete\"",
        ),
        (
            wrong(&json!({"version": "latest"})),
            "spec.version in body should match",
        ),
        (
            wrong(&json!({"image": "rocket broker"})),
            "image contains white space: write a reference such as",
        ),
    ]
}

/// Fields that do not exist, and wrong types.
fn shapes() -> Vec<Mistake> {
    vec![
        (
            wrong(&json!({"replicas": 3})),
            "unknown field \"spec.replicas\"",
        ),
        (
            wrong(&json!({"config": {"maxMessageSize": 4_194_304}})),
            "spec.config.maxMessageSize in body must be of type string",
        ),
    ]
}

/// Keys of broker.conf that belong to the operator, or to nobody.
fn config_keys() -> Vec<Mistake> {
    let config = |key: &str, value: &str| wrong(&json!({"config": {key: value}}));
    vec![
        (
            config("brokerRole", "SLAVE"),
            "config.brokerRole is decided by the operator: set spec.replication.mode",
        ),
        (
            config("flushDiskType", "ASYNC_FLUSH"),
            "config.flushDiskType is decided by the operator: set spec.flush",
        ),
        (
            config("brokerId", "1"),
            "config.brokerId is decided by the operator: it follows the role of a replica",
        ),
        (
            config("enableDLegerCommitLog", "true"),
            "there is no DLedger, set spec.groups.replicas and spec.replication",
        ),
        (
            config("useTLS", "true"),
            "config.useTLS asks for TLS, which this broker does not have yet",
        ),
        (
            config("max message size", "1"),
            "a key of config is a name from broker.conf such as maxMessageSize",
        ),
        (
            config("maxMessageSize", "1\nbrokerId=7"),
            "a value of config is one line",
        ),
    ]
}

/// Pods and clients.
fn pods_and_clients() -> Vec<Mistake> {
    let pods = |metadata: Value| wrong(&json!({"podTemplate": {"metadata": metadata}}));
    vec![
        (
            pods(json!({"labels": {"rocketcluster.io/role": "master"}})),
            "belong to the operator: choose a prefix of your own",
        ),
        (
            pods(json!({"annotations": {"rocketcluster.io/config-hash": "x"}})),
            "annotations below rocketcluster.io/ belong to the operator",
        ),
        (
            wrong(&json!({"podTemplate": {"env": [{"name": "POD_NAME", "value": "x"}]}})),
            "POD_NAME and POD_NAMESPACE are set by the operator: choose another name",
        ),
        (
            wrong(
                &json!({"podTemplate": {"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}}),
            ),
            "Duplicate value",
        ),
        (
            wrong(&json!({"networkPolicy": {"clients": [{}]}})),
            "write namespaceLabels or podLabels, or leave clients empty",
        ),
    ]
}

fn mistakes() -> Vec<Mistake> {
    [
        names(),
        numbers(),
        amounts(),
        words(),
        shapes(),
        config_keys(),
        pods_and_clients(),
    ]
    .concat()
}

#[test]
fn every_mistake_is_refused_with_a_sentence_that_helps() {
    let Some(space) = Space::new("refusals", "mistakes refused by the API server") else {
        return;
    };
    let mistakes = mistakes();
    assert!(mistakes.len() >= 20);
    let mut accepted = Vec::new();
    for (manifest, sentence) in mistakes {
        match space.ask(&["create", "-f", "-"], &manifest.to_string()) {
            Ok(_) => accepted.push(format!("accepted: {manifest}")),
            Err(refusal) if refusal.contains(sentence) => {}
            Err(refusal) => accepted.push(format!(
                "{manifest}\n  wanted: {sentence}\n  came: {refusal}"
            )),
        }
    }
    assert!(accepted.is_empty(), "{}", accepted.join("\n"));
    assert_eq!(space.list("rkt"), Vec::<Value>::new());
}

#[test]
fn an_edit_that_cannot_be_carried_out_is_refused() {
    let Some(space) = Space::new("edits-refused", "edits refused by the API server") else {
        return;
    };
    let mut cluster = small("stands");
    // Nothing has to run for this.
    cluster["spec"]["paused"] = json!(true);
    cluster["spec"]["version"] = json!("0.2.0");
    cluster["spec"]["groups"]["storage"]["size"] = json!("1Gi");
    space.apply(&cluster);
    for (spec, sentence) in [
        (
            json!({"groups": {"storage": {"className": "other"}}}),
            "groups.storage.className cannot change, because volumes cannot move between classes: write the former value",
        ),
        (
            json!({"groups": {"storage": {"size": "512Mi"}}}),
            "groups.storage.size can only grow, because Kubernetes cannot shrink a volume: write the former size or a larger one",
        ),
        (
            json!({"version": "0.1.9"}),
            "version cannot go back to an earlier minor release",
        ),
    ] {
        let patch = json!({"spec": spec}).to_string();
        let refusal = space
            .ask(
                &["patch", "rkt", "stands", "--type=merge", "-p", &patch],
                "",
            )
            .expect_err(&patch);
        assert!(refusal.contains(sentence), "{patch}: {refusal}");
    }
    for allowed in [
        json!({"version": "0.2.1"}),
        json!({"groups": {"storage": {"size": "1025Mi"}}}),
    ] {
        space.edit("stands", &allowed);
    }
    let scaled = space
        .ask(&["scale", "rkt", "stands", "--replicas=0"], "")
        .expect_err("scale to 0");
    assert!(scaled.contains("greater than or equal to 1"), "{scaled}");
}

#[test]
fn what_only_the_operator_can_know_blocks_the_cluster_and_says_why() {
    let Some(space) = Space::new("blocked", "specifications refused by the operator") else {
        return;
    };
    for (spec, sentence) in [
        (
            json!({"nameServers": {"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}}}),
            "nameServers.resources: the request of memory (2Gi) is above its limit (1Gi)",
        ),
        (
            json!({"groups": {"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}}}),
            "the request of memory (2Gi) is above its limit (1Gi): raise the limit or lower the request",
        ),
    ] {
        let manifest = wrong(&spec);
        space.apply(&manifest);
        let cluster = space.until_one("rkt", "wrong", sentence, |cluster| {
            condition(cluster, "Degraded")["reason"] == "SpecRefused"
        });
        let degraded = condition(&cluster, "Degraded");
        assert!(text(degraded, "/message").contains(sentence), "{degraded}");
        assert_eq!(cluster["status"]["phase"], "Blocked");
        assert_eq!(condition(&cluster, "Ready")["status"], "False");
        assert_eq!(space.list("statefulsets"), Vec::<Value>::new());
        space.kubectl(&["delete", "rkt", "wrong"]);
    }
}

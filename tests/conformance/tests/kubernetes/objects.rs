//! Objects as JSON: clusters to make, and what is read in those that Kubernetes shows.

use serde_json::{Value, json};

/// A cluster of one broker and one name server that starts quickly on a small machine.
pub(crate) fn small(name: &str) -> Value {
    json!({
        "apiVersion": "rocketcluster.io/v1alpha1",
        "kind": "RocketCluster",
        "metadata": {"name": name},
        "spec": {
            "nameServers": {"replicas": 1, "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "128Mi"}}},
            "groups": {
                "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "512Mi"}},
                "storage": {"size": "256Mi"},
            },
            "defaults": {"autoCreateTopics": true},
            "config": {
                "mappedFileSizeCommitLog": "16777216",
                "mappedFileSizeConsumeQueue": "60000",
                "maxHashSlotNum": "10000",
                "maxIndexNum": "40000",
            },
        },
    })
}

/// The same with parts of its specification replaced.
pub(crate) fn small_with(name: &str, spec: &Value) -> Value {
    let mut cluster = small(name);
    merge(&mut cluster["spec"], spec);
    cluster
}

/// Replaces and adds fields, as a merge patch does.
pub(crate) fn merge(into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, patch) => *into = patch.clone(),
    }
}

/// A text in an object, empty when it is not there.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Identity of an object, which its successor of the same name does not have.
pub(crate) fn uid(object: &Value) -> String {
    let uid = text(object, "/metadata/uid");
    assert!(!uid.is_empty(), "no object: {object}");
    uid.to_owned()
}

/// A condition of an object, null when it has none of that type.
pub(crate) fn condition<'a>(object: &'a Value, type_: &str) -> &'a Value {
    object
        .pointer("/status/conditions")
        .and_then(Value::as_array)
        .and_then(|all| all.iter().find(|condition| condition["type"] == type_))
        .unwrap_or(&Value::Null)
}

/// Whether a condition has this status, told of the present specification.
pub(crate) fn says(cluster: &Value, type_: &str, status: &str) -> bool {
    let condition = condition(cluster, type_);
    condition["status"] == status
        && condition["observedGeneration"] == cluster["metadata"]["generation"]
}

/// Whether a RocketCluster is Ready with its present specification.
pub(crate) fn is_ready(cluster: &Value) -> bool {
    says(cluster, "Ready", "True")
        && cluster["status"]["observedGeneration"] == cluster["metadata"]["generation"]
}

/// Whether a pod is ready and stays.
pub(crate) fn pod_is_ready(pod: &Value) -> bool {
    condition(pod, "Ready")["status"] == "True" && pod["metadata"]["deletionTimestamp"].is_null()
}

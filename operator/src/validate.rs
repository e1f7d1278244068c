//! The specification and what exists, checked once: inner code takes only a [`ValidatedCluster`].
//!
//! The API server refuses most mistakes by the schema's rules. What is refused here are requests that depend on what exists
//! or on what this version can do, and those that came in under an older schema.

use kube::ResourceExt;
use rocket_api::{OWNED_KEYS, Quantity, RocketCluster, RocketClusterSpec};

use crate::master;
use crate::names::Names;
use crate::observe::Observed;

/// What the operator's own settings add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// DNS domain of the Kubernetes cluster.
    pub domain: String,
    /// Broker image: a repository to which the version is appended, or a whole reference.
    pub broker_image: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            domain: "cluster.local".to_owned(),
            broker_image: "rocketcluster/broker".to_owned(),
        }
    }
}

/// A specification that can be carried out, with everything that was left open decided.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidatedCluster {
    /// Names of all objects.
    pub names: Names,
    /// UID of the `RocketCluster`.
    pub uid: String,
    /// The specification as written, defaults included.
    pub spec: RocketClusterSpec,
    /// Image of broker and name server.
    pub image: String,
    /// Copies without which a group refuses writes.
    pub min_in_sync: i32,
    /// Ordinal of each group's master; the index is the group's.
    pub masters: Vec<i32>,
}

/// A specification that cannot be carried out: a sentence that says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// Checks a cluster against what exists.
///
/// # Errors
/// The first thing that stands in the way.
pub fn validate(
    cluster: &RocketCluster,
    observed: &Observed,
    settings: &Settings,
) -> Result<ValidatedCluster, Refusal> {
    let spec = &cluster.spec;
    let names = names(cluster, settings);
    check_name(&names.cluster)?;
    check_numbers(spec)?;
    check_amounts(spec)?;
    if let Some(owned) = OWNED_KEYS
        .iter()
        .find(|owned| spec.config.contains_key(owned.key))
    {
        return Err(Refusal(format!(
            "config.{} is decided by the operator: {}",
            owned.key, owned.instead
        )));
    }
    let masters = (0..spec.groups.count)
        .map(|index| master::ordinal(index, &names, observed))
        .collect::<Vec<_>>();
    for (index, ordinal) in (0..).zip(&masters) {
        if *ordinal >= spec.groups.replicas {
            return Err(Refusal(format!(
                "groups.replicas: {} would remove {}, the master of group {index}, with its messages: write at least {}",
                spec.groups.replicas,
                names.pod(index, *ordinal),
                ordinal + 1
            )));
        }
    }
    Ok(ValidatedCluster {
        uid: cluster.uid().unwrap_or_default(),
        image: image(spec, &settings.broker_image),
        min_in_sync: 1,
        masters,
        names,
        spec: spec.clone(),
    })
}

/// Names of a cluster's objects.
pub fn names(cluster: &RocketCluster, settings: &Settings) -> Names {
    Names {
        cluster: cluster.name_any(),
        namespace: cluster.namespace().unwrap_or_default(),
        domain: settings.domain.clone(),
    }
}

/// The image that a specification means.
pub fn image(spec: &RocketClusterSpec, broker_image: &str) -> String {
    if let Some(image) = spec.image.as_ref().filter(|image| !image.is_empty()) {
        return image.clone();
    }
    let last = broker_image.rsplit('/').next().unwrap_or(broker_image);
    if last.contains([':', '@']) {
        broker_image.to_owned()
    } else {
        format!("{broker_image}:{}", spec.version)
    }
}

fn check_name(name: &str) -> Result<(), Refusal> {
    let label = name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if name.len() > 40
        || !label
        || !name.starts_with(|c: char| c.is_ascii_lowercase())
        || name.ends_with('-')
    {
        return Err(Refusal(format!(
            "metadata.name: \"{name}\" does not fit into host names: write at most 40 lower-case letters, digits and dashes, starting with a letter"
        )));
    }
    Ok(())
}

fn check_numbers(spec: &RocketClusterSpec) -> Result<(), Refusal> {
    let bounds = [
        ("nameServers.replicas", spec.name_servers.replicas, 1, 7),
        ("groups.count", spec.groups.count, 1, 64),
        ("groups.replicas", spec.groups.replicas, 1, 7),
        ("retention.hours", spec.retention.hours, 1, 8760),
        (
            "retention.diskHighWatermarkPercent",
            spec.retention.disk_high_watermark_percent,
            10,
            95,
        ),
        (
            "retention.diskRejectPercent",
            spec.retention.disk_reject_percent,
            spec.retention.disk_high_watermark_percent.max(34) + 1,
            98,
        ),
    ];
    for (field, value, low, high) in bounds {
        if value < low || value > high {
            return Err(Refusal(format!(
                "{field} is {value}: write a number from {low} to {high}"
            )));
        }
    }
    match spec.replication.min_in_sync {
        Some(wanted) if wanted > spec.groups.replicas => Err(Refusal(format!(
            "replication.minInSync is {wanted} but a group has {} replicas: lower minInSync or raise groups.replicas",
            spec.groups.replicas
        ))),
        Some(wanted) if wanted > 1 => Err(Refusal(format!(
            "replication.minInSync is {wanted}, but in this version replicas beyond the master hold no data, so no write could be acknowledged: leave minInSync out or write 1"
        ))),
        _ => Ok(()),
    }
}

fn check_amounts(spec: &RocketClusterSpec) -> Result<(), Refusal> {
    let refuse =
        |field: &str, error: rocket_api::QuantityError| Refusal(format!("{field}: {error}"));
    Quantity::parse(&spec.groups.storage.size)
        .map_err(|error| refuse("groups.storage.size", error))?;
    for (field, resources) in [
        ("groups.resources", &spec.groups.resources),
        ("nameServers.resources", &spec.name_servers.resources),
    ] {
        for (name, amount) in resources.requests.iter().chain(&resources.limits) {
            Quantity::parse(&crate::build::pod::amount(amount))
                .map_err(|error| refuse(&format!("{field} of {name}"), error))?;
        }
        for (name, limit) in &resources.limits {
            let limit = crate::build::pod::amount(limit);
            let request = resources.requests.get(name).map(crate::build::pod::amount);
            if let Some(request) = request.filter(|request| {
                Quantity::compare(request, &limit) == Some(std::cmp::Ordering::Greater)
            }) {
                return Err(Refusal(format!(
                    "{field}: the request of {name} ({request}) is above its limit ({limit}): raise the limit or lower the request"
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(spec: &Value, observed: &Observed) -> Result<ValidatedCluster, Refusal> {
        let cluster = json!({"apiVersion": "rocketcluster.io/v1alpha1", "kind": "RocketCluster", "metadata": {"name": "orders", "namespace": "mq", "uid": "u"}, "spec": spec});
        validate(
            &serde_json::from_value(cluster).unwrap(),
            observed,
            &Settings::default(),
        )
    }

    #[test]
    fn what_was_left_open_is_decided() {
        let cluster = check(&json!({"groups": {"count": 2}}), &Observed::default()).unwrap();
        assert_eq!(
            (cluster.image.as_str(), cluster.min_in_sync, cluster.masters),
            ("rocketcluster/broker:0.1.0", 1, vec![0, 0])
        );
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
        let claim =
            serde_json::from_value(json!({"metadata": {"name": "data-orders-0-2"}})).unwrap();
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
            [2]
        );
    }
}

//! The specification and what exists, checked once: inner code takes only a [`ValidatedCluster`].
//!
//! The API server refuses most mistakes by the schema's rules. What is refused here are requests that depend on what exists
//! or on what this version can do, and those that came in under an older schema.

use kube::ResourceExt;
use rocket_api::{GroupRule, OWNED_KEYS, Quantity, RocketCluster, RocketClusterSpec};

use crate::elected;
use crate::master;
use crate::names::Names;
use crate::observe::Observed;
use crate::volumes;

/// Whether new clusters with several replicas in a group elect their masters. Clusters that were begun otherwise stay as they
/// are (docs/failover.md), and tests begin such ones with [`Settings`] of their own.
pub const ELECTIONS: bool = true;

/// What the operator's own settings add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// DNS domain of the Kubernetes cluster.
    pub domain: String,
    /// Broker image: a repository to which the version is appended, or a whole reference.
    pub broker_image: String,
    /// Whether new clusters with several replicas in a group elect their masters: [`ELECTIONS`], except in tests.
    pub elections: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            domain: "cluster.local".to_owned(),
            broker_image: "rocketcluster/broker".to_owned(),
            elections: ELECTIONS,
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
    /// Who decides about the masters of its groups.
    pub rule: GroupRule,
    /// Ordinal of each group's master; the index is the group's. Under the static rule it is known and kept, in an elected group
    /// it is the present one, if there is one.
    pub masters: Vec<Option<i32>>,
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
    let rule = rule(spec, &names, observed, settings);
    check_numbers(spec, rule)?;
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
        .map(|index| match rule {
            GroupRule::Static => Some(master::ordinal(index, &names, observed)),
            GroupRule::Elected => master::recorded(index, &names, observed),
        })
        .collect::<Vec<_>>();
    for (index, ordinal) in (0..).zip(&masters) {
        check_removed(spec.groups.replicas, index, *ordinal, rule, &names)?;
        if rule == GroupRule::Elected {
            check_left(spec.groups.replicas, index, &names, observed)?;
        }
    }
    Ok(ValidatedCluster {
        uid: cluster.uid().unwrap_or_default(),
        image: image(spec, &settings.broker_image),
        min_in_sync: min_in_sync(spec, rule),
        rule,
        masters,
        names,
        spec: spec.clone(),
    })
}

/// Who decides about the masters of a cluster. A record says it for good; without any, a cluster that asks for several replicas
/// and has no volumes yet is begun with elections. Volumes without a record hold the one copy of a former cluster: its master
/// must be the replica that has them.
///
/// A record that got lost takes no rule with it: how the brokers are told to find their master says it too. Were one of a group
/// that elects begun anew as a fixed one, a replica that lacks acknowledged messages could be master (docs/replication.md §8.16).
fn rule(
    spec: &RocketClusterSpec,
    names: &Names,
    observed: &Observed,
    settings: &Settings,
) -> GroupRule {
    let mut recorded = observed
        .groups
        .values()
        .filter_map(|group| group.status.as_ref())
        .map(|state| state.rule);
    let elects = (0..spec.groups.count).any(|index| observed.elects(names, index));
    let is_new = observed.claims.is_empty() && spec.groups.replicas > 1;
    match recorded.next() {
        Some(GroupRule::Elected) if recorded.all(|rule| rule == GroupRule::Elected) => {
            GroupRule::Elected
        }
        None if elects || is_new && settings.elections => GroupRule::Elected,
        _ => GroupRule::Static,
    }
}

/// Copies without which a group refuses writes: as asked for, else as many as a group can spare one of.
pub fn min_in_sync(spec: &RocketClusterSpec, rule: GroupRule) -> i32 {
    let chosen = if spec.groups.replicas >= 3 { 2 } else { 1 };
    match rule {
        GroupRule::Static => 1,
        GroupRule::Elected => spec.replication.min_in_sync.unwrap_or(chosen),
    }
}

/// A master is not scaled away.
fn check_removed(
    replicas: i32,
    index: i32,
    master: Option<i32>,
    rule: GroupRule,
    names: &Names,
) -> Result<(), Refusal> {
    let Some(ordinal) = master.filter(|ordinal| *ordinal >= replicas) else {
        return Ok(());
    };
    let (pod, least) = (names.pod(index, ordinal), ordinal + 1);
    Err(Refusal(match rule {
        GroupRule::Static => format!(
            "groups.replicas: {replicas} would remove {pod}, the master of group {index}, with its messages: write at least {least}"
        ),
        GroupRule::Elected => format!(
            "groups.replicas: {replicas} would remove {pod}, the present master of group {index}: delete that pod, so that another replica becomes master, or write at least {least}"
        ),
    }))
}

/// A replica that has everything, or may be the only one that has, is scaled away only when all that stay have it too, under a
/// master. While the record cannot be read nobody is: any of them may be the one.
fn check_left(
    replicas: i32,
    index: i32,
    names: &Names,
    observed: &Observed,
) -> Result<(), Refusal> {
    let group = names.group(index);
    if !elected::is_usable(&group, observed) {
        let least = volumes::running(names, index, observed);
        return if least > replicas && volumes::has_claims(names, index, observed) {
            Err(Refusal(format!(
                "groups.replicas: {replicas} would remove replicas of group {index} while its record is lost and nobody knows who has everything: write {least}, have the record made anew (a RocketOperation of type Rebuild, docs/failover.md), and wait until all are in sync"
            )))
        } else {
            Ok(())
        };
    }
    let Some(state) = observed.state(&group) else {
        return Ok(());
    };
    let complete = elected::in_sync(state, index, names);
    if state.master.is_some() && (0..replicas).all(|ordinal| complete.contains(&ordinal)) {
        return Ok(());
    }
    let mut needed = elected::needed(state);
    if state.in_sync.is_empty() && !state.last_complete.is_empty() {
        // §8.14 takes the one that has the most, of all that answer.
        let volumes = volumes::pods(names, index, observed);
        let is_there = |pod: &str| volumes.contains(pod) || observed.pod(pod).is_some();
        let known = state.replicas.values().filter(|replica| !replica.lost);
        let known = known.map(|replica| replica.name.as_str());
        needed.extend(known.filter(|pod| is_there(pod)));
    }
    let ordinals = needed.iter().filter_map(|pod| names.ordinal(index, pod));
    match ordinals.max().filter(|ordinal| *ordinal >= replicas) {
        Some(last) => Err(Refusal(format!(
            "groups.replicas: {replicas} would remove a replica of group {index} that is in sync, or may have what nobody else has, while there is no master or one that stays is not in sync: write at least {} until there is a master and all are in sync",
            last + 1
        ))),
        None => Ok(()),
    }
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

fn check_numbers(spec: &RocketClusterSpec, rule: GroupRule) -> Result<(), Refusal> {
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
        Some(wanted) if wanted > 1 && rule == GroupRule::Static => Err(Refusal(format!(
            "replication.minInSync is {wanted}, but the masters of this cluster are fixed, since it was begun with one replica in each group or by an earlier version, and replicas beyond them hold no data: leave minInSync out or write 1, or move to another RocketCluster that is begun with replicas"
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
            (crate::kind::Kind::ConfigMap, "orders-0-config".into()),
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
            [Some(2)]
        );
    }
}

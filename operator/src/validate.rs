//! The specification and what exists, checked once: inner code takes only a [`ValidatedCluster`].
//!
//! The API server refuses most mistakes by the schema's rules. What is refused here are requests that depend on what exists
//! or on what this version can do, and those that came in under an older schema.

mod fields;
mod scale_in;
#[cfg(test)]
mod tests;

use kube::ResourceExt;
use rocket_api::{GroupRule, OWNED_KEYS, RocketCluster, RocketClusterSpec};

use crate::master;
use crate::names::Names;
use crate::observe::Observed;
use fields::{check_amounts, check_name, check_numbers};
use scale_in::{check_left, check_removed};

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
    /// Copies without which a group refuses writes, as soon as it can: see [`crate::elected::min_in_sync`].
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
    check_rule(spec, rule, &names, observed)?;
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
/// and has no volumes yet is begun with elections. Volumes without a record, and without a word that their group elected, hold the one
/// copy of a former cluster: its master must be the replica that has them.
///
/// A record that got lost takes no rule with it: how the brokers are told to find their master says it too, and so do the volume claims.
/// Were one of a group that elects begun anew as a fixed one, a replica that lacks acknowledged messages could be master
/// (docs/replication.md §8.16).
pub(crate) fn rule(
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

/// No group that elects is begun with a fixed master because others have one.
fn check_rule(
    spec: &RocketClusterSpec,
    rule: GroupRule,
    names: &Names,
    observed: &Observed,
) -> Result<(), Refusal> {
    let mut groups = 0..spec.groups.count;
    let elects = groups.find(|index| observed.is_elected(names, *index));
    match elects.filter(|_| rule == GroupRule::Static) {
        Some(index) => Err(Refusal(format!(
            "group {index} elects its master, as its record or its volume claims say, and other groups of this cluster have a fixed one: none of its replicas is started as if it had everything. Delete its volume claims if nothing on them is needed; else bring them to a RocketCluster of the name in another namespace (docs/failover.md)"
        ))),
        None => Ok(()),
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

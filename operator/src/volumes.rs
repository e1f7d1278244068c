//! Volumes: which claims to enlarge, to mark as ours, to give up; and when a StatefulSet must be made anew for a new size.
//!
//! The size in a StatefulSet's claim template cannot change. So the claims grow first; when all have, the StatefulSet is
//! deleted without its pods and made again with the new size, and the pods, unharmed, belong to the new one.
//! A volume whose pod exists is never deleted.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use kube::api::{DeleteParams, Preconditions};
use rocket_api::{GroupRule, Quantity, ReclaimPolicy, label};

use crate::elected;
use crate::names::Names;
use crate::observe::Observed;
use crate::roll::{is_leaving, runs};
use crate::validate::ValidatedCluster;

/// What to do about the volumes of one group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Size in the present claim template when it differs from what is wanted.
    pub template_size: Option<String>,
    /// Claims to enlarge to the wanted size.
    pub grow: Vec<String>,
    /// UID of the StatefulSet to make anew, keeping its pods.
    pub recreate: Option<String>,
    /// Claims that the cluster uses but that do not carry its [`labels`]: new ones, and those kept from a former cluster of the name.
    pub adopt: Vec<String>,
    /// Claims that are enlarged but not yet larger.
    pub growing: Vec<String>,
}

/// Looks at the volumes of one group.
pub fn plan(cluster: &ValidatedCluster, index: i32, observed: &Observed) -> Plan {
    let wanted = cluster.spec.groups.storage.size.as_str();
    let mut plan = Plan::default();
    let labels = labels(cluster);
    for ordinal in 0..cluster.spec.groups.replicas {
        let name = cluster.names.claim(index, ordinal);
        let Some(claim) = observed
            .claims
            .iter()
            .find(|claim| claim.name_any() == name)
        else {
            continue;
        };
        let has = |(key, value): (&&str, &&str)| {
            claim.labels().get(*key).map(String::as_str) == Some(*value)
        };
        if !labels.iter().all(has) {
            plan.adopt.push(name.clone());
        }
        if less(requested(claim), wanted) {
            plan.grow.push(name);
        } else if capacity(claim)
            .is_some_and(|capacity| less(Some(capacity), requested(claim).unwrap_or(wanted)))
        {
            plan.growing.push(name);
        }
    }
    let set = observed.stateful_sets.get(&cluster.names.group(index));
    if let Some((set, size)) = set.and_then(|set| Some((set, template_size(set)?)))
        && !Quantity::same(size, wanted)
    {
        plan.template_size = Some(size.to_owned());
        if less(Some(size), wanted) && plan.grow.is_empty() {
            plan.recreate = set.uid();
        }
    }
    plan
}

/// What a claim in use says for itself: whose it is, and that its group elects. Claims come back from backups that have neither the
/// cluster's UID nor the record, and what one replica of such a group holds need not be everything. The claim template of a
/// StatefulSet, which says the former, cannot change.
pub fn labels(cluster: &ValidatedCluster) -> BTreeMap<&'static str, &str> {
    let mut labels = BTreeMap::from([(label::CLUSTER_UID, cluster.uid.as_str())]);
    if cluster.rule == GroupRule::Elected {
        labels.insert(label::RULE, label::RULE_ELECTED);
    }
    labels
}

/// Whether a volume claim of a group says that the group elected.
pub fn have_elected(names: &Names, index: i32, observed: &Observed) -> bool {
    observed.claims.iter().any(|claim| {
        let rule = claim.labels().get(label::RULE);
        let is_of = place(names, &claim.name_any()).is_some_and(|(of, _)| of == index);
        is_of && rule.is_some_and(|rule| rule == label::RULE_ELECTED)
    })
}

/// Claims that are no longer needed and whose pods are gone, when the policy says that they go. Of a group that stays and elects one
/// is needed while its record is lost, or counts it among those that may be the only ones with everything.
pub fn surplus<'a>(
    cluster: &'a ValidatedCluster,
    observed: &'a Observed,
) -> Vec<&'a PersistentVolumeClaim> {
    if cluster.spec.groups.storage.reclaim.on_scale_in == ReclaimPolicy::Retain {
        return Vec::new();
    }
    let groups = &cluster.spec.groups;
    ours(&cluster.names, &cluster.uid, observed)
        .filter(|(_, index, ordinal)| {
            *index >= groups.count
                || *ordinal >= groups.replicas && !is_needed(cluster, *index, *ordinal, observed)
        })
        .map(|(claim, ..)| claim)
        .collect()
}

/// How one of these is deleted: that very claim, and none that has taken its name when a late request arrives.
pub fn deletion(claim: &PersistentVolumeClaim) -> DeleteParams {
    DeleteParams::default().preconditions(Preconditions {
        uid: claim.uid(),
        resource_version: None,
    })
}

fn is_needed(cluster: &ValidatedCluster, index: i32, ordinal: i32, observed: &Observed) -> bool {
    let group = cluster.names.group(index);
    if cluster.rule != GroupRule::Elected {
        return false;
    }
    let pod = cluster.names.pod(index, ordinal);
    match observed.state(&group) {
        Some(state) if elected::is_usable(&group, observed) => {
            elected::needed(state).contains(pod.as_str())
        }
        _ => true,
    }
}

/// Claims to delete with the cluster: those that carry its UID and whose pods are gone.
pub fn of_deleted_cluster<'a>(
    names: &'a Names,
    uid: &'a str,
    observed: &'a Observed,
) -> Vec<&'a PersistentVolumeClaim> {
    let ours = ours(names, uid, observed);
    ours.map(|(claim, ..)| claim).collect()
}

/// Whether any claim of a group exists: its record is kept as long.
pub fn has_claims(names: &Names, index: i32, observed: &Observed) -> bool {
    observed
        .claims
        .iter()
        .any(|claim| place(names, &claim.name_any()).is_some_and(|(of, _)| of == index))
}

/// The pods of a group whose volumes exist. One that is being deleted is there until its pod is gone.
pub fn pods(names: &Names, index: i32, observed: &Observed) -> BTreeSet<String> {
    let places = observed
        .claims
        .iter()
        .filter_map(|claim| place(names, &claim.name_any()));
    places
        .filter(|(of, _)| *of == index)
        .map(|(_, ordinal)| names.pod(index, ordinal))
        .collect()
}

/// The pods of a group whose volumes exist or may exist: also those that are to run, since a claim that lost its labels is not seen.
pub fn expected(names: &Names, index: i32, observed: &Observed) -> BTreeSet<String> {
    let running = (0..running(names, index, observed)).map(|ordinal| names.pod(index, ordinal));
    let mut expected = pods(names, index, observed);
    expected.extend(running);
    expected
}

/// Claims that are being deleted and are there only as long as their pods: what becomes of each, and what to do.
pub fn terminating(names: &Names, observed: &Observed) -> impl Iterator<Item = String> {
    let claims = observed.claims.iter().filter_map(|claim| {
        let name = claim.name_any();
        let (index, ordinal) = place(names, &name)?;
        let pod = observed.pod(&names.pod(index, ordinal))?;
        (is_terminating(claim) && !is_leaving(pod)).then_some((name, index, ordinal))
    });
    claims.map(|(claim, index, ordinal)| {
        let pod = names.pod(index, ordinal);
        let todo = if has_another(names, (index, ordinal), observed) {
            "another replica that is in sync runs, so delete the pod, which begins anew on another volume"
        } else {
            "no other replica that runs is known to have what is on it, so the operator does not replace that pod. Keep it until another one is in sync, or set persistentVolumeReclaimPolicy of its PersistentVolume to Retain"
        };
        format!("volume claim {claim} is being deleted, and its volume goes when {pod} ends: {todo}")
    })
}

/// Whether a pod would take with it what no other replica of its group is known to have, because its claim is being deleted.
pub fn is_last(names: &Names, index: i32, pod: &str, observed: &Observed) -> bool {
    let Some(ordinal) = names.ordinal(index, pod) else {
        return false;
    };
    let name = names.claim(index, ordinal);
    let mut claims = observed.claims.iter();
    let is_going = claims.any(|claim| claim.name_any() == name && is_terminating(claim));
    is_going && !has_another(names, (index, ordinal), observed)
}

fn is_terminating(claim: &PersistentVolumeClaim) -> bool {
    claim.metadata.deletion_timestamp.is_some()
}

/// Whether a replica of a group besides this one runs and is known to have everything. One that does not run may never come back.
fn has_another(names: &Names, (index, ordinal): (i32, i32), observed: &Observed) -> bool {
    let state = observed.state(&names.group(index));
    let complete = state.map(|state| elected::in_sync(state, index, names));
    let others = complete.into_iter().flatten().filter(|it| *it != ordinal);
    let mut pods = others.filter_map(|other| observed.pod(&names.pod(index, other)));
    pods.any(|pod| !is_leaving(pod) && runs(pod))
}

/// How many replicas of a group run, as its StatefulSet and its pods say.
pub fn running(names: &Names, index: i32, observed: &Observed) -> i32 {
    let set = observed.stateful_sets.get(&names.group(index));
    let asked = set.and_then(|set| set.spec.as_ref()?.replicas);
    let pods = observed.pods_of(index).filter(|pod| !is_leaving(pod));
    let ordinals = pods.filter_map(|pod| names.ordinal(index, &pod.name_any()));
    ordinals
        .map(|ordinal| ordinal + 1)
        .chain(asked)
        .max()
        .unwrap_or_default()
}

/// The claims of a group by name and UID.
pub fn owners(names: &Names, index: i32, observed: &Observed) -> Vec<(String, String)> {
    let claims = observed.claims.iter().filter(|claim| {
        !is_terminating(claim) && place(names, &claim.name_any()).is_some_and(|(of, _)| of == index)
    });
    let mut owners: Vec<(String, String)> = claims
        .filter_map(|claim| Some((claim.name_any(), claim.uid()?)))
        .collect();
    owners.sort();
    owners
}

/// Whether a pod of the name is there, also one that its StatefulSet has left behind.
fn has_pod(pod: &str, observed: &Observed) -> bool {
    let mut lingering = observed.lingering.iter();
    observed.pod(pod).is_some() || lingering.any(|it| it.metadata.name.as_deref() == Some(pod))
}

/// Claims with the cluster's UID whose pod does not exist and that are not on their way out.
fn ours<'a>(
    names: &'a Names,
    uid: &'a str,
    observed: &'a Observed,
) -> impl Iterator<Item = (&'a PersistentVolumeClaim, i32, i32)> + 'a {
    let idle = observed.claims.iter().filter(move |claim| {
        claim
            .labels()
            .get(label::CLUSTER_UID)
            .is_some_and(|of| of == uid)
            && !is_terminating(claim)
    });
    idle.filter_map(move |claim| {
        let (index, ordinal) = place(names, &claim.name_any())?;
        let is_idle = !has_pod(&names.pod(index, ordinal), observed);
        is_idle.then_some((claim, index, ordinal))
    })
}

/// Group and ordinal of a claim, by its name.
fn place(names: &Names, claim: &str) -> Option<(i32, i32)> {
    let rest = claim.strip_prefix(&format!("{}-{}-", crate::names::CLAIM, names.cluster))?;
    let (index, ordinal) = rest.split_once('-')?;
    Some((index.parse().ok()?, ordinal.parse().ok()?))
}

fn less(one: Option<&str>, other: &str) -> bool {
    one.is_some_and(|one| Quantity::compare(one, other) == Some(Ordering::Less))
}

fn requested(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim
        .spec
        .as_ref()?
        .resources
        .as_ref()?
        .requests
        .as_ref()?
        .get("storage")
        .map(|size| size.0.as_str())
}

fn capacity(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim
        .status
        .as_ref()?
        .capacity
        .as_ref()?
        .get("storage")
        .map(|size| size.0.as_str())
}

fn template_size(set: &StatefulSet) -> Option<&str> {
    let template = set
        .spec
        .as_ref()?
        .volume_claim_templates
        .as_ref()?
        .first()?;
    requested(template)
}

#[cfg(test)]
mod tests {
    use rocket_coordinator::kubernetes::status_of;
    use rocket_replication::memory::{group, member};
    use rocket_replication::{ReplicaId, State};
    use serde_json::json;

    use super::*;
    use crate::validate::{Settings, validate};

    #[test]
    fn volume_stays_while_its_replica_may_be_the_only_one_with_everything() {
        let labels = json!({label::CLUSTER_UID: "u"});
        let claim = |name: &str| -> PersistentVolumeClaim {
            let uid = format!("of {name}");
            let metadata = json!({"name": name, "uid": uid, "labels": labels});
            serde_json::from_value(json!({ "metadata": metadata })).unwrap()
        };
        let names_of = |claims: Vec<&PersistentVolumeClaim>| -> Vec<String> {
            claims.into_iter().map(ResourceExt::name_any).collect()
        };
        let claims = ["data-orders-0-0", "data-orders-0-2", "data-orders-1-0"];
        let mut observed = Observed {
            claims: claims.map(claim).into(),
            ..Observed::default()
        };
        let mut state = group(3);
        state.in_sync = [1, 2].map(member).into();
        state.last_complete = [1, 2].map(ReplicaId).into();
        let hold = |observed: &mut Observed, state: &State| {
            let uid = "00000000-0000-0000-0000-000000000009";
            let record = json!({"metadata": {"name": "orders-0", "uid": uid}, "spec": {"cluster": "orders", "index": 0}, "status": status_of(state).unwrap()});
            let record = serde_json::from_value(record).unwrap();
            observed.groups.insert("orders-0".into(), record);
        };
        hold(&mut observed, &state);
        let spec =
            json!({"groups": {"replicas": 2, "storage": {"reclaim": {"onScaleIn": "Delete"}}}});
        let cluster = json!({"apiVersion": "rocketcluster.io/v1alpha1", "kind": "RocketCluster", "metadata": {"name": "orders", "namespace": "mq", "uid": "u"}, "spec": spec});
        let cluster = serde_json::from_value(cluster).unwrap();
        let cluster = validate(&cluster, &observed, &Settings::default()).unwrap();
        // That of a group that is not asked for any more goes whatever is recorded.
        let both = ["data-orders-0-2", "data-orders-1-0"];
        assert_eq!(names_of(surplus(&cluster, &observed)), both);
        state.last_complete.insert(ReplicaId(3));
        hold(&mut observed, &state);
        assert_eq!(names_of(surplus(&cluster, &observed)), both[1..]);
        observed.groups.clear();
        assert_eq!(names_of(surplus(&cluster, &observed)), both[1..]);
        // Its broker has not ended yet, although its StatefulSet is gone.
        let pod = json!({"metadata": {"name": "orders-1-0"}});
        observed
            .lingering
            .push(serde_json::from_value(pod).unwrap());
        assert_eq!(names_of(surplus(&cluster, &observed)), [""; 0]);
        let all = of_deleted_cluster(&cluster.names, "u", &observed);
        let meant = deletion(all[0]).preconditions.unwrap();
        assert_eq!(meant.uid.as_deref(), Some("of data-orders-0-0"));
        assert_eq!(names_of(all), ["data-orders-0-0", "data-orders-0-2"]);
    }
}

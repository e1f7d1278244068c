//! Which pods to replace now, because they run an older specification or because a `RocketOperation` asks for it.
//!
//! A pod that serves nothing is replaced at once: waiting for it would wait for ever when the older specification is what
//! keeps it from starting. A pod that serves is replaced only when everything else in the cluster is up and up to date, one
//! at a time, masters after standbys. In groups that elect, everything is up when every replica has everything again, and a
//! master hands over before its pod goes (docs/replication.md §8.12, §8.17).

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use rocket_api::{GroupRule, GroupState, Member};
use rocket_replication::ReplicaId;

use crate::elected;
use crate::observe::Observed;
use crate::validate::ValidatedCluster;

/// Label that Kubernetes puts on a StatefulSet's pods: the revision of the template that made it.
const REVISION: &str = "controller-revision-hash";

/// A pod to delete; its StatefulSet makes it anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    /// Name of the pod.
    pub pod: String,
    /// UID of that very pod, so that its successor is never hit.
    pub uid: String,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Delete this pod.
    Restart(Restart),
    /// Ask the master of this group to hand over to this replica.
    HandOver {
        /// Index of the group.
        index: i32,
        /// The replica that takes over.
        to: ReplicaId,
    },
}

/// What to do now; empty when there is nothing to do or something to wait for.
pub fn next(cluster: &ValidatedCluster, observed: &Observed) -> Vec<Step> {
    let names = &cluster.names;
    let sets = std::iter::once(names.namesrv())
        .chain((0..cluster.spec.groups.count).map(|index| names.group(index)));
    let idle: Vec<Step> = sets
        .flat_map(|set| idle(&set, observed))
        .map(|pod| Step::Restart(restart(pod)))
        .collect();
    if !idle.is_empty() {
        return idle;
    }
    let settled = (0..cluster.spec.groups.count).all(|index| {
        let ready = observed
            .pods_of(index)
            .filter(|pod| is_ready(pod) && !is_leaving(pod))
            .count();
        let replicas = cluster.spec.groups.replicas;
        i32::try_from(ready).is_ok_and(|ready| ready >= replicas)
            && (cluster.rule == GroupRule::Static
                || elected::is_whole(index, replicas, names, observed))
    });
    if !settled {
        return Vec::new();
    }
    let groups = (0..).zip(&cluster.masters);
    let first = groups.filter_map(|(index, master)| {
        let master = master.map(|ordinal| names.pod(index, ordinal));
        let is_master = |pod: &Pod| pod.metadata.name == master;
        let mut pods = due(&names.group(index), observed);
        pods.sort_by_key(|pod| (is_master(pod), pod.name_any()));
        let pod = *pods.first()?;
        let state = observed
            .state(&names.group(index))
            .filter(|_| cluster.rule == GroupRule::Elected && is_master(pod));
        match state.and_then(|state| heir(state, &pods, observed)) {
            Some(to) => Some(Step::HandOver { index, to }),
            None => Some(Step::Restart(restart(pod))),
        }
    });
    first.take(1).collect()
}

/// Who takes over from a master whose pod is due, if anybody can.
fn heir(state: &GroupState, due: &[&Pod], observed: &Observed) -> Option<ReplicaId> {
    elected::successor(state, |name| {
        let is_due = due
            .iter()
            .any(|pod| pod.metadata.name.as_deref() == Some(name));
        let is_ready = observed
            .pod(name)
            .is_some_and(|pod| is_ready(pod) && !is_leaving(pod));
        is_ready && !is_due
    })
}

/// Pods of a StatefulSet that do not run its present template. Empty until Kubernetes has looked at the template.
pub fn outdated<'a>(set: &str, observed: &'a Observed) -> Vec<&'a Pod> {
    let Some(set) = observed.stateful_sets.get(set) else {
        return Vec::new();
    };
    let Some(revision) = present_revision(set) else {
        return Vec::new();
    };
    members(set, observed)
        .filter(|pod| is_of_other(pod, revision))
        .collect()
}

/// Pods of a StatefulSet that are to be replaced: outdated ones, and those that are to be restarted as they are.
fn due<'a>(set: &str, observed: &'a Observed) -> Vec<&'a Pod> {
    let Some(set) = observed.stateful_sets.get(set) else {
        return Vec::new();
    };
    let revision = present_revision(set);
    let is_asked = |pod: &Pod| {
        let uid = pod.metadata.uid.as_ref();
        uid.is_some_and(|uid| observed.restarting.contains(uid))
    };
    members(set, observed)
        .filter(|pod| revision.is_some_and(|of| is_of_other(pod, of)) || is_asked(pod))
        .collect()
}

/// Those of them that serve nothing. One that is only to be restarted is left in peace while its group counts on it: it may be
/// starting right now.
fn idle<'a>(set: &str, observed: &'a Observed) -> Vec<&'a Pod> {
    let outdated = outdated(set, observed);
    let is_outdated = |pod: &Pod| outdated.iter().any(|of| std::ptr::eq(*of, pod));
    let mut pods = due(set, observed);
    pods.retain(|pod| {
        let is_idle = !is_ready(pod) && !is_leaving(pod);
        is_idle && (is_outdated(pod) || !is_counted_on(pod, observed))
    });
    pods
}

/// Whether a group that elects has this pod's replica in S.
fn is_counted_on(pod: &Pod, observed: &Observed) -> bool {
    let states = observed
        .groups
        .values()
        .filter_map(|group| group.status.as_ref());
    let mut electing = states.filter(|state| state.rule == GroupRule::Elected);
    electing.any(|state| {
        let replica = |member: &Member| state.replicas.get(&member.replica_id.to_string());
        let mut replicas = state.in_sync.iter().filter_map(replica);
        replicas.any(|replica| Some(&replica.name) == pod.metadata.name.as_ref())
    })
}

fn members<'a>(set: &StatefulSet, observed: &'a Observed) -> impl Iterator<Item = &'a Pod> {
    let uid = set.uid();
    observed.pods.iter().filter(move |pod| {
        let mut owners = pod.owner_references().iter();
        owners.any(|owner| Some(&owner.uid) == uid.as_ref())
    })
}

fn is_of_other(pod: &Pod, revision: &str) -> bool {
    pod.labels().get(REVISION).is_some_and(|of| of != revision)
}

/// Revision of the present template, once Kubernetes has looked at it.
pub fn present_revision(set: &StatefulSet) -> Option<&str> {
    let status = set.status.as_ref()?;
    (status.observed_generation == set.metadata.generation)
        .then_some(status.update_revision.as_deref())
        .flatten()
}

/// Whether the pod's readiness probe holds.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| {
        all.iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    })
}

/// Whether the pod is being deleted.
pub fn is_leaving(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

fn restart(pod: &Pod) -> Restart {
    Restart {
        pod: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rocket_api::RocketBrokerGroup;
    use rocket_coordinator::kubernetes::status_of;
    use rocket_replication::memory;
    use rocket_replication::state::{Activation, State};
    use serde_json::json;

    use super::*;
    use crate::validate::{Settings, validate};

    /// A group of three replicas that elected the first, with the pods of `old` on a former template.
    fn group(in_sync: &[u32], old: &[i32]) -> (ValidatedCluster, Observed) {
        let mut state = memory::group(3);
        state.in_sync = in_sync.iter().copied().map(memory::member).collect();
        state.last_complete = in_sync.iter().copied().map(ReplicaId).collect();
        state.activated = Some(Activation {
            epoch: state.epoch,
            start_offset: rocket_replication::PhysicalOffset(0),
        });
        observed(&state, &old.iter().copied().collect())
    }

    fn observed(state: &State, old: &BTreeSet<i32>) -> (ValidatedCluster, Observed) {
        let mut seen = Observed::default();
        let record = json!({"metadata": {"name": "orders-0"}, "spec": {"cluster": "orders", "index": 0}, "status": status_of(state).unwrap()});
        let record: RocketBrokerGroup = serde_json::from_value(record).unwrap();
        seen.groups.insert("orders-0".into(), record);
        for (set, uid) in [("orders-0", "set"), ("orders-namesrv", "names")] {
            let set_object = json!({"metadata": {"name": set, "uid": uid, "generation": 1}, "status": {"observedGeneration": 1, "updateRevision": "new", "replicas": 3}});
            seen.stateful_sets
                .insert(set.into(), serde_json::from_value(set_object).unwrap());
        }
        for ordinal in 0..3 {
            let revision = if old.contains(&ordinal) { "old" } else { "new" };
            let pod = json!({
                "metadata": {
                    "name": format!("orders-0-{ordinal}"),
                    "uid": format!("pod-{ordinal}"),
                    "labels": {"controller-revision-hash": revision, "rocketcluster.io/group": "0"},
                    "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "orders-0", "uid": "set", "controller": true}],
                },
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            });
            seen.pods.push(serde_json::from_value(pod).unwrap());
        }
        let cluster = json!({"apiVersion": "rocketcluster.io/v1alpha1", "kind": "RocketCluster", "metadata": {"name": "orders", "namespace": "mq", "uid": "u"}, "spec": {"groups": {"replicas": 3}}});
        let cluster = serde_json::from_value(cluster).unwrap();
        let checked = validate(&cluster, &seen, &Settings::default()).unwrap();
        (checked, seen)
    }

    fn restarted((cluster, observed): (ValidatedCluster, Observed)) -> Vec<String> {
        let step = |step| match step {
            Step::Restart(restart) => restart.pod,
            Step::HandOver { index, to } => format!("group {index} to replica {to}"),
        };
        next(&cluster, &observed).into_iter().map(step).collect()
    }

    #[test]
    fn slaves_are_replaced_first_and_only_when_all_are_in_sync() {
        assert_eq!(restarted(group(&[1, 2, 3], &[0, 1, 2])), ["orders-0-1"]);
        assert_eq!(restarted(group(&[1, 2, 3], &[0, 2])), ["orders-0-2"]);
        assert_eq!(restarted(group(&[1, 3], &[0, 2])), [""; 0]);
        assert_eq!(restarted(group(&[1, 2, 3], &[])), [""; 0]);
    }

    #[test]
    fn what_a_request_restarts_goes_the_same_way() {
        let (cluster, mut seen) = group(&[1, 2, 3], &[]);
        let ask = |seen: &mut Observed, pods: &[&str]| {
            seen.restarting = pods.iter().map(|pod| (*pod).to_owned()).collect();
        };
        ask(&mut seen, &["pod-0", "pod-1", "pod-2"]);
        let told = |seen: &Observed| restarted((cluster.clone(), seen.clone()));
        assert_eq!(told(&seen), ["orders-0-1"]);
        ask(&mut seen, &["pod-0"]);
        assert_eq!(told(&seen), ["group 0 to replica 2"]);
        // Its successor of the same name has another UID.
        ask(&mut seen, &["pod-of-earlier-times"]);
        assert_eq!(told(&seen), [""; 0]);
        // One that is not ready is restarted at once, unless the group counts on it.
        ask(&mut seen, &["pod-0", "pod-1", "pod-2"]);
        seen.pods[2].status = None;
        assert_eq!(told(&seen), [""; 0]);
        let (_, behind) = group(&[1, 2], &[]);
        seen.groups = behind.groups;
        assert_eq!(told(&seen), ["orders-0-2"]);
    }

    #[test]
    fn master_hands_over_before_its_pod_goes() {
        assert_eq!(restarted(group(&[1, 2, 3], &[0])), ["group 0 to replica 2"]);
        let mut state = memory::group(3);
        state.in_sync = [1, 2, 3].map(memory::member).into();
        state.last_complete = [1, 2, 3].map(ReplicaId).into();
        // It has not opened yet: nothing may be missing beside it.
        assert_eq!(restarted(observed(&state, &[0].into())), [""; 0]);
    }
}

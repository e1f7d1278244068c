//! Which pods to replace now, because they run an older specification or because a `RocketOperation` asks for it.
//!
//! A pod that serves nothing is replaced at once: waiting for it would wait for ever when the older specification is what
//! keeps it from starting. A pod that serves is replaced only when everything else in the cluster is up and up to date, one
//! at a time, masters after standbys. In groups that elect, everything is up when every replica has everything again, and a
//! master hands over before its pod goes (docs/replication.md §8.12, §8.17).

#[cfg(test)]
mod tests;

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

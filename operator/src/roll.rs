//! Which pods to replace now, because they run an older specification or because a `RocketOperation` asks for it.
//!
//! A pod that serves nothing is replaced at once: waiting for it would wait for ever when the older specification is what
//! keeps it from starting. A pod that serves is replaced only when everything else in the cluster is up and up to date, one
//! at a time, masters after standbys. In groups that elect, everything is up when every replica has everything again, and a
//! master hands over before its pod goes (docs/replication.md §8.12, §8.17).
//!
//! In such groups a pod that is not ready may serve all the same: a broker whose disk is full keeps what it has, acknowledges for its
//! group, and is read. What is in S has its turn like a pod that is ready, unless the group has no master.
//!
//! A pod whose volume claim is being deleted takes its volume with it. While no other replica that runs is in S it is not replaced at all.

#[cfg(test)]
mod tests;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use rocket_api::{GroupRule, GroupState};
use rocket_replication::ReplicaId;

use crate::elected::{self, Life};
use crate::observe::Observed;
use crate::validate::ValidatedCluster;
use crate::volumes;

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
    let groups = 0..cluster.spec.groups.count;
    let name_servers = idle(&names.namesrv(), observed).into_iter();
    let brokers = groups.clone().flat_map(|index| {
        let pods = idle(&names.group(index), observed).into_iter();
        pods.filter(move |pod| !is_counted_on(cluster, index, pod, observed))
            .filter(move |pod| !is_last(cluster, index, pod, observed))
    });
    let mut pods: Vec<&Pod> = name_servers.chain(brokers).collect();
    if pods.is_empty() {
        pods.extend(groups.filter_map(|index| stuck(cluster, index, observed)));
    }
    if pods.is_empty() {
        return turn(cluster, observed).into_iter().collect();
    }
    pods.into_iter().map(restart).collect()
}

/// The pod to replace in a group that elects and has no master, although all that is idle there is in S: the older specification may be
/// what keeps it from having one. Pods whose broker does not run go one after the other; one whose broker runs may be about to be
/// elected, and goes only when all run and there is no master all the same.
fn stuck<'a>(cluster: &ValidatedCluster, index: i32, observed: &'a Observed) -> Option<&'a Pod> {
    let group = cluster.names.group(index);
    let is_static = cluster.rule == GroupRule::Static;
    if is_static || has_master(&group, observed) || observed.pods_of(index).any(is_leaving) {
        return None;
    }
    let mut idle = idle(&group, observed);
    idle.retain(|pod| !is_last(cluster, index, pod, observed));
    let dead = idle.iter().find(|pod| !runs(pod));
    let may_run = elected::is_usable(&group, observed) && all_run(cluster, index, observed);
    dead.or_else(|| idle.first().filter(|_| may_run)).copied()
}

/// The next step about pods that serve, or that their groups count on: one in the whole cluster, only when every replica of every group
/// has everything, and none where writes would stop meanwhile.
fn turn(cluster: &ValidatedCluster, observed: &Observed) -> Option<Step> {
    let names = &cluster.names;
    let (count, replicas) = (cluster.spec.groups.count, cluster.spec.groups.replicas);
    let elects = cluster.rule == GroupRule::Elected;
    let is_whole = |index| {
        elected::is_usable(&names.group(index), observed)
            && elected::is_whole(index, replicas, names, observed)
            && all_run(cluster, index, observed)
    };
    if elects && !(0..count).all(is_whole) {
        return None;
    }
    let are_ready = (0..count).all(|index| {
        let pods = observed.pods_of(index).filter(|pod| !is_leaving(pod));
        let ready = pods.filter(|pod| is_ready(pod)).count();
        i32::try_from(ready).is_ok_and(|ready| ready >= replicas)
    });
    (0..).zip(&cluster.masters).find_map(|(index, master)| {
        let master = master.map(|ordinal| names.pod(index, ordinal));
        let is_master = |pod: &Pod| pod.metadata.name == master;
        let mut pods = due(&names.group(index), observed);
        pods.retain(|pod| !is_leaving(pod) && !is_last(cluster, index, pod, observed));
        // What keeps them from being ready, such as a full disk, must not keep its own cure from them.
        let are_ill = elects && pods.iter().any(|pod| !is_ready(pod));
        if !are_ready && !are_ill || spares_none(cluster, index, observed) {
            return None;
        }
        pods.sort_by_key(|pod| (is_master(pod), is_ready(pod), pod.name_any()));
        let pod = *pods.first()?;
        if !elects || replicas == 1 || !is_master(pod) {
            return Some(restart(pod));
        }
        let to = heir(observed.state(&names.group(index))?, &pods, observed)?;
        Some(Step::HandOver { index, to })
    })
}

/// Whether a group would refuse writes while one of its replicas is replaced, by the present `minInSync` or the one that is asked for.
fn spares_none(cluster: &ValidatedCluster, index: i32, observed: &Observed) -> bool {
    let state = observed.state(&cluster.names.group(index));
    let recorded = state.map_or(0, |state| state.min_in_sync);
    elected::spares_none(
        cluster.spec.groups.replicas,
        cluster.min_in_sync.max(recorded),
    )
}

/// Who takes over from a master whose pod is due, if anybody can: one that is ready if there is any.
fn heir(state: &GroupState, due: &[&Pod], observed: &Observed) -> Option<ReplicaId> {
    let is_fit = |name: &str| {
        let mut due = due.iter().map(|pod| pod.metadata.name.as_deref());
        let pod = observed.pod(name).filter(|pod| !is_leaving(pod));
        pod.filter(|_| due.all(|due| due != Some(name)))
    };
    elected::successor(state, |name| is_fit(name).is_some_and(is_ready))
        .or_else(|| elected::successor(state, |name| is_fit(name).is_some()))
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

/// Those of them that are not ready.
fn idle<'a>(set: &str, observed: &'a Observed) -> Vec<&'a Pod> {
    let mut pods = due(set, observed);
    pods.retain(|pod| !is_ready(pod) && !is_leaving(pod));
    pods
}

/// Whether what this pod would take with it is known to be nowhere else.
fn is_last(cluster: &ValidatedCluster, index: i32, pod: &Pod, observed: &Observed) -> bool {
    volumes::is_last(&cluster.names, index, &pod.name_any(), observed)
}

/// Whether a group that elects has this pod's replica in S, ready or not, or may have it there: nobody knows while its record is lost.
///
/// E does not count. Who is in it has everything, and keeps it through an orderly restart (docs/replication.md §8.3); but there is an E
/// only while S is too small for writes. Were its pods to wait until all are in S, a specification that keeps them from it would stay.
fn is_counted_on(cluster: &ValidatedCluster, index: i32, pod: &Pod, observed: &Observed) -> bool {
    if cluster.rule == GroupRule::Static {
        return false;
    }
    let names = &cluster.names;
    let group = names.group(index);
    let state = observed.state(&group);
    let Some(state) = state.filter(|_| elected::is_usable(&group, observed)) else {
        return true;
    };
    let ordinal = names.ordinal(index, &pod.name_any());
    ordinal.is_some_and(|ordinal| elected::in_sync(state, index, names).contains(&ordinal))
}

/// Whether the recorded master has opened, and its broker runs.
fn has_master(group: &str, observed: &Observed) -> bool {
    observed.state(group).is_some_and(|state| {
        let pod = state.master_pod().and_then(|pod| observed.pod(pod));
        elected::is_open(state) && pod.is_some_and(|pod| !is_leaving(pod) && runs(pod))
    })
}

/// Whether all pods that a group shall have are there to stay, and their brokers run.
fn all_run(cluster: &ValidatedCluster, index: i32, observed: &Observed) -> bool {
    (0..cluster.spec.groups.replicas).all(|ordinal| {
        let pod = observed.pod(&cluster.names.pod(index, ordinal));
        pod.is_some_and(|pod| !is_leaving(pod) && runs(pod))
    })
}

/// Whether the broker of a pod runs, as far as Kubernetes knows.
pub fn runs(pod: &Pod) -> bool {
    is_ready(pod) || elected::life(pod) == Life::Runs
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

fn restart(pod: &Pod) -> Step {
    Step::Restart(Restart {
        pod: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
    })
}

//! Which pods to replace now, because they run an older specification.
//!
//! A pod that serves nothing is replaced at once: waiting for it would wait for ever when the older specification is what
//! keeps it from starting. A pod that serves is replaced only when everything else in the cluster is up and up to date, one
//! at a time, masters after standbys.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

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

/// Pods to replace now; empty when there is nothing to do or something to wait for.
pub fn next(cluster: &ValidatedCluster, observed: &Observed) -> Vec<Restart> {
    let names = &cluster.names;
    let sets = std::iter::once(names.namesrv())
        .chain((0..cluster.spec.groups.count).map(|index| names.group(index)));
    let idle: Vec<Restart> = sets
        .flat_map(|set| outdated(&set, observed))
        .filter(|pod| !is_ready(pod) && !is_leaving(pod))
        .map(restart)
        .collect();
    if !idle.is_empty() {
        return idle;
    }
    let settled = (0..cluster.spec.groups.count).all(|index| {
        let ready = observed
            .pods_of(index)
            .filter(|pod| is_ready(pod) && !is_leaving(pod))
            .count();
        i32::try_from(ready).is_ok_and(|ready| ready >= cluster.spec.groups.replicas)
    });
    if !settled {
        return Vec::new();
    }
    let groups = (0..).zip(&cluster.masters);
    let first = groups.filter_map(|(index, master)| {
        let master = names.pod(index, *master);
        let mut pods = outdated(&names.group(index), observed);
        pods.sort_by_key(|pod| (pod.name_any() == master, pod.name_any()));
        pods.first().copied().map(restart)
    });
    first.take(1).collect()
}

/// Pods of a StatefulSet that do not run its present template. Empty until Kubernetes has looked at the template.
pub fn outdated<'a>(set: &str, observed: &'a Observed) -> Vec<&'a Pod> {
    let Some(set) = observed.stateful_sets.get(set) else {
        return Vec::new();
    };
    let Some(revision) = present_revision(set) else {
        return Vec::new();
    };
    let uid = set.uid();
    let is_member = |pod: &&Pod| {
        pod.owner_references()
            .iter()
            .any(|owner| Some(&owner.uid) == uid.as_ref())
    };
    observed
        .pods
        .iter()
        .filter(is_member)
        .filter(|pod| pod.labels().get(REVISION).is_some_and(|of| of != revision))
        .collect()
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

//! What is true of a cluster that is being deleted.

use kube::ResourceExt;
use rocket_api::{ReclaimPolicy, RocketCluster};

use crate::names::{FINALIZER, Names};
use crate::observe::Observed;

/// How many pods are named.
const NAMED: usize = 10;

/// What a deletion waits for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deletion {
    /// Pods that are there, in order of their names.
    pub pods: Vec<String>,
    /// Finalizers that are not the operator's.
    pub holders: Vec<String>,
    /// Whether the cluster carries the operator's finalizer.
    pub is_ours: bool,
    /// Whether groups go on meanwhile: their StatefulSets are there, and nobody has begun to take them away.
    pub serves: bool,
}

impl Deletion {
    /// Nothing while a cluster is to live.
    pub fn of(cluster: &RocketCluster, names: &Names, observed: &Observed) -> Option<Self> {
        cluster.metadata.deletion_timestamp.as_ref()?;
        let (ours, holders): (Vec<&String>, Vec<&String>) = cluster
            .finalizers()
            .iter()
            .partition(|finalizer| *finalizer == FINALIZER);
        let is_ours = !ours.is_empty();
        let reclaim = &cluster.spec.groups.storage.reclaim;
        let takes_away = is_ours && reclaim.on_delete == ReclaimPolicy::Delete;
        let name_servers = names.namesrv();
        let mut sets = observed.stateful_sets.iter();
        let has_set = sets
            .any(|(name, set)| *name != name_servers && set.metadata.deletion_timestamp.is_none());
        let pods = observed.pods.iter().chain(&observed.lingering);
        let mut pods: Vec<String> = pods.map(ResourceExt::name_any).collect();
        pods.sort();
        Some(Self {
            pods,
            holders: holders.into_iter().cloned().collect(),
            is_ours,
            serves: has_set && !takes_away,
        })
    }

    /// The same for people.
    pub(super) fn sentence(&self) -> String {
        let mut parts = Vec::new();
        if self.serves {
            parts.push("its brokers go on until Kubernetes takes them away".to_owned());
        } else if !self.pods.is_empty() {
            let named = self.pods.get(..NAMED).unwrap_or(&self.pods);
            let rest = match self.pods.len() - named.len() {
                0 => String::new(),
                rest => format!(" and {rest} more"),
            };
            parts.push(format!("waiting for the end of {}{rest}", named.join(", ")));
        }
        if !self.holders.is_empty() {
            parts.push(format!("held by {}", self.holders.join(", ")));
        }
        if parts.is_empty() {
            return "the cluster is being deleted".to_owned();
        }
        format!("the cluster is being deleted: {}", parts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_deletion_waits_for_is_named_within_bounds() {
        let mut deletion = Deletion::default();
        assert_eq!(deletion.sentence(), "the cluster is being deleted");
        deletion.holders = vec!["example.com/hold".into()];
        let held = "the cluster is being deleted: held by example.com/hold";
        assert_eq!(deletion.sentence(), held);
        deletion.pods = (10..22).map(|number| format!("p-{number}")).collect();
        let sentence = deletion.sentence();
        let waits = "waiting for the end of p-10, p-11, p-12, p-13, p-14, p-15, p-16, p-17, p-18, p-19 and 2 more; held by";
        assert!(sentence.contains(waits), "{sentence}");
        deletion.serves = true;
        let sentence = deletion.sentence();
        assert!(!sentence.contains("p-10"), "{sentence}");
        assert!(sentence.contains("its brokers go on"), "{sentence}");
    }
}

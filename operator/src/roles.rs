//! The role label on broker pods, for people and for Prometheus. Where the operator may not write EndpointSlices, the Service of a group
//! that elects selects by it too, so that moving it moves the group's address.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use rocket_api::label;
use serde_json::json;

use crate::names::Names;
use crate::observe::Observed;
use crate::roll;

/// A label to write.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Whether the pod becomes master. First nobody is master wrongly, then the master is.
    pub is_master: bool,
    /// The pod.
    pub pod: String,
    /// That very pod; without it whichever has the name.
    pub uid: Option<String>,
}

/// What has to be written in all groups of a cluster, `count` of which are asked for, so that the labels follow their records. Where a
/// record is lost nobody knows who is master, and who was may go on.
pub fn of_groups(count: i32, names: &Names, observed: &Observed) -> Vec<Change> {
    let differing = observed.indices(names, count).into_iter();
    let differing = differing.filter_map(|index| {
        let state = observed.state(&names.group(index))?;
        Some(changes(observed.pods_of(index), state.master_pod()))
    });
    let mut changes: Vec<Change> = differing.flatten().collect();
    changes.sort();
    changes
}

/// What has to be written so that `master`, and nobody else of these pods, carries the role of the master.
fn changes<'a>(pods: impl Iterator<Item = &'a Pod>, master: Option<&str>) -> Vec<Change> {
    let staying = pods.filter(|pod| !roll::is_leaving(pod));
    let differing = staying.filter_map(|pod| {
        let is_master = pod.metadata.name.as_deref() == master && master.is_some();
        let present = pod.labels().get(label::ROLE).map(String::as_str);
        (present != Some(role(is_master))).then(|| Change {
            is_master,
            pod: pod.name_any(),
            uid: pod.uid(),
        })
    });
    let mut changes: Vec<Change> = differing.collect();
    changes.sort();
    changes
}

/// Writes one label.
///
/// # Errors
/// As the API server answers.
pub async fn write(api: &Api<Pod>, change: &Change) -> kube::Result<()> {
    let labels = json!({label::ROLE: role(change.is_master)});
    let patch = match &change.uid {
        Some(uid) => json!({"metadata": {"uid": uid, "labels": labels}}),
        None => json!({"metadata": {"labels": labels}}),
    };
    api.patch(&change.pod, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .map(drop)
}

fn role(is_master: bool) -> &'static str {
    if is_master {
        label::ROLE_MASTER
    } else {
        label::ROLE_STANDBY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, role: Option<&str>) -> Pod {
        let labels = role.map(|role| json!({label::ROLE: role}));
        serde_json::from_value(json!({"metadata": {"name": name, "uid": name, "labels": labels}}))
            .unwrap()
    }

    #[test]
    fn former_master_loses_the_role_before_the_next_one_has_it() {
        let pods = [
            pod("a", Some("standby")),
            pod("b", Some("master")),
            pod("c", None),
        ];
        let told: Vec<(String, bool)> = changes(pods.iter(), Some("a"))
            .into_iter()
            .map(|change| (change.pod, change.is_master))
            .collect();
        let expected = [("b", false), ("c", false), ("a", true)];
        assert_eq!(told, expected.map(|(pod, is)| (pod.to_owned(), is)));
        assert!(changes(pods[..1].iter(), None).is_empty());
    }
}

//! How many pods may be evicted at once: one of a group, one name server. A pod that is not ready never blocks a drain.
//!
//! Of an elected group none may go while a replica is not in sync: a pod can be ready before it has everything again, and with
//! another one gone the group would stop taking writes.

use std::collections::BTreeMap;

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{metadata, owned, selector};
use crate::names::Names;
use crate::validate::ValidatedCluster;

pub(super) fn name_servers(cluster: &ValidatedCluster) -> PodDisruptionBudget {
    at_a_time(
        metadata(
            cluster,
            cluster.names.namesrv(),
            cluster.names.namesrv_labels(),
        ),
        cluster.names.namesrv_selector(),
        1,
    )
}

pub(super) fn group(
    (names, uid): (&Names, &str),
    index: i32,
    is_strained: bool,
) -> PodDisruptionBudget {
    at_a_time(
        owned(names, uid, names.group(index), names.group_labels(index)),
        names.group_selector(index),
        i32::from(!is_strained),
    )
}

fn at_a_time(
    metadata: ObjectMeta,
    labels: BTreeMap<String, String>,
    pods: i32,
) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata,
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(pods)),
            selector: Some(selector(labels)),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}

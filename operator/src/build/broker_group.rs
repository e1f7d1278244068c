//! The coordinator object of a group. Its status is written elsewhere, by compare-and-set.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use rocket_api::{RocketBrokerGroup, RocketBrokerGroupSpec};

use super::metadata;
use crate::validate::ValidatedCluster;

/// `claims` are owners beside the cluster. Kubernetes deletes an object when its last owner is gone, so the record of an elected
/// group outlives a cluster whose volumes stay, and a cluster of the same name takes both.
pub(super) fn group(
    cluster: &ValidatedCluster,
    index: i32,
    claims: Option<&Vec<(String, String)>>,
) -> RocketBrokerGroup {
    let mut metadata = metadata(
        cluster,
        cluster.names.group(index),
        cluster.names.group_labels(index),
    );
    let owner = |(name, uid): &(String, String)| OwnerReference {
        api_version: "v1".to_owned(),
        kind: "PersistentVolumeClaim".to_owned(),
        name: name.clone(),
        uid: uid.clone(),
        ..OwnerReference::default()
    };
    let owners = metadata.owner_references.get_or_insert_default();
    owners.extend(claims.into_iter().flatten().map(owner));
    RocketBrokerGroup {
        metadata,
        spec: RocketBrokerGroupSpec {
            cluster: cluster.names.cluster.clone(),
            index,
        },
        status: None,
    }
}

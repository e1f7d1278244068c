//! The coordinator object of a group. Its status is written elsewhere, by compare-and-set.

use rocket_api::{RocketBrokerGroup, RocketBrokerGroupSpec};

use super::metadata;
use crate::validate::ValidatedCluster;

pub(super) fn group(cluster: &ValidatedCluster, index: i32) -> RocketBrokerGroup {
    RocketBrokerGroup {
        metadata: metadata(
            cluster,
            cluster.names.group(index),
            cluster.names.group_labels(index),
        ),
        spec: RocketBrokerGroupSpec {
            cluster: cluster.names.cluster.clone(),
            index,
        },
        status: None,
    }
}

//! A PodMonitor of the Prometheus operator, for every pod of the cluster. Its type belongs to another project, so it is plain JSON.

use serde_json::{Value, json};

use super::{metadata, selector};
use crate::validate::ValidatedCluster;

pub(super) fn cluster(cluster: &ValidatedCluster) -> Value {
    let mut labels = cluster.spec.monitoring.labels.clone();
    labels.extend(cluster.names.labels());
    json!({
        "metadata": metadata(cluster, cluster.names.cluster.clone(), labels),
        "spec": {
            "selector": selector([(rocket_api::label::CLUSTER.to_owned(), cluster.names.cluster.clone())].into()),
            // Not the role: a promotion would begin new series of all counters, and what was counted long ago would look new.
            "podTargetLabels": [rocket_api::label::CLUSTER, rocket_api::label::GROUP],
            "podMetricsEndpoints": [{"port": "metrics", "path": "/metrics", "interval": cluster.spec.monitoring.interval}],
        },
    })
}

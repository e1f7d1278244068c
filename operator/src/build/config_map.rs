//! The ConfigMaps that carry the configuration files.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use super::{broker_conf, metadata};
use crate::validate::ValidatedCluster;

/// File name of the name servers' configuration.
pub(super) const NAMESRV_CONF: &str = "namesrv.conf";
/// File name of the brokers' configuration.
pub(super) const BROKER_CONF: &str = "broker.conf";

pub(super) fn name_servers(cluster: &ValidatedCluster) -> ConfigMap {
    ConfigMap {
        metadata: metadata(
            cluster,
            cluster.names.namesrv_config(),
            cluster.names.namesrv_labels(),
        ),
        data: Some(BTreeMap::from([(
            NAMESRV_CONF.to_owned(),
            broker_conf::name_server(),
        )])),
        ..ConfigMap::default()
    }
}

pub(super) fn group(cluster: &ValidatedCluster, index: i32, master: Option<i32>) -> ConfigMap {
    ConfigMap {
        metadata: metadata(
            cluster,
            cluster.names.group_config(index),
            cluster.names.group_labels(index),
        ),
        data: Some(BTreeMap::from([(
            BROKER_CONF.to_owned(),
            broker_conf::broker(cluster, index, master),
        )])),
        ..ConfigMap::default()
    }
}

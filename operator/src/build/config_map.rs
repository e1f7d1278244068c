//! The ConfigMaps that carry the configuration files.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use super::pod::config_hash;
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

/// The file of a group.
pub(super) struct File {
    /// Name of its ConfigMap.
    pub(super) name: String,
    /// All of it.
    text: String,
    /// The part whose change restarts brokers.
    pub(super) restarting: String,
}

impl File {
    /// `unhashed`: see [`Present::unhashed`](super::Present::unhashed).
    pub(super) fn of(
        cluster: &ValidatedCluster,
        index: i32,
        master: Option<i32>,
        unhashed: Option<&String>,
    ) -> Self {
        let text = broker_conf::broker(cluster, index, master);
        let restarting = broker_conf::restarting(&text, cluster.rule);
        let hash = config_hash(&restarting);
        let name = if unhashed == Some(&hash) {
            cluster.names.group_config(index)
        } else {
            cluster.names.group_file(index, &hash)
        };
        Self {
            name,
            text,
            restarting,
        }
    }
}

pub(super) fn group(cluster: &ValidatedCluster, index: i32, file: &File) -> ConfigMap {
    ConfigMap {
        metadata: metadata(
            cluster,
            file.name.clone(),
            cluster.names.group_labels(index),
        ),
        data: Some(BTreeMap::from([(
            BROKER_CONF.to_owned(),
            file.text.clone(),
        )])),
        ..ConfigMap::default()
    }
}

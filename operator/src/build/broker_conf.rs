//! The configuration files of broker and name server.

use std::fmt::Write as _;

use rocket_api::{Flush, ReplicationMode};

use crate::names::{PORT_BROKER, PORT_HA, PORT_METRICS, PORT_NAMESRV};
use crate::validate::ValidatedCluster;

/// `namesrv.conf`.
pub(super) fn name_server() -> String {
    lines(&[
        ("listenPort", PORT_NAMESRV.to_string()),
        ("metricsPort", PORT_METRICS.to_string()),
        ("kvConfigPath", "/data/kvConfig.json".to_owned()),
    ])
}

/// `broker.conf` of a group. Every replica reads the same file; who is master stands in it.
pub(super) fn broker(cluster: &ValidatedCluster, index: i32, master: i32) -> String {
    let (names, spec) = (&cluster.names, &cluster.spec);
    let reject = spec.retention.disk_reject_percent;
    let high = spec.retention.disk_high_watermark_percent;
    let flush = match spec.flush {
        Flush::Sync => "SYNC_FLUSH",
        Flush::Async => "ASYNC_FLUSH",
    };
    let replication = match spec.replication.mode {
        ReplicationMode::Sync => "SYNC",
        ReplicationMode::Async => "ASYNC",
    };
    let own = [
        ("brokerClusterName", names.cluster.clone()),
        ("brokerName", names.group(index)),
        (
            "namesrvAddr",
            format!("{}:{PORT_NAMESRV}", names.host(&names.namesrv_replicas())),
        ),
        ("brokerIP1", names.host(&names.group(index))),
        ("listenPort", PORT_BROKER.to_string()),
        ("haListenPort", PORT_HA.to_string()),
        ("metricsPort", PORT_METRICS.to_string()),
        ("flushDiskType", flush.to_owned()),
        ("replicationMode", replication.to_owned()),
        ("minInSyncReplicas", cluster.min_in_sync.to_string()),
        ("fixedMaster", names.pod(index, master)),
        ("fileReservedTime", spec.retention.hours.to_string()),
        ("deleteWhen", spec.retention.delete_at.clone()),
        ("diskMaxUsedSpaceRatio", high.to_string()),
        (
            "diskSpaceCleanForciblyRatio",
            high.max(reject - 5).to_string(),
        ),
        ("diskSpaceWarningLevelRatio", reject.to_string()),
        (
            "autoCreateTopicEnable",
            spec.defaults.auto_create_topics.to_string(),
        ),
        (
            "autoCreateSubscriptionGroup",
            spec.defaults.auto_create_groups.to_string(),
        ),
    ];
    let mut text = lines(&own);
    for (key, value) in &spec.config {
        // A backslash escapes in a properties file, and at the end of a line it would swallow the next one.
        let _ = writeln!(text, "{key}={}", value.replace('\\', "\\\\"));
    }
    text
}

fn lines(pairs: &[(&str, String)]) -> String {
    pairs.iter().fold(String::new(), |mut text, (key, value)| {
        let _ = writeln!(text, "{key}={value}");
        text
    })
}

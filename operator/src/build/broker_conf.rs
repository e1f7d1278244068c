//! The configuration files of broker and name server.

use std::fmt::Write as _;

use rocket_api::{Flush, GroupRule, ReplicationMode};

use super::pod::SECRET_DIR;
use crate::names::{PORT_BROKER, PORT_HA, PORT_METRICS, PORT_NAMESRV};
use crate::secret;
use crate::validate::ValidatedCluster;

/// `namesrv.conf`.
pub(super) fn name_server() -> String {
    lines(&[
        ("listenPort", PORT_NAMESRV.to_string()),
        ("metricsPort", PORT_METRICS.to_string()),
        ("kvConfigPath", "/data/kvConfig.json".to_owned()),
    ])
}

/// `broker.conf` of a group. Every replica reads the same file. Who is master stands in it under the static rule; else where
/// the replicas agree about that.
pub(super) fn broker(cluster: &ValidatedCluster, index: i32, master: Option<i32>) -> String {
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
    let mut text = lines(&[
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
    ]);
    text += &match cluster.rule {
        GroupRule::Static => lines(&[
            ("minInSyncReplicas", cluster.min_in_sync.to_string()),
            ("fixedMaster", names.pod(index, master.unwrap_or_default())),
        ]),
        // How many copies a write needs stands in the record alone.
        GroupRule::Elected => lines(&[
            (
                "coordinator",
                format!("kubernetes:{}/{}", names.namespace, names.group(index)),
            ),
            (
                "replicationSecretFile",
                format!("{SECRET_DIR}/{}", secret::KEY),
            ),
            ("totalReplicas", spec.groups.replicas.to_string()),
        ]),
    };
    text += &lines(&[
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
    ]);
    for (key, value) in &spec.config {
        // A backslash escapes in a properties file, and at the end of a line it would swallow the next one.
        let _ = writeln!(text, "{key}={}", value.replace('\\', "\\\\"));
    }
    text
}

/// The part of a file whose change restarts the broker. How many replicas a group shall have matters before its first election
/// only, and scaling restarts nobody. The modes of a group that elects stand in its record too, and brokers obey that.
pub(super) fn restarting(text: &str, rule: GroupRule) -> String {
    let in_record: &[&str] = match rule {
        GroupRule::Static => &[],
        GroupRule::Elected => &["totalReplicas=", "flushDiskType=", "replicationMode="],
    };
    let kept = text
        .lines()
        .filter(|line| !in_record.iter().any(|key| line.starts_with(key)));
    kept.fold(String::new(), |kept, line| kept + line + "\n")
}

fn lines(pairs: &[(&str, String)]) -> String {
    pairs.iter().fold(String::new(), |mut text, (key, value)| {
        let _ = writeln!(text, "{key}={value}");
        text
    })
}

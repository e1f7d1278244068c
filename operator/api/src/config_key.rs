//! The broker's configuration keys that `spec.config` must not name, each with the field to write instead.

/// A key of `broker.conf` that has a field of its own, or that must follow from the cluster's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnedKey {
    /// The key as `broker.conf` spells it.
    pub key: &'static str,
    /// What a person writes instead.
    pub instead: &'static str,
}

const fn owned(key: &'static str, instead: &'static str) -> OwnedKey {
    OwnedKey { key, instead }
}

/// Keys that the operator writes itself.
pub const OWNED_KEYS: &[OwnedKey] = &[
    owned(
        "autoCreateSubscriptionGroup",
        "set spec.defaults.autoCreateGroups",
    ),
    owned(
        "autoCreateTopicEnable",
        "set spec.defaults.autoCreateTopics",
    ),
    owned("bindAddress", "it is always every address of the pod"),
    owned("brokerClusterName", "it is the name of the RocketCluster"),
    owned(
        "brokerId",
        "it follows the role of a replica, see the RocketBrokerGroup",
    ),
    owned("brokerIP1", "it is the address of the group's Service"),
    owned(
        "brokerName",
        "it is the name of the RocketCluster and the group's index",
    ),
    owned("brokerRole", "set spec.replication.mode"),
    owned("coordinator", "it is the RocketBrokerGroup of the group"),
    owned("deleteWhen", "set spec.retention.deleteAt"),
    owned(
        "diskMaxUsedSpaceRatio",
        "set spec.retention.diskHighWatermarkPercent",
    ),
    owned(
        "diskSpaceWarningLevelRatio",
        "set spec.retention.diskRejectPercent",
    ),
    owned("fileReservedTime", "set spec.retention.hours"),
    owned("fixedMaster", "it is recorded in the RocketBrokerGroup"),
    owned("flushDiskType", "set spec.flush"),
    owned("haListenPort", "it is always 10912 inside the pod"),
    owned("inSyncReplicas", "set spec.replication.minInSync"),
    owned("listenPort", "it is always 10911 inside the pod"),
    owned("metricsPort", "it is always 5557 inside the pod"),
    owned("minInSyncReplicas", "set spec.replication.minInSync"),
    owned(
        "namesrvAddr",
        "it is the address of the cluster's own name servers",
    ),
    owned("replicaName", "it is the name of the pod"),
    owned("replicationAddress", "it is the address of the pod"),
    owned("replicationMode", "set spec.replication.mode"),
    owned(
        "replicationSecretFile",
        "it is the Secret that the operator makes",
    ),
    owned(
        "storePathCommitLog",
        "data is always below /data, on the volume of spec.groups.storage",
    ),
    owned(
        "storePathRootDir",
        "data is always below /data, on the volume of spec.groups.storage",
    ),
    owned("totalReplicas", "set spec.groups.replicas"),
];

/// Keys of Apache's broker that would be written out of habit and that do nothing here.
pub(crate) const RENAMED: &[(&str, &str)] = &[
    (
        "enableControllerMode",
        "the operator is the controller, leave the key out",
    ),
    (
        "enableDLegerCommitLog",
        "there is no DLedger, set spec.groups.replicas and spec.replication",
    ),
];

/// Keys that ask for what this broker does not have yet. It does not start with any value but `false`: whoever asks for
/// protection must not get an open broker.
pub(crate) const UNSERVED: &[(&str, &str)] = &[
    ("aclEnable", "access control"),
    ("authenticationEnabled", "access control"),
    ("authorizationEnabled", "access control"),
    ("tlsEnable", "TLS"),
    ("useTLS", "TLS"),
];

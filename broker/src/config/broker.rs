//! The broker's keys.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::error::Problem;
use super::group::CoordinatorAt;
use super::ignored;
use super::table::{Rule, settings};
use super::value::{
    BrokerRole, ByteSize, DelayLevels, FlushDiskType, HostPort, Hours, Name, Replication,
    ReplicationMode, SegmentPreallocate,
};

const ANY: Rule = Rule::Any;
const MIB: u64 = 1024 * 1024;

const fn between(low: u64, high: u64) -> Rule {
    Rule::Between(low, high)
}

const fn at_least(low: u64) -> Rule {
    Rule::Between(low, u64::MAX)
}

settings! {
    /// A broker's checked configuration. Every field is a row of the key table.
    pub struct BrokerConfig ignoring ignored::BROKER, example "broker.conf",
    "Name and addresses" {
        /// Name of the cluster that the broker belongs to.
        broker_cluster_name: Name, "brokerClusterName" = "DefaultCluster", ANY, "", Restart, RocketMQ;
        /// Name of the broker group; all replicas of a group share it. Without it: the host's name.
        broker_name: Option<Name>, "brokerName" = "", ANY, "", Restart, RocketMQ;
        /// Id under which the broker registers: 0 is the master. With a coordinator the master registers as 0 and no other replica does; another number is refused.
        broker_id: u64, "brokerId" = "0", ANY, "", Restart, RocketMQ;
        /// Host that clients are told: an address or a DNS name. Without it: the address of the default route, else 127.0.0.1.
        broker_ip1: Option<String>, "brokerIP1" = "", ANY, "", Restart, RocketMQ;
        /// Host that slaves are told. Without it: brokerIP1.
        broker_ip2: Option<String>, "brokerIP2" = "", ANY, "", Restart, RocketMQ;
        /// Address to listen on.
        bind_address: IpAddr, "bindAddress" = "0.0.0.0", ANY, "", Restart, RocketMQ;
        /// Port for clients; 0 takes a free one.
        listen_port: u16, "listenPort" = "10911", between(0, 65535), "", Restart, RocketMQ;
        /// Port for replicas, with a coordinator; name servers are told it. 0 means listenPort + 1.
        ha_listen_port: u16, "haListenPort" = "0", between(0, 65535), "", Restart, RocketMQ;
        /// Port of /metrics, /livez and /readyz; 0 takes a free one.
        metrics_port: u16, "metricsPort" = "5557", between(0, 65535), "", Restart, Ours;
        /// Name servers. A DNS name stands for all of its addresses, and all of them are told.
        namesrv_addr: Vec<HostPort>, "namesrvAddr" = "", ANY, "", Restart, RocketMQ;
        /// How often the broker registers.
        register_name_server_period: Duration, "registerNameServerPeriod" = "30000", between(1_000, 60_000), "ms", Restart, RocketMQ;
        /// How long one registration may take.
        register_broker_timeout: Duration, "registerBrokerTimeoutMills" = "24000", between(100, 60_000), "ms", Restart, RocketMQ;
        /// After which silence a name server forgets the broker.
        broker_not_active_timeout: Duration, "brokerNotActiveTimeoutMillis" = "120000", between(10_000, 3_600_000), "ms", Restart, RocketMQ;
        /// What clients may do with the broker as a whole: 2 write, 4 read, 6 both.
        broker_permission: u32, "brokerPermission" = "6", Rule::OneOf(&["2", "4", "6"]), "", Hot, RocketMQ;
        /// Region that is written on every message (property MSG_REGION).
        region_id: Name, "regionId" = "DefaultRegion", ANY, "", Restart, RocketMQ;
        /// Tells producers to record traces (response field TRACE_ON).
        trace_on: bool, "traceOn" = "true", ANY, "", Hot, RocketMQ;
    }
    "Promises" {
        /// Role. SYNC_MASTER and ASYNC_MASTER stand for replicationMode SYNC and ASYNC; SLAVE never takes writes. With coordinator = static:… SLAVE is every replica but the fixed master; with another coordinator any replica may be master, and SLAVE is refused. The group's state says then what holds (replicationMode).
        broker_role: BrokerRole, "brokerRole" = "ASYNC_MASTER", ANY, "", Restart, RocketMQ;
        /// Whether a send is answered after its flush (SYNC_FLUSH) or after its append (ASYNC_FLUSH). With a coordinator the group's state says it for all replicas, and they take a change up while they run: with a file the replica that was started last asks for what its configuration says, with a fixed master that one, and for less than the group has only with weakenGroup; with Kubernetes the operator for what the RocketCluster says.
        flush_disk_type: FlushDiskType, "flushDiskType" = "ASYNC_FLUSH", ANY, "", Restart, RocketMQ;
        /// Whether a send is answered after the whole in-sync set has it (SYNC). Without it: as brokerRole says. With a coordinator as flushDiskType.
        replication_mode: Option<ReplicationMode>, "replicationMode" = "", ANY, "", Restart, Ours;
        /// Smallest in-sync set, the master included, with which writes are taken when replication is SYNC. With a coordinator as flushDiskType.
        min_in_sync_replicas: u32, "minInSyncReplicas" = "1", between(1, 7), "", Restart, RocketMQ;
        /// Replicas, the master included, that must have a message before its answer. Here the whole in-sync set must; a number above minInSyncReplicas raises that.
        in_sync_replicas: u32, "inSyncReplicas" = "1", between(1, 7), "", Restart, RocketMQ;
        /// Name of the replica that is master. A broker whose --replica is another one is a standby: it serves nothing and does not register; with coordinator = static:… it is a slave that copies everything.
        fixed_master: Option<Name>, "fixedMaster" = "", ANY, "", Restart, Ours;
        /// Name of this replica in its group; --replica sets it.
        replica_name: Option<Name>, "replicaName" = "", ANY, "", Restart, Ours;
        /// How long an answer may wait for the flush before it says FLUSH_DISK_TIMEOUT.
        sync_flush_timeout: Duration, "syncFlushTimeout" = "5000", between(10, 600_000), "ms", Restart, RocketMQ;
        /// How long an answer may wait for slaves before it says FLUSH_SLAVE_TIMEOUT.
        slave_timeout: Duration, "slaveTimeout" = "3000", between(10, 600_000), "ms", Restart, RocketMQ;
    }
    "Replication group" {
        /// Where the replicas of a group agree who is master: file:/FOLDER/state.json for processes on one machine, which elect by themselves; static:HOST:PORT for a fixed master that takes replication links there (fixedMaster or brokerRole says which replica that is), which no slave ever replaces; kubernetes:NAMESPACE/NAME for a RocketBrokerGroup, whose master the operator elects. Without it this broker is the only copy.
        coordinator: Option<CoordinatorAt>, "coordinator" = "", ANY, "", Restart, Ours;
        /// File with the secret that all replicas of the group share: 32 to 4096 bytes; white space at its beginning and end does not matter.
        replication_secret_file: Option<PathBuf>, "replicationSecretFile" = "", ANY, "", Restart, Ours;
        /// Where other replicas reach this one. Without it: brokerIP2, else brokerIP1, and haListenPort.
        replication_address: Option<HostPort>, "replicationAddress" = "", ANY, "", Restart, Ours;
        /// Replicas that the group is to have. With a file as coordinator its very first election waits for them, 30 s at most; a fixed master waits for them, before it serves for the very first time, however long it takes, and has to be told of 2 at least.
        total_replicas: u32, "totalReplicas" = "1", between(1, 32), "", Restart, RocketMQ;
        /// Whether messages that this broker holds from before it had a coordinator may become the beginning of the group's log. On one replica only; the others must be empty.
        adopt_messages: bool, "adoptMessages" = "false", ANY, "", Restart, Ours;
        /// Whether this replica, at its start, may ask for less than the group has: flushDiskType, replicationMode (or brokerRole) and the in-sync replicas that its configuration asks for, also where those are the defaults. Without it each of them stays where it is stronger, and a warning says so. No effect with Kubernetes, whose operator asks, and on slaves of a fixed master.
        weaken_group: bool, "weakenGroup" = "false", ANY, "", Restart, Ours;
        /// Within which time after a failed write or flush of its disk a second one halts a replica: it starts no more, and leaves with status 4, until its disk is replaced or it is started with 0, which halts none and forgets the failures.
        disk_fail_window: Duration, "diskFailWindow" = "600000", between(0, 86_400_000), "ms", Restart, Ours;
        /// Memory-backed folder (tmpfs) for the proof that a process that was killed lost nothing of its page cache: with flush ASYNC a replica counts as complete at its next start only by it, or after an orderly stop. Without it, or where it is on a disk: no proof.
        residence_proof_path: Option<PathBuf>, "residenceProofPath" = "/dev/shm", ANY, "", Restart, Ours;
    }
    "Store" {
        /// Folder of all data; --data sets it.
        store_path_root_dir: PathBuf, "storePathRootDir" = "rocket-data", ANY, "", Restart, RocketMQ;
        /// Whether a folder of Apache's broker is taken over although transactions, timer messages or messages given by POP are not finished in it: these are never delivered then. Without it such a start ends and says what there is.
        give_up_unfinished_messages: bool, "giveUpUnfinishedMessages" = "false", ANY, "", Restart, Ours;
        /// Size of a commit log file.
        mapped_file_size_commit_log: ByteSize, "mappedFileSizeCommitLog" = "1073741824", between(MIB, 2_147_483_647), "bytes", Restart, RocketMQ;
        /// Size of a consume queue file; rounded down to whole entries of 20 bytes.
        mapped_file_size_consume_queue: ByteSize, "mappedFileSizeConsumeQueue" = "6000000", between(2_000, 2_147_483_647), "bytes", Restart, RocketMQ;
        /// How a commit log file gets its blocks before it is needed: reserve asks the file system for them, zeros writes them, auto is zeros with SYNC_FLUSH and reserve with ASYNC_FLUSH.
        segment_preallocate: SegmentPreallocate, "segmentPreallocate" = "auto", ANY, "", Restart, Ours;
        /// Bytes a second with which zeros are written to the next commit log file, unless it would not be done before it is needed.
        segment_prepare_bytes_per_second: ByteSize, "segmentPrepareBytesPerSecond" = "268435456", between(MIB, 1 << 40), "bytes/s", Restart, Ours;
        /// With ASYNC_FLUSH: how often the log is flushed. A power cut may cost what was acknowledged within this time and one flush before it; the next start says since when.
        flush_interval_commit_log: Duration, "flushIntervalCommitLog" = "200", between(1, 60_000), "ms", Restart, RocketMQ;
        /// Messages that may wait for the appender; above it a send is answered SYSTEM_BUSY.
        append_queue_max: usize, "sendThreadPoolQueueCapacity" = "10000", between(16, 1_000_000), "", Restart, RocketMQ;
        /// Largest message body.
        max_message_size: ByteSize, "maxMessageSize" = "4194304", between(1_024, 16 * MIB - 65_536), "bytes", Restart, RocketMQ;
        /// How long a commit log file is kept after its last write.
        file_reserved_time: Duration, "fileReservedTime" = "72", at_least(1), "h", Restart, RocketMQ;
        /// Hours of the day (UTC) in which files past fileReservedTime are deleted.
        delete_when: Hours, "deleteWhen" = "04", ANY, "", Restart, RocketMQ;
        /// How much longer than fileReservedTime a commit log file may be kept, and a log above commitLogBytesMax stay so, because a consumer group has not consumed it; 0 = not at all.
        unconsumed_extra_time: Duration, "unconsumedExtraTime" = "72", between(0, 87_600), "h", Restart, Ours;
        /// Size of the commit log above which its oldest files are deleted at any hour and age; 0 = any size.
        commit_log_bytes_max: ByteSize, "commitLogBytesMax" = "0", ANY, "bytes", Restart, Ours;
        /// How often retention and disk space are looked at.
        clean_resource_interval: Duration, "cleanResourceInterval" = "10000", between(100, 3_600_000), "ms", Restart, RocketMQ;
        /// Disk usage above which files past fileReservedTime are deleted at any hour.
        disk_max_used_space_ratio: u32, "diskMaxUsedSpaceRatio" = "75", between(10, 95), "%", Restart, RocketMQ;
        /// Disk usage above which the oldest files are deleted whatever their age and whoever has not consumed them.
        disk_space_clean_forcibly_ratio: u32, "diskSpaceCleanForciblyRatio" = "85", between(30, 97), "%", Restart, RocketMQ;
        /// Disk usage above which writes are refused.
        disk_space_warning_level_ratio: u32, "diskSpaceWarningLevelRatio" = "90", between(35, 99), "%", Restart, RocketMQ;
        /// Whether files may be deleted before fileReservedTime, and before they are consumed, when the disk is short. When false writes are refused instead.
        clean_file_forcibly_enable: bool, "cleanFileForciblyEnable" = "true", ANY, "", Restart, RocketMQ;
        /// Room on the disk that no commit log file takes: kept for topics, groups, positions, queues and index.
        metadata_reserve_bytes: ByteSize, "metadataReserveBytes" = "134217728", ANY, "bytes", Restart, Ours;
        /// Bytes of the commit log that are read again and compared with their checksums in a second; 0 = none.
        scrub_bytes_per_second: ByteSize, "scrubBytesPerSecond" = "8388608", ANY, "bytes", Restart, Ours;
        /// Whether messages are indexed by key.
        message_index_enable: bool, "messageIndexEnable" = "true", ANY, "", Restart, RocketMQ;
        /// Hash slots of an index file.
        max_hash_slot_num: u32, "maxHashSlotNum" = "5000000", between(16, 100_000_000), "", Restart, RocketMQ;
        /// Entries of an index file.
        max_index_num: u32, "maxIndexNum" = "20000000", between(16, 400_000_000), "", Restart, RocketMQ;
        /// Milliseconds since 1970 before which sends are refused; 0 = never.
        start_accept_send_request_timestamp: u64, "startAcceptSendRequestTimeStamp" = "0", ANY, "ms", Restart, RocketMQ;
    }
    "Topics and groups" {
        /// Whether a send to an unknown topic creates it. Turn it off in production.
        auto_create_topic_enable: bool, "autoCreateTopicEnable" = "true", ANY, "", Hot, RocketMQ;
        /// Whether an unknown consumer group is created on first use.
        auto_create_subscription_group: bool, "autoCreateSubscriptionGroup" = "true", ANY, "", Hot, RocketMQ;
        /// Topics, retry and dead-letter topics left aside, above which a send creates no more; administrators may.
        auto_create_topics_max: usize, "autoCreateTopicsMax" = "10000", ANY, "", Hot, Ours;
        /// Consumer groups above which first use creates no more; administrators may. A send makes no retry or dead-letter topic without its group.
        auto_create_groups_max: usize, "autoCreateGroupsMax" = "10000", ANY, "", Hot, Ours;
        /// Queues of a topic that is created by a send, at most.
        default_topic_queue_nums: u32, "defaultTopicQueueNums" = "8", between(1, 1_024), "", Hot, RocketMQ;
        /// Whether a topic named as the cluster exists.
        cluster_topic_enable: bool, "clusterTopicEnable" = "true", ANY, "", Restart, RocketMQ;
        /// Whether a topic named as the broker exists.
        broker_topic_enable: bool, "brokerTopicEnable" = "true", ANY, "", Restart, RocketMQ;
        /// Whether the trace topic exists on this broker.
        trace_topic_enable: bool, "traceTopicEnable" = "false", ANY, "", Restart, RocketMQ;
        /// Name of the trace topic.
        msg_trace_topic_name: Name, "msgTraceTopicName" = "RMQ_SYS_TRACE_TOPIC", ANY, "", Restart, RocketMQ;
        /// Delays of levels 1, 2, …
        message_delay_level: DelayLevels, "messageDelayLevel" = "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h", ANY, "", Restart, RocketMQ;
        /// How often positions of consumers are written to disk.
        flush_consumer_offset_interval: Duration, "flushConsumerOffsetInterval" = "5000", between(100, 600_000), "ms", Restart, RocketMQ;
        /// Silence after which a producer or consumer is forgotten.
        channel_expired_timeout: Duration, "channelExpiredTimeout" = "120000", between(1_000, 3_600_000), "ms", Restart, RocketMQ;
        /// Whether members of a group are told when another one comes or goes.
        notify_consumer_ids_changed_enable: bool, "notifyConsumerIdsChangedEnable" = "true", ANY, "", Hot, RocketMQ;
        /// Whether transactional sends are refused.
        reject_transaction_message: bool, "rejectTransactionMessage" = "false", ANY, "", Hot, RocketMQ;
    }
    "Reading" {
        /// Whether a pull that finds nothing is held until a message comes.
        long_polling_enable: bool, "longPollingEnable" = "true", ANY, "", Hot, RocketMQ;
        /// How long such a pull is held when longPollingEnable is false.
        short_polling_time: Duration, "shortPollingTimeMills" = "1000", between(1, 60_000), "ms", Hot, RocketMQ;
        /// Bytes of one pull when the messages are likely in memory.
        max_transfer_bytes_on_message_in_memory: ByteSize, "maxTransferBytesOnMessageInMemory" = "262144", between(1_024, 8 * MIB), "bytes", Hot, RocketMQ;
        /// Messages of one pull when they are likely in memory.
        max_transfer_count_on_message_in_memory: u32, "maxTransferCountOnMessageInMemory" = "32", between(1, 4_096), "", Hot, RocketMQ;
        /// Bytes of one pull when the messages are likely on disk only.
        max_transfer_bytes_on_message_in_disk: ByteSize, "maxTransferBytesOnMessageInDisk" = "65536", between(1_024, 8 * MIB), "bytes", Hot, RocketMQ;
        /// Messages of one pull when they are likely on disk only.
        max_transfer_count_on_message_in_disk: u32, "maxTransferCountOnMessageInDisk" = "8", between(1, 4_096), "", Hot, RocketMQ;
        /// Share of the memory (of the cgroup's limit where there is one, else of the machine's) within which the newest part of the log is taken to be in memory.
        access_message_in_memory_max_ratio: u32, "accessMessageInMemoryMaxRatio" = "40", between(1, 90), "%", Restart, RocketMQ;
        /// Page cache that consumers who are far behind may take, all together.
        catch_up_bytes: ByteSize, "catchUpBytes" = "67108864", at_least(MIB), "bytes", Restart, Ours;
        /// Most bytes a second that readers that are far behind fetch, all together, while messages are sent; less where senders wait for the disk because of them. While nobody sends the disk alone is the bound.
        catch_up_bytes_per_second: ByteSize, "catchUpBytesPerSecond" = "167772160", between(16 * MIB, 1 << 40), "bytes/s", Restart, Ours;
        /// Messages that a query by key answers at most.
        max_msgs_num_batch: u32, "maxMsgsNumBatch" = "64", between(1, 4_096), "", Hot, RocketMQ;
        /// Pulls that may be held at a time in all.
        max_pop_polling_size: u32, "maxPopPollingSize" = "100000", between(1, 10_000_000), "", Restart, RocketMQ;
    }
    "Connections" {
        /// Silence in both directions after which a connection is closed.
        server_channel_max_idle_time: Duration, "serverChannelMaxIdleTimeSeconds" = "120", between(1, 86_400), "s", Restart, RocketMQ;
        /// Connections at a time; above it new ones are closed.
        connections_max: usize, "connectionsMax" = "20000", between(1, 1_000_000), "", Restart, Ours;
        /// How long a frame that has begun may take to end.
        frame_timeout: Duration, "frameTimeoutMillis" = "30000", between(100, 600_000), "ms", Restart, Ours;
        /// Bytes that may wait to be written to one connection; from a quarter of them on no more requests are read from it, and a peer that lets more pile up is closed.
        outbound_bytes_max: ByteSize, "outboundBytesMax" = "67108864", between(MIB, 1024 * MIB), "bytes", Restart, Ours;
        /// Requests of one connection that may be unanswered; those beyond are answered SYSTEM_BUSY.
        inflight_max: usize, "inflightMax" = "16384", between(1, 1_000_000), "", Restart, Ours;
        /// Pulls of one connection that may wait for messages, counted apart from the requests above; those beyond are answered SYSTEM_BUSY.
        parked_max: usize, "parkedMax" = "65536", between(1, 10_000_000), "", Restart, Ours;
        /// Bytes of unanswered requests of one connection; beyond it nothing more is read from it until some are answered.
        inflight_bytes_max: ByteSize, "inflightBytesMax" = "67108864", between(16 * MIB, 1024 * MIB), "bytes", Restart, Ours;
        /// Bytes of frames beyond 32 KiB that are not whole yet, of all connections together; such a frame is read on when there is room for all of it, and given up after frameTimeoutMillis.
        half_frame_bytes_max: ByteSize, "halfFrameBytesMax" = "268435456", between(16 * MIB, 65_536 * MIB), "bytes", Restart, Ours;
    }
}

impl BrokerConfig {
    /// The group's name: as configured, else the host's name, else `DEFAULT_BROKER` as in RocketMQ.
    pub fn name(&self) -> String {
        self.broker_name
            .as_ref()
            .map_or_else(host_name, |name| name.as_str().to_owned())
    }

    /// What an acknowledgement promises about replicas: replicationMode if given, else as brokerRole says.
    pub fn replication(&self) -> Replication {
        let by_role = match self.broker_role {
            BrokerRole::SyncMaster => ReplicationMode::Sync,
            BrokerRole::AsyncMaster | BrokerRole::Slave => ReplicationMode::Async,
        };
        Replication {
            mode: self.replication_mode.unwrap_or(by_role),
            in_sync_min: self.min_in_sync_replicas.max(self.in_sync_replicas),
        }
    }

    /// Whether this replica is one that serves nothing: a SLAVE, or not the fixed master of its group.
    pub fn is_standby(&self) -> bool {
        self.broker_role == BrokerRole::Slave
            || self
                .fixed_master
                .as_ref()
                .is_some_and(|master| self.replica_name.as_ref() != Some(master))
    }

    /// Whether a broker's clients may write / read, by brokerPermission.
    pub fn is_writeable(&self) -> bool {
        self.broker_permission & 2 != 0
    }

    /// See [`Self::is_writeable`].
    pub fn is_readable(&self) -> bool {
        self.broker_permission & 4 != 0
    }

    /// The port that slaves are told.
    pub fn ha_port(&self, listen_port: u16) -> u16 {
        if self.ha_listen_port == 0 {
            listen_port.wrapping_add(1)
        } else {
            self.ha_listen_port
        }
    }

    fn find_contradictions(&self, given: &dyn Fn(&str) -> bool) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut conflict = |why: String| problems.push(Problem::Conflict { why });
        if given("brokerRole") && self.replication_mode.is_some() {
            let agreed = match (self.broker_role, self.replication_mode) {
                (BrokerRole::SyncMaster, mode) => mode == Some(ReplicationMode::Sync),
                (BrokerRole::AsyncMaster, mode) => mode == Some(ReplicationMode::Async),
                (BrokerRole::Slave, _) => true,
            };
            if !agreed {
                conflict("brokerRole and replicationMode contradict each other: SYNC_MASTER means SYNC, ASYNC_MASTER means ASYNC; leave one of them out".to_owned());
            }
        }
        let (clean, force, full) = (
            self.disk_max_used_space_ratio,
            self.disk_space_clean_forcibly_ratio,
            self.disk_space_warning_level_ratio,
        );
        if !(clean <= force && force < full) {
            conflict(format!(
                "diskMaxUsedSpaceRatio = {clean}, diskSpaceCleanForciblyRatio = {force} and diskSpaceWarningLevelRatio = {full} must rise in this order"
            ));
        }
        if self.mapped_file_size_commit_log.0 < self.max_message_size.0 + 131_072 {
            conflict(format!(
                "mappedFileSizeCommitLog = {} is too small for maxMessageSize = {} and 131072 bytes of record head",
                self.mapped_file_size_commit_log.0, self.max_message_size.0
            ));
        }
        let (max, file) = (
            self.commit_log_bytes_max.0,
            self.mapped_file_size_commit_log.0,
        );
        if max > 0 && max < file.saturating_mul(2) {
            conflict(format!(
                "commitLogBytesMax = {max} is less than two files of mappedFileSizeCommitLog = {file}: the one that is written and the next one"
            ));
        }
        if self.broker_role == BrokerRole::Slave && self.broker_id == 0 && given("brokerId") {
            conflict(
                "brokerRole = SLAVE cannot have brokerId = 0: that is the master's".to_owned(),
            );
        }
        let mut seen = HashSet::new();
        if let Some(twice) = self
            .namesrv_addr
            .iter()
            .find(|address| !seen.insert(*address))
        {
            conflict(format!("namesrvAddr names {twice} twice"));
        }
        self.find_group_contradictions(given, &mut problems);
        problems
    }
}

fn host_name() -> String {
    let node = rustix::system::uname();
    node.nodename()
        .to_str()
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or("DEFAULT_BROKER")
        .to_owned()
}

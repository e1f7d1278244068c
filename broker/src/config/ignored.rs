//! RocketMQ's keys that are accepted and do nothing here, each with the reason. A warning at start names the ones that were given;
//! a value that asks for what this broker would not do ends the start.

use std::path::Path;

/// A key without effect.
#[derive(Debug, Clone, Copy)]
pub struct Ignored {
    /// As in `broker.conf`.
    pub name: &'static str,
    /// Why it does nothing.
    pub why: &'static str,
    /// The values that promise nothing that is not so.
    pub takes: Takes,
}

/// Which values of a key without effect are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// All.
    Any,
    /// `false`.
    False,
    /// The path of this name below storePathRootDir.
    BelowRoot(&'static str),
}

impl Ignored {
    /// Why a value is not accepted. `root`: storePathRootDir.
    ///
    /// # Errors
    /// What is accepted.
    pub fn check(&self, value: &str, root: &str) -> Result<(), String> {
        let value = value.trim();
        match self.takes {
            Takes::Any => Ok(()),
            Takes::False if value.eq_ignore_ascii_case("false") => Ok(()),
            Takes::False => Err(format!("must be false: {}", self.why)),
            Takes::BelowRoot(name) => {
                let own = Path::new(root).join(name);
                if Path::new(value) == own {
                    return Ok(());
                }
                Err(format!("must be {}: {}", own.display(), self.why))
            }
        }
    }
}

const fn list<const N: usize>(names: [&'static str; N], why: &'static str) -> [Ignored; N] {
    taking(names, why, Takes::Any)
}

const fn taking<const N: usize>(
    names: [&'static str; N],
    why: &'static str,
    takes: Takes,
) -> [Ignored; N] {
    let mut keys = [Ignored {
        name: "",
        why,
        takes,
    }; N];
    let mut index = 0;
    while index < N {
        #[expect(clippy::indexing_slicing, reason = "index < N, at compile time")]
        {
            keys[index].name = names[index];
        }
        index += 1;
    }
    keys
}

const fn total(lists: &[&[Ignored]]) -> usize {
    let (mut len, mut rest) = (0, lists);
    while let Some((first, others)) = rest.split_first() {
        len += first.len();
        rest = others;
    }
    len
}

const fn join<const N: usize>(lists: &[&[Ignored]]) -> [Ignored; N] {
    let mut keys = [Ignored {
        name: "",
        why: "",
        takes: Takes::Any,
    }; N];
    let (mut index, mut rest) = (0, lists);
    while let Some((first, others)) = rest.split_first() {
        let mut first = *first;
        while let Some((key, behind)) = first.split_first() {
            #[expect(clippy::indexing_slicing, reason = "N is the total, at compile time")]
            {
                keys[index] = *key;
            }
            index += 1;
            first = behind;
        }
        rest = others;
    }
    keys
}

const POOLS: [Ignored; 30] = list(
    [
        "sendMessageThreadPoolNums",
        "putMessageFutureThreadPoolNums",
        "pullMessageThreadPoolNums",
        "litePullMessageThreadPoolNums",
        "ackMessageThreadPoolNums",
        "processReplyMessageThreadPoolNums",
        "queryMessageThreadPoolNums",
        "adminBrokerThreadPoolNums",
        "clientManageThreadPoolNums",
        "consumerManageThreadPoolNums",
        "loadBalanceProcessorThreadPoolNums",
        "heartbeatThreadPoolNums",
        "recoverThreadPoolNums",
        "endTransactionThreadPoolNums",
        "pullThreadPoolQueueCapacity",
        "litePullThreadPoolQueueCapacity",
        "ackThreadPoolQueueCapacity",
        "replyThreadPoolQueueCapacity",
        "queryThreadPoolQueueCapacity",
        "clientManagerThreadPoolQueueCapacity",
        "consumerManagerThreadPoolQueueCapacity",
        "heartbeatThreadPoolQueueCapacity",
        "endTransactionPoolQueueCapacity",
        "serverWorkerThreads",
        "serverCallbackExecutorThreads",
        "serverSelectorThreads",
        "serverOnewaySemaphoreValue",
        "serverAsyncSemaphoreValue",
        "useEpollNativeSelector",
        "serverPooledByteBufAllocatorEnable",
    ],
    "there are no thread pools: requests are answered where they are read",
);

const QUEUE_TIMES: [Ignored; 9] = list(
    [
        "waitTimeMillsInSendQueue",
        "waitTimeMillsInPullQueue",
        "waitTimeMillsInLitePullQueue",
        "waitTimeMillsInHeartbeatQueue",
        "waitTimeMillsInTransactionQueue",
        "waitTimeMillsInAckQueue",
        "waitTimeMillsInAdminBrokerQueue",
        "brokerFastFailureEnable",
        "osPageCacheBusyTimeOutMills",
    ],
    "requests do not wait in queues of their own; the append queue is bounded and answers SYSTEM_BUSY when full",
);

const PLACES: &str = "all data lies below storePathRootDir";
const PATHS: [Ignored; 3] = [
    below_root("storePathCommitLog", "commitlog"),
    below_root("storePathConsumeQueue", "consumequeue"),
    below_root("storePathIndex", "index"),
];

const fn below_root(name: &'static str, folder: &'static str) -> Ignored {
    Ignored {
        name,
        why: PLACES,
        takes: Takes::BelowRoot(folder),
    }
}

const WRITING: [Ignored; 21] = list(
    [
        "storeCheckpoint",
        "abortFile",
        "commitIntervalCommitLog",
        "commitCommitLogLeastPages",
        "commitCommitLogThoroughInterval",
        "flushCommitLogTimed",
        "flushCommitLogLeastPages",
        "flushCommitLogThoroughInterval",
        "flushIntervalConsumeQueue",
        "flushConsumeQueueLeastPages",
        "flushConsumeQueueThoroughInterval",
        "flushLeastPagesWhenWarmMapedFile",
        "warmMapedFileEnable",
        "useReentrantLockWhenPutMessage",
        "transientStorePoolEnable",
        "transientStorePoolSize",
        "fastFailIfNoBufferInStorePool",
        "checkCRCOnRecover",
        "messageIndexSafe",
        "transferMsgByHeap",
        "enableScheduleMessageStats",
    ],
    "this store's writing is shaped otherwise: one appender writes whole batches below storePathRootDir, flushes overlap, checksums are always checked",
);

const DELETING: [Ignored; 6] = list(
    [
        "deleteFileBatchMax",
        "deleteCommitLogFilesInterval",
        "deleteConsumeQueueFilesInterval",
        "destroyMapedFileIntervalForcibly",
        "redeleteHangedFileInterval",
        "diskSpaceCleanForciblyRatioForHA",
    ],
    "files are unlinked one by one as soon as no reader holds them",
);

const OTHER_HA: [Ignored; 20] = list(
    [
        "haSendHeartbeatInterval",
        "haHousekeepingInterval",
        "haTransferBatchSize",
        "haMasterAddress",
        "haMaxGapNotInSync",
        "haMaxTimeSlaveNotCatchup",
        "haFlowControlEnable",
        "maxHaTransferByteInSecond",
        "haSlaveFallbehindMax",
        "enableControllerMode",
        "controllerAddr",
        "allAckInSyncStateSet",
        "enableAutoInSyncReplicas",
        "enableSlaveActingMaster",
        "enableRemoteEscape",
        "slaveReadEnable",
        "enableDLegerCommitLog",
        "dLegerGroup",
        "dLegerPeers",
        "dLegerSelfId",
    ],
    "replication follows a protocol of its own; mastership is decided by the operator",
);

const ABSENT: [Ignored; 23] = list(
    [
        "storeType",
        "rocketmqHome",
        "fetchNamesrvAddrByAddressServer",
        "enableCalcFilterBitMap",
        "brokerFilterServerNums",
        "filterServerNums",
        "enableConsumeQueueExt",
        "timerWheelEnable",
        "timerPrecisionMs",
        "timerRollWindowSlot",
        "timerSkipUnknownError",
        "popConsumerKVServiceEnable",
        "enablePopBufferMerge",
        "enableCompaction",
        "enableLmq",
        "enableMultiDispatch",
        "enableDetailStat",
        "highSpeedMode",
        "disableConsumeIfConsumerReadSlowly",
        "consumerFallbehindThreshold",
        "transactionOpMsgMaxSize",
        "transactionOpBatchInterval",
        "enableCleanExpiredOffset",
    ],
    "this broker has no such part, or it cannot be turned off",
);

const SMALL: [Ignored; 12] = list(
    [
        "forceRegister",
        "compressedRegister",
        "sendHeartbeatTimeoutMillis",
        "brokerHeartbeatInterval",
        "flushDelayOffsetInterval",
        "metricsExporterType",
        "metricsPromExporterPort",
        "metricsPromExporterHost",
        "serverSocketBacklog",
        "serverSocketSndBufSize",
        "serverSocketRcvBufSize",
        "serverTcpNoDelay",
    ],
    "has a fixed value here (metrics: see metricsPort)",
);

const ACCESS: [Ignored; 3] = taking(
    ["aclEnable", "authenticationEnabled", "authorizationEnabled"],
    "this broker has no access control",
    Takes::False,
);

const TLS: [Ignored; 2] = taking(
    ["useTLS", "tlsEnable"],
    "this broker has no TLS",
    Takes::False,
);

const TRANSACTIONS: [Ignored; 3] = list(
    [
        "transactionTimeOut",
        "transactionCheckMax",
        "transactionCheckInterval",
    ],
    "transactional sends are refused",
);

const TIMER: [Ignored; 1] = list(
    ["timerMaxDelaySec"],
    "arbitrary delivery times are refused; see messageDelayLevel",
);

const SQL: [Ignored; 2] = list(
    ["enablePropertyFilter", "filterSupportRetry"],
    "subscriptions by SQL92 are refused",
);

const POP: [Ignored; 2] = list(["popPollingSize", "reviveQueueNum"], "POP is refused");

const SUBSCRIPTIONS: [Ignored; 1] = list(
    ["subscriptionExpiredTimeout"],
    "a group's subscriptions are those of its last heartbeat, and end with its last member",
);

/// The broker's.
pub const BROKER: &[Ignored] = &JOINED;
const JOINED: [Ignored; total(LISTS)] = join(LISTS);
const LISTS: &[&[Ignored]] = &[
    &POOLS,
    &QUEUE_TIMES,
    &PATHS,
    &WRITING,
    &DELETING,
    &OTHER_HA,
    &ABSENT,
    &SMALL,
    &ACCESS,
    &TLS,
    &TRANSACTIONS,
    &TIMER,
    &SQL,
    &POP,
    &SUBSCRIPTIONS,
];

/// The name server's.
pub const NAMESRV: &[Ignored] = &NAMESRV_LIST;
const NAMESRV_LIST: [Ignored; 20] = list(
    [
        "rocketmqHome",
        "configStorePath",
        "productEnvName",
        "clusterTest",
        "returnOrderTopicConfigToBroker",
        "notifyMinBrokerIdChanged",
        "enableControllerInNamesrv",
        "needWaitForService",
        "waitSecondsForService",
        "configBlackList",
        "clientRequestThreadPoolNums",
        "clientRequestThreadPoolQueueCapacity",
        "defaultThreadPoolNums",
        "defaultThreadPoolQueueCapacity",
        "unRegisterBrokerQueueCapacity",
        "serverWorkerThreads",
        "serverCallbackExecutorThreads",
        "serverSelectorThreads",
        "serverPooledByteBufAllocatorEnable",
        "useEpollNativeSelector",
    ],
    "the name server has no thread pools, no controller and no test environment",
);

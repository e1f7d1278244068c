//! RocketMQ's keys that are accepted and do nothing here, each with the reason. A warning at start names the ones that were given.

/// A key without effect.
#[derive(Debug, Clone, Copy)]
pub struct Ignored {
    /// As in `broker.conf`.
    pub name: &'static str,
    /// Why it does nothing.
    pub why: &'static str,
}

const fn list<const N: usize>(names: [&'static str; N], why: &'static str) -> [Ignored; N] {
    let mut keys = [Ignored { name: "", why }; N];
    let mut index = 0;
    while index < N {
        #[expect(clippy::indexing_slicing, reason = "index < N, at compile time")]
        {
            keys[index] = Ignored {
                name: names[index],
                why,
            };
        }
        index += 1;
    }
    keys
}

const fn join<const A: usize, const B: usize, const N: usize>(
    a: [Ignored; A],
    b: [Ignored; B],
) -> [Ignored; N] {
    assert!(
        A + B == N,
        "the length of a joined list is the sum of its parts"
    );
    let mut keys = [Ignored { name: "", why: "" }; N];
    let mut index = 0;
    while index < N {
        #[expect(
            clippy::indexing_slicing,
            reason = "both indices are below the lengths, at compile time"
        )]
        {
            keys[index] = if index < A { a[index] } else { b[index - A] };
        }
        index += 1;
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

const WRITING: [Ignored; 24] = list(
    [
        "storePathCommitLog",
        "storePathConsumeQueue",
        "storePathIndex",
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

const OTHER_HA: [Ignored; 21] = list(
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
        "totalReplicas",
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

const ABSENT: [Ignored; 26] = list(
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
        "aclEnable",
        "authenticationEnabled",
        "authorizationEnabled",
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

const SMALL: [Ignored; 14] = list(
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
        "useTLS",
        "tlsEnable",
    ],
    "has a fixed value here (metrics: see metricsPort)",
);

/// The broker's.
pub const BROKER: &[Ignored] = &JOINED;
const JOINED: [Ignored; 130] = join::<69, 61, 130>(
    join::<63, 6, 69>(
        join::<39, 24, 63>(join::<30, 9, 39>(POOLS, QUEUE_TIMES), WRITING),
        DELETING,
    ),
    join::<47, 14, 61>(join::<21, 26, 47>(OTHER_HA, ABSENT), SMALL),
);

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

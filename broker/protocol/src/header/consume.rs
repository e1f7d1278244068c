//! Headers of reading messages and offsets: 11, 361, 14, 15, 29, 30, 31, 32, 33, 12, 38.

use crate::byte_str::ByteStr;

headers! {
    /// PULL_MESSAGE and LITE_PULL_MESSAGE. `sys_flag`: 1 commit offset, 2 suspend, 4 subscription, 8 class filter, 16 lite.
    PullMessageHeader {
        consumer_group: ByteStr = "consumerGroup",
        topic: ByteStr = "topic",
        queue_id: i32 = "queueId",
        queue_offset: i64 = "queueOffset",
        max_msg_nums: i32 = "maxMsgNums",
        sys_flag: i32 = "sysFlag",
        commit_offset: i64 = "commitOffset",
        suspend_timeout_millis: i64 = "suspendTimeoutMillis",
        subscription: Option<ByteStr> = "subscription",
        sub_version: i64 = "subVersion",
        expression_type: Option<ByteStr> = "expressionType",
        max_msg_bytes: Option<i32> = "maxMsgBytes",
        request_source: Option<i32> = "requestSource",
        proxy_forward_client_id: Option<ByteStr> = "proxyFrowardClientId",
    }

    /// Response to a pull, in every answer, also those without messages.
    PullMessageResponseHeader {
        suggest_which_broker_id: i64 = "suggestWhichBrokerId",
        next_begin_offset: i64 = "nextBeginOffset",
        min_offset: i64 = "minOffset",
        max_offset: i64 = "maxOffset",
        offset_delta: Option<i64> = "offsetDelta",
        topic_sys_flag: Option<i32> = "topicSysFlag",
        group_sys_flag: Option<i32> = "groupSysFlag",
        forbidden_type: Option<i32> = "forbiddenType",
    }

    /// QUERY_CONSUMER_OFFSET.
    QueryConsumerOffsetHeader {
        consumer_group: ByteStr = "consumerGroup",
        topic: ByteStr = "topic",
        queue_id: i32 = "queueId",
        set_zero_if_not_found: Option<bool> = "setZeroIfNotFound",
    }

    /// UPDATE_CONSUMER_OFFSET.
    UpdateConsumerOffsetHeader {
        consumer_group: ByteStr = "consumerGroup",
        topic: ByteStr = "topic",
        queue_id: i32 = "queueId",
        commit_offset: i64 = "commitOffset",
    }

    /// SEARCH_OFFSET_BY_TIMESTAMP. `boundary_type` is `lower` (also when missing) or `upper`.
    SearchOffsetHeader {
        topic: ByteStr = "topic",
        queue_id: i32 = "queueId",
        timestamp: i64 = "timestamp",
        boundary_type: Option<ByteStr> = "boundaryType",
    }

    /// GET_MAX_OFFSET.
    GetMaxOffsetHeader {
        topic: ByteStr = "topic",
        queue_id: i32 = "queueId",
        committed: bool = "committed" or true,
    }

    /// GET_MIN_OFFSET.
    GetMinOffsetHeader {
        topic: ByteStr = "topic",
        queue_id: i32 = "queueId",
    }

    /// GET_EARLIEST_MSG_STORETIME.
    GetEarliestMsgStoretimeHeader {
        topic: ByteStr = "topic",
        queue_id: i32 = "queueId",
    }

    /// Response with one offset: to 14, 29, 30 and 31.
    OffsetResponseHeader {
        offset: i64 = "offset",
    }

    /// Response to GET_EARLIEST_MSG_STORETIME.
    TimestampResponseHeader {
        timestamp: i64 = "timestamp",
    }

    /// VIEW_MESSAGE_BY_ID.
    ViewMessageHeader {
        topic: Option<ByteStr> = "topic",
        offset: i64 = "offset",
    }

    /// QUERY_MESSAGE. `unique_key_query` says that `key` is a producer's unique key. From 5.4 `index_type` is `K` (keys),
    /// `T` (tags) or `U` (unique key).
    QueryMessageHeader {
        topic: ByteStr = "topic",
        key: ByteStr = "key",
        max_num: i32 = "maxNum",
        begin_timestamp: i64 = "beginTimestamp",
        end_timestamp: i64 = "endTimestamp",
        unique_key_query: bool = "_UNIQUE_KEY_QUERY" or false,
        index_type: Option<ByteStr> = "indexType",
        last_key: Option<ByteStr> = "lastKey",
    }

    /// Response to QUERY_MESSAGE.
    QueryMessageResponseHeader {
        index_last_update_timestamp: i64 = "indexLastUpdateTimestamp",
        index_last_update_phyoffset: i64 = "indexLastUpdatePhyoffset",
    }

    /// GET_CONSUMER_LIST_BY_GROUP, and NOTIFY_CONSUMER_IDS_CHANGED from the broker.
    ConsumerGroupHeader {
        consumer_group: ByteStr = "consumerGroup",
    }
}

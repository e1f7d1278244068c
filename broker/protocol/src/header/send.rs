//! Headers of sending: 310, 10, 320, 324, 325, 36, 37, 39, 326, 370.

use crate::byte_str::ByteStr;

headers! {
    /// SEND_MESSAGE and SEND_REPLY_MESSAGE with their full names; what the code that serves a send works with.
    SendMessageHeader {
        producer_group: ByteStr = "producerGroup",
        topic: ByteStr = "topic",
        default_topic: ByteStr = "defaultTopic",
        default_topic_queue_nums: i32 = "defaultTopicQueueNums",
        queue_id: i32 = "queueId",
        sys_flag: i32 = "sysFlag",
        born_timestamp: i64 = "bornTimestamp",
        flag: i32 = "flag",
        properties: Option<ByteStr> = "properties",
        reconsume_times: Option<i32> = "reconsumeTimes",
        unit_mode: bool = "unitMode" or false,
        batch: bool = "batch" or false,
        max_reconsume_times: Option<i32> = "maxReconsumeTimes",
        broker_name: Option<ByteStr> = "bname",
    }

    /// SEND_MESSAGE_V2, SEND_REPLY_MESSAGE_V2 and SEND_BATCH_MESSAGE: the same with one letter for each name.
    SendMessageV2Header {
        producer_group: ByteStr = "a",
        topic: ByteStr = "b",
        default_topic: ByteStr = "c",
        default_topic_queue_nums: i32 = "d",
        queue_id: i32 = "e",
        sys_flag: i32 = "f",
        born_timestamp: i64 = "g",
        flag: i32 = "h",
        properties: Option<ByteStr> = "i",
        reconsume_times: Option<i32> = "j",
        unit_mode: bool = "k" or false,
        max_reconsume_times: Option<i32> = "l",
        batch: bool = "m" or false,
        broker_name: Option<ByteStr> = "n",
    }

    /// Response to a send. Java reads `MSG_REGION` and `TRACE_ON` from the same fields, which therefore must exist.
    SendMessageResponseHeader {
        msg_id: ByteStr = "msgId",
        queue_id: i32 = "queueId",
        queue_offset: i64 = "queueOffset",
        transaction_id: Option<ByteStr> = "transactionId",
        batch_uniq_id: Option<ByteStr> = "batchUniqId",
        recall_handle: Option<ByteStr> = "recallHandle",
    }

    /// CONSUMER_SEND_MSG_BACK: deliver a message again later.
    ConsumerSendMsgBackHeader {
        offset: i64 = "offset",
        group: ByteStr = "group",
        delay_level: i32 = "delayLevel",
        origin_msg_id: Option<ByteStr> = "originMsgId",
        origin_topic: Option<ByteStr> = "originTopic",
        unit_mode: bool = "unitMode" or false,
        max_reconsume_times: Option<i32> = "maxReconsumeTimes",
    }

    /// END_TRANSACTION: `commit_or_rollback` is 0 unknown, 8 commit, 12 rollback.
    EndTransactionHeader {
        topic: Option<ByteStr> = "topic",
        producer_group: ByteStr = "producerGroup",
        tran_state_table_offset: i64 = "tranStateTableOffset",
        commit_log_offset: i64 = "commitLogOffset",
        commit_or_rollback: i32 = "commitOrRollback",
        from_transaction_check: bool = "fromTransactionCheck" or false,
        msg_id: ByteStr = "msgId",
        transaction_id: Option<ByteStr> = "transactionId",
    }

    /// CHECK_TRANSACTION_STATE, broker to producer.
    CheckTransactionStateHeader {
        topic: Option<ByteStr> = "topic",
        tran_state_table_offset: i64 = "tranStateTableOffset",
        commit_log_offset: i64 = "commitLogOffset",
        msg_id: Option<ByteStr> = "msgId",
        transaction_id: Option<ByteStr> = "transactionId",
        offset_msg_id: Option<ByteStr> = "offsetMsgId",
        broker_name: Option<ByteStr> = "bname",
    }

    /// PUSH_REPLY_MESSAGE_TO_CLIENT, broker to requester.
    ReplyMessageHeader {
        producer_group: ByteStr = "producerGroup",
        topic: ByteStr = "topic",
        default_topic: ByteStr = "defaultTopic",
        default_topic_queue_nums: i32 = "defaultTopicQueueNums",
        queue_id: i32 = "queueId",
        sys_flag: i32 = "sysFlag",
        born_timestamp: i64 = "bornTimestamp",
        flag: i32 = "flag",
        properties: Option<ByteStr> = "properties",
        reconsume_times: Option<i32> = "reconsumeTimes",
        unit_mode: bool = "unitMode" or false,
        born_host: ByteStr = "bornHost",
        store_host: ByteStr = "storeHost",
        store_timestamp: i64 = "storeTimestamp",
    }

    /// RECALL_MESSAGE.
    RecallMessageHeader {
        producer_group: Option<ByteStr> = "producerGroup",
        topic: ByteStr = "topic",
        recall_handle: ByteStr = "recallHandle",
    }

    /// Response to RECALL_MESSAGE.
    RecallMessageResponseHeader {
        msg_id: ByteStr = "msgId",
    }
}

impl From<SendMessageV2Header> for SendMessageHeader {
    fn from(short: SendMessageV2Header) -> Self {
        Self {
            producer_group: short.producer_group,
            topic: short.topic,
            default_topic: short.default_topic,
            default_topic_queue_nums: short.default_topic_queue_nums,
            queue_id: short.queue_id,
            sys_flag: short.sys_flag,
            born_timestamp: short.born_timestamp,
            flag: short.flag,
            properties: short.properties,
            reconsume_times: short.reconsume_times,
            unit_mode: short.unit_mode,
            batch: short.batch,
            max_reconsume_times: short.max_reconsume_times,
            broker_name: short.broker_name,
        }
    }
}

impl From<SendMessageHeader> for SendMessageV2Header {
    fn from(long: SendMessageHeader) -> Self {
        Self {
            producer_group: long.producer_group,
            topic: long.topic,
            default_topic: long.default_topic,
            default_topic_queue_nums: long.default_topic_queue_nums,
            queue_id: long.queue_id,
            sys_flag: long.sys_flag,
            born_timestamp: long.born_timestamp,
            flag: long.flag,
            properties: long.properties,
            reconsume_times: long.reconsume_times,
            unit_mode: long.unit_mode,
            max_reconsume_times: long.max_reconsume_times,
            batch: long.batch,
            broker_name: long.broker_name,
        }
    }
}

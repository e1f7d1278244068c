//! Headers of client membership and of requests from the broker to a client: 34, 35, 220, 221, 307, 309.

use crate::byte_str::ByteStr;

headers! {
    /// Response to HEART_BEAT.
    HeartbeatResponseHeader {
        is_support_heart_beat_v2: Option<bool> = "IS_SUPPORT_HEART_BEAT_V2",
        is_sub_change: Option<bool> = "IS_SUB_CHANGE",
    }

    /// UNREGISTER_CLIENT.
    UnregisterClientHeader {
        client_id: ByteStr = "clientID",
        producer_group: Option<ByteStr> = "producerGroup",
        consumer_group: Option<ByteStr> = "consumerGroup",
    }

    /// INVOKE_BROKER_TO_RESET_OFFSET, and RESET_CONSUMER_CLIENT_OFFSET from the broker.
    ResetOffsetHeader {
        topic: ByteStr = "topic",
        group: ByteStr = "group",
        queue_id: i32 = "queueId" or -1,
        offset: Option<i64> = "offset",
        timestamp: i64 = "timestamp",
        is_force: bool = "isForce",
    }

    /// INVOKE_BROKER_TO_GET_CONSUMER_STATUS, and GET_CONSUMER_STATUS_FROM_CLIENT from the broker.
    GetConsumerStatusHeader {
        topic: ByteStr = "topic",
        group: ByteStr = "group",
        client_addr: Option<ByteStr> = "clientAddr",
    }

    /// GET_CONSUMER_RUNNING_INFO, to the broker and on to the client.
    GetConsumerRunningInfoHeader {
        consumer_group: ByteStr = "consumerGroup",
        client_id: ByteStr = "clientId",
        jstack_enable: bool = "jstackEnable" or false,
    }

    /// CONSUME_MESSAGE_DIRECTLY, to the broker and on to the client.
    ConsumeMessageDirectlyHeader {
        consumer_group: ByteStr = "consumerGroup",
        client_id: Option<ByteStr> = "clientId",
        msg_id: Option<ByteStr> = "msgId",
        broker_name: Option<ByteStr> = "brokerName",
        topic: Option<ByteStr> = "topic",
        topic_sys_flag: Option<i32> = "topicSysFlag",
        group_sys_flag: Option<i32> = "groupSysFlag",
    }
}

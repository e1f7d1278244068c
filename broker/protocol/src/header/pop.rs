//! Headers of POP consumption: 200050 to 200055.

use crate::byte_str::ByteStr;

headers! {
    /// POP_MESSAGE. `init_mode`: 0 from the smallest offset, 1 from the largest.
    PopMessageHeader {
        consumer_group: ByteStr = "consumerGroup",
        topic: ByteStr = "topic",
        queue_id: i32 = "queueId",
        max_msg_nums: i32 = "maxMsgNums",
        invisible_time: i64 = "invisibleTime",
        poll_time: i64 = "pollTime",
        born_time: i64 = "bornTime",
        init_mode: i32 = "initMode",
        exp_type: Option<ByteStr> = "expType",
        exp: Option<ByteStr> = "exp",
        order: bool = "order" or false,
        attempt_id: Option<ByteStr> = "attemptId",
    }

    /// Response to POP_MESSAGE.
    PopMessageResponseHeader {
        pop_time: i64 = "popTime",
        invisible_time: i64 = "invisibleTime",
        revive_qid: i32 = "reviveQid",
        rest_num: i64 = "restNum",
        start_offset_info: Option<ByteStr> = "startOffsetInfo",
        msg_offset_info: Option<ByteStr> = "msgOffsetInfo",
        order_count_info: Option<ByteStr> = "orderCountInfo",
    }

    /// ACK_MESSAGE.
    AckMessageHeader {
        consumer_group: ByteStr = "consumerGroup",
        topic: ByteStr = "topic",
        queue_id: i32 = "queueId",
        extra_info: ByteStr = "extraInfo",
        offset: i64 = "offset",
    }

    /// CHANGE_MESSAGE_INVISIBLETIME.
    ChangeInvisibleTimeHeader {
        consumer_group: ByteStr = "consumerGroup",
        topic: ByteStr = "topic",
        queue_id: i32 = "queueId",
        extra_info: ByteStr = "extraInfo",
        offset: i64 = "offset",
        invisible_time: i64 = "invisibleTime",
    }

    /// Response to CHANGE_MESSAGE_INVISIBLETIME.
    ChangeInvisibleTimeResponseHeader {
        pop_time: i64 = "popTime",
        invisible_time: i64 = "invisibleTime",
        revive_qid: i32 = "reviveQid",
    }

    /// PEEK_MESSAGE.
    PeekMessageHeader {
        topic: ByteStr = "topic",
        queue_id: i32 = "queueId",
        max_msg_nums: i32 = "maxMsgNums",
        consumer_group: ByteStr = "consumerGroup",
    }

    /// NOTIFICATION.
    NotificationHeader {
        consumer_group: ByteStr = "consumerGroup",
        topic: ByteStr = "topic",
        queue_id: i32 = "queueId",
        poll_time: i64 = "pollTime",
        born_time: i64 = "bornTime",
        order: bool = "order" or false,
        attempt_id: Option<ByteStr> = "attemptId",
    }

    /// Response to NOTIFICATION.
    NotificationResponseHeader {
        has_msg: bool = "hasMsg",
        polling_full: bool = "pollingFull" or false,
    }

    /// POLLING_INFO.
    PollingInfoHeader {
        consumer_group: ByteStr = "consumerGroup",
        topic: ByteStr = "topic",
        queue_id: i32 = "queueId",
    }

    /// Response to POLLING_INFO.
    PollingInfoResponseHeader {
        polling_num: i32 = "pollingNum",
    }
}

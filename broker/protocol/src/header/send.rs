//! Headers of sending: 310, 10, 320, 324, 325, 36, 37, 39, 326, 370.

use crate::byte_str::ByteStr;

/// The two headers of a send from one table: `field: type = "name" "letter"`, with `or default` where a missing field has a
/// value.
macro_rules! send_headers {
    ($($field:ident: $type:ty = $name:literal $letter:literal $(or $default:expr)?,)*) => {
        headers! {
            /// SEND_MESSAGE and SEND_REPLY_MESSAGE with their full names; what the code that serves a send works with.
            SendMessageHeader { $($field: $type = $name $(or $default)?,)* }

            /// SEND_MESSAGE_V2, SEND_REPLY_MESSAGE_V2 and SEND_BATCH_MESSAGE: the same with one letter for each name.
            SendMessageV2Header { $($field: $type = $letter $(or $default)?,)* }
        }

        impl From<SendMessageV2Header> for SendMessageHeader {
            fn from(short: SendMessageV2Header) -> Self {
                Self { $($field: short.$field,)* }
            }
        }

        impl From<SendMessageHeader> for SendMessageV2Header {
            fn from(long: SendMessageHeader) -> Self {
                Self { $($field: long.$field,)* }
            }
        }

        /// The fields of a send's header, in the table's order.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(non_camel_case_types, reason = "the fields' own names")]
        pub(crate) enum SendField { $($field,)* }

        impl SendField {
            /// The field that SEND_MESSAGE calls so.
            pub(crate) fn of_name(name: &[u8]) -> Option<Self> {
                $(if name == $name.as_bytes() {
                    return Some(Self::$field);
                })*
                None
            }

            /// The field that SEND_MESSAGE_V2 calls so.
            #[inline]
            pub(crate) fn of_letter(name: &[u8]) -> Option<Self> {
                #[expect(
                    clippy::indexing_slicing,
                    reason = "evaluated by the compiler, which would stop at a letter that is none"
                )]
                const LETTERS: [Option<SendField>; 256] = {
                    let mut letters = [None; 256];
                    $(letters[$letter.as_bytes()[0] as usize] = Some(SendField::$field);)*
                    letters
                };
                match name {
                    [letter] => LETTERS.get(usize::from(*letter)).copied().flatten(),
                    _ => None,
                }
            }
        }

        /// How many they are.
        pub(crate) const SEND_FIELDS: usize = [$($letter,)*].len();
    };
}

send_headers! {
    producer_group: ByteStr = "producerGroup" "a",
    topic: ByteStr = "topic" "b",
    default_topic: ByteStr = "defaultTopic" "c",
    default_topic_queue_nums: i32 = "defaultTopicQueueNums" "d",
    queue_id: i32 = "queueId" "e",
    sys_flag: i32 = "sysFlag" "f",
    born_timestamp: i64 = "bornTimestamp" "g",
    flag: i32 = "flag" "h",
    properties: Option<ByteStr> = "properties" "i",
    reconsume_times: Option<i32> = "reconsumeTimes" "j",
    unit_mode: bool = "unitMode" "k" or false,
    max_reconsume_times: Option<i32> = "maxReconsumeTimes" "l",
    batch: bool = "batch" "m" or false,
    broker_name: Option<ByteStr> = "bname" "n",
}

headers! {
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

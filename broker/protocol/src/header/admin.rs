//! Headers of administration requests to a broker.

use crate::byte_str::ByteStr;

headers! {
    /// UPDATE_AND_CREATE_TOPIC. `attributes` is a change list `+k=v,-k`.
    CreateTopicHeader {
        topic: ByteStr = "topic",
        default_topic: ByteStr = "defaultTopic",
        read_queue_nums: i32 = "readQueueNums",
        write_queue_nums: i32 = "writeQueueNums",
        perm: i32 = "perm",
        topic_filter_type: ByteStr = "topicFilterType",
        topic_sys_flag: Option<i32> = "topicSysFlag",
        order: bool = "order" or false,
        attributes: Option<ByteStr> = "attributes",
        force: bool = "force" or false,
    }

    /// GET_ALL_TOPIC_CONFIG: the fields ask for one page, without them everything is wanted.
    GetAllTopicConfigHeader {
        topic_seq: Option<i32> = "topicSeq",
        data_version: Option<ByteStr> = "dataVersion",
        max_topic_num: Option<i32> = "maxTopicNum",
    }

    /// Response to GET_ALL_TOPIC_CONFIG in pages.
    GetAllTopicConfigResponseHeader {
        total_topic_num: Option<i32> = "totalTopicNum",
    }

    /// GET_ALL_SUBSCRIPTIONGROUP_CONFIG, as above.
    GetAllSubscriptionGroupHeader {
        group_seq: Option<i32> = "groupSeq",
        data_version: Option<ByteStr> = "dataVersion",
        max_group_num: Option<i32> = "maxGroupNum",
    }

    /// Response to GET_ALL_SUBSCRIPTIONGROUP_CONFIG in pages.
    GetAllSubscriptionGroupResponseHeader {
        total_group_num: Option<i32> = "totalGroupNum",
    }

    /// GET_SUBSCRIPTIONGROUP_CONFIG and QUERY_TOPICS_BY_CONSUMER.
    GroupHeader {
        group: ByteStr = "group",
    }

    /// DELETE_SUBSCRIPTIONGROUP.
    DeleteSubscriptionGroupHeader {
        group_name: ByteStr = "groupName",
        clean_offset: bool = "cleanOffset" or false,
    }

    /// Response to GET_BROKER_CONFIG.
    GetBrokerConfigResponseHeader {
        version: ByteStr = "version",
    }

    /// GET_CONSUME_STATS. `topic_list` is a list joined by `;`.
    GetConsumeStatsHeader {
        consumer_group: ByteStr = "consumerGroup",
        topic: Option<ByteStr> = "topic",
        topic_list: Option<ByteStr> = "topicList",
    }

    /// GET_PRODUCER_CONNECTION_LIST. GET_CONSUMER_CONNECTION_LIST is a [`super::ConsumerGroupHeader`].
    ProducerGroupHeader {
        producer_group: ByteStr = "producerGroup",
    }

    /// QUERY_SUBSCRIPTION_BY_CONSUMER and QUERY_CONSUME_TIME_SPAN.
    GroupTopicHeader {
        group: ByteStr = "group",
        topic: Option<ByteStr> = "topic",
    }

    /// CLONE_GROUP_OFFSET.
    CloneGroupOffsetHeader {
        src_group: ByteStr = "srcGroup",
        dest_group: ByteStr = "destGroup",
        topic: Option<ByteStr> = "topic",
        offline: bool = "offline" or false,
    }

    /// VIEW_BROKER_STATS_DATA.
    ViewBrokerStatsHeader {
        stats_name: ByteStr = "statsName",
        stats_key: ByteStr = "statsKey",
    }

    /// GET_BROKER_CONSUME_STATS.
    GetBrokerConsumeStatsHeader {
        is_order: bool = "isOrder" or false,
    }

    /// AUTH_CREATE_USER, AUTH_UPDATE_USER, AUTH_DELETE_USER, AUTH_GET_USER.
    UserHeader {
        username: Option<ByteStr> = "username",
    }

    /// AUTH_LIST_USER.
    ListUsersHeader {
        filter: Option<ByteStr> = "filter",
    }

    /// AUTH_CREATE_ACL, AUTH_UPDATE_ACL, AUTH_DELETE_ACL, AUTH_GET_ACL.
    AclHeader {
        subject: Option<ByteStr> = "subject",
        policy_type: Option<ByteStr> = "policyType",
        resource: Option<ByteStr> = "resource",
    }

    /// AUTH_LIST_ACL.
    ListAclsHeader {
        subject_filter: Option<ByteStr> = "subjectFilter",
        resource_filter: Option<ByteStr> = "resourceFilter",
    }

    /// RESET_MASTER_FLUSH_OFFSET.
    ResetMasterFlushOffsetHeader {
        master_flush_offset: i64 = "masterFlushOffset",
    }
}

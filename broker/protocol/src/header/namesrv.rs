//! Headers of requests to a name server: 100 to 106, 205, 216, 217, 219, 224, 322, 327, 901, 904.

use crate::byte_str::ByteStr;

headers! {
    /// GET_ROUTEINFO_BY_TOPIC.
    GetRouteInfoHeader {
        topic: ByteStr = "topic",
        accept_standard_json_only: bool = "acceptStandardJsonOnly" or false,
    }

    /// REGISTER_BROKER. A `body_crc32` of 0 is not checked.
    RegisterBrokerHeader {
        broker_name: ByteStr = "brokerName",
        broker_addr: ByteStr = "brokerAddr",
        cluster_name: ByteStr = "clusterName",
        ha_server_addr: ByteStr = "haServerAddr",
        broker_id: i64 = "brokerId",
        heartbeat_timeout_millis: Option<i64> = "heartbeatTimeoutMillis",
        enable_acting_master: Option<bool> = "enableActingMaster",
        compressed: bool = "compressed" or false,
        body_crc32: i32 = "bodyCrc32" or 0,
    }

    /// Response to REGISTER_BROKER; filled for slaves.
    RegisterBrokerResponseHeader {
        ha_server_addr: Option<ByteStr> = "haServerAddr",
        master_addr: Option<ByteStr> = "masterAddr",
    }

    /// UNREGISTER_BROKER and QUERY_DATA_VERSION.
    BrokerIdentityHeader {
        broker_name: ByteStr = "brokerName",
        broker_addr: ByteStr = "brokerAddr",
        cluster_name: ByteStr = "clusterName",
        broker_id: i64 = "brokerId",
    }

    /// Response to QUERY_DATA_VERSION.
    QueryDataVersionResponseHeader {
        changed: bool = "changed",
    }

    /// BROKER_HEARTBEAT. The timeout is spelt without "i" here, unlike in REGISTER_BROKER.
    BrokerHeartbeatHeader {
        cluster_name: ByteStr = "clusterName",
        broker_addr: ByteStr = "brokerAddr",
        broker_name: ByteStr = "brokerName",
        broker_id: Option<i64> = "brokerId",
        epoch: Option<i32> = "epoch",
        max_offset: Option<i64> = "maxOffset",
        confirm_offset: Option<i64> = "confirmOffset",
        heartbeat_timeout_mills: Option<i64> = "heartbeatTimeoutMills",
        election_priority: Option<i32> = "electionPriority",
    }

    /// GET_TOPICS_BY_CLUSTER.
    GetTopicsByClusterHeader {
        cluster: ByteStr = "cluster",
    }

    /// DELETE_TOPIC_IN_NAMESRV.
    DeleteTopicFromNamesrvHeader {
        topic: ByteStr = "topic",
        cluster_name: Option<ByteStr> = "clusterName",
    }

    /// Requests that name a topic and nothing else: REGISTER_TOPIC_IN_NAMESRV, DELETE_TOPIC_IN_BROKER, GET_TOPIC_CONFIG,
    /// GET_TOPIC_STATS_INFO, QUERY_TOPIC_CONSUME_BY_WHO.
    TopicHeader {
        topic: ByteStr = "topic",
    }

    /// PUT_KV_CONFIG.
    PutKvConfigHeader {
        namespace: ByteStr = "namespace",
        key: ByteStr = "key",
        value: ByteStr = "value",
    }

    /// GET_KV_CONFIG and DELETE_KV_CONFIG.
    KvKeyHeader {
        namespace: ByteStr = "namespace",
        key: ByteStr = "key",
    }

    /// Response to GET_KV_CONFIG.
    GetKvConfigResponseHeader {
        value: Option<ByteStr> = "value",
    }

    /// GET_KVLIST_BY_NAMESPACE.
    NamespaceHeader {
        namespace: ByteStr = "namespace",
    }

    /// WIPE_WRITE_PERM_OF_BROKER and ADD_WRITE_PERM_OF_BROKER.
    BrokerNameHeader {
        broker_name: ByteStr = "brokerName",
    }

    /// Response to WIPE_WRITE_PERM_OF_BROKER.
    WipeWritePermResponseHeader {
        wipe_topic_count: i32 = "wipeTopicCount",
    }

    /// Response to ADD_WRITE_PERM_OF_BROKER.
    AddWritePermResponseHeader {
        add_topic_count: i32 = "addTopicCount",
    }

    /// GET_BROKER_MEMBER_GROUP.
    GetBrokerMemberGroupHeader {
        cluster_name: ByteStr = "clusterName",
        broker_name: ByteStr = "brokerName",
    }
}

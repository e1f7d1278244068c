//! Headers of requests among brokers: 905, 906, 1008.

use crate::byte_str::ByteStr;

headers! {
    /// EXCHANGE_BROKER_HA_INFO and its response.
    ExchangeHaInfoHeader {
        master_ha_address: Option<ByteStr> = "masterHaAddress",
        master_flush_offset: Option<i64> = "masterFlushOffset",
        master_address: Option<ByteStr> = "masterAddress",
    }

    /// NOTIFY_MIN_BROKER_ID_CHANGE, name server to broker.
    NotifyMinBrokerIdChangeHeader {
        min_broker_id: Option<i64> = "minBrokerId",
        broker_name: Option<ByteStr> = "brokerName",
        min_broker_addr: Option<ByteStr> = "minBrokerAddr",
        offline_broker_addr: Option<ByteStr> = "offlineBrokerAddr",
        ha_broker_addr: Option<ByteStr> = "haBrokerAddr",
    }

    /// NOTIFY_BROKER_ROLE_CHANGED, controller to broker.
    NotifyBrokerRoleChangedHeader {
        master_address: Option<ByteStr> = "masterAddress",
        master_epoch: Option<i32> = "masterEpoch",
        sync_state_set_epoch: Option<i32> = "syncStateSetEpoch",
        master_broker_id: Option<i64> = "masterBrokerId",
    }
}

//! The state of replication as GET_BROKER_HA_STATUS tells it.

use serde::{Deserialize, Serialize};

/// Response to GET_BROKER_HA_STATUS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HaRuntimeInfo {
    /// A slave's own view.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ha_client_runtime_info: Option<HaClientRuntimeInfo>,
    /// A master's slaves.
    pub ha_connection_info: Vec<HaConnectionInfo>,
    /// Slaves in sync, of a master.
    pub in_sync_slave_nums: i32,
    /// Whether this is a master.
    pub master: bool,
    /// End of the master's commit log.
    pub master_commit_log_max_offset: i64,
}

/// One slave as its master sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HaConnectionInfo {
    /// Its address.
    pub addr: String,
    /// Bytes behind.
    pub diff: i64,
    /// Whether it is in sync.
    pub in_sync: bool,
    /// What it has acknowledged.
    pub slave_ack_offset: i64,
    /// What it is sent next.
    pub transfer_from_where: i64,
    /// Bytes a second.
    pub transferred_byte_in_second: i64,
}

/// A slave's own view.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HaClientRuntimeInfo {
    /// Whether it is active.
    pub is_activated: bool,
    /// When it last read, in milliseconds.
    pub last_read_timestamp: i64,
    /// When it last wrote, in milliseconds.
    pub last_write_timestamp: i64,
    /// Its master.
    pub master_addr: String,
    /// The master's flushed end.
    pub master_flush_offset: i64,
    /// Its own end.
    pub max_offset: i64,
    /// Bytes a second.
    pub transferred_byte_in_second: i64,
}

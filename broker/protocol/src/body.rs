//! Bodies that are JSON, one struct for each shape of RocketMQ's.
//!
//! Fields stand in alphabetical order, as fastjson writes them, and each may be missing on input: clients of other
//! languages and ages leave fields out, and then Java's default counts. Texts are owned: no body is on the hot path.
//! Input may be in fastjson's dialect ([`crate::json`]). Output has integer keys in quotes, which every known reader takes;
//! maps keyed by a message queue are written in the dialect, which their readers expect.

use bytes::Bytes;

use crate::json::{self, JsonError};

pub mod auth;
pub mod connection;
pub mod group;
pub mod ha;
pub mod heartbeat;
pub mod kv;
pub mod lenient;
pub mod offset;
pub mod pop;
pub mod queue;
pub mod register;
pub mod route;
pub mod stats;
pub mod topic;

pub use auth::*;
pub use connection::*;
pub use group::*;
pub use ha::*;
pub use heartbeat::*;
pub use kv::*;
pub use offset::*;
pub use pop::*;
pub use queue::*;
pub use register::*;
pub use route::*;
pub use stats::*;
pub use topic::*;

/// Gives body types their reader.
macro_rules! parsed_bodies {
    ($($name:ident),* $(,)?) => {
        $(impl $name {
            /// Reads a body in fastjson's dialect.
            pub fn parse(body: &[u8]) -> Result<Self, JsonError> {
                json::parse_as(body)
            }
        })*
    };
}
/// Gives body types their reader and the writer of plain JSON; those with keys that JSON cannot write have one of their own.
macro_rules! json_bodies {
    ($($name:ident),* $(,)?) => {
        parsed_bodies!($($name),*);
        $(impl $name {
            /// The JSON text.
            pub fn to_json(&self) -> Bytes {
                json::to_json(self)
            }
        })*
    };
}

json_bodies!(
    AccessRules,
    BatchAck,
    BrokerMemberGroupBody,
    BrokerStatsData,
    CheckClientConfig,
    ClusterInfo,
    ConsumerConnection,
    ConsumerList,
    ConsumerOffsetTable,
    DataVersion,
    DelayOffsetTable,
    GroupList,
    HaRuntimeInfo,
    HeartbeatData,
    KvTable,
    LockBatchRequest,
    LockBatchResponse,
    MessageQueue,
    ProducerConnection,
    ProducerTable,
    QueryAssignmentRequest,
    QueryAssignmentResponse,
    QueryConsumeTimeSpan,
    QuerySubscription,
    RegisterBrokerBody,
    RouteData,
    SetMessageRequestMode,
    SubscriptionData,
    SubscriptionGroupConfig,
    SubscriptionGroupList,
    SubscriptionGroupTable,
    TopicConfig,
    TopicConfigList,
    TopicConfigTable,
    TopicList,
    User,
);
parsed_bodies!(
    BrokerConsumeStats,
    ConsumeStats,
    ConsumerStatus,
    ResetOffset,
    TopicStats
);

#[cfg(test)]
mod tests;

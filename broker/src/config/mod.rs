//! Configuration: RocketMQ's own keys, read once into checked types.
//!
//! [`broker::BrokerConfig`] and [`namesrv::NamesrvConfig`] are each written down as **one table** (macro `settings!`): a row is the key's
//! name, type, default, range, unit, what it does, whether it can be changed while the broker runs and whose key it is. The struct
//! fields, the parser, `rocket-broker config` and `docs/configuration.md` all come from that table, so none of them can lie about another.
//!
//! A file that cannot be read, a key that nobody knows and a value out of range end the start with a message that names the file, the
//! line, the key and what would have been right. Keys that RocketMQ has and that mean nothing here are listed by name in
//! [`ignored`]; they are accepted, and named in a warning at start.

pub mod broker;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod group;
pub mod ignored;
mod live;
mod load;
pub mod namesrv;
pub mod page;
mod source;
mod table;
pub mod value;

pub use broker::BrokerConfig;
pub use error::{Error, Place, Problem};
pub use group::CoordinatorAt;
pub use live::LiveConfig;
pub use load::{Loaded, load};
pub use namesrv::NamesrvConfig;
pub use source::Entry;
pub use table::{Apply, Key, Origin, Rule, Settings};
pub use value::{
    BrokerRole, ByteSize, DelayLevels, FlushDiskType, HostPort, Hours, Name, Replication,
    ReplicationMode, SegmentPreallocate,
};

#[cfg(test)]
mod tests;

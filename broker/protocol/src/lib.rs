//! RocketMQ's wire protocol and record format: frames, codes, typed headers, the JSON dialect of bodies, and messages as
//! they lie in the commit log and travel to consumers.
//!
//! Pure: bytes in, values out. No sockets, no clocks, no async. Whatever comes from outside is checked here once, against
//! stated bounds, and a violation is a named error: never a panic, never an allocation sized by an unchecked number.
#![forbid(unsafe_code)]

pub mod body;
pub mod byte_str;
pub mod code;
pub mod command;
mod decimal;
pub mod ext_fields;
pub mod frame;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod header;
pub mod ids;
pub mod json;
pub mod message;
pub mod name;
pub mod send;
mod swar;

pub use byte_str::ByteStr;
pub use code::{RequestCode, ResponseCode};
pub use command::{Body, Command, HeaderFormat, Language};
pub use ext_fields::ExtFields;
pub use header::{HeaderError, HeaderFields};
pub use ids::{PhysicalOffset, QueueId, QueueOffset, UnixMillis};
pub use message::{Message, RecordError, RecordView, SysFlag};
pub use name::{GroupName, NameError, TopicName};

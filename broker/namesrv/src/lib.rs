//! RocketMQ's name server: who serves which topic.
//!
//! [`RouteTable`] is the whole of its knowledge: pure, time and connections are arguments. It lives in memory only and is rebuilt from the
//! registrations that brokers repeat. [`KvConfig`] is the one thing that is kept on disk. [`Namesrv`] answers requests from both.
//! Name servers do not talk to each other.
#![forbid(unsafe_code)]

pub mod kv;
mod processor;
mod server;
pub mod table;

pub use kv::KvConfig;
pub use processor::{Namesrv, Settings};
pub use server::NamesrvProcessor;
pub use table::RouteTable;

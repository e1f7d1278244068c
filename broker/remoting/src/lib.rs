//! RocketMQ frames over sockets: a server, a client, the matching of answers to requests, and a bound on everything.
//!
//! This crate knows no code's meaning: a [`Processor`] gets whole requests and answers each through its [`Reply`], at once
//! or later and from any thread. A connection is one task that reads and writes; no task is made for a message. All frames
//! of one read are served before anything is written, and answers that are given together leave together. What one
//! peer can cost is bounded by [`ServerConfig`]: a peer that breaks a bound loses its own connection and nobody else's.
//!
//! | a peer that…                                     | gets                                                   |
//! |--------------------------------------------------|--------------------------------------------------------|
//! | sends what is no frame                           | an answer if its opaque was readable; closed           |
//! | begins a frame and does not end it               | closed after `frame_timeout`                           |
//! | begins a frame beyond 32 KiB while others have   | read no further until there is room; closed after      |
//! | taken all of `half_frame_bytes_max`              | `frame_timeout`                                        |
//! | does not read its answers                        | closed at `outbound_bytes_max` or after `write_timeout`|
//! | is silent, and nothing is sent to it             | closed after `idle_timeout`                            |
//! | has more than `inflight_max` open requests       | SYSTEM_BUSY for those beyond                           |
//! | has more than `parked_max` waiting ones           | a refusal from who would have let it wait              |
//! | has more than `inflight_bytes_max` open bytes    | read no further until some are answered                |
//! | is one more than `connections_max`               | closed at once                                         |
#![forbid(unsafe_code)]

mod bell;
mod client;
mod config;
mod connection;
mod driver;
mod ending;
mod incoming;
mod outbox;
mod outgoing;
mod processor;
mod rate_limit;
mod reply;
mod room;
mod server;
mod stats;
mod sync;

pub use bell::HeldWakes;
pub use client::{Client, ConnectError};
pub use config::{ClientConfig, ConnectionLimits, ServerConfig};
pub use connection::{CallError, Connection, ConnectionId, SendError};
pub use processor::{NoRequests, Processor, RawRequest};
pub use reply::{Reply, TooManyParked};
pub use server::Server;
pub use stats::{Stats, StatsSnapshot};

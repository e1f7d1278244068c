//! Load on any RocketMQ cluster, ours or Apache's, and a checker of what it acknowledged.
//!
//! It speaks the wire protocol through `rocket-remoting`, so what it measures is a broker, not a client library.
#![forbid(unsafe_code)]

pub mod audit;
pub mod check;
pub mod history;
pub mod produce;
mod request;
pub mod route;
pub mod verify;

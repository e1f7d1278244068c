//! Load on any RocketMQ cluster, ours or Apache's, and a checker of what it acknowledged.
//!
//! It speaks the wire protocol itself, so what it measures is a broker, not a client library. Two producers serve two ends:
//! [`load`] is the generator of the measurements, with patched frames and next to no CPU; [`produce`] writes down each message
//! for the checker of histories and goes on over a killed broker.
#![forbid(unsafe_code)]

pub mod allowed;
pub mod audit;
pub mod check;
pub mod compare;
pub mod history;
pub mod limits;
pub mod load;
pub mod process;
pub mod produce;
pub mod program;
mod request;
pub mod route;
pub mod verify;
pub mod wire;

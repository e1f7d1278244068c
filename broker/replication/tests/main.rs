//! The protocol as a whole: several replicas, one coordinator, faults, and the invariants of the specification's §12.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "test code: a broken expectation is a failed test"
)]

mod scenarios;
mod walks;
mod world;

#[cfg(feature = "model")]
mod model;

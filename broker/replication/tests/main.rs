//! The protocol as a whole: several replicas, one coordinator, faults, and the invariants of the specification's §12.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::maybe_infinite_iter,
    clippy::struct_excessive_bools,
    clippy::too_many_lines,
    clippy::wildcard_imports,
    reason = "test code over tiny worlds: a broken expectation is a failed test"
)]
#![cfg_attr(
    not(feature = "model"),
    allow(dead_code, reason = "parts of the world serve the search alone")
)]

mod holes;
mod scenarios;
mod walks;
mod world;

#[cfg(feature = "model")]
mod model;

//! The program as a person or a pod runs it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on ends by panicking"
)]

mod disks;
mod fixed;
mod full_disk;
mod group;
mod halts;
mod messages;
mod modes;
mod newcomer;
mod process;
mod proofs;
mod registration;
mod repair;
mod take_over;

//! Replicas of one group in one thread, over twins in memory of all that surrounds them.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

mod fixed;
mod fuse;
mod lag;
mod modes;
mod repairs;
mod stories;
mod walks;
mod world;

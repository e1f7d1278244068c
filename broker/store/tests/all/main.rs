//! The store from outside: on a real file system, with its threads, and folders that Apache's broker wrote.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "the helpers of tests may fail like tests"
)]

mod apache;
mod by_time;
mod catching_up;
mod clocks;
mod counted;
mod damage;
mod descriptors;
mod disk;
mod dispatching;
mod exporting;
mod failures;
mod flushing;
mod following;
mod following_room;
mod freed_later;
mod gaps_in_queues;
mod last_file;
mod lost_checkpoint;
mod opening;
mod preparing;
mod reading;
mod rebuilding;
mod repair_and_retention;
mod repair_and_seal;
mod repairing;
mod retention;
mod rotten_queues;
mod sectors;
mod support;
mod telling;
mod watched;
mod wrapped;

//! One replica at work: [`Actor`] feeds what happened into the state machine of `rocket-replication` and performs what it
//! asks for, strictly in order, over what surrounds it.
//!
//! ```text
//!  links ─┐                                    ┌─▶ Items      small files (§4.1), each replaced as a whole
//!  coordinator ─┼─▶ Event ─▶ Actor ─ Effect ───┼─▶ Log        the store; RangeReader reads it beside the actor
//!  store ─┤        │                           ├─▶ Net        links
//!  time ──┘        └─▶ Board ─▶ GroupPolicy    ├─▶ Coordinator
//!                      (atomics: what sends    └─▶ Observer   the broker: role, halts, cuts
//!                      and readers may see)
//! ```
//!
//! There is no thread, socket or clock in here: a broker puts a thread around [`Actor::step`], a simulation calls it. What
//! surrounds a replica is behind [`Log`], [`RangeReader`], [`Net`], [`Coordinator`], [`Observer`] and
//! `rocket_mapped_file::Directory`; [`memory`] has their twins.
#![forbid(unsafe_code)]

mod actor;
mod board;
mod desk;
mod disk;
mod election;
mod failures;
mod fixed;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod handover;
mod intent;
mod lag;
pub mod memory;
mod perform;
mod ranges;
mod repairing;
mod residence;
mod sealed;
mod start;
mod store_log;
mod surroundings;
mod timers;

pub use actor::{Actor, Options, Parts};
pub use board::{Answers, Board, GroupPolicy, GroupView};
pub use disk::{ItemError, Items, Meta, Saved};
pub use election::{Candidates, SelfElection};
pub use failures::{Failures, look_at_failures};
pub use intent::{Intent, Then};
pub use residence::{BootId, FolderId, Residence, Shelf};
pub use sealed::FOLDER;
pub use start::{Found, Fresh, Held, StartError, start};
pub use store_log::{StoreLog, Stored};
pub use surroundings::{
    AppendError, Chunk, Coordinator, CutError, Ends, Event, Log, Net, News, Observer, Pending,
    RangeReader, RepairError,
};
pub use timers::Timing;

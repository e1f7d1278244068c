//! Replication and failover of one broker group: the code of `docs/replication.md`, in that page's words.
//!
//! Everything here decides and nothing acts: no file, socket, clock, random number or task. A process feeds what happened
//! into its state machine and performs the effects that come back, in their order. Paragraphs of the specification are cited
//! as §8.x, C1–C4, N1, N2, W1–W7 and I1–I18.
#![forbid(unsafe_code)]

pub mod changes;
pub mod commit;
pub mod coordinator;
pub mod effect;
pub mod elector;
pub mod epochs;
pub mod fixed;
pub mod frame;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod identity;
mod local;
pub mod master;
pub mod memory;
pub mod messages;
mod modes;
pub mod mutations;
mod payload;
pub mod policy;
pub mod rebuild;
pub mod recovery;
pub mod register;
pub mod repair;
pub mod replica;
pub mod slave;
pub mod state;
pub mod timers;
mod view;

pub use identity::{
    DiskId, Epoch, Former, GroupUid, Incarnation, Member, Proposal, Proposals, ReplicaId, Version,
};
pub use policy::{InForce, Policy, Replication};
pub use rocket_protocol::ids::PhysicalOffset;
pub use state::State;

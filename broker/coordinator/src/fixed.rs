//! The register of a fixed master (docs/replication.md §14, static). It is a file in the master's own folder
//! ([`crate::file`]); [`Register`] serves it to the slaves on the master's port for replication links, and [`FixedCoordinator`] is
//! what a slave has of it.
//!
//! ```text
//! master's replica ──▶ FileCoordinator ◀── Register ◀── authenticated connection ── FixedCoordinator ◀── slave's replica
//! ```
//!
//! A read or write is a connection of its own, with one frame each way (`rocket_replication::register`); hints have one that stays.
//! A write whose frame did not begin to leave is [`crate::CasAnswer::Unsent`]; from then on, without an answer, it is
//! [`crate::CasAnswer::Unknown`]. What a slave may write is decided by `rocket_replication::fixed::may_write`: anything else is never
//! applied and answered as unsent.

mod client;
mod connection;
mod register;

pub use client::FixedCoordinator;
pub use register::Register;

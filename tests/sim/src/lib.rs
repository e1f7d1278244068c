//! The seeded world: deciding code meets faults, one thread, and a seed decides everything. The same seed gives the same
//! trace, byte by byte.
//!
//! Two kinds of worlds are made from seeds:
//!
//! - [`one_store`]: a store's engine under crashes that keep any subset of unflushed sectors.
//! - A whole group ([`schedule`]): replicas (`rocket_ha::Actor`, the code that a broker runs), their logs and small files on
//!   disks in memory, links, the coordinator's register, electors (`rocket_replication::elector`), senders and consumers.
//!   Its log is a twin in memory (light: hundreds of schedules a second) or the store's engine (heavy: a few).
//!
//! ```text
//!  plan ── what a seed and a column of docs/replication.md §11 come to: modes, faults
//!  world ─┬ wires, electors, clients     what surrounds the production code
//!         ├ faults                       what happens next
//!         ├ invariants, ledger           what must be true after every step (§12)
//!         └ healing                      what must come to be when faults stop (L1 to L4)
//!  campaign ── many schedules;  mutants ── rules broken on purpose, and who notices (§13.3)
//! ```
//!
//! `cargo run --release -p sim -- --help` runs campaigns and replays a seed with its trace.
#![forbid(unsafe_code)]
#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "machines are numbered by the world itself, and logs are small; a mistake here is to end the run"
)]

pub mod campaign;
mod engine_log;
mod fuse;
mod log;
pub mod mutants;
pub mod one_store;
pub mod plan;
mod snapshots;
mod trace;
mod world;

pub use campaign::{Verdict, schedule};
pub use world::Reached;

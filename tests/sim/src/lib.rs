//! The seeded world: deciding code meets faults, one thread, and a seed decides everything. The same seed gives the same
//! trace, byte by byte.
//!
//! In this first version the world holds one store engine over the disk in memory. Steps of the engine run in an order
//! drawn from the seed, with lost power and killed processes between them; what was answered must be there afterwards.
#![forbid(unsafe_code)]

mod world;

pub use world::{Broken, run};

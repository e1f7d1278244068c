//! The seeded world.
#![forbid(unsafe_code)]

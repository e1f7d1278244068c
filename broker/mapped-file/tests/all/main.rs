//! What both implementations of the seam promise, and that they promise the same.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the helpers of tests may fail like tests"
)]

mod disk;
mod rules;
mod twins;

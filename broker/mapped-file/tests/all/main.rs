//! What both implementations of the seam promise, and that they promise the same.

mod disk;
mod rules;
mod twins;

//! Twins in memory of what surrounds a replica, for tests and simulations: one thread, no sockets, every fault at hand.

mod image;
mod log;
mod outside;

pub use image::{Image, RECORD_HEAD_BYTES};
pub use log::{MemoryLog, Told};
pub use outside::{MemoryNet, MemoryReader, MemoryRequests, Request, Wish};

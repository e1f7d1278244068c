//! The atomics of this crate, by one name: whoever searches through interleavings puts others here.

pub(crate) use std::sync::atomic::{AtomicU64, Ordering};

//! The message store of one broker.
#![forbid(unsafe_code)]

mod api;
mod config;
mod store;

mod consume_queue {
    pub(crate) const UNIT_BYTES: u64 = 20;
}

pub use api::*;
pub use config::*;
pub use store::{CloseError, OpenError, RecoveryReport, Store};

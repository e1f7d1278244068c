//! The coordinator of one broker group (docs/replication.md §14): a register with current reads, compare-and-set and hints.
//!
//! What an answer proves is decided by [`rocket_replication::coordinator::Tracker`]; here requests are only carried:
//!
//! | implementation | the register is | for |
//! |---|---|---|
//! | [`kubernetes`] | the status of a `RocketBrokerGroup` | pods and the operator |
//! | [`mod@file`] | `state.json` in a folder | several processes on one machine, and a fixed master's own record |
//! | [`fixed`] | that record, served by its master | slaves of a fixed master |
//! | [`memory`] | a value in this process | tests |
//!
//! [`faulty`] is a front for any of them that does what networks do.
//!
//! An answer is never better than the truth: whatever may have been applied is told as [`CasAnswer::Unknown`], and
//! [`CasAnswer::Unsent`] is told only of a write that nobody will ever apply.
#![forbid(unsafe_code)]

pub mod faulty;
pub mod file;
pub mod fixed;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
pub mod memory;

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::watch;

pub use rocket_replication::coordinator::{Cas, CasAnswer, ReadAnswer};
use rocket_replication::state::State;

/// The newest state that a watch has shown; `None` before the first. A hint (C4): a reason to read, and nothing more.
pub type Hints = watch::Receiver<Option<Arc<State>>>;

/// A register that holds one group's [`State`]. All methods may be called at any time and from any task; dropping a future
/// leaves its request under way (a write is then open, as after [`CasAnswer::Unknown`]).
pub trait Coordinator: Send + Sync + 'static {
    /// The object as it is now: linearizable with every applied write.
    fn read_current(&self) -> BoxFuture<'_, ReadAnswer>;

    /// Writes `cas.new` if the object is at version `cas.expected`. The object's own rules (W1–W5, W7) are enforced; a write
    /// that breaks one is never applied and answered as [`CasAnswer::Unsent`].
    fn cas(&self, cas: Cas) -> BoxFuture<'_, CasAnswer>;

    /// Hints that the object changed. They may be late, may skip and may repeat.
    fn watch(&self) -> Hints;
}

impl<C: Coordinator + ?Sized> Coordinator for Arc<C> {
    fn read_current(&self) -> BoxFuture<'_, ReadAnswer> {
        (**self).read_current()
    }

    fn cas(&self, cas: Cas) -> BoxFuture<'_, CasAnswer> {
        (**self).cas(cas)
    }

    fn watch(&self) -> Hints {
        (**self).watch()
    }
}

//! The register as a value of this process.

use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use rocket_replication::memory::{Fate, Memory};
use rocket_replication::mutations::Mutations;
use rocket_replication::state::State;
use tokio::sync::watch;

use crate::{Cas, CasAnswer, Coordinator, Hints, ReadAnswer};

/// See the module.
#[derive(Debug)]
pub struct MemoryCoordinator {
    memory: Mutex<Memory>,
    hints: watch::Sender<Option<Arc<State>>>,
}

impl MemoryCoordinator {
    /// Holds `first`.
    pub fn new(first: State) -> Self {
        Self {
            hints: watch::Sender::new(Some(Arc::new(first.clone()))),
            memory: Mutex::new(Memory::new(first, Mutations::default())),
        }
    }

    /// Puts another object in its place, or none: deleted, or restored from an old copy.
    pub fn replace(&self, state: Option<State>) {
        self.memory.lock().replace(state);
    }
}

impl Coordinator for MemoryCoordinator {
    fn read_current(&self) -> BoxFuture<'_, ReadAnswer> {
        Box::pin(async { self.memory.lock().read() })
    }

    fn cas(&self, cas: Cas) -> BoxFuture<'_, CasAnswer> {
        Box::pin(async move {
            let mut memory = self.memory.lock();
            let answer = memory.cas(cas, Fate::Answered).unwrap_or_else(|violation| {
                tracing::error!(%violation, "a state that must never be written was refused");
                CasAnswer::Unsent
            });
            self.hints.send_replace(memory.state().cloned());
            answer
        })
    }

    fn watch(&self) -> Hints {
        self.hints.subscribe()
    }
}

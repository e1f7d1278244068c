//! Requests of a replica to its coordinator, each a task that answers once.

use std::sync::Arc;
use std::time::Duration;

use rocket_coordinator::{Cas, CasAnswer, Coordinator, Hints, ReadAnswer};
use rocket_ha::Event;
use tokio::time::timeout;

use super::Post;
use crate::crew::Crew;

/// An answer that takes longer is none. What was asked may still happen.
const PATIENCE: Duration = Duration::from_secs(10);

/// See the module. Its methods are called inside a runtime.
pub(super) struct Requests {
    coordinator: Arc<dyn Coordinator>,
    crew: Crew,
    post: Post,
}

impl Requests {
    pub(super) fn new(coordinator: Arc<dyn Coordinator>, crew: Crew, post: Post) -> Self {
        Self {
            coordinator,
            crew,
            post,
        }
    }

    fn spawn(&self, request: impl Future<Output = Event> + Send + 'static) {
        let post = self.post.clone();
        let answering = async move { post.happened(request.await) };
        let stop = self.crew.stop.clone();
        self.crew
            .tasks
            .spawn(stop.run_until_cancelled_owned(answering));
    }
}

impl rocket_ha::Coordinator for Requests {
    fn read(&mut self) {
        let coordinator = Arc::clone(&self.coordinator);
        self.spawn(async move {
            let answer = timeout(PATIENCE, coordinator.read_current()).await;
            Event::Read(answer.unwrap_or(ReadAnswer::Unreachable))
        });
    }

    fn cas(&mut self, cas: Cas) {
        let coordinator = Arc::clone(&self.coordinator);
        let proposal = cas.new.proposal;
        self.spawn(async move {
            let answer = timeout(PATIENCE, coordinator.cas(cas)).await;
            let answer = answer.unwrap_or(CasAnswer::Unknown);
            Event::Cas { proposal, answer }
        });
    }
}

/// Brings what a watch shows to the replica.
pub(super) async fn watch(mut hints: Hints, post: Post) {
    loop {
        let hint = hints.borrow_and_update().clone();
        if let Some(state) = hint {
            post.happened(Event::Watched(state));
        }
        if hints.changed().await.is_err() {
            return;
        }
    }
}

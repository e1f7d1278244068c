//! Reads of the store for other replicas, each on a thread that may wait for the disk.

use std::sync::Arc;

use rocket_ha::{Event, RangeReader};
use rocket_replication::PhysicalOffset;
use rocket_replication::messages::Range;
use rocket_store::{Completion, Store};

use super::Post;
use crate::crew::Crew;

/// See the module. Its methods are called inside a runtime.
pub(super) struct Ranges<C: Completion> {
    store: Arc<Store<C>>,
    crew: Crew,
    post: Post,
}

impl<C: Completion> Ranges<C> {
    pub(super) fn new(store: Arc<Store<C>>, crew: Crew, post: Post) -> Self {
        Self { store, crew, post }
    }
}

impl<C: Completion> RangeReader for Ranges<C> {
    fn read_range(&mut self, offset: PhysicalOffset, length: u32) {
        let store = Arc::clone(&self.store);
        let len = usize::try_from(length).unwrap_or(usize::MAX);
        let reading = tokio::task::spawn_blocking(move || {
            let read = store.read_range(offset, len);
            read.map(|bytes| Range::of(offset, bytes))
                .map_err(|error| error.to_string())
        });
        let post = self.post.clone();
        // Not cut short by a stop: the store is closed when nobody reads it any more.
        self.crew.tasks.spawn(async move {
            let read = reading.await.unwrap_or_else(|error| Err(error.to_string()));
            post.happened(Event::RangeRead(read));
        });
    }
}

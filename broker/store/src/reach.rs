//! Where queues go on, said and heard. Of messages that expired the log tells nothing, and a copy that began behind them never had
//! them: which offsets they were given it can only be told, by one that knows (docs/replication.md, D1). It gives none of these again.

use rocket_protocol::{QueueId, QueueOffset, TopicName};

use crate::api::{Completion, QueueEnd};
use crate::appender::Role;
use crate::engine::Engine;
use crate::error::is_no_room;
use crate::mutant::{self, Mutant};
use crate::room::Writer;

impl<C: Completion> Engine<C> {
    /// Where each queue goes on that ever got a message, those of all that was appended by now counted, in no order. To be
    /// asked of a copy that takes messages: others do not look at what is not visible.
    pub fn queue_ends(&self) -> Vec<QueueEnd> {
        if mutant::is_on(Mutant::EndsUntold) {
            return Vec::new();
        }
        let of = |(topic, queue_id, next): (TopicName, QueueId, u64)| QueueEnd {
            topic,
            queue_id,
            next: QueueOffset(next),
        };
        self.queues.next_offsets().into_iter().map(of).collect()
    }

    /// No message that comes from here on has a place before these in its queue: queues that end before go on there, and who
    /// becomes master gives no offset before them. Durable on return. To be told when everything that they count and this
    /// log holds is dispatched: what comes later and has a place before them gets none.
    ///
    /// Returns whether it is so. `false`: the store failed, or is to be opened again, or has no room to note it; to be said again.
    pub fn reach(&self, ends: &[QueueEnd]) -> bool {
        let is_behind = |end: &&QueueEnd| {
            let queue = self.queues.get(&end.topic, end.queue_id);
            queue.map_or(0, |queue| queue.max()) < end.next.0
        };
        let behind: Vec<&QueueEnd> = ends.iter().filter(is_behind).collect();
        if behind.is_empty() {
            return true;
        }
        // What was told may lie in what a cut takes away.
        let _alone = self.alone.read_recursive();
        if self.appender.lock().role() == Role::Waits || self.has_failed() {
            return false;
        }
        // Held so that neither a table nor who becomes master finds half of it.
        let dispatcher = self.dispatcher.lock();
        let told = behind.iter();
        let told = told.map(|end| (end.topic.clone(), end.queue_id, end.next.0));
        match self.carried.add(told, dispatcher.position) {
            Ok(()) => {}
            Err(error) if is_no_room(&error) => {
                tracing::warn!(%error, "no room to note where queues go on; it will be tried again");
                return false;
            }
            Err(error) => return self.derived(Writer::Queues, Err(error)),
        }
        let reached = behind.iter().try_for_each(|end| {
            let queue = self.queues.get_or_make(&end.topic, end.queue_id);
            queue.reach(end.next.0)
        });
        self.derived(Writer::Queues, reached)
    }
}

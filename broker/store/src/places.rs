//! Where the dispatcher puts the records of a topic and queue: found by the bytes of the record, so that nothing is parsed,
//! copied or allocated for a queue that was met lately. A memo, not a table: two queues that share a slot take turns in it.

use rocket_protocol::message::hash::IndexPrefix;
use rocket_protocol::{NameError, QueueId, TopicName};

use crate::queues::{Queues, SharedQueue};

/// Bits of a hash that choose a slot.
const SLOT_BITS: u32 = 10;
const SLOTS: usize = 1 << SLOT_BITS;

/// What is known of a topic and queue.
pub(crate) struct Place {
    pub(crate) topic: TopicName,
    queue_id: QueueId,
    pub(crate) queue: SharedQueue,
    pub(crate) prefix: IndexPrefix,
}

/// See the module.
pub(crate) struct Places(Vec<Option<Place>>);

impl Places {
    pub(crate) fn new() -> Self {
        Self((0..SLOTS).map(|_| None).collect())
    }

    /// The place of a queue, which is made if it is missing.
    ///
    /// # Errors
    /// The topic is none.
    pub(crate) fn find(
        &mut self,
        queues: &Queues,
        topic: &str,
        queue_id: QueueId,
    ) -> Result<&Place, NameError> {
        let slot = self.slot(topic, queue_id);
        if let Some(place) = slot
            && (place.queue_id != queue_id || place.topic.as_str() != topic)
        {
            *slot = None;
        }
        if let Some(place) = slot {
            return Ok(place);
        }
        let topic = TopicName::parse(topic)?;
        Ok(slot.insert(Place {
            queue_id,
            queue: queues.get_or_make(&topic, queue_id),
            prefix: IndexPrefix::new(topic.as_str()),
            topic,
        }))
    }

    /// Forgets everything; to be called when a queue ends.
    pub(crate) fn clear(&mut self) {
        self.0.fill_with(|| None);
    }

    #[expect(
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        reason = "as many bits as choose a slot"
    )]
    fn slot(&mut self, topic: &str, queue_id: QueueId) -> &mut Option<Place> {
        &mut self.0[hash(topic, queue_id) as usize]
    }
}

/// The slot, by a multiplication for eight bytes; who chooses topics to share a slot only slows their own dispatch to a table look-up.
fn hash(topic: &str, queue_id: QueueId) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    let mut hash = mix(topic.len() as u64, u64::from(queue_id.0));
    let mut rest = topic.as_bytes();
    while let Some((word, tail)) = rest.split_first_chunk::<8>() {
        hash = mix(hash, u64::from_le_bytes(*word));
        rest = tail;
    }
    let mut last = [0; 8];
    last.iter_mut().zip(rest).for_each(|(to, &from)| *to = from);
    mix(hash, u64::from_le_bytes(last)) >> (u64::BITS - SLOT_BITS)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn every_queue_is_found_though_slots_are_shared_and_the_same_one_again() {
        let queues = Queues::in_memory();
        let mut places = Places::new();
        for _ in 0..2 {
            for number in 0..3 * u32::try_from(SLOTS).unwrap() {
                let (name, queue_id) = (format!("topic-{}", number / 7), QueueId(number % 7));
                let place = places.find(&queues, &name, queue_id).unwrap();
                let topic = TopicName::parse(&name).unwrap();
                assert_eq!(place.topic, topic);
                let queue = queues.get_or_make(&topic, queue_id);
                assert!(Arc::ptr_eq(&place.queue, &queue));
            }
        }
        assert!(places.find(&queues, "no topic", QueueId(0)).is_err());
    }

    #[test]
    fn queues_of_one_topic_and_topics_of_one_queue_spread_over_the_slots() {
        let slots = |mut slots: Vec<u64>| {
            slots.sort_unstable();
            slots.dedup();
            slots.len()
        };
        let by_queue = (0..64)
            .map(|queue| hash("orders", QueueId(queue)))
            .collect();
        let by_topic = (0..64)
            .map(|n| hash(&format!("orders-{n}"), QueueId(0)))
            .collect();
        assert!(slots(by_queue) > 54 && slots(by_topic) > 54);
    }
}

//! What consumers still need of the log. The broker knows positions in queues ([`Readers`]); retention asks for the lowest
//! place in the log that one of them has not passed.
//!
//! That costs nothing while nothing is due, and for a reader whose queue has no message in the files that are due a
//! comparison. For the others one unit is looked up; of these so many in a round as [`LOOKUPS_MAX`] says, and the next round
//! goes on there, so that 10^5 readers hold up nobody. Whoever was found to need the oldest file is asked first the next time.

use std::collections::HashMap;

use rocket_protocol::{GroupName, QueueId, QueueOffset, TopicName, UnixMillis};

use crate::api::{Completion, Unconsumed};
use crate::engine::Engine;
use crate::unit::Unit;

/// Units that one round looks up.
const LOOKUPS_MAX: usize = 4096;
/// Units read at once, and how often, to get over fillers, which only damage brings.
const UNITS_AT_ONCE: usize = 16;
const READS_MAX: usize = 64;

/// A consumer group's position in one queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    /// The group.
    pub group: GroupName,
    /// The topic.
    pub topic: TopicName,
    /// The queue.
    pub queue_id: QueueId,
    /// What it consumes next.
    pub next: QueueOffset,
    /// Whether messages are kept for it. One that has been gone for long is only told what it lost.
    pub is_live: bool,
}

/// Who reads. Asked on a store thread when files are due; may take milliseconds.
pub trait Readers: Send + Sync + 'static {
    /// All positions of all groups.
    fn readers(&self, now: UnixMillis) -> Vec<Reader>;
}

/// What of the log is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Needed {
    /// Nothing before this, and who needs that.
    From(u64, Option<Box<Reader>>),
    /// To be asked again.
    NotKnownYet,
}

/// A look that takes more than one round.
#[derive(Debug, Default)]
pub(crate) struct Look {
    /// What is needed from here on does not matter.
    until: u64,
    left: Vec<Reader>,
    lowest: Option<(u64, Reader)>,
    is_begun: bool,
    /// Who needed the oldest file when it was last looked for.
    holder: Option<Reader>,
}

impl<C: Completion> Engine<C> {
    /// The lowest place before `until` that a live reader needs. Whoever needs something before `enough` ends the look.
    pub(crate) fn needed(&self, enough: u64, until: u64) -> Needed {
        let Some(readers) = self.readers.get() else {
            return Needed::From(0, None);
        };
        let mut look = self.look.lock();
        if !look.is_begun || look.until < until {
            let mut left = readers.readers(self.now());
            left.retain(|reader| reader.is_live);
            let was_holding = |reader: &Reader| {
                look.holder.as_ref().is_some_and(|holder| {
                    (&holder.group, &holder.topic, holder.queue_id)
                        == (&reader.group, &reader.topic, reader.queue_id)
                })
            };
            // The last one is asked first.
            if let Some(at) = left.iter().position(was_holding) {
                let last = left.len() - 1;
                left.swap(at, last);
            }
            *look = Look {
                until,
                left,
                lowest: None,
                is_begun: true,
                holder: None,
            };
        }
        let mut lookups = 0;
        while let Some(reader) = look.left.pop() {
            let found = self.next_message(&reader, look.until, &mut lookups);
            let lowest = look
                .lowest
                .as_ref()
                .map_or(look.until, |(lowest, _)| *lowest);
            if let Some(offset) = found.filter(|offset| *offset < lowest) {
                look.lowest = Some((offset, reader));
                if offset < enough {
                    break;
                }
            }
            if lookups >= LOOKUPS_MAX && !look.left.is_empty() {
                return Needed::NotKnownYet;
            }
        }
        let lowest = look.lowest.take();
        *look = Look {
            holder: lowest.as_ref().map(|(_, reader)| reader.clone()),
            ..Look::default()
        };
        match lowest {
            Some((offset, reader)) => Needed::From(offset, Some(Box::new(reader))),
            None => Needed::From(u64::MAX, None),
        }
    }

    /// Nothing is due any more: the next look begins anew.
    pub(crate) fn end_look(&self) {
        let mut look = self.look.lock();
        *look = Look {
            holder: look.holder.take(),
            ..Look::default()
        };
    }

    /// Where the next message of a reader lies, if there is one before `until`.
    fn next_message(&self, reader: &Reader, until: u64, lookups: &mut usize) -> Option<u64> {
        let queue = self.queues.get(&reader.topic, reader.queue_id)?;
        let (min, max) = queue.range();
        let mut next = reader.next.0.max(min);
        let first = queue.first_message();
        if next >= max || first >= until {
            return None;
        }
        if next == min {
            return Some(first);
        }
        *lookups += 1;
        let mut units = Vec::with_capacity(UNITS_AT_ONCE);
        for _ in 0..READS_MAX {
            units.clear();
            if let Err(error) = queue.look_up(next, UNITS_AT_ONCE, &mut units) {
                // Then nothing of this queue is removed.
                self.judge(&queue, next, &error);
                return Some(first);
            }
            if units.is_empty() {
                return None;
            }
            next += units.len() as u64;
            let message = units.iter().find(|unit| **unit != Unit::PADDING);
            if let Some(offset) = message.map(|unit| unit.physical_offset) {
                return (offset < until).then_some(offset);
            }
        }
        Some(first)
    }

    /// What of the messages that retention took, so many of each queue, `readers` had not consumed.
    pub(crate) fn unconsumed(
        &self,
        readers: Vec<Reader>,
        removed: &[(TopicName, QueueId, u64)],
    ) -> Vec<Unconsumed> {
        let gone = removed.iter().filter_map(|(topic, queue_id, count)| {
            let (min, _) = self.queues.get(topic, *queue_id)?.range();
            Some(((topic, *queue_id), min.saturating_sub(*count)..min))
        });
        let gone: HashMap<_, _> = gone.collect();
        let lost = readers.into_iter().filter_map(|reader| {
            let range = gone.get(&(&reader.topic, reader.queue_id))?.clone();
            let from = reader.next.0.max(range.start);
            (from < range.end).then_some(Unconsumed {
                group: reader.group,
                topic: reader.topic,
                queue_id: reader.queue_id,
                from: QueueOffset(from),
                to: QueueOffset(range.end),
            })
        });
        lost.collect()
    }
}

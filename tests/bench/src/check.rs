//! Holds a history against what a broker gives back.
//!
//! The rules, each with a name of its own so that a broken broker is told apart from a broken test:
//! *lost* (an acknowledged message is not at the queue and offset it was acknowledged with), *duplicated* (a key stands
//! twice), *reordered* (one producer's messages of one queue stand in another order than it sent them one after the
//! other), *gap* (offsets of a queue are not dense), *changed* (a body is not what was sent), *invented* (a message that
//! nobody sent, or that the broker said it had not stored), *reused* (two answers named one place), *torn* (of a batch
//! something is there without what came before it, or with something else in between).

mod order;

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use crate::history::Event;

/// A message as the broker gave it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Unique key.
    pub key: String,
    /// Queue id.
    pub queue: u32,
    /// Queue offset.
    pub offset: u64,
    /// CRC32 of the body.
    pub crc: u32,
}

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// Acknowledged, but not there.
    Lost {
        /// The acknowledged message.
        key: String,
        /// Where it was acknowledged.
        queue: u32,
        /// Where it was acknowledged.
        offset: u64,
    },
    /// The same key at two places.
    Duplicated {
        /// The key.
        key: String,
        /// Both places as (queue, offset).
        places: [(u32, u64); 2],
    },
    /// `later` was sent after `earlier` had been answered, and stands before it.
    Reordered {
        /// Sent first.
        earlier: String,
        /// Sent second, stands first.
        later: String,
    },
    /// Offsets of a queue jump.
    Gap {
        /// The queue.
        queue: u32,
        /// The offset that should be there.
        expected: u64,
        /// The offset that is there.
        found: u64,
    },
    /// The body differs.
    Changed {
        /// The key.
        key: String,
    },
    /// Nobody sent it, or it was refused.
    Invented {
        /// The key.
        key: String,
    },
    /// Two messages were acknowledged with one offset.
    Reused {
        /// The queue.
        queue: u32,
        /// The offset.
        offset: u64,
        /// Both messages.
        keys: [String; 2],
    },
    /// Two messages were acknowledged with one place in the log.
    ReusedPlace {
        /// The place.
        physical: u64,
        /// Both messages.
        keys: [String; 2],
    },
    /// A message of a batch is there without the one before it at the offset before it.
    Torn {
        /// First message of the batch that was sent.
        first: String,
        /// The message that stands alone.
        key: String,
    },
    /// Was given back after one restart and is not there any more after a later one.
    Vanished {
        /// The key.
        key: String,
    },
    /// Was not there after one restart and is there after a later one.
    Returned {
        /// The key.
        key: String,
    },
    /// `kept` is there though it stands in the log behind `lost`, which is not.
    Hole {
        /// The lost message.
        lost: String,
        /// The one that is there.
        kept: String,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { key, queue, offset } => write!(
                f,
                "lost: {key}, acknowledged at queue {queue} offset {offset}"
            ),
            Self::Duplicated { key, places } => write!(f, "duplicated: {key} at {places:?}"),
            Self::Reordered { earlier, later } => write!(
                f,
                "reordered: {later} stands before {earlier}, sent after it"
            ),
            Self::Gap {
                queue,
                expected,
                found,
            } => write!(f, "gap: queue {queue} jumps from {expected} to {found}"),
            Self::Changed { key } => write!(f, "changed: the body of {key} is not what was sent"),
            Self::Invented { key } => write!(f, "invented: {key} was not sent, or was refused"),
            Self::Reused {
                queue,
                offset,
                keys: [one, other],
            } => write!(
                f,
                "reused: {one} and {other} were both acknowledged at queue {queue} offset {offset}"
            ),
            Self::ReusedPlace {
                physical,
                keys: [one, other],
            } => write!(
                f,
                "reused: {one} and {other} were both acknowledged at {physical} of the log"
            ),
            Self::Torn { first, key } => {
                write!(f, "torn: {key} of the batch of {first} stands alone")
            }
            Self::Vanished { key } => {
                write!(f, "vanished: {key} was there after an earlier restart")
            }
            Self::Returned { key } => {
                write!(f, "returned: {key} was not there after an earlier restart")
            }
            Self::Hole { lost, kept } => {
                write!(
                    f,
                    "hole: {kept} is there, {lost} before it in the log is not"
                )
            }
        }
    }
}

/// Counts and broken rules of one check.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Messages that were sent.
    pub sent: usize,
    /// Messages that were acknowledged with `SEND_OK`.
    pub acked: usize,
    /// Messages whose outcome the producer does not know.
    pub unknown: usize,
    /// Of these, how many are there.
    pub unknown_stored: usize,
    /// Messages that the broker gave back.
    pub found: usize,
    /// Broken rules; empty is what one wants.
    pub violations: Vec<Violation>,
}

#[derive(Default)]
struct Sent<'a> {
    producer: u32,
    sequence: u64,
    crc: u32,
    acked: Option<(u32, u64)>,
    physical: Option<u64>,
    refused: bool,
    batch: Option<u64>,
    key: &'a str,
}

/// Checks `found` (every message of the topic, any order) against `history`.
///
/// `first` gives each queue's first offset that retention has left; a queue that is not named starts at 0.
pub fn check(history: &[Event], found: &[Found], first: &BTreeMap<u32, u64>) -> Verdict {
    let sent = collect(history);
    let mut verdict = Verdict {
        sent: sent.len(),
        found: found.len(),
        ..Verdict::default()
    };
    let mut places: HashMap<&str, &Found> = HashMap::with_capacity(found.len());
    for message in found {
        if let Some(other) = places.insert(&message.key, message) {
            let places = [(other.queue, other.offset), (message.queue, message.offset)];
            verdict.violations.push(Violation::Duplicated {
                key: message.key.clone(),
                places,
            });
        }
        match sent.get(message.key.as_str()) {
            Some(known) if known.crc != message.crc => {
                verdict.violations.push(Violation::Changed {
                    key: message.key.clone(),
                });
            }
            Some(known) if !known.refused => {}
            _ => verdict.violations.push(Violation::Invented {
                key: message.key.clone(),
            }),
        }
    }
    for message in sent.values() {
        match message.acked {
            Some((queue, offset)) => {
                verdict.acked += 1;
                let gone = first.get(&queue).is_some_and(|first| offset < *first);
                let there = places
                    .get(message.key)
                    .is_some_and(|found| (found.queue, found.offset) == (queue, offset));
                if !there && !gone {
                    verdict.violations.push(Violation::Lost {
                        key: message.key.to_owned(),
                        queue,
                        offset,
                    });
                }
            }
            None if !message.refused => {
                verdict.unknown += 1;
                verdict.unknown_stored += usize::from(places.contains_key(message.key));
            }
            None => {}
        }
    }
    order::dense(found, first, &mut verdict.violations);
    order::ordered(&sent, found, &mut verdict.violations);
    order::used_once(&sent, &mut verdict.violations);
    order::whole(&sent, &places, first, &mut verdict.violations);
    verdict
}

fn collect(history: &[Event]) -> HashMap<&str, Sent<'_>> {
    let mut sent: HashMap<&str, Sent<'_>> = HashMap::new();
    for event in history {
        match event {
            Event::Sent {
                key,
                producer,
                sequence,
                crc,
                batch,
                ..
            } => {
                let known = Sent {
                    producer: *producer,
                    sequence: *sequence,
                    crc: *crc,
                    batch: *batch,
                    key,
                    ..Sent::default()
                };
                sent.insert(key, known);
            }
            Event::Acked {
                key,
                queue,
                offset,
                physical,
                ..
            } => {
                if let Some(known) = sent.get_mut(key.as_str()) {
                    known.acked = Some((*queue, *offset));
                    known.physical = *physical;
                }
            }
            Event::Refused { key, .. } => {
                if let Some(known) = sent.get_mut(key.as_str()) {
                    known.refused = true;
                }
            }
            Event::Unknown { .. } => {}
        }
    }
    sent
}

#[cfg(test)]
mod tests;

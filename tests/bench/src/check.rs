//! Holds a history against what a broker gives back.
//!
//! The rules, each with a name of its own so that a broken broker is told apart from a broken test:
//! *lost* (an acknowledged message is not at the queue and offset it was acknowledged with), *duplicated* (a key stands
//! twice), *reordered* (one producer's messages of one queue stand in another order than it sent them one after the
//! other), *gap* (offsets of a queue are not dense), *changed* (a body is not what was sent), *invented* (a message that
//! nobody sent, or that the broker said it had not stored).

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
    refused: bool,
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
    dense(found, first, &mut verdict.violations);
    ordered(&sent, found, &mut verdict.violations);
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
                ..
            } => {
                let known = Sent {
                    producer: *producer,
                    sequence: *sequence,
                    crc: *crc,
                    key,
                    ..Sent::default()
                };
                sent.insert(key, known);
            }
            Event::Acked { key, queue, offset } => {
                if let Some(known) = sent.get_mut(key.as_str()) {
                    known.acked = Some((*queue, *offset));
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

fn dense(found: &[Found], first: &BTreeMap<u32, u64>, violations: &mut Vec<Violation>) {
    let mut queues: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for message in found {
        queues
            .entry(message.queue)
            .or_default()
            .push(message.offset);
    }
    for (queue, mut offsets) in queues {
        offsets.sort_unstable();
        let mut expected = first.get(&queue).copied().unwrap_or(0);
        for found in offsets {
            if found != expected {
                violations.push(Violation::Gap {
                    queue,
                    expected,
                    found,
                });
            }
            expected = found + 1;
        }
    }
}

/// A producer that waits for each answer has its messages in order; one that pipelines has no order to lose, and its
/// events carry sequence numbers that only rise when the previous answer was in.
fn ordered(sent: &HashMap<&str, Sent<'_>>, found: &[Found], violations: &mut Vec<Violation>) {
    /// One message of a lane: offset, place in the order of sending, key.
    type Place<'a> = (u64, u64, &'a str);
    let mut lanes: BTreeMap<(u32, u32), Vec<Place<'_>>> = BTreeMap::new();
    for message in found {
        if let Some(known) = sent.get(message.key.as_str()) {
            let lane = lanes.entry((known.producer, message.queue)).or_default();
            lane.push((message.offset, known.sequence, known.key));
        }
    }
    for lane in lanes.values_mut() {
        lane.sort_unstable();
        for pair in lane.windows(2) {
            if let [(_, first, later), (_, second, earlier)] = pair
                && second < first
            {
                violations.push(Violation::Reordered {
                    earlier: (*earlier).to_owned(),
                    later: (*later).to_owned(),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> Vec<Event> {
        let mut events = Vec::new();
        for n in 0..4_u32 {
            let key = format!("k{n}");
            events.push(Event::Sent {
                key: key.clone(),
                producer: 0,
                sequence: u64::from(n),
                queue: 0,
                crc: n,
            });
            match n {
                0..=2 => events.push(Event::Acked {
                    key,
                    queue: 0,
                    offset: u64::from(n),
                }),
                _ => events.push(Event::Unknown {
                    key,
                    why: "connection lost".into(),
                }),
            }
        }
        events.push(Event::Sent {
            key: "r".into(),
            producer: 0,
            sequence: 4,
            queue: 0,
            crc: 9,
        });
        events.push(Event::Refused {
            key: "r".into(),
            why: "2 busy".into(),
        });
        events
    }

    fn stored(offsets: &[(u32, u64)]) -> Vec<Found> {
        offsets
            .iter()
            .map(|(n, offset)| Found {
                key: format!("k{n}"),
                queue: 0,
                offset: *offset,
                crc: *n,
            })
            .collect()
    }

    fn violations(found: &[Found]) -> Vec<Violation> {
        check(&history(), found, &BTreeMap::new()).violations
    }

    #[test]
    fn a_whole_history_passes_with_and_without_the_unknown_message() {
        assert_eq!(violations(&stored(&[(0, 0), (1, 1), (2, 2)])), []);
        let verdict = check(
            &history(),
            &stored(&[(0, 0), (1, 1), (2, 2), (3, 3)]),
            &BTreeMap::new(),
        );
        assert!(verdict.violations.is_empty());
        assert_eq!(
            (verdict.acked, verdict.unknown, verdict.unknown_stored),
            (3, 1, 1)
        );
    }

    #[test]
    fn a_missing_acknowledged_message_is_lost() {
        let found = stored(&[(0, 0), (1, 1)]);
        assert_eq!(
            violations(&found),
            [Violation::Lost {
                key: "k2".into(),
                queue: 0,
                offset: 2
            }]
        );
    }

    #[test]
    fn an_acknowledged_message_at_another_offset_is_lost_and_leaves_a_gap() {
        let found = stored(&[(0, 0), (1, 1), (2, 3)]);
        assert!(violations(&found).contains(&Violation::Lost {
            key: "k2".into(),
            queue: 0,
            offset: 2
        }));
        assert!(violations(&found).contains(&Violation::Gap {
            queue: 0,
            expected: 2,
            found: 3
        }));
    }

    #[test]
    fn a_key_that_stands_twice_is_duplicated() {
        let found = stored(&[(0, 0), (1, 1), (2, 2), (2, 3)]);
        assert!(
            violations(&found)
                .iter()
                .any(|v| matches!(v, Violation::Duplicated { key, .. } if key == "k2"))
        );
    }

    #[test]
    fn swapped_messages_are_reordered() {
        let found = stored(&[(1, 0), (0, 1), (2, 2)]);
        assert!(violations(&found).contains(&Violation::Reordered {
            earlier: "k0".into(),
            later: "k1".into()
        }));
    }

    #[test]
    fn another_body_is_changed() {
        let mut found = stored(&[(0, 0), (1, 1), (2, 2)]);
        found[1].crc = 77;
        assert_eq!(
            violations(&found),
            [Violation::Changed { key: "k1".into() }]
        );
    }

    #[test]
    fn a_refused_or_unknown_key_is_invented() {
        let mut found = stored(&[(0, 0), (1, 1), (2, 2)]);
        found.push(Found {
            key: "r".into(),
            queue: 0,
            offset: 3,
            crc: 9,
        });
        assert_eq!(
            violations(&found),
            [Violation::Invented { key: "r".into() }]
        );
    }

    #[test]
    fn what_retention_removed_is_not_lost() {
        let found = stored(&[(1, 1), (2, 2)]);
        assert_eq!(
            check(&history(), &found, &BTreeMap::from([(0, 1)])).violations,
            []
        );
    }
}

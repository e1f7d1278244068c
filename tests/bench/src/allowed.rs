//! What a check lets through: acknowledged messages that went with the end of a log, where the modes of a group allow that, and
//! the copies of a producer that tries again by itself.

use std::collections::{HashMap, HashSet};
use std::str::FromStr;

use crate::check::{Found, Verdict, Violation};
use crate::history::Event;

/// Acknowledged messages of one run that may be lost: those in a range of a log that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MayLose {
    /// The run that sent them.
    pub run: String,
    /// Where the end began that was cut off: physical offset.
    pub from: u64,
    /// Where it ended: physical offset, not included.
    pub to: u64,
    /// They were acknowledged before this time, in microseconds since 1970. What was acknowledged later has its place in the log
    /// that went on without that end.
    pub before_us: u64,
}

/// A text that names no [`MayLose`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotARange(String);

impl std::fmt::Display for NotARange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(text) = self;
        write!(
            f,
            "`{text}` is not RUN:FROM-TO@BEFORE with physical offsets and microseconds since 1970"
        )
    }
}

impl std::error::Error for NotARange {}

impl FromStr for MayLose {
    type Err = NotARange;

    fn from_str(text: &str) -> Result<Self, NotARange> {
        let parse = || {
            let (run, rest) = text.rsplit_once(':')?;
            let (range, before_us) = rest.split_once('@')?;
            let (from, to) = range.split_once('-')?;
            Some(Self {
                run: run.to_owned(),
                from: from.parse().ok()?,
                to: to.parse().ok()?,
                before_us: before_us.parse().ok()?,
            })
        };
        parse().ok_or_else(|| NotARange(text.to_owned()))
    }
}

impl MayLose {
    fn covers(&self, key: &str, physical: u64, at_us: u64) -> bool {
        let is_of_run = key
            .strip_prefix(&self.run)
            .is_some_and(|rest| rest.starts_with('-'));
        is_of_run && (self.from..self.to).contains(&physical) && at_us < self.before_us
    }
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Allowed {
    /// What may be lost.
    pub losses: Vec<MayLose>,
    /// The producer sends a message again when it is in doubt, as RocketMQ's clients do: it may be there more than once, and a
    /// copy that was not acknowledged stands anywhere.
    pub retried: bool,
}

/// What a history says of an acknowledged message.
struct Acked {
    place: (u32, u64),
    physical: Option<u64>,
    at_us: Option<u64>,
}

impl Allowed {
    /// Takes what may be out of the broken rules; returns how many acknowledged messages were lost as allowed.
    pub fn forgive(&self, events: &[Event], found: &[Found], verdict: &mut Verdict) -> usize {
        let acked = acknowledged(events);
        if self.retried {
            forgive_copies(&acked, found, verdict);
        }
        let may_be_lost = |key: &str| {
            let Some(Acked {
                physical: Some(physical),
                at_us: Some(at_us),
                ..
            }) = acked.get(key)
            else {
                return false;
            };
            let mut losses = self.losses.iter();
            losses.any(|loss| loss.covers(key, *physical, *at_us))
        };
        let lost: HashSet<String> = verdict
            .violations
            .iter()
            .filter_map(|broken| match broken {
                Violation::Lost { key, .. } if may_be_lost(key) => Some(key.clone()),
                _ => None,
            })
            .collect();
        // Who comes after a lost message gets its places.
        verdict.violations.retain(|broken| match broken {
            Violation::Lost { key, .. } => !lost.contains(key),
            Violation::Reused { keys, .. } | Violation::ReusedPlace { keys, .. } => {
                !keys.iter().any(|key| lost.contains(key))
            }
            _ => true,
        });
        lost.len()
    }
}

fn acknowledged(events: &[Event]) -> HashMap<&str, Acked> {
    let acked = events.iter().filter_map(|event| match event {
        Event::Acked {
            key,
            queue,
            offset,
            physical,
            at_us,
        } => {
            let acked = Acked {
                place: (*queue, *offset),
                physical: *physical,
                at_us: *at_us,
            };
            Some((key.as_str(), acked))
        }
        _ => None,
    });
    acked.collect()
}

/// Of a message that was sent more than once the acknowledged copy has to be there, in its order; no other one has to.
fn forgive_copies(acked: &HashMap<&str, Acked>, found: &[Found], verdict: &mut Verdict) {
    let mut copies: HashMap<&str, Vec<(u32, u64)>> = HashMap::new();
    for message in found {
        let places = copies.entry(&message.key).or_default();
        places.push((message.queue, message.offset));
    }
    let places = |key: &str| copies.get(key).map_or(&[][..], Vec::as_slice);
    let has_stray = |key: &str| places(key).len() > 1 || !acked.contains_key(key);
    verdict.violations.retain(|broken| match broken {
        Violation::Duplicated { .. } => false,
        Violation::Lost { key, .. } => acked
            .get(key.as_str())
            .is_none_or(|acked| !places(key).contains(&acked.place)),
        Violation::Reordered { earlier, later } => !has_stray(earlier) && !has_stray(later),
        _ => true,
    });
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::check::check;

    /// Messages `run-0` to `run-3` of one lane, acknowledged at offsets 0 to 3, bytes 0, 100, 200 and 300, and times 10 to 13.
    fn events() -> Vec<Event> {
        (0..4_u32).flat_map(|n| [sent(n), acked(n, n)]).collect()
    }

    fn sent(n: u32) -> Event {
        Event::Sent {
            key: format!("run-{n}"),
            producer: 0,
            sequence: u64::from(n),
            queue: 0,
            crc: n,
            batch: None,
        }
    }

    fn acked(n: u32, offset: u32) -> Event {
        Event::Acked {
            key: format!("run-{n}"),
            queue: 0,
            offset: u64::from(offset),
            physical: Some(u64::from(offset) * 100),
            at_us: Some(u64::from(n) + 10),
        }
    }

    fn found(at: &[(u32, u64)]) -> Vec<Found> {
        let found = at.iter().map(|(n, offset)| Found {
            key: format!("run-{n}"),
            queue: 0,
            offset: *offset,
            crc: *n,
        });
        found.collect()
    }

    /// How many were lost as allowed, and what is left.
    fn judge(allowed: &Allowed, events: &[Event], at: &[(u32, u64)]) -> (usize, Vec<Violation>) {
        let found = found(at);
        let mut verdict = check(events, &found, &BTreeMap::new());
        let lost = allowed.forgive(events, &found, &mut verdict);
        (lost, verdict.violations)
    }

    fn losing(loss: &str) -> Allowed {
        Allowed {
            losses: vec![loss.parse().unwrap()],
            retried: false,
        }
    }

    #[test]
    fn an_end_that_may_be_lost_is_counted_and_its_places_are_used_again() {
        let mut events = events();
        // Two that a later master took, where the lost ones had been.
        events.extend([sent(4), acked(4, 2), sent(5), acked(5, 3)]);
        let allowed = losing("run:200-400@14");
        let kept = [(0, 0), (1, 1), (4, 2), (5, 3)];
        assert_eq!(judge(&allowed, &events, &kept), (2, vec![]));
        let (lost, broken) = judge(&Allowed::default(), &events, &kept);
        assert_eq!((lost, broken.len()), (0, 6), "{broken:?}");
    }

    #[test]
    fn what_is_outside_of_the_range_the_time_or_the_run_is_lost() {
        for other in [
            "run:201-400@14",
            "run:200-300@14",
            "run:200-400@13",
            "ru:200-400@14",
            "run-2:200-400@14",
        ] {
            let (_, broken) = judge(&losing(other), &events(), &[(0, 0), (1, 1)]);
            assert!(!broken.is_empty(), "{other}");
        }
        assert_eq!(
            judge(&losing("run:200-400@14"), &events(), &[(0, 0), (1, 1)]),
            (2, vec![])
        );
    }

    #[test]
    fn one_whose_place_in_the_log_is_not_known_is_not_forgiven() {
        let mut events = events();
        for event in &mut events {
            if let Event::Acked { physical, .. } = event {
                *physical = None;
            }
        }
        let (lost, broken) = judge(&losing("run:0-400@14"), &events, &[(0, 0)]);
        assert_eq!((lost, broken.len()), (0, 3));
    }

    #[test]
    fn a_producer_that_tries_again_may_store_twice_and_not_lose_what_it_acknowledged() {
        let retried = Allowed {
            losses: Vec::new(),
            retried: true,
        };
        // The first copy of 1 was not acknowledged, nor was a late one of 0.
        let events = [
            [sent(0), acked(0, 0)],
            [sent(1), acked(1, 2)],
            [sent(2), acked(2, 3)],
        ]
        .concat();
        let twice = [(0, 0), (1, 1), (1, 2), (2, 3), (0, 4)];
        assert_eq!(judge(&retried, &events, &twice), (0, vec![]));
        assert!(!judge(&Allowed::default(), &events, &twice).1.is_empty());
        let elsewhere = [(0, 0), (1, 1), (2, 2)];
        let (_, broken) = judge(&retried, &events, &elsewhere);
        assert_eq!(broken.len(), 2, "{broken:?}");
        // Two that were acknowledged and stand in the wrong order are no copies.
        let swapped = [[sent(0), acked(0, 1)], [sent(1), acked(1, 0)]].concat();
        let (_, broken) = judge(&retried, &swapped, &[(1, 0), (0, 1)]);
        assert!(
            matches!(broken[..], [Violation::Reordered { .. }]),
            "{broken:?}"
        );
    }

    #[test]
    fn a_range_is_read_as_it_is_written_and_anything_else_is_refused() {
        let loss: MayLose = "inside-0:4096-8192@1790000000000000".parse().unwrap();
        let expected = MayLose {
            run: "inside-0".into(),
            from: 4096,
            to: 8192,
            before_us: 1_790_000_000_000_000,
        };
        assert_eq!(loss, expected);
        for wrong in [
            "",
            "run",
            "run:1-2",
            "run:1@2",
            "run:a-2@3",
            "run:1-2@x",
            "1-2@3",
        ] {
            assert!(wrong.parse::<MayLose>().is_err(), "{wrong}");
        }
    }
}

//! The checker over several stops of one store: after each restart everything is read and held against all that was
//! sent so far. Beside the rules of [`crate::check`]: what was given back once stays (*vanished*), what was gone once
//! stays gone (*returned*), and where a stop may cost the end of the log, it costs an end and no more (*hole*).

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::check::{self, Found, Verdict, Violation};
use crate::history::{self, Event};

/// What the stop before a look may have cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nothing that was acknowledged.
    Nothing,
    /// Of what was acknowledged at or after this time (microseconds since 1970): an end of the log.
    EndSince(u64),
}

/// What a look found.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Counts and broken rules.
    pub verdict: Verdict,
    /// Acknowledged messages that are gone, as [`Loss::EndSince`] allows.
    pub lost: usize,
    /// When the first of them was acknowledged, in microseconds since 1970.
    pub lost_since_us: Option<u64>,
}

/// All that was sent to one topic, and what earlier looks have found.
#[derive(Debug, Default)]
pub struct Audit {
    events: Vec<Event>,
    /// Given back by the last look.
    seen: HashSet<String>,
    /// Sent, and not given back by some look.
    gone: HashSet<String>,
    /// Acknowledged and lost by a stop that may lose.
    forgiven: HashSet<String>,
}

impl Audit {
    /// Adds the history of one run.
    pub fn add(&mut self, run: Vec<Event>) {
        history::append(&mut self.events, run);
    }

    /// Checks what the restarted broker gives back; `first` as for [`check::check`]. Nothing may be sent meanwhile.
    pub fn look(&mut self, found: &[Found], first: &BTreeMap<u32, u64>, loss: Loss) -> Outcome {
        let mut outcome = Outcome {
            verdict: check::check(&self.events, found, first),
            ..Outcome::default()
        };
        if let Loss::EndSince(since_us) = loss {
            self.forgive(since_us, found, &mut outcome);
        }
        let forgiven = &self.forgiven;
        outcome.verdict.violations.retain(|broken| match broken {
            Violation::Lost { key, .. } => !forgiven.contains(key),
            Violation::Reused { keys, .. } | Violation::ReusedPlace { keys, .. } => {
                !keys.iter().any(|key| forgiven.contains(key))
            }
            _ => true,
        });
        self.compare(found, first, &mut outcome.verdict.violations);
        outcome
    }

    /// Forgives losses that the stop may have made.
    fn forgive(&mut self, since_us: u64, found: &[Found], outcome: &mut Outcome) {
        let acked: HashMap<&str, (Option<u64>, Option<u64>)> = self
            .events
            .iter()
            .filter_map(|event| match event {
                Event::Acked {
                    key,
                    physical,
                    at_us,
                    ..
                } => Some((key.as_str(), (*physical, *at_us))),
                _ => None,
            })
            .collect();
        let mut first_lost: Option<(u64, String)> = None;
        for broken in &outcome.verdict.violations {
            let Violation::Lost { key, .. } = broken else {
                continue;
            };
            let &(physical, at_us) = acked.get(key.as_str()).unwrap_or(&(None, None));
            if self.forgiven.contains(key) || at_us.is_none_or(|at_us| at_us < since_us) {
                continue;
            }
            self.forgiven.insert(key.clone());
            outcome.lost += 1;
            outcome.lost_since_us = [outcome.lost_since_us, at_us].into_iter().flatten().min();
            if let Some(physical) = physical
                && first_lost
                    .as_ref()
                    .is_none_or(|(first, _)| physical < *first)
            {
                first_lost = Some((physical, key.clone()));
            }
        }
        let Some((first_lost, lost)) = first_lost else {
            return;
        };
        let behind = found
            .iter()
            .filter(|message| !self.forgiven.contains(&message.key))
            .find(|message| {
                acked
                    .get(message.key.as_str())
                    .and_then(|(physical, _)| *physical)
                    .is_some_and(|physical| physical > first_lost)
            });
        if let Some(behind) = behind {
            outcome.verdict.violations.push(Violation::Hole {
                lost,
                kept: behind.key.clone(),
            });
        }
    }

    /// Holds this look against those before and remembers it.
    fn compare(
        &mut self,
        found: &[Found],
        first: &BTreeMap<u32, u64>,
        violations: &mut Vec<Violation>,
    ) {
        let removed = first.values().any(|first| *first > 0);
        let now: HashSet<String> = found.iter().map(|message| message.key.clone()).collect();
        for key in &now {
            if self.gone.contains(key) {
                violations.push(Violation::Returned { key: key.clone() });
            }
        }
        // Where retention removes files, an earlier message may rightly be gone.
        for key in self
            .seen
            .iter()
            .filter(|key| !removed && !now.contains(*key))
        {
            violations.push(Violation::Vanished { key: key.clone() });
        }
        for event in &self.events {
            if let Event::Sent { key, .. } = event
                && !now.contains(key)
            {
                self.gone.insert(key.clone());
            }
        }
        self.seen = now;
    }
}

#[cfg(test)]
mod tests;

//! Where a start without anything begins: the last whole snapshot, looked for from the end of the queue on.

use std::collections::{BTreeMap, HashMap};

use rocket_store::QueueEnd;

use super::cache::Base;
use super::change::{Change, Part};
use super::ends::QueueEnds;
use super::log::{ChangeLog, entries};
use super::state::State;

/// Queue offsets that are looked at together.
const WINDOW: i64 = 256;

/// A whole snapshot that was found.
pub(super) struct Found {
    pub(super) state: State,
    pub(super) base: Base,
    /// Where queues go on.
    pub(super) ends: Vec<QueueEnd>,
}

/// The last snapshot all of whose parts are visible and wanted.
pub(super) fn find_snapshot(log: &ChangeLog, is_wanted: impl Fn(&Part) -> bool) -> Option<Found> {
    let range = log.range()?;
    let (min, max) = (range.min.to_wire(), range.max.to_wire());
    let mut found: HashMap<u64, BTreeMap<u32, Part>> = HashMap::new();
    let mut end = max;
    while end > min {
        let begin = (end - WINDOW).max(min);
        let between = parts_between(log, begin, end);
        for part in between.into_iter().rev().filter(&is_wanted) {
            let Part {
                id,
                at,
                physical,
                of,
                ..
            } = part;
            let base = Base {
                at,
                physical,
                has_ends: part.queues.is_some(),
            };
            let parts = found.entry(id).or_default();
            parts.insert(part.number, part);
            if parts.len() < of as usize {
                continue;
            }
            if at < min {
                tracing::error!(
                    at,
                    min,
                    "changes behind the last snapshot of metadata are not in the log any more"
                );
            }
            let (mut state, mut ends) = (State::default(), Vec::new());
            for part in found.remove(&id).unwrap_or_default().into_values() {
                state.add(part.content);
                ends.extend(part.queues.iter().flat_map(QueueEnds::iter));
            }
            return Some(Found { state, base, ends });
        }
        end = begin;
    }
    None
}

fn parts_between(log: &ChangeLog, begin: i64, end: i64) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut next = begin;
    while next < end {
        let Some(result) = log.read(next) else {
            return parts;
        };
        let before = next;
        for entry in entries(&result) {
            next = entry.mark.offset + 1;
            if let Ok(record) = entry.record
                && let Change::Part(part) = record.change
                && entry.mark.offset < end
            {
                parts.push(*part);
            }
        }
        if next == before {
            if result.next_begin <= next {
                return parts;
            }
            next = result.next_begin;
        }
    }
    parts
}

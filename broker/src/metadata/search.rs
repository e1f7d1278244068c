//! Where a start without anything begins: the last whole snapshot, looked for from the end of the queue on.

use std::collections::{BTreeMap, HashMap};

use super::cache::Base;
use super::change::{Change, Content, Part};
use super::log::{ChangeLog, entries};
use super::state::State;

/// Queue offsets that are looked at together.
const WINDOW: i64 = 256;

/// A whole snapshot that was found.
pub(super) struct Found {
    pub(super) state: State,
    pub(super) base: Base,
}

/// The last snapshot all of whose parts are visible.
pub(super) fn find_snapshot(log: &ChangeLog) -> Option<Found> {
    let range = log.range()?;
    let (min, max) = (range.min.to_wire(), range.max.to_wire());
    let mut found: HashMap<u64, BTreeMap<u32, Content>> = HashMap::new();
    let mut end = max;
    while end > min {
        let begin = (end - WINDOW).max(min);
        for part in parts_between(log, begin, end).into_iter().rev() {
            let Part {
                id,
                at,
                physical,
                number,
                of,
                content,
            } = part;
            let parts = found.entry(id).or_default();
            parts.insert(number, content);
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
            let mut state = State::default();
            for content in found.remove(&id).unwrap_or_default().into_values() {
                state.add(content);
            }
            let base = Base { at, physical };
            return Some(Found { state, base });
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

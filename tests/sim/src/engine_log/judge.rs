//! What queues show is what the log has.

use std::collections::BTreeMap;

use super::EngineLog;
use super::records::for_each_record;
use crate::log::{GroupLog as _, Mirror, ticket_of};
use crate::snapshots::Places;

/// Whether the records of a log have the places that follow from what lies before them.
pub(super) fn places(log: &[u8]) -> Result<(), String> {
    let mut places = Places::default();
    for_each_record(log, |view| {
        places.count(view.topic(), view.queue_id().0, view.queue_offset().0)
    })
}

impl EngineLog {
    /// I11 and I13 of docs/replication.md.
    pub(super) fn judge_queues(&self) -> Result<(), String> {
        let mut mirror = Mirror::default();
        self.refresh(&mut mirror);
        let mut expected: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
        for_each_record(&mirror.bytes, |view| {
            if view.topic() == self.metadata.as_str() {
                return Ok(());
            }
            let ticket = ticket_of(view.body()).ok_or("a record that nobody sent")?;
            let queue = expected.entry(u64::from(view.queue_id().0)).or_default();
            queue.push((view.queue_offset().0, ticket));
            Ok(())
        })?;
        for (queue, records) in expected {
            let first = if mirror.min == 0 {
                0
            } else {
                self.first(queue)
            };
            let dense = records.iter().zip(first..).all(|((at, _), n)| *at == n);
            if !dense {
                return Err(format!(
                    "I11: queue {queue} begins at {first}, and of the log it has offsets {records:?}"
                ));
            }
            let mut read = Vec::new();
            loop {
                let seen = self.read(queue, first + read.len() as u64);
                if seen.is_empty() {
                    break;
                }
                read.extend(seen.iter().map(|s| (s.offset, s.ticket)));
            }
            if read != records {
                return Err(format!(
                    "I13: queue {queue} shows {read:?}, the log has {records:?}"
                ));
            }
        }
        match self.engine.stats().messages_misplaced {
            0 => Ok(()),
            count => Err(format!("I11: {count} messages have the places of others")),
        }
    }
}

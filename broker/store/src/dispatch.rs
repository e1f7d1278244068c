//! From a record of the log to what follows from it: its place in a queue, its keys in the index, its arrival. Pure.

use rocket_protocol::message::hash::{IndexPrefix, tags_code};
use rocket_protocol::message::{RecordFacts, TransactionState, property};
use rocket_protocol::name::system_topic;
use rocket_protocol::{RecordView, UnixMillis};

use crate::appender::is_queued;
use crate::unit::Unit;

/// The unit of a record in its queue; `None` for records that have no place in one.
pub(crate) fn unit_of(
    view: &RecordView<'_>,
    facts: &RecordFacts<'_>,
    delay_levels_ms: &[u64],
) -> Option<Unit> {
    is_queued(view.sys_flag()).then(|| Unit {
        physical_offset: view.physical_offset().0,
        size: u32::try_from(view.len()).unwrap_or(u32::MAX),
        tags_code: tags_code_of(view, facts, delay_levels_ms),
    })
}

/// The hash of the tags; for a message that waits for a delay level the time of its delivery
/// (`CommitLog.checkMessageAndReturnSize`).
fn tags_code_of(view: &RecordView<'_>, facts: &RecordFacts<'_>, delay_levels_ms: &[u64]) -> i64 {
    let level = facts
        .delay
        .filter(|_| view.topic() == system_topic::SCHEDULE);
    let level: Option<usize> = level
        .and_then(|level| level.parse().ok())
        .filter(|&level| level > 0);
    match level {
        Some(level) => {
            let delay = delay_levels_ms
                .get(level.min(delay_levels_ms.len()).saturating_sub(1))
                .copied()
                .unwrap_or(1000);
            view.store_timestamp().0.saturating_add_unsigned(delay)
        }
        None => facts.tags.map_or(0, tags_code),
    }
}

/// Calls `each` with the hash of every key of a record: its unique key and the words of its KEYS. Rolled-back messages
/// are not indexed. `prefix` is that of the record's topic.
pub(crate) fn keys_of(
    view: &RecordView<'_>,
    facts: &RecordFacts<'_>,
    prefix: IndexPrefix,
    mut each: impl FnMut(i32),
) {
    if view.sys_flag().transaction() == TransactionState::Rollback {
        return;
    }
    if let Some(key) = facts.unique_key {
        each(prefix.key_hash(key));
    }
    facts
        .keys
        .unwrap_or_default()
        .split(' ')
        .filter(|word| !word.is_empty())
        .for_each(|word| each(prefix.key_hash(word)));
}

/// Whether a record found by the hash of `key` really carries it, and was stored within the times.
pub(crate) fn carries(
    view: &RecordView<'_>,
    topic: &str,
    key: &str,
    begin: UnixMillis,
    end: UnixMillis,
) -> bool {
    let has_key = view.property(property::UNIQ_KEY) == Some(key)
        || view
            .property(property::KEYS)
            .is_some_and(|keys| keys.split(' ').any(|word| word == key));
    view.topic() == topic && (begin..=end).contains(&view.store_timestamp()) && has_key
}

//! What retention asks the broker: who reads, and whether they still live. And what retention did: counted, and named.
//!
//! A group holds messages of a topic while it lives there: while a member that is connected subscribes to the topic, or
//! while its positions in the topic changed within `fileReservedTime`. A group that does neither is gone: it keeps its
//! positions and is told of in what it lost, but nothing waits for it. When this process began counts as a change, since
//! the time of the last one is not on disk. Groups that broadcast have no positions here and hold nothing.
//!
//! The broker reads too: what waits for its delivery time is needed until it is delivered.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rocket_protocol::name::system_topic;
use rocket_protocol::{GroupName, QueueId, QueueOffset, TopicName, UnixMillis};
use rocket_store::{Reader, Readers, RemovalReason, Removed, Unconsumed};

use crate::clients::{Clients, ConsumerGroup};
use crate::metadata::Metadata;
use crate::metrics::Metrics;

/// RocketMQ's name of who delivers delayed messages (`MixAll.SCHEDULE_CONSUMER_GROUP`).
const SCHEDULE_GROUP: &str = "SCHEDULE_CONSUMER";
/// Lines that one removal logs about groups.
const LINES_MAX: usize = 32;
/// Queues that such a line names.
const QUEUES_MAX: usize = 8;

/// Positions of one group in one topic, as last looked at.
#[derive(Debug, Clone, Copy)]
struct Seen {
    positions: u64,
    changed: UnixMillis,
}

/// See the module.
pub struct GroupReaders {
    metadata: Arc<Metadata>,
    clients: Arc<Clients>,
    levels: usize,
    /// After which silence a group is gone.
    silence: Duration,
    seen: Mutex<HashMap<TopicName, HashMap<GroupName, Seen>>>,
}

impl GroupReaders {
    /// `levels` of delay; a group is gone after `silence`.
    pub fn new(
        metadata: Arc<Metadata>,
        clients: Arc<Clients>,
        levels: usize,
        silence: Duration,
    ) -> Self {
        Self {
            metadata,
            clients,
            levels,
            silence,
            seen: Mutex::default(),
        }
    }

    /// Looks which positions changed since the last look. To be called every few seconds.
    pub fn observe(&self, now: UnixMillis) {
        let mut seen = self.seen.lock();
        let mut next: HashMap<TopicName, HashMap<GroupName, Seen>> = HashMap::new();
        self.metadata.offsets.each(|topic, group, queues| {
            let positions = queues.fold(0_u64, |sum, (queue, offset)| {
                // Any change of one position changes the sum; that two cancel out is not to be feared.
                sum.wrapping_add(
                    u64::try_from(offset)
                        .unwrap_or_default()
                        .wrapping_mul(2 * u64::from(queue.0) + 1),
                )
            });
            let known = seen.get(topic).and_then(|groups| groups.get(group));
            let changed = match known {
                Some(known) if known.positions == positions => known.changed,
                _ => now,
            };
            next.entry(topic.clone())
                .or_default()
                .insert(group.clone(), Seen { positions, changed });
        });
        *seen = next;
    }

    fn scheduled(&self) -> Vec<Reader> {
        let names = (
            GroupName::parse(SCHEDULE_GROUP),
            TopicName::parse(system_topic::SCHEDULE),
        );
        let (Ok(group), Ok(topic)) = names else {
            return Vec::new();
        };
        (0..self.levels)
            .filter_map(|queue| {
                let queue = i32::try_from(queue).ok()?;
                let next = self.metadata.delay.get(queue + 1);
                Some(Reader {
                    group: group.clone(),
                    topic: topic.clone(),
                    queue_id: QueueId::from_wire(queue)?,
                    next: QueueOffset::from_wire(next)?,
                    is_live: true,
                })
            })
            .collect()
    }
}

impl Readers for GroupReaders {
    fn readers(&self, now: UnixMillis) -> Vec<Reader> {
        self.observe(now);
        let silence = i64::try_from(self.silence.as_millis()).unwrap_or(i64::MAX);
        let mut readers = self.scheduled();
        let seen = self.seen.lock();
        let consumers = self.clients.consumers.read();
        self.metadata.offsets.each(|topic, group, queues| {
            let connected = consumers.group(group.as_str());
            if connected.is_some_and(ConsumerGroup::is_broadcasting) {
                return;
            }
            let subscribes =
                connected.is_some_and(|group| group.subscription(topic.as_str()).is_some());
            let changed = seen.get(topic).and_then(|groups| groups.get(group));
            // One that came since it was observed is as alive as can be.
            let is_live =
                subscribes || changed.is_none_or(|seen| now.since(seen.changed) <= silence);
            readers.extend(queues.filter_map(|(queue_id, next)| {
                Some(Reader {
                    group: group.clone(),
                    topic: topic.clone(),
                    queue_id,
                    next: QueueOffset::from_wire(next)?,
                    is_live,
                })
            }));
        });
        readers
    }
}

/// Counts what retention removed, and names the groups that had not consumed it.
pub fn tell(metrics: &Metrics, removed: &Removed) {
    let messages: u64 = removed.messages.iter().map(|(_, _, count)| count).sum();
    let reason = match removed.reason {
        RemovalReason::Expired => "expired",
        RemovalReason::ExpiredUnderPressure => "expired_disk",
        RemovalReason::Oversize => "oversize",
        RemovalReason::Forced => "disk_forced",
    };
    metrics.removed(reason, messages, removed.bytes);
    let lost = by_group(&removed.unconsumed);
    for (index, ((topic, group), queues)) in lost.iter().enumerate() {
        let count = queues.iter().map(|lost| lost.to.0 - lost.from.0).sum();
        metrics.unconsumed(topic.as_str(), group.as_str(), count);
        if index < LINES_MAX {
            let queues = ranges(queues);
            tracing::warn!(%group, %topic, messages = count, %queues, reason, "retention removed messages that a consumer group had not consumed");
        }
    }
    if lost.len() > LINES_MAX {
        let more = lost.len() - LINES_MAX;
        tracing::warn!(
            more,
            reason,
            "retention removed messages that more groups had not consumed; the metric names them"
        );
    }
}

type Lost<'a> = BTreeMap<(&'a TopicName, &'a GroupName), Vec<&'a Unconsumed>>;

fn by_group(unconsumed: &[Unconsumed]) -> Lost<'_> {
    let mut lost = Lost::new();
    for one in unconsumed {
        lost.entry((&one.topic, &one.group)).or_default().push(one);
    }
    lost
}

/// `queue:from..to` of the first ones.
fn ranges(queues: &[&Unconsumed]) -> String {
    let mut text = String::new();
    for one in queues.iter().take(QUEUES_MAX) {
        let space = if text.is_empty() { "" } else { " " };
        // Writing to a text does not fail.
        let _ = write!(text, "{space}{}:{}..{}", one.queue_id, one.from, one.to);
    }
    if queues.len() > QUEUES_MAX {
        let _ = write!(text, " and {} more queues", queues.len() - QUEUES_MAX);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BrokerConfig;

    const HOUR: i64 = 3_600_000;

    struct World {
        _dir: tempfile::TempDir,
        readers: GroupReaders,
    }

    fn world() -> World {
        let dir = tempfile::tempdir().unwrap();
        let metadata = Metadata::open(dir.path(), &BrokerConfig::default(), UnixMillis(0)).unwrap();
        let (metadata, clients) = (Arc::new(metadata), Arc::new(Clients::new()));
        let readers = GroupReaders::new(metadata, clients, 2, Duration::from_hours(72));
        World { _dir: dir, readers }
    }

    impl World {
        fn commit(&self, group: &str, offset: i64) {
            let (topic, group) = (
                TopicName::parse("t").unwrap(),
                GroupName::parse(group).unwrap(),
            );
            let offsets = &self.readers.metadata.offsets;
            assert!(offsets.commit(&topic, &group, QueueId(3), offset));
        }

        fn is_live(&self, group: &str, hours: i64) -> Option<bool> {
            let readers = self.readers.readers(UnixMillis(hours * HOUR));
            let found = readers.iter().find(|reader| reader.group.as_str() == group);
            found.map(|reader| reader.is_live)
        }
    }

    #[test]
    fn a_group_lives_as_long_after_its_last_commit_as_files_are_reserved() {
        let world = world();
        world.commit("g", 5);
        world.readers.observe(UnixMillis(0));
        assert_eq!(world.is_live("g", 72), Some(true));
        assert_eq!(world.is_live("g", 73), Some(false), "gone, and still named");
        world.commit("g", 6);
        assert_eq!(world.is_live("g", 74), Some(true));
        assert_eq!(world.is_live("g", 74 + 73), Some(false));
        assert_eq!(world.is_live("h", 0), None, "without a position");
    }

    #[test]
    fn what_waits_for_its_delivery_time_is_needed() {
        let world = world();
        world.readers.metadata.delay.set(2, 7);
        let readers = world.readers.readers(UnixMillis(0));
        let rows: Vec<_> = readers
            .iter()
            .map(|reader| {
                (
                    reader.topic.as_str(),
                    reader.queue_id.0,
                    reader.next.0,
                    reader.is_live,
                )
            })
            .collect();
        let topic = "SCHEDULE_TOPIC_XXXX";
        assert_eq!(rows, [(topic, 0, 0, true), (topic, 1, 7, true)]);
    }

    #[test]
    fn a_line_names_a_few_queues_and_counts_the_others() {
        let lost: Vec<_> = (0..10)
            .map(|queue| Unconsumed {
                group: GroupName::parse("g").unwrap(),
                topic: TopicName::parse("t").unwrap(),
                queue_id: QueueId(queue),
                from: QueueOffset(1),
                to: QueueOffset(4),
            })
            .collect();
        let lost: Vec<_> = lost.iter().collect();
        assert_eq!(ranges(&lost[..2]), "0:1..4 1:1..4");
        assert!(ranges(&lost).ends_with(" 7:1..4 and 2 more queues"));
    }
}

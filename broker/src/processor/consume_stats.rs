//! How far groups are: 202, 208, 303, 317.

use std::collections::BTreeMap;

use rocket_protocol::body::{
    BrokerConsumeStats, ConsumeOffset, ConsumeStats, QueryConsumeTimeSpan, QueueTable,
    QueueTimeSpan, TopicOffset, TopicStats,
};
use rocket_protocol::header::{
    GetBrokerConsumeStatsHeader, GetConsumeStatsHeader, GroupTopicHeader, TopicHeader,
};
use rocket_protocol::{Command, QueueId, QueueOffset, ResponseCode, TopicName, UnixMillis};

use super::BrokerProcessor;
use super::refusal::{Answer, Refusal, topic_name};

impl BrokerProcessor {
    pub(super) fn topic_stats(&self, request: &Command) -> Answer {
        let header: TopicHeader = request.header()?;
        let topic = topic_name(&header.topic)?;
        let Some(config) = self.deps.metadata.topics.get(topic.as_str()) else {
            return Err(Refusal::new(
                ResponseCode::TOPIC_NOT_EXIST,
                format!("topic[{topic}] not exist"),
            ));
        };
        let queues = config.write_queue_nums.max(config.read_queue_nums);
        let rows = queue_ids(queues).map(|queue| {
            let (min, max) = (
                self.queue_start(&topic, queue),
                self.queue_end(&topic, queue),
            );
            let row = TopicOffset {
                last_update_timestamp: self.store_time(&topic, queue, max - 1),
                max_offset: max,
                min_offset: min,
            };
            (self.message_queue(&topic, queue), row)
        });
        let stats = TopicStats {
            offset_table: rows.collect(),
            topic_put_tps: self.stats.topic_put_tps(topic.as_str()),
        };
        Ok(Command::response(ResponseCode::SUCCESS).with_body(stats.to_json()))
    }

    pub(super) fn consume_stats(&self, request: &Command) -> Answer {
        let header: GetConsumeStatsHeader = request.header()?;
        let group = &*header.consumer_group;
        let mut topics: Vec<TopicName> = match (
            header.topic_list.as_deref().unwrap_or_default(),
            header.topic.as_deref().unwrap_or_default(),
        ) {
            ("", "") => self.deps.metadata.offsets.topics_of(group),
            ("", topic) => vec![topic_name(topic)?],
            (list, _) => list
                .split(';')
                .filter_map(|topic| TopicName::parse(topic).ok())
                .collect(),
        };
        topics.sort();
        topics.dedup();
        let mut stats = ConsumeStats::default();
        for topic in topics {
            let one = self.consume_stats_of(&topic, group);
            stats.consume_tps += one.consume_tps;
            stats.offset_table.0.extend(one.offset_table.0);
        }
        Ok(Command::response(ResponseCode::SUCCESS).with_body(stats.to_json()))
    }

    fn consume_stats_of(&self, topic: &TopicName, group: &str) -> ConsumeStats {
        let Some(config) = self.deps.metadata.topics.get(topic.as_str()) else {
            return ConsumeStats::default();
        };
        let rows: QueueTable<ConsumeOffset> = queue_ids(config.read_queue_nums)
            .map(|queue| {
                let position = self
                    .deps
                    .metadata
                    .offsets
                    .position(topic.as_str(), group, queue);
                let consumed = position.committed.unwrap_or(0);
                let row = ConsumeOffset {
                    broker_offset: self.queue_end(topic, queue),
                    consumer_offset: consumed,
                    last_timestamp: self.store_time(topic, queue, consumed - 1),
                    pull_offset: consumed.max(position.pulled.unwrap_or(0)),
                };
                (self.message_queue(topic, queue), row)
            })
            .collect();
        ConsumeStats {
            consume_tps: self.stats.group_get_tps(topic.as_str(), group),
            offset_table: rows,
        }
    }

    pub(super) fn broker_consume_stats(&self, request: &Command) -> Answer {
        let header: GetBrokerConsumeStatsHeader = request.header()?;
        let mut all = BrokerConsumeStats {
            broker_addr: self.deps.identity.advertised.clone(),
            ..BrokerConsumeStats::default()
        };
        let groups = self.deps.metadata.groups.to_body();
        for group in groups.subscription_group_table.keys() {
            let mut list = Vec::new();
            for topic in self.deps.metadata.offsets.topics_of(group) {
                let is_ordered = self
                    .deps
                    .metadata
                    .topics
                    .get(topic.as_str())
                    .is_some_and(|topic| topic.order);
                if header.is_order && !is_ordered {
                    continue;
                }
                let stats = self.consume_stats_of(&topic, group);
                for row in stats.offset_table.0.values() {
                    // Positions are what clients say.
                    let behind = row.broker_offset.saturating_sub(row.consumer_offset);
                    let inflight = row.pull_offset.saturating_sub(row.consumer_offset);
                    all.total_diff = all.total_diff.saturating_add(behind);
                    all.total_inflight_diff = all.total_inflight_diff.saturating_add(inflight);
                }
                list.push(stats);
            }
            all.consume_stats_list
                .push(BTreeMap::from([(group.clone(), list)]));
        }
        Ok(Command::response(ResponseCode::SUCCESS).with_body(all.to_json()))
    }

    pub(super) fn consume_time_span(&self, request: &Command) -> Answer {
        let header: GroupTopicHeader = request.header()?;
        let topic = topic_name(header.topic.as_deref().unwrap_or_default())?;
        let Some(config) = self.deps.metadata.topics.get(topic.as_str()) else {
            return Err(Refusal::new(
                ResponseCode::TOPIC_NOT_EXIST,
                format!("topic[{topic}] not exist"),
            ));
        };
        let spans = queue_ids(config.write_queue_nums).map(|queue| {
            let max = self.queue_end(&topic, queue);
            let committed =
                self.deps
                    .metadata
                    .offsets
                    .committed(topic.as_str(), &header.group, queue);
            let min_time = self.deps.store.earliest_store_time(&topic, queue);
            let min_time = min_time.map_or(-1, |time| time.0);
            let consumed_time = match committed {
                Some(offset) if offset > 0 => self.store_time(&topic, queue, offset - 1),
                _ => min_time,
            };
            let delay = match committed {
                Some(offset) if offset < max => {
                    let stored = UnixMillis(self.store_time(&topic, queue, offset));
                    self.now().since(stored)
                }
                _ => 0,
            };
            QueueTimeSpan {
                consume_time_stamp: consumed_time,
                delay_time: delay,
                max_time_stamp: self.store_time(&topic, queue, max - 1),
                message_queue: self.message_queue(&topic, queue),
                min_time_stamp: min_time,
            }
        });
        let body = QueryConsumeTimeSpan {
            consume_time_span_set: spans.collect(),
        };
        Ok(Command::response(ResponseCode::SUCCESS).with_body(body.to_json()))
    }

    /// When the message at `offset` was stored; 0 where there is none.
    fn store_time(&self, topic: &TopicName, queue: QueueId, offset: i64) -> i64 {
        QueueOffset::from_wire(offset)
            .and_then(|offset| self.deps.store.store_time_at(topic, queue, offset))
            .map_or(0, |time| time.0)
    }
}

/// The queues of a topic that has `count` of them.
pub(super) fn queue_ids(count: i32) -> impl Iterator<Item = QueueId> {
    (0..u32::try_from(count).unwrap_or(0)).map(QueueId)
}

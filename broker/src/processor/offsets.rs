//! Positions of groups and ends of queues: 14, 15, 29, 30, 31, 32, 43, 222, 314.

use rocket_protocol::body::{MessageQueue, ResetOffset};
use rocket_protocol::header::{
    CloneGroupOffsetHeader, GetEarliestMsgStoretimeHeader, GetMaxOffsetHeader, GetMinOffsetHeader,
    OffsetResponseHeader, QueryConsumerOffsetHeader, ResetOffsetHeader, SearchOffsetHeader,
    TimestampResponseHeader, UpdateConsumerOffsetHeader,
};
use rocket_protocol::{
    Command, GroupName, QueueId, QueueOffset, ResponseCode, TopicName, UnixMillis,
};
use rocket_store::Boundary;

use super::BrokerProcessor;
use super::refusal::{Answer, Refusal, group_name, success, topic_name};

fn offset_answer(offset: i64) -> Command {
    Command::response(ResponseCode::SUCCESS).with_header(&OffsetResponseHeader { offset })
}

fn not_searched(error: &std::io::Error) -> Refusal {
    Refusal::system_error(format!("the queue cannot be searched by time now: {error}"))
}

fn queue_of(queue_id: i32) -> Result<QueueId, Refusal> {
    QueueId::from_wire(queue_id).ok_or_else(|| {
        Refusal::new(
            ResponseCode::INVALID_PARAMETER,
            format!("queueId[{queue_id}] is illegal"),
        )
    })
}

impl BrokerProcessor {
    /// A group without a position on a young queue begins at its start, so that what was sent before it came is not passed over.
    pub(super) fn query_consumer_offset(&self, request: &Command) -> Answer {
        let header: QueryConsumerOffsetHeader = request.header()?;
        let (topic, queue) = (topic_name(&header.topic)?, queue_of(header.queue_id)?);
        let committed =
            self.deps
                .metadata
                .offsets
                .committed(topic.as_str(), &header.consumer_group, queue);
        if let Some(offset) = committed {
            return Ok(offset_answer(offset));
        }
        let not_found = |remark: &str| Err(Refusal::new(ResponseCode::QUERY_NOT_FOUND, remark));
        if header.set_zero_if_not_found == Some(false) {
            return not_found("Not found, do not set to zero, maybe this group boot first");
        }
        if let Some(start) = self.start_of_young_queue(&topic, queue) {
            let is_in_memory = || self.deps.store.is_in_memory(&topic, queue, start);
            if self.reading(is_in_memory)? {
                return Ok(offset_answer(start.to_wire()));
            }
        }
        not_found("Not found, V3_0_6_SNAPSHOT maybe this group consumer boot first")
    }

    /// Where a queue starts of which no message has expired: at 0, or where its topic was made again.
    fn start_of_young_queue(&self, topic: &TopicName, queue: QueueId) -> Option<QueueOffset> {
        let start = self.queue_start(topic, queue);
        let is_whole = || {
            let hidden = self.deps.metadata.hidden_before(topic)?;
            Some(self.deps.store.positions().min < hidden)
        };
        let is_young = start <= 0 || is_whole() == Some(true);
        is_young.then(|| QueueOffset::from_wire(start)).flatten()
    }

    pub(super) fn update_consumer_offset(&self, request: &Command) -> Answer {
        let header: UpdateConsumerOffsetHeader = request.header()?;
        let group = &*header.consumer_group;
        if !self.deps.metadata.groups.contains(group) {
            return Err(Refusal::new(
                ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST,
                format!("Group {group} not exist!"),
            ));
        }
        let Some(topic) = self.deps.metadata.topics.name_of(&header.topic) else {
            return Err(Refusal::new(
                ResponseCode::TOPIC_NOT_EXIST,
                format!("Topic {} not exist!", header.topic),
            ));
        };
        let queue = queue_of(header.queue_id)?;
        if header.commit_offset < 0 {
            return Err(Refusal::new(
                ResponseCode::INVALID_PARAMETER,
                format!(
                    "Offset {} is negative, topic is {topic}",
                    header.commit_offset
                ),
            ));
        }
        let group = group_name(group)?;
        let offsets = &self.deps.metadata.offsets;
        self.check_queue(&topic, &group, queue)?;
        if offsets.commit(&topic, &group, queue, header.commit_offset) {
            success()
        } else {
            Ok(Command::response(ResponseCode::SUCCESS)
                .with_remark("Offset has been previously reset"))
        }
    }

    /// Refuses a position in a queue that is not there and never was, so that clients cannot fill the table with them.
    pub(super) fn check_queue(
        &self,
        topic: &TopicName,
        group: &GroupName,
        queue: QueueId,
    ) -> Result<(), Refusal> {
        let config = self.deps.metadata.topics.get(topic.as_str());
        let queues = config.map_or(0, |config| {
            config.read_queue_nums.max(config.write_queue_nums)
        });
        let offsets = &self.deps.metadata.offsets;
        if queue.to_wire() < queues
            || offsets
                .committed(topic.as_str(), group.as_str(), queue)
                .is_some()
            || self.deps.store.queue_range(topic, queue).is_some()
        {
            return Ok(());
        }
        Err(Refusal::new(
            ResponseCode::INVALID_PARAMETER,
            format!("queueId[{queue}] is illegal, topic {topic} has {queues} queues"),
        ))
    }

    pub(super) fn max_offset(&self, request: &Command) -> Answer {
        let header: GetMaxOffsetHeader = request.header()?;
        let (topic, queue) = (topic_name(&header.topic)?, queue_of(header.queue_id)?);
        Ok(offset_answer(self.queue_end(&topic, queue)))
    }

    pub(super) fn min_offset(&self, request: &Command) -> Answer {
        let header: GetMinOffsetHeader = request.header()?;
        let (topic, queue) = (topic_name(&header.topic)?, queue_of(header.queue_id)?);
        Ok(offset_answer(self.queue_start(&topic, queue)))
    }

    pub(super) fn search_offset(&self, request: &Command) -> Answer {
        let header: SearchOffsetHeader = request.header()?;
        let (topic, queue) = (topic_name(&header.topic)?, queue_of(header.queue_id)?);
        let boundary = match header.boundary_type.as_deref() {
            Some(text) if text.eq_ignore_ascii_case("upper") => Boundary::Upper,
            _ => Boundary::Lower,
        };
        let time = UnixMillis(header.timestamp);
        let found = self
            .deps
            .store
            .offset_by_time(&topic, queue, time, boundary);
        Ok(offset_answer(found.map_err(|error| not_searched(&error))?))
    }

    pub(super) fn earliest_store_time(&self, request: &Command) -> Answer {
        let header: GetEarliestMsgStoretimeHeader = request.header()?;
        let (topic, queue) = (topic_name(&header.topic)?, queue_of(header.queue_id)?);
        let time = self.deps.store.earliest_store_time(&topic, queue);
        let header = TimestampResponseHeader {
            timestamp: time.map_or(-1, |time| time.0),
        };
        Ok(Command::response(ResponseCode::SUCCESS).with_header(&header))
    }

    pub(super) fn all_consumer_offsets(&self) -> Command {
        Command::response(ResponseCode::SUCCESS)
            .with_body(self.deps.metadata.offsets.to_body().to_json())
    }

    /// Sets positions here; the group's next pull of each queue is sent to its new offset.
    pub(super) fn reset_offset(&self, request: &Command) -> Answer {
        let header: ResetOffsetHeader = request.header()?;
        let Some(topic_config) = self.deps.metadata.topics.get(&header.topic) else {
            return Err(Refusal::new(
                ResponseCode::TOPIC_NOT_EXIST,
                format!("Topic {} does not exist", header.topic),
            ));
        };
        if !self.deps.metadata.groups.contains(&header.group) {
            return Err(Refusal::new(
                ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST,
                format!("Group {} does not exist", header.group),
            ));
        }
        let (topic, group) = (topic_name(&header.topic)?, group_name(&header.group)?);
        let queues = if header.queue_id >= 0 {
            header.queue_id..header.queue_id.saturating_add(1)
        } else {
            0..topic_config.read_queue_nums
        };
        let mut offsets = Vec::new();
        for queue_id in queues {
            let queue = queue_of(queue_id)?;
            self.check_queue(&topic, &group, queue)?;
            let wanted = header
                .offset
                .filter(|offset| header.queue_id >= 0 && *offset != -1);
            let offset = match wanted {
                Some(offset) => self.check_reset_target(&topic, queue, offset)?,
                None => self.offset_at(&topic, queue, header.timestamp)?,
            };
            offsets.push((queue, offset));
        }
        if offsets.is_empty() {
            return Err(Refusal::system_error("No queues to reset."));
        }
        tracing::info!(%topic, %group, offsets = ?offsets, "positions were set by an administrator");
        self.deps.metadata.offsets.reset(&topic, &group, &offsets);
        self.keep_positions()?;
        let body = ResetOffset {
            offset_table: offsets
                .into_iter()
                .map(|(queue, offset)| (self.message_queue(&topic, queue), offset))
                .collect(),
        };
        Ok(Command::response(ResponseCode::SUCCESS).with_body(body.to_json()))
    }

    fn check_reset_target(
        &self,
        topic: &TopicName,
        queue: QueueId,
        offset: i64,
    ) -> Result<i64, Refusal> {
        let (min, max) = (self.queue_start(topic, queue), self.queue_end(topic, queue));
        if offset < min || offset > max {
            return Err(Refusal::system_error(format!(
                "Target offset {offset} not in consume queue range [{min}-{max}]"
            )));
        }
        Ok(offset)
    }

    /// The offset at a time; negative times stand for the end of the queue, as mqadmin uses them.
    fn offset_at(&self, topic: &TopicName, queue: QueueId, timestamp: i64) -> Result<i64, Refusal> {
        if timestamp < 0 {
            return Ok(self.queue_end(topic, queue));
        }
        self.deps
            .store
            .offset_by_time(topic, queue, UnixMillis(timestamp), Boundary::Lower)
            .map_err(|error| not_searched(&error))
    }

    pub(super) fn clone_group_offset(&self, request: &Command) -> Answer {
        let header: CloneGroupOffsetHeader = request.header()?;
        let (from, to) = (
            group_name(&header.src_group)?,
            group_name(&header.dest_group)?,
        );
        let offsets = &self.deps.metadata.offsets;
        let topics = match header.topic.as_deref() {
            None | Some("") => offsets.topics_of(from.as_str()),
            Some(topic) => vec![topic_name(topic)?],
        };
        for topic in topics {
            if !self.deps.metadata.topics.contains(topic.as_str()) {
                continue;
            }
            // Without `offline` a group that is consuming must not be moved under its members.
            let is_online = self
                .deps
                .clients
                .consumers
                .read()
                .group(to.as_str())
                .is_some_and(|group| group.subscription(topic.as_str()).is_some());
            if !header.offline && is_online {
                continue;
            }
            offsets.copy(&topic, &from, &to);
        }
        self.keep_positions()?;
        success()
    }

    /// An administrator's order is not to be lost with the master of a group.
    fn keep_positions(&self) -> Result<(), Refusal> {
        let metadata = &self.deps.metadata;
        if metadata.is_replica() {
            self.waiting(|| metadata.keep_positions(self.now()))??;
        }
        Ok(())
    }

    /// A queue of this broker as bodies name it.
    pub(super) fn message_queue(&self, topic: &TopicName, queue: QueueId) -> MessageQueue {
        MessageQueue {
            broker_name: self.deps.identity.broker_name.clone(),
            queue_id: queue.to_wire(),
            topic: topic.as_str().to_owned(),
        }
    }
}

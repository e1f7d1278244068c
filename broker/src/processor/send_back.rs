//! CONSUMER_SEND_MSG_BACK: a consumer could not process a message and wants it again later
//! (`AbstractSendMessageProcessor.consumerSendMsgBack`).

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rocket_protocol::body::route::perm;
use rocket_protocol::body::{SubscriptionGroupConfig, TopicConfig};
use rocket_protocol::header::ConsumerSendMsgBackHeader;
use rocket_protocol::message::{OffsetMessageId, Properties, property};
use rocket_protocol::{
    Command, GroupName, Message, PhysicalOffset, QueueId, RecordView, ResponseCode, SysFlag,
    TopicName,
};
use rocket_remoting::Reply;
use rocket_store::{PutOutcome, PutStatus};

use super::BrokerProcessor;
use super::delay::remove_zeros;
use super::pending::PendingSend;
use super::refusal::{Answer, Refusal, group_name, success};

/// The level of the first retry when the client leaves it to the broker; each further one waits a level longer.
const FIRST_LEVEL: i32 = 3;
/// Since which client version `maxReconsumeTimes` means what it says (V3_4_9).
const VERSION_MAX_RECONSUME_TIMES: i32 = 121;

/// What to do with a message that came back.
enum Back {
    /// Append this and then answer.
    Append(Box<Message>),
    /// The group wants no retries: the message is dropped.
    Drop,
}

impl BrokerProcessor {
    /// Answered after the copy is promised like any send: until then the client keeps its own.
    pub(super) fn send_back(&self, request: &Command, reply: Reply, begun: Instant) {
        let code = request.request_code().name();
        let metrics = Arc::clone(&self.deps.metrics);
        let answer = move |reply: Reply, answer: Answer| {
            let response = answer.unwrap_or_else(Refusal::into_command);
            let result = response.response_code().name();
            reply.send(response);
            metrics.answered(code, result, false, begun.elapsed());
        };
        match self.take_back(request) {
            Err(refusal) => answer(reply, Err(refusal)),
            Ok(Back::Drop) => answer(reply, success()),
            Ok(Back::Append(message)) => {
                let then = PendingSend::Broker(Box::new(move |outcome: PutOutcome| {
                    let done = match outcome.status {
                        PutStatus::Ok => success(),
                        status => Err(Refusal::system_error(status_name(&status))),
                    };
                    answer(reply, done);
                }));
                self.append_own(&message, then);
            }
        }
    }

    fn take_back(&self, request: &Command) -> Result<Back, Refusal> {
        let header: ConsumerSendMsgBackHeader = request.header()?;
        let config = self.deps.config.load();
        if config.is_standby() {
            return Err(Refusal::system_error(
                "no master available along with this broker",
            ));
        }
        let group_config = self
            .group_of(&header.group, &config)?
            .ok_or_else(|| Refusal::no_group(&header.group))?;
        let group = group_name(&header.group)?;
        if !config.is_writeable() {
            return Err(Refusal::new(
                ResponseCode::NO_PERMISSION,
                format!(
                    "the broker[{}] sending message is forbidden",
                    self.deps.identity.advertised
                ),
            ));
        }
        if group_config.retry_queue_nums <= 0 {
            return Ok(Back::Drop);
        }
        let retry = TopicName::retry_topic(&group);
        let sys_flag = if header.unit_mode { 2 } else { 0 };
        let retry_config =
            self.internal_topic(&retry, group_config.retry_queue_nums, sys_flag, false)?;
        if retry_config.perm & perm::WRITE == 0 {
            return Err(Refusal::new(
                ResponseCode::NO_PERMISSION,
                format!("the topic[{retry}] sending message is forbidden"),
            ));
        }
        let read = |offset| self.reading(|| self.deps.store.record_at(offset));
        let bytes = PhysicalOffset::from_wire(header.offset).map_or(Ok(None), read)?;
        let record = bytes
            .as_deref()
            .and_then(|bytes| RecordView::parse(bytes).ok())
            .map(|(record, _)| record)
            .ok_or_else(|| {
                Refusal::system_error(format!("look message by offset failed, {}", header.offset))
            })?;
        let max = header
            .max_reconsume_times
            .filter(|_| request.version >= VERSION_MAX_RECONSUME_TIMES)
            .unwrap_or(group_config.retry_max_times);
        self.stats.sent_back(record.topic(), group.as_str());
        let is_dead = record.reconsume_times() >= max || header.delay_level < 0;
        let message = if is_dead {
            self.dead_letter(&record, &group)?
        } else {
            let queues = retry_queues(&retry_config, &group_config);
            let queue = rand::random_range(0..queues);
            self.retry(&record, retry, queue, header.delay_level)
        };
        Ok(Back::Append(Box::new(message)))
    }

    /// The copy that waits for its next delivery.
    fn retry(
        &self,
        record: &RecordView<'_>,
        topic: TopicName,
        queue: i32,
        asked_level: i32,
    ) -> Message {
        let level = if asked_level == 0 {
            FIRST_LEVEL.saturating_add(record.reconsume_times())
        } else {
            asked_level
        };
        let level = usize::try_from(level)
            .unwrap_or(1)
            .clamp(1, self.delay_levels().max(1));
        let mut message = self.copy_of(record, topic);
        message.properties =
            self.delay_properties(&message.properties, &message.topic, queue, level);
        self.schedule(&mut message, level);
        message
    }

    fn dead_letter(&self, record: &RecordView<'_>, group: &GroupName) -> Result<Message, Refusal> {
        let topic = self.dlq_topic(group)?;
        self.count_dead_letter(record.topic(), group.as_str());
        tracing::info!(
            %group, topic = record.topic(), offset = %record.physical_offset(),
            unique_key = record.property(property::UNIQ_KEY), "message became a dead letter"
        );
        Ok(self.copy_of(record, topic))
    }

    /// The message again under another topic, with where it came from.
    pub(super) fn copy_of(&self, record: &RecordView<'_>, topic: TopicName) -> Message {
        let mut properties = Properties::parse(&Bytes::copy_from_slice(record.properties()));
        properties.remove(property::DELAY);
        remove_zeros(&mut properties, record);
        if properties.get(property::RETRY_TOPIC).is_none() {
            properties.set(property::RETRY_TOPIC, record.topic().to_owned());
        }
        if properties.get(property::ORIGIN_MESSAGE_ID).is_none() {
            let id = OffsetMessageId {
                store_host: record.store_host(),
                offset: record.physical_offset(),
            };
            properties.set(property::ORIGIN_MESSAGE_ID, id.to_string());
        }
        Message {
            topic,
            queue_id: QueueId(0),
            flag: record.flag(),
            sys_flag: record.sys_flag().without(SysFlag::TRANSACTION_MASK),
            born_timestamp: record.born_timestamp(),
            born_host: record.born_host(),
            store_host: self.deps.identity.store_host,
            reconsume_times: record.reconsume_times().saturating_add(1),
            prepared_transaction_offset: 0,
            body: Bytes::copy_from_slice(record.body()),
            body_crc: record.body_crc(),
            properties: properties.to_bytes(),
        }
    }

    /// Counts a message that was given up.
    pub(super) fn count_dead_letter(&self, topic: &str, group: &str) {
        let is_system = rocket_protocol::name::is_system_topic(topic)
            || crate::metadata::is_system_group(group);
        self.deps.metrics.given_up(topic, group, is_system);
    }
}

/// Among how many queues retries are spread: those that the group asks for, and that consumers read. The topic may have been made when the group asked
/// for fewer, or been changed by hand.
fn retry_queues(topic: &TopicConfig, group: &SubscriptionGroupConfig) -> i32 {
    let there = topic.read_queue_nums.min(topic.write_queue_nums);
    there.min(group.retry_queue_nums).max(1)
}

/// RocketMQ's name of an append's outcome: the remark when a message could not be taken back.
fn status_name(status: &PutStatus) -> &'static str {
    match status {
        PutStatus::Ok => "PUT_OK",
        PutStatus::FlushDiskTimeout => "FLUSH_DISK_TIMEOUT",
        PutStatus::FlushSlaveTimeout => "FLUSH_SLAVE_TIMEOUT",
        PutStatus::SlaveNotAvailable => "SLAVE_NOT_AVAILABLE",
        PutStatus::ServiceNotAvailable(_) => "SERVICE_NOT_AVAILABLE",
        PutStatus::InSyncReplicasNotEnough => "IN_SYNC_REPLICAS_NOT_ENOUGH",
        PutStatus::MessageIllegal(_) => "MESSAGE_ILLEGAL",
        PutStatus::PropertiesTooLong => "PROPERTIES_SIZE_EXCEEDED",
        PutStatus::Busy => "OS_PAGE_CACHE_BUSY",
        PutStatus::Unknown => "UNKNOWN_ERROR",
    }
}

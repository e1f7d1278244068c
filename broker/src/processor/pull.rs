//! PULL_MESSAGE and LITE_PULL_MESSAGE (`PullMessageProcessor`): read, answer, or wait.

use std::sync::Arc;
use std::time::Instant;

use rocket_filter::is_tag_type;
use rocket_protocol::body::route::perm;
use rocket_protocol::body::{SubscriptionData, SubscriptionGroupConfig};
use rocket_protocol::header::{PullMessageHeader, PullMessageResponseHeader};
use rocket_protocol::{Command, GroupName, QueueId, ResponseCode, TopicName, UnixMillis};
use rocket_remoting::{Connection, Reply};
use rocket_store::{GetResult, GetStatus, ReadLimits};

use super::BrokerProcessor;
use super::refusal::{Refusal, SEE_FAQ, group_name};
use crate::clients::Subscription;
use crate::config::BrokerConfig;
use crate::long_polling::{Waiting, Wake};

const FLAG_COMMIT: i32 = 1;
const FLAG_SUSPEND: i32 = 2;
const FLAG_SUBSCRIPTION: i32 = 4;
/// Longest time that a pull is held, whatever it asks for; clients ask for 15 to 30 s.
const SUSPEND_MS_MAX: i64 = 120_000;

/// What `forbiddenType` says with NO_PERMISSION (`ForbiddenType`).
#[derive(Clone, Copy)]
enum Forbidden {
    Broker = 1,
    Group = 2,
    Topic = 3,
    Broadcasting = 4,
    Subscription = 5,
}

/// Why a pull is refused.
struct Refused {
    refusal: Refusal,
    forbidden: Option<Forbidden>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self {
            refusal,
            forbidden: None,
        }
    }
}

impl Refused {
    fn into_command(self) -> Command {
        let command = self.refusal.into_command();
        match self.forbidden {
            None => command,
            Some(kind) => command.with_ext("forbiddenType", (kind as i32).to_string()),
        }
    }
}

fn refused(code: ResponseCode, remark: impl Into<String>) -> Refused {
    Refusal::new(code, remark).into()
}

fn forbidden(kind: Forbidden, remark: String) -> Refused {
    Refused {
        refusal: Refusal::new(ResponseCode::NO_PERMISSION, remark),
        forbidden: Some(kind),
    }
}

/// A pull that passed all checks.
struct Pull {
    topic: TopicName,
    group: GroupName,
    queue: QueueId,
    offset: i64,
    max_messages: u32,
    max_bytes: Option<usize>,
    subscription: Arc<Subscription>,
    topic_sys_flag: i32,
    group_sys_flag: i32,
    /// What it is called in metrics.
    request: Option<&'static str>,
    begun: Instant,
}

impl Pull {
    fn may_match(&self, tags_code: i64) -> bool {
        match &self.subscription.filter {
            Ok(filter) => filter.may_match(tags_code),
            Err(_) => false,
        }
    }
}

/// A pull that waits for a message.
pub struct ParkedPull {
    pull: Pull,
    deadline: UnixMillis,
    reply: Reply,
}

impl Waiting for ParkedPull {
    fn wants(&self, queue_offset: u64, tags_code: i64) -> bool {
        i64::try_from(queue_offset).is_ok_and(|offset| offset >= self.pull.offset)
            && self.pull.may_match(tags_code)
    }
}

impl BrokerProcessor {
    /// Serves a pull: with messages, with the reason why there are none, or later.
    pub(super) fn pull(
        &self,
        connection: &Connection,
        request: &Command,
        reply: Reply,
        begun: Instant,
    ) {
        let config = self.deps.config.load();
        let (pull, header) = match self.check_pull(connection, request, &config, begun) {
            Ok(checked) => checked,
            Err(refused) => {
                let result = refused.refusal.code.name();
                reply.send(refused.into_command());
                let name = request.request_code().name();
                self.deps
                    .metrics
                    .answered(name, result, false, begun.elapsed());
                return;
            }
        };
        let offsets = &self.deps.metadata.offsets;
        let reset = offsets.take_reset(&pull.topic, &pull.group, pull.queue);
        if let Some(offset) = reset {
            let result = self.reset_result(&pull, offset);
            self.finish(
                &pull,
                reply,
                &result,
                ResponseCode::PULL_OFFSET_MOVED,
                "OFFSET_RESET",
            );
            return;
        }
        if header.sys_flag & FLAG_COMMIT != 0 && header.commit_offset >= 0 {
            offsets.commit(&pull.topic, &pull.group, pull.queue, header.commit_offset);
        }
        let wait_ms = if header.sys_flag & FLAG_SUSPEND == 0 {
            0
        } else if config.long_polling_enable {
            header.suspend_timeout_millis.clamp(0, SUSPEND_MS_MAX)
        } else {
            i64::try_from(config.short_polling_time.as_millis()).unwrap_or(SUSPEND_MS_MAX)
        };
        let deadline = (wait_ms > 0).then(|| self.now().plus_millis(wait_ms));
        self.read_or_park(pull, reply, deadline, &config);
    }

    /// Serves a pull that was waiting.
    pub(super) fn wake(&self, parked: ParkedPull, why: Wake) {
        if !parked.reply.is_open() {
            return;
        }
        let ParkedPull {
            pull,
            deadline,
            reply,
        } = parked;
        let deadline = match why {
            Wake::Arrival => Some(deadline).filter(|deadline| *deadline > self.now()),
            Wake::Deadline => None,
        };
        let config = self.deps.config.load();
        self.read_or_park(pull, reply, deadline, &config);
    }

    fn read_or_park(
        &self,
        pull: Pull,
        reply: Reply,
        deadline: Option<UnixMillis>,
        config: &BrokerConfig,
    ) {
        let result = self.read(&pull, config);
        let code = code_of(result.status, pull.offset);
        let waits = code == ResponseCode::PULL_NOT_FOUND;
        let (Some(deadline), true) = (deadline, waits) else {
            self.finish(&pull, reply, &result, code, name_of(result.status));
            return;
        };
        let (topic, queue, offset) = (pull.topic.clone(), pull.queue, pull.offset);
        let parked = ParkedPull {
            pull,
            deadline,
            reply,
        };
        match self.deps.long_polling.park(&topic, queue, deadline, parked) {
            Ok(ticket) => {
                // A message that came between the read and the parking has woken nobody.
                if self.queue_end(&topic, queue) > offset {
                    self.deps.long_polling.recheck(ticket);
                }
            }
            Err(parked) => self.finish(
                &parked.pull,
                parked.reply,
                &result,
                code,
                name_of(result.status),
            ),
        }
    }

    fn read(&self, pull: &Pull, config: &BrokerConfig) -> GetResult {
        let in_memory = u64::try_from(pull.offset).is_ok_and(|offset| {
            self.deps
                .store
                .is_in_memory(&pull.topic, pull.queue, offset.into())
        });
        let (messages_max, bytes_max) = if in_memory {
            (
                config.max_transfer_count_on_message_in_memory,
                config.max_transfer_bytes_on_message_in_memory.0,
            )
        } else {
            (
                config.max_transfer_count_on_message_in_disk,
                config.max_transfer_bytes_on_message_in_disk.0,
            )
        };
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let limits = ReadLimits {
            messages_max: messages_max.min(pull.max_messages),
            bytes_max: pull.max_bytes.map_or(bytes_max, |max| max.min(bytes_max)),
        };
        self.deps.store.get(
            &pull.topic,
            pull.queue,
            pull.offset,
            limits,
            &|tags_code, _record| pull.may_match(tags_code),
        )
    }

    fn reset_result(&self, pull: &Pull, offset: i64) -> GetResult {
        GetResult {
            status: GetStatus::OffsetTooSmall,
            next_begin: offset,
            min: self.queue_start(&pull.topic, pull.queue),
            max: self.queue_end(&pull.topic, pull.queue),
            chunks: Vec::new(),
            messages: 0,
            bytes: 0,
            first_store_timestamp: None,
        }
    }

    /// Sends the answer. All offsets are in it whatever the code: clients read them from 19, 20 and 21 too.
    fn finish(
        &self,
        pull: &Pull,
        reply: Reply,
        result: &GetResult,
        code: ResponseCode,
        remark: &'static str,
    ) {
        let header = PullMessageResponseHeader {
            suggest_which_broker_id: 0,
            next_begin_offset: result.next_begin,
            min_offset: result.min,
            max_offset: result.max,
            offset_delta: None,
            topic_sys_flag: Some(pull.topic_sys_flag),
            group_sys_flag: Some(pull.group_sys_flag),
            forbidden_type: None,
        };
        let mut response = Command::response(code)
            .with_remark(remark)
            .with_header(&header);
        let is_found = code == ResponseCode::SUCCESS;
        if is_found {
            response = response.with_body(result.chunks.clone());
            self.deps.metadata.offsets.pulled(
                &pull.topic,
                &pull.group,
                pull.queue,
                result.next_begin,
            );
            self.deps.metrics.given(
                pull.topic.as_str(),
                pull.group.as_str(),
                pull.topic.is_system() || crate::metadata::is_system_group(pull.group.as_str()),
                result.messages,
                result.bytes,
            );
        }
        self.stats.got(
            pull.topic.as_str(),
            pull.group.as_str(),
            u64::from(result.messages),
            u64::try_from(result.bytes).unwrap_or(u64::MAX),
            is_found,
        );
        if code == ResponseCode::PULL_OFFSET_MOVED {
            tracing::info!(
                topic = %pull.topic, queue = %pull.queue, group = %pull.group, asked = pull.offset,
                next = result.next_begin, min = result.min, max = result.max, status = remark,
                "a pull is sent to another offset"
            );
        }
        reply.send(response);
        self.deps
            .metrics
            .answered(pull.request, code.name(), true, pull.begun.elapsed());
    }

    fn check_pull(
        &self,
        connection: &Connection,
        request: &Command,
        config: &BrokerConfig,
        begun: Instant,
    ) -> Result<(Pull, PullMessageHeader), Refused> {
        let header: PullMessageHeader = request.header().map_err(Refusal::from)?;
        if config.is_standby() {
            return Err(refused(
                ResponseCode::SYSTEM_BUSY,
                "[REJECTREQUEST]system busy, start flow control for a while",
            ));
        }
        if !config.is_readable() {
            return Err(forbidden(
                Forbidden::Broker,
                format!(
                    "the broker[{}] pulling message is forbidden",
                    self.deps.identity.advertised
                ),
            ));
        }
        let group_config = self.group_of_pull(&header, config)?;
        let (topic, topic_config) = {
            let topics = &self.deps.metadata.topics;
            let found = topics.name_of(&header.topic).zip(topics.get(&header.topic));
            found.ok_or_else(|| Refusal::no_topic(&header.topic))?
        };
        if topic_config.perm & perm::READ == 0 {
            return Err(forbidden(
                Forbidden::Topic,
                format!("the topic[{topic}] pulling message is forbidden"),
            ));
        }
        let queue = QueueId::from_wire(header.queue_id)
            .filter(|_| header.queue_id < topic_config.read_queue_nums)
            .ok_or_else(|| {
                refused(
                    ResponseCode::INVALID_PARAMETER,
                    format!(
                        "queueId[{}] is illegal, topic:[{topic}] topicConfig.readQueueNums:[{}] consumer:[{}]",
                        header.queue_id,
                        topic_config.read_queue_nums,
                        connection.peer()
                    ),
                )
            })?;
        let subscription = self.subscription_of_pull(&header, &group_config, config)?;
        let pull = Pull {
            topic,
            group: group_name(&header.consumer_group)?,
            queue,
            offset: header.queue_offset,
            max_messages: u32::try_from(header.max_msg_nums).unwrap_or(0).max(1),
            max_bytes: header
                .max_msg_bytes
                .and_then(|max| usize::try_from(max).ok())
                .filter(|max| *max > 0),
            subscription,
            topic_sys_flag: topic_config.topic_sys_flag,
            group_sys_flag: group_config.group_sys_flag,
            request: request.request_code().name(),
            begun,
        };
        Ok((pull, header))
    }

    fn group_of_pull(
        &self,
        header: &PullMessageHeader,
        config: &BrokerConfig,
    ) -> Result<Arc<SubscriptionGroupConfig>, Refused> {
        let group = &*header.consumer_group;
        let group_config = self
            .deps
            .metadata
            .groups
            .find_or_create(group, config, self.now())
            .map_err(Refusal::from)?
            .ok_or_else(|| {
                refused(
                    ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST,
                    format!("subscription group [{group}] does not exist, {SEE_FAQ}"),
                )
            })?;
        if group_config.consume_enable {
            Ok(group_config)
        } else {
            Err(forbidden(
                Forbidden::Group,
                format!("subscription group no permission, {group}"),
            ))
        }
    }

    /// What the pull wants: from the request, or as the group's heartbeats said.
    fn subscription_of_pull(
        &self,
        header: &PullMessageHeader,
        group_config: &SubscriptionGroupConfig,
        config: &BrokerConfig,
    ) -> Result<Arc<Subscription>, Refused> {
        let (group, topic) = (&*header.consumer_group, &*header.topic);
        let subscription = if header.sys_flag & FLAG_SUBSCRIPTION == 0 {
            self.subscription_by_heartbeat(header, group_config)?
        } else {
            let data = SubscriptionData {
                topic: topic.to_owned(),
                sub_string: header.subscription.as_deref().unwrap_or("*").to_owned(),
                sub_version: header.sub_version,
                expression_type: header
                    .expression_type
                    .as_deref()
                    .unwrap_or_default()
                    .to_owned(),
                ..SubscriptionData::default()
            };
            Arc::new(Subscription::new(data, self.now()))
        };
        let kind = &*subscription.data.expression_type;
        if !is_tag_type(Some(kind)) && !config.enable_property_filter {
            return Err(Refusal::system_error(format!(
                "The broker does not support consumer to filter message by {kind}"
            ))
            .into());
        }
        if let Err(error) = &subscription.filter {
            tracing::debug!(group, topic, error = %error, "subscription cannot be parsed");
            return Err(refused(
                ResponseCode::SUBSCRIPTION_PARSE_FAILED,
                "parse the consumer's subscription failed",
            ));
        }
        Ok(subscription)
    }

    fn subscription_by_heartbeat(
        &self,
        header: &PullMessageHeader,
        group_config: &SubscriptionGroupConfig,
    ) -> Result<Arc<Subscription>, Refused> {
        let (group, topic) = (&*header.consumer_group, &*header.topic);
        let consumers = self.deps.clients.consumers.read();
        let members = consumers.group(group).ok_or_else(|| {
            refused(
                ResponseCode::SUBSCRIPTION_NOT_EXIST,
                format!("the consumer's group info not exist{SEE_FAQ}"),
            )
        })?;
        if members.is_broadcasting() && !group_config.consume_broadcast_enable {
            return Err(forbidden(
                Forbidden::Broadcasting,
                format!("the consumer group[{group}] can not consume by broadcast way"),
            ));
        }
        if self.deps.metadata.groups.is_read_forbidden(group, topic) {
            return Err(forbidden(
                Forbidden::Subscription,
                format!("the consumer group[{group}] is forbidden for topic[{topic}]"),
            ));
        }
        let subscription = members.subscription(topic).ok_or_else(|| {
            refused(
                ResponseCode::SUBSCRIPTION_NOT_EXIST,
                format!("the consumer's subscription not exist{SEE_FAQ}"),
            )
        })?;
        if subscription.data.sub_version < header.sub_version {
            return Err(refused(
                ResponseCode::SUBSCRIPTION_NOT_LATEST,
                "the consumer's subscription not latest",
            ));
        }
        Ok(Arc::clone(subscription))
    }
}

/// The response code of a read's outcome.
pub(super) fn code_of(status: GetStatus, offset: i64) -> ResponseCode {
    match status {
        GetStatus::Found => ResponseCode::SUCCESS,
        GetStatus::NoMatchedMessage | GetStatus::MessageWasRemoving => {
            ResponseCode::PULL_RETRY_IMMEDIATELY
        }
        GetStatus::NoMatchedLogicQueue | GetStatus::NoMessageInQueue => {
            if offset == 0 {
                ResponseCode::PULL_NOT_FOUND
            } else {
                ResponseCode::PULL_OFFSET_MOVED
            }
        }
        GetStatus::OffsetFoundNull | GetStatus::OffsetOverflowOne => ResponseCode::PULL_NOT_FOUND,
        GetStatus::OffsetOverflowBadly | GetStatus::OffsetTooSmall => {
            ResponseCode::PULL_OFFSET_MOVED
        }
    }
}

/// RocketMQ's name of a read's outcome: the remark of the answer.
pub(super) fn name_of(status: GetStatus) -> &'static str {
    match status {
        GetStatus::Found => "FOUND",
        GetStatus::NoMatchedMessage => "NO_MATCHED_MESSAGE",
        GetStatus::MessageWasRemoving => "MESSAGE_WAS_REMOVING",
        GetStatus::NoMatchedLogicQueue => "NO_MATCHED_LOGIC_QUEUE",
        GetStatus::NoMessageInQueue => "NO_MESSAGE_IN_QUEUE",
        GetStatus::OffsetFoundNull => "OFFSET_FOUND_NULL",
        GetStatus::OffsetOverflowOne => "OFFSET_OVERFLOW_ONE",
        GetStatus::OffsetOverflowBadly => "OFFSET_OVERFLOW_BADLY",
        GetStatus::OffsetTooSmall => "OFFSET_TOO_SMALL",
    }
}

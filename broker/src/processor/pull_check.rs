//! What a pull has to pass before it reads: the broker, its group, its topic, its queue and its subscription.

use std::sync::Arc;
use std::time::Instant;

use rocket_filter::{Filter, FilterError, is_tag_type};
use rocket_protocol::body::SubscriptionGroupConfig;
use rocket_protocol::body::route::perm;
use rocket_protocol::header::PullMessageHeader;
use rocket_protocol::{Command, Language, QueueId, ResponseCode};
use rocket_remoting::Connection;

use super::BrokerProcessor;
use super::pull::{Pull, Wanted};
use super::refusal::{Refusal, SEE_FAQ, group_name, no_filter};
use crate::clients::Subscription;
use crate::config::BrokerConfig;

const FLAG_SUBSCRIPTION: i32 = 4;

/// What `forbiddenType` says with NO_PERMISSION (`ForbiddenType`).
#[derive(Clone, Copy)]
pub(super) enum Forbidden {
    Broker = 1,
    Group = 2,
    Topic = 3,
    Broadcasting = 4,
    Subscription = 5,
}

/// Why a pull is refused.
pub(super) struct Refused {
    pub(super) refusal: Refusal,
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
    pub(super) fn into_command(self) -> Command {
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

impl BrokerProcessor {
    pub(super) fn check_pull(
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
        let wanted = self.wanted_by_pull(&header, request.language, &group_config)?;
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
            wanted,
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
        let group_config = self.group_of(group, config)?.ok_or_else(|| {
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
    fn wanted_by_pull(
        &self,
        header: &PullMessageHeader,
        language: Language,
        group_config: &SubscriptionGroupConfig,
    ) -> Result<Wanted, Refused> {
        if header.sys_flag & FLAG_SUBSCRIPTION != 0 {
            let kind = header.expression_type.as_deref();
            check_kind(kind)?;
            let expression = header.subscription.as_deref().or(Some("*"));
            let filter = Filter::parse(kind, expression);
            return filter
                .map(Wanted::Own)
                .map_err(|error| not_parsed(header, &error));
        }
        let subscription = match self.subscription_by_heartbeat(header, group_config) {
            Ok(subscription) => subscription,
            Err(refused) if self.is_yet_to_come(header, language, &refused) => {
                return Ok(Wanted::Own(Filter::All));
            }
            Err(refused) => return Err(refused),
        };
        check_kind(Some(&subscription.data.expression_type))?;
        match &subscription.filter {
            Ok(_) => Ok(Wanted::OfGroup(subscription)),
            Err(error) => Err(not_parsed(header, error)),
        }
    }

    /// Whether the heartbeat that says what a pull wants may not have come yet, because this broker has not served for long. Its client is
    /// given everything then and keeps what it wants; refused, it would rest for 3 s at a time until its heartbeat.
    fn is_yet_to_come(
        &self,
        header: &PullMessageHeader,
        language: Language,
        refused: &Refused,
    ) -> bool {
        let (group, topic) = (&*header.consumer_group, &*header.topic);
        let code = refused.refusal.code;
        let is_unknown = code == ResponseCode::SUBSCRIPTION_NOT_EXIST
            || code == ResponseCode::SUBSCRIPTION_NOT_LATEST;
        is_unknown
            && filters_again(language)
            && is_tag_type(header.expression_type.as_deref())
            && self.grace.covers(self.now(), group)
            && !self.deps.metadata.groups.is_read_forbidden(group, topic)
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

/// Whether the official client of a language compares the tags of what it was given with those that it wants (`processPullResult` of the three),
/// as the hashes of tags that a broker compares demand.
fn filters_again(language: Language) -> bool {
    language == Language::JAVA || language == Language::GO || language == Language::CPP
}

fn check_kind(kind: Option<&str>) -> Result<(), Refused> {
    if is_tag_type(kind) {
        return Ok(());
    }
    Err(no_filter(kind.unwrap_or_default()).into())
}

fn not_parsed(header: &PullMessageHeader, error: &FilterError) -> Refused {
    tracing::debug!(
        group = &*header.consumer_group, topic = &*header.topic, error = %error,
        "subscription cannot be parsed"
    );
    refused(
        ResponseCode::SUBSCRIPTION_PARSE_FAILED,
        "parse the consumer's subscription failed",
    )
}

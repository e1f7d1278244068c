//! SEND_MESSAGE, SEND_MESSAGE_V2 and SEND_BATCH_MESSAGE (`SendMessageProcessor`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rocket_protocol::body::route::perm;
use rocket_protocol::body::{TopicConfig, TopicFilterType};
use rocket_protocol::header::{SendMessageHeader, SendMessageV2Header};
use rocket_protocol::message::properties::{PROPERTIES_BYTES_MAX, scan};
use rocket_protocol::message::{batch, body_crc, property};
use rocket_protocol::{
    ByteStr, Command, Message, QueueId, RequestCode, ResponseCode, SysFlag, TopicName, UnixMillis,
};
use rocket_remoting::{Connection, Reply};
use rocket_store::{Promise, PutOutcome};

use super::BrokerProcessor;
use super::pending::{PendingSend, ProducerSend, ResponseBase, illegal_message};
use super::refusal::{Refusal, topic_name};
use super::send_properties::{kind, promise, refuse_timer, with_properties, without};
use crate::config::BrokerConfig;
use crate::metadata::CreateError;
use crate::metrics::MessageType;

/// Queues of a dead-letter topic.
const DLQ_QUEUES: i32 = 1;
/// Since which client version `maxReconsumeTimes` means what it says (V3_4_9).
const VERSION_MAX_RECONSUME_TIMES: i32 = 121;
/// Bits of sysFlag that only the broker sets.
const BROKER_SYS_FLAGS: i32 =
    SysFlag::TRANSACTION_MASK | SysFlag::INNER_BATCH | SysFlag::NEED_UNWRAP;

/// A send that passed all checks.
struct Prepared {
    messages: Vec<Message>,
    promise: Promise,
    /// The topic that the producer named, for its counters.
    topic: TopicName,
    queue_id: i32,
    unique_key: Option<ByteStr>,
    kind: MessageType,
    body_bytes: usize,
}

/// Where a message goes.
struct Target {
    topic: TopicName,
    queue_id: i32,
    /// Delay level, 0 for none.
    level: usize,
}

impl BrokerProcessor {
    /// Serves a send: the answer comes when the store has kept its promise.
    pub(super) fn send(
        &self,
        connection: &Connection,
        request: &Command,
        reply: Reply,
        begun: Instant,
    ) {
        let config = self.deps.config.load();
        let base = ResponseBase {
            region: self.region.clone(),
            trace_on: config.trace_on,
        };
        let prepared = match self.prepare(connection, request, &config) {
            Ok(prepared) => prepared,
            Err(refusal) => {
                self.stats.put_failed();
                let result = refusal.code.name();
                reply.send(base.apply(refusal.into_command()));
                self.deps.metrics.answered(
                    request.request_code().name(),
                    result,
                    false,
                    begun.elapsed(),
                );
                return;
            }
        };
        let series = self.deps.metrics.sent(
            prepared.topic.as_str(),
            prepared.topic.is_system(),
            prepared.kind,
        );
        let pending = ProducerSend {
            reply,
            base,
            request: request.request_code().name(),
            begun,
            topic: prepared.topic,
            queue_id: prepared.queue_id,
            unique_key: prepared.unique_key,
            store_host: self.deps.identity.store_host,
            body_bytes: prepared.body_bytes,
            message_bytes_max: config.max_message_size.0,
            series,
            metrics: Arc::clone(&self.deps.metrics),
            stats: Arc::clone(&self.stats),
        };
        self.append(
            &prepared.messages,
            prepared.promise,
            PendingSend::Producer(Box::new(pending)),
        );
    }

    /// Hands messages to the store; what is not taken is completed at once.
    pub(super) fn append(&self, messages: &[Message], promise: Promise, completion: PendingSend) {
        use rocket_store::Completion as _;
        let store = &self.deps.store;
        let taken = match messages {
            [one] => store.append(&[one.as_ref()], promise, completion),
            _ => {
                let messages: Vec<_> = messages.iter().map(Message::as_ref).collect();
                store.append(&messages, promise, completion)
            }
        };
        store.write_out();
        if let Err(refused) = taken {
            let (pending, status) = refused.into_parts();
            pending.complete(PutOutcome {
                status,
                appended: None,
            });
        }
    }

    fn prepare(
        &self,
        connection: &Connection,
        request: &Command,
        config: &BrokerConfig,
    ) -> Result<Prepared, Refusal> {
        if config.is_standby() {
            return Err(Refusal::new(
                ResponseCode::SYSTEM_BUSY,
                "[REJECTREQUEST]system busy, start flow control for a while",
            ));
        }
        let header: SendMessageHeader = match request.request_code() {
            RequestCode::SEND_MESSAGE => request.header()?,
            _ => request.header::<SendMessageV2Header>()?.into(),
        };
        let now = self.now();
        let accept_from = config.start_accept_send_request_timestamp;
        if u64::try_from(now.0).unwrap_or_default() < accept_from {
            return Err(Refusal::system_error(format!(
                "broker unable to service, until {accept_from}"
            )));
        }
        let (topic, topic_config) = self.check_topic(connection, &header, config, now)?;
        let body = request.body.contiguous();
        if body.is_empty() {
            return Err(illegal_message(config.max_message_size.0, "no body"));
        }
        if u64::try_from(body.len()).unwrap_or(u64::MAX) > config.max_message_size.0 {
            return Err(illegal_message(config.max_message_size.0, "body"));
        }
        let properties = header.properties.clone().unwrap_or_default().into_bytes();
        if properties.len() > PROPERTIES_BYTES_MAX {
            return Err(illegal_message(config.max_message_size.0, "properties"));
        }
        let send = Send {
            processor: self,
            header: &header,
            request,
            config,
            topic_config: &topic_config,
            born_host: connection.peer(),
            now,
        };
        if header.batch || request.request_code() == RequestCode::SEND_BATCH_MESSAGE {
            send.prepare_batch(topic, &body, &properties)
        } else {
            send.prepare_one(topic, body, &properties)
        }
    }

    /// The topic that a send names: checked, and created when that is allowed (`msgCheck`).
    fn check_topic(
        &self,
        connection: &Connection,
        header: &SendMessageHeader,
        config: &BrokerConfig,
        now: UnixMillis,
    ) -> Result<(TopicName, Arc<TopicConfig>), Refusal> {
        let topics = &self.deps.metadata.topics;
        let known = topics.get(&header.topic);
        if !config.is_writeable() && known.as_ref().is_some_and(|topic| topic.order) {
            return Err(Refusal::new(
                ResponseCode::NO_PERMISSION,
                format!(
                    "the broker[{}] sending message is forbidden",
                    self.deps.identity.advertised
                ),
            ));
        }
        let topic = match topics.name_of(&header.topic) {
            Some(name) => name,
            None => topic_name(&header.topic)?,
        };
        if topic.is_closed_for_send() {
            return Err(Refusal::new(
                ResponseCode::NO_PERMISSION,
                format!("Sending message to topic[{topic}] is forbidden."),
            ));
        }
        let topic_config = match known {
            Some(known) => known,
            None => self.create_topic(&topic, header, config, now)?,
        };
        let queues = topic_config
            .write_queue_nums
            .max(topic_config.read_queue_nums);
        if header.queue_id >= queues || queues <= 0 {
            return Err(Refusal::new(
                ResponseCode::INVALID_PARAMETER,
                format!(
                    "request queueId[{}] is illegal, TopicConfig [topicName={topic}, readQueueNums={}, writeQueueNums={}, \
                     perm={}] Producer: {}",
                    header.queue_id,
                    topic_config.read_queue_nums,
                    topic_config.write_queue_nums,
                    topic_config.perm,
                    connection.peer()
                ),
            ));
        }
        Ok((topic, topic_config))
    }

    fn create_topic(
        &self,
        topic: &TopicName,
        header: &SendMessageHeader,
        config: &BrokerConfig,
        now: UnixMillis,
    ) -> Result<Arc<TopicConfig>, Refusal> {
        let sys_flag = match (header.unit_mode, topic.is_retry()) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => 2,
        };
        let created = self.deps.metadata.topics.create_by_send(
            topic,
            &header.default_topic,
            header.default_topic_queue_nums,
            sys_flag,
            config,
            now,
        );
        match created {
            Ok((fresh, is_new)) => {
                if is_new {
                    (self.deps.topics_changed)();
                }
                Ok(fresh)
            }
            Err(CreateError::NoTemplate(_)) if topic.is_retry() => {
                self.internal_topic(topic, 1, sys_flag, false)
            }
            Err(CreateError::NoTemplate(_)) => Err(Refusal::no_topic(topic.as_str())),
            Err(CreateError::File(error)) => Err(error.into()),
        }
    }

    /// A retry or dead-letter topic, made if it is new (`createTopicInSendMessageBackMethod`).
    pub(super) fn internal_topic(
        &self,
        topic: &TopicName,
        queues: i32,
        sys_flag: i32,
        order: bool,
    ) -> Result<Arc<TopicConfig>, Refusal> {
        if let Some(known) = self.deps.metadata.topics.get(topic.as_str()) {
            return Ok(known);
        }
        let fresh = TopicConfig {
            topic_name: topic.as_str().to_owned(),
            read_queue_nums: queues,
            write_queue_nums: queues,
            perm: perm::READ | perm::WRITE,
            topic_sys_flag: sys_flag,
            order,
            ..TopicConfig::default()
        };
        let (config, is_new) =
            self.deps
                .metadata
                .topics
                .create_if_absent(topic, fresh, self.now())?;
        if is_new {
            (self.deps.topics_changed)();
        }
        Ok(config)
    }

    /// The dead-letter topic of a group.
    pub(super) fn dlq_topic(
        &self,
        group: &rocket_protocol::GroupName,
    ) -> Result<TopicName, Refusal> {
        let topic = TopicName::dlq_topic(group);
        self.internal_topic(&topic, DLQ_QUEUES, 0, false)?;
        Ok(topic)
    }
}

/// One send between its checks and the store.
struct Send<'a> {
    processor: &'a BrokerProcessor,
    header: &'a SendMessageHeader,
    request: &'a Command,
    config: &'a BrokerConfig,
    topic_config: &'a TopicConfig,
    born_host: SocketAddr,
    now: UnixMillis,
}

impl Send<'_> {
    fn prepare_one(
        &self,
        topic: TopicName,
        body: Bytes,
        properties: &Bytes,
    ) -> Result<Prepared, Refusal> {
        self.refuse_transaction(properties)?;
        refuse_timer(properties)?;
        let queue_id = self.queue_id();
        let target = self.target(&topic, queue_id, properties)?;
        let (properties, unique_key) = self.stamp(properties);
        let properties = if target.level > 0 {
            self.processor.delay_properties(
                &properties,
                &target.topic,
                target.queue_id,
                target.level,
            )
        } else if target.topic == topic {
            properties
        } else {
            without(&properties, property::DELAY)
        };
        let promise = promise(&properties);
        let kind = kind(&properties, target.level);
        let body_bytes = body.len();
        let mut message = self.message(target.topic, target.queue_id, body, properties);
        if target.level > 0 {
            self.processor.schedule(&mut message, target.level);
        }
        Ok(Prepared {
            messages: vec![message],
            promise,
            topic,
            queue_id,
            unique_key: Some(unique_key),
            kind,
            body_bytes,
        })
    }

    fn prepare_batch(
        &self,
        topic: TopicName,
        body: &Bytes,
        properties: &Bytes,
    ) -> Result<Prepared, Refusal> {
        let illegal = |remark: String| Refusal::new(ResponseCode::MESSAGE_ILLEGAL, remark);
        if topic.is_retry() {
            return Err(illegal(format!(
                "batch request does not support retry group {topic}"
            )));
        }
        let queue_id = self.queue_id();
        let mut messages = Vec::new();
        let mut body_bytes = 0;
        for part in batch::messages(body.clone()) {
            let part = part.map_err(|error| illegal(error.to_string()))?;
            self.refuse_transaction(&part.properties)?;
            refuse_timer(&part.properties)?;
            if scan(&part.properties, property::DELAY).is_some() {
                return Err(illegal("batch messages cannot be delayed".to_owned()));
            }
            body_bytes += part.body.len();
            let properties = with_properties(&part.properties, &self.additions());
            let mut message = self.message(topic.clone(), queue_id, part.body, properties);
            message.flag = part.flag;
            messages.push(message);
        }
        if messages.is_empty() {
            return Err(illegal_message(
                self.config.max_message_size.0,
                "empty batch",
            ));
        }
        Ok(Prepared {
            messages,
            promise: promise(properties),
            topic,
            queue_id,
            unique_key: scan(properties, property::UNIQ_KEY).map(|key| key.to_owned().into()),
            kind: kind(properties, 0),
            body_bytes,
        })
    }

    /// Where the message goes: a retry that was tried too often goes to the dead letters (`handleRetryAndDLQ`).
    fn target(
        &self,
        topic: &TopicName,
        queue_id: i32,
        properties: &[u8],
    ) -> Result<Target, Refusal> {
        let processor = self.processor;
        if let Some(group) = topic.retry_group() {
            let groups = &processor.deps.metadata.groups;
            let group_config = groups
                .find_or_create(group.as_str(), self.config, self.now)?
                .ok_or_else(|| Refusal::no_group(group.as_str()))?;
            let max = self
                .header
                .max_reconsume_times
                .filter(|_| self.request.version >= VERSION_MAX_RECONSUME_TIMES)
                .unwrap_or(group_config.retry_max_times);
            let is_ordered = processor
                .deps
                .clients
                .locks
                .lock()
                .is_locked(self.now, &group);
            if is_ordered || self.header.reconsume_times.unwrap_or(0) > max {
                let dlq = processor.dlq_topic(&group)?;
                processor.count_dead_letter(topic.as_str(), group.as_str());
                return Ok(Target {
                    topic: dlq,
                    queue_id: 0,
                    level: 0,
                });
            }
        }
        let level = scan(properties, property::DELAY)
            .and_then(|level| level.parse::<i32>().ok())
            .and_then(|level| usize::try_from(level).ok())
            .unwrap_or(0);
        Ok(Target {
            topic: topic.clone(),
            queue_id,
            level: level.min(processor.delay_levels()),
        })
    }

    /// The producer's queue, or one at random when it wants none in particular.
    fn queue_id(&self) -> i32 {
        if self.header.queue_id >= 0 {
            return self.header.queue_id;
        }
        let queues = self.topic_config.write_queue_nums.max(1);
        rand::random_range(0..queues)
    }

    /// The properties of a single message as they are stored: with what the broker adds, and a unique key, which is returned
    /// too.
    fn stamp(&self, properties: &Bytes) -> (Bytes, ByteStr) {
        if let Some(known) = scan(properties, property::UNIQ_KEY) {
            let known = ByteStr::from(known.to_owned());
            return (with_properties(properties, &self.additions()), known);
        }
        let unique_key = self.processor.unique_keys.next(self.now);
        let [region, trace_on, cluster] = self.additions();
        let all = [
            region,
            trace_on,
            cluster,
            (property::UNIQ_KEY, unique_key.as_str()),
        ];
        (with_properties(properties, &all), unique_key.into())
    }

    /// What the broker adds to every message. In a batch that is all: client-go gives its messages no unique keys, names them
    /// by their places, and finds them by those.
    fn additions(&self) -> [(&'static str, &str); 3] {
        let trace_on = if self.config.trace_on {
            "true"
        } else {
            "false"
        };
        [
            (property::MSG_REGION, self.processor.region.as_str()),
            (property::TRACE_ON, trace_on),
            (
                property::CLUSTER,
                self.processor.deps.identity.cluster.as_str(),
            ),
        ]
    }

    fn message(&self, topic: TopicName, queue_id: i32, body: Bytes, properties: Bytes) -> Message {
        let mut sys_flag = SysFlag(self.header.sys_flag).without(BROKER_SYS_FLAGS);
        if self.topic_config.topic_filter_type == TopicFilterType::MultiTag {
            sys_flag = sys_flag.with(SysFlag::MULTI_TAGS);
        }
        Message {
            topic,
            queue_id: QueueId::from_wire(queue_id).unwrap_or_default(),
            flag: self.header.flag,
            sys_flag,
            born_timestamp: UnixMillis(self.header.born_timestamp),
            born_host: self.born_host,
            store_host: self.processor.deps.identity.store_host,
            reconsume_times: self.header.reconsume_times.unwrap_or(0),
            prepared_transaction_offset: 0,
            body_crc: body_crc(&body),
            body,
            properties,
        }
    }

    /// Half messages are not served by this version; delivering one at once would break its producer's promise.
    fn refuse_transaction(&self, properties: &[u8]) -> Result<(), Refusal> {
        let is_transaction = scan(properties, property::TRAN_MSG)
            .is_some_and(|flag| flag.eq_ignore_ascii_case("true"));
        // Clients before 4.6.1 leave the flag on messages that they send back.
        let is_retry = self.header.reconsume_times.unwrap_or(0) > 0
            && scan(properties, property::DELAY).is_some();
        if !is_transaction || is_retry {
            return Ok(());
        }
        if self.config.reject_transaction_message {
            return Err(Refusal::new(
                ResponseCode::NO_PERMISSION,
                format!(
                    "the broker[{}] sending transaction message is forbidden",
                    self.processor.deps.identity.advertised
                ),
            ));
        }
        Err(Refusal::new(
            ResponseCode::MESSAGE_ILLEGAL,
            "transactional messages are not supported by this broker version",
        ))
    }
}

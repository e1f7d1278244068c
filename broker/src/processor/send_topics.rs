//! The topics that producers send to: found by one look, made when that is allowed, and kept with the counters that a send
//! adds to.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::RwLock;
use prometheus::Histogram;
use rocket_protocol::body::TopicConfig;
use rocket_protocol::body::route::perm;
use rocket_protocol::message::properties::{NAME_VALUE_SEPARATOR, PROPERTY_SEPARATOR};
use rocket_protocol::message::{id, property};
use rocket_protocol::send::SendView;
use rocket_protocol::{GroupName, RequestCode, ResponseCode, TopicName, UnixMillis};
use rocket_remoting::Connection;

use super::refusal::{Refusal, topic_name};
use super::stats::{BrokerStats, TopicItems};
use super::{BrokerProcessor, Deps};
use crate::config::{BrokerConfig, LiveConfig};
use crate::metadata::{CreateError, Topics};
use crate::metrics::{MessageType, Metrics, TopicSeries};

/// Queues of a dead-letter topic.
const DLQ_QUEUES: i32 = 1;

/// What all sends share: kept once, so that a pending send holds one reference instead of many.
pub(super) struct SendContext {
    pub(super) metrics: Arc<Metrics>,
    pub(super) stats: Arc<BrokerStats>,
    pub(super) config: Arc<LiveConfig>,
    /// In every answer; without it Java's client fails on a null.
    pub(super) region: String,
    /// What the message ids of this broker begin with.
    pub(super) host_letters: String,
    /// The properties that the broker adds to each message, without and with tracing.
    additions: [Vec<u8>; 2],
    /// Latencies of sends that succeeded, by request.
    latencies: [OnceLock<Histogram>; 3],
}

impl SendContext {
    pub(super) fn new(deps: &Deps, stats: &Arc<BrokerStats>) -> Self {
        let identity = &deps.identity;
        let additions = ["false", "true"].map(|trace_on| {
            let mut additions = Vec::new();
            for (name, value) in [
                (property::MSG_REGION, identity.region_id.as_str()),
                (property::TRACE_ON, trace_on),
                (property::CLUSTER, identity.cluster.as_str()),
            ] {
                put_property(name, value, &mut additions);
            }
            additions
        });
        Self {
            metrics: Arc::clone(&deps.metrics),
            stats: Arc::clone(stats),
            config: Arc::clone(&deps.config),
            region: identity.region_id.clone(),
            host_letters: id::host_letters(identity.store_host),
            additions,
            latencies: Default::default(),
        }
    }

    /// What the broker adds to the properties of every message.
    pub(super) fn additions(&self, trace_on: bool) -> &[u8] {
        let [without, with] = &self.additions;
        if trace_on { with } else { without }
    }

    /// Counts an answer.
    pub(super) fn answered(&self, request: RequestCode, response: ResponseCode, took: Duration) {
        let [v1, v2, batch] = &self.latencies;
        let kept = match (request, response) {
            (RequestCode::SEND_MESSAGE, ResponseCode::SUCCESS) => v1,
            (RequestCode::SEND_MESSAGE_V2, ResponseCode::SUCCESS) => v2,
            (RequestCode::SEND_BATCH_MESSAGE, ResponseCode::SUCCESS) => batch,
            _ => {
                return self
                    .metrics
                    .answered(request.name(), response.name(), false, took);
            }
        };
        kept.get_or_init(|| self.metrics.latency(request.name(), response.name(), false))
            .observe(took.as_secs_f64() * 1e3);
    }
}

/// Appends one property.
pub(super) fn put_property(name: &str, value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.push(NAME_VALUE_SEPARATOR);
    out.extend_from_slice(value.as_bytes());
    out.push(PROPERTY_SEPARATOR);
}

/// A topic as a send needs it.
pub(super) struct SendTopic {
    pub(super) name: TopicName,
    pub(super) config: Arc<TopicConfig>,
    pub(super) is_retry: bool,
    pub(super) context: Arc<SendContext>,
    // Made by the first message that is stored, so that a topic without one has no series.
    items: OnceLock<Arc<TopicItems>>,
    series: [OnceLock<Arc<TopicSeries>>; 4],
}

impl SendTopic {
    fn new(name: TopicName, config: Arc<TopicConfig>, context: Arc<SendContext>) -> Self {
        Self {
            is_retry: name.is_retry(),
            name,
            config,
            context,
            items: OnceLock::new(),
            series: Default::default(),
        }
    }

    /// Counts stored messages; `len` are the bytes of their records.
    pub(super) fn stored(
        &self,
        kind: MessageType,
        messages: u32,
        body_bytes: usize,
        len: u64,
        took: Duration,
    ) {
        let [normal, fifo, delay, transaction] = &self.series;
        let series = match kind {
            MessageType::Normal => normal,
            MessageType::Fifo => fifo,
            MessageType::Delay => delay,
            MessageType::Transaction => transaction,
        };
        let context = &self.context;
        series
            .get_or_init(|| {
                let (name, is_system) = (self.name.as_str(), self.name.is_system());
                context.metrics.sent(name, is_system, kind)
            })
            .count_batch(messages, body_bytes);
        let items = self
            .items
            .get_or_init(|| context.stats.topic(self.name.as_str()));
        context.stats.put(items, u64::from(messages), len, took);
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct SendTopics {
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    /// Of the table of topics that all of `topics` come from.
    generation: u64,
    topics: HashMap<TopicName, Arc<SendTopic>>,
}

impl SendTopics {
    fn get(&self, all: &Topics, topic: &str, context: &Arc<SendContext>) -> Option<Arc<SendTopic>> {
        // Read before the table is: what is found there then is as new or newer.
        let generation = all.generation();
        {
            let known = self.known.read();
            if known.generation == generation
                && let Some(found) = known.topics.get(topic)
            {
                return Some(Arc::clone(found));
            }
        }
        let (name, config) = all.entry(topic)?;
        let fresh = Arc::new(SendTopic::new(name.clone(), config, Arc::clone(context)));
        let mut known = self.known.write();
        if known.generation < generation {
            known.generation = generation;
            known.topics.clear();
        }
        if known.generation == generation {
            known.topics.insert(name, Arc::clone(&fresh));
        }
        Some(fresh)
    }
}

impl BrokerProcessor {
    /// The topic that a send names: checked, and created when that is allowed (`msgCheck`).
    pub(super) fn check_topic(
        &self,
        connection: &Connection,
        view: &SendView<'_>,
        config: &BrokerConfig,
    ) -> Result<Arc<SendTopic>, Refusal> {
        let topics = &self.deps.metadata.topics;
        let find = || self.send_topics.get(topics, view.topic, &self.send_context);
        let known = find();
        if !config.is_writeable() && known.as_ref().is_some_and(|topic| topic.config.order) {
            return Err(Refusal::new(
                ResponseCode::NO_PERMISSION,
                format!(
                    "the broker[{}] sending message is forbidden",
                    self.deps.identity.advertised
                ),
            ));
        }
        let topic = if let Some(known) = known {
            refuse_closed(&known.name)?;
            known
        } else {
            let name = topic_name(view.topic)?;
            refuse_closed(&name)?;
            self.find_group_behind(&name, config)?;
            let fresh = self.create_topic(&name, view, config, self.now())?;
            let context = Arc::clone(&self.send_context);
            find().unwrap_or_else(|| Arc::new(SendTopic::new(name, fresh, context)))
        };
        let queues = topic
            .config
            .write_queue_nums
            .max(topic.config.read_queue_nums);
        if view.queue_id >= queues || queues <= 0 {
            return Err(Refusal::new(
                ResponseCode::INVALID_PARAMETER,
                format!(
                    "request queueId[{}] is illegal, TopicConfig [topicName={}, readQueueNums={}, writeQueueNums={}, \
                     perm={}] Producer: {}",
                    view.queue_id,
                    topic.name,
                    topic.config.read_queue_nums,
                    topic.config.write_queue_nums,
                    topic.config.perm,
                    connection.peer()
                ),
            ));
        }
        Ok(topic)
    }

    /// Retry and dead-letter topics are bounded by the groups alone, so none is made without one: as with any first use of a group it is
    /// made here if that is allowed.
    fn find_group_behind(&self, topic: &TopicName, config: &BrokerConfig) -> Result<(), Refusal> {
        let Some(group) = topic.derived_from() else {
            return Ok(());
        };
        let found = self.group_of(group, config)?;
        found.map(drop).ok_or_else(|| Refusal::no_group(group))
    }

    fn create_topic(
        &self,
        topic: &TopicName,
        view: &SendView<'_>,
        config: &BrokerConfig,
        now: UnixMillis,
    ) -> Result<Arc<TopicConfig>, Refusal> {
        let sys_flag = match (view.unit_mode, topic.is_retry()) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => 2,
        };
        let topics = &self.deps.metadata.topics;
        let create = || {
            topics.create_by_send(
                topic,
                view.default_topic,
                view.default_topic_queue_nums,
                sys_flag,
                config,
                now,
            )
        };
        let created = match topics.template(view.default_topic, config) {
            // Somebody else may have made it just now.
            Err(error) if !topics.contains(topic.as_str()) => Err(error),
            _ => self.waiting(create)?,
        };
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
            Err(CreateError::TooMany(max)) => Err(Refusal::new(
                ResponseCode::TOPIC_NOT_EXIST,
                format!(
                    "topic[{topic}] not exist, apply first please! This broker has autoCreateTopicsMax = {max} topics and makes no more for sends. \
                     Make it with mqadmin updateTopic, delete topics that nobody uses, or raise autoCreateTopicsMax."
                ),
            )),
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
        let topics = &self.deps.metadata.topics;
        let (config, is_new) =
            self.waiting(|| topics.create_if_absent(topic, fresh, self.now()))??;
        if is_new {
            (self.deps.topics_changed)();
        }
        Ok(config)
    }

    /// The dead-letter topic of a group.
    pub(super) fn dlq_topic(&self, group: &GroupName) -> Result<TopicName, Refusal> {
        let topic = TopicName::dlq_topic(group);
        self.internal_topic(&topic, DLQ_QUEUES, 0, false)?;
        Ok(topic)
    }
}

fn refuse_closed(topic: &TopicName) -> Result<(), Refusal> {
    if topic.is_closed_for_send() {
        return Err(Refusal::new(
            ResponseCode::NO_PERMISSION,
            format!("Sending message to topic[{topic}] is forbidden."),
        ));
    }
    Ok(())
}

//! Serves the requests of clients, tools and other brokers: one file per family, one `match` over the request codes.
//!
//! Handlers run on the connection's task and never wait: an append is answered from the store's thread through
//! [`PendingSend`], a pull that finds nothing becomes a value in the table of long polls. What a handler cannot serve is a
//! `refusal` with RocketMQ's code and remark.

mod admin;
mod catch_up;
mod client;
mod consume_stats;
mod delay;
mod forward;
mod making;
mod offsets;
mod pending;
mod periodic;
mod pull;
mod pull_check;
mod query;
mod refusal;
mod runtime;
mod send;
mod send_back;
mod send_properties;
mod send_topics;
mod stats;
mod unique_key;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Instant;

use rocket_protocol::name::system_topic;
use rocket_protocol::{Command, QueueId, RequestCode, ResponseCode, TopicName, UnixMillis};
use rocket_remoting::{Connection, Processor, RawRequest, Reply};
use rocket_store::{Clock, Store};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::clients::{self, Clients, Grace};
use crate::config::LiveConfig;
use crate::crew::Alarm;
use crate::identity::Identity;
use crate::long_polling::{ElapsedMillis, LongPolling};
use crate::metadata::{Metadata, is_system_group};
use crate::metrics::Metrics;
use crate::refuser::refuse;
use crate::retention::GroupReaders;
use crate::round;

pub use pending::PendingSend;
pub use pull::ParkedPull;

use catch_up::CatchUps;
use refusal::{Answer, Refusal, success};
use send_topics::{SendContext, SendTopics};
use stats::BrokerStats;
use unique_key::UniqueKeys;

/// The store of a broker: its appends are answered through [`PendingSend`].
pub type BrokerStore = Store<PendingSend>;
/// The table of pulls that wait for messages.
pub type PullPolling = LongPolling<ParkedPull>;

/// What the processor stands on.
#[derive(Clone)]
pub struct Deps {
    /// The configuration as it is now.
    pub config: Arc<LiveConfig>,
    /// The messages.
    pub store: Arc<BrokerStore>,
    /// Topics, groups and positions.
    pub metadata: Arc<Metadata>,
    /// Who is connected.
    pub clients: Arc<Clients>,
    /// Who reads, for retention.
    pub readers: Arc<GroupReaders>,
    /// Pulls that wait.
    pub long_polling: Arc<PullPolling>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// To be called when the table of topics changed, so that name servers hear of it at once.
    pub topics_changed: Arc<dyn Fn() + Send + Sync>,
    /// To be told when a task of the processor panics.
    pub alarm: Alarm,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Who this broker is to others.
    pub identity: Arc<Identity>,
}

/// See the module.
pub struct BrokerProcessor {
    deps: Deps,
    stats: Arc<BrokerStats>,
    unique_keys: UniqueKeys,
    send_context: Arc<SendContext>,
    send_topics: SendTopics,
    schedule_topic: TopicName,
    /// For members of groups that were here before this processor.
    grace: Grace,
    tasks: TaskTracker,
    catch_ups: CatchUps,
    /// The time up to which delayed messages have been looked for.
    delays_seen: AtomicI64,
    /// Bounds the requests that wait for metadata to be written.
    writers: Semaphore,
    /// Bounds the requests that read what may not be in memory.
    readers: Semaphore,
    /// Bounds the requests that are being forwarded to clients.
    forwards: Arc<Semaphore>,
}

/// The members of all groups that clients have made have it.
fn grace(metadata: &Metadata, now: UnixMillis) -> Grace {
    let groups = metadata.groups.names().into_iter();
    let grace = Grace::new(now, groups.filter(|group| !is_system_group(group.as_str())));
    if grace.groups() > 0 {
        tracing::info!(
            groups = grace.groups(),
            grace_ms = clients::grace::GRACE_MS,
            "the members of the consumer groups have this time to come back; until then nobody is told of them"
        );
    }
    grace
}

impl BrokerProcessor {
    /// A processor on `deps`, which serves from now on.
    ///
    /// # Panics
    /// Never: RocketMQ's name of the schedule topic is a topic name.
    #[expect(
        clippy::expect_used,
        reason = "the name is a constant and a unit test parses it"
    )]
    pub fn new(deps: Deps) -> Arc<Self> {
        let now = deps.clock.now();
        let stats = Arc::new(BrokerStats::new(now));
        let unique_keys = UniqueKeys::new(deps.identity.store_host.ip());
        let send_context = Arc::new(SendContext::new(&deps, &stats));
        let schedule_topic =
            TopicName::parse(system_topic::SCHEDULE).expect("a constant topic name");
        let grace = grace(&deps.metadata, now);
        Arc::new(Self {
            deps,
            stats,
            unique_keys,
            send_context,
            send_topics: SendTopics::default(),
            schedule_topic,
            grace,
            tasks: TaskTracker::new(),
            catch_ups: CatchUps::default(),
            delays_seen: AtomicI64::new(i64::MIN),
            writers: Semaphore::new(making::WAITING_MAX),
            readers: Semaphore::new(making::WAITING_MAX),
            forwards: Arc::new(Semaphore::new(forward::CONCURRENT_MAX)),
        })
    }

    /// Pulls that wait for messages now.
    pub fn waiting_pulls(&self) -> usize {
        self.deps.long_polling.len()
    }

    fn now(&self) -> UnixMillis {
        self.deps.clock.now()
    }

    /// For waits: nobody sets this one.
    fn elapsed(&self) -> ElapsedMillis {
        self.deps.clock.elapsed().into()
    }

    /// The visible end of a queue: one behind its last message.
    fn queue_end(&self, topic: &TopicName, queue: QueueId) -> i64 {
        let range = self.deps.store.queue_range(topic, queue);
        range.map_or(0, |range| range.max.to_wire())
    }

    /// The first message of a queue that is still there.
    fn queue_start(&self, topic: &TopicName, queue: QueueId) -> i64 {
        let range = self.deps.store.queue_range(topic, queue);
        range.map_or(0, |range| range.min.to_wire())
    }

    /// Requests whose answer is known at once. Queues need no cleaning: their entries leave with the log that they lead to.
    fn answer(&self, connection: &Connection, request: &Command) -> Answer {
        match request.request_code() {
            RequestCode::HEART_BEAT => self.heartbeat(connection, request),
            RequestCode::UNREGISTER_CLIENT => self.unregister_client(connection, request),
            RequestCode::CHECK_CLIENT_CONFIG => Self::check_client_config(request),
            RequestCode::GET_CONSUMER_LIST_BY_GROUP => self.consumer_list(request),
            RequestCode::LOCK_BATCH_MQ => self.lock_queues(request),
            RequestCode::UNLOCK_BATCH_MQ => self.unlock_queues(request),
            RequestCode::GET_CONSUMER_CONNECTION_LIST => self.consumer_connections(request),
            RequestCode::GET_PRODUCER_CONNECTION_LIST => self.producer_connections(request),
            RequestCode::GET_ALL_PRODUCER_INFO => Ok(self.all_producers()),
            RequestCode::QUERY_CONSUMER_OFFSET => self.query_consumer_offset(request),
            RequestCode::UPDATE_CONSUMER_OFFSET => self.update_consumer_offset(request),
            RequestCode::GET_MAX_OFFSET => self.max_offset(request),
            RequestCode::GET_MIN_OFFSET => self.min_offset(request),
            RequestCode::CLONE_GROUP_OFFSET => self.clone_group_offset(request),
            RequestCode::GET_ALL_CONSUMER_OFFSET => Ok(self.all_consumer_offsets()),
            RequestCode::GET_ALL_DELAY_OFFSET => Ok(self.all_delay_offsets()),
            RequestCode::UPDATE_AND_CREATE_TOPIC => self.update_topic(request),
            RequestCode::UPDATE_AND_CREATE_TOPIC_LIST => self.update_topics(request),
            RequestCode::DELETE_TOPIC_IN_BROKER => self.delete_topic(request),
            RequestCode::GET_TOPIC_CONFIG => self.topic_config(request),
            RequestCode::GET_ALL_TOPIC_CONFIG => Ok(self.all_topics()),
            RequestCode::GET_SYSTEM_TOPIC_LIST_FROM_BROKER => Ok(self.system_topics()),
            RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP => self.update_group(request),
            RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST => self.update_groups(request),
            RequestCode::DELETE_SUBSCRIPTIONGROUP => self.delete_group(request),
            RequestCode::GET_SUBSCRIPTIONGROUP_CONFIG => self.group_config(request),
            RequestCode::GET_ALL_SUBSCRIPTIONGROUP_CONFIG => Ok(self.all_groups()),
            RequestCode::UPDATE_BROKER_CONFIG => self.update_config(request),
            RequestCode::GET_BROKER_CONFIG => Ok(self.broker_config()),
            RequestCode::QUERY_TOPIC_CONSUME_BY_WHO => self.groups_of_topic(request),
            RequestCode::QUERY_TOPICS_BY_CONSUMER => self.topics_of_group(request),
            RequestCode::QUERY_SUBSCRIPTION_BY_CONSUMER => self.subscription_of_group(request),
            RequestCode::CLEAN_EXPIRED_CONSUMEQUEUE => success(),
            RequestCode::CLEAN_UNUSED_TOPIC => self.clean_unused_topics(),
            RequestCode::VIEW_BROKER_STATS_DATA => self.view_stats(request),
            _ => self.read_for(request).unwrap_or_else(|| {
                Err(Refusal::new(
                    ResponseCode::REQUEST_CODE_NOT_SUPPORTED,
                    format!(" request type {} not supported", request.code),
                ))
            }),
        }
    }

    /// Answers requests that read messages wherever in the log they are.
    fn read_for(&self, request: &Command) -> Option<Answer> {
        let read: fn(&Self, &Command) -> Answer = match request.request_code() {
            RequestCode::SEARCH_OFFSET_BY_TIMESTAMP => Self::search_offset,
            RequestCode::GET_EARLIEST_MSG_STORETIME => Self::earliest_store_time,
            RequestCode::INVOKE_BROKER_TO_RESET_OFFSET => Self::reset_offset,
            RequestCode::VIEW_MESSAGE_BY_ID => Self::view_message,
            RequestCode::QUERY_MESSAGE => Self::query_message,
            RequestCode::GET_TOPIC_STATS_INFO => Self::topic_stats,
            RequestCode::GET_CONSUME_STATS => Self::consume_stats,
            RequestCode::GET_BROKER_CONSUME_STATS => Self::broker_consume_stats,
            RequestCode::QUERY_CONSUME_TIME_SPAN => Self::consume_time_span,
            RequestCode::GET_BROKER_RUNTIME_INFO => |this, _| Ok(this.runtime_info()),
            _ => return None,
        };
        Some(self.reading(|| read(self, request)).flatten())
    }
}

impl Processor for BrokerProcessor {
    fn process(&self, connection: &Connection, request: Command, reply: Reply) {
        let begun = Instant::now();
        match request.request_code() {
            RequestCode::SEND_MESSAGE
            | RequestCode::SEND_MESSAGE_V2
            | RequestCode::SEND_BATCH_MESSAGE => {
                self.send_decoded(connection, &request, reply, begun);
            }
            RequestCode::PULL_MESSAGE | RequestCode::LITE_PULL_MESSAGE => {
                self.pull(connection, &request, reply, begun);
            }
            RequestCode::CONSUMER_SEND_MSG_BACK => self.send_back(&request, reply, begun),
            RequestCode::GET_CONSUMER_RUNNING_INFO | RequestCode::CONSUME_MESSAGE_DIRECTLY => {
                self.forward(request, reply);
            }
            code => {
                let result = match self.answer(connection, &request) {
                    Ok(response) => {
                        let result = response.response_code().name();
                        reply.send(response);
                        result
                    }
                    Err(refusal) => {
                        let result = refusal.code.name();
                        refuse(&request, reply, refusal.into_command());
                        result
                    }
                };
                self.deps
                    .metrics
                    .answered(code.name(), result, false, begun.elapsed());
            }
        }
    }

    fn process_in_place<'a>(&self, request: RawRequest<'a>) -> Result<(), RawRequest<'a>> {
        self.send_in_place(request)
    }

    fn served(&self, _connection: &Connection) {
        round::served(&self.deps.store);
    }

    fn closed(&self, connection: &Connection) {
        for notice in self.deps.clients.closed(connection.id().0) {
            self.notify(&notice);
        }
    }
}

impl BrokerProcessor {
    /// Tells a group's members of a change, unless the group or the broker does not want that, or not all of them can have come yet: they
    /// look by themselves every 20 s.
    fn notify(&self, notice: &clients::Notice<Connection>) {
        if self.grace.covers(self.now(), notice.group.as_str()) {
            return;
        }
        let is_wanted = self
            .deps
            .metadata
            .groups
            .get(notice.group.as_str())
            .is_none_or(|group| group.notify_consumer_ids_changed_enable);
        if is_wanted && self.deps.config.load().notify_consumer_ids_changed_enable {
            clients::notify(notice);
        }
    }
}

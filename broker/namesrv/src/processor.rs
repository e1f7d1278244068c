//! Answers requests to a name server with RocketMQ's codes and remarks.
//!
//! Everything but a change of the key-value settings is answered at once from memory; those wait for the disk on a blocking thread.

mod brokers;
mod kv_config;
mod routes;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;

use parking_lot::RwLock;
use rocket_protocol::{Command, HeaderError, RequestCode, ResponseCode, UnixMillis};

use crate::kv::{self, KvConfig};
use crate::table::{Channel, RouteTable, Rules, Write};
use kv_config::KvChange;

/// `TopicSysFlag`: the topic belongs to a unit; has subscribers of a unit.
const FLAG_UNIT: u32 = 1;
const FLAG_UNIT_SUB: u32 = 2;

/// What of the configuration changes answers.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Rules of the route table.
    pub rules: Rules,
    /// Routes carry the order settings of their topic (`orderMessageEnable`).
    pub order_message: bool,
    /// The list of all topics may be asked for (`enableAllTopicList`).
    pub all_topic_list: bool,
}

/// The state of a name server and its answers.
#[derive(Debug)]
pub struct Namesrv {
    settings: Settings,
    table: RwLock<RouteTable>,
    kv: Arc<KvConfig>,
    now: fn() -> UnixMillis,
}

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The answer.
    Answer(Command),
    /// The answer comes after the disk: call [`KvChange::apply`] where blocking is allowed.
    Disk(KvChange),
}

/// Why a request is not served.
#[derive(Debug)]
struct Refusal {
    code: ResponseCode,
    remark: String,
}

impl Refusal {
    fn new(code: ResponseCode, remark: impl Into<String>) -> Self {
        Self {
            code,
            remark: remark.into(),
        }
    }

    fn into_command(self) -> Command {
        Command::response(self.code).with_remark(self.remark)
    }
}

impl From<HeaderError> for Refusal {
    fn from(error: HeaderError) -> Self {
        Self::new(ResponseCode::SYSTEM_ERROR, error.to_string())
    }
}

impl From<kv::Error> for Refusal {
    fn from(error: kv::Error) -> Self {
        Self::new(ResponseCode::SYSTEM_ERROR, error.to_string())
    }
}

type Answered = Result<Command, Refusal>;

impl Namesrv {
    /// A name server that knows no broker yet. `now` is its clock.
    pub fn new(settings: Settings, kv: KvConfig, now: fn() -> UnixMillis) -> Self {
        Self {
            settings,
            table: RwLock::new(RouteTable::new(settings.rules)),
            kv: Arc::new(kv),
            now,
        }
    }

    /// Live brokers and topics with a route.
    pub fn counts(&self) -> (usize, usize) {
        let table = self.table.read();
        (table.live_count(), table.topic_count())
    }

    /// Forgets brokers that were silent for too long; returns the connections to close.
    pub fn expire(&self) -> Vec<Channel> {
        let expired = self.table.write().expire((self.now)());
        for (addr, _) in &expired {
            tracing::warn!(
                broker = addr,
                "a broker was silent for too long and is forgotten"
            );
        }
        expired.into_iter().map(|(_, channel)| channel).collect()
    }

    pub(crate) fn closed(&self, channel: Channel) {
        for addr in self.table.write().channel_closed(channel) {
            tracing::info!(
                broker = addr,
                "a broker's connection closed; it is out of the routes"
            );
        }
    }

    pub(crate) fn handle(&self, channel: Channel, request: &Command) -> Outcome {
        let answered = match request.request_code() {
            RequestCode::PUT_KV_CONFIG => return self.put_kv(request),
            RequestCode::DELETE_KV_CONFIG => return self.delete_kv(request),
            RequestCode::GET_ROUTEINFO_BY_TOPIC => self.route(request),
            RequestCode::REGISTER_BROKER => self.register(channel, request),
            RequestCode::UNREGISTER_BROKER => self.unregister(channel, request),
            RequestCode::QUERY_DATA_VERSION => self.query_data_version(request),
            RequestCode::BROKER_HEARTBEAT => self.heartbeat(request),
            RequestCode::GET_BROKER_CLUSTER_INFO => Ok(self.cluster_info()),
            RequestCode::GET_ALL_TOPIC_LIST_FROM_NAMESERVER => self.all_topics(),
            RequestCode::GET_TOPICS_BY_CLUSTER => self.topics_by_cluster(request),
            RequestCode::GET_SYSTEM_TOPIC_LIST_FROM_NS => Ok(self.system_topics()),
            RequestCode::GET_UNIT_TOPIC_LIST => {
                Ok(self.topics_by_flag(|flag| flag & FLAG_UNIT != 0))
            }
            RequestCode::GET_HAS_UNIT_SUB_TOPIC_LIST => {
                Ok(self.topics_by_flag(|flag| flag & FLAG_UNIT_SUB != 0))
            }
            RequestCode::GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST => {
                Ok(self.topics_by_flag(|flag| flag & FLAG_UNIT == 0 && flag & FLAG_UNIT_SUB != 0))
            }
            RequestCode::DELETE_TOPIC_IN_NAMESRV => self.delete_topic(request),
            RequestCode::GET_KV_CONFIG => self.get_kv(request),
            RequestCode::GET_KVLIST_BY_NAMESPACE => self.kv_list(request),
            RequestCode::WIPE_WRITE_PERM_OF_BROKER => self.set_write(request, Write::Wipe),
            RequestCode::ADD_WRITE_PERM_OF_BROKER => self.set_write(request, Write::Add),
            RequestCode::GET_BROKER_MEMBER_GROUP => self.member_group(request),
            RequestCode(code) => Err(Refusal::new(
                ResponseCode::REQUEST_CODE_NOT_SUPPORTED,
                format!(" request type {code} not supported"),
            )),
        };
        Outcome::Answer(answered.unwrap_or_else(Refusal::into_command))
    }
}

fn success() -> Command {
    Command::response(ResponseCode::SUCCESS)
}

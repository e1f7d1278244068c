//! Answers requests to a name server with RocketMQ's codes and remarks.
//!
//! Everything but a change of the key-value settings is answered at once from memory; those wait for the disk on a blocking thread.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::RwLock;
use rocket_protocol::body::{
    BrokerMemberGroup, BrokerMemberGroupBody, ClusterInfo, DataVersion, KvTable, RouteData,
};
use rocket_protocol::header::{
    AddWritePermResponseHeader, BrokerHeartbeatHeader, BrokerIdentityHeader, BrokerNameHeader,
    DeleteTopicFromNamesrvHeader, GetBrokerMemberGroupHeader, GetKvConfigResponseHeader,
    GetRouteInfoHeader, GetTopicsByClusterHeader, KvKeyHeader, NamespaceHeader, PutKvConfigHeader,
    QueryDataVersionResponseHeader, RegisterBrokerHeader, RegisterBrokerResponseHeader,
    WipeWritePermResponseHeader,
};
use rocket_protocol::{Command, HeaderError, RequestCode, ResponseCode, UnixMillis};

use crate::kv::{self, KvConfig, ORDER_TOPIC_CONFIG};
use crate::table::{Channel, RouteTable, Rules, Write};

mod wire;
use wire::{
    addresses, broker_data, crc32, queue_data, read_topics, registration, topic_list, version,
};

/// Where RocketMQ sends people who ask for a topic that nobody serves (`FAQUrl.APPLY_TOPIC_URL`).
const FAQ: &str = "\nSee https://rocketmq.apache.org/docs/bestPractice/06FAQ for further details.";
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

/// A change of the key-value settings.
#[derive(Debug)]
pub(crate) struct KvChange {
    kv: Arc<KvConfig>,
    namespace: String,
    key: String,
    /// `None` deletes.
    value: Option<String>,
}

impl KvChange {
    pub(crate) fn apply(self) -> Command {
        let done = match &self.value {
            Some(value) => self.kv.put(&self.namespace, &self.key, value),
            None => self.kv.delete(&self.namespace, &self.key),
        };
        match done {
            Ok(()) => success(),
            Err(error) => {
                tracing::error!(%error, "key-value settings could not be changed");
                Refusal::from(error).into_command()
            }
        }
    }
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

    /// The version gate of RocketMQ (strict JSON from 4.9.4 on, or when asked for) is met by always writing strict JSON: the dialect's readers
    /// take quoted keys too.
    fn route(&self, request: &Command) -> Answered {
        let header: GetRouteInfoHeader = request.header()?;
        let topic = header.topic.as_str();
        let Some(route) = self.table.read().route(topic) else {
            return Err(Refusal::new(
                ResponseCode::TOPIC_NOT_EXIST,
                format!("No topic route info in name server for the topic: {topic}{FAQ}"),
            ));
        };
        let order = if self.settings.order_message {
            self.kv.get(ORDER_TOPIC_CONFIG, topic)
        } else {
            None
        };
        let data = RouteData {
            broker_datas: route
                .groups
                .iter()
                .map(|(name, group)| broker_data(name, group))
                .collect(),
            filter_server_table: BTreeMap::new(),
            order_topic_conf: order,
            queue_datas: route
                .queues
                .iter()
                .map(|(name, queues)| queue_data(name, *queues))
                .collect(),
        };
        Ok(success().with_body(data.to_json()))
    }

    fn register(&self, channel: Channel, request: &Command) -> Answered {
        let header: RegisterBrokerHeader = request.header()?;
        let body = request.body.contiguous();
        if header.body_crc32 != 0 && header.body_crc32 != crc32(&body) {
            return Err(Refusal::new(ResponseCode::SYSTEM_ERROR, "crc32 not match"));
        }
        let topics = read_topics(request, &header, &body).map_err(|error| {
            Refusal::new(
                ResponseCode::SYSTEM_ERROR,
                format!("Failed to decode RegisterBrokerBody: {error}"),
            )
        })?;
        let registration = registration(&header, topics.as_ref(), request.ext.get("__ZONE_NAME"))?;
        let (name, addr, count) = (
            registration.name.clone(),
            registration.addr.clone(),
            registration.topics.as_ref().map_or(0, BTreeMap::len),
        );
        let now = (self.now)();
        let (registered, new) = {
            let mut table = self.table.write();
            let known = table
                .version(&registration.cluster, &registration.addr)
                .is_some();
            (table.register(registration, channel, now), !known)
        };
        let registered = registered.map_err(|error| {
            tracing::warn!(broker = name, addr, %error, "a registration was refused");
            Refusal::new(ResponseCode::SYSTEM_ERROR, "register broker failed")
        })?;
        if new {
            tracing::info!(
                broker = name,
                id = header.broker_id,
                addr,
                topics = count,
                "a broker registered"
            );
        }
        let answer = success().with_header(&RegisterBrokerResponseHeader {
            ha_server_addr: registered.ha_addr.map(Into::into),
            master_addr: registered.master_addr.map(Into::into),
        });
        // No body when there is no such namespace: that is how a Java broker tells "no order settings".
        Ok(match self.kv.namespace(ORDER_TOPIC_CONFIG) {
            Some(table) => answer.with_body(KvTable { table }.to_json()),
            None => answer,
        })
    }

    fn unregister(&self, channel: Channel, request: &Command) -> Answered {
        let header: BrokerIdentityHeader = request.header()?;
        self.table.write().unregister(
            &header.cluster_name,
            &header.broker_name,
            &header.broker_addr,
            channel,
        );
        tracing::info!(broker = %header.broker_name, addr = %header.broker_addr, "a broker said farewell");
        Ok(success())
    }

    fn query_data_version(&self, request: &Command) -> Answered {
        let header: BrokerIdentityHeader = request.header()?;
        let theirs = DataVersion::parse(&request.body.contiguous()).map_err(|error| {
            Refusal::new(
                ResponseCode::SYSTEM_ERROR,
                format!("Failed to decode DataVersion: {error}"),
            )
        })?;
        let ours = {
            let mut table = self.table.write();
            table.heard(&header.cluster_name, &header.broker_addr, (self.now)());
            table.version(&header.cluster_name, &header.broker_addr)
        };
        let changed = ours != Some(version(&theirs));
        let answer = success().with_header(&QueryDataVersionResponseHeader { changed });
        Ok(match ours {
            Some(ours) => {
                let body = DataVersion {
                    counter: ours.counter,
                    state_version: ours.state,
                    timestamp: ours.timestamp,
                };
                answer.with_body(body.to_json())
            }
            None => answer,
        })
    }

    fn heartbeat(&self, request: &Command) -> Answered {
        let header: BrokerHeartbeatHeader = request.header()?;
        self.table
            .write()
            .heard(&header.cluster_name, &header.broker_addr, (self.now)());
        Ok(success())
    }

    fn cluster_info(&self) -> Command {
        let table = self.table.read();
        let info = ClusterInfo {
            broker_addr_table: table
                .groups()
                .iter()
                .map(|(name, group)| (name.clone(), broker_data(name, group)))
                .collect(),
            cluster_addr_table: table
                .clusters()
                .into_iter()
                .map(|(cluster, names)| {
                    (
                        cluster.to_owned(),
                        names.into_iter().map(str::to_owned).collect(),
                    )
                })
                .collect(),
        };
        success().with_body(info.to_json())
    }

    fn all_topics(&self) -> Answered {
        if !self.settings.all_topic_list {
            return Err(Refusal::new(ResponseCode::SYSTEM_ERROR, "disable"));
        }
        Ok(topic_list(self.table.read().topics(|_| true), None))
    }

    fn topics_by_cluster(&self, request: &Command) -> Answered {
        let header: GetTopicsByClusterHeader = request.header()?;
        Ok(topic_list(
            self.table.read().topics_of_cluster(&header.cluster),
            None,
        ))
    }

    /// Names of clusters and brokers, each of which is a topic; and an address of any broker.
    fn system_topics(&self) -> Command {
        let table = self.table.read();
        let names: BTreeSet<&str> = table
            .clusters()
            .into_iter()
            .flat_map(|(cluster, names)| names.into_iter().chain([cluster]))
            .collect();
        let address = table
            .groups()
            .values()
            .find_map(|group| group.addrs.values().next().cloned());
        topic_list(names, address)
    }

    fn topics_by_flag(&self, wanted: impl Fn(u32) -> bool) -> Command {
        let table = self.table.read();
        topic_list(
            table.topics(|queues| {
                queues
                    .values()
                    .next()
                    .is_some_and(|queues| wanted(queues.sys_flag))
            }),
            None,
        )
    }

    fn delete_topic(&self, request: &Command) -> Answered {
        let header: DeleteTopicFromNamesrvHeader = request.header()?;
        let cluster = header
            .cluster_name
            .as_deref()
            .filter(|cluster| !cluster.is_empty());
        self.table.write().delete_topic(&header.topic, cluster);
        tracing::info!(topic = %header.topic, cluster, "a topic was taken out of the routes");
        Ok(success())
    }

    fn set_write(&self, request: &Command, write: Write) -> Answered {
        let header: BrokerNameHeader = request.header()?;
        let count = self.table.write().set_write(&header.broker_name, write);
        tracing::info!(broker = %header.broker_name, ?write, topics = count, "write permission of a broker changed");
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        Ok(match write {
            Write::Wipe => success().with_header(&WipeWritePermResponseHeader {
                wipe_topic_count: count,
            }),
            Write::Add => success().with_header(&AddWritePermResponseHeader {
                add_topic_count: count,
            }),
        })
    }

    fn member_group(&self, request: &Command) -> Answered {
        let header: GetBrokerMemberGroupHeader = request.header()?;
        let table = self.table.read();
        let group = table
            .groups()
            .get(header.broker_name.as_str())
            .filter(|group| group.cluster == header.cluster_name.as_str());
        let body = BrokerMemberGroupBody {
            broker_member_group: Some(BrokerMemberGroup {
                broker_addrs: group.map(addresses).unwrap_or_default(),
                broker_name: header.broker_name.to_string(),
                cluster: header.cluster_name.to_string(),
            }),
        };
        Ok(success().with_body(body.to_json()))
    }

    fn put_kv(&self, request: &Command) -> Outcome {
        let read = || -> Result<_, Refusal> {
            let header: PutKvConfigHeader = request.header()?;
            not_empty(&header.namespace, &header.key)?;
            Ok(header)
        };
        match read() {
            Ok(header) => Outcome::Disk(KvChange {
                kv: Arc::clone(&self.kv),
                namespace: header.namespace.to_string(),
                key: header.key.to_string(),
                value: Some(header.value.to_string()),
            }),
            Err(refusal) => Outcome::Answer(refusal.into_command()),
        }
    }

    fn delete_kv(&self, request: &Command) -> Outcome {
        match request.header::<KvKeyHeader>() {
            Ok(header) => Outcome::Disk(KvChange {
                kv: Arc::clone(&self.kv),
                namespace: header.namespace.to_string(),
                key: header.key.to_string(),
                value: None,
            }),
            Err(error) => Outcome::Answer(Refusal::from(error).into_command()),
        }
    }

    fn get_kv(&self, request: &Command) -> Answered {
        let KvKeyHeader { namespace, key } = request.header()?;
        match self.kv.get(&namespace, &key) {
            Some(value) => Ok(success().with_header(&GetKvConfigResponseHeader {
                value: Some(value.into()),
            })),
            None => Err(Refusal::new(
                ResponseCode::QUERY_NOT_FOUND,
                format!("No config item, Namespace: {namespace} Key: {key}"),
            )),
        }
    }

    fn kv_list(&self, request: &Command) -> Answered {
        let NamespaceHeader { namespace } = request.header()?;
        match self.kv.namespace(&namespace) {
            Some(table) => Ok(success().with_body(KvTable { table }.to_json())),
            None => Err(Refusal::new(
                ResponseCode::QUERY_NOT_FOUND,
                format!("No config item, Namespace: {namespace}"),
            )),
        }
    }
}

fn success() -> Command {
    Command::response(ResponseCode::SUCCESS)
}

fn not_empty(namespace: &str, key: &str) -> Result<(), Refusal> {
    if namespace.is_empty() || key.is_empty() {
        return Err(Refusal::new(
            ResponseCode::SYSTEM_ERROR,
            "namespace or key is null",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;

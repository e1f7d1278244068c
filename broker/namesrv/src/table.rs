//! The route registry: pure, every call takes the time it needs.
//!
//! The rules are those of RocketMQ's `RouteInfoManager`, with two that are stricter because all replicas of one of our groups are reached under
//! the same address (the master's Service), so that an address alone does not tell two of them apart:
//!
//! - An *unregistration* counts only when it comes over the connection that registered last: what an old master says when it leaves must not
//!   take its successor out of the routes.
//! - A registration with a *smaller state version* than a living one of the same id is ignored even when both name the same address, as long as
//!   they come over different connections. RocketMQ ignores it for different addresses only.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use rocket_protocol::ids::UnixMillis;

mod answers;
#[cfg(test)]
mod tests;

/// The id of a group's master.
pub const MASTER_ID: u64 = 0;
/// Silence after which a broker is forgotten when it does not say otherwise (`DEFAULT_BROKER_CHANNEL_EXPIRED_TIME`).
pub const EXPIRY_DEFAULT: Duration = Duration::from_mins(2);

const PERM_WRITE: u32 = 2;
const PERM_READ: u32 = 4;

/// A connection, as the shell numbers it.
pub type Channel = u64;

/// The version of a broker's topic table (`DataVersion`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Version {
    /// Epoch of the master; 0 outside of a replicated group.
    pub state: i64,
    /// When it changed, by the broker's clock.
    pub timestamp: i64,
    /// How often it changed.
    pub counter: i64,
}

/// A topic's queues on one broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queues {
    /// Queues to read from.
    pub read: u32,
    /// Queues to write to.
    pub write: u32,
    /// 2 write, 4 read, 8 inherited.
    pub perm: u32,
    /// RocketMQ's `TopicSysFlag`.
    pub sys_flag: u32,
}

/// What a broker says of itself.
#[derive(Debug, Clone)]
pub struct Registration {
    /// Cluster.
    pub cluster: String,
    /// Group.
    pub name: String,
    /// host:port for clients.
    pub addr: String,
    /// 0 = master.
    pub id: u64,
    /// host:port for slaves.
    pub ha_addr: String,
    /// Silence after which the broker wants to be forgotten.
    pub expiry: Option<Duration>,
    /// Whether a slave may stand in for the master; `None` from brokers before 5.0.
    pub acting_master: Option<bool>,
    /// Availability zone.
    pub zone: Option<String>,
    /// Its topics; `None` when it sent no table.
    pub topics: Option<BTreeMap<String, Queues>>,
    /// Version of that table.
    pub version: Version,
}

/// What a slave is told about its master; empty for a master or when there is none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Registered {
    /// The master's address for slaves.
    pub ha_addr: Option<String>,
    /// The master's address for clients.
    pub master_addr: Option<String>,
}

/// The registration was refused; the broker sees code 1 and tries again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a first registration must carry more than one topic")]
pub struct Refused;

/// A broker group in a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Cluster.
    pub cluster: String,
    /// Addresses by id.
    pub addrs: BTreeMap<u64, String>,
    /// Whether a slave may stand in for the master.
    pub acting_master: bool,
    /// Availability zone.
    pub zone: Option<String>,
}

/// Who serves a topic: queues and groups by broker name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Route {
    /// Queues by broker name.
    pub queues: BTreeMap<String, Queues>,
    /// Groups by broker name.
    pub groups: BTreeMap<String, Group>,
}

#[derive(Debug, Clone)]
struct Live {
    heard: UnixMillis,
    expiry: Duration,
    version: Version,
    channel: Channel,
    ha_addr: String,
}

/// Rules that the name server's configuration may change.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rules {
    /// Present the smallest living slave as id 0 of a group that has no master and allows it (`supportActingMaster`).
    pub acting_master: bool,
    /// Take topics that a registration no longer has out of that broker's routes (`deleteTopicWithBrokerRegistration`).
    pub delete_missing_topics: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct RouteTable {
    rules: Rules,
    topics: HashMap<String, BTreeMap<String, Queues>>,
    groups: BTreeMap<String, Group>,
    /// By cluster and address.
    live: HashMap<(String, String), Live>,
}

impl RouteTable {
    /// An empty table.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            ..Self::default()
        }
    }

    /// Takes a broker's registration that came over `channel`.
    ///
    /// # Errors
    /// When the id is not known yet and the table has exactly one topic: a 5.x broker that sends one changed topic must not become a group
    /// with that topic only.
    pub fn register(
        &mut self,
        registration: Registration,
        channel: Channel,
        now: UnixMillis,
    ) -> Result<Registered, Refused> {
        let Registration {
            cluster,
            name,
            addr,
            id,
            ha_addr,
            expiry,
            acting_master,
            zone,
            topics,
            version,
        } = registration;
        if self.is_superseded(&cluster, &name, &addr, id, version, channel) {
            if self.live_channel(&cluster, &addr) == Some(channel) {
                self.live.remove(&(cluster, addr));
            }
            return Ok(Registered::default());
        }
        let known = self
            .groups
            .get(&name)
            .is_some_and(|group| group.addrs.contains_key(&id));
        // An address holds one id of a group: the same broker under another id has changed its role.
        let holds_other_id = self.groups.get(&name).is_some_and(|group| {
            group
                .addrs
                .iter()
                .any(|(at, held)| *held == addr && *at != id)
        });
        if !known && topics.as_ref().is_some_and(|topics| topics.len() == 1) {
            if holds_other_id {
                self.drop_address(&name, &addr);
            }
            return Err(Refused);
        }
        let group = self.groups.entry(name.clone()).or_insert_with(|| Group {
            cluster: cluster.clone(),
            addrs: BTreeMap::new(),
            acting_master: false,
            zone: None,
        });
        group.cluster.clone_from(&cluster);
        group.acting_master = acting_master.unwrap_or(false);
        group.zone = zone;
        group.addrs.retain(|at, held| *held != addr || *at == id);
        let first = group.addrs.insert(id, addr.clone()).is_none();
        let smallest = group.addrs.keys().next() == Some(&id);
        let stands_in = acting_master.is_some() && id != MASTER_ID && smallest;
        let read_only = stands_in && group.acting_master;
        let master_addr = group
            .addrs
            .get(&MASTER_ID)
            .filter(|_| id != MASTER_ID)
            .cloned();

        let key = (cluster.clone(), addr);
        let changed = self
            .live
            .get(&key)
            .is_none_or(|live| live.version != version);
        if let Some(topics) = topics
            && (id == MASTER_ID || stands_in)
        {
            self.write_queues(&name, topics, first || changed, read_only);
        }
        let expiry = expiry.unwrap_or(EXPIRY_DEFAULT);
        self.live.insert(
            key,
            Live {
                heard: now,
                expiry,
                version,
                channel,
                ha_addr,
            },
        );

        let master = master_addr.and_then(|addr| {
            self.live
                .get(&(cluster, addr.clone()))
                .map(|live| (addr, live.ha_addr.clone()))
        });
        Ok(
            master.map_or_else(Registered::default, |(addr, ha)| Registered {
                ha_addr: Some(ha),
                master_addr: Some(addr),
            }),
        )
    }

    /// Whether a living registration of the same id, from someone else, has a larger state version.
    fn is_superseded(
        &self,
        cluster: &str,
        name: &str,
        addr: &str,
        id: u64,
        version: Version,
        channel: Channel,
    ) -> bool {
        let Some(held) = self.groups.get(name).and_then(|group| group.addrs.get(&id)) else {
            return false;
        };
        let Some(live) = self.live.get(&(cluster.to_owned(), held.clone())) else {
            return false;
        };
        live.version.state > version.state && (held != addr || live.channel != channel)
    }

    fn write_queues(
        &mut self,
        name: &str,
        topics: BTreeMap<String, Queues>,
        all: bool,
        read_only: bool,
    ) {
        if self.rules.delete_missing_topics {
            self.topics.retain(|topic, queues| {
                if !topics.contains_key(topic) {
                    queues.remove(name);
                }
                !queues.is_empty()
            });
        }
        for (topic, mut queues) in topics {
            let known = self
                .topics
                .get(&topic)
                .is_some_and(|brokers| brokers.contains_key(name));
            if all || !known {
                if read_only {
                    queues.perm &= !PERM_WRITE;
                }
                self.topics
                    .entry(topic)
                    .or_default()
                    .insert(name.to_owned(), queues);
            }
        }
    }

    /// Takes a broker's farewell that came over `channel`. Ignored when the address was registered over another connection since.
    pub fn unregister(&mut self, cluster: &str, name: &str, addr: &str, channel: Channel) {
        if self
            .live_channel(cluster, addr)
            .is_some_and(|last| last != channel)
        {
            return;
        }
        self.live.remove(&(cluster.to_owned(), addr.to_owned()));
        self.drop_address(name, addr);
    }

    /// A connection is gone, and with it every broker that registered over it. Returns their addresses.
    pub fn channel_closed(&mut self, channel: Channel) -> Vec<String> {
        self.drop_live(|live| live.channel == channel)
            .into_iter()
            .map(|(addr, _)| addr)
            .collect()
    }

    /// Forgets brokers that were silent for too long. Returns their addresses and the connections that should be closed.
    pub fn expire(&mut self, now: UnixMillis) -> Vec<(String, Channel)> {
        let silent = |live: &Live| {
            i128::from(now.0) - i128::from(live.heard.0)
                > i128::try_from(live.expiry.as_millis()).unwrap_or(i128::MAX)
        };
        self.drop_live(silent)
    }

    fn drop_live(&mut self, gone: impl Fn(&Live) -> bool) -> Vec<(String, Channel)> {
        let mut dropped = Vec::new();
        self.live.retain(|(cluster, addr), live| {
            let gone = gone(live);
            if gone {
                dropped.push((cluster.clone(), addr.clone(), live.channel));
            }
            !gone
        });
        for (cluster, addr, _) in &dropped {
            let holders = self.groups.iter().filter(|(_, group)| {
                group.cluster == *cluster && group.addrs.values().any(|held| held == addr)
            });
            for name in holders.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
                self.drop_address(&name, addr);
            }
        }
        dropped
            .into_iter()
            .map(|(_, addr, channel)| (addr, channel))
            .collect()
    }

    /// Takes an address out of a group, and the group with its queues out of all routes when it was the last.
    fn drop_address(&mut self, name: &str, addr: &str) {
        let Some(group) = self.groups.get_mut(name) else {
            return;
        };
        group.addrs.retain(|_, held| held != addr);
        if group.addrs.is_empty() {
            self.groups.remove(name);
            self.topics.retain(|_, brokers| {
                brokers.remove(name);
                !brokers.is_empty()
            });
        } else if group.acting_master && !group.addrs.contains_key(&MASTER_ID) {
            // A slave stands in from now on; it takes no writes.
            self.each_queues_of(name, |queues| queues.perm &= !PERM_WRITE);
        }
    }

    fn each_queues_of(&mut self, name: &str, mut change: impl FnMut(&mut Queues)) -> usize {
        let queues = self
            .topics
            .values_mut()
            .filter_map(|brokers| brokers.get_mut(name));
        queues.map(&mut change).count()
    }

    fn live_channel(&self, cluster: &str, addr: &str) -> Option<Channel> {
        self.live
            .get(&(cluster.to_owned(), addr.to_owned()))
            .map(|live| live.channel)
    }

    /// A sign of life.
    pub fn heard(&mut self, cluster: &str, addr: &str, now: UnixMillis) {
        if let Some(live) = self.live.get_mut(&(cluster.to_owned(), addr.to_owned())) {
            live.heard = now;
        }
    }

    /// The version that was registered last.
    pub fn version(&self, cluster: &str, addr: &str) -> Option<Version> {
        self.live
            .get(&(cluster.to_owned(), addr.to_owned()))
            .map(|live| live.version)
    }

    /// Takes the write bit from (or gives read and write to) all queues of a broker. Returns how many topics that concerned.
    pub fn set_write(&mut self, name: &str, write: Write) -> usize {
        self.each_queues_of(name, |queues| match write {
            Write::Wipe => queues.perm &= !PERM_WRITE,
            Write::Add => queues.perm = PERM_READ | PERM_WRITE,
        })
    }

    /// Takes a topic out of the routes, of one cluster's brokers only when one is named. The next registration of a broker that still has it
    /// brings it back.
    pub fn delete_topic(&mut self, topic: &str, cluster: Option<&str>) {
        let Some(queues) = self.topics.get_mut(topic) else {
            return;
        };
        if let Some(cluster) = cluster {
            queues.retain(|name, _| {
                self.groups
                    .get(name)
                    .is_none_or(|group| group.cluster != cluster)
            });
        } else {
            queues.clear();
        }
        if queues.is_empty() {
            self.topics.remove(topic);
        }
    }
}

/// See [`RouteTable::set_write`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// Take it away.
    Wipe,
    /// Give it back.
    Add,
}

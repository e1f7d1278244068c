//! The route registry: pure, every call takes the time it needs.
//!
//! The rules are those of RocketMQ's `RouteInfoManager`, with three that are stricter, the first two because all replicas of one of our groups are
//! reached under the same address (the master's Service), so that an address alone does not tell two of them apart:
//!
//! - An *unregistration* counts only when it comes over the connection that registered last: what an old master says when it leaves must not
//!   take its successor out of the routes.
//! - A registration with a *smaller state version* than a living one of the same id is ignored even when both name the same address, as long as
//!   they come over different connections. RocketMQ ignores it for different addresses only.
//! - A *master's* state version counts for a while after its connection is gone (`table/former.rs`).
//!
//! Everything has a bound, as anybody may register: brokers of a connection and in all, topics of a group, and what all routes take. So that the bound
//! holds, an address leaves its group with the registration that brought it there, whatever it was registered as since.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use rocket_protocol::ids::UnixMillis;

mod answers;
mod former;
mod leaving;
mod routes;
#[cfg(test)]
mod tests;

use former::Former;
use routes::Routes;

/// The id of a group's master.
pub const MASTER_ID: u64 = 0;
/// Silence after which a broker is forgotten when it does not say otherwise (`DEFAULT_BROKER_CHANNEL_EXPIRED_TIME`).
pub const EXPIRY_DEFAULT: Duration = Duration::from_mins(2);

/// Brokers that may be registered at a time.
const BROKERS_MAX: usize = 10_000;
/// Brokers that may be registered over one connection: a container of brokers has one for all of them.
const BROKERS_PER_CHANNEL_MAX: usize = 256;

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
    /// Topics that got no route, as there is no room for more.
    pub left_out: usize,
    /// It was not taken in: a later master of the group is known.
    pub is_superseded: bool,
}

/// The registration was refused; the broker sees code 1 and tries again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A 5.x broker that sends one changed topic must not become a group with that topic only.
    #[error("a first registration must carry more than one topic")]
    OneTopic,
    /// There is no room for another broker.
    #[error("this name server takes {in_all} brokers, and {of_a_channel} over one connection")]
    TooManyBrokers {
        /// In all.
        in_all: usize,
        /// Over one connection.
        of_a_channel: usize,
    },
}

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
    /// Its group.
    name: String,
    heard: UnixMillis,
    expiry: Duration,
    version: Version,
    channel: Channel,
    ha_addr: String,
    /// Registered as its group's master.
    is_master: bool,
}

/// Rules that the name server's configuration may change.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rules {
    /// Present the smallest living slave as id 0 of a group that has no master and allows it (`supportActingMaster`).
    pub acting_master: bool,
    /// Take topics that a registration no longer has out of that broker's routes (`deleteTopicWithBrokerRegistration`).
    pub delete_missing_topics: bool,
}

#[derive(Debug)]
struct Bounds {
    brokers: usize,
    brokers_per_channel: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            brokers: BROKERS_MAX,
            brokers_per_channel: BROKERS_PER_CHANNEL_MAX,
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct RouteTable {
    rules: Rules,
    bounds: Bounds,
    routes: Routes,
    groups: BTreeMap<String, Group>,
    /// By cluster and address.
    live: HashMap<(String, String), Live>,
    former: Former,
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
    /// When the id is not known yet and the table has exactly one topic, or when there is no room for another broker.
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
        let is_late = id == MASTER_ID && self.former.is_later(&cluster, &name, version.state, now);
        if is_late || self.is_superseded(&cluster, &name, &addr, id, version, channel) {
            if self.live_channel(&cluster, &addr) == Some(channel) {
                self.forget(&cluster, &addr);
            }
            return Ok(Registered {
                is_superseded: true,
                ..Registered::default()
            });
        }
        self.check_room(&cluster, &addr, channel)?;
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
                self.leave_one(&name, &addr);
            }
            return Err(Refused::OneTopic);
        }
        self.leave_other_group(&cluster, &name, &addr);
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
        let left_out = match topics {
            Some(topics) if id == MASTER_ID || stands_in => {
                self.write_queues(&name, topics, first || changed, read_only)
            }
            _ => 0,
        };
        let expiry = expiry.unwrap_or(EXPIRY_DEFAULT);
        self.live.insert(
            key,
            Live {
                name,
                heard: now,
                expiry,
                version,
                channel,
                ha_addr,
                is_master: id == MASTER_ID,
            },
        );

        let master = master_addr.and_then(|addr| {
            self.live
                .get(&(cluster, addr.clone()))
                .map(|live| (addr, live.ha_addr.clone()))
        });
        let (master_addr, ha_addr) = master.unzip();
        Ok(Registered {
            ha_addr,
            master_addr,
            left_out,
            is_superseded: false,
        })
    }

    /// Whether a broker may register that is not known.
    fn check_room(&self, cluster: &str, addr: &str, channel: Channel) -> Result<(), Refused> {
        if self.live_channel(cluster, addr).is_some() {
            return Ok(());
        }
        let Bounds {
            brokers: in_all,
            brokers_per_channel: of_a_channel,
        } = self.bounds;
        let live = self.live.values();
        let of_this = live.filter(|live| live.channel == channel).count();
        if self.live.len() >= in_all || of_this >= of_a_channel {
            return Err(Refused::TooManyBrokers {
                in_all,
                of_a_channel,
            });
        }
        Ok(())
    }

    /// An address is in one group: a broker that comes under another name has left the group that it was in.
    fn leave_other_group(&mut self, cluster: &str, name: &str, addr: &str) {
        let live = self.live.get(&(cluster.to_owned(), addr.to_owned()));
        let other = live.map(|live| &live.name).filter(|other| *other != name);
        if let Some(other) = other.cloned() {
            self.leave_one(&other, addr);
        }
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

    /// Returns how many topics there was no room for.
    fn write_queues(
        &mut self,
        name: &str,
        topics: BTreeMap<String, Queues>,
        all: bool,
        read_only: bool,
    ) -> usize {
        if self.rules.delete_missing_topics {
            self.routes
                .retain(|topic, group, _| group != name || topics.contains_key(topic));
        }
        let mut left_out = 0;
        for (topic, mut queues) in topics {
            if all || !self.routes.has(&topic, name) {
                if read_only {
                    queues.perm &= !PERM_WRITE;
                }
                left_out += usize::from(!self.routes.put(topic, name, queues));
            }
        }
        left_out
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
        self.routes.change(name, |queues| match write {
            Write::Wipe => queues.perm &= !PERM_WRITE,
            Write::Add => queues.perm = PERM_READ | PERM_WRITE,
        })
    }

    /// Takes a topic out of the routes, of one cluster's brokers only when one is named. The next registration of a broker that still has it
    /// brings it back.
    pub fn delete_topic(&mut self, topic: &str, cluster: Option<&str>) {
        self.routes.retain_of(topic, |name| {
            let group = self.groups.get(name);
            cluster.is_some_and(|cluster| group.is_none_or(|group| group.cluster != cluster))
        });
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

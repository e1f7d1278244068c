//! What makes a broker a replica of a group, and what it then must say and must not.

use std::path::{Path, PathBuf};

use super::broker::BrokerConfig;
use super::error::Problem;
use super::table::Rule;
use super::value::{BrokerRole, HostPort, ReplicationMode, Value};

/// The name of the file in which a group's state is kept.
const STATE_FILE: &str = "state.json";
/// A message of this size and all that a record has beside it fit into one frame of a replication link.
pub(super) const MESSAGE_BYTES_MAX: u64 = 15 << 20;

/// Where the replicas of a group agree who is master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CoordinatorAt {
    /// `state.json` in this folder, for processes on one machine. They elect their master themselves.
    File(PathBuf),
    /// The status of this `RocketBrokerGroup`. The operator elects.
    Kubernetes {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A file in the folder of the fixed master, which serves it where it takes replication links: here. No other replica becomes
    /// master.
    Static(HostPort),
}

impl Value for CoordinatorAt {
    const KIND: &'static str = "file:PATH, static:HOST:PORT or kubernetes:NAMESPACE/NAME";

    fn read(text: &str, rule: Rule, unit: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "must be file:/FOLDER/{STATE_FILE}, an absolute path, static:HOST:PORT of the fixed master's replication port, or kubernetes:NAMESPACE/NAME of a RocketBrokerGroup"
            )
        };
        if let Some(address) = text.strip_prefix("static:") {
            let address = HostPort::read(address, rule, unit).map_err(|_| wrong())?;
            return Ok(Self::Static(address));
        }
        if let Some(path) = text.strip_prefix("file:").map(Path::new) {
            let is_state = path.is_absolute() && path.file_name().is_some_and(|n| n == STATE_FILE);
            let folder = path.parent().filter(|_| is_state).ok_or_else(wrong)?;
            return Ok(Self::File(folder.to_owned()));
        }
        let group = text.strip_prefix("kubernetes:").ok_or_else(wrong)?;
        let (namespace, name) = group.split_once('/').ok_or_else(wrong)?;
        if [namespace, name].into_iter().all(is_object_name) {
            let (namespace, name) = (namespace.to_owned(), name.to_owned());
            Ok(Self::Kubernetes { namespace, name })
        } else {
            Err(wrong())
        }
    }

    fn show(&self, _unit: &str) -> String {
        match self {
            Self::File(folder) => format!("file:{}", folder.join(STATE_FILE).display()),
            Self::Kubernetes { namespace, name } => format!("kubernetes:{namespace}/{name}"),
            Self::Static(address) => format!("static:{address}"),
        }
    }
}

/// Whether Kubernetes would take it as the name of an object.
fn is_object_name(name: &str) -> bool {
    let is_good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    (1..=253).contains(&name.len()) && name.chars().all(is_good)
}

impl BrokerConfig {
    /// The smallest in-sync set with which a group takes sends (m of the protocol): as configured when answers wait for
    /// replicas, else 1.
    pub fn group_min_in_sync(&self) -> u8 {
        let replication = self.replication();
        match replication.mode {
            ReplicationMode::Sync => u8::try_from(replication.in_sync_min).unwrap_or(u8::MAX),
            ReplicationMode::Async => 1,
        }
    }

    /// What contradicts the wish to be a replica of a group. `given`: whether a key was set.
    pub(super) fn find_group_contradictions(
        &self,
        given: &dyn Fn(&str) -> bool,
        problems: &mut Vec<Problem>,
    ) {
        let Some(coordinator) = &self.coordinator else {
            return;
        };
        let mut conflict = |why: String| problems.push(Problem::Conflict { why });
        match coordinator {
            CoordinatorAt::Static(address) => {
                self.find_static_contradictions(address, given, &mut conflict);
            }
            CoordinatorAt::File(_) | CoordinatorAt::Kubernetes { .. } => {
                self.find_elected_contradictions(&mut conflict);
            }
        }
        if self.replication_secret_file.is_none() {
            conflict("coordinator needs replicationSecretFile: replicas prove to each other by a shared secret that they belong together".to_owned());
        }
        if self.replica_name.is_none() {
            conflict("coordinator needs replicaName (--replica)".to_owned());
        }
        if self.broker_id != 0 {
            conflict(format!(
                "brokerId = {} and coordinator contradict each other: the replica that is master registers as 0, the others do not register",
                self.broker_id
            ));
        }
        if self.max_message_size.0 > MESSAGE_BYTES_MAX {
            conflict(format!(
                "maxMessageSize = {} is more than a replication link carries: at most {MESSAGE_BYTES_MAX} with a coordinator",
                self.max_message_size.0
            ));
        }
        let needed = u32::from(self.group_min_in_sync());
        if needed > self.total_replicas {
            conflict(format!(
                "minInSyncReplicas (or inSyncReplicas) = {needed} is more than totalReplicas = {}: no send would ever be taken",
                self.total_replicas
            ));
        }
    }

    fn find_elected_contradictions(&self, conflict: &mut dyn FnMut(String)) {
        if let Some(master) = &self.fixed_master {
            conflict(format!(
                "fixedMaster = {master} and coordinator contradict each other: with this coordinator the master is elected; coordinator = static:HOST:PORT is for a fixed one"
            ));
        }
        if self.broker_role == BrokerRole::Slave {
            conflict("brokerRole = SLAVE and coordinator contradict each other: with this coordinator each replica may become master; SYNC_MASTER and ASYNC_MASTER say how sends are answered. coordinator = static:HOST:PORT has slaves that stay slaves".to_owned());
        }
    }

    fn find_static_contradictions(
        &self,
        address: &HostPort,
        given: &dyn Fn(&str) -> bool,
        conflict: &mut dyn FnMut(String),
    ) {
        if self.fixed_master.is_none() && !given("brokerRole") {
            conflict("coordinator = static:… does not say which replica is the master: set fixedMaster to its replicaName, the same on every replica; or brokerRole, which is SLAVE on all others".to_owned());
            return;
        }
        let is_slave = self.broker_role == BrokerRole::Slave;
        if is_slave && self.fixed_master.is_some() && self.fixed_master == self.replica_name {
            conflict(
                "brokerRole = SLAVE and fixedMaster = replicaName contradict each other: this replica is the fixed master of its group"
                    .to_owned(),
            );
            return;
        }
        if is_slave {
            for key in ["replicationMode", "minInSyncReplicas", "inSyncReplicas"] {
                if given(key) {
                    conflict(format!(
                        "{key} on a SLAVE of a fixed master has no effect: the master's configuration says how sends are answered; set it there"
                    ));
                }
            }
        }
        if self.is_standby() {
            if self.adopt_messages {
                conflict("adoptMessages on a slave of a fixed master would begin a log that is not the master's: set it there, and begin slaves with an empty folder".to_owned());
            }
            return;
        }
        if self.total_replicas < 2 {
            conflict(format!(
                "totalReplicas = {} on the fixed master: set it to the number of replicas, itself included, 2 at least. A new group begins when so many are there; a master that lost its folder and waits for nobody would begin an empty group at once, beside slaves that hold everything",
                self.total_replicas
            ));
        }
        let replication = self.replication();
        if replication.mode == ReplicationMode::Async && replication.in_sync_min > 1 {
            conflict(format!(
                "minInSyncReplicas (or inSyncReplicas) = {} promises more than replication ASYNC keeps, which waits for no slave: set brokerRole = SYNC_MASTER, or leave it out",
                replication.in_sync_min
            ));
        }
        match &self.replication_address {
            Some(told) if told != address => conflict(format!(
                "replicationAddress = {told} and coordinator = static:{address} contradict each other: on the fixed master both are where slaves reach it"
            )),
            None if self.listen_port != 0 && self.ha_port(self.listen_port) != address.port => {
                conflict(format!(
                    "coordinator = static:{address} names the replication port of the fixed master, and this one, which is the master, takes {}: set haListenPort = {}; or, where ports are mapped, replicationAddress = {address}",
                    self.ha_port(self.listen_port),
                    address.port
                ));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Place;
    use super::super::load::from_entries;
    use super::super::source::properties;
    use super::*;

    const GROUP: &str = "coordinator=file:/var/lib/group/state.json\nreplicationSecretFile=/etc/secret\nreplicaName=c-0-1\ntotalReplicas=3\n";

    fn of(more: &str) -> Result<BrokerConfig, String> {
        let at = |line| Place::Line("broker.conf".into(), line);
        let entries =
            properties(&format!("{GROUP}{more}"), at).map_err(|error| error.to_string())?;
        let loaded = from_entries(entries).map_err(|error| error.to_string())?;
        Ok(loaded.config)
    }

    #[test]
    fn a_replica_of_a_group_says_where_it_agrees_with_the_others() {
        let config = of("brokerRole=SYNC_MASTER\nminInSyncReplicas=2").unwrap();
        assert_eq!(
            config.coordinator,
            Some(CoordinatorAt::File("/var/lib/group".into()))
        );
        assert_eq!(config.group_min_in_sync(), 2);
        assert!(!config.is_standby());
        let config = of("coordinator=kubernetes:prod/orders-0").unwrap();
        let place = config.coordinator.unwrap();
        assert_eq!(place.show(""), "kubernetes:prod/orders-0");
        // Answers that wait for no replica need none.
        assert_eq!(of("inSyncReplicas=2").unwrap().group_min_in_sync(), 1);
    }

    #[test]
    fn a_coordinator_is_named_in_full() {
        for wrong in [
            "file:state.json",
            "file:/var/lib/group",
            "file:",
            "kubernetes:orders",
            "kubernetes:/orders",
            "kubernetes:Prod/orders",
            "static",
            "static:m1",
            "static:m1:0",
            "static:",
        ] {
            let error = of(&format!("coordinator={wrong}")).unwrap_err();
            assert!(error.contains("must be file:/FOLDER/state.json"), "{error}");
        }
    }

    #[test]
    fn fixed_master_and_its_slaves_are_told_by_a_name_or_by_their_roles() {
        let at = "coordinator=static:m1:10912\n";
        let of = |more: &str| of(&format!("{at}{more}"));
        let config = of("fixedMaster=c-0-1\nbrokerRole=SYNC_MASTER\nminInSyncReplicas=2").unwrap();
        assert!(!config.is_standby());
        assert_eq!(config.group_min_in_sync(), 2);
        let place = config.coordinator.unwrap();
        assert_eq!(place.show(""), "static:m1:10912");
        // The same file on every replica but for its name.
        let config = of("fixedMaster=c-0-0\nbrokerRole=SYNC_MASTER\nminInSyncReplicas=2").unwrap();
        assert!(config.is_standby());
        assert!(of("brokerRole=SLAVE").unwrap().is_standby());
        assert!(!of("brokerRole=ASYNC_MASTER").unwrap().is_standby());
        let mapped = "brokerRole=SYNC_MASTER\nhaListenPort=7\nreplicationAddress=m1:10912";
        assert!(of(mapped).is_ok());
        for (more, part) in [
            ("", "does not say which replica is the master"),
            ("brokerRole=SLAVE\nfixedMaster=c-0-1", "is the fixed master"),
            ("brokerRole=SLAVE\nminInSyncReplicas=2", "set it there"),
            ("brokerRole=SLAVE\nreplicationMode=SYNC", "set it there"),
            ("brokerRole=SLAVE\nadoptMessages=true", "not the master's"),
            (
                "brokerRole=ASYNC_MASTER\nminInSyncReplicas=2",
                "waits for no slave",
            ),
            (
                "brokerRole=SYNC_MASTER\nhaListenPort=7",
                "set haListenPort = 10912",
            ),
            (
                "brokerRole=SYNC_MASTER\nreplicationAddress=m2:10912",
                "contradict each other",
            ),
            (
                "fixedMaster=c-0-0\nbrokerId=1",
                "brokerId = 1 and coordinator",
            ),
        ] {
            let error = of(more).unwrap_err();
            assert!(error.contains(part), "{more}: {error}");
        }
    }

    /// Else it would begin an empty group when its folder is lost, beside slaves that hold everything.
    #[test]
    fn a_fixed_master_must_be_told_how_many_replicas_there_are() {
        let told = "coordinator=static:m1:10912\nbrokerRole=SYNC_MASTER\n";
        for (total, is_taken) in [(1, false), (2, true), (3, true)] {
            let config = of(&format!("{told}totalReplicas={total}"));
            assert_eq!(config.is_ok(), is_taken, "{total}");
        }
        let untold = |role: &str| {
            let text = GROUP.replace("totalReplicas=3\n", "");
            let text = format!("{text}coordinator=static:m1:10912\nbrokerRole={role}");
            let at = |line| Place::Line("broker.conf".into(), line);
            let entries = properties(&text, at).unwrap();
            from_entries::<BrokerConfig>(entries).map_err(|error| error.to_string())
        };
        let error = untold("SYNC_MASTER").unwrap_err();
        assert!(
            error.contains("totalReplicas = 1 on the fixed master"),
            "{error}"
        );
        assert!(untold("SLAVE").is_ok());
    }

    #[test]
    fn what_a_coordinator_would_make_untrue_is_refused() {
        for (more, part) in [
            (
                "replicationSecretFile=",
                "coordinator needs replicationSecretFile",
            ),
            ("replicaName=", "coordinator needs replicaName"),
            ("fixedMaster=c-0-0", "fixedMaster = c-0-0 and coordinator"),
            ("brokerRole=SLAVE", "brokerRole = SLAVE and coordinator"),
            ("brokerId=1", "brokerId = 1 and coordinator"),
            ("maxMessageSize=16000000", "at most 15728640"),
            (
                "replicationMode=SYNC\nminInSyncReplicas=4",
                "is more than totalReplicas = 3",
            ),
        ] {
            let error = of(more).unwrap_err();
            assert!(error.contains(part), "{more}: {error}");
        }
    }
}

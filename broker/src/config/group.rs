//! What makes a broker a replica of a group, and what it then must say and must not.

use std::path::{Path, PathBuf};

use super::broker::BrokerConfig;
use super::error::Problem;
use super::table::Rule;
use super::value::{BrokerRole, ReplicationMode, Value};

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
}

impl Value for CoordinatorAt {
    const KIND: &'static str = "file:PATH or kubernetes:NAMESPACE/NAME";

    fn read(text: &str, _rule: Rule, _unit: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "must be file:/FOLDER/{STATE_FILE}, an absolute path, or kubernetes:NAMESPACE/NAME of a RocketBrokerGroup"
            )
        };
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

    /// What contradicts the wish to be a replica of a group.
    pub(super) fn find_group_contradictions(&self, problems: &mut Vec<Problem>) {
        if self.coordinator.is_none() {
            return;
        }
        let mut conflict = |why: String| problems.push(Problem::Conflict { why });
        if self.replication_secret_file.is_none() {
            conflict("coordinator needs replicationSecretFile: replicas prove to each other by a shared secret that they belong together".to_owned());
        }
        if self.replica_name.is_none() {
            conflict("coordinator needs replicaName (--replica)".to_owned());
        }
        if let Some(master) = &self.fixed_master {
            conflict(format!(
                "fixedMaster = {master} and coordinator contradict each other: with a coordinator the master is elected"
            ));
        }
        if self.broker_role == BrokerRole::Slave {
            conflict("brokerRole = SLAVE and coordinator contradict each other: with a coordinator each replica may become master; SYNC_MASTER and ASYNC_MASTER say how sends are answered".to_owned());
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
        ] {
            let error = of(&format!("coordinator={wrong}")).unwrap_err();
            assert!(error.contains("must be file:/FOLDER/state.json"), "{error}");
        }
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

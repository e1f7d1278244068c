//! The consumer groups of this broker (`SubscriptionGroupManager`), kept as topics are.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rocket_protocol::body::{DataVersion, SubscriptionGroupConfig, SubscriptionGroupTable};
use rocket_protocol::{GroupName, UnixMillis};
use thiserror::Error;

use super::file::{FileError, JsonFile};
use super::writer::{Writer, apply};
use super::{next_version, system};
use crate::config::BrokerConfig;

/// Why a group that is not known is not made.
#[derive(Debug, Error)]
pub enum CreateGroupError {
    /// As many groups as clients may create are there; an administrator must decide.
    #[error("there are {0} consumer groups already")]
    TooMany(usize),
    /// The group could not be put on disk; try again.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Bit of a forbidden entry that says "must not read" (`PermName.INDEX_PERM_READ` is bit number 2).
const FORBIDDEN_READ: i32 = 1 << 2;

#[derive(Debug, Clone, Default)]
struct Table {
    version: DataVersion,
    groups: HashMap<GroupName, Arc<SubscriptionGroupConfig>>,
    /// Bits by topic by group.
    forbidden: BTreeMap<String, BTreeMap<String, i32>>,
}

impl Table {
    fn to_body(&self) -> SubscriptionGroupTable {
        SubscriptionGroupTable {
            data_version: self.version,
            forbidden_table: self.forbidden.clone(),
            subscription_group_table: self
                .groups
                .iter()
                .map(|(name, group)| (name.as_str().to_owned(), group.as_ref().clone()))
                .collect(),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Groups {
    file: JsonFile,
    table: ArcSwap<Table>,
    writer: Writer<Table>,
}

impl Groups {
    /// Reads `subscriptionGroup.json` in `dir`.
    pub(super) fn open(dir: &Path) -> Result<Self, FileError> {
        let file = JsonFile::new(dir, "subscriptionGroup.json")?;
        let stored = file
            .load(SubscriptionGroupTable::parse)?
            .unwrap_or_default();
        let mut table = Table {
            version: stored.data_version,
            groups: HashMap::new(),
            forbidden: stored.forbidden_table,
        };
        for (name, mut group) in stored.subscription_group_table {
            match GroupName::parse(&name) {
                Ok(parsed) => {
                    group.group_name = name;
                    table.groups.insert(parsed, Arc::new(group));
                }
                Err(error) => {
                    tracing::warn!(group = name, error = %error, "stored group has no valid name and is left out");
                }
            }
        }
        Ok(Self {
            file,
            table: ArcSwap::from_pointee(table),
            writer: Writer::default(),
        })
    }

    /// The settings of a group that exists.
    pub fn get(&self, group: &str) -> Option<Arc<SubscriptionGroupConfig>> {
        self.table.load().groups.get(group).map(Arc::clone)
    }

    /// Whether the group exists.
    pub fn contains(&self, group: &str) -> bool {
        self.table.load().groups.contains_key(group)
    }

    /// The name of a group that is not known, if it may be made; does not wait for a disk.
    ///
    /// # Errors
    /// There are too many already.
    pub fn may_create(
        &self,
        group: &str,
        config: &BrokerConfig,
    ) -> Result<Option<GroupName>, CreateGroupError> {
        let is_allowed = config.auto_create_subscription_group || system::is_system_group(group);
        let name = GroupName::parse(group).ok().filter(|_| is_allowed);
        let max = config.auto_create_groups_max;
        if name.is_some() && self.table.load().groups.len() >= max {
            return Err(CreateGroupError::TooMany(max));
        }
        Ok(name)
    }

    /// The settings of a group; one that is not known is made if the configuration lets it and its name is one.
    pub fn find_or_create(
        &self,
        group: &str,
        config: &BrokerConfig,
        now: UnixMillis,
    ) -> Result<Option<Arc<SubscriptionGroupConfig>>, CreateGroupError> {
        if let Some(known) = self.get(group) {
            return Ok(Some(known));
        }
        let Some(name) = self.may_create(group, config)? else {
            return Ok(None);
        };
        let max = config.auto_create_groups_max;
        let fresh = Arc::new(SubscriptionGroupConfig {
            group_name: group.to_owned(),
            ..SubscriptionGroupConfig::default()
        });
        let wanted = Arc::clone(&fresh);
        self.change(now, move |table| {
            if table.groups.contains_key(&name) || table.groups.len() >= max {
                return false;
            }
            table.groups.insert(name, wanted);
            true
        })?;
        let made = self.get(group).ok_or(CreateGroupError::TooMany(max))?;
        if Arc::ptr_eq(&made, &fresh) {
            tracing::info!(group, "consumer group created");
        }
        Ok(Some(made))
    }

    /// Makes or changes groups.
    pub fn update(
        &self,
        changes: impl IntoIterator<Item = (GroupName, SubscriptionGroupConfig)>,
        now: UnixMillis,
    ) -> Result<(), FileError> {
        let changes: Vec<_> = changes.into_iter().collect();
        self.change(now, move |table| {
            for (name, group) in changes {
                tracing::info!(group = %name, "consumer group updated");
                table.groups.insert(name, Arc::new(group));
            }
            true
        })
    }

    /// Removes a group; says whether it was there.
    pub fn delete(&self, group: &str, now: UnixMillis) -> Result<bool, FileError> {
        let was_there = self.contains(group);
        let name = group.to_owned();
        self.change(now, move |table| {
            table.forbidden.remove(&name);
            table.groups.remove(name.as_str()).is_some()
        })?;
        Ok(was_there)
    }

    /// Whether `group` was forbidden to read `topic`.
    pub fn is_read_forbidden(&self, group: &str, topic: &str) -> bool {
        let table = self.table.load();
        let bits = table.forbidden.get(group).and_then(|by| by.get(topic));
        bits.is_some_and(|bits| bits & FORBIDDEN_READ != 0)
    }

    /// All groups with their version.
    pub fn to_body(&self) -> SubscriptionGroupTable {
        self.table.load().to_body()
    }

    /// Makes the groups that the broker has by itself.
    pub(super) fn ensure_system(&self, now: UnixMillis) -> Result<(), FileError> {
        self.change(now, |table| {
            let mut changed = false;
            for name in system::system_groups() {
                let Ok(parsed) = GroupName::parse(name) else {
                    continue;
                };
                changed |= !table.groups.contains_key(&parsed);
                table.groups.entry(parsed).or_insert_with(|| {
                    Arc::new(SubscriptionGroupConfig {
                        group_name: (*name).to_owned(),
                        ..SubscriptionGroupConfig::default()
                    })
                });
            }
            changed
        })
    }

    /// Puts a changed copy of the table on disk, then in place, together with the changes of others.
    fn change(
        &self,
        now: UnixMillis,
        change: impl FnOnce(&mut Table) -> bool + Send + 'static,
    ) -> Result<(), FileError> {
        self.writer.change(change, |changes| {
            let mut next = Table::clone(&self.table.load());
            if apply(changes, &mut next) {
                next.version = next_version(next.version, now);
                self.file.save(&next.to_body().to_json())?;
                self.table.store(Arc::new(next));
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(7);

    #[test]
    fn an_unknown_group_is_made_only_when_that_is_allowed() {
        let dir = tempfile::tempdir().unwrap();
        let groups = Groups::open(dir.path()).unwrap();
        let mut config = BrokerConfig::default();
        let made = groups.find_or_create("g", &config, NOW).unwrap();
        assert_eq!(made.unwrap().retry_max_times, 16);
        assert!(
            groups
                .find_or_create("a b", &config, NOW)
                .unwrap()
                .is_none()
        );
        config.auto_create_subscription_group = false;
        assert!(groups.find_or_create("h", &config, NOW).unwrap().is_none());
        assert!(groups.find_or_create("g", &config, NOW).unwrap().is_some());
        let again = Groups::open(dir.path()).unwrap();
        assert!(again.contains("g") && !again.contains("h"));
    }

    #[test]
    fn clients_create_no_more_groups_than_they_may() {
        let dir = tempfile::tempdir().unwrap();
        let groups = Groups::open(dir.path()).unwrap();
        let config = BrokerConfig {
            auto_create_groups_max: 2,
            ..BrokerConfig::default()
        };
        let make = |group: &str| groups.find_or_create(group, &config, NOW);
        assert!(make("a").is_ok() && make("b").is_ok());
        assert!(matches!(make("c"), Err(CreateGroupError::TooMany(2))));
        assert!(make("a").unwrap().is_some());
        let by_hand = (
            GroupName::parse("c").unwrap(),
            SubscriptionGroupConfig::default(),
        );
        groups.update([by_hand], NOW).unwrap();
        assert!(make("c").unwrap().is_some());
    }

    #[test]
    fn forbidden_bits_of_apaches_file_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{"dataVersion":{"counter":3,"stateVersion":0,"timestamp":1},"forbiddenTable":{"g":{"t":4}},"subscriptionGroupTable":{"g":{"groupName":"g","retryMaxTimes":3}}}"#;
        std::fs::write(dir.path().join("subscriptionGroup.json"), text).unwrap();
        let groups = Groups::open(dir.path()).unwrap();
        assert!(groups.is_read_forbidden("g", "t"));
        assert!(!groups.is_read_forbidden("g", "u"));
        assert_eq!(groups.get("g").unwrap().retry_max_times, 3);
        assert!(groups.delete("g", NOW).unwrap());
        assert!(!groups.is_read_forbidden("g", "t"));
    }
}

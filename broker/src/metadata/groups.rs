//! The consumer groups of this broker (`SubscriptionGroupManager`).

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rocket_protocol::body::{DataVersion, SubscriptionGroupConfig, SubscriptionGroupTable};
use rocket_protocol::{GroupName, UnixMillis};
use thiserror::Error;

use super::change::{Change, GroupChange, Stamp};
use super::file::{FileError, JsonFile};
use super::log::ChangeLog;
use super::shared::{Fold, Shared};
use super::system;
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

/// All groups, as one value.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Table {
    pub(super) version: DataVersion,
    pub(super) groups: HashMap<GroupName, Arc<SubscriptionGroupConfig>>,
    /// Bits by topic by group.
    pub(super) forbidden: BTreeMap<String, BTreeMap<String, i32>>,
}

impl Table {
    /// Puts a group under its own name; one without a valid name is left out.
    pub(super) fn put(&mut self, group: SubscriptionGroupConfig) {
        match GroupName::parse(&group.group_name) {
            Ok(name) => {
                self.groups.insert(name, Arc::new(group));
            }
            Err(error) => {
                tracing::warn!(group = group.group_name, %error, "a group has no valid name and is left out");
            }
        }
    }

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

impl Fold for Table {
    type Change = GroupChange;

    fn fold(&mut self, change: &GroupChange, stamp: Stamp) -> bool {
        let changes = match change {
            GroupChange::Create { group, max } => {
                let max = usize::try_from(*max).unwrap_or(usize::MAX);
                let is_new =
                    !self.groups.contains_key(group.group_name.as_str()) && self.groups.len() < max;
                if is_new {
                    self.put(SubscriptionGroupConfig::clone(group));
                }
                is_new
            }
            GroupChange::Put(groups) => {
                for group in groups {
                    self.put(group.clone());
                }
                true
            }
            GroupChange::Delete { group, .. } => {
                let had_bits = self.forbidden.remove(group).is_some();
                self.groups.remove(group.as_str()).is_some() || had_bits
            }
        };
        if changes {
            self.version = stamp.next(self.version);
        }
        changes
    }

    fn version(&self) -> DataVersion {
        self.version
    }

    fn to_json(&self) -> Bytes {
        self.to_body().to_json()
    }

    fn logged(change: GroupChange) -> Change {
        Change::Groups(change)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Groups {
    pub(super) shared: Shared<Table>,
}

impl Groups {
    /// Reads `subscriptionGroup.json` in `dir`. With a `log` the file is what was folded from it at some time, and no change is
    /// written there.
    pub(super) fn open(dir: &Path, log: Option<Arc<ChangeLog>>) -> Result<Self, FileError> {
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
            group.group_name = name;
            table.put(group);
        }
        let shared = Shared::new(file, table, log);
        Ok(Self { shared })
    }

    /// The settings of a group that exists.
    pub fn get(&self, group: &str) -> Option<Arc<SubscriptionGroupConfig>> {
        self.shared.load().groups.get(group).map(Arc::clone)
    }

    /// All names.
    pub fn names(&self) -> Vec<GroupName> {
        self.shared.load().groups.keys().cloned().collect()
    }

    /// Whether the group exists.
    pub fn contains(&self, group: &str) -> bool {
        self.shared.load().groups.contains_key(group)
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
        if name.is_some() && self.shared.load().groups.len() >= max {
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
        if self.may_create(group, config)?.is_none() {
            return Ok(None);
        }
        let max = config.auto_create_groups_max;
        let fresh = SubscriptionGroupConfig {
            group_name: group.to_owned(),
            ..SubscriptionGroupConfig::default()
        };
        let wanted = GroupChange::Create {
            group: Box::new(fresh),
            max: max as u64,
        };
        let is_new = self.shared.change(wanted, now)?;
        let made = self.get(group).ok_or(CreateGroupError::TooMany(max))?;
        if is_new {
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
        let named = |(name, group): (GroupName, SubscriptionGroupConfig)| {
            tracing::info!(group = %name, "consumer group updated");
            SubscriptionGroupConfig {
                group_name: name.as_str().to_owned(),
                ..group
            }
        };
        let groups = changes.into_iter().map(named).collect();
        self.shared.change(GroupChange::Put(groups), now)?;
        Ok(())
    }

    /// Removes a group; says whether it was there. With `forgets_positions` those go on every replica, in a group of brokers; a broker that
    /// stands alone is told so itself ([`super::Offsets::forget_group`]).
    pub fn delete(
        &self,
        group: &str,
        forgets_positions: bool,
        now: UnixMillis,
    ) -> Result<bool, FileError> {
        let was_there = self.contains(group);
        let delete = GroupChange::Delete {
            group: group.to_owned(),
            forgets_positions,
        };
        self.shared.change(delete, now)?;
        Ok(was_there)
    }

    /// Whether `group` was forbidden to read `topic`.
    pub fn is_read_forbidden(&self, group: &str, topic: &str) -> bool {
        let table = self.shared.load();
        let bits = table.forbidden.get(group).and_then(|by| by.get(topic));
        bits.is_some_and(|bits| bits & FORBIDDEN_READ != 0)
    }

    /// All groups with their version.
    pub fn to_body(&self) -> SubscriptionGroupTable {
        self.shared.load().to_body()
    }

    /// Makes the groups that the broker has by itself.
    pub(super) fn ensure_system(&self, now: UnixMillis) -> Result<(), FileError> {
        self.shared.rewrite(move |table| {
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
            if changed {
                table.version = Stamp::at(now).next(table.version);
            }
            changed
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
        let groups = Groups::open(dir.path(), None).unwrap();
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
        let again = Groups::open(dir.path(), None).unwrap();
        assert!(again.contains("g") && !again.contains("h"));
    }

    #[test]
    fn clients_create_no_more_groups_than_they_may() {
        let dir = tempfile::tempdir().unwrap();
        let groups = Groups::open(dir.path(), None).unwrap();
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
        let groups = Groups::open(dir.path(), None).unwrap();
        assert!(groups.is_read_forbidden("g", "t"));
        assert!(!groups.is_read_forbidden("g", "u"));
        assert_eq!(groups.get("g").unwrap().retry_max_times, 3);
        assert!(groups.delete("g", false, NOW).unwrap());
        assert!(!groups.is_read_forbidden("g", "t"));
    }
}

//! The topics of this broker (`TopicConfigManager`).

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rocket_protocol::body::route::perm;
use rocket_protocol::body::{DataVersion, TopicConfig, TopicConfigTable};
use rocket_protocol::name::system_topic;
use rocket_protocol::{TopicName, UnixMillis};
use thiserror::Error;

use super::change::{Change, Stamp, TopicChange};
use super::file::{FileError, JsonFile};
use super::log::ChangeLog;
use super::shared::{Fold, Shared};
use super::system;
use crate::config::BrokerConfig;

#[cfg(test)]
mod tests;

/// Why a send does not create its topic.
#[derive(Debug, Error)]
pub enum CreateError {
    /// The template that the producer names is not here, or must not be used as one: the topic has to be made first.
    #[error("the template topic {0} is not for new topics")]
    NoTemplate(String),
    /// As many topics as sends may create are there; an administrator must decide.
    #[error("there are {0} topics already")]
    TooMany(usize),
    /// The topic could not be put on disk; try again.
    #[error(transparent)]
    File(#[from] FileError),
}

/// All topics, as one value.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Table {
    pub(super) version: DataVersion,
    pub(super) topics: HashMap<TopicName, Arc<TopicConfig>>,
}

impl Table {
    /// Puts a topic under its own name; one without a valid name is left out.
    pub(super) fn put(&mut self, topic: TopicConfig) {
        match TopicName::parse(&topic.topic_name) {
            Ok(name) => {
                self.topics.insert(name, Arc::new(topic));
            }
            Err(error) => {
                tracing::warn!(topic = topic.topic_name, %error, "a topic has no valid name and is left out");
            }
        }
    }

    fn to_body(&self) -> TopicConfigTable {
        TopicConfigTable {
            data_version: self.version,
            topic_config_table: self
                .topics
                .iter()
                .map(|(name, topic)| (name.as_str().to_owned(), TopicConfig::clone(topic)))
                .collect(),
            ..TopicConfigTable::default()
        }
    }
}

impl Fold for Table {
    type Change = TopicChange;

    fn fold(&mut self, change: &TopicChange, stamp: Stamp) -> bool {
        let changes = match change {
            TopicChange::Create { topic, max } => {
                let max = usize::try_from(*max).unwrap_or(usize::MAX);
                let is_new = !self.topics.contains_key(topic.topic_name.as_str())
                    && !is_full(&self.topics, max);
                if is_new {
                    self.put(topic.clone());
                }
                is_new
            }
            TopicChange::Put(topics) => {
                for topic in topics {
                    self.put(topic.clone());
                }
                true
            }
            TopicChange::Delete(topic) => self.topics.remove(topic.as_str()).is_some(),
            TopicChange::Renew => true,
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

    fn logged(change: TopicChange) -> Change {
        Change::Topics(change)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Topics {
    pub(super) shared: Shared<Table>,
}

impl Topics {
    /// Reads `topics.json` in `dir`. With a `log` the file is what was folded from it at some time, and no change is written there.
    pub(super) fn open(dir: &Path, log: Option<Arc<ChangeLog>>) -> Result<Self, FileError> {
        let file = JsonFile::new(dir, "topics.json")?;
        let stored = file.load(TopicConfigTable::parse)?.unwrap_or_default();
        let mut table = Table {
            version: stored.data_version,
            topics: HashMap::new(),
        };
        for (name, mut topic) in stored.topic_config_table {
            topic.topic_name = name;
            table.put(topic);
        }
        let shared = Shared::new(file, table, log);
        Ok(Self { shared })
    }

    /// The settings of a topic.
    pub fn get(&self, topic: &str) -> Option<Arc<TopicConfig>> {
        self.shared.load().topics.get(topic).map(Arc::clone)
    }

    /// The topic's name as the table has it: a clone of it shares its text.
    pub fn name_of(&self, topic: &str) -> Option<TopicName> {
        self.entry(topic).map(|(name, _)| name)
    }

    /// The topic's name as the table has it, and its settings.
    pub fn entry(&self, topic: &str) -> Option<(TopicName, Arc<TopicConfig>)> {
        let table = self.shared.load();
        let (name, config) = table.topics.get_key_value(topic)?;
        Some((name.clone(), Arc::clone(config)))
    }

    /// Grows after each change of the table: what was looked up after it was read is no older than it.
    pub fn generation(&self) -> u64 {
        self.shared.generation()
    }

    /// Whether the topic exists.
    pub fn contains(&self, topic: &str) -> bool {
        self.shared.load().topics.contains_key(topic)
    }

    /// All names.
    pub fn names(&self) -> Vec<TopicName> {
        self.shared.load().topics.keys().cloned().collect()
    }

    /// All topics with their version: what registration and GET_ALL_TOPIC_CONFIG tell.
    pub fn to_body(&self) -> TopicConfigTable {
        self.shared.load().to_body()
    }

    /// The version of the table.
    pub fn version(&self) -> DataVersion {
        self.shared.load().version
    }

    /// The topic that a send names, made from the template `default_topic` if it is new: with the permissions of the
    /// template and as many queues as the producer asks for, at most as many as the template has. The second value says
    /// whether it is new.
    pub fn create_by_send(
        &self,
        topic: &TopicName,
        default_topic: &str,
        queues: i32,
        sys_flag: i32,
        config: &BrokerConfig,
        now: UnixMillis,
    ) -> Result<(Arc<TopicConfig>, bool), CreateError> {
        if let Some(known) = self.get(topic.as_str()) {
            return Ok((known, false));
        }
        let template = self.template(default_topic, config)?;
        let queues = queues.min(template.write_queue_nums).max(0);
        let fresh = TopicConfig {
            topic_name: topic.as_str().to_owned(),
            read_queue_nums: queues,
            write_queue_nums: queues,
            perm: template.perm & !perm::INHERIT,
            topic_sys_flag: sys_flag,
            topic_filter_type: template.topic_filter_type,
            ..TopicConfig::default()
        };
        let max = config.auto_create_topics_max;
        self.create(topic, fresh, max, now)?
            .ok_or(CreateError::TooMany(max))
    }

    /// The template for topics that sends create, if there may be more; does not wait for a disk.
    ///
    /// # Errors
    /// Why a send creates no topic.
    pub fn template(
        &self,
        default_topic: &str,
        config: &BrokerConfig,
    ) -> Result<Arc<TopicConfig>, CreateError> {
        let no_template = || CreateError::NoTemplate(default_topic.to_owned());
        let template = self.get(default_topic).ok_or_else(no_template)?;
        let is_closed =
            default_topic == system_topic::AUTO_CREATE && !config.auto_create_topic_enable;
        if template.perm & perm::INHERIT == 0 || is_closed {
            return Err(no_template());
        }
        let max = config.auto_create_topics_max;
        if is_full(&self.shared.load().topics, max) {
            return Err(CreateError::TooMany(max));
        }
        Ok(template)
    }

    /// The topic, made as `fresh` if it is new; the second value says whether it is. For retry and dead-letter topics.
    pub fn create_if_absent(
        &self,
        topic: &TopicName,
        fresh: TopicConfig,
        now: UnixMillis,
    ) -> Result<(Arc<TopicConfig>, bool), FileError> {
        let made = self.create(topic, fresh.clone(), usize::MAX, now)?;
        // Without a bound it is there, unless it was deleted at once.
        Ok(made.unwrap_or_else(|| (Arc::new(fresh), false)))
    }

    /// As [`Topics::create_if_absent`]; `None` if there are `max` topics already, retry and dead-letter topics left aside:
    /// these are bounded by the groups.
    fn create(
        &self,
        topic: &TopicName,
        fresh: TopicConfig,
        max: usize,
        now: UnixMillis,
    ) -> Result<Option<(Arc<TopicConfig>, bool)>, FileError> {
        let was_there = self.contains(topic.as_str());
        let topic_name = topic.as_str().to_owned();
        let wanted = TopicChange::Create {
            topic: TopicConfig {
                topic_name,
                ..fresh
            },
            max: max as u64,
        };
        let is_new = self.shared.change(wanted, now)? && !was_there;
        let made = self.get(topic.as_str());
        Ok(made.map(|made| {
            if is_new {
                tracing::info!(topic = %topic, queues = made.write_queue_nums, perm = made.perm, "topic created");
            }
            (made, is_new)
        }))
    }

    /// Makes or changes topics.
    pub fn update(
        &self,
        changes: impl IntoIterator<Item = (TopicName, TopicConfig)>,
        now: UnixMillis,
    ) -> Result<(), FileError> {
        let named = |(name, topic): (TopicName, TopicConfig)| {
            tracing::info!(topic = %name, queues = topic.write_queue_nums, perm = topic.perm, "topic updated");
            TopicConfig {
                topic_name: name.as_str().to_owned(),
                ..topic
            }
        };
        let topics = changes.into_iter().map(named).collect();
        self.shared.change(TopicChange::Put(topics), now)?;
        Ok(())
    }

    /// Removes a topic; says whether it was there.
    pub fn delete(&self, topic: &str, now: UnixMillis) -> Result<bool, FileError> {
        let was_there = self.contains(topic);
        self.shared
            .change(TopicChange::Delete(topic.to_owned()), now)?;
        Ok(was_there)
    }

    /// Makes the topics that the broker has by itself, and takes the template of new topics away when it must not be used.
    /// Settings of those that exist are kept. Of no use to others: in a group every replica does it for itself.
    pub fn ensure_system(&self, config: &BrokerConfig, now: UnixMillis) -> Result<(), FileError> {
        let system_topics = system::system_topics(config);
        let auto_create = config.auto_create_topic_enable;
        self.shared.rewrite(move |table| {
            let mut changed = false;
            for topic in system_topics {
                // A cluster or broker name with a dot is no topic name.
                let Ok(name) = TopicName::parse(&topic.topic_name) else {
                    continue;
                };
                changed |= !table.topics.contains_key(&name);
                table.topics.entry(name).or_insert_with(|| Arc::new(topic));
            }
            if !auto_create {
                changed |= table.topics.remove(system_topic::AUTO_CREATE).is_some();
            }
            if changed {
                table.version = Stamp::at(now).next(table.version);
            }
            changed
        })
    }

    /// Counts the table as changed though it is not: what is told about its topics no longer is what was told, and name servers
    /// take nothing new under a version that they know.
    pub fn renew(&self, now: UnixMillis) -> Result<(), FileError> {
        self.shared.change(TopicChange::Renew, now)?;
        Ok(())
    }
}

/// Whether there are `max` topics, retry and dead-letter topics left aside.
fn is_full(topics: &HashMap<TopicName, Arc<TopicConfig>>, max: usize) -> bool {
    let counts = |name: &&TopicName| !name.is_retry() && !name.is_dlq();
    topics.len() >= max && topics.keys().filter(counts).count() >= max
}

/// Applies a change list `+key=value,-key` to attributes (`AttributeParser`, `AttributeUtil`).
///
/// # Errors
/// A text that says what is wrong with the list.
pub fn apply_attributes(
    attributes: &mut BTreeMap<String, String>,
    changes: &str,
) -> Result<(), String> {
    for change in changes.split(',').map(str::trim).filter(|c| !c.is_empty()) {
        if let Some((key, value)) = change.split_once('=') {
            let key = key
                .strip_prefix('+')
                .ok_or_else(|| format!("add/alter attribute format is wrong: {change}"))?;
            attributes.insert(key.trim().to_owned(), value.trim().to_owned());
        } else {
            let key = change
                .strip_prefix('-')
                .ok_or_else(|| format!("delete attribute format is wrong: {change}"))?;
            attributes.remove(key.trim());
        }
    }
    Ok(())
}

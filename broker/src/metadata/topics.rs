//! The topics of this broker (`TopicConfigManager`): a table that readers take as a whole, and one writer at a time who puts
//! the next table on disk before anybody sees it.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use rocket_protocol::body::route::perm;
use rocket_protocol::body::{DataVersion, TopicConfig, TopicConfigTable};
use rocket_protocol::name::system_topic;
use rocket_protocol::{TopicName, UnixMillis};
use thiserror::Error;

use super::file::{FileError, JsonFile};
use super::writer::{Writer, apply};
use super::{next_version, system};
use crate::config::BrokerConfig;

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

#[derive(Debug, Clone, Default)]
struct Table {
    version: DataVersion,
    topics: HashMap<TopicName, Arc<TopicConfig>>,
}

impl Table {
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

/// See the module.
#[derive(Debug)]
pub struct Topics {
    file: JsonFile,
    table: ArcSwap<Table>,
    generation: AtomicU64,
    writer: Writer<Table>,
}

impl Topics {
    /// Reads `topics.json` in `dir`.
    pub(super) fn open(dir: &Path) -> Result<Self, FileError> {
        let file = JsonFile::new(dir, "topics.json")?;
        let stored = file.load(TopicConfigTable::parse)?.unwrap_or_default();
        let mut table = Table {
            version: stored.data_version,
            topics: HashMap::new(),
        };
        for (name, mut topic) in stored.topic_config_table {
            match TopicName::parse(&name) {
                Ok(parsed) => {
                    topic.topic_name = name;
                    table.topics.insert(parsed, Arc::new(topic));
                }
                Err(error) => {
                    tracing::warn!(topic = name, error = %error, "stored topic has no valid name and is left out");
                }
            }
        }
        Ok(Self {
            file,
            table: ArcSwap::from_pointee(table),
            generation: AtomicU64::new(0),
            writer: Writer::default(),
        })
    }

    /// The settings of a topic.
    pub fn get(&self, topic: &str) -> Option<Arc<TopicConfig>> {
        self.table.load().topics.get(topic).map(Arc::clone)
    }

    /// The topic's name as the table has it: a clone of it shares its text.
    pub fn name_of(&self, topic: &str) -> Option<TopicName> {
        self.entry(topic).map(|(name, _)| name)
    }

    /// The topic's name as the table has it, and its settings.
    pub fn entry(&self, topic: &str) -> Option<(TopicName, Arc<TopicConfig>)> {
        let table = self.table.load();
        let (name, config) = table.topics.get_key_value(topic)?;
        Some((name.clone(), Arc::clone(config)))
    }

    /// Grows after each change of the table: what was looked up after it was read is no older than it.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether the topic exists.
    pub fn contains(&self, topic: &str) -> bool {
        self.table.load().topics.contains_key(topic)
    }

    /// All names.
    pub fn names(&self) -> Vec<TopicName> {
        self.table.load().topics.keys().cloned().collect()
    }

    /// All topics with their version: what registration and GET_ALL_TOPIC_CONFIG tell.
    pub fn to_body(&self) -> TopicConfigTable {
        self.table.load().to_body()
    }

    /// The version of the table.
    pub fn version(&self) -> DataVersion {
        self.table.load().version
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
        if is_full(&self.table.load().topics, max) {
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
        let fresh = Arc::new(fresh);
        let (name, wanted) = (topic.clone(), Arc::clone(&fresh));
        self.change(now, move |topics| {
            if topics.contains_key(&name) {
                return false;
            }
            if is_full(topics, max) {
                return false;
            }
            topics.insert(name, wanted);
            true
        })?;
        let made = self.get(topic.as_str());
        Ok(made.map(|made| {
            let is_new = Arc::ptr_eq(&made, &fresh);
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
        let changes: Vec<_> = changes.into_iter().collect();
        self.change(now, move |topics| {
            for (name, topic) in changes {
                tracing::info!(topic = %name, queues = topic.write_queue_nums, perm = topic.perm, "topic updated");
                topics.insert(name, Arc::new(topic));
            }
            true
        })
    }

    /// Removes a topic; says whether it was there.
    pub fn delete(&self, topic: &str, now: UnixMillis) -> Result<bool, FileError> {
        let was_there = self.contains(topic);
        let name = topic.to_owned();
        self.change(now, move |topics| topics.remove(name.as_str()).is_some())?;
        Ok(was_there)
    }

    /// Makes the topics that the broker has by itself, and takes the template of new topics away when it must not be used.
    /// Settings of those that exist are kept.
    pub fn ensure_system(&self, config: &BrokerConfig, now: UnixMillis) -> Result<(), FileError> {
        let system_topics = system::system_topics(config);
        let auto_create = config.auto_create_topic_enable;
        self.change(now, move |topics| {
            let mut changed = false;
            for topic in system_topics {
                // A cluster or broker name with a dot is no topic name.
                let Ok(name) = TopicName::parse(&topic.topic_name) else {
                    continue;
                };
                changed |= !topics.contains_key(&name);
                topics.entry(name).or_insert_with(|| Arc::new(topic));
            }
            if !auto_create {
                changed |= topics.remove(system_topic::AUTO_CREATE).is_some();
            }
            changed
        })
    }

    /// Counts the table as changed though it is not: what is told about its topics no longer is what was told, and name servers
    /// take nothing new under a version that they know.
    pub fn renew(&self, now: UnixMillis) -> Result<(), FileError> {
        self.change(now, |_| true)
    }

    /// Puts a changed copy of the table on disk, then in place, together with the changes of others.
    fn change(
        &self,
        now: UnixMillis,
        change: impl FnOnce(&mut HashMap<TopicName, Arc<TopicConfig>>) -> bool + Send + 'static,
    ) -> Result<(), FileError> {
        let change = |table: &mut Table| change(&mut table.topics);
        self.writer.change(change, |changes| {
            let mut next = Table::clone(&self.table.load());
            if apply(changes, &mut next) {
                next.version = next_version(next.version, now);
                self.file.save(&next.to_body().to_json())?;
                self.table.store(Arc::new(next));
                self.generation.fetch_add(1, Ordering::Release);
            }
            Ok(())
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(7);

    fn name(text: &str) -> TopicName {
        TopicName::parse(text).unwrap()
    }

    fn open(dir: &tempfile::TempDir, config: &BrokerConfig) -> Topics {
        let topics = Topics::open(dir.path()).unwrap();
        topics.ensure_system(config, NOW).unwrap();
        topics
    }

    #[test]
    fn a_send_creates_its_topic_from_the_template_with_as_many_queues_as_asked() {
        let dir = tempfile::tempdir().unwrap();
        let config = BrokerConfig::default();
        let topics = open(&dir, &config);
        let before = topics.version().counter;
        let create = |topic: &str, queues| {
            topics
                .create_by_send(&name(topic), "TBW102", queues, 0, &config, NOW)
                .unwrap()
        };
        let (four, is_new) = create("four", 4);
        assert!(is_new);
        assert_eq!(
            (four.write_queue_nums, four.read_queue_nums, four.perm),
            (4, 4, 6)
        );
        assert_eq!(create("many", 99).0.write_queue_nums, 8);
        assert!(!create("four", 2).1);
        assert_eq!(topics.version().counter, before + 2);
        let again = Topics::open(dir.path()).unwrap();
        assert_eq!(again.get("four").as_deref(), Some(&*four));
        assert_eq!(again.version(), topics.version());
    }

    #[test]
    fn without_auto_create_only_the_other_templates_serve() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = BrokerConfig::default();
        drop(open(&dir, &config));
        config.auto_create_topic_enable = false;
        let topics = open(&dir, &config);
        let create =
            |template: &str| topics.create_by_send(&name("t"), template, 4, 0, &config, NOW);
        assert!(matches!(create("TBW102"), Err(CreateError::NoTemplate(_))));
        assert!(matches!(
            create("BenchmarkTest"),
            Err(CreateError::NoTemplate(_))
        ));
        assert!(matches!(create("none"), Err(CreateError::NoTemplate(_))));
        assert!(create("DefaultCluster").is_ok());
    }

    #[test]
    fn sends_create_no_more_topics_than_they_may_and_administrators_do() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = BrokerConfig::default();
        let topics = open(&dir, &config);
        config.auto_create_topics_max = topics.names().len() + 2;
        let create =
            |topic: &str| topics.create_by_send(&name(topic), "TBW102", 4, 0, &config, NOW);
        assert!(create("a").is_ok() && create("b").is_ok());
        assert!(matches!(create("c"), Err(CreateError::TooMany(max)) if max > 2));
        let retry = TopicName::retry_topic(&rocket_protocol::GroupName::parse("g").unwrap());
        let made = topics.create_if_absent(&retry, TopicConfig::default(), NOW);
        assert!(made.unwrap().1, "it comes with its group");
        topics
            .update([(name("c"), TopicConfig::default())], NOW)
            .unwrap();
        assert!(create("c").is_ok() && create("d").is_err());
    }

    #[test]
    fn a_first_registration_carries_more_than_one_topic() {
        let dir = tempfile::tempdir().unwrap();
        let topics = open(&dir, &BrokerConfig::default());
        assert!(topics.names().len() >= 2);
        assert!(topics.contains("TBW102") && topics.contains("DefaultCluster"));
    }

    #[test]
    fn a_deleted_topic_stays_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let topics = open(&dir, &BrokerConfig::default());
        topics
            .update([(name("t"), TopicConfig::default())], NOW)
            .unwrap();
        assert!(topics.delete("t", NOW).unwrap());
        assert!(!topics.delete("t", NOW).unwrap());
        assert!(!Topics::open(dir.path()).unwrap().contains("t"));
    }

    #[test]
    fn attribute_lists_add_and_remove() {
        let mut attributes = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        apply_attributes(&mut attributes, "+message.type=FIFO,-a").unwrap();
        assert_eq!(
            attributes,
            BTreeMap::from([("message.type".to_owned(), "FIFO".to_owned())])
        );
        assert!(apply_attributes(&mut attributes, "b=1").is_err());
        assert!(apply_attributes(&mut attributes, "b").is_err());
    }
}

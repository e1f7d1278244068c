//! Topics, groups and configuration: 17, 18, 21, 25, 26, 200, 201, 207, 215, 225, 305, 343, 300, 316, 345,
//! 351, 352.

use std::collections::{BTreeMap, BTreeSet};

use rocket_protocol::body::{
    GroupList, QuerySubscription, SubscriptionGroupConfig, SubscriptionGroupList, TopicConfig,
    TopicConfigList, TopicFilterType, TopicList, kv,
};
use rocket_protocol::header::{
    CreateTopicHeader, DeleteSubscriptionGroupHeader, GetBrokerConfigResponseHeader, GroupHeader,
    GroupTopicHeader, TopicHeader,
};
use rocket_protocol::{Command, GroupName, ResponseCode, TopicName};

use super::BrokerProcessor;
use super::refusal::{Answer, Refusal, group_name, success, topic_name};
use crate::config::Settings as _;
use crate::metadata::apply_attributes;

/// Queues that one topic may have.
const QUEUES_MAX: i32 = 65_536;
/// Keys that no administrator may change over the wire (`configBlackList`).
const CONFIG_BLACK_LIST: [&str; 3] = ["brokerConfigPath", "rocketmqHome", "configBlackList"];
/// Attributes whose values would need something that this broker does not have.
const UNSUPPORTED_ATTRIBUTES: [(&str, &str); 2] =
    [("queue.type", "BatchCQ"), ("cleanup.policy", "COMPACTION")];

fn invalid(remark: impl Into<String>) -> Refusal {
    Refusal::new(ResponseCode::INVALID_PARAMETER, remark)
}

fn body(bytes: bytes::Bytes) -> Command {
    Command::response(ResponseCode::SUCCESS).with_body(bytes)
}

impl BrokerProcessor {
    pub(super) fn update_topic(&self, request: &Command) -> Answer {
        let header: CreateTopicHeader = request.header()?;
        let known = self.deps.metadata.topics.get(&header.topic);
        let mut attributes = known.map_or_else(BTreeMap::new, |topic| topic.attributes.clone());
        let changes = header.attributes.as_deref().unwrap_or_default();
        apply_attributes(&mut attributes, changes).map_err(Refusal::system_error)?;
        let filter_type =
            TopicFilterType::from_name(&header.topic_filter_type).ok_or_else(|| {
                invalid(format!(
                    "topicFilterType = [{}] value invalid",
                    header.topic_filter_type
                ))
            })?;
        let config = TopicConfig {
            attributes,
            order: header.order,
            perm: header.perm,
            read_queue_nums: header.read_queue_nums,
            topic_filter_type: filter_type,
            topic_name: header.topic.as_str().to_owned(),
            topic_sys_flag: header.topic_sys_flag.unwrap_or(0),
            write_queue_nums: header.write_queue_nums,
        };
        self.put_topics(vec![config])
    }

    pub(super) fn update_topics(&self, request: &Command) -> Answer {
        let list = TopicConfigList::parse(&request.body.contiguous())?;
        let mut topics = list.topic_config_list;
        for topic in &mut topics {
            // In a list attributes come as changes too: their names carry the signs.
            let mut attributes = BTreeMap::new();
            for (key, value) in &topic.attributes {
                let key = key.strip_prefix('+').unwrap_or(key);
                if !key.starts_with('-') {
                    attributes.insert(key.to_owned(), value.clone());
                }
            }
            topic.attributes = attributes;
        }
        self.put_topics(topics)
    }

    fn put_topics(&self, topics: Vec<TopicConfig>) -> Answer {
        let mut checked = Vec::with_capacity(topics.len());
        for topic in topics {
            let name = topic_name(&topic.topic_name)?;
            self.check_topic_config(&name, &topic)?;
            if self.deps.metadata.topics.get(name.as_str()).as_deref() != Some(&topic) {
                checked.push((name, topic));
            }
        }
        if !checked.is_empty() {
            let topics = &self.deps.metadata.topics;
            self.waiting(|| topics.update(checked, self.now()))??;
            (self.deps.topics_changed)();
        }
        success()
    }

    fn check_topic_config(&self, name: &TopicName, topic: &TopicConfig) -> Result<(), Refusal> {
        if self.is_own_topic(name) {
            return Err(invalid(format!(
                "The topic[{name}] is conflict with system topic."
            )));
        }
        let queues = 0..=QUEUES_MAX;
        if !queues.contains(&topic.read_queue_nums) || !queues.contains(&topic.write_queue_nums) {
            return Err(invalid(format!(
                "The topic[{name}] may have 0 to {QUEUES_MAX} queues"
            )));
        }
        if !(0..=7).contains(&topic.perm) {
            return Err(invalid(format!("perm = [{}] value invalid", topic.perm)));
        }
        for (key, value) in UNSUPPORTED_ATTRIBUTES {
            if topic
                .attributes
                .get(key)
                .is_some_and(|given| given == value)
            {
                return Err(invalid(format!(
                    "{key}={value} is not supported by this broker version"
                )));
            }
        }
        if topic
            .attributes
            .get("message.type")
            .is_some_and(|kind| kind == "MIXED")
        {
            return Err(invalid("MIXED message type is not supported."));
        }
        Ok(())
    }

    /// Whether the broker keeps the topic for itself; clusters and brokers are topics too.
    fn is_own_topic(&self, name: &TopicName) -> bool {
        let identity = &self.deps.identity;
        name.is_system() || [&identity.cluster, &identity.broker_name].contains(&&name.to_string())
    }

    pub(super) fn delete_topic(&self, request: &Command) -> Answer {
        let header: TopicHeader = request.header()?;
        let name = topic_name(&header.topic)?;
        if self.is_own_topic(&name) {
            return Err(invalid(format!(
                "The topic[{name}] is conflict with system topic."
            )));
        }
        let topics = &self.deps.metadata.topics;
        let was_there = self.waiting(|| topics.delete(name.as_str(), self.now()))??;
        self.deps.metadata.offsets.forget_topic(name.as_str());
        // In a group the change itself hides the messages before it, on every replica.
        if !self.deps.metadata.is_replica() {
            self.waiting(|| self.deps.store.delete_topic(&name))?
                .map_err(|error| {
                    Refusal::system_error(format!("queues were not removed: {error}"))
                })?;
        }
        self.stats.forget_topic(name.as_str());
        self.deps.metrics.forget_topic(name.as_str());
        if was_there {
            tracing::info!(topic = %name, "topic deleted");
            (self.deps.topics_changed)();
        }
        success()
    }

    pub(super) fn topic_config(&self, request: &Command) -> Answer {
        let header: TopicHeader = request.header()?;
        let topic = self
            .deps
            .metadata
            .topics
            .get(&header.topic)
            .ok_or_else(|| {
                Refusal::new(
                    ResponseCode::TOPIC_NOT_EXIST,
                    format!("No topic in this broker. topic: {}", header.topic),
                )
            })?;
        Ok(body(topic.to_json()))
    }

    /// All in one page: without `totalTopicNum` in the answer whoever asks takes it as such.
    pub(super) fn all_topics(&self) -> Command {
        body(self.deps.metadata.topics.to_body().to_json())
    }

    pub(super) fn system_topics(&self) -> Command {
        let names = self.deps.metadata.topics.names();
        let list = TopicList {
            topic_list: names
                .iter()
                .filter(|name| self.is_own_topic(name))
                .map(TopicName::to_string)
                .collect(),
            ..TopicList::default()
        };
        body(list.to_json())
    }

    pub(super) fn update_group(&self, request: &Command) -> Answer {
        let group = SubscriptionGroupConfig::parse(&request.body.contiguous())?;
        self.put_groups(vec![group])
    }

    pub(super) fn update_groups(&self, request: &Command) -> Answer {
        let list = SubscriptionGroupList::parse(&request.body.contiguous())?;
        self.put_groups(list.group_config_list)
    }

    fn put_groups(&self, groups: Vec<SubscriptionGroupConfig>) -> Answer {
        let mut checked = Vec::with_capacity(groups.len());
        for mut group in groups {
            let name = group_name(&group.group_name)?;
            if !(0..=QUEUES_MAX).contains(&group.retry_queue_nums) {
                return Err(invalid(format!(
                    "The group[{name}] may have 0 to {QUEUES_MAX} retry queues"
                )));
            }
            let known = self.deps.metadata.groups.get(name.as_str());
            let mut attributes = known.map_or_else(BTreeMap::new, |known| known.attributes.clone());
            for (key, value) in &group.attributes {
                match (key.strip_prefix('+'), key.strip_prefix('-')) {
                    (Some(key), _) => {
                        attributes.insert(key.to_owned(), value.clone());
                    }
                    (None, Some(key)) => {
                        attributes.remove(key);
                    }
                    (None, None) => {
                        attributes.insert(key.clone(), value.clone());
                    }
                }
            }
            group.attributes = attributes;
            checked.push((name, group));
        }
        self.raise_retry_topics(&checked)?;
        let groups = &self.deps.metadata.groups;
        self.waiting(|| groups.update(checked, self.now()))??;
        success()
    }

    /// Gives the retry topics that are there already the queues that the groups ask for now. None loses any: there may be messages in it.
    fn raise_retry_topics(
        &self,
        groups: &[(GroupName, SubscriptionGroupConfig)],
    ) -> Result<(), Refusal> {
        let topics = &self.deps.metadata.topics;
        let too_narrow = |(group, config): &(GroupName, SubscriptionGroupConfig)| {
            let (name, known) = topics.entry(TopicName::retry_topic(group).as_str())?;
            let queues = config.retry_queue_nums;
            let is_too_narrow = known.read_queue_nums.min(known.write_queue_nums) < queues;
            is_too_narrow.then(|| {
                let mut wide = TopicConfig::clone(&known);
                wide.read_queue_nums = wide.read_queue_nums.max(queues);
                wide.write_queue_nums = wide.write_queue_nums.max(queues);
                (name, wide)
            })
        };
        let raised: Vec<_> = groups.iter().filter_map(too_narrow).collect();
        if !raised.is_empty() {
            self.waiting(|| topics.update(raised, self.now()))??;
            (self.deps.topics_changed)();
        }
        Ok(())
    }

    pub(super) fn delete_group(&self, request: &Command) -> Answer {
        let header: DeleteSubscriptionGroupHeader = request.header()?;
        let group = &*header.group_name;
        let groups = &self.deps.metadata.groups;
        let delete = || groups.delete(group, header.clean_offset, self.now());
        if self.waiting(delete)?? {
            tracing::info!(group, clean_offset = header.clean_offset, "group deleted");
        }
        if header.clean_offset {
            self.deps.metadata.offsets.forget_group(group);
        }
        self.stats.forget_group(group);
        self.deps.metrics.forget_group(group);
        success()
    }

    pub(super) fn group_config(&self, request: &Command) -> Answer {
        let header: GroupHeader = request.header()?;
        let config = self.deps.config.load();
        let group = self.group_of(&header.group, &config)?.ok_or_else(|| {
            Refusal::new(
                ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST,
                "No group in this broker",
            )
        })?;
        Ok(body(group.to_json()))
    }

    /// All in one page, as [`Self::all_topics`].
    pub(super) fn all_groups(&self) -> Command {
        body(self.deps.metadata.groups.to_body().to_json())
    }

    /// Groups that read a topic: by their members' subscriptions and by their positions.
    pub(super) fn groups_of_topic(&self, request: &Command) -> Answer {
        let header: TopicHeader = request.header()?;
        let topic = &*header.topic;
        let mut groups: BTreeSet<String> = self
            .deps
            .metadata
            .offsets
            .groups_of(topic)
            .iter()
            .map(GroupName::to_string)
            .collect();
        let consumers = self.deps.clients.consumers.read();
        groups.extend(
            consumers
                .groups()
                .filter(|(_, group)| group.subscription(topic).is_some())
                .map(|(name, _)| name.to_string()),
        );
        let list = GroupList {
            group_list: groups.into_iter().collect(),
        };
        Ok(body(list.to_json()))
    }

    /// What a group wants of a topic, if it has members.
    pub(super) fn subscription_of_group(&self, request: &Command) -> Answer {
        let header: GroupTopicHeader = request.header()?;
        let (group, topic) = (&*header.group, header.topic.as_deref().unwrap_or_default());
        let subscription = self.deps.clients.subscription(group, topic);
        let answer = QuerySubscription {
            group: group.to_owned(),
            subscription_data: subscription.map(|subscription| subscription.data.clone()),
            topic: topic.to_owned(),
        };
        Ok(body(answer.to_json()))
    }

    /// Queues go with their topic. Those that have none came with a folder of another broker; they are named and not removed,
    /// as somebody may make the topic at this moment.
    pub(super) fn clean_unused_topics(&self) -> Answer {
        let topics = &self.deps.metadata.topics;
        let mut unused: Vec<String> = self
            .deps
            .store
            .queues()
            .into_iter()
            .filter(|(topic, _)| !topics.contains(topic.as_str()) && !self.is_own_topic(topic))
            .filter(|(topic, queue)| {
                // Those of a topic that a group deleted have nothing left to be seen.
                let range = self.deps.store.queue_range(topic, *queue);
                range.is_some_and(|range| range.min < range.max)
            })
            .map(|(topic, _)| topic.to_string())
            .collect();
        unused.dedup();
        if unused.is_empty() {
            return success();
        }
        Err(Refusal::system_error(format!(
            "queues of topics that this broker does not have are kept; delete them with deleteTopic: {}",
            unused.join(", ")
        )))
    }

    /// Topics in which a group has a position.
    pub(super) fn topics_of_group(&self, request: &Command) -> Answer {
        let header: GroupHeader = request.header()?;
        let topics = self.deps.metadata.offsets.topics_of(&header.group);
        let list = TopicList {
            topic_list: topics.iter().map(TopicName::to_string).collect(),
            ..TopicList::default()
        };
        Ok(body(list.to_json()))
    }

    /// Changes keys that may change while the broker runs; others are refused by name.
    pub(super) fn update_config(&self, request: &Command) -> Answer {
        let bytes = request.body.contiguous();
        let text = std::str::from_utf8(&bytes)
            .map_err(|error| Refusal::system_error(format!("string2Properties error: {error}")))?;
        let given = kv::parse_properties(text);
        if CONFIG_BLACK_LIST.iter().any(|key| given.contains_key(*key)) {
            return Err(Refusal::new(
                ResponseCode::NO_PERMISSION,
                "Can not update config in black list.",
            ));
        }
        let changed = self
            .deps
            .config
            .update(text)
            .map_err(|error| Refusal::system_error(error.to_string()))?;
        tracing::info!(keys = ?changed, "configuration was changed by an administrator");
        let config = self.deps.config.load();
        let topics = &self.deps.metadata.topics;
        self.waiting(|| topics.ensure_system(&config, self.now()))??;
        if changed.contains(&"brokerPermission") {
            self.waiting(|| topics.renew(self.now()))??;
        }
        if !changed.is_empty() {
            (self.deps.topics_changed)();
        }
        success()
    }

    pub(super) fn broker_config(&self) -> Command {
        let config = self.deps.config.load();
        let text = config.to_properties();
        let version = self.deps.metadata.topics.version();
        let header = GetBrokerConfigResponseHeader {
            version: String::from_utf8_lossy(&version.to_json())
                .into_owned()
                .into(),
        };
        Command::response(ResponseCode::SUCCESS)
            .with_header(&header)
            .with_body(text.into_bytes())
    }
}

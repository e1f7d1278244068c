//! Who consumes: the members and subscriptions of every consumer group (`ConsumerManager`, `ConsumerGroupInfo`).
//!
//! Pure: the time is an argument, and what has to be told to whom is returned. Both sides of a rebalance sort the same list
//! of client ids, so every member has to see the same list: a change is told to all members at once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rocket_filter::{Filter, FilterError};
use rocket_protocol::body::{
    ConsumeFromWhere, ConsumeType, ConsumerData, MessageModel, SubscriptionData,
};
use rocket_protocol::{GroupName, Language, TopicName, UnixMillis};

/// One connection of a client.
#[derive(Debug, Clone)]
pub struct Member<C> {
    /// How to reach it.
    pub channel: C,
    /// What it calls itself; one text for all groups of a client.
    pub client_id: Arc<str>,
    /// What it is written in.
    pub language: Language,
    /// Its version, an ordinal of `MQVersion`.
    pub version: i32,
    /// When it last was heard of.
    pub last_seen: UnixMillis,
}

/// What a group wants of one topic, parsed once.
#[derive(Debug)]
pub struct Subscription {
    /// As the client said it.
    pub data: SubscriptionData,
    /// What it means; an error stays with the subscription and refuses its pulls.
    pub filter: Result<Filter, FilterError>,
    /// When a heartbeat last carried it.
    pub last_seen: UnixMillis,
}

impl Subscription {
    /// Parses what a heartbeat carried.
    pub fn new(data: SubscriptionData, now: UnixMillis) -> Self {
        let filter = Filter::parse(Some(&data.expression_type), Some(&data.sub_string));
        Self {
            data,
            filter,
            last_seen: now,
        }
    }
}

/// A consumer group with at least one member.
#[derive(Debug)]
pub struct ConsumerGroup<C> {
    /// How it gets its messages.
    pub consume_type: ConsumeType,
    /// Who of it gets a message.
    pub message_model: MessageModel,
    /// Where a member begins that has no position.
    pub consume_from_where: ConsumeFromWhere,
    members: HashMap<u64, Member<C>>,
    subscriptions: HashMap<TopicName, Arc<Subscription>>,
}

impl<C> ConsumerGroup<C> {
    /// Whether every member gets every message.
    pub fn is_broadcasting(&self) -> bool {
        self.message_model == MessageModel::Broadcasting
    }

    /// All members.
    pub fn members(&self) -> impl Iterator<Item = &Member<C>> {
        self.members.values()
    }

    /// What the group wants of `topic`.
    pub fn subscription(&self, topic: &str) -> Option<&Arc<Subscription>> {
        self.subscriptions.get(topic)
    }

    /// All subscriptions.
    pub fn subscriptions(&self) -> impl Iterator<Item = (&TopicName, &Arc<Subscription>)> {
        self.subscriptions.iter()
    }

    /// Takes over the subscriptions of a heartbeat; says whether topics came or went. The latest heartbeat of any member
    /// counts for the whole group, as in RocketMQ.
    fn subscribe(&mut self, now: UnixMillis, wanted: &[SubscriptionData]) -> bool {
        let mut changed = false;
        let mut topics = HashSet::with_capacity(wanted.len());
        for data in wanted {
            // A name that is no topic can match no message.
            let Ok(topic) = TopicName::parse(&data.topic) else {
                continue;
            };
            let known = self.subscriptions.get(&topic);
            changed |= known.is_none();
            if known.is_none_or(|known| data.sub_version > known.data.sub_version) {
                self.subscriptions.insert(
                    topic.clone(),
                    Arc::new(Subscription::new(data.clone(), now)),
                );
            }
            topics.insert(topic);
        }
        let before = self.subscriptions.len();
        self.subscriptions.retain(|topic, _| topics.contains(topic));
        changed || self.subscriptions.len() < before
    }
}

/// Whoever has to be told that a group's members or subscriptions changed.
#[derive(Debug)]
pub struct Notice<C> {
    /// The group.
    pub group: GroupName,
    /// Its members' channels.
    pub channels: Vec<C>,
}

/// All consumer groups with members.
#[derive(Debug)]
pub struct Consumers<C> {
    groups: HashMap<GroupName, ConsumerGroup<C>>,
}

impl<C> Default for Consumers<C> {
    fn default() -> Self {
        Self {
            groups: HashMap::new(),
        }
    }
}

impl<C: Clone> Consumers<C> {
    /// Takes a heartbeat's word about one group. `Some` when members or subscriptions changed.
    pub fn heartbeat(
        &mut self,
        now: UnixMillis,
        group: &GroupName,
        channel_id: u64,
        member: Member<C>,
        data: &ConsumerData,
    ) -> Option<Notice<C>> {
        let entry = self
            .groups
            .entry(group.clone())
            .or_insert_with(|| ConsumerGroup {
                consume_type: data.consume_type,
                message_model: data.message_model,
                consume_from_where: data.consume_from_where,
                members: HashMap::new(),
                subscriptions: HashMap::new(),
            });
        entry.consume_type = data.consume_type;
        entry.message_model = data.message_model;
        entry.consume_from_where = data.consume_from_where;
        let is_new = entry.members.insert(channel_id, member).is_none();
        let is_changed = entry.subscribe(now, &data.subscription_data_set);
        (is_new || is_changed).then(|| notice(group, entry))
    }

    /// Removes one member that says good-bye. `Some` when it was one and others remain.
    pub fn unregister(&mut self, group: &GroupName, channel_id: u64) -> Option<Notice<C>> {
        let entry = self.groups.get_mut(group)?;
        entry.members.remove(&channel_id)?;
        if entry.members.is_empty() {
            self.groups.remove(group);
            return None;
        }
        Some(notice(group, entry))
    }

    /// Removes a connection that is gone from all groups.
    pub fn closed(&mut self, channel_id: u64) -> Vec<Notice<C>> {
        self.remove_where(|id, _| id == channel_id).0
    }

    /// Removes members that were silent for longer than `silence_ms`; also returns their channels, which are to be closed.
    pub fn expire(&mut self, now: UnixMillis, silence_ms: i64) -> (Vec<Notice<C>>, Vec<C>) {
        self.remove_where(|_, member| now.since(member.last_seen) > silence_ms)
    }

    /// The group, if it has members.
    pub fn group(&self, group: &str) -> Option<&ConsumerGroup<C>> {
        self.groups.get(group)
    }

    /// All groups with members.
    pub fn groups(&self) -> impl Iterator<Item = (&GroupName, &ConsumerGroup<C>)> {
        self.groups.iter()
    }

    fn remove_where(
        &mut self,
        is_gone: impl Fn(u64, &Member<C>) -> bool,
    ) -> (Vec<Notice<C>>, Vec<C>) {
        let mut notices = Vec::new();
        let mut gone = Vec::new();
        self.groups.retain(|group, entry| {
            let before = entry.members.len();
            entry.members.retain(|id, member| {
                let is_gone = is_gone(*id, member);
                if is_gone {
                    gone.push(member.channel.clone());
                }
                !is_gone
            });
            if entry.members.len() < before && !entry.members.is_empty() {
                notices.push(notice(group, entry));
            }
            !entry.members.is_empty()
        });
        (notices, gone)
    }
}

fn notice<C: Clone>(group: &GroupName, entry: &ConsumerGroup<C>) -> Notice<C> {
    Notice {
        group: group.clone(),
        channels: entry
            .members
            .values()
            .map(|member| member.channel.clone())
            .collect(),
    }
}

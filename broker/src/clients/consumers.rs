//! Who consumes: the members and subscriptions of every consumer group (`ConsumerManager`, `ConsumerGroupInfo`).
//!
//! Pure: the time is an argument, and what has to be told to whom is returned. Both sides of a rebalance sort the same list
//! of client ids, so every member has to see the same list: a change is told to all members at once.
//!
//! What is kept of all groups has one bound, since every client may be in many groups, and every group want many topics.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rocket_filter::{Filter, FilterError};
use rocket_protocol::body::{
    ConsumeFromWhere, ConsumeType, ConsumerData, MessageModel, SubscriptionData,
};
use rocket_protocol::{GroupName, Language, TopicName, UnixMillis};
use thiserror::Error;

/// Bytes that members and subscriptions of all consumer groups may take, about: a million members, or half a million subscriptions
/// to a few tags.
pub const BYTES_MAX: usize = 256 << 20;
/// What a member takes beside its client's name, and a subscription beside its texts: about.
const MEMBER_BYTES: usize = 128;
const SUBSCRIPTION_BYTES: usize = 384;
const TAG_BYTES: usize = 24;

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

impl<C> Member<C> {
    /// Bytes that it takes in a table, about.
    pub(super) fn bytes(&self) -> usize {
        MEMBER_BYTES + self.client_id.len()
    }
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

/// Bytes that a subscription takes, about: its texts, and what is made of them.
fn subscription_bytes(data: &SubscriptionData) -> usize {
    let tags = data.tags_set.iter().map(|tag| TAG_BYTES + tag.len());
    let texts = data.topic.len() + 2 * data.sub_string.len() + 2 * data.expression_type.len();
    SUBSCRIPTION_BYTES + texts + tags.sum::<usize>() + size_of_val(&*data.code_set)
}

/// A heartbeat brought more than may be kept of all groups. There is room again when others have left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "members and subscriptions of all consumer groups may take {0} bytes, and there is no room for more"
)]
pub struct Full(pub usize);

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
    /// Of all members.
    member_bytes: usize,
    /// Of all subscriptions.
    subscription_bytes: usize,
}

impl<C> ConsumerGroup<C> {
    /// Whether every member gets every message.
    pub fn is_broadcasting(&self) -> bool {
        self.message_model == MessageModel::Broadcasting
    }

    fn bytes(&self) -> usize {
        self.member_bytes + self.subscription_bytes
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

    /// Bytes of the subscriptions after a heartbeat that wants these, at most: of two of one topic the newer counts.
    fn bytes_wanted(&self, wanted: &[SubscriptionData]) -> usize {
        let larger = |data: &SubscriptionData| {
            let known = self.subscription(&data.topic);
            let known = known.map_or(0, |known| subscription_bytes(&known.data));
            subscription_bytes(data).max(known)
        };
        wanted.iter().map(larger).sum()
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
        let kept = self.subscriptions.values();
        self.subscription_bytes = kept.map(|kept| subscription_bytes(&kept.data)).sum();
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
    /// Of all groups.
    bytes: usize,
    bytes_max: usize,
}

impl<C> Default for Consumers<C> {
    fn default() -> Self {
        Self::bounded(BYTES_MAX)
    }
}

impl<C> Consumers<C> {
    /// A table of at most so many bytes.
    pub fn bounded(bytes_max: usize) -> Self {
        Self {
            groups: HashMap::new(),
            bytes: 0,
            bytes_max,
        }
    }
}

impl<C: Clone> Consumers<C> {
    /// Whether there is room for what a heartbeat says about one group. Who takes no more than before always has it.
    ///
    /// # Errors
    /// There is none.
    pub fn check_room(
        &self,
        group: &GroupName,
        channel_id: u64,
        member: &Member<C>,
        data: &ConsumerData,
    ) -> Result<(), Full> {
        let wanted = &data.subscription_data_set;
        let (before, after) = if let Some(known) = self.groups.get(group) {
            let was = known.members.get(&channel_id).map_or(0, Member::bytes);
            let after = member.bytes() + known.bytes_wanted(wanted);
            (was + known.subscription_bytes, after)
        } else {
            let wanted = wanted.iter().map(subscription_bytes);
            (0, member.bytes() + wanted.sum::<usize>())
        };
        if after > before && self.bytes - before + after > self.bytes_max {
            return Err(Full(self.bytes_max));
        }
        Ok(())
    }

    /// Takes a heartbeat's word about one group, for which there is room. `Some` when members or subscriptions changed.
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
                member_bytes: 0,
                subscription_bytes: 0,
            });
        let before = entry.bytes();
        entry.consume_type = data.consume_type;
        entry.message_model = data.message_model;
        entry.consume_from_where = data.consume_from_where;
        entry.member_bytes += member.bytes();
        let known = entry.members.insert(channel_id, member);
        entry.member_bytes -= known.as_ref().map_or(0, Member::bytes);
        let is_new = known.is_none();
        let is_changed = entry.subscribe(now, &data.subscription_data_set);
        self.bytes = self.bytes - before + entry.bytes();
        (is_new || is_changed).then(|| notice(group, entry))
    }

    /// Removes one member that says good-bye. `Some` when it was one and others remain.
    pub fn unregister(&mut self, group: &GroupName, channel_id: u64) -> Option<Notice<C>> {
        let entry = self.groups.get_mut(group)?;
        let before = entry.bytes();
        let gone = entry.members.remove(&channel_id)?;
        if entry.members.is_empty() {
            self.bytes -= before;
            self.groups.remove(group);
            return None;
        }
        entry.member_bytes -= gone.bytes();
        self.bytes -= gone.bytes();
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

    /// Bytes that all groups take, about.
    pub fn bytes(&self) -> usize {
        self.bytes
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
        let mut bytes = 0;
        self.groups.retain(|group, entry| {
            let before = entry.members.len();
            entry.members.retain(|id, member| {
                let is_gone = is_gone(*id, member);
                if is_gone {
                    gone.push(member.channel.clone());
                    entry.member_bytes -= member.bytes();
                }
                !is_gone
            });
            if entry.members.len() < before && !entry.members.is_empty() {
                notices.push(notice(group, entry));
            }
            let is_left = !entry.members.is_empty();
            bytes += if is_left { entry.bytes() } else { 0 };
            is_left
        });
        self.bytes = bytes;
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

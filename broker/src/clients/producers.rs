//! Who produces: the members of every producer group (`ProducerManager`). Pure.

use std::collections::HashMap;

use rocket_protocol::{GroupName, UnixMillis};

use super::consumers::Member;

/// Groups that are remembered. Nothing that a producer does needs its group to be: beyond it new ones are passed over.
pub const GROUPS_MAX: usize = 100_000;

/// All producer groups with members.
#[derive(Debug)]
pub struct Producers<C> {
    groups: HashMap<GroupName, HashMap<u64, Member<C>>>,
}

impl<C> Default for Producers<C> {
    fn default() -> Self {
        Self {
            groups: HashMap::new(),
        }
    }
}

impl<C: Clone> Producers<C> {
    /// Takes a heartbeat's word about one group, unless it is one too many.
    pub fn heartbeat(&mut self, group: &GroupName, channel_id: u64, member: Member<C>) {
        if self.groups.len() >= GROUPS_MAX && !self.groups.contains_key(group) {
            return;
        }
        self.groups
            .entry(group.clone())
            .or_default()
            .insert(channel_id, member);
    }

    /// Removes one member that says good-bye.
    pub fn unregister(&mut self, group: &GroupName, channel_id: u64) {
        if let Some(members) = self.groups.get_mut(group) {
            members.remove(&channel_id);
            if members.is_empty() {
                self.groups.remove(group);
            }
        }
    }

    /// Removes a connection that is gone from all groups.
    pub fn closed(&mut self, channel_id: u64) {
        self.groups.retain(|_, members| {
            members.remove(&channel_id);
            !members.is_empty()
        });
    }

    /// Removes members that were silent for longer than `silence_ms` and returns their channels.
    pub fn expire(&mut self, now: UnixMillis, silence_ms: i64) -> Vec<C> {
        let mut gone = Vec::new();
        self.groups.retain(|_, members| {
            members.retain(|_, member| {
                let is_gone = now.since(member.last_seen) > silence_ms;
                if is_gone {
                    gone.push(member.channel.clone());
                }
                !is_gone
            });
            !members.is_empty()
        });
        gone
    }

    /// The members of a group.
    pub fn members(&self, group: &str) -> impl Iterator<Item = &Member<C>> {
        self.groups.get(group).into_iter().flat_map(HashMap::values)
    }

    /// All groups and their members.
    pub fn groups(&self) -> impl Iterator<Item = (&GroupName, impl Iterator<Item = &Member<C>>)> {
        self.groups
            .iter()
            .map(|(group, members)| (group, members.values()))
    }

    /// The channel of the producer that calls itself `client_id`: where a reply goes.
    pub fn channel_of(&self, client_id: &str) -> Option<&C> {
        self.groups
            .values()
            .flat_map(HashMap::values)
            .find(|member| *member.client_id == *client_id)
            .map(|member| &member.channel)
    }
}

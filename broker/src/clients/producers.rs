//! Who produces: the members of every producer group (`ProducerManager`). Pure.

use std::collections::HashMap;

use rocket_protocol::{GroupName, UnixMillis};

use super::consumers::Member;

/// Groups that are remembered. Nothing that a producer does needs its group to be: beyond it new ones are passed over.
pub const GROUPS_MAX: usize = 100_000;
/// Bytes that the members of all groups may take, about; beyond it new ones are passed over.
pub const BYTES_MAX: usize = 128 << 20;

/// All producer groups with members.
#[derive(Debug)]
pub struct Producers<C> {
    groups: HashMap<GroupName, HashMap<u64, Member<C>>>,
    /// Of all members.
    bytes: usize,
    bytes_max: usize,
}

impl<C> Default for Producers<C> {
    fn default() -> Self {
        Self::bounded(BYTES_MAX)
    }
}

impl<C> Producers<C> {
    /// A table whose members take at most so many bytes.
    pub fn bounded(bytes_max: usize) -> Self {
        Self {
            groups: HashMap::new(),
            bytes: 0,
            bytes_max,
        }
    }
}

impl<C: Clone> Producers<C> {
    /// Takes a heartbeat's word about one group, unless it is one too many.
    pub fn heartbeat(&mut self, group: &GroupName, channel_id: u64, member: Member<C>) {
        let known = self.groups.get(group);
        if known.is_none() && self.groups.len() >= GROUPS_MAX {
            return;
        }
        let known = known.and_then(|members| members.get(&channel_id));
        let (before, after) = (known.map_or(0, Member::bytes), member.bytes());
        if after > before && self.bytes - before + after > self.bytes_max {
            return;
        }
        self.bytes = self.bytes - before + after;
        self.groups
            .entry(group.clone())
            .or_default()
            .insert(channel_id, member);
    }

    /// Removes one member that says good-bye.
    pub fn unregister(&mut self, group: &GroupName, channel_id: u64) {
        if let Some(members) = self.groups.get_mut(group) {
            self.bytes -= members.remove(&channel_id).map_or(0, |gone| gone.bytes());
            if members.is_empty() {
                self.groups.remove(group);
            }
        }
    }

    /// Removes a connection that is gone from all groups.
    pub fn closed(&mut self, channel_id: u64) {
        let bytes = &mut self.bytes;
        self.groups.retain(|_, members| {
            *bytes -= members.remove(&channel_id).map_or(0, |gone| gone.bytes());
            !members.is_empty()
        });
    }

    /// Removes members that were silent for longer than `silence_ms` and returns their channels.
    pub fn expire(&mut self, now: UnixMillis, silence_ms: i64) -> Vec<C> {
        let mut gone = Vec::new();
        let bytes = &mut self.bytes;
        self.groups.retain(|_, members| {
            members.retain(|_, member| {
                let is_gone = now.since(member.last_seen) > silence_ms;
                if is_gone {
                    gone.push(member.channel.clone());
                    *bytes -= member.bytes();
                }
                !is_gone
            });
            !members.is_empty()
        });
        gone
    }

    /// Bytes that all members take, about.
    pub fn bytes(&self) -> usize {
        self.bytes
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

//! When a master asks for a member to leave S (§8.9): its link is down for `link_limit`, or it has not reached within
//! `lag_limit` the end that was current then.
//!
//! The only place with time, and none of it matters for safety: [`crate::replica`] takes every such request at any moment.
//! Milliseconds are the caller's own monotonic ones.

use std::collections::BTreeMap;

use rocket_protocol::ids::PhysicalOffset;

use crate::effect::Input;
use crate::identity::Member;
use crate::replica::Replica;

/// The limits of §15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A member without a link, or without its first acknowledgement, for so long is asked out. Default 1 s.
    pub link_limit_ms: u64,
    /// A member that has not reached the end that was current so long ago is asked out. Default 3 s.
    pub lag_limit_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            link_limit_ms: 1_000,
            lag_limit_ms: 3_000,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Watched {
    /// The end that it has to reach.
    goal: PhysicalOffset,
    /// When that end was current.
    since_ms: u64,
    linked_at_ms: u64,
}

/// Watches the members of S for one master.
#[derive(Debug, Default)]
pub struct LagWatch {
    limits: Limits,
    members: BTreeMap<Member, Watched>,
}

impl LagWatch {
    /// A watch with these limits.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            members: BTreeMap::new(),
        }
    }

    /// Looks at the replica; call it every `beat_interval`. Returns what to feed into it.
    pub fn look(&mut self, now_ms: u64, replica: &Replica) -> Vec<Input> {
        let (Some(master), Some(state)) = (replica.leading(), replica.tracker().seen()) else {
            self.members.clear();
            return Vec::new();
        };
        let end = replica.log().end;
        let mut inputs = Vec::new();
        self.members.retain(|m, _| state.in_sync.contains(m));
        for member in state.in_sync.iter().filter(|m| **m != master.member) {
            let fresh = Watched {
                goal: end,
                since_ms: now_ms,
                linked_at_ms: now_ms,
            };
            let watched = self.members.entry(*member).or_insert(fresh);
            let acked = master.commit().acked_by(*member);
            if acked.is_some() {
                watched.linked_at_ms = now_ms;
            }
            if acked.is_some_and(|a| a >= watched.goal) {
                (watched.goal, watched.since_ms) = (end, now_ms);
            }
            let unlinked = now_ms.saturating_sub(watched.linked_at_ms) >= self.limits.link_limit_ms;
            let behind = now_ms.saturating_sub(watched.since_ms) >= self.limits.lag_limit_ms;
            if unlinked || behind {
                inputs.push(Input::Lagging(*member));
            }
        }
        inputs
    }
}

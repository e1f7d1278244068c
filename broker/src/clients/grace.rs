//! The time that the members of consumer groups have to come back, when a broker begins to serve that knows of the groups and not of their
//! members: a replica that has become master, or a broker that was started again. Pure: the time is an argument.
//!
//! Clients send a heartbeat every 30 s, and go by the list of a group's members. Who has come first would find itself alone in it and take the
//! queues of all others, who know nothing of that and go on; the locks of ordered consumers are forgotten too. So nobody is given a list, or told
//! of a change, before all can have come: clients that have none keep the queues that they have.

use std::collections::HashSet;

use rocket_protocol::{GroupName, UnixMillis};

/// A heartbeat interval of clients (`heartbeatBrokerInterval`, 30 s), and what one may take to find the broker.
pub const GRACE_MS: i64 = 35_000;

/// See the module.
#[derive(Debug)]
pub struct Grace {
    begun: UnixMillis,
    groups: HashSet<GroupName>,
}

impl Grace {
    /// For the groups that are known when a broker begins to serve. A group that is made later has no members that were here before.
    pub fn new(now: UnixMillis, groups: impl IntoIterator<Item = GroupName>) -> Self {
        Self {
            begun: now,
            groups: groups.into_iter().collect(),
        }
    }

    /// Whether the group may have members that have not come yet. Not after a clock was put back: a list is late then, never for long.
    pub fn covers(&self, now: UnixMillis, group: &str) -> bool {
        (0..GRACE_MS).contains(&now.since(self.begun)) && self.groups.contains(group)
    }

    /// How many groups it is for.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grace_is_for_groups_that_were_known_and_ends() {
        let begun = UnixMillis(1_000);
        let grace = Grace::new(begun, [GroupName::parse("g").unwrap()]);
        assert_eq!(grace.groups(), 1);
        let last = begun.plus_millis(GRACE_MS - 1);
        assert!(grace.covers(begun, "g") && grace.covers(last, "g"));
        assert!(!grace.covers(begun, "h"));
        for outside in [last.plus_millis(1), begun.minus_millis(1)] {
            assert!(!grace.covers(outside, "g"), "{outside:?}");
        }
    }
}

//! The modes of a group while it runs (§5.1): what its object asks for, what its master says is in force, and how far an answer
//! may go on which terms.
//!
//! Weaker modes come before stronger ones, so the stronger of two is their maximum.

use rocket_protocol::ids::PhysicalOffset;
use serde::{Deserialize, Serialize};

use crate::identity::Epoch;

/// When an append counts (§5).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Flush {
    /// When it is in the page cache.
    Async,
    /// When a flush that covers it has returned success.
    Sync,
}

/// What the answer to a send waits for (§5).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Replication {
    /// The master's own append counts.
    Async,
    /// The message is committed.
    Sync,
}

/// The modes that an object asks for, or a configuration. In JSON as `{"flush": "Sync", "replication": "Async"}`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// When an append counts.
    pub flush: Flush,
    /// What answers wait for.
    pub replication: Replication,
}

impl Policy {
    /// What keeps the promises of both.
    #[must_use]
    pub fn stronger(self, other: Self) -> Self {
        Self {
            flush: self.flush.max(other.flush),
            replication: self.replication.max(other.replication),
        }
    }

    /// How far sends that were promised this may be answered.
    pub fn end(self, held: Held) -> PhysicalOffset {
        match (self.replication, self.flush) {
            (Replication::Async, Flush::Async) => held.appended,
            (Replication::Async, Flush::Sync) => held.durable,
            (Replication::Sync, Flush::Async) => held.committed,
            (Replication::Sync, Flush::Sync) => held.committed_durable,
        }
    }
}

/// How far a master's log is held, by each measure.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Held {
    /// In the master's page cache.
    pub appended: PhysicalOffset,
    /// Flushed by the master.
    pub durable: PhysicalOffset,
    /// Committed (§8.7).
    pub committed: PhysicalOffset,
    /// Committed and flushed by every member that counted.
    pub committed_durable: PhysicalOffset,
}

/// What a master has said is in force: the promise behind its answers, and behind those of every later master until one of them
/// says otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InForce {
    /// When an append counts. `Sync` only while every member of S ∪ E is durable (W8).
    pub flush: Flush,
    /// What answers wait for.
    pub replication: Replication,
    /// The epoch in whose course that came into force: what earlier ones appended may have been answered otherwise.
    pub since: Epoch,
    /// m, as the master has taken it.
    pub min_in_sync: u8,
}

impl InForce {
    /// Its modes.
    pub fn policy(self) -> Policy {
        Policy {
            flush: self.flush,
            replication: self.replication,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stronger_of_two_keeps_both() {
        let policy = |flush, replication| Policy { flush, replication };
        let one = policy(Flush::Sync, Replication::Async);
        let other = policy(Flush::Async, Replication::Sync);
        let both = one.stronger(other);
        assert_eq!(both, policy(Flush::Sync, Replication::Sync));
        assert_eq!(both, other.stronger(one));
        let held = Held {
            appended: PhysicalOffset(40),
            durable: PhysicalOffset(30),
            committed: PhysicalOffset(20),
            committed_durable: PhysicalOffset(10),
        };
        let weakest = policy(Flush::Async, Replication::Async);
        let ends = [weakest, one, other, both].map(|policy| policy.end(held).0);
        assert_eq!(ends, [40, 30, 20, 10]);
    }
}

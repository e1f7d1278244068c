//! Queue locks of ordered consumers (`RebalanceLockManager`): who may read a queue of a group at a time.
//!
//! A lock lives [`LIFETIME_MS`] from its last renewal. It is memory only: after a restart of the broker every queue is free,
//! and the members of a group lock again at their next round.

use std::collections::HashMap;
use std::sync::Arc;

use rocket_protocol::{GroupName, QueueId, TopicName, UnixMillis};

/// How long a lock lives without renewal (`rocketmq.broker.rebalance.lockMaxLiveTime`).
pub const LIFETIME_MS: i64 = 60_000;

/// A queue that can be locked.
pub type Queue = (TopicName, QueueId);

#[derive(Debug)]
struct Lock {
    client_id: Arc<str>,
    renewed: UnixMillis,
}

impl Lock {
    fn is_expired(&self, now: UnixMillis) -> bool {
        now.since(self.renewed) > LIFETIME_MS
    }
}

/// All queue locks of the broker.
#[derive(Debug, Default)]
pub struct QueueLocks {
    groups: HashMap<GroupName, HashMap<Queue, Lock>>,
}

impl QueueLocks {
    /// Gives `client_id` a queue that is free, its own already, or whose owner did not renew in time. Says whether it has it
    /// now.
    pub fn lock(
        &mut self,
        now: UnixMillis,
        group: &GroupName,
        client_id: &Arc<str>,
        queue: Queue,
    ) -> bool {
        let locks = self.groups.entry(group.clone()).or_default();
        let is_granted = locks
            .get(&queue)
            .is_none_or(|lock| lock.client_id == *client_id || lock.is_expired(now));
        if is_granted {
            let lock = Lock {
                client_id: Arc::clone(client_id),
                renewed: now,
            };
            locks.insert(queue, lock);
        }
        is_granted
    }

    /// Frees those of `queues` that `client_id` holds.
    pub fn unlock(
        &mut self,
        group: &GroupName,
        client_id: &str,
        queues: impl IntoIterator<Item = Queue>,
    ) {
        let Some(locks) = self.groups.get_mut(group) else {
            return;
        };
        for queue in queues {
            if locks
                .get(&queue)
                .is_some_and(|lock| *lock.client_id == *client_id)
            {
                locks.remove(&queue);
            }
        }
        if locks.is_empty() {
            self.groups.remove(group);
        }
    }

    /// Whether some queue of the group is locked: then the group consumes in order.
    pub fn is_locked(&self, now: UnixMillis, group: &GroupName) -> bool {
        self.groups
            .get(group)
            .is_some_and(|locks| locks.values().any(|lock| !lock.is_expired(now)))
    }

    /// Drops what is long expired, so that groups that are gone leave nothing behind.
    pub fn sweep(&mut self, now: UnixMillis) {
        self.groups.retain(|_, locks| {
            locks.retain(|_, lock| !lock.is_expired(now));
            !locks.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> GroupName {
        GroupName::parse("g").unwrap()
    }

    fn queue(id: u32) -> Queue {
        (TopicName::parse("t").unwrap(), QueueId(id))
    }

    fn lock(locks: &mut QueueLocks, now: UnixMillis, client_id: &str, queues: &[u32]) -> Vec<u32> {
        let client_id = client_id.into();
        let granted = queues
            .iter()
            .filter(|id| locks.lock(now, &group(), &client_id, queue(**id)));
        granted.copied().collect()
    }

    #[test]
    fn a_queue_has_one_owner_until_it_is_unlocked() {
        let mut locks = QueueLocks::default();
        let now = UnixMillis(0);
        assert_eq!(lock(&mut locks, now, "a", &[0, 1]), [0, 1]);
        assert_eq!(lock(&mut locks, now, "b", &[0, 2]), [2]);
        assert_eq!(lock(&mut locks, now, "a", &[0]), [0]);
        locks.unlock(&group(), "b", [queue(0)]);
        assert!(lock(&mut locks, now, "b", &[0]).is_empty());
        locks.unlock(&group(), "a", [queue(0)]);
        assert_eq!(lock(&mut locks, now, "b", &[0]), [0]);
    }

    #[test]
    fn a_lock_that_is_not_renewed_expires() {
        let mut locks = QueueLocks::default();
        lock(&mut locks, UnixMillis(0), "a", &[0]);
        let last = UnixMillis(LIFETIME_MS);
        assert!(lock(&mut locks, last, "b", &[0]).is_empty());
        assert!(locks.is_locked(last, &group()));
        let after = last.plus_millis(1);
        assert!(!locks.is_locked(after, &group()));
        assert_eq!(lock(&mut locks, after, "b", &[0]), [0]);
        // The first owner must not renew what it lost.
        assert!(lock(&mut locks, after, "a", &[0]).is_empty());
        locks.sweep(after.plus_millis(LIFETIME_MS + 1));
        assert!(locks.groups.is_empty());
    }

    #[test]
    fn groups_do_not_share_locks() {
        let mut locks = QueueLocks::default();
        let other = GroupName::parse("h").unwrap();
        lock(&mut locks, UnixMillis(0), "a", &[0]);
        assert!(locks.lock(UnixMillis(0), &other, &"b".into(), queue(0)));
    }
}

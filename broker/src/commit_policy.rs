//! The commit policy of a group whose in-sync set is this broker alone.
//!
//! The set S = {self} of the replication protocol: everyone in it has what this disk has, so the log is committed up to its durable end when
//! flushes are synchronous, else up to its appended end. With replication SYNC and a smallest set above one, that set is too small to commit
//! anything: appends are refused rather than acknowledged with a promise that nobody keeps.

use rocket_store::{CommitPolicy, Ends, Flush, LocalEnds, PutStatus};

use crate::config::{Replication, ReplicationMode};

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct SingleCopy {
    /// When a message is durable.
    pub flush: Flush,
    /// What an acknowledgement promises about replicas.
    pub replication: Replication,
}

impl CommitPolicy for SingleCopy {
    fn ends(&self, local: LocalEnds) -> Ends {
        let end = match self.flush {
            Flush::Sync => local.durable,
            Flush::Async => local.appended,
        };
        Ends {
            committed: end,
            answered: end,
            visible: end,
        }
    }

    fn may_append(&self) -> Result<(), PutStatus> {
        let Replication { mode, in_sync_min } = self.replication;
        match mode {
            ReplicationMode::Sync if in_sync_min > 1 => Err(PutStatus::InSyncReplicasNotEnough),
            ReplicationMode::Sync | ReplicationMode::Async => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use rocket_protocol::ids::PhysicalOffset;

    use super::*;

    const LOCAL: LocalEnds = LocalEnds {
        appended: PhysicalOffset(100),
        durable: PhysicalOffset(60),
    };

    fn policy(flush: Flush, mode: ReplicationMode, in_sync_min: u32) -> SingleCopy {
        SingleCopy {
            flush,
            replication: Replication { mode, in_sync_min },
        }
    }

    #[test]
    fn with_synchronous_flush_only_what_is_durable_counts() {
        let ends = policy(Flush::Sync, ReplicationMode::Sync, 1).ends(LOCAL);
        assert_eq!(
            (ends.committed, ends.answered, ends.visible),
            (LOCAL.durable, LOCAL.durable, LOCAL.durable)
        );
        assert_eq!(
            policy(Flush::Async, ReplicationMode::Sync, 1)
                .ends(LOCAL)
                .committed,
            LOCAL.appended
        );
    }

    #[test]
    fn one_copy_is_too_few_where_two_are_demanded() {
        assert_eq!(
            policy(Flush::Sync, ReplicationMode::Sync, 2).may_append(),
            Err(PutStatus::InSyncReplicasNotEnough)
        );
        assert_eq!(
            policy(Flush::Sync, ReplicationMode::Async, 2).may_append(),
            Ok(())
        );
        assert_eq!(
            policy(Flush::Sync, ReplicationMode::Sync, 1).may_append(),
            Ok(())
        );
    }
}

//! The commit policy: how far the log counts, and for whom.

use rocket_protocol::PhysicalOffset;

use super::put::PutStatus;

/// Decides how far the log counts. Two implementations from the first day: [`LocalPolicy`] and replication.
///
/// The rule: `committed` never falls while a store is open (the store stops the process if it does) and neither of the
/// ends lies beyond what the local log has (`appended`).
pub trait CommitPolicy: Send + Sync + 'static {
    /// The ends that follow from the local ones. Called often and under a lock: must be quick and must not call the store.
    fn ends(&self, local: LocalEnds) -> Ends;
    /// Whether a message may be appended at all right now; the status is the answer when it may not.
    fn may_append(&self) -> Result<(), PutStatus>;
    /// The terms on which a send is taken that is appended now. Asked under the lock that gives it its place.
    fn terms(&self) -> Terms {
        Terms::default()
    }
    /// How far those are to be answered who were taken on `terms`, be they the present ones or not; `ends` is what
    /// [`CommitPolicy::ends`] said just before. [`Ends::answered`] binds everybody besides.
    fn answered_on(&self, _terms: Terms, _local: LocalEnds, ends: Ends) -> PhysicalOffset {
        ends.answered
    }
}

/// What the answer to a send waits for at least: what the modes promised when it was appended. A change to weaker modes takes
/// nothing away from those who wait already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Terms {
    /// Whatever [`Ends::answered`] says: of a policy whose modes never change.
    #[default]
    Standing,
    /// The message is in the page cache here.
    Appended,
    /// It is flushed here.
    Durable,
    /// Every copy that counts has it.
    Committed,
    /// Every copy that counts has it flushed.
    CommittedDurable,
}

impl Terms {
    /// All of them, each at the place that its number names.
    pub const ALL: [Self; 5] = [
        Self::Standing,
        Self::Appended,
        Self::Durable,
        Self::Committed,
        Self::CommittedDurable,
    ];
}

/// How far the local log reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LocalEnds {
    /// End of what is written (page cache).
    pub appended: PhysicalOffset,
    /// End of what a finished flush covers.
    pub durable: PhysicalOffset,
}

/// How far the log counts, by the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ends {
    /// Never lost any more, whatever is elected (replication protocol §8.7).
    pub committed: PhysicalOffset,
    /// Sends that end here or before are answered [`PutStatus::Ok`].
    pub answered: PhysicalOffset,
    /// Consumers may see what ends here or before.
    pub visible: PhysicalOffset,
}

/// The policy of a broker that stands alone: with [`crate::Flush::Sync`] only what is durable counts, with
/// [`crate::Flush::Async`] everything that is appended.
#[derive(Debug, Clone, Copy)]
pub struct LocalPolicy {
    /// The flush mode.
    pub flush: crate::Flush,
}

impl CommitPolicy for LocalPolicy {
    fn ends(&self, local: LocalEnds) -> Ends {
        let end = match self.flush {
            crate::Flush::Sync => local.durable,
            crate::Flush::Async => local.appended,
        };
        Ends {
            committed: end,
            answered: end,
            visible: end,
        }
    }

    fn may_append(&self) -> Result<(), PutStatus> {
        Ok(())
    }
}

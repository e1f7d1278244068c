//! Rules broken on purpose (§13.3), to show that the checking sees it.
//!
//! Only builds with the feature `mutants` can switch one on. In every other build [`Mutations`] is empty, `has` is a
//! constant `false`, and the compiler removes the broken paths. A rule that holds outside of this crate is broken where it
//! is kept: in `rocket-ha`, or in the world that a simulation puts around it. Those of the store are `rocket_store`'s own.

/// A broken rule. The numbers are those of §13.3; the names say what is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
#[repr(u8)]
pub enum Mutant {
    /// Acknowledgements count by replica id. Masked by the removal of unclean members at registration: run with M7.
    M1,
    /// A restarted master keeps its epoch.
    M2,
    /// A shrink relieves when it is sent.
    M3,
    /// A grow binds when it is applied.
    M4,
    /// `Conflict` is taken as "not applied".
    M5,
    /// An open write is given up after a while.
    M6,
    /// An unclean replica stays in S.
    M7,
    /// E is kept when |S| ≥ m.
    M8,
    /// E is not emptied when m goes down.
    M9,
    /// A slave acknowledges before the flush.
    M10,
    /// The epoch entry is written after the bytes.
    M11,
    /// `Data` may cross an epoch boundary.
    M12,
    /// The intent of a cut is not written.
    M14,
    /// A cut below confirm is allowed. Masked while everything else holds: run with one that loses committed bytes.
    M15,
    /// A fresh link counts as caught up.
    M16,
    /// A member without a link is skipped.
    M17,
    /// Consumers read up to the log's end.
    M18,
    /// Writes open without the barrier.
    M19,
    /// Identity by address: another disk at an address is taken for the one that was there. Masked where nothing is lost.
    M24,
    /// A stale watch is obeyed.
    M25,
    /// The elector goes by replicas, not by their runs.
    M26,
    /// Elected from outside S ∪ E when one is slow to report.
    M27,
    /// A re-created object with a lower epoch is accepted.
    M28,
    /// The mark of an orderly stop is not removed at the next start. Masked by the run that it names: run with M37.
    M29,
    /// Acknowledgements beyond what was sent are believed.
    M30,
    /// Electors write without a compare.
    M31,
    /// The old link of a replica still counts after a reconnect.
    M32,
    /// Activation without a write of its own.
    M33,
    /// Sends that were not answered are told at a step down that they failed.
    M34,
    /// A replica with unflushed inherited bytes registers as durable.
    M35,
    /// A learner grows into S before it has the start of the epoch.
    M36,
    /// A proof of a run that never registered speaks for the one before it.
    M37,
    /// `Data` may end within a record.
    M38,
    /// Flush `Sync` is said to be in force before every member is durable.
    M39,
    /// A durable replica acknowledges unflushed bytes as soon as weaker modes are in force.
    M40,
    /// Weaker modes bind when they are sent.
    M41,
    /// What is committed counts as flushed everywhere although a member may not be durable.
    M42,
    /// A replica whose log is damaged acknowledges.
    M43,
    /// A replica whose log is damaged does not tell electors.
    M44,
    /// A replica grows into S by bytes that it has not flushed, wherever the modes allow that for its members.
    M45,
    /// A replica gives bytes for a repair that belong to another epoch than the one asked for.
    M46,
    /// A residence proof counts although a flush was under way when its process ended.
    M47,
    /// A residence proof outlives a flush that failed.
    M48,
    /// A residence proof of another run of the kernel counts.
    M49,
    /// A disk that does not know the recorded run counts for what that acknowledged.
    M50,
    /// A run notes itself on its disk when it is recorded, not before it asks to be.
    M51,
}

/// The broken rules of one run.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Mutations {
    #[cfg(feature = "mutants")]
    bits: u64,
}

impl Mutations {
    /// With one more rule broken.
    #[cfg(feature = "mutants")]
    #[must_use]
    pub fn with(self, mutant: Mutant) -> Self {
        Self {
            bits: self.bits | (1 << mutant as u8),
        }
    }

    /// Whether the rule is broken in this run.
    #[cfg(feature = "mutants")]
    pub fn has(self, mutant: Mutant) -> bool {
        self.bits & (1 << mutant as u8) != 0
    }

    /// Whether the rule is broken in this run: never, in this build.
    #[cfg(not(feature = "mutants"))]
    pub const fn has(self, _mutant: Mutant) -> bool {
        false
    }
}

//! Deliberate faults, to show that the tests would see them. They exist in tests of this crate, and in a program that was
//! built with the feature `mutants` and is told one by name; anywhere else [`is_on`] is a constant.

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// A message counts as flushed when its flush begins.
    AckBeforeFlush,
    /// A flush that failed is tried again.
    FlushRetried,
    /// Recovery leaves what follows the last good record.
    TailNotZeroed,
    /// A table of the queues counts before the commit log is durable as far as it goes.
    TableAheadOfLog,
    /// What the journal of the queues says of messages that were not known to be flushed is believed.
    JournalAheadOfLog,
    /// A table of the queues counts before the extents that it names are flushed.
    ExtentsUnflushed,
    /// What is appended counts as flushed in the checkpoint.
    FloorTooHigh,
    /// Readers see what is written and not yet flushed.
    DispatchAhead,
    /// The dispatched position is noted before the index's tail is flushed.
    IndexTailNotSecured,
    /// Retention removes a run of the index of which some messages are still there.
    RunDroppedEarly,
    /// A cut leaves what lies behind the new end in the file.
    CutNotZeroed,
    /// A cut begins without a note of what it is about to do.
    CutWithoutIntent,
    /// A new master gives out offsets behind those that are visible, and not behind all that it holds.
    OffsetsOfVisible,
    /// Who knows where queues go on does not say it.
    EndsUntold,
    /// A start does not read the note of known damage.
    DamageForgotten,
    /// What comes for damage is written whatever it is.
    RepairUnchecked,
}

/// Whether `mutant` is on.
#[cfg(not(any(test, feature = "mutants")))]
pub(crate) const fn is_on(_: Mutant) -> bool {
    false
}

#[cfg(any(test, feature = "mutants"))]
pub(crate) use switch::is_on;

#[cfg(any(test, feature = "mutants"))]
pub(crate) mod switch {
    use std::sync::OnceLock;

    use super::Mutant;

    static PROCESS: OnceLock<Mutant> = OnceLock::new();

    /// Switches the fault `name` on for the whole process.
    ///
    /// # Errors
    /// There is no fault of that name.
    #[cfg(feature = "mutants")]
    pub fn choose(name: &str) -> Result<(), String> {
        let mutant = match name {
            "ack-before-flush" => Mutant::AckBeforeFlush,
            "flush-retried" => Mutant::FlushRetried,
            "tail-not-zeroed" => Mutant::TailNotZeroed,
            "floor-too-high" => Mutant::FloorTooHigh,
            "dispatch-ahead" => Mutant::DispatchAhead,
            "table-ahead-of-log" => Mutant::TableAheadOfLog,
            "journal-ahead-of-log" => Mutant::JournalAheadOfLog,
            "extents-unflushed" => Mutant::ExtentsUnflushed,
            "index-tail-not-secured" => Mutant::IndexTailNotSecured,
            "run-dropped-early" => Mutant::RunDroppedEarly,
            "cut-not-zeroed" => Mutant::CutNotZeroed,
            "cut-without-intent" => Mutant::CutWithoutIntent,
            "offsets-of-visible" => Mutant::OffsetsOfVisible,
            "ends-untold" => Mutant::EndsUntold,
            "damage-forgotten" => Mutant::DamageForgotten,
            "repair-unchecked" => Mutant::RepairUnchecked,
            other => return Err(format!("no mutant is called {other}")),
        };
        PROCESS
            .set(mutant)
            .map_err(|_| "a mutant is on already".to_owned())
    }

    /// Whether `mutant` is on.
    pub(crate) fn is_on(mutant: Mutant) -> bool {
        #[cfg(test)]
        if super::of_thread::ON.get() == Some(mutant) {
            return true;
        }
        PROCESS.get() == Some(&mutant)
    }
}

/// Runs `body` with `mutant` on in this thread.
#[cfg(test)]
pub(crate) fn with<T>(mutant: Option<Mutant>, body: impl FnOnce() -> T) -> T {
    of_thread::ON.set(mutant);
    let result = body();
    of_thread::ON.set(None);
    result
}

#[cfg(test)]
mod of_thread {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        pub(super) static ON: Cell<Option<Mutant>> = const { Cell::new(None) };
    }
}

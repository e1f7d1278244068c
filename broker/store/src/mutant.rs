//! Deliberate faults, to show that the tests would see them.

use std::cell::Cell;

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
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
}

thread_local! {
    static ON: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// Whether `mutant` is on in this thread.
pub(crate) fn is_on(mutant: Mutant) -> bool {
    ON.get() == Some(mutant)
}

/// Runs `body` with `mutant` on.
pub(crate) fn with<T>(mutant: Option<Mutant>, body: impl FnOnce() -> T) -> T {
    ON.set(mutant);
    let result = body();
    ON.set(None);
    result
}

//! What callers of the store hand in and get back: appends and their outcomes, reads and their answers, positions, health,
//! and the three seams through which the store asks its surroundings (time, commit policy, events).

mod events;
mod get;
mod policy;
mod put;

use std::sync::Arc;
use std::time::Duration;

use rocket_protocol::{PhysicalOffset, UnixMillis};

pub use events::*;
pub use get::*;
pub use policy::*;
pub use put::*;

/// The store's only source of time.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch. May jump; the store never decides about safety by it.
    fn now(&self) -> UnixMillis;
    /// The time since some fixed point; never falls. Only for measuring how long something took.
    fn elapsed(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.now().0).unwrap_or_default())
    }
}

/// The positions of the log. `dispatched` <= visible <= `appended`; `durable` <= `appended`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Positions {
    /// The log begins here.
    pub min: PhysicalOffset,
    /// End of what is written.
    pub appended: PhysicalOffset,
    /// End of what is flushed.
    pub durable: PhysicalOffset,
    /// End of what the policy calls committed.
    pub committed: PhysicalOffset,
    /// End of what is in queues and index, and so is visible.
    pub dispatched: PhysicalOffset,
}

/// Whether the store takes messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Writable,
    /// It is being closed.
    Closing,
    /// A write or flush failed: final.
    ReadOnly {
        /// Which and why.
        reason: Arc<str>,
    },
}

/// How full the file system is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DiskUsage {
    /// Bytes in use.
    pub used: u64,
    /// Bytes that there are.
    pub capacity: u64,
    /// `used / capacity`, 0 when the capacity is not known.
    pub ratio: f64,
    /// Whether appends are refused for it, or because the log, the queues or the index cannot get room although it is not full.
    pub refused: bool,
}

/// Counts since the store was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Messages appended.
    pub messages_appended: u64,
    /// Bytes appended, fillers included.
    pub bytes_appended: u64,
    /// Batches written.
    pub batches_appended: u64,
    /// Bytes of the log that the scrubber read again.
    pub scrubbed_bytes: u64,
    /// Times that the scrubber came to the end of the log.
    pub scrub_passes: u64,
    /// Bytes of the log that are known to be damaged, those of earlier processes counted.
    pub damaged_bytes: u64,
    /// Bytes of the log that were damaged and were written again from another copy.
    pub repaired_bytes: u64,
    /// Flushes of the log that succeeded.
    pub flushes: u64,
    /// Messages put into their queues.
    pub messages_dispatched: u64,
    /// Messages that nobody can read, since their queues had gone beyond their offsets.
    pub messages_misplaced: u64,
    /// Messages removed by retention.
    pub messages_removed: u64,
    /// Bytes of log files removed by retention.
    pub bytes_removed: u64,
    /// Bytes of log files that are due and stay because a consumer group has not consumed them. Now, not since start.
    pub bytes_held: u64,
    /// Sends that wait for an answer now.
    pub pending: u64,
    /// Sends refused because too many waited.
    pub refused_busy: u64,
    /// Sends refused because the disk was too full.
    pub refused_disk_full: u64,
}

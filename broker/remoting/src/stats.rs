//! Counters that the shell turns into metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of a server or client. They only inform: no decision hangs on them being exact in the same moment.
#[derive(Debug, Default)]
pub struct Stats {
    pub(crate) connections_open: AtomicU64,
    pub(crate) connections_total: AtomicU64,
    pub(crate) connections_refused: AtomicU64,
    pub(crate) requests_refused: AtomicU64,
    pub(crate) bad_frames: AtomicU64,
    pub(crate) slow_readers: AtomicU64,
    pub(crate) frames_delayed: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    pub(crate) frames_in: AtomicU64,
    pub(crate) frames_out: AtomicU64,
    pub(crate) reads: AtomicU64,
    pub(crate) writes: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StatsSnapshot {
    /// Connections open now.
    pub connections_open: u64,
    /// Connections ever accepted.
    pub connections_total: u64,
    /// Connections closed at once as there were too many.
    pub connections_refused: u64,
    /// Requests answered SYSTEM_BUSY as their connection had too many open.
    pub requests_refused: u64,
    /// Connections closed for what was no frame.
    pub bad_frames: u64,
    /// Connections closed as the peer did not read.
    pub slow_readers: u64,
    /// Frames that were not read on at once as there was no room for them.
    pub frames_delayed: u64,
    /// Bytes read.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
    /// Frames read.
    pub frames_in: u64,
    /// Frames written.
    pub frames_out: u64,
    /// Calls of the kernel that read them.
    pub reads: u64,
    /// Calls of the kernel that wrote them.
    pub writes: u64,
}

impl Stats {
    /// The counters now.
    pub fn snapshot(&self) -> StatsSnapshot {
        StatsSnapshot {
            connections_open: self.connections_open.load(Relaxed),
            connections_total: self.connections_total.load(Relaxed),
            connections_refused: self.connections_refused.load(Relaxed),
            requests_refused: self.requests_refused.load(Relaxed),
            bad_frames: self.bad_frames.load(Relaxed),
            slow_readers: self.slow_readers.load(Relaxed),
            frames_delayed: self.frames_delayed.load(Relaxed),
            bytes_in: self.bytes_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
            frames_in: self.frames_in.load(Relaxed),
            frames_out: self.frames_out.load(Relaxed),
            reads: self.reads.load(Relaxed),
            writes: self.writes.load(Relaxed),
        }
    }
}

pub(crate) fn count(counter: &AtomicU64, by: usize) {
    counter.fetch_add(u64::try_from(by).unwrap_or(u64::MAX), Relaxed);
}

//! The store's face towards replication: the engine's steps, and the signals that they need.

use bytes::Bytes;
use rocket_protocol::PhysicalOffset;

use super::Store;
use crate::api::{Completion, QueueEnd};
use crate::cut::{Aside, CutError};
use crate::error::OpenError;
use crate::repair::{RepairError, Span};
use crate::replica_log::{CopyError, Opening, Records, RecordsError};

impl<C: Completion> Store<C> {
    /// Appends what a master has at `at`, the end of the log; see [`crate::Engine::append_copied`]. Waits for a disk only where
    /// a file has to be made. It is flushed after [`Store::flush_now`], or with [`crate::Flush::Async`] in its time.
    ///
    /// # Errors
    /// See [`CopyError`].
    pub fn append_copied(
        &self,
        at: PhysicalOffset,
        file_end: PhysicalOffset,
        bytes: &[u8],
    ) -> Result<PhysicalOffset, CopyError> {
        let end = self.engine().append_copied(at, file_end, bytes)?;
        self.shared.announce();
        Ok(end)
    }

    /// Whole records of one file from `from` on, not beyond `to`; see [`crate::Engine::read_records`].
    ///
    /// # Errors
    /// See [`RecordsError`].
    pub fn read_records(
        &self,
        from: PhysicalOffset,
        to: PhysicalOffset,
        bytes_target: usize,
    ) -> Result<Records, RecordsError> {
        self.engine().read_records(from, to, bytes_target)
    }

    /// What is to be had from another copy; see [`crate::Engine::damaged_spans`].
    pub fn damaged_spans(&self) -> Vec<Span> {
        self.engine().damaged_spans()
    }

    /// What nothing can be written over; see [`crate::Engine::missing_spans`].
    pub fn missing_spans(&self) -> Vec<Span> {
        self.engine().missing_spans()
    }

    /// Bytes for another copy that has damage there; see [`crate::Engine::read_range`]. Waits for the disk.
    ///
    /// # Errors
    /// See [`RecordsError`].
    pub fn read_range(&self, at: PhysicalOffset, len: usize) -> Result<Bytes, RecordsError> {
        self.engine().read_range(at, len)
    }

    /// Writes what another copy has over what is damaged here; see [`crate::Engine::repair`]. Waits for the disk.
    ///
    /// # Errors
    /// See [`RepairError`].
    pub fn repair(&self, at: PhysicalOffset, bytes: &[u8]) -> Result<(), RepairError> {
        self.engine().repair(at, bytes)?;
        // What waited behind it.
        self.shared.announce();
        Ok(())
    }

    /// Readers pass over what is damaged within these from here on; see [`crate::Engine::pass_over`].
    pub fn pass_over(&self, given_up: &[Span]) {
        self.engine().pass_over(given_up);
        self.shared.announce();
    }

    /// Where each queue goes on that ever got a message; see [`crate::Engine::queue_ends`].
    pub fn queue_ends(&self) -> Vec<QueueEnd> {
        self.engine().queue_ends()
    }

    /// No message that comes from here on has a place before these in its queue; see [`crate::Engine::reach`]. Waits for the disk
    /// where a queue ends before.
    pub fn reach(&self, ends: &[QueueEnd]) -> bool {
        self.engine().reach(ends)
    }

    /// Has what is written flushed now. Does not wait for it: the policy is told where the log is durable.
    pub fn flush_now(&self) {
        self.shared.flush.set();
    }

    /// Writes everything that was taken, once the policy refuses appends; see [`crate::Engine::quiesce`].
    ///
    /// # Errors
    /// The store failed; the reason.
    pub fn quiesce(&self) -> Result<PhysicalOffset, std::sync::Arc<str>> {
        self.engine().quiesce()
    }

    /// Takes no messages any more and leaves nobody waiting; see [`crate::Engine::step_down`].
    ///
    /// # Errors
    /// The store failed; the reason.
    pub fn step_down(&self) -> Result<PhysicalOffset, std::sync::Arc<str>> {
        self.engine().step_down()
    }

    /// Takes messages from here on; see [`crate::Engine::become_writer`].
    ///
    /// # Errors
    /// The store failed, or is to be opened again.
    pub fn become_writer(&self) -> Result<Opening, OpenError> {
        self.engine().become_writer()
    }

    /// Lets the log end at `to`; see [`crate::Engine::cut`]. Waits for the disk.
    ///
    /// # Errors
    /// See [`CutError`].
    pub fn cut(&self, to: PhysicalOffset, epoch: u64, aside: Aside) -> Result<(), CutError> {
        self.engine().cut(to, epoch, aside)
    }

    /// Empties the log and lets it begin at `at`; see [`crate::Engine::start_anew`]. Waits for the disk.
    ///
    /// # Errors
    /// See [`CutError`].
    pub fn start_anew(&self, at: PhysicalOffset, epoch: u64, aside: Aside) -> Result<(), CutError> {
        self.engine().start_anew(at, epoch, aside)
    }

    /// Something that belongs to this store failed outside of it, for good: as if a write had failed, and the next start knows. May
    /// wait for the disk.
    pub fn condemn(&self, reason: &str) {
        self.engine().condemn(reason);
    }
}

//! What a sync makes certain, and whom a failed one is told.

use rocket_mapped_file::memory::Dice;

use super::{Disk, Moment, Refusal};
use crate::names::Node;

impl Disk {
    /// A process opens `node`; the number of its open file.
    pub fn open(&mut self, node: Node) -> u64 {
        let handle = self.next_handle;
        self.next_handle += 1;
        self.handles.insert(handle, self.failures_of(node));
        handle
    }

    /// An open file is closed.
    pub fn close(&mut self, handle: u64) {
        self.handles.remove(&handle);
    }

    fn failures_of(&self, node: Node) -> u64 {
        self.failures.get(&node).copied().unwrap_or(0)
    }

    /// A sync of a file begins; to be ended with what is returned: the sync's own number, and the how manyth of the commit
    /// log it is, 0 for others.
    pub fn sync_begin(&mut self, node: Node, now_us: u64) -> (u64, u64) {
        let id = self.next_sync;
        self.next_sync += 1;
        let is_log = self.entries.get(&node).is_some_and(|entry| entry.is_log);
        let mut has_bytes = false;
        if let Some(image) = self.image(node) {
            has_bytes = image.is_unsynced();
            image.sync_begin(id);
        }
        if !(is_log && has_bytes) {
            return (id, 0);
        }
        self.counts.syncs += 1;
        if self.faults.cut_at == Some(Moment::SyncBegin(self.counts.syncs)) {
            self.cut(now_us);
        }
        (id, self.counts.syncs)
    }

    /// A sync ends.
    ///
    /// # Errors
    /// The planned one, one that another open file has met and this one was not told of, and any after the power went.
    pub fn sync_end(
        &mut self,
        node: Node,
        handle: u64,
        (id, number): (u64, u64),
        now_us: u64,
    ) -> Result<(), Refusal> {
        if self.is_cut() {
            return Err(Refusal::Io);
        }
        if self.faults.sync_error_at == Some(number) {
            self.strike(now_us);
            let mut dice = Dice::new(self.dice.roll());
            if let Some(image) = self.image(node) {
                let since_us = image.unsynced_since_us();
                image.sync_fail(id, &mut dice);
                self.lost_since_us = self.lost_since_us.into_iter().chain(since_us).min();
            }
            let failures = self.failures_of(node) + 1;
            self.failures.insert(node, failures);
            self.handles.insert(handle, failures);
            return Err(Refusal::Io);
        }
        if let Some(image) = self.image(node) {
            image.sync_end(id);
        }
        let failures = self.failures_of(node);
        if self
            .handles
            .get(&handle)
            .is_some_and(|told| *told < failures)
        {
            self.handles.insert(handle, failures);
            return Err(Refusal::Io);
        }
        if self.faults.cut_at == Some(Moment::SyncEnd(number)) {
            self.cut(now_us);
        }
        Ok(())
    }

    /// A folder's names are there for good.
    ///
    /// # Errors
    /// The power is gone.
    pub fn sync_folder(&mut self, folder: Node) -> Result<(), Refusal> {
        if self.is_cut() {
            return Err(Refusal::Io);
        }
        self.names.sync(folder);
        Ok(())
    }
}

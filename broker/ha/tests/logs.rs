//! What the world wants of the log of a machine, and the twin in memory as one.

use std::sync::Arc;

use rocket_ha::memory::{Image, MemoryLog, Told};
use rocket_ha::{Found, Log};
use rocket_mapped_file::memory::MemoryDirectory;
use rocket_replication::PhysicalOffset;
use rocket_store::{CommitPolicy, PutStatus};

/// A log that the world can look into.
pub(crate) trait MachineLog: Log + Clone + Send + 'static {
    fn open(dir: &MemoryDirectory, image: Image, policy: Arc<dyn CommitPolicy>) -> (Self, Found);
    /// What is left of it beside the folder.
    fn left(&self) -> Image;
    fn send(&self, payload: &[u8], ticket: u64) -> Result<u64, PutStatus>;
    fn flush(&self);
    fn checkpoint(&self);
    fn take_told(&self) -> Vec<(u64, Told)>;
    fn is_flush_wanted(&self) -> bool;
    fn takes_sends(&self) -> bool;
    fn visible(&self) -> u64;
    /// First byte, and all bytes from there on.
    fn bytes(&self) -> (u64, Vec<u8>);
    fn payload_at(&self, offset: u64) -> Option<Vec<u8>>;
}

impl MachineLog for MemoryLog {
    fn open(_: &MemoryDirectory, image: Image, policy: Arc<dyn CommitPolicy>) -> (Self, Found) {
        let found = Found {
            damaged: false,
            confirm: PhysicalOffset(image.confirm),
        };
        // A handful of records.
        (Self::open(image, policy, 160), found)
    }

    fn left(&self) -> Image {
        self.image()
    }

    fn send(&self, payload: &[u8], ticket: u64) -> Result<u64, PutStatus> {
        self.send(payload, ticket).map(|at| at.0)
    }

    fn flush(&self) {
        self.flush();
    }

    fn checkpoint(&self) {
        self.checkpoint();
    }

    fn take_told(&self) -> Vec<(u64, Told)> {
        self.take_told()
    }

    fn is_flush_wanted(&self) -> bool {
        self.is_flush_wanted()
    }

    fn takes_sends(&self) -> bool {
        self.takes_sends()
    }

    fn visible(&self) -> u64 {
        self.visible()
    }

    fn bytes(&self) -> (u64, Vec<u8>) {
        let image = self.image();
        (image.min, image.bytes)
    }

    fn payload_at(&self, offset: u64) -> Option<Vec<u8>> {
        let image = self.image();
        image.record_at(offset).map(|(_, payload)| payload.to_vec())
    }
}

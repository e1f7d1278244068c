//! A file in memory: what a read sees, and what is on the disk.

use std::collections::BTreeSet;
use std::ops::Range;

use super::SECTOR_BYTES;

/// See the module of the twin.
#[derive(Clone, Default)]
pub(super) struct Image {
    /// Sectors that cannot be read.
    pub(super) bad: Option<Range<usize>>,
    pub(super) cache: Vec<u8>,
    pub(super) disk: Vec<u8>,
    pub(super) dirty: BTreeSet<usize>,
}

impl Image {
    /// A file of `bytes`, flushed.
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self {
            disk: bytes.clone(),
            cache: bytes,
            ..Self::default()
        }
    }

    /// Whether `from..to` meets sectors that cannot be read.
    pub(super) fn is_bad(&self, from: usize, to: usize) -> bool {
        self.bad
            .as_ref()
            .is_some_and(|bad| from < bad.end && bad.start < to)
    }

    pub(super) fn settle(&mut self, sectors: impl Iterator<Item = usize>) {
        for sector in sectors {
            let from = sector * SECTOR_BYTES;
            let to = (from + SECTOR_BYTES).min(self.cache.len());
            if let (Some(disk), Some(cache)) =
                (self.disk.get_mut(from..to), self.cache.get(from..to))
            {
                disk.copy_from_slice(cache);
            }
        }
    }

    pub(super) fn write(&mut self, at: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if let Some(target) = self.cache.get_mut(at..at + bytes.len()) {
            target.copy_from_slice(bytes);
        }
        self.dirty
            .extend(at / SECTOR_BYTES..=(at + bytes.len() - 1) / SECTOR_BYTES);
    }
}

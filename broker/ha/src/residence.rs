//! The proof that what former runs left in the page cache is still there (docs/replication.md §4.1, *residence proof*): a small
//! file in memory-backed storage, which a machine without power forgets together with its page cache.
//!
//! ```text
//! residence-<disk id>, 4096 bytes, numbers big-endian
//!    0 "RKRP" · 4 version 2 · 6 count 2 · 8 disk id 16 · 24 boot id 16 · 40 folder id 16 · 56 count times incarnation 16
//!      · CRC32C 4 over all of that · zeros
//! 4095 1 while a flush is under way, or has failed · else 0
//! ```
//!
//! The kernel tells of a lost write once, to the flush that comes next; a process that is killed just then passes that on to
//! nobody. So the last byte is set before every flush of the log, and is cleared when all that began have succeeded. What
//! cannot be read, compared or written is no proof, and never an error: the replica is unclean then, as without any.
//!
//! A folder that was restored from a copy has the same disk id and an older log, for which the page cache of the other one does not
//! speak: its folder id is another one. Version 1 had no folder id, and is no proof any more.

use std::sync::Arc;

use bytes::{Buf, BufMut};
use parking_lot::Mutex;
use rocket_mapped_file::{Directory, Segment, SegmentOptions};
use rocket_replication::mutations::{Mutant, Mutations};
use rocket_replication::{DiskId, Incarnation};

use crate::disk::Items;

const MAGIC: [u8; 4] = *b"RKRP";
const VERSION: u16 = 2;
const FILE_BYTES: usize = 4096;
const BUSY_AT: usize = FILE_BYTES - 1;
/// Of more runs than have room the latest are listed: the one that a group's object records is among the last that began.
const RUNS_MAX: usize = 200;

/// Which run of the kernel (`/proc/sys/kernel/random/boot_id`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootId(pub u128);

/// Which files the data folder and its lock are, as the system tells them from all others of this boot: those of a copy are others.
/// Two ids are compared, and mean nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FolderId(pub u128);

/// Storage that lives exactly as long as the page cache of the replica's folder.
#[derive(Clone)]
pub struct Shelf {
    /// Memory-backed.
    pub dir: Arc<dyn Directory>,
    /// The present one.
    pub boot: BootId,
}

#[derive(Default)]
struct Proof {
    /// Where it is, as long as there is a valid one.
    file: Option<Arc<dyn Segment>>,
    disk: Option<DiskId>,
    /// The folder that is locked.
    folder: Option<FolderId>,
    /// Those that it lists, in the order in which they began.
    runs: Vec<Incarnation>,
    /// Flushes that began and did not succeed yet.
    in_flight: u32,
    /// Something failed: this run can prove nothing any more.
    is_lost: bool,
}

/// See the module. One per process and replica; the store, the files of the replica and its actor share it.
#[derive(Default)]
pub struct Residence {
    shelf: Option<Shelf>,
    proof: Mutex<Proof>,
    mutations: Mutations,
}

impl Residence {
    /// No proof is looked for, and none is made.
    pub fn none() -> Self {
        Self::default()
    }

    /// One on `shelf`.
    pub fn on(shelf: Shelf) -> Self {
        Self {
            shelf: Some(shelf),
            ..Self::default()
        }
    }

    /// The same with rules broken on purpose, for tests of the checking.
    #[must_use]
    pub fn with_mutations(mut self, mutations: Mutations) -> Self {
        self.mutations = mutations;
        self
    }

    /// Looks what former runs left. To be called when the folder of `items`, which is `folder`, is locked, so that none of them
    /// runs any more, and before anything in it is flushed. Where it was not called no proof is made.
    pub fn look(&self, items: &Items, folder: FolderId) {
        let mut proof = self.proof.lock();
        proof.folder = Some(folder);
        let Some((shelf, disk)) = self.shelf.as_ref().zip(items.disk_id()) else {
            return;
        };
        proof.disk = Some(disk);
        if let Some((file, runs)) = self.read(shelf, disk, folder) {
            (proof.file, proof.runs) = (Some(file), runs);
        }
    }

    /// A flush of the log begins; several may run at once. To be called before the kernel is asked.
    pub fn flush_begins(&self) {
        let mut proof = self.proof.lock();
        proof.in_flight = proof.in_flight.saturating_add(1);
        if proof.in_flight == 1 {
            self.mark(&mut proof, 1);
        }
    }

    /// A flush that began has succeeded. Of one that did not, [`Residence::lost`] tells, or nobody.
    pub fn flush_succeeded(&self) {
        let mut proof = self.proof.lock();
        proof.in_flight = proof.in_flight.saturating_sub(1);
        if proof.in_flight == 0 {
            self.mark(&mut proof, 0);
        }
    }

    /// A write or flush failed: from now on nothing speaks for what this run acknowledged.
    pub fn lost(&self) {
        if self.mutations.has(Mutant::M48) {
            return self.flush_succeeded();
        }
        let mut proof = self.proof.lock();
        proof.is_lost = true;
        self.mark(&mut proof, 1);
        self.discard(&mut proof);
    }

    /// A write or flush of the run before failed: what it left proves nothing, should it not have come to delete it.
    pub fn distrust(&self) {
        let mut proof = self.proof.lock();
        self.discard(&mut proof);
    }

    /// From here on the proof speaks for `run` too, which has acknowledged nothing yet. Returns the former runs for which it
    /// speaks: what they had in the page cache of `disk` is still there, or on the disk.
    pub(crate) fn begin(&self, disk: DiskId, run: Incarnation) -> Vec<Incarnation> {
        let Some(shelf) = &self.shelf else {
            return Vec::new();
        };
        let mut proof = self.proof.lock();
        let Some(folder) = proof.folder.filter(|_| !proof.is_lost) else {
            return Vec::new();
        };
        if proof.disk != Some(disk) {
            (proof.file, proof.runs) = (None, Vec::new());
        }
        proof.disk = Some(disk);
        let former = proof.runs.clone();
        proof.runs.push(run);
        let excess = proof.runs.len().saturating_sub(RUNS_MAX);
        proof.runs.drain(..excess);
        if let Err(error) = write(shelf, &mut proof, (disk, folder)) {
            tracing::warn!(%error, "no residence proof: if this process is killed while flush is ASYNC, its replica is not taken for complete");
            self.discard(&mut proof);
        }
        former
    }

    /// The file of a valid proof, and whom it lists.
    fn read(
        &self,
        shelf: &Shelf,
        disk: DiskId,
        folder: FolderId,
    ) -> Option<(Arc<dyn Segment>, Vec<Incarnation>)> {
        let file = shelf
            .dir
            .open(&path(disk), SegmentOptions::default())
            .ok()?;
        let mut bytes = [0; FILE_BYTES];
        if file.len() != FILE_BYTES as u64 {
            return None;
        }
        file.read_at(0, &mut bytes).ok()?;
        let (found, boot, runs) = decode(&bytes)?;
        let is_same_boot = boot == shelf.boot || self.mutations.has(Mutant::M49);
        let is_same_place = found == (disk, folder);
        let is_idle = bytes.last() == Some(&0) || self.mutations.has(Mutant::M47);
        (is_same_place && is_same_boot && is_idle).then_some((file, runs))
    }

    fn mark(&self, proof: &mut Proof, busy: u8) {
        let Some(file) = &proof.file else { return };
        if let Err(error) = file.write_at(BUSY_AT as u64, &[std::io::IoSlice::new(&[busy])]) {
            tracing::warn!(%error, "the residence proof cannot be kept up and is given up");
            proof.is_lost = true;
            self.discard(proof);
        }
    }

    fn discard(&self, proof: &mut Proof) {
        (proof.file, proof.runs) = (None, Vec::new());
        let Some((shelf, disk)) = self.shelf.as_ref().zip(proof.disk) else {
            return;
        };
        if let Err(error) = shelf.dir.remove(&path(disk)) {
            tracing::error!(%error, "the residence proof cannot be removed");
        }
    }
}

fn path(disk: DiskId) -> String {
    format!("residence-{disk}")
}

/// In place where there is one: a process that is killed in between leaves the old one, the new one, or none that is valid.
fn write(shelf: &Shelf, proof: &mut Proof, place: (DiskId, FolderId)) -> std::io::Result<()> {
    let bytes = encode(place, shelf.boot, &proof.runs);
    let (disk, _) = place;
    let file = if let Some(file) = &proof.file {
        Arc::clone(file)
    } else {
        shelf.dir.remove(&path(disk))?;
        let len = FILE_BYTES as u64;
        let options = SegmentOptions::default();
        let file = shelf.dir.create(&path(disk), len, options)?;
        let busy = [u8::from(proof.in_flight > 0)];
        file.write_at(BUSY_AT as u64, &[std::io::IoSlice::new(&busy)])?;
        proof.file = Some(Arc::clone(&file));
        file
    };
    file.write_at(0, &[std::io::IoSlice::new(&bytes)])
}

fn encode((disk, folder): (DiskId, FolderId), boot: BootId, runs: &[Incarnation]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FILE_BYTES);
    bytes.put_slice(&MAGIC);
    bytes.put_u16(VERSION);
    bytes.put_u16(u16::try_from(runs.len()).unwrap_or(u16::MAX));
    bytes.put_u128(disk.0);
    bytes.put_u128(boot.0);
    bytes.put_u128(folder.0);
    for run in runs {
        bytes.put_u128(run.0);
    }
    let checksum = crc32c::crc32c(&bytes);
    bytes.put_u32(checksum);
    bytes
}

/// Of which disk and folder it is, of which boot, and whom it lists.
type Said = ((DiskId, FolderId), BootId, Vec<Incarnation>);

fn decode(bytes: &[u8]) -> Option<Said> {
    let mut fields = bytes.strip_prefix(&MAGIC)?;
    let version = fields.try_get_u16().ok()?;
    let count = usize::from(fields.try_get_u16().ok()?);
    if version != VERSION || count > RUNS_MAX {
        return None;
    }
    let disk = DiskId(fields.try_get_u128().ok()?);
    let boot = BootId(fields.try_get_u128().ok()?);
    let folder = FolderId(fields.try_get_u128().ok()?);
    let runs = (0..count).map(|_| fields.try_get_u128().map(Incarnation));
    let runs: Vec<Incarnation> = runs.collect::<Result<_, _>>().ok()?;
    let covered = bytes.get(..bytes.len() - fields.len())?;
    let is_whole = fields.try_get_u32().ok()? == crc32c::crc32c(covered);
    is_whole.then_some(((disk, folder), boot, runs))
}

#[cfg(test)]
#[path = "residence_tests.rs"]
mod tests;

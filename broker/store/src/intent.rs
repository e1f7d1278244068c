//! What a cut of the log is about to do, durable before anything of the log is touched, so that a start finishes what a
//! crash left (replication protocol §8.5). Every step may be done again and then gives the same result.
//!
//! ```text
//! rocket/cut, big-endian
//!   0 magic "RKCT" · 4 version u32 = 1 · 8 kind u32: 1 cut, 2 begin anew · 12 zero u32
//!  16 at u64 · 24 end of the log before u64 · 32 dispatched before u64 · 40 bytes of the first file u64, kind 2
//!  48 epoch of the master that caused it u64 · 56 CRC32 of bytes 0..56
//! ```
//!
//! The file is replaced as a whole, so one that cannot be read is damage: a store does not open on a guess of what it said.

use std::io;
use std::sync::Arc;

use rocket_mapped_file::Directory;

use crate::carried::Carried;
use crate::checkpoint::{self, Bounds, Checkpoint};
use crate::checksums;
use crate::commit_log::CommitLog;
use crate::config::StoreConfig;
use crate::damage::Damage;
use crate::deleted::Deleted;
use crate::error::OpenError;
use crate::recovery::open_log;

pub(crate) const PATH: &str = "rocket/cut";
const MAGIC: [u8; 4] = *b"RKCT";
const VERSION: u32 = 1;
const SUMMED: usize = 56;
const KIND_CUT: u32 = 1;
const KIND_ANEW: u32 = 2;

/// What becomes of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    /// It ends at `at`.
    Cut,
    /// It is empty and begins at `at`, with a file of so many bytes.
    Anew {
        /// Bytes of the file.
        len: u64,
    },
}

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Intent {
    pub(crate) deed: Deed,
    pub(crate) at: u64,
    /// The log ended here.
    pub(crate) end: u64,
    /// Queues and index held everything to here, flushed or not.
    pub(crate) dispatched: u64,
    /// Of the master that caused it.
    pub(crate) epoch: u64,
}

impl Intent {
    /// Notes it; durable on return.
    pub(crate) fn write(&self, dir: &dyn Directory) -> io::Result<()> {
        dir.replace(PATH, &self.encode())
    }

    /// What was noted and is not finished.
    pub(crate) fn read(dir: &dyn Directory) -> io::Result<Option<Self>> {
        let Some(bytes) = dir.read(PATH)? else {
            return Ok(None);
        };
        let damaged = || {
            let what = "it is damaged: this copy of the log is to be made anew from another one";
            io::Error::new(io::ErrorKind::InvalidData, what)
        };
        Self::decode(&bytes).map(Some).ok_or_else(damaged)
    }

    /// It is done; durable on return.
    pub(crate) fn remove(dir: &dyn Directory) -> io::Result<()> {
        dir.remove(PATH)?;
        dir.sync(checkpoint::FOLDER)
    }

    fn encode(&self) -> Vec<u8> {
        let (kind, len) = match self.deed {
            Deed::Cut => (KIND_CUT, 0),
            Deed::Anew { len } => (KIND_ANEW, len),
        };
        let mut bytes = Vec::with_capacity(SUMMED + 4);
        bytes.extend_from_slice(&MAGIC);
        for field in [VERSION, kind, 0] {
            bytes.extend_from_slice(&field.to_be_bytes());
        }
        for field in [self.at, self.end, self.dispatched, len, self.epoch] {
            bytes.extend_from_slice(&field.to_be_bytes());
        }
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        bytes
    }

    /// The bytes as the content of a note whose checksum fits.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn dressed(data: &[u8]) -> Vec<u8> {
        let mut bytes = [&MAGIC[..], &VERSION.to_be_bytes(), data].concat();
        bytes.resize(SUMMED, 0);
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (covered, crc) = bytes.split_at_checked(SUMMED)?;
        if crc32fast::hash(covered).to_be_bytes() != *crc {
            return None;
        }
        let rest = covered.strip_prefix(&MAGIC)?;
        let short = |at: usize| Some(u32::from_be_bytes(*rest.get(at..)?.first_chunk()?));
        let long = |at: usize| Some(u64::from_be_bytes(*rest.get(at..)?.first_chunk()?));
        let deed = match (short(0)?, short(4)?, short(8)?) {
            (VERSION, KIND_CUT, 0) => Deed::Cut,
            (VERSION, KIND_ANEW, 0) => Deed::Anew { len: long(36)? },
            _ => return None,
        };
        Some(Self {
            deed,
            at: long(12)?,
            end: long(20)?,
            dispatched: long(28)?,
            epoch: long(44)?,
        })
    }
}

/// Finishes what was begun, before anything of the log is believed. Returns what the checkpoint says then.
pub(crate) fn finish(
    config: &StoreConfig,
    dir: &Arc<dyn Directory>,
    checkpoint: &mut Checkpoint,
    bounds: Option<Bounds>,
) -> Result<Option<Bounds>, OpenError> {
    let Some(intent) = Intent::read(&**dir).map_err(OpenError::io("read", PATH))? else {
        return Ok(bounds);
    };
    tracing::warn!(
        at = intent.at, log_end = intent.end, epoch = intent.epoch, deed = ?intent.deed,
        "finishing a cut of the log"
    );
    let known = bounds.unwrap_or_default();
    let done = match intent.deed {
        Deed::Cut => {
            let log = open_log(config, dir, bounds)?;
            finish_cut(dir, &log, intent, known)
        }
        Deed::Anew { len } => {
            begin_anew(config, dir, intent.at, len).map(|()| known.empty(intent.at))
        }
    };
    let after = done.map_err(OpenError::io("cut", crate::commit_log::FOLDER))?;
    checkpoint.set(after);
    checkpoint
        .flush()
        .map_err(OpenError::io("write", checkpoint::FOLDER))?;
    Intent::remove(&**dir).map_err(OpenError::io("remove", PATH))?;
    Ok(Some(after))
}

fn finish_cut(
    dir: &Arc<dyn Directory>,
    log: &CommitLog,
    intent: Intent,
    known: Bounds,
) -> io::Result<Bounds> {
    log.cut(intent.at, known.ceiling.max(intent.end))?;
    log.damage().forget_from(intent.at)?;
    Deleted::open(Arc::clone(dir))?.cut(intent.at)?;
    let after = known.cut(intent.at, log.sound().sealed());
    if intent.dispatched.max(known.dispatched) <= intent.at {
        return Ok(after);
    }
    // Queues and index may hold what is gone.
    remove_derived(&**dir)?;
    Ok(Bounds {
        dispatched: log.min(),
        dispatched_time: 0,
        ..after
    })
}

/// Makes the log an empty one without looking at what is there.
fn begin_anew(config: &StoreConfig, dir: &Arc<dyn Directory>, at: u64, len: u64) -> io::Result<()> {
    for folder in [crate::commit_log::FOLDER, checksums::FOLDER] {
        let mut entries = dir.list(folder)?;
        entries.reverse();
        for entry in entries.iter().filter(|entry| !entry.is_folder) {
            dir.remove(&format!("{folder}/{}", entry.name))?;
        }
        dir.sync(folder)?;
    }
    let path = format!("{}/{at:020}", crate::commit_log::FOLDER);
    let options = crate::recovery::segment_options(config);
    dir.create(&path, len, options)?;
    Damage::open(Arc::clone(dir))?.forget_from(0)?;
    Deleted::open(Arc::clone(dir))?.cut(0)?;
    Carried::open(Arc::clone(dir))?.clear()?;
    remove_derived(&**dir)
}

/// Removes queues and index in all their forms: they are made again from the log.
fn remove_derived(dir: &dyn Directory) -> io::Result<()> {
    for folder in [crate::queues::FOLDER, crate::index::FOLDER] {
        dir.remove_folder(folder)?;
    }
    dir.sync(checkpoint::FOLDER)?;
    for folder in [crate::apache_queue::FOLDER, crate::index::apache::FOLDER] {
        dir.remove_folder(folder)?;
    }
    dir.sync("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_is_read_as_it_was_written_and_no_flipped_bit_is_believed() {
        for deed in [Deed::Cut, Deed::Anew { len: 6000 }] {
            let intent = Intent {
                deed,
                at: 1,
                end: 2,
                dispatched: 3,
                epoch: 4,
            };
            let bytes = intent.encode();
            assert_eq!(Intent::decode(&bytes), Some(intent));
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Intent::decode(&flipped), None, "bit {bit}");
            }
            for len in 0..bytes.len() {
                assert_eq!(Intent::decode(&bytes[..len]), None, "{len} bytes");
            }
            let long: Vec<u8> = bytes.iter().copied().chain([0]).collect();
            assert_eq!(Intent::decode(&long), None);
        }
    }
}

//! What a replica knows besides its log (docs/replication.md §4.1), as small files in `rocket/replica/` that are replaced as
//! a whole: after a crash each of them is the old or the new one.
//!
//! ```text
//! replica.meta   disk id 16 · in a group 1 · group uid 16 · replica id 4; version 2 then: former group uid 16 · max epoch of that 8
//! seen           max epoch 8 · max version 8
//! epochs         count 4 · count times (epoch 8 · start 8)
//! clean          incarnation 16 · log end 8 · last epoch 8         only between an orderly stop and the next start
//! cut            see [`crate::intent`]                             only while a cut is under way
//! failed         see [`crate::failures`]                           from the first failure of the disk on
//! runs           count 4 · count times incarnation 16              from the first time on that a run asked to be recorded
//! ```
//!
//! Every file begins as [`crate::sealed`] says; all numbers are big-endian. `replica.meta` is of version 2 while the replica was of
//! another group before and some other one may be that still (§8.16), else of version 1, which older programs read too.
//!
//! A file that is not as it was written is an error that ends the start, never "nothing known": a replica that forgot an
//! epoch could acknowledge to a master of the past.

use std::io;
use std::sync::Arc;

use bytes::{Buf, BufMut};
use rocket_mapped_file::Directory;
use rocket_replication::epochs::{EPOCHS_MAX, EpochStart, Epochs};
use rocket_replication::recovery::{CleanMark, RUNS_MAX};
use rocket_replication::{
    DiskId, Epoch, Former, GroupUid, Incarnation, PhysicalOffset, ReplicaId, Version,
};

use crate::failures::Failures;
use crate::intent::Intent;
use crate::residence::Residence;
use crate::sealed::{FOLDER, Fault, Kind, seal, unseal};

/// Why a file of a replica could not be read or written. After a failed write nothing more may be acknowledged (§8.15);
/// after a failed read the replica must not start.
#[derive(Debug, thiserror::Error)]
pub enum ItemError {
    /// The system failed a call.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file, relative to the store's folder.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// It is not what was written.
    #[error(
        "{path} is damaged: {reason}. Nothing was changed. Without it nobody knows what this replica promised: move the whole data folder aside (on a fixed master: all of it but rocket/coordinator), and the replica comes back as a new one and copies everything from its group"
    )]
    Damaged {
        /// The file, relative to the store's folder.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A newer program wrote it.
    #[error(
        "{path} has format {found}, this program knows {known}: start the program that wrote it, or a newer one"
    )]
    Format {
        /// The file, relative to the store's folder.
        path: String,
        /// Its format.
        found: u16,
        /// The newest one that is known.
        known: u16,
    },
    /// Others are there and this one is not.
    #[error(
        "{path} is missing beside files that are never without it. Nothing was changed. Bring it back, or move the whole data folder aside (on a fixed master: all of it but rocket/coordinator), and the replica comes back as a new one and copies everything from its group"
    )]
    Missing {
        /// The file, relative to the store's folder.
        path: String,
    },
}

/// `replica.meta`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Which data directory.
    pub disk_id: DiskId,
    /// Which replica of which group it holds; `None` before it first registered.
    pub replica: Option<(GroupUid, ReplicaId)>,
    /// What it was before, while another one may be that still. Only of one that is registered.
    pub former: Option<Former>,
}

/// All that the files say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// `replica.meta`.
    pub meta: Meta,
    /// `seen`: the highest epoch and version ever seen.
    pub seen: (Epoch, Version),
    /// `epochs`.
    pub epochs: Epochs,
    /// `clean`.
    pub clean: Option<CleanMark>,
    /// `cut`.
    pub cut: Option<Intent>,
    /// `runs`; `None` where no run noted itself yet, older programs among them.
    pub runs: Option<Vec<Incarnation>>,
}

/// The files. Whatever is saved is durable on return.
#[derive(Clone)]
pub struct Items {
    dir: Arc<dyn Directory>,
    /// Kept elsewhere than the others.
    residence: Arc<Residence>,
}

impl Items {
    /// The files in [`FOLDER`] of `dir`, which the caller has locked, and no residence proof.
    pub fn new(dir: Arc<dyn Directory>) -> Self {
        let residence = Arc::default();
        Self { dir, residence }
    }

    /// The same, with this proof beside them.
    #[must_use]
    pub fn proving(self, residence: Arc<Residence>) -> Self {
        Self { residence, ..self }
    }

    pub(crate) fn residence(&self) -> &Residence {
        &self.residence
    }

    /// Which data directory it is; `None` of one that was never formatted, or whose `replica.meta` cannot be read.
    pub fn disk_id(&self) -> Option<DiskId> {
        let meta = self.read(Kind::Meta, get_meta);
        Some(meta.ok()??.disk_id)
    }

    /// `failed`: what is noted of failures of this disk.
    ///
    /// # Errors
    /// [`ItemError`]: the replica must not start.
    pub fn failures(&self) -> Result<Option<Failures>, ItemError> {
        self.read(Kind::Failed, |_, body| Failures::decode(body))
    }

    /// Saves `failed`.
    ///
    /// # Errors
    /// [`ItemError`], final.
    pub fn save_failures(&self, failures: Failures) -> Result<(), ItemError> {
        self.write(Kind::Failed, &failures.encode())
    }

    /// Reads everything; `None` in a folder that was never formatted, or whose formatting was interrupted.
    ///
    /// # Errors
    /// [`ItemError`]: the replica must not start.
    pub fn load(&self) -> Result<Option<Saved>, ItemError> {
        let meta = self.read(Kind::Meta, get_meta)?;
        let seen = self.read(Kind::Seen, |_, body| get_seen(body))?;
        let epochs = self.read(Kind::Epochs, |_, body| get_epochs(body))?;
        let clean = self.read(Kind::Clean, |_, body| get_clean(body))?;
        let cut = self.read(Kind::Cut, Intent::decode)?;
        let runs = self.read(Kind::Runs, |_, body| get_runs(body))?;
        let missing = |kind: Kind| ItemError::Missing { path: kind.path() };
        let Some(meta) = meta else {
            // Formatting writes this one last, and first of all nothing that says anything.
            let is_blank = seen.is_none_or(|seen| seen == (Epoch(0), Version(0)))
                && epochs.is_none_or(|epochs| epochs.last_epoch() == Epoch(0))
                && clean.is_none()
                && cut.is_none()
                && runs.is_none();
            return if is_blank {
                Ok(None)
            } else {
                Err(missing(Kind::Meta))
            };
        };
        Ok(Some(Saved {
            meta,
            seen: seen.ok_or_else(|| missing(Kind::Seen))?,
            epochs: epochs.ok_or_else(|| missing(Kind::Epochs))?,
            clean,
            cut,
            runs,
        }))
    }

    /// Makes the folder that of a new replica (§8.2.2), with `epochs` as its list.
    ///
    /// # Errors
    /// [`ItemError`]: the next start formats again.
    pub fn format(&self, disk_id: DiskId, epochs: &Epochs) -> Result<(), ItemError> {
        self.dir
            .create_folder(FOLDER)
            .map_err(|source| ItemError::Io {
                action: "make",
                path: FOLDER.to_owned(),
                source,
            })?;
        self.save_seen(Epoch(0), Version(0))?;
        self.save_epochs(epochs)?;
        self.save_meta(&Meta {
            disk_id,
            replica: None,
            former: None,
        })
    }

    /// Saves `replica.meta`.
    ///
    /// # Errors
    /// [`ItemError`], final.
    pub fn save_meta(&self, meta: &Meta) -> Result<(), ItemError> {
        let mut body = Vec::new();
        body.put_u128(meta.disk_id.0);
        body.put_u8(u8::from(meta.replica.is_some()));
        let (group_uid, replica_id) = meta.replica.unwrap_or((GroupUid(0), ReplicaId(0)));
        body.put_u128(group_uid.0);
        body.put_u32(replica_id.0);
        let former = meta.former.filter(|_| meta.replica.is_some());
        let Some(former) = former else {
            return self.write_as(Kind::Meta, 1, &body);
        };
        body.put_u128(former.group_uid.0);
        body.put_u64(former.max_epoch.0);
        self.write_as(Kind::Meta, 2, &body)
    }

    /// Saves `seen`.
    ///
    /// # Errors
    /// [`ItemError`], final.
    pub fn save_seen(&self, epoch: Epoch, version: Version) -> Result<(), ItemError> {
        let mut body = Vec::new();
        body.put_u64(epoch.0);
        body.put_u64(version.0);
        self.write(Kind::Seen, &body)
    }

    /// Saves `epochs`.
    ///
    /// # Errors
    /// [`ItemError`], final.
    pub fn save_epochs(&self, epochs: &Epochs) -> Result<(), ItemError> {
        let mut body = Vec::new();
        put_epochs(epochs, &mut body);
        self.write(Kind::Epochs, &body)
    }

    /// Saves `runs`.
    ///
    /// # Errors
    /// [`ItemError`], final: the run must not ask to be recorded.
    pub fn save_runs(&self, runs: &[Incarnation]) -> Result<(), ItemError> {
        let mut body = Vec::new();
        body.put_u32(u32::try_from(runs.len()).unwrap_or(u32::MAX));
        for run in runs {
            body.put_u128(run.0);
        }
        self.write(Kind::Runs, &body)
    }

    /// Saves `clean`, as the last thing that a process does (§4.1).
    ///
    /// # Errors
    /// [`ItemError`]; the next start then has no such proof.
    pub fn save_clean(&self, mark: &CleanMark) -> Result<(), ItemError> {
        let mut body = Vec::new();
        body.put_u128(mark.incarnation.0);
        body.put_u64(mark.log_end.0);
        body.put_u64(mark.last_epoch.0);
        self.write(Kind::Clean, &body)
    }

    /// Removes `clean`: what follows is not covered by it.
    ///
    /// # Errors
    /// [`ItemError`]: nothing may be appended.
    pub fn remove_clean(&self) -> Result<(), ItemError> {
        self.remove(Kind::Clean)
    }

    /// Saves `cut`.
    ///
    /// # Errors
    /// [`ItemError`], final.
    pub fn save_cut(&self, intent: &Intent) -> Result<(), ItemError> {
        self.write(Kind::Cut, &intent.encode())
    }

    /// Removes `cut`: it is done.
    ///
    /// # Errors
    /// [`ItemError`], final.
    pub fn remove_cut(&self) -> Result<(), ItemError> {
        self.remove(Kind::Cut)
    }

    fn write(&self, kind: Kind, body: &[u8]) -> Result<(), ItemError> {
        self.write_as(kind, kind.version(), body)
    }

    fn write_as(&self, kind: Kind, version: u16, body: &[u8]) -> Result<(), ItemError> {
        let path = kind.path();
        let replaced = self.dir.replace(&path, &seal(kind, version, body));
        replaced.map_err(|source| ItemError::Io {
            action: "write",
            path,
            source,
        })
    }

    fn remove(&self, kind: Kind) -> Result<(), ItemError> {
        let path = kind.path();
        let removed = self.dir.remove(&path).and_then(|()| self.dir.sync(FOLDER));
        removed.map_err(|source| ItemError::Io {
            action: "remove",
            path,
            source,
        })
    }

    fn read<T>(
        &self,
        kind: Kind,
        get: impl FnOnce(u16, &mut &[u8]) -> Option<T>,
    ) -> Result<Option<T>, ItemError> {
        let path = kind.path();
        let read = self.dir.read(&path).map_err(|source| ItemError::Io {
            action: "read",
            path: path.clone(),
            source,
        });
        let Some(file) = read? else { return Ok(None) };
        let (version, mut body) = match unseal(kind, &file) {
            Ok(content) => content,
            Err(Fault::Damaged(reason)) => return Err(ItemError::Damaged { path, reason }),
            Err(Fault::Format(found)) => {
                let known = kind.version();
                return Err(ItemError::Format { path, found, known });
            }
        };
        match get(version, &mut body).filter(|_| body.is_empty()) {
            Some(item) => Ok(Some(item)),
            None => Err(ItemError::Damaged {
                path,
                reason: "its content is not laid out as it should be",
            }),
        }
    }
}

fn get_meta(version: u16, body: &mut &[u8]) -> Option<Meta> {
    let disk_id = DiskId(body.try_get_u128().ok()?);
    let is_registered = body.try_get_u8().ok()?;
    let replica = (
        GroupUid(body.try_get_u128().ok()?),
        ReplicaId(body.try_get_u32().ok()?),
    );
    let replica = match is_registered {
        0 => None,
        1 => Some(replica),
        _ => return None,
    };
    let former = if version < 2 {
        None
    } else {
        // Nobody was in a group who is in none.
        replica?;
        Some(Former {
            group_uid: GroupUid(body.try_get_u128().ok()?),
            max_epoch: Epoch(body.try_get_u64().ok()?),
        })
    };
    Some(Meta {
        disk_id,
        replica,
        former,
    })
}

fn get_seen(body: &mut &[u8]) -> Option<(Epoch, Version)> {
    let epoch = Epoch(body.try_get_u64().ok()?);
    Some((epoch, Version(body.try_get_u64().ok()?)))
}

pub(crate) fn put_epochs(epochs: &Epochs, out: &mut Vec<u8>) {
    let entries = epochs.entries();
    out.put_u32(u32::try_from(entries.len()).unwrap_or(u32::MAX));
    for entry in entries {
        out.put_u64(entry.epoch.0);
        out.put_u64(entry.start.0);
    }
}

pub(crate) fn get_epochs(body: &mut &[u8]) -> Option<Epochs> {
    let count = usize::try_from(body.try_get_u32().ok()?).ok()?;
    if count > EPOCHS_MAX {
        return None;
    }
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        entries.push(EpochStart {
            epoch: Epoch(body.try_get_u64().ok()?),
            start: PhysicalOffset(body.try_get_u64().ok()?),
        });
    }
    Epochs::new(entries).ok()
}

fn get_runs(body: &mut &[u8]) -> Option<Vec<Incarnation>> {
    let count = usize::try_from(body.try_get_u32().ok()?).ok()?;
    if count > RUNS_MAX {
        return None;
    }
    let runs = (0..count).map(|_| Some(Incarnation(body.try_get_u128().ok()?)));
    runs.collect()
}

fn get_clean(body: &mut &[u8]) -> Option<CleanMark> {
    Some(CleanMark {
        incarnation: Incarnation(body.try_get_u128().ok()?),
        log_end: PhysicalOffset(body.try_get_u64().ok()?),
        last_epoch: Epoch(body.try_get_u64().ok()?),
    })
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;

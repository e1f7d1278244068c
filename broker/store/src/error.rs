//! Why a store does not open or close. Failures while it runs are no errors of calls: they make it read-only and are
//! told through [`crate::StoreEvents`] and [`crate::Health`].

use std::io;
use std::sync::Arc;

use rocket_protocol::{PhysicalOffset, UnixMillis};
use thiserror::Error;

use crate::config::ConfigError;
use crate::failure::{FailureKind, PastFailure};

/// Whether a file could not be made for something that passes by itself: the disk is full, a quota is used up, or too many
/// files are open. Everything else (a sector, a file system that became read-only, a folder that is gone) does not.
pub(crate) fn is_no_room(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    ) || is_too_many_open(error)
}

/// Whether a file could not be opened for too many that are.
pub(crate) fn is_too_many_open(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

/// Why a store does not open.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The settings contradict themselves; give up until they are changed.
    #[error("store settings: {0}")]
    Config(#[from] ConfigError),
    /// Another process, or another store of this one, has the folder.
    #[error("the folder is locked by another broker")]
    Locked,
    /// Of what was known to be flushed the end is missing, so that nobody knows where the log ended. Nothing was changed.
    /// Needs another replica, or a human. (Damage with good records behind it does not keep the store closed.)
    #[error("damage in {file} at {offset}, below the flushed position {floor}: {reason}")]
    Damaged {
        /// The file, relative to the store's folder.
        file: String,
        /// First byte that is not good.
        offset: PhysicalOffset,
        /// All below this was flushed once.
        floor: PhysicalOffset,
        /// What is wrong there.
        reason: String,
    },
    /// What was found damaged could not be noted: the next start would look there no more and believe it. No bound was raised, so
    /// that this start can be done again.
    #[error(
        "the log is damaged, and that cannot be noted in {file}: {source}. Without the note a later start would take what is damaged for good, so this one ends, and the log is as it was. Make room on the disk, or mend what keeps the file from being written, and start again"
    )]
    DamageNotNoted {
        /// The file of the note, relative to the store's folder.
        file: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A write or flush failed while the queues were brought up to the log.
    #[error("the store failed while it opened: {0}")]
    Failed(Arc<str>),
    /// The system failed a call.
    #[error("cannot {action} {file}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or folder, relative to the store's folder.
        file: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl OpenError {
    pub(crate) fn io(action: &'static str, file: &str) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_owned();
        move |source| Self::Io {
            action,
            file,
            source,
        }
    }

    /// Whether it is a write or flush that failed, and not for want of room.
    pub(crate) fn is_failed_write(&self) -> bool {
        match self {
            Self::Io {
                action: "create" | "cut" | "flush" | "make" | "remove" | "write",
                source,
                ..
            }
            | Self::DamageNotNoted { source, .. } => {
                FailureKind::of(source) == FailureKind::Disk && !is_no_room(source)
            }
            _ => false,
        }
    }

    pub(crate) fn damaged(file: &str, offset: u64, floor: u64, reason: &str) -> Self {
        Self::Damaged {
            file: file.to_owned(),
            offset: PhysicalOffset(offset),
            floor: PhysicalOffset(floor),
            reason: reason.to_owned(),
        }
    }
}

/// What opening a store found and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecoveryReport {
    /// The last process closed the store in order.
    pub clean: bool,
    /// What failed in the last process and ended it, as far as the disk still took a note of that.
    pub failure: Option<PastFailure>,
    /// First byte of the log.
    pub min: PhysicalOffset,
    /// All below this was known to be flushed.
    pub floor: PhysicalOffset,
    /// A lower bound of what was committed when the store was last open.
    pub confirm: PhysicalOffset,
    /// Scanning began here.
    pub scanned_from: PhysicalOffset,
    /// End of the log as it is now.
    pub log_end: PhysicalOffset,
    /// Records that were scanned.
    pub records_scanned: u64,
    /// Whether something followed the last good record and was made zero.
    pub tail_cut: bool,
    /// When the last message that is there was stored. If the last process did not end in order and answered before its
    /// flushes, what it acknowledged after this may be lost.
    pub last_stored: UnixMillis,
    /// Ranges of the log below `floor` that are known to be damaged; [`crate::Store::damage`] names them.
    pub damaged_ranges: u64,
    /// Bytes of the log whose keys the index has lost, or never had; they are indexed again while the store is open.
    pub index_missing: u64,
}

/// Why a store did not close in order. It is safe to open again: that recovers.
#[derive(Debug, Error)]
pub enum CloseError {
    /// A write or flush failed, now or earlier.
    #[error("the store failed: {0}")]
    Failed(Arc<str>),
}

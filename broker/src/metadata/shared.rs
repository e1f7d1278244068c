//! A table that readers take as a whole, and one writer at a time who puts the next table on disk before anybody sees it. In a group
//! changes go through its log instead ([`super::log`]), and what is folded from there only comes here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;
use rocket_protocol::UnixMillis;
use rocket_protocol::body::DataVersion;

use super::change::{Change, Stamp};
use super::file::{FileError, JsonFile};
use super::log::ChangeLog;
use super::writer::{Writer, apply};

/// What a [`Shared`] holds: the changes folded so far.
pub(super) trait Fold: Clone {
    /// One change of it.
    type Change: Send + 'static;

    /// Makes a change. Says whether there was something to change.
    fn fold(&mut self, change: &Self::Change, stamp: Stamp) -> bool;
    /// The version that the last change left.
    fn version(&self) -> DataVersion;
    /// The text of its file.
    fn to_json(&self) -> Bytes;
    /// The change as the log has it.
    fn logged(change: Self::Change) -> Change;
}

/// See the module.
#[derive(Debug)]
pub(super) struct Shared<T> {
    file: JsonFile,
    table: ArcSwap<T>,
    generation: AtomicU64,
    writer: Writer<T>,
    /// Takes the changes, in a group.
    log: Option<Arc<ChangeLog>>,
}

impl<T: Fold> Shared<T> {
    /// With a `log` the table is what was folded from it at some time, and no change is written to the file.
    pub(super) fn new(file: JsonFile, table: T, log: Option<Arc<ChangeLog>>) -> Self {
        Self {
            file,
            table: ArcSwap::from_pointee(table),
            generation: AtomicU64::new(0),
            writer: Writer::default(),
            log,
        }
    }

    /// The table as it is, to be looked at and let go.
    pub(super) fn load(&self) -> Guard<Arc<T>> {
        self.table.load()
    }

    /// Grows after each change of the table: what was looked up after it was read is no older than it.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Puts a table that was folded elsewhere in place.
    pub(super) fn replace(&self, table: T) -> Result<(), FileError>
    where
        T: Send + 'static,
    {
        self.rewrite(move |now| {
            *now = table;
            true
        })
    }

    /// Makes changes that are in the log.
    pub(super) fn follow(&self, changes: Vec<(Stamp, T::Change)>) -> Result<(), FileError> {
        self.rewrite(move |table| {
            let mut changed = false;
            for (stamp, change) in &changes {
                changed |= table.fold(change, *stamp);
            }
            changed
        })
    }

    /// Writes the file, which in a group nothing else does.
    pub(super) fn save(&self) -> Result<(), FileError> {
        self.file.save(&self.load().to_json())
    }

    /// Makes a change, through the log if there is one. Says whether there was something to change, as far as that is known.
    pub(super) fn change(&self, change: T::Change, now: UnixMillis) -> Result<bool, FileError> {
        if let Some(log) = &self.log {
            let counter = self.load().version().counter;
            let stamp = Stamp { at: now.0, counter };
            log.propose(T::logged(change), stamp)?;
            return Ok(true);
        }
        let changed = Arc::new(AtomicBool::new(false));
        let tell = Arc::clone(&changed);
        self.rewrite(move |table| {
            let changed = table.fold(&change, Stamp::at(now));
            tell.store(changed, Ordering::Relaxed);
            changed
        })?;
        Ok(changed.load(Ordering::Relaxed))
    }

    /// Puts a changed copy of the table on disk, then in place, together with the changes of others. `change` says whether it made one.
    pub(super) fn rewrite(
        &self,
        change: impl FnOnce(&mut T) -> bool + Send + 'static,
    ) -> Result<(), FileError> {
        self.writer.change(change, |changes| {
            let mut next = T::clone(&self.load());
            if apply(changes, &mut next) {
                if self.log.is_none() {
                    self.file.save(&next.to_json())?;
                }
                self.table.store(Arc::new(next));
                self.generation.fetch_add(1, Ordering::Release);
            }
            Ok(())
        })
    }
}

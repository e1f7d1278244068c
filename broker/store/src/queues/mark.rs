//! The note that the files of the queues do not hold what was written: this process ends, and the next start builds the
//! queues again from the log. Without it every start would meet the same bytes again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rocket_mapped_file::Directory;

/// Exists once something was found damaged. Goes with the folder of the queues.
const PATH: &str = "rocket/queues/damaged";

/// See the module.
pub(super) struct Mark {
    dir: Arc<dyn Directory>,
    is_set: AtomicBool,
}

impl Mark {
    /// Nothing was found by this process.
    pub(super) fn new(dir: Arc<dyn Directory>) -> Self {
        Self {
            dir,
            is_set: AtomicBool::new(false),
        }
    }

    /// Whether an earlier process left it.
    pub(super) fn is_left(dir: &dyn Directory) -> io::Result<bool> {
        Ok(dir.read(PATH)?.is_some())
    }

    /// Whether this process found something.
    pub(super) fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Acquire)
    }

    /// Notes what was found; told once.
    pub(super) fn set(&self, error: &io::Error) {
        if self.is_set.swap(true, Ordering::AcqRel) {
            return;
        }
        tracing::error!(%error, "the files of the queues are damaged; the next start builds the queues again");
        if let Err(error) = self.dir.replace(PATH, error.to_string().as_bytes()) {
            tracing::error!(%error, "damage of the queues could not be noted for the next start");
        }
    }

    /// The files are gone, and the note with them.
    pub(super) fn clear(&self) {
        self.is_set.store(false, Ordering::Release);
    }
}

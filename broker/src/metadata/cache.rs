//! What was folded, kept beside the log so that a start need not fold from the last snapshot: `config/rocket-metadata.json`.
//!
//! Never the truth: it says up to which change it holds everything, and which message that was. A log that has another one there was cut since,
//! and then the file is thrown away before anything is done with the log.

use std::path::Path;

use rocket_protocol::json::JsonError;
use rocket_store::Positions;
use serde::{Deserialize, Serialize};

use super::change::Content;
use super::file::{FileError, JsonFile};
use super::log::{ChangeLog, entries};

/// The form of the file. A program that writes another one folds otherwise: one of form 1 does not tell the store where queues go on, one of
/// form 2 knows no orders of administrators.
pub(super) const FORM: u32 = 3;

/// The last message that was folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// In the queue.
    pub(super) offset: i64,
    /// In the log.
    pub(super) physical: u64,
    /// When it was appended.
    pub(super) stored: i64,
    /// Of its body.
    pub(super) crc: u32,
}

/// The last whole snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Base {
    /// See [`super::change::Part`].
    pub(super) at: i64,
    /// See [`super::change::Part`].
    pub(super) physical: u64,
    /// Whether it tells where queues go on.
    pub(super) has_ends: bool,
}

/// The file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Cached {
    pub(super) v: u32,
    /// The queue offset behind the last change that is in it.
    pub(super) next: i64,
    pub(super) last: Option<Mark>,
    pub(super) base: Base,
    pub(super) content: Content,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Cache(JsonFile);

impl Cache {
    pub(super) fn new(dir: &Path) -> Result<Self, FileError> {
        Ok(Self(JsonFile::new(dir, "rocket-metadata.json")?))
    }

    /// What is there, if it is true of the log; otherwise it is thrown away.
    pub(super) fn load(&self, log: &ChangeLog) -> Result<Option<Cached>, FileError> {
        let parse = |text: &[u8]| -> Result<Cached, JsonError> {
            serde_json::from_slice(text).map_err(JsonError::Shape)
        };
        let cached = match self.0.load(parse) {
            Ok(None) => return Ok(None),
            Ok(cached) => cached,
            Err(FileError::Damaged { .. }) => None,
            Err(error) => return Err(error),
        };
        let cached = cached.filter(|cached| cached.v == FORM && is_true(cached, log));
        if cached.is_none() {
            tracing::warn!(
                "what was kept of metadata is not what the log says, or of another version; it is folded again from the last snapshot"
            );
            self.0.remove()?;
        }
        Ok(cached)
    }

    pub(super) fn save(&self, cached: &Cached) -> Result<(), FileError> {
        let text = rocket_protocol::json::to_json(cached);
        self.0.save(&text)
    }
}

/// Whether the log still has what was folded.
fn is_true(cached: &Cached, log: &ChangeLog) -> bool {
    let Some(range) = log.range() else {
        return false;
    };
    let (min, max) = (range.min.to_wire(), range.max.to_wire());
    if !(min..=max).contains(&cached.next) {
        return false;
    }
    // Retention leaves the snapshot, so this is a log that was begun anew: what was told to the store went with the former one.
    let is_before = |positions: Positions| cached.base.physical < positions.min.0;
    if log.positions().is_none_or(is_before) {
        return false;
    }
    let Some(last) = cached.last.filter(|last| last.offset >= min) else {
        // Retention took it, as it does with nothing that can still be cut.
        return true;
    };
    let read = log.read(last.offset).map(|result| entries(&result));
    let found = read.and_then(|entries| entries.into_iter().next());
    found.is_some_and(|found| found.mark == last)
}

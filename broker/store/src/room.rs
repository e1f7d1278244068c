//! The room on the disk: how full it is, and what is kept back for all that is written beside messages (topics, groups,
//! positions, checkpoint, queues, index), so that a full disk is refused to senders before it stops those.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};

use rocket_mapped_file::Space;

use crate::api::{Completion, DiskUsage};
use crate::engine::Engine;
use crate::retention::is_above;

/// Who could not write for want of room, by bits. Appends are refused while anybody cannot.
#[derive(Default)]
pub(crate) struct NoRoom(AtomicU8);

/// Who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writer {
    /// The next file of the log could not be made.
    Log = 1,
    Queues = 2,
    Index = 4,
}

impl Writer {
    /// The folder.
    pub(crate) const fn folder(self) -> &'static str {
        match self {
            Self::Log => crate::commit_log::FOLDER,
            Self::Queues => crate::queues::FOLDER,
            Self::Index => crate::index::FOLDER,
        }
    }
}

impl NoRoom {
    /// Whether anybody has none.
    pub(crate) fn is_any(&self) -> bool {
        self.0.load(Ordering::Acquire) != 0
    }

    /// Whether `writer` has none.
    pub(crate) fn is_for(&self, writer: Writer) -> bool {
        self.0.load(Ordering::Acquire) & writer as u8 != 0
    }

    /// `writer` has none. Whether that is new.
    pub(crate) fn set(&self, writer: Writer) -> bool {
        self.0.fetch_or(writer as u8, Ordering::AcqRel) & writer as u8 == 0
    }

    /// `writer` has some again.
    pub(crate) fn clear(&self, writer: Writer) {
        if self.is_for(writer) {
            self.0.fetch_and(!(writer as u8), Ordering::AcqRel);
            tracing::info!(folder = writer.folder(), "there is room again");
        }
    }
}

/// The room while files are removed. Some file systems free what is removed a while later, and all of them what a reader still
/// has a part of: it counts as free at once, or one file after the other would go for the same want.
#[derive(Debug, Default)]
pub(crate) struct Freeing {
    /// When the first one was to go, and what was removed since.
    begun: Option<Space>,
    removed: u64,
}

impl Freeing {
    /// So many bytes more were removed.
    pub(crate) fn removed(&mut self, bytes: u64) {
        self.removed = self.removed.saturating_add(bytes);
    }

    /// What there is where the file system tells `now`.
    pub(crate) fn room(&mut self, now: Space) -> Space {
        let begun = *self.begun.get_or_insert(now);
        let freed = begun.available.saturating_add(self.removed);
        Space {
            available: now.available.max(freed).min(now.capacity),
            ..now
        }
    }
}

/// How full a disk is, 0 to 1; one that does not say how large it is counts as empty.
#[expect(clippy::cast_precision_loss, reason = "a ratio needs no 53 bits")]
pub(crate) fn ratio_of(space: &Space) -> f64 {
    let used = space.capacity.saturating_sub(space.available);
    if space.capacity == 0 {
        0.0
    } else {
        used as f64 / space.capacity as f64
    }
}

impl<C: Completion> Engine<C> {
    /// Looks how full the disk is; decides whether appends are refused for it.
    pub fn look_at_disk(&self) {
        self.room_on_disk();
    }

    /// As [`Engine::look_at_disk`]. What there is, as far as it is known.
    pub(crate) fn room_on_disk(&self) -> Option<Space> {
        match self.dir.space() {
            Ok(space) => {
                let used = space.capacity.saturating_sub(space.available);
                let ratio = ratio_of(&space);
                let refused = is_above(ratio, self.config.watermarks.refuse)
                    || space.available < self.reserve(&space);
                let before = std::mem::replace(
                    &mut *self.disk.write(),
                    DiskUsage {
                        used,
                        capacity: space.capacity,
                        ratio,
                        refused,
                    },
                );
                tell(before.refused, refused, used, space.available);
                Some(space)
            }
            Err(error) => {
                tracing::warn!(error = %error, "the room on the disk is not known");
                None
            }
        }
    }

    /// Whether there is room for another log file.
    ///
    /// # Errors
    /// `StorageFull` also when it would leave less room than is kept back.
    pub(crate) fn may_make_file(&self) -> io::Result<()> {
        if self.config.metadata_reserve_bytes > 0 {
            let space = self.dir.space()?;
            let (available, reserve) = (space.available, self.reserve(&space));
            if reserve > 0 && available < self.config.segment_bytes.saturating_add(reserve) {
                let why =
                    format!("{available} bytes are available, and {reserve} are kept for metadata");
                return Err(io::Error::new(io::ErrorKind::StorageFull, why));
            }
        }
        Ok(())
    }

    /// Whether senders are refused because the next log file has no room in what there is. Then the hard limit of retention is
    /// reached, however full the disk is: on a small one a file may be more than what lies between the marks.
    pub(crate) fn is_short(&self, space: &Space) -> bool {
        let needed = self
            .config
            .segment_bytes
            .saturating_add(self.reserve(space));
        self.no_room.is_for(Writer::Log) && space.capacity > 0 && space.available < needed
    }

    /// What is kept back: never more than the mark at which appends are refused leaves, and nothing on a disk that does not
    /// say how large it is.
    fn reserve(&self, space: &Space) -> u64 {
        let left = 100_u64.saturating_sub(self.config.watermarks.refuse.into());
        self.config
            .metadata_reserve_bytes
            .min(space.capacity / 100 * left)
    }
}

fn tell(before: bool, refused: bool, used: u64, available: u64) {
    match (before, refused) {
        (false, true) => tracing::error!(
            used,
            available,
            "the disk is too full: messages are refused until there is room again"
        ),
        (true, false) => tracing::info!(
            used,
            available,
            "there is room on the disk again: messages are taken"
        ),
        _ => {}
    }
}

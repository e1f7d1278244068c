//! The room on the disk: how full it is, and what is kept back for all that is written beside messages (topics, groups,
//! positions, checkpoint, queues, index), so that a full disk is refused to senders before it stops those.

use std::io;

use crate::api::{Completion, DiskUsage};
use crate::engine::Engine;
use crate::retention::is_above;

impl<C: Completion> Engine<C> {
    /// Looks how full the disk is; decides whether appends are refused for it.
    pub fn look_at_disk(&self) {
        match self.dir.space() {
            Ok(space) => {
                let used = space.capacity.saturating_sub(space.available);
                #[expect(clippy::cast_precision_loss, reason = "a ratio needs no 53 bits")]
                let ratio = if space.capacity == 0 {
                    0.0
                } else {
                    used as f64 / space.capacity as f64
                };
                let refused = is_above(ratio, self.config.watermarks.refuse)
                    || space.available < self.config.metadata_reserve_bytes;
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
            }
            Err(error) => tracing::warn!(error = %error, "the room on the disk is not known"),
        }
    }

    /// Whether there is room for another log file.
    ///
    /// # Errors
    /// `StorageFull` also when it would leave less room than is kept back.
    pub(crate) fn may_make_file(&self) -> io::Result<()> {
        let reserve = self.config.metadata_reserve_bytes;
        if reserve > 0 {
            let needed = self.config.segment_bytes.saturating_add(reserve);
            let available = self.dir.space()?.available;
            if available < needed {
                let why =
                    format!("{available} bytes are available, and {reserve} are kept for metadata");
                return Err(io::Error::new(io::ErrorKind::StorageFull, why));
            }
        }
        Ok(())
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

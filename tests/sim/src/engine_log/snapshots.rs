//! Snapshots of where queues go on: taken, and followed.

use rocket_protocol::QueueId;
use rocket_store::{GetStatus, ReadLimits};

use super::EngineLog;
use super::records::bodies;
use crate::log::Followed;
use crate::snapshots::{Snapshot, Snapshots};

impl EngineLog {
    /// Tells the engine where queues go on, by all snapshots that are visible.
    pub(super) fn follow(&self) -> Followed {
        let limits = ReadLimits {
            messages_max: 4,
            bytes_max: 1 << 20,
        };
        let mut known = self.snapshots.lock();
        loop {
            let got =
                (self.engine).get(&self.metadata, QueueId(0), known.next, limits, &|_, _| true);
            match got.status {
                GetStatus::Found => {}
                GetStatus::NoMatchedLogicQueue | GetStatus::NoMessageInQueue => {
                    *known = Snapshots::default();
                    break;
                }
                // The log was begun anew.
                GetStatus::OffsetTooSmall | GetStatus::OffsetOverflowBadly => {
                    *known = Snapshots {
                        next: got.min,
                        ..Snapshots::default()
                    };
                    continue;
                }
                _ => break,
            }
            let before = known.next;
            for (offset, body) in got.chunks.iter().flat_map(|chunk| bodies(chunk)) {
                let Some(snapshot) = Snapshot::read(&body) else {
                    return Followed::Later;
                };
                if !self.engine.reach(&snapshot.ends) {
                    return Followed::Later;
                }
                known.next = offset + 1;
                known.base = Some(snapshot.physical);
            }
            if known.next == before {
                return Followed::Later;
            }
        }
        let range = self.engine.queue_range(&self.metadata, QueueId(0));
        if range.is_some_and(|range| range.max.to_wire() > known.next) {
            return Followed::Later;
        }
        known.base.map_or(Followed::None, |_| Followed::All)
    }

    /// Takes a snapshot, as a master does.
    pub(super) fn take(&self) {
        let physical = self.engine.positions().dispatched.0;
        // A master of metadata has applied all that is visible before, and looks at the queues now.
        let snapshot = Snapshot {
            physical,
            ends: self.engine.queue_ends(),
        };
        self.snapshots.lock().asked = physical;
        // Refused, it is taken again when the log has gone into the next file.
        let _taken = self.append(&self.metadata, 0, &snapshot.body(), None);
    }

    /// Whether the log has gone into another file since the last one.
    pub(super) fn is_due(&self) -> bool {
        let known = self.snapshots.lock();
        let last = known.base.unwrap_or(0).max(known.asked);
        let file = self.engine.file_start(self.engine.positions().appended);
        file.is_some_and(|begin| begin.0 > last)
    }
}

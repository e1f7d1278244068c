//! Syncs that take a while, several at a time, and are not answered after a cut.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Instant;

use fuser::ReplyEmpty;
use parking_lot::Mutex;

use super::layer::errno;
use super::now_us;
use crate::disk::Disk;

/// A sync that is on its way.
pub(super) struct Late {
    pub(super) due: Instant,
    pub(super) node: u64,
    pub(super) handle: u64,
    pub(super) sync: (u64, u64),
    pub(super) reply: ReplyEmpty,
}

/// Ends syncs when their time has come.
pub(super) struct Syncer {
    pub(super) disk: Arc<Mutex<Disk>>,
    pub(super) tell: Sender<()>,
    pub(super) held: Arc<Mutex<Vec<ReplyEmpty>>>,
}

impl Syncer {
    pub(super) fn run(&self, late: &Receiver<Late>) {
        let mut waiting: BTreeMap<(Instant, u64), Late> = BTreeMap::new();
        let mut is_open = true;
        while is_open || !waiting.is_empty() {
            let next = waiting.keys().next().map(|(due, _)| *due);
            let got = match next {
                Some(due) => late.recv_timeout(due.saturating_duration_since(Instant::now())),
                None => late.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match got {
                Ok(sync) => {
                    waiting.insert((sync.due, sync.sync.0), sync);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => is_open = false,
            }
            while let Some(first) = waiting.first_entry() {
                if is_open && first.key().0 > Instant::now() {
                    break;
                }
                self.end(first.remove());
            }
        }
    }

    fn end(&self, sync: Late) {
        let mut disk = self.disk.lock();
        let was_cut = disk.is_cut();
        let result = disk.sync_end(sync.node, sync.handle, sync.sync, now_us());
        if disk.is_cut() {
            // The kernel would let nobody die who waits here, and who gets an answer may go on: neither is right after
            // a cut, so the answer waits for the kill.
            self.held.lock().push(sync.reply);
            drop(disk);
            if !was_cut {
                let _ = self.tell.send(());
            }
            return;
        }
        drop(disk);
        match result {
            Ok(()) => sync.reply.ok(),
            Err(refusal) => sync.reply.error(errno(refusal)),
        }
    }
}

//! Room for frames that are not whole yet: what all connections of a server keep of them has a bound in sum.
//!
//! A frame of up to [`SMALL_BYTES`] needs none and always goes on. A larger one takes room for all of its bytes, in the order of
//! asking, and gives it back when it was served or when its connection ends; until it has room its connection is not read.
//! Taken piece by piece the room could be full of pieces of many frames, none of which could ever end.
//!
//! What a read brought before there was room is kept all the same. It is little: while room is scarce no read asks for more than
//! a small frame has.

use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

/// Bytes of a frame that needs no room.
pub(crate) const SMALL_BYTES: usize = 32 << 10;
/// Room is scarce when less than one in so many of its bytes is free.
const SCARCE_PART: usize = 16;

/// The room of one server.
#[derive(Debug)]
pub(crate) struct Room {
    free: Arc<Semaphore>,
    bytes: usize,
}

impl Room {
    pub(crate) fn new(bytes: usize) -> Self {
        let bytes = bytes.min(Semaphore::MAX_PERMITS);
        Self {
            free: Arc::new(Semaphore::new(bytes)),
            bytes,
        }
    }

    /// All of it, for a test in which others have it.
    #[cfg(test)]
    pub(crate) fn take_all(&self) -> Option<OwnedSemaphorePermit> {
        let all = u32::try_from(self.bytes).ok()?;
        Arc::clone(&self.free).try_acquire_many_owned(all).ok()
    }
}

/// Without a bound: for a client, which has one connection.
impl Default for Room {
    fn default() -> Self {
        Self::new(Semaphore::MAX_PERMITS)
    }
}

/// What one connection has of a room. Dropped, it has left, and waits no more.
pub(crate) struct Place {
    free: PollSemaphore,
    /// Of the whole room.
    bytes: usize,
    taken: Option<OwnedSemaphorePermit>,
    is_waiting: bool,
}

impl Place {
    pub(crate) fn of(room: &Room) -> Self {
        Self {
            free: PollSemaphore::new(Arc::clone(&room.free)),
            bytes: room.bytes,
            taken: None,
            is_waiting: false,
        }
    }

    /// Takes room for a frame of `bytes`; `false`: there is none yet, and the task is woken when there is. A frame that has its
    /// room keeps it, and one that is larger than the room takes all of it.
    pub(crate) fn poll_take(&mut self, context: &mut Context<'_>, bytes: usize) -> bool {
        if bytes <= SMALL_BYTES || self.taken.is_some() {
            return true;
        }
        let bytes = u32::try_from(bytes.min(self.bytes)).unwrap_or(u32::MAX);
        let taken = self.free.poll_acquire_many(context, bytes);
        self.is_waiting = taken.is_pending();
        if let Poll::Ready(taken) = taken {
            self.taken = taken;
        }
        !self.is_waiting
    }

    /// Whether a frame waits.
    pub(crate) fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// The frame was served.
    pub(crate) fn give_back(&mut self) {
        self.taken = None;
    }

    /// Whether no more is to be read than what is small or has its room.
    pub(crate) fn is_scarce(&self) -> bool {
        self.free.available_permits() < self.bytes / SCARCE_PART
    }
}

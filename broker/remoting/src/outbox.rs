//! What waits to be written to a connection: answers are encoded straight into one buffer, from any thread, and leave in one
//! write. Large body pieces stay where they are and are named between the copied bytes.

use std::io::IoSlice;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use rocket_protocol::{Command, frame};

/// Body pieces up to this many bytes are cheaper to copy than to name in a vector.
const COPY_BYTES_MAX: usize = 1024;
/// A buffer that once grew beyond this is not kept.
const KEPT_BYTES_MAX: usize = 64 << 10;
/// Pieces that one call of the kernel is given.
const SLICES_MAX: usize = 64;
/// The part of the bound from which on no more requests are read; the rest is for the answers to those that are open or parked.
const CROWDED_PART: usize = 4;

#[derive(Debug)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    /// Waiting and being written. Grows under the lock only.
    bytes: AtomicUsize,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct State {
    batch: Batch,
    is_finished: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    Full { bytes: usize },
    Finished,
}

impl Outbox {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            state: Mutex::default(),
            bytes: AtomicUsize::new(0),
            bytes_max,
        }
    }

    pub(crate) fn push(&self, command: &Command) -> Result<(), Refused> {
        self.add(|batch| {
            frame::encode_head(command, &mut batch.copied);
            for chunk in command.body.chunks() {
                batch.push(chunk);
            }
        })
    }

    /// Adds the frame that `encode` appends.
    pub(crate) fn push_with(&self, encode: impl FnOnce(&mut BytesMut)) -> Result<(), Refused> {
        self.add(|batch| encode(&mut batch.copied))
    }

    fn add(&self, encode: impl FnOnce(&mut Batch)) -> Result<(), Refused> {
        let mut state = self.state.lock();
        if state.is_finished {
            return Err(Refused::Finished);
        }
        let before = state.batch.mark();
        encode(&mut state.batch);
        let added = state.batch.bytes() - before.bytes;
        let bytes = self.bytes();
        // One answer may be larger than the bound when nothing else waits.
        if bytes > 0 && bytes + added > self.bytes_max {
            state.batch.cut(&before);
            return Err(Refused::Full { bytes });
        }
        self.bytes.fetch_add(added, Ordering::SeqCst);
        state.batch.frames += 1;
        Ok(())
    }

    /// Takes nothing more in; what waits is still written.
    pub(crate) fn finish(&self) {
        self.state.lock().is_finished = true;
    }

    fn bytes(&self) -> usize {
        self.bytes.load(Ordering::SeqCst)
    }

    /// Whether nothing waits or is being written.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes() == 0
    }

    /// Whether so much waits that who asks for more should be heard later.
    pub(crate) fn is_crowded(&self) -> bool {
        self.bytes() > self.bytes_max / CROWDED_PART
    }

    /// Whether nothing waits or is being written and nothing more will.
    pub(crate) fn is_done(&self) -> bool {
        let state = self.state.lock();
        state.is_finished && self.is_empty()
    }

    /// Gives all that waits for an empty `batch`.
    pub(crate) fn take(&self, batch: &mut Batch) {
        let mut state = self.state.lock();
        if !state.batch.is_empty() {
            std::mem::swap(&mut state.batch, batch);
        }
    }

    /// So many bytes of what was taken have left.
    pub(crate) fn left(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::SeqCst);
    }
}

/// Frames that leave together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    copied: BytesMut,
    /// The pieces between the copied bytes, each with the place in `copied` that it follows.
    shared: Vec<(usize, Bytes)>,
    shared_bytes: usize,
    frames: usize,
    /// Bytes at the front that have left.
    written: usize,
}

struct Mark {
    copied: usize,
    shared: usize,
    shared_bytes: usize,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, chunk: &Bytes) {
        if chunk.len() <= COPY_BYTES_MAX {
            self.copied.extend_from_slice(chunk);
        } else {
            self.shared.push((self.copied.len(), chunk.clone()));
            self.shared_bytes += chunk.len();
        }
    }

    fn mark(&self) -> Mark {
        Mark {
            copied: self.copied.len(),
            shared: self.shared.len(),
            shared_bytes: self.shared_bytes,
            bytes: self.bytes(),
        }
    }

    fn cut(&mut self, mark: &Mark) {
        self.copied.truncate(mark.copied);
        self.shared.truncate(mark.shared);
        self.shared_bytes = mark.shared_bytes;
    }

    fn bytes(&self) -> usize {
        self.copied.len() + self.shared_bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes() == 0
    }

    pub(crate) fn frames(&self) -> usize {
        self.frames
    }

    /// Calls `write` with what has not left yet, as far as one call can take it.
    pub(crate) fn with_slices<R>(&self, write: impl FnOnce(&[IoSlice<'_>]) -> R) -> R {
        if self.shared.is_empty() {
            let rest = self.copied.get(self.written..).unwrap_or_default();
            return write(&[IoSlice::new(rest)]);
        }
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut places = slices.iter_mut();
        let mut skip = self.written;
        let mut used = 0;
        let mut from = 0;
        let ends = self.shared.iter().map(|(at, _)| *at);
        let ends = ends.chain([self.copied.len()]);
        let pieces = self.shared.iter().map(|(_, piece)| &piece[..]);
        for (end, piece) in ends.zip(pieces.chain([&[][..]])) {
            let copied = self.copied.get(from..end).unwrap_or_default();
            from = end;
            for bytes in [copied, piece] {
                let rest = bytes.get(skip..).unwrap_or_default();
                skip = skip.saturating_sub(bytes.len());
                if rest.is_empty() {
                    continue;
                }
                let Some(place) = places.next() else { break };
                *place = IoSlice::new(rest);
                used += 1;
            }
        }
        write(slices.get(..used).unwrap_or_default())
    }

    /// So many more bytes have left; says whether that is all, and is empty then.
    pub(crate) fn wrote(&mut self, bytes: usize) -> bool {
        self.written += bytes;
        if self.written < self.bytes() {
            return false;
        }
        let mut copied = std::mem::take(&mut self.copied);
        copied.clear();
        let mut shared = std::mem::take(&mut self.shared);
        shared.clear();
        *self = Self::default();
        if copied.capacity() <= KEPT_BYTES_MAX {
            self.copied = copied;
        }
        self.shared = shared;
        true
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;

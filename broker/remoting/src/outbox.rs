//! What waits to be written to a connection, and how it leaves: all that waits goes out in one vectored write.
//!
//! Whoever has an answer puts it in from any thread and goes on; only the first of several wakes the connection. Heads and
//! small bodies are copied side by side into one buffer, large body pieces stay where they are.

use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use rocket_protocol::{Command, frame};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::stats::{Stats, count};

/// Body pieces up to this many bytes are cheaper to copy than to name in a vector.
const COPY_BYTES_MAX: usize = 1024;
/// A head's size is known only when it is encoded; this stands for it in the bound, with its texts on top.
const HEAD_BYTES: usize = 256;
/// A buffer that once grew beyond this is not kept.
const KEPT_BYTES_MAX: usize = 256 << 10;

#[derive(Debug)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    wake: Notify,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct State {
    queue: Vec<Command>,
    /// Waiting and being written.
    bytes: usize,
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
            wake: Notify::new(),
            bytes_max,
        }
    }

    pub(crate) fn push(&self, command: Command) -> Result<(), Refused> {
        let cost = cost(&command);
        let mut state = self.state.lock();
        if state.is_finished {
            return Err(Refused::Finished);
        }
        if state.bytes > 0 && state.bytes + cost > self.bytes_max {
            return Err(Refused::Full { bytes: state.bytes });
        }
        state.bytes += cost;
        let is_first = state.queue.is_empty();
        state.queue.push(command);
        drop(state);
        if is_first {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Takes nothing more in; what waits is still written.
    pub(crate) fn finish(&self) {
        self.state.lock().is_finished = true;
        self.wake.notify_one();
    }

    /// Writes until the outbox is finished and empty.
    ///
    /// # Errors
    /// What the socket says, or `TimedOut` when a write makes no progress for `stall`.
    pub(crate) async fn write_all(
        &self,
        socket: &mut (impl AsyncWrite + Unpin),
        stall: Duration,
        stats: &Stats,
        mut on_progress: impl FnMut(),
    ) -> io::Result<()> {
        let mut batch = Batch::default();
        while self.next(&mut batch.commands).await {
            let bytes = batch.commands.iter().map(cost).sum::<usize>();
            count(&stats.frames_out, batch.commands.len());
            batch.assemble();
            batch.write(socket, stall, stats, &mut on_progress).await?;
            self.state.lock().bytes -= bytes;
        }
        Ok(())
    }

    /// Waits for something to write and takes all of it. `false`: finished and empty.
    async fn next(&self, commands: &mut Vec<Command>) -> bool {
        loop {
            {
                let mut state = self.state.lock();
                if !state.queue.is_empty() {
                    std::mem::swap(&mut state.queue, commands);
                    return true;
                }
                if state.is_finished {
                    return false;
                }
            }
            self.wake.notified().await;
        }
    }
}

fn cost(command: &Command) -> usize {
    let remark = command
        .remark
        .as_ref()
        .map_or(0, |remark| remark.as_bytes().len());
    HEAD_BYTES + remark + command.body.len()
}

/// What goes out in one write.
#[derive(Default)]
struct Batch {
    commands: Vec<Command>,
    copied: BytesMut,
    parts: Vec<Part>,
}

enum Part {
    /// Up to here in the buffer of copied bytes.
    CopiedTo(usize),
    Shared(Bytes),
}

impl Batch {
    fn assemble(&mut self) {
        for command in self.commands.drain(..) {
            frame::encode_head(&command, &mut self.copied);
            for chunk in command.body.chunks() {
                if chunk.len() <= COPY_BYTES_MAX {
                    self.copied.extend_from_slice(chunk);
                } else {
                    self.parts.push(Part::CopiedTo(self.copied.len()));
                    self.parts.push(Part::Shared(chunk.clone()));
                }
            }
        }
        self.parts.push(Part::CopiedTo(self.copied.len()));
    }

    async fn write(
        &mut self,
        socket: &mut (impl AsyncWrite + Unpin),
        stall: Duration,
        stats: &Stats,
        on_progress: &mut impl FnMut(),
    ) -> io::Result<()> {
        let mut slices = Vec::with_capacity(self.parts.len());
        let mut from = 0;
        for part in &self.parts {
            let bytes = match part {
                Part::CopiedTo(to) => {
                    let bytes = self.copied.get(from..*to).unwrap_or_default();
                    from = *to;
                    bytes
                }
                Part::Shared(bytes) => bytes,
            };
            if !bytes.is_empty() {
                slices.push(IoSlice::new(bytes));
            }
        }
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            let written = timeout(stall, socket.write_vectored(rest))
                .await
                .map_err(|_| io::ErrorKind::TimedOut)??;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            count(&stats.writes, 1);
            count(&stats.bytes_out, written);
            on_progress();
            IoSlice::advance_slices(&mut rest, written);
        }
        self.parts.clear();
        self.copied.clear();
        if self.copied.capacity() > KEPT_BYTES_MAX {
            self.copied = BytesMut::new();
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;

//! The reading half of a connection: reads what is there, and serves all whole frames of it where they lie.
//!
//! All connections that a thread drives read into one buffer of that thread, so a connection that is silent keeps none.
//! What it keeps between two reads is half a frame, for which it needs room ([`crate::room`]), or frames that a bound holds back.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rocket_protocol::frame::{self, FrameError, FrameView};
use rocket_protocol::{Command, ResponseCode};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;

use crate::connection::Connection;
use crate::processor::{Processor, RawRequest};
use crate::reply::Reply;
use crate::room::{Place, SMALL_BYTES};
use crate::stats::count;

/// Bytes that a read asks for at most.
const READ_BYTES_MAX: usize = 256 << 10;
/// Frames that are served in a row before what they answered is written.
const FRAMES_MAX: usize = 256;
/// Room that a connection keeps for half frames; beyond, it is given back when it is empty.
const KEPT_BYTES_MAX: usize = 8 << 10;

thread_local! {
    /// Pages of it that no read ever reached cost nothing.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES_MAX]);
}

/// Why reading ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The peer closed the connection or it broke.
    Gone(Option<io::Error>),
    /// Not a frame.
    BadFrame(FrameError),
}

pub(crate) struct Incoming<'a, R> {
    socket: R,
    connection: &'a Connection,
    processor: &'a dyn Processor,
    /// Received and not served.
    kept: Vec<u8>,
    /// Whether a bound holds back what is kept.
    is_held: bool,
    /// Room for the half frame that is kept.
    place: Place,
    /// Frames served so far.
    pub(crate) frames: u64,
    pub(crate) last_read: Instant,
    /// When the frame that is not whole yet began.
    pub(crate) frame_since: Option<Instant>,
}

impl<'a, R: AsyncRead + Unpin> Incoming<'a, R> {
    pub(crate) fn new(
        socket: R,
        connection: &'a Connection,
        processor: &'a dyn Processor,
        now: Instant,
    ) -> Self {
        Self {
            socket,
            connection,
            processor,
            kept: Vec::new(),
            is_held: false,
            place: Place::of(&connection.0.shared.room),
            frames: 0,
            last_read: now,
            frame_since: None,
        }
    }

    /// Whether a bound holds back what was received.
    pub(crate) fn is_held(&self) -> bool {
        self.is_held
    }

    /// Whether a half frame waits for room, so that nothing is read.
    pub(crate) fn waits_for_room(&self) -> bool {
        self.place.is_waiting()
    }

    /// The socket alone: nothing is kept any more, and no room.
    pub(crate) fn into_socket(self) -> R {
        self.socket
    }

    /// Whether what was held back may be served now.
    pub(crate) fn could_go_on(&self) -> bool {
        self.is_held && self.has_room()
    }

    /// One read, and all that it completes is served; `false`: there is nothing to be read, and the socket will wake the task,
    /// or what was read is held back, and an ended request or the peer that reads answers will, or it waits for room, and who
    /// leaves some will.
    pub(crate) fn poll_serve(
        &mut self,
        context: &mut Context<'_>,
        mut now: impl FnMut() -> Instant,
    ) -> Result<bool, End> {
        if self.is_held {
            if !self.has_room() {
                return Ok(false);
            }
            self.connection.0.watch_requests(false);
            self.serve_kept(now())?;
            return Ok(true);
        }
        let limits = &self.connection.0.limits.frame;
        let missing = frame::missing_bytes(&self.kept, limits).unwrap_or(0);
        let whole = self.kept.len() + missing;
        if !self.has_place(context, whole) {
            return Ok(false);
        }
        let asked = self.asked_bytes(missing);
        if whole > READ_BYTES_MAX {
            return self.read_large(context, asked, now);
        }
        BUFFER.with_borrow_mut(|buffer| {
            let begun = self.kept.len();
            let end = buffer.len().min(begun + asked);
            let Some(room) = buffer.get_mut(begun..end) else {
                return Ok(false);
            };
            let Some(len) = self.poll_read(context, room)? else {
                return Ok(false);
            };
            if let Some(front) = buffer.get_mut(..begun) {
                front.copy_from_slice(&self.kept);
            }
            self.kept.clear();
            let all = buffer.get(..begun + len).unwrap_or_default();
            let served = self.serve(all, now())?;
            let rest = all.get(served..).unwrap_or_default();
            self.keep(rest);
            Ok(true)
        })
    }

    /// Whether there is room for the half frame that is kept, of which there will be `whole` bytes.
    fn has_place(&mut self, context: &mut Context<'_>, whole: usize) -> bool {
        let was_waiting = self.place.is_waiting();
        let has_place = self.place.poll_take(context, whole);
        if !has_place && !was_waiting {
            count(&self.connection.0.shared.stats.frames_delayed, 1);
        }
        has_place
    }

    /// How much to read when the frame that is kept misses so many bytes. Where room is scarce nothing is read beyond it that
    /// might need some.
    fn asked_bytes(&self, missing: usize) -> usize {
        if !self.place.is_scarce() {
            return READ_BYTES_MAX;
        }
        let small = SMALL_BYTES.saturating_sub(self.kept.len());
        // Nothing asked for looks like the end of the stream.
        missing.max(small).clamp(1, READ_BYTES_MAX)
    }

    /// Goes on with a frame that is larger than the thread's buffer: it gathers where it is kept, which grows only with what
    /// the peer has sent.
    fn read_large(
        &mut self,
        context: &mut Context<'_>,
        asked: usize,
        mut now: impl FnMut() -> Instant,
    ) -> Result<bool, End> {
        let mut kept = std::mem::take(&mut self.kept);
        let begun = kept.len();
        kept.resize(begun + asked, 0);
        let read = self.poll_read(context, kept.get_mut(begun..).unwrap_or_default());
        kept.truncate(begun + read.as_ref().ok().copied().flatten().unwrap_or(0));
        self.kept = kept;
        if read?.is_none() {
            return Ok(false);
        }
        self.serve_kept(now())?;
        Ok(true)
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        room: &mut [u8],
    ) -> Result<Option<usize>, End> {
        let mut room = ReadBuf::new(room);
        match Pin::new(&mut self.socket).poll_read(context, &mut room) {
            Poll::Pending => Ok(None),
            Poll::Ready(Err(error)) => Err(End::Gone(Some(error))),
            Poll::Ready(Ok(())) if room.filled().is_empty() => Err(End::Gone(None)),
            Poll::Ready(Ok(())) => {
                let stats = &self.connection.0.shared.stats;
                count(&stats.reads, 1);
                count(&stats.bytes_in, room.filled().len());
                Ok(Some(room.filled().len()))
            }
        }
    }

    fn serve_kept(&mut self, now: Instant) -> Result<(), End> {
        let mut kept = std::mem::take(&mut self.kept);
        let served = self.serve(&kept, now)?;
        kept.drain(..served);
        if !kept.is_empty() || kept.capacity() <= KEPT_BYTES_MAX {
            self.kept = kept;
        }
        Ok(())
    }

    fn keep(&mut self, rest: &[u8]) {
        if rest.is_empty() && self.kept.capacity() > KEPT_BYTES_MAX {
            self.kept = Vec::new();
        }
        self.kept.extend_from_slice(rest);
    }

    /// Serves the whole frames of `bytes` as far as the bounds allow; says how many bytes they had.
    fn serve(&mut self, bytes: &[u8], now: Instant) -> Result<usize, End> {
        let inner = &self.connection.0;
        self.last_read = now;
        self.is_held = false;
        let (mut served, mut frames) = (0, 0);
        let ended = loop {
            let rest = bytes.get(served..).unwrap_or_default();
            let frame = match frame::view(rest, &inner.limits.frame) {
                Ok(Some(frame)) => frame,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            served += frame.len();
            frames += 1;
            // Before it is served: who has an answer must find its frame counted.
            count(&inner.shared.stats.frames_in, 1);
            if let Err(error) = self.serve_frame(frame, now) {
                break Err(error);
            }
            if !self.has_room() {
                self.is_held = true;
                break Ok(());
            }
            if frames == FRAMES_MAX {
                self.is_held = served < bytes.len();
                break Ok(());
            }
        };
        if frames > 0 {
            self.frames += frames as u64;
            self.place.give_back();
            self.processor.served(self.connection);
            self.frame_since = None;
        }
        ended.map_err(End::BadFrame)?;
        if served == bytes.len() || self.is_held {
            self.frame_since = None;
        } else if self.frame_since.is_none() {
            self.frame_since = Some(now);
        }
        Ok(served)
    }

    fn serve_frame(&self, frame: FrameView<'_>, now: Instant) -> Result<(), FrameError> {
        let inner = &self.connection.0;
        let is_busy = inner.open_requests() >= inner.limits.inflight_max;
        if !is_busy {
            let raw = RawRequest::new(frame, self.connection, now.into_std());
            if self.processor.process_in_place(raw).is_ok() {
                return Ok(());
            }
        }
        let command = frame.to_command(&inner.limits.frame)?;
        if command.is_response() {
            inner.calls.answer(command);
            return Ok(());
        }
        let reply = Reply::new(
            Arc::clone(inner),
            command.opaque,
            command.format,
            command.is_oneway(),
            frame.len(),
        );
        if is_busy {
            count(&inner.shared.stats.requests_refused, 1);
            let remark = "[OVERLOAD]system busy, too many open requests on this connection";
            reply.send(Command::response(ResponseCode::SYSTEM_BUSY).with_remark(remark));
        } else {
            self.processor.process(self.connection, command, reply);
        }
        Ok(())
    }

    /// Whether another request may be opened. When not, an ended one rings; or answers wait that this task writes itself.
    fn has_room(&self) -> bool {
        let inner = &self.connection.0;
        if inner.outbox.is_crowded() {
            return false;
        }
        let has_room = || inner.open_request_bytes() <= inner.limits.inflight_bytes_max;
        has_room() || {
            inner.watch_requests(true);
            has_room()
        }
    }
}

#[cfg(test)]
#[path = "incoming_tests.rs"]
mod tests;

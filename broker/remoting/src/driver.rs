//! The life of one connection: a task that reads and serves frames and writes what waits, until either side ends it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rocket_protocol::frame::{self, FrameError};
use rocket_protocol::{Command, ResponseCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::ReadHalf;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::connection::{Connection, Inner};
use crate::processor::Processor;
use crate::reply::Reply;
use crate::stats::count;

/// Reads ask for between these many bytes: a frame that is kept (a parked pull) keeps the whole piece that it came in, so
/// the piece grows only while the peer fills it.
const READ_BYTES_MIN: usize = 4 << 10;
const READ_BYTES_MAX: usize = 256 << 10;

/// How long a peer that was told the end may go on sending.
const LINGER: Duration = Duration::from_millis(500);

/// Why reading ended.
enum End {
    /// The peer closed the connection or it broke.
    Gone(Option<io::Error>),
    /// Silence for too long.
    Idle,
    /// A frame that began and did not end.
    HalfFrame,
    /// Not a frame.
    BadFrame(FrameError),
    /// This side was asked to stop.
    Draining,
}

/// Serves a connection to its end. `draining`: stop reading, answer what is open, close.
pub(crate) async fn run(
    mut stream: TcpStream,
    inner: Arc<Inner>,
    processor: Arc<dyn Processor>,
    draining: CancellationToken,
) {
    let connection = Connection(inner);
    let inner = &connection.0;
    let _closed = Closed {
        connection: &connection,
        processor: &*processor,
    };
    count(&inner.shared.stats.connections_total, 1);
    count(&inner.shared.stats.connections_open, 1);
    processor.opened(&connection);
    let (read_half, mut write_half) = stream.split();
    let written = CancellationToken::new();
    let reading = async {
        let mut reader = Reader::new(read_half, &connection, &*processor);
        let end = reader.read(&draining).await;
        if finish(inner, end).await == Rest::Written {
            reader.discard(&written).await;
        }
        inner.closing.cancel();
    };
    let writing = async {
        let stats = &inner.shared.stats;
        let result = inner
            .outbox
            .write_all(&mut write_half, inner.limits.write_timeout, stats, || {
                inner.wrote();
            })
            .await;
        match result {
            // The peer may still be sending: were the socket closed now, that would make the kernel reset the
            // connection and take the last answers away. So it is told the end, and its bytes are read into nothing.
            Ok(()) if write_half.shutdown().await.is_ok() => written.cancel(),
            Ok(()) => inner.closing.cancel(),
            Err(error) => {
                if error.kind() == io::ErrorKind::TimedOut {
                    count(&stats.slow_readers, 1);
                    if let Some(suppressed) = inner.shared.slow_reader_log.admit() {
                        let peer = inner.peer;
                        tracing::warn!(%peer, suppressed, "closed a connection whose peer took nothing in time");
                    }
                } else {
                    tracing::debug!(peer = %inner.peer, %error, "cannot write");
                }
                // Nothing can be said any more, so nothing needs to be heard.
                inner.closing.cancel();
            }
        }
    };
    let both = async { tokio::join!(reading, writing) };
    inner.closing.run_until_cancelled(both).await;
}

/// Runs also when the processor panics.
struct Closed<'a> {
    connection: &'a Connection,
    processor: &'a dyn Processor,
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        let inner = &self.connection.0;
        inner.closing.cancel();
        inner.outbox.finish();
        inner.calls.close();
        inner
            .shared
            .stats
            .connections_open
            .fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        self.processor.closed(self.connection);
    }
}

/// What becomes of the answers that wait when reading has ended.
#[derive(PartialEq, Eq)]
enum Rest {
    Written,
    Lost,
}

/// After the last frame was read: decides what is still written.
async fn finish(inner: &Inner, end: End) -> Rest {
    let shared = &inner.shared;
    match end {
        End::Gone(error) => {
            if let Some(error) = error {
                tracing::debug!(peer = %inner.peer, %error, "cannot read");
            }
            Rest::Lost
        }
        End::Idle => {
            tracing::debug!(peer = %inner.peer, "closed an idle connection");
            Rest::Lost
        }
        End::HalfFrame => {
            if let Some(suppressed) = shared.timeout_log.admit() {
                tracing::warn!(peer = %inner.peer, suppressed, "closed a connection that did not end its frame in time");
            }
            Rest::Lost
        }
        End::BadFrame(error) => {
            count(&shared.stats.bad_frames, 1);
            if let Some(suppressed) = shared.bad_frame_log.admit() {
                tracing::warn!(peer = %inner.peer, rule = %error, suppressed, "closed a connection for a bad frame");
            }
            answer_bad_frame(inner, &error);
            inner.outbox.finish();
            Rest::Written
        }
        End::Draining => {
            let answered = async {
                while inner.open_requests() + inner.parked_requests() > 0 {
                    inner.request_ended.notified().await;
                }
            };
            if timeout(inner.limits.drain_timeout, answered).await.is_err() {
                tracing::debug!(peer = %inner.peer, open = inner.open_requests(), "closed with requests unanswered");
            }
            inner.outbox.finish();
            Rest::Written
        }
    }
}

/// A request whose header was whole but broken still gets its answer.
fn answer_bad_frame(inner: &Inner, error: &FrameError) {
    let Some(salvage) = error.salvage else { return };
    let mut broken = Command::response(ResponseCode::SYSTEM_ERROR);
    broken.flag = salvage.flag;
    if broken.is_response() || broken.is_oneway() {
        return;
    }
    let mut response = Command::response(ResponseCode::SYSTEM_ERROR).with_remark(error.to_string());
    response.set_response_to(salvage.opaque, salvage.format);
    // The connection ends anyway.
    let _ = inner.enqueue(response);
}

struct Reader<'a> {
    socket: ReadHalf<'a>,
    connection: &'a Connection,
    processor: &'a dyn Processor,
    buffer: BytesMut,
    read_bytes: usize,
    last_read: Instant,
    /// When the frame that is not whole yet began.
    frame_since: Option<Instant>,
}

impl<'a> Reader<'a> {
    fn new(socket: ReadHalf<'a>, connection: &'a Connection, processor: &'a dyn Processor) -> Self {
        Self {
            socket,
            connection,
            processor,
            buffer: BytesMut::new(),
            read_bytes: READ_BYTES_MIN,
            last_read: Instant::now(),
            frame_since: None,
        }
    }

    async fn read(&mut self, draining: &CancellationToken) -> End {
        // One timer for the connection's life: it is moved when it fires too early, not at each read.
        let timer = sleep_until(self.deadline());
        tokio::pin!(timer);
        loop {
            tokio::select! {
                biased;
                () = draining.cancelled() => return End::Draining,
                served = self.serve_buffered() => if let Err(error) = served {
                    return End::BadFrame(error);
                },
            }
            self.make_room();
            let deadline = self.deadline();
            if timer.deadline() > deadline {
                timer.as_mut().reset(deadline);
            }
            tokio::select! {
                biased;
                () = draining.cancelled() => return End::Draining,
                read = self.socket.read_buf(&mut self.buffer) => match read {
                    Ok(0) => return End::Gone(None),
                    Ok(len) => self.took(len),
                    Err(error) => return End::Gone(Some(error)),
                },
                () = &mut timer => {
                    let deadline = self.deadline();
                    if deadline <= Instant::now() {
                        return if self.frame_since.is_some() { End::HalfFrame } else { End::Idle };
                    }
                    timer.as_mut().reset(deadline);
                }
            }
        }
    }

    /// Reads into nothing until the peer has taken note of the end, but not for long.
    async fn discard(&mut self, written: &CancellationToken) {
        let lingered = async {
            let writing = written.cancelled();
            if timeout(self.connection.0.limits.drain_timeout, writing)
                .await
                .is_ok()
            {
                tokio::time::sleep(LINGER).await;
            }
        };
        tokio::pin!(lingered);
        loop {
            self.buffer.clear();
            self.buffer.reserve(READ_BYTES_MIN);
            tokio::select! {
                () = &mut lingered => return,
                read = self.socket.read_buf(&mut self.buffer) => if read.unwrap_or(0) == 0 {
                    // The peer has closed its side and may still read ours.
                    let _ = timeout(self.connection.0.limits.drain_timeout, written.cancelled()).await;
                    return;
                },
            }
        }
    }

    /// When silence has lasted too long, unless something happens before.
    fn deadline(&self) -> Instant {
        let limits = &self.connection.0.limits;
        match self.frame_since {
            Some(since) => since + limits.frame_timeout,
            None => self.last_read.max(self.connection.0.last_write()) + limits.idle_timeout,
        }
    }

    fn took(&mut self, len: usize) {
        count(&self.connection.0.shared.stats.bytes_in, len);
        self.last_read = Instant::now();
        if len >= self.read_bytes {
            self.read_bytes = (self.read_bytes * 2).min(READ_BYTES_MAX);
        } else if len < self.read_bytes / 4 {
            self.read_bytes = (self.read_bytes / 2).max(READ_BYTES_MIN);
        }
    }

    /// Room for the next read: at most as much again as the peer has already sent of its frame.
    fn make_room(&mut self) {
        let missing =
            frame::missing_bytes(&self.buffer, &self.connection.0.limits.frame).unwrap_or(0);
        let wanted = missing.min(self.buffer.len()).max(self.read_bytes);
        if self.buffer.capacity() - self.buffer.len() < wanted.min(READ_BYTES_MIN) {
            self.buffer.reserve(wanted);
        }
    }

    /// Serves all whole frames of the buffer.
    async fn serve_buffered(&mut self) -> Result<(), FrameError> {
        let inner = &self.connection.0;
        loop {
            let before = self.buffer.len();
            let Some(command) = frame::decode(&mut self.buffer, &inner.limits.frame)? else {
                break;
            };
            self.frame_since = None;
            count(&inner.shared.stats.frames_in, 1);
            self.serve(command, before - self.buffer.len());
            while inner.open_request_bytes() > inner.limits.inflight_bytes_max {
                inner.request_ended.notified().await;
            }
            tokio::task::coop::consume_budget().await;
        }
        if self.buffer.is_empty() {
            self.frame_since = None;
        } else {
            self.frame_since.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    fn serve(&self, command: Command, bytes: usize) {
        let inner = &self.connection.0;
        if command.is_response() {
            inner.calls.answer(command);
            return;
        }
        let is_busy = inner.open_requests() >= inner.limits.inflight_max;
        inner.begin_request(bytes);
        let reply = Reply::new(Arc::clone(inner), &command, bytes);
        if is_busy {
            count(&inner.shared.stats.requests_refused, 1);
            let remark = "[OVERLOAD]system busy, too many open requests on this connection";
            reply.send(Command::response(ResponseCode::SYSTEM_BUSY).with_remark(remark));
        } else {
            self.processor.process(self.connection, command, reply);
        }
    }
}

/// Sets what every socket of ours has.
pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)
}

/// How long a listener rests after it could not accept, so that a full table of files does not become a busy loop.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

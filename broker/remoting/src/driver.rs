//! The life of one connection: a task that reads and serves frames and writes what waits, until either side ends it.
//!
//! While it serves, the task is one poll function over plain values: what a read brought is served, what that answered is
//! written, and only then the task sleeps. Timers and the wish to stop are looked at when nothing else happened.

use std::future::Future as _;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use crate::bell;
use crate::connection::{Connection, Inner};
use crate::ending::{self, Why};
use crate::incoming::{self, Incoming};
use crate::outgoing::{Outgoing, SharedSocket, Wrote};
use crate::processor::Processor;
use crate::stats::count;

/// Reads and writes that a task does in a row before others have their turn.
const ROUNDS_MAX: usize = 8;
/// Frames that a task serves before others have their turn; a round may go beyond by its own bound.
const FRAMES_PER_TURN: u64 = 256;

/// Serves a connection to its end. `draining`: stop reading, answer what is open, close.
pub(crate) async fn run(
    stream: TcpStream,
    inner: Arc<Inner>,
    processor: Arc<dyn Processor>,
    draining: CancellationToken,
) {
    let connection = Connection(inner);
    let inner = &connection.0;
    let _first = inner.draining.set(draining.clone());
    let _closed = Closed {
        connection: &connection,
        processor: &*processor,
    };
    count(&inner.shared.stats.connections_total, 1);
    count(&inner.shared.stats.connections_open, 1);
    processor.opened(&connection);
    let (read_half, write_half) = stream.into_split();
    *inner.socket.lock() = Some(write_half);
    let mut incoming = Incoming::new(read_half, &connection, &*processor, Instant::now());
    let mut outgoing = Outgoing::new(SharedSocket(inner), inner);
    let why = serve(inner, &mut incoming, &mut outgoing, &draining).await;
    let mut socket = incoming.into_socket();
    ending::end(inner, &mut socket, &mut outgoing, why).await;
}

/// Runs also when the processor panics.
struct Closed<'a> {
    connection: &'a Connection,
    processor: &'a dyn Processor,
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        let inner = &self.connection.0;
        inner.close();
        inner.outbox.finish();
        if let Some(socket) = inner.socket.lock().take() {
            // Closed as a whole, now that the reading half is gone too.
            socket.forget();
        }
        inner.calls.close();
        inner
            .shared
            .stats
            .connections_open
            .fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        self.processor.closed(self.connection);
    }
}

/// Reads, serves and writes until there is a reason to stop.
async fn serve<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    inner: &Inner,
    incoming: &mut Incoming<'_, R>,
    outgoing: &mut Outgoing<'_, W>,
    draining: &CancellationToken,
) -> Why {
    let mut timer = pin!(sleep_until(incoming.last_read + inner.limits.idle_timeout));
    let mut cancelled = pin!(draining.cancelled());
    let mut driver = Driver {
        inner,
        incoming,
        outgoing,
        draining,
        is_new: true,
    };
    std::future::poll_fn(|context| driver.poll(context, timer.as_mut(), cancelled.as_mut())).await
}

struct Driver<'a, 'r, 'w, R, W> {
    inner: &'a Inner,
    incoming: &'a mut Incoming<'r, R>,
    outgoing: &'a mut Outgoing<'w, W>,
    draining: &'a CancellationToken,
    /// Timer and cancellation do not know the task yet.
    is_new: bool,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Driver<'_, '_, '_, R, W> {
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        mut timer: Pin<&mut Sleep>,
        mut cancelled: Pin<&mut WaitForCancellationFuture<'_>>,
    ) -> Poll<Why> {
        self.inner.bell.awake();
        let mut time = None;
        // The first read of the clock is good enough for all of one poll.
        let mut now = || *time.get_or_insert_with(Instant::now);
        // A cancellation that comes later wakes the task again.
        if self.draining.is_cancelled() {
            return Poll::Ready(Why::Draining);
        }
        let turn_ends = self.incoming.frames + FRAMES_PER_TURN;
        for _ in 0..ROUNDS_MAX {
            if self.incoming.frames >= turn_ends {
                break;
            }
            if !self.inner.is_open() {
                return Poll::Ready(Why::Closed);
            }
            let took = match self.incoming.poll_serve(context, &mut now) {
                Ok(took) => took,
                Err(end) => return Poll::Ready(end.into()),
            };
            let wrote = match self.outgoing.poll_write(context, &mut now) {
                Ok(wrote) => wrote,
                Err(error) => return Poll::Ready(Why::CannotWrite(error)),
            };
            if took || wrote == Wrote::Some {
                continue;
            }
            if self.is_new && cancelled.as_mut().poll(context).is_ready() {
                return Poll::Ready(Why::Draining);
            }
            if let Poll::Ready(why) = self.poll_timer(context, timer.as_mut()) {
                return Poll::Ready(why);
            }
            self.is_new = false;
            if self.sleeps(context, wrote) {
                return Poll::Pending;
            }
            self.inner.bell.awake();
        }
        poll_again_later(context);
        Poll::Pending
    }

    /// Goes to sleep, unless something happened meanwhile.
    fn sleeps(&self, context: &Context<'_>, wrote: Wrote) -> bool {
        let inner = self.inner;
        let sleep = match wrote {
            Wrote::Blocked => bell::Sleep::Blocked,
            Wrote::Nothing | Wrote::Some => bell::Sleep::Idle,
        };
        inner.bell.sleep(context.waker(), sleep);
        let has_news = (sleep == bell::Sleep::Idle && !inner.outbox.is_empty())
            || !inner.is_open()
            || self.incoming.could_go_on();
        !has_news
    }

    /// One timer for the connection's life: it is moved when it would fire too late, and looked at when it fired.
    fn poll_timer(&self, context: &mut Context<'_>, mut timer: Pin<&mut Sleep>) -> Poll<Why> {
        let (deadline, why) = self.deadline();
        let is_late = timer.deadline() > deadline;
        if is_late {
            timer.as_mut().reset(deadline);
        }
        if !(is_late || self.is_new || timer.is_elapsed()) {
            return Poll::Pending;
        }
        while timer.as_mut().poll(context).is_ready() {
            if deadline <= Instant::now() {
                return Poll::Ready(why);
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    /// When the connection is given up unless something happens before, and why.
    fn deadline(&self) -> (Instant, Why) {
        let limits = &self.inner.limits;
        let read = match self.incoming.frame_since {
            Some(since) if self.incoming.waits_for_room() => {
                (since + limits.frame_timeout, Why::NoRoom)
            }
            Some(since) => (since + limits.frame_timeout, Why::HalfFrame),
            // It is this side that does not read.
            None if self.incoming.is_held() => (Instant::now() + limits.idle_timeout, Why::Idle),
            None => {
                let last = self.incoming.last_read.max(self.outgoing.last_write);
                (last + limits.idle_timeout, Why::Idle)
            }
        };
        match self.outgoing.blocked_since {
            Some(since) if since + limits.write_timeout < read.0 => (
                since + limits.write_timeout,
                Why::CannotWrite(io::ErrorKind::TimedOut.into()),
            ),
            _ => read,
        }
    }
}

/// Has the task polled again, though not at once: the runtime looks first at what the other sockets have, so that one that
/// never runs dry does not keep it from hearing of them.
fn poll_again_later(context: &mut Context<'_>) {
    // Its first poll asks the runtime for just that, and is not ready.
    let turn = pin!(tokio::task::yield_now());
    if turn.poll(context).is_ready() {
        context.waker().wake_by_ref();
    }
}

impl From<incoming::End> for Why {
    fn from(end: incoming::End) -> Self {
        match end {
            incoming::End::Gone(error) => Self::Gone(error),
            incoming::End::BadFrame(error) => Self::BadFrame(error),
        }
    }
}

/// Sets what every socket of ours has.
pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)
}

/// How long a listener rests after it could not accept, so that a full table of files does not become a busy loop.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use bytes::BytesMut;
    use rocket_protocol::{Command, RequestCode, frame};
    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::NoRequests;
    use crate::config::ConnectionLimits;
    use crate::connection::Shared;
    use crate::room::Room;

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_finds_no_room_in_time_is_given_up() {
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let shared = Arc::new(Shared {
            room: Room::new(1 << 20),
            ..Shared::default()
        });
        let _all = shared.room.take_all().unwrap();
        let limits = ConnectionLimits::default();
        let inner = Inner::new(nowhere, nowhere, limits, Arc::clone(&shared));
        let connection = Connection(Arc::new(inner));
        let mut frame = BytesMut::new();
        let large = Command::request(RequestCode(1)).with_body(vec![1; 64 << 10]);
        frame::encode(&large, &mut frame);
        let (mut peer, socket) = tokio::io::duplex(1 << 20);
        peer.write_all(&frame).await.unwrap();
        let (reading, writing) = tokio::io::split(socket);
        let mut incoming = Incoming::new(reading, &connection, &NoRequests, Instant::now());
        let mut outgoing = Outgoing::new(writing, &connection.0);
        let never = CancellationToken::new();
        let why = serve(&connection.0, &mut incoming, &mut outgoing, &never).await;
        assert!(matches!(why, Why::NoRoom), "{why:?}");
        assert_eq!(shared.stats.snapshot().frames_delayed, 1);
    }
}

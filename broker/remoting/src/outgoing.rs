//! The writing half of a connection: takes what waits in the outbox and gives it to the socket. The connection's task does so,
//! and so does a thread that has just given answers ([`Inner::write_aside`]), one at a time.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::{Instant, timeout};

use crate::bell::Sleep;
use crate::connection::Inner;
use crate::outbox::Batch;
use crate::stats::count;

pub(crate) struct Outgoing<'a, W> {
    pub(crate) socket: W,
    inner: &'a Inner,
    /// The last time that this task wrote.
    pub(crate) last_write: Instant,
    /// Since when the socket takes nothing although something waits.
    pub(crate) blocked_since: Option<Instant>,
}

/// What a try to write came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrote {
    /// Nothing waits.
    Nothing,
    /// Bytes left; more may wait.
    Some,
    /// The socket takes no more now and will wake the task.
    Blocked,
}

impl<'a, W: AsyncWrite + Unpin> Outgoing<'a, W> {
    pub(crate) fn new(socket: W, inner: &'a Inner) -> Self {
        Self {
            socket,
            inner,
            last_write: Instant::now(),
            blocked_since: None,
        }
    }

    /// One write of all that waits. `now` reads the clock if it must.
    pub(crate) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        mut now: impl FnMut() -> Instant,
    ) -> io::Result<Wrote> {
        let mut batch = self.inner.departing.lock();
        if !self.inner.fill(&mut batch) {
            return Ok(Wrote::Nothing);
        }
        let socket = Pin::new(&mut self.socket);
        let written = batch.with_slices(|slices| match slices {
            [one] => socket.poll_write(context, one),
            slices => socket.poll_write_vectored(context, slices),
        });
        match written {
            Poll::Pending => {
                if self.blocked_since.is_none() {
                    self.blocked_since = Some(now());
                }
                Ok(Wrote::Blocked)
            }
            Poll::Ready(Ok(0)) => Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(Ok(bytes)) => {
                self.last_write = now();
                self.blocked_since = None;
                self.inner.wrote(&mut batch, bytes);
                Ok(Wrote::Some)
            }
            Poll::Ready(Err(error)) => Err(error),
        }
    }

    /// Writes until the outbox is finished and empty: for the end of a connection.
    ///
    /// # Errors
    /// What the socket says, or `TimedOut` when a write makes no progress in time.
    pub(crate) async fn write_rest(&mut self) -> io::Result<()> {
        loop {
            let patience = self.inner.limits.write_timeout;
            let step = std::future::poll_fn(|context| self.poll_step(context));
            let step = timeout(patience, step);
            match step.await.map_err(|_| io::ErrorKind::TimedOut)?? {
                Wrote::Some | Wrote::Blocked => {}
                Wrote::Nothing => {
                    if self.until_news().await {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn poll_step(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Wrote>> {
        match self.poll_write(context, Instant::now) {
            Ok(Wrote::Blocked) => Poll::Pending,
            wrote => Poll::Ready(wrote),
        }
    }

    /// Waits for something to write; `true`: there will be nothing more.
    async fn until_news(&self) -> bool {
        let (bell, outbox) = (&self.inner.bell, &self.inner.outbox);
        std::future::poll_fn(|context| {
            bell.sleep(context.waker(), Sleep::Idle);
            if outbox.is_done() {
                Poll::Ready(true)
            } else if outbox.is_empty() {
                Poll::Pending
            } else {
                Poll::Ready(false)
            }
        })
        .await
    }
}

impl Inner {
    /// Takes what waits if nothing is being written; `false`: there is nothing.
    fn fill(&self, batch: &mut Batch) -> bool {
        if batch.is_empty() {
            self.outbox.take(batch);
            count(&self.shared.stats.frames_out, batch.frames());
        }
        !batch.is_empty()
    }

    /// So many bytes have left; says whether the batch is done.
    fn wrote(&self, batch: &mut Batch, bytes: usize) -> bool {
        let stats = &self.shared.stats;
        count(&stats.writes, 1);
        count(&stats.bytes_out, bytes);
        self.outbox.left(bytes);
        batch.wrote(bytes)
    }

    /// One write of all that waits, by whatever thread, if the socket takes it. `false`: the connection's task has to go on,
    /// which also meets whatever went wrong.
    pub(crate) fn write_aside(&self) -> bool {
        // Held by the task only while it writes: then it is awake, and looks again before it sleeps.
        let Some(mut batch) = self.departing.try_lock() else {
            return false;
        };
        if !self.fill(&mut batch) {
            return true;
        }
        let socket = self.socket.lock();
        let Some(socket) = &*socket else { return false };
        let written = batch.with_slices(|slices| match slices {
            [one] => socket.try_write(one),
            slices => socket.try_write_vectored(slices),
        });
        matches!(written, Ok(bytes) if bytes > 0 && self.wrote(&mut batch, bytes))
    }
}

/// The socket as the connection's task writes to it.
pub(crate) struct SharedSocket<'a>(pub(crate) &'a Inner);

impl SharedSocket<'_> {
    fn with<R>(
        &self,
        work: impl FnOnce(Pin<&mut OwnedWriteHalf>) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        match &mut *self.0.socket.lock() {
            Some(socket) => work(Pin::new(socket)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl AsyncWrite for SharedSocket<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.with(|socket| socket.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.with(|socket| socket.poll_write_vectored(context, parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|socket| socket.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|socket| socket.poll_shutdown(context))
    }
}

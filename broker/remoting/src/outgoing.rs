//! The writing half of a connection: takes what waits in the outbox and gives it to the socket.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use tokio::time::{Instant, timeout};

use crate::bell::Sleep;
use crate::connection::Inner;
use crate::outbox::Batch;
use crate::stats::count;

pub(crate) struct Outgoing<'a, W> {
    pub(crate) socket: W,
    inner: &'a Inner,
    /// What is being written.
    batch: Batch,
    /// The last time that bytes left.
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
            batch: Batch::default(),
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
        if self.batch.is_empty() {
            self.inner.outbox.take(&mut self.batch);
            if self.batch.is_empty() {
                return Ok(Wrote::Nothing);
            }
            count(&self.inner.shared.stats.frames_out, self.batch.frames());
        }
        let socket = Pin::new(&mut self.socket);
        let written = self.batch.with_slices(|slices| match slices {
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
                let stats = &self.inner.shared.stats;
                count(&stats.writes, 1);
                count(&stats.bytes_out, bytes);
                self.last_write = now();
                self.blocked_since = None;
                self.batch.wrote(bytes);
                self.inner.outbox.left(bytes);
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

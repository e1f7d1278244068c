//! How a connection ends: what is still answered and written, and what is said about it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rocket_protocol::frame::FrameError;
use rocket_protocol::{Command, ResponseCode};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::connection::Inner;
use crate::outgoing::Outgoing;
use crate::stats::count;

/// How long a peer that was told the end may go on sending.
const LINGER: Duration = Duration::from_millis(500);
/// What is read into nothing at a time.
const DISCARDED_BYTES: usize = 4 << 10;

/// Why a connection is not served any more.
#[derive(Debug)]
pub(crate) enum Why {
    /// It was closed from this side.
    Closed,
    /// The peer closed the connection or it broke.
    Gone(Option<io::Error>),
    /// Silence for too long.
    Idle,
    /// A frame that began and did not end.
    HalfFrame,
    /// A large frame that began while there was no room for it, and got none in time.
    NoRoom,
    /// Not a frame.
    BadFrame(FrameError),
    /// Nothing can be said any more, so nothing needs to be heard.
    CannotWrite(io::Error),
    /// This side was asked to stop.
    Draining,
}

/// Does what is still to be done; the socket is to be closed then.
pub(crate) async fn end<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    inner: &Arc<Inner>,
    socket: &mut R,
    outgoing: &mut Outgoing<'_, W>,
    why: Why,
) {
    let shared = &inner.shared;
    let drains = match why {
        Why::Closed => return,
        Why::Gone(error) => {
            if let Some(error) = error {
                tracing::debug!(peer = %inner.peer, %error, "cannot read");
            }
            return;
        }
        Why::Idle => {
            tracing::debug!(peer = %inner.peer, "closed an idle connection");
            return;
        }
        Why::HalfFrame => {
            if let Some(suppressed) = shared.timeout_log.admit() {
                tracing::warn!(peer = %inner.peer, suppressed, "closed a connection that did not end its frame in time");
            }
            return;
        }
        Why::NoRoom => {
            if let Some(suppressed) = shared.no_room_log.admit() {
                tracing::warn!(peer = %inner.peer, suppressed, "closed a connection whose large frame found no room beside those of others in time");
            }
            return;
        }
        Why::CannotWrite(error) => return cannot_write(inner, &error),
        Why::BadFrame(error) => {
            count(&shared.stats.bad_frames, 1);
            if let Some(suppressed) = shared.bad_frame_log.admit() {
                tracing::warn!(peer = %inner.peer, rule = %error, suppressed, "closed a connection for a bad frame");
            }
            answer_bad_frame(inner, &error);
            false
        }
        Why::Draining => true,
    };
    let written = CancellationToken::new();
    let writing = write_rest(inner, outgoing, &written);
    let reading = async {
        if drains {
            let answered = timeout(inner.limits.drain_timeout, inner.answered());
            if answered.await.is_err() {
                tracing::debug!(peer = %inner.peer, open = inner.open_requests(), "closed with requests unanswered");
            }
        }
        inner.finish();
        discard(inner, socket, &written).await;
        inner.close();
    };
    tokio::select! {
        biased;
        () = inner.closed() => {}
        _ = async { tokio::join!(reading, writing) } => {}
    }
}

/// Writes what waits, then tells the peer the end. The peer may still be sending: were the socket closed now, that would make
/// the kernel reset the connection and take the last answers away. So its bytes are read into nothing meanwhile.
async fn write_rest<W: AsyncWrite + Unpin>(
    inner: &Inner,
    outgoing: &mut Outgoing<'_, W>,
    written: &CancellationToken,
) {
    match outgoing.write_rest().await {
        Ok(()) if outgoing.socket.shutdown().await.is_ok() => written.cancel(),
        Ok(()) => inner.close(),
        Err(error) => {
            cannot_write(inner, &error);
            inner.close();
        }
    }
}

fn cannot_write(inner: &Inner, error: &io::Error) {
    if error.kind() == io::ErrorKind::TimedOut {
        count(&inner.shared.stats.slow_readers, 1);
        if let Some(suppressed) = inner.shared.slow_reader_log.admit() {
            let peer = inner.peer;
            tracing::warn!(%peer, suppressed, "closed a connection whose peer took nothing in time");
        }
    } else {
        tracing::debug!(peer = %inner.peer, %error, "cannot write");
    }
}

/// Reads into nothing until the peer has taken note of the end, but not for long.
async fn discard<R: AsyncRead + Unpin>(inner: &Inner, socket: &mut R, written: &CancellationToken) {
    let patience = inner.limits.drain_timeout;
    let lingered = async {
        if timeout(patience, written.cancelled()).await.is_ok() {
            tokio::time::sleep(LINGER).await;
        }
    };
    let discarded = async {
        let mut bytes = vec![0; DISCARDED_BYTES];
        while socket.read(&mut bytes).await.unwrap_or(0) > 0 {}
        // The peer has closed its side and may still read ours.
        let _ = timeout(patience, written.cancelled()).await;
    };
    tokio::select! {
        () = lingered => {}
        () = discarded => {}
    }
}

/// A request whose header was whole but broken still gets its answer.
fn answer_bad_frame(inner: &Arc<Inner>, error: &FrameError) {
    let Some(salvage) = error.salvage else { return };
    let mut broken = Command::response(ResponseCode::SYSTEM_ERROR);
    broken.flag = salvage.flag;
    if broken.is_response() || broken.is_oneway() {
        return;
    }
    let mut response = Command::response(ResponseCode::SYSTEM_ERROR).with_remark(error.to_string());
    response.set_response_to(salvage.opaque, salvage.format);
    // The connection ends anyway.
    let _ = inner.enqueue(&response);
}

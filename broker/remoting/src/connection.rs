//! One connection as others see it: send to it, call it, close it.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;
use rocket_protocol::Command;
use thiserror::Error;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::bell::{Bell, Sleep, announce};
use crate::config::ConnectionLimits;
use crate::outbox::{Batch, Outbox, Refused};
use crate::rate_limit::RateLimit;
use crate::room::Room;
use crate::stats::{Stats, count};

/// Tells connections of one process apart; never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionId(pub u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a command was not sent. Another connection may take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SendError {
    /// The connection is closed.
    #[error("the connection is closed")]
    Closed,
    /// The peer does not read what it is sent; the connection is being closed.
    #[error("the peer does not read")]
    NotReading,
}

/// Why a call has no answer. Except after `NotSent` the peer may have served it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CallError {
    /// The request did not leave.
    #[error("not sent")]
    NotSent(#[from] SendError),
    /// Too many calls are open on this connection; nothing was sent.
    #[error("too many open calls")]
    TooManyCalls,
    /// The connection was closed before an answer came.
    #[error("the connection was closed before an answer came")]
    Closed,
    /// No answer within the time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

/// A connection. Clones are the same connection; it is closed by [`Connection::close`], by its peer or by a broken bound,
/// not by dropping.
#[derive(Clone)]
pub struct Connection(pub(crate) Arc<Inner>);

impl Connection {
    /// The connection's number.
    pub fn id(&self) -> ConnectionId {
        self.0.id
    }

    /// The address of the other side.
    pub fn peer(&self) -> SocketAddr {
        self.0.peer
    }

    /// The address of this side: tells through which listener a client came.
    pub fn local(&self) -> SocketAddr {
        self.0.local
    }

    /// Whether something can still be sent.
    pub fn is_open(&self) -> bool {
        self.0.is_open()
    }

    /// Closes the connection now; what waits to be written is lost.
    pub fn close(&self) {
        self.0.close();
    }

    /// Reads nothing more, lets what is open be answered for at most `drain_timeout`, and closes the connection.
    pub fn drain(&self) {
        if let Some(draining) = self.0.draining.get() {
            draining.cancel();
        }
    }

    /// Sends a request that wants no answer. Never blocks.
    ///
    /// # Errors
    /// When the connection is closed or the peer does not read.
    pub fn send_oneway(&self, mut request: Command) -> Result<(), SendError> {
        request.opaque = self.0.next_opaque();
        request.set_oneway();
        self.0.enqueue(&request)
    }

    /// Sends a request and waits for its answer, at most `patience`. Dropping the future forgets the call.
    ///
    /// # Errors
    /// When there is no answer; a refusing answer is an answer.
    pub async fn call(
        &self,
        mut request: Command,
        patience: Duration,
    ) -> Result<Command, CallError> {
        let opaque = self.0.next_opaque();
        request.opaque = opaque;
        let (sender, receiver) = oneshot::channel();
        self.0
            .calls
            .begin(opaque, sender, self.0.limits.inflight_max)?;
        // Also when the future is dropped.
        let _forget = scopeguard(|| self.0.calls.forget(opaque));
        self.0.enqueue(&request)?;
        match timeout(patience, receiver).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(_)) => Err(CallError::Closed),
            Err(_) => Err(CallError::Timeout(patience)),
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({} {})", self.0.id, self.0.peer)
    }
}

impl PartialEq for Connection {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for Connection {}

fn scopeguard<F: FnMut()>(action: F) -> impl Drop {
    struct Guard<F: FnMut()>(F);

    impl<F: FnMut()> Drop for Guard<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }

    Guard(action)
}

/// What all connections of one server or client share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) stats: Arc<Stats>,
    pub(crate) room: Room,
    pub(crate) bad_frame_log: RateLimit,
    pub(crate) slow_reader_log: RateLimit,
    pub(crate) timeout_log: RateLimit,
    pub(crate) no_room_log: RateLimit,
    pub(crate) refused_log: RateLimit,
}

pub(crate) struct Inner {
    pub(crate) id: ConnectionId,
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) limits: ConnectionLimits,
    pub(crate) shared: Arc<Shared>,
    pub(crate) outbox: Outbox,
    /// What is being written. Whoever holds it writes.
    pub(crate) departing: Mutex<Batch>,
    /// Written to with `departing` held; `None` before the connection's task runs and after it ended.
    pub(crate) socket: Mutex<Option<OwnedWriteHalf>>,
    pub(crate) calls: Calls,
    /// Wakes the connection's task.
    pub(crate) bell: Bell,
    /// Asks the connection's task to drain; set when it runs.
    pub(crate) draining: OnceLock<CancellationToken>,
    /// The socket is closed now, whatever waits.
    is_closing: AtomicBool,
    opaque: AtomicI32,
    /// Open requests: their number in the upper bits, their bytes in the lower [`REQUEST_BYTES_BITS`].
    requests: AtomicU64,
    parked: AtomicUsize,
    /// Whether the task waits for requests to end.
    is_watching: AtomicBool,
}

/// A TiB of open requests is beyond every bound, as are the 2^24 requests that the other bits count.
const REQUEST_BYTES_BITS: u32 = 40;
const ONE_REQUEST: u64 = 1 << REQUEST_BYTES_BITS;

impl Inner {
    pub(crate) fn new(
        peer: SocketAddr,
        local: SocketAddr,
        limits: ConnectionLimits,
        shared: Arc<Shared>,
    ) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        Self {
            id: ConnectionId(NEXT_ID.fetch_add(1, Ordering::Relaxed)),
            peer,
            local,
            outbox: Outbox::new(limits.outbound_bytes_max),
            limits,
            shared,
            departing: Mutex::default(),
            socket: Mutex::default(),
            calls: Calls::default(),
            bell: Bell::default(),
            draining: OnceLock::new(),
            is_closing: AtomicBool::new(false),
            opaque: AtomicI32::new(0),
            requests: AtomicU64::new(0),
            parked: AtomicUsize::new(0),
            is_watching: AtomicBool::new(false),
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.is_closing.load(Ordering::SeqCst)
    }

    pub(crate) fn close(&self) {
        self.is_closing.store(true, Ordering::SeqCst);
        self.bell.ring();
    }

    /// Waits until the connection is to be closed.
    pub(crate) async fn closed(&self) {
        std::future::poll_fn(|context| {
            self.bell.sleep(context.waker(), Sleep::Idle);
            if self.is_open() {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
    }

    fn next_opaque(&self) -> i32 {
        self.opaque.fetch_add(1, Ordering::Relaxed)
    }

    /// Puts a command into the outbox; closes the connection when that is full.
    pub(crate) fn enqueue(self: &Arc<Self>, command: &Command) -> Result<(), SendError> {
        self.enqueue_by(|outbox| outbox.push(command))
    }

    /// Puts the frame that `encode` appends into the outbox.
    pub(crate) fn enqueue_with(
        self: &Arc<Self>,
        encode: impl FnOnce(&mut BytesMut),
    ) -> Result<(), SendError> {
        self.enqueue_by(|outbox| outbox.push_with(encode))
    }

    fn enqueue_by(
        self: &Arc<Self>,
        push: impl FnOnce(&Outbox) -> Result<(), Refused>,
    ) -> Result<(), SendError> {
        if !self.is_open() {
            return Err(SendError::Closed);
        }
        match push(&self.outbox) {
            Ok(()) => {
                announce(self);
                Ok(())
            }
            Err(Refused::Finished) => Err(SendError::Closed),
            Err(Refused::Full { bytes }) => {
                self.close();
                count(&self.shared.stats.slow_readers, 1);
                if let Some(suppressed) = self.shared.slow_reader_log.admit() {
                    tracing::warn!(peer = %self.peer, bytes, suppressed, "closed a connection whose peer does not read its answers");
                }
                Err(SendError::NotReading)
            }
        }
    }

    /// Takes nothing more to be sent; what waits still leaves.
    pub(crate) fn finish(&self) {
        self.outbox.finish();
        self.bell.ring();
    }

    pub(crate) fn begin_request(&self, bytes: usize) {
        self.requests
            .fetch_add(ONE_REQUEST + request_bytes(bytes), Ordering::Relaxed);
    }

    pub(crate) fn end_request(&self, bytes: usize) {
        self.requests
            .fetch_sub(ONE_REQUEST + request_bytes(bytes), Ordering::SeqCst);
        self.ended();
    }

    /// Counts an open request as parked from now on; `false` when too many are.
    pub(crate) fn park_request(&self, bytes: usize) -> bool {
        if self.parked.fetch_add(1, Ordering::SeqCst) >= self.limits.parked_max {
            self.parked.fetch_sub(1, Ordering::SeqCst);
            return false;
        }
        self.end_request(bytes);
        true
    }

    pub(crate) fn end_parked(&self) {
        self.parked.fetch_sub(1, Ordering::SeqCst);
        self.ended();
    }

    fn ended(&self) {
        if self.is_watching.load(Ordering::SeqCst) {
            self.bell.ring();
        }
    }

    /// Whether the end of each request shall wake the task, which looks at the numbers after it has said so.
    pub(crate) fn watch_requests(&self, watch: bool) {
        self.is_watching.store(watch, Ordering::SeqCst);
    }

    pub(crate) fn open_requests(&self) -> usize {
        to_usize(self.requests.load(Ordering::SeqCst) >> REQUEST_BYTES_BITS)
    }

    pub(crate) fn open_request_bytes(&self) -> usize {
        to_usize(self.requests.load(Ordering::SeqCst) & (ONE_REQUEST - 1))
    }

    /// Waits until no request is open or parked.
    pub(crate) async fn answered(&self) {
        self.watch_requests(true);
        std::future::poll_fn(|context| {
            self.bell.sleep(context.waker(), Sleep::Idle);
            if self.open_requests() == 0 && self.parked.load(Ordering::SeqCst) == 0 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

fn request_bytes(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(ONE_REQUEST - 1)
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Calls to the peer that wait for their answers; `None` once the connection is closed.
pub(crate) struct Calls(Mutex<Option<HashMap<i32, oneshot::Sender<Command>>>>);

impl Default for Calls {
    fn default() -> Self {
        Self(Mutex::new(Some(HashMap::new())))
    }
}

impl Calls {
    fn begin(
        &self,
        opaque: i32,
        sender: oneshot::Sender<Command>,
        max: usize,
    ) -> Result<(), CallError> {
        let mut calls = self.0.lock();
        let calls = calls.as_mut().ok_or(SendError::Closed)?;
        if calls.len() >= max {
            return Err(CallError::TooManyCalls);
        }
        calls.insert(opaque, sender);
        Ok(())
    }

    fn forget(&self, opaque: i32) {
        if let Some(calls) = self.0.lock().as_mut() {
            calls.remove(&opaque);
        }
    }

    /// Hands an answer to its call. One that nobody waits for (any more) is dropped.
    pub(crate) fn answer(&self, response: Command) {
        let sender = self
            .0
            .lock()
            .as_mut()
            .and_then(|calls| calls.remove(&response.opaque));
        if let Some(sender) = sender {
            let _ = sender.send(response);
        }
    }

    pub(crate) fn close(&self) {
        self.0.lock().take();
    }
}

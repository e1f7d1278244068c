//! All links of one broker: those that it opens and those that it accepts.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rocket_replication::messages::{LinkId, Message};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connection;
pub use crate::connection::Share;
use crate::opening::{self, OpeningError};
use crate::outgoing::{Outbox, Outgoing};
use crate::secret::{Secret, Side};

/// How long a listener rests after it could not accept, so that a full table of files does not become a busy loop; the wish
/// to stop ends it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bounds of links.
#[derive(Debug, Clone)]
pub struct Settings {
    /// For connecting and proving, each.
    pub opening_timeout: Duration,
    /// Silence of the peer after which a link is closed. Every link is spoken on several times a second by both sides, so one
    /// that is silent leads to a process that stands still, or nowhere: TCP alone would tell after minutes.
    pub silence_max: Duration,
    /// Connections at once that have not proved themselves.
    pub strangers_max: usize,
    /// Bytes received on one link and not dropped yet; the peer is not read beyond.
    pub inbound_bytes_max: u32,
    /// Bytes that wait to be written to one link; the link is closed beyond.
    pub outbound_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            opening_timeout: Duration::from_secs(1),
            silence_max: Duration::from_secs(2),
            strangers_max: 64,
            inbound_bytes_max: 8 << 20,
            outbound_bytes_max: 64 << 20,
        }
    }
}

/// What happened on a link.
#[derive(Debug)]
pub enum Event {
    /// The link that [`Links::connect`] promised is open.
    Connected(LinkId),
    /// It could not be opened.
    ConnectFailed(LinkId),
    /// A message came. On a link that was accepted the first one makes it known.
    Received {
        /// On this link.
        link: LinkId,
        /// The message.
        message: Message,
        /// To be dropped when it is served.
        share: Share,
    },
    /// The link is gone. Not told of links that [`Links::close`] closed.
    Disconnected(LinkId),
}

/// Takes the connections that are none of a link.
type Visitors = Arc<dyn Fn(TcpStream) + Send + Sync>;

/// Takes what happens on links; `false` when nobody wants to know it any more.
pub(crate) struct Deliver(pub(crate) Box<dyn Fn(Event) -> bool + Send + Sync>);

impl fmt::Debug for Deliver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Deliver")
    }
}

/// See the module. Clones are the same links.
#[derive(Debug, Clone)]
pub struct Links(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    secret: Secret,
    tasks: TaskTracker,
    stop: CancellationToken,
    deliver: Deliver,
    next: AtomicU64,
    open: Mutex<HashMap<LinkId, Handle>>,
    strangers: Arc<Semaphore>,
}

#[derive(Debug, Clone)]
struct Handle {
    outbox: Arc<Outbox>,
    close: CancellationToken,
    is_open: Arc<AtomicBool>,
}

impl Links {
    /// No links yet. Their tasks belong to `tasks` and end when `stop` is cancelled. The events come in the order of each
    /// link; what waits in their queue is bounded by each link's `inbound_bytes_max`.
    pub fn new(
        settings: Settings,
        secret: Secret,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> (Self, mpsc::UnboundedReceiver<Event>) {
        let (sender, events) = mpsc::unbounded_channel();
        let deliver = move |event| sender.send(event).is_ok();
        (
            Self::delivering(settings, secret, tasks, stop, deliver),
            events,
        )
    }

    /// As [`Links::new`], and each event goes to `deliver` at once, on the task of its link, which must not wait there. It says whether
    /// anybody wants to know such things still.
    pub fn delivering(
        settings: Settings,
        secret: Secret,
        tasks: TaskTracker,
        stop: CancellationToken,
        deliver: impl Fn(Event) -> bool + Send + Sync + 'static,
    ) -> Self {
        let inner = Inner {
            strangers: Arc::new(Semaphore::new(settings.strangers_max)),
            settings,
            secret,
            tasks,
            stop,
            deliver: Deliver(Box::new(deliver)),
            next: AtomicU64::new(1),
            open: Mutex::default(),
        };
        Self(Arc::new(inner))
    }

    /// Accepts links on `listener` from now on.
    pub fn listen(&self, listener: TcpListener) {
        self.listen_for(listener, None);
    }

    /// As [`Links::listen`], and connections of [`crate::dial_register`] go to `visitors`, once they have proved themselves.
    /// It must not wait there.
    pub fn listen_with_register(
        &self,
        listener: TcpListener,
        visitors: impl Fn(TcpStream) + Send + Sync + 'static,
    ) {
        self.listen_for(listener, Some(Arc::new(visitors)));
    }

    fn listen_for(&self, listener: TcpListener, visitors: Option<Visitors>) {
        let links = self.clone();
        let accepting = self.0.stop.clone().run_until_cancelled_owned(async move {
            links.accept(&listener, visitors).await;
        });
        self.0.tasks.spawn(accepting);
    }

    /// Opens a link to `address` (`host:port`, looked up now). [`Event::Connected`] or [`Event::ConnectFailed`] will follow.
    pub fn connect(&self, address: String) -> LinkId {
        let id = self.fresh();
        let links = self.clone();
        let handle = self.enter(id);
        self.spawn(handle.close.clone(), async move {
            match links.dial(&address).await {
                Ok(stream) => {
                    handle.is_open.store(true, Ordering::Release);
                    links.tell(Event::Connected(id));
                    links.carry(id, stream, &handle).await;
                }
                Err(error) => {
                    tracing::debug!(address, %error, "no replication link");
                    links.0.open.lock().remove(&id);
                    links.tell(Event::ConnectFailed(id));
                }
            }
        });
        id
    }

    /// Sends on a link; on one that is gone it is forgotten. Never blocks. A link whose peer does not read is closed.
    pub fn send(&self, id: LinkId, outgoing: Outgoing) {
        let Some(handle) = self.0.open.lock().get(&id).cloned() else {
            return;
        };
        if let Err(error) = handle.outbox.push(outgoing) {
            tracing::warn!(link = id.0, %error, "closed a replication link");
            self.0.open.lock().remove(&id);
            handle.close.cancel();
            self.tell(Event::Disconnected(id));
        }
    }

    /// Closes a link when what waits to be written to it is written, which a peer is given a second for: a refusal says what
    /// it is for. Messages that had come may still be told.
    pub fn close(&self, id: LinkId) {
        let Some(handle) = self.0.open.lock().remove(&id) else {
            return;
        };
        if handle.is_open.load(Ordering::Acquire) {
            handle.outbox.finish();
        } else {
            handle.close.cancel();
        }
    }

    /// How many links are open or being opened.
    pub fn len(&self) -> usize {
        self.0.open.lock().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn fresh(&self) -> LinkId {
        LinkId(self.0.next.fetch_add(1, Ordering::Relaxed))
    }

    fn enter(&self, id: LinkId) -> Handle {
        let handle = Handle {
            outbox: Arc::new(Outbox::new(self.0.settings.outbound_bytes_max)),
            close: self.0.stop.child_token(),
            is_open: Arc::default(),
        };
        self.0.open.lock().insert(id, handle.clone());
        handle
    }

    fn spawn(&self, close: CancellationToken, work: impl Future<Output = ()> + Send + 'static) {
        self.0.tasks.spawn(close.run_until_cancelled_owned(work));
    }

    fn tell(&self, event: Event) {
        // Nobody listens any more: the broker stops.
        let _ = self.0.deliver.0(event);
    }

    async fn accept(&self, listener: &TcpListener, visitors: Option<Visitors>) {
        loop {
            let Ok(stranger) = Arc::clone(&self.0.strangers).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let (links, visitors) = (self.clone(), visitors.clone());
                    self.spawn(self.0.stop.child_token(), async move {
                        let opened = links.open(stream, Side::Listener).await;
                        drop(stranger);
                        links.accepted(opened, peer, visitors).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept replication links");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn accepted(
        &self,
        opened: Result<(TcpStream, Side), OpeningError>,
        peer: SocketAddr,
        visitors: Option<Visitors>,
    ) {
        match opened {
            Ok((stream, Side::Keeper)) => {
                if let Some(visitors) = visitors {
                    visitors(stream);
                } else {
                    tracing::warn!(%peer, "asks for a register that is not kept here");
                }
            }
            Ok((stream, _)) => {
                let id = self.fresh();
                let handle = self.enter(id);
                handle.is_open.store(true, Ordering::Release);
                let close = handle.close.clone();
                close
                    .run_until_cancelled(self.carry(id, stream, &handle))
                    .await;
            }
            Err(error @ (OpeningError::Proof | OpeningError::Version(_))) => {
                tracing::warn!(%peer, %error, "refused a replication link");
            }
            Err(error) => tracing::debug!(%peer, %error, "refused a replication link"),
        }
    }

    async fn dial(&self, address: &str) -> Result<TcpStream, OpeningError> {
        let connecting = timeout(self.0.settings.opening_timeout, TcpStream::connect(address));
        let stream = connecting.await.map_err(|_| OpeningError::Slow)??;
        let (stream, _) = self.open(stream, Side::Dialer).await?;
        Ok(stream)
    }

    async fn open(&self, stream: TcpStream, side: Side) -> Result<(TcpStream, Side), OpeningError> {
        opening::within(
            self.0.settings.opening_timeout,
            stream,
            side,
            &self.0.secret,
        )
        .await
    }

    async fn carry(&self, id: LinkId, stream: TcpStream, handle: &Handle) {
        let settings = &self.0.settings;
        let (deliver, outbox) = (&self.0.deliver, &handle.outbox);
        let end = connection::run(id, stream, outbox, deliver, settings).await;
        if self.0.open.lock().remove(&id).is_some() {
            tracing::info!(link = id.0, %end, "a replication link ended");
            self.tell(Event::Disconnected(id));
        }
    }
}

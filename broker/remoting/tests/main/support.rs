//! A server whose processor does what the request's code says, and a peer that writes raw bytes.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use rocket_protocol::frame::{self, Limits};
use rocket_protocol::{Command, HeaderFormat, RequestCode, ResponseCode};
use rocket_remoting::{
    Connection, ConnectionLimits, HeldWakes, Processor, RawRequest, Reply, Server, ServerConfig,
    StatsSnapshot,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Answers with the request's body.
pub(crate) const ECHO: RequestCode = RequestCode(1);
/// Hands the reply to the test.
pub(crate) const KEEP: RequestCode = RequestCode(2);
/// Drops the reply.
pub(crate) const DROP: RequestCode = RequestCode(3);
/// Answers with as many bytes as the field `bytes` says.
pub(crate) const LARGE: RequestCode = RequestCode(4);
/// Is answered when all frames of its read were served.
pub(crate) const DEFER: RequestCode = RequestCode(6);
/// A header that is answered where it lies.
pub(crate) const IN_PLACE: &[u8] = b"in place";
/// Panics.
pub(crate) const PANIC: RequestCode = RequestCode(5);

/// Nothing here takes this long, unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) enum Event {
    Opened(Connection),
    Kept(Reply),
    Served,
    Closed(Connection),
}

pub(crate) struct Probe {
    events: mpsc::UnboundedSender<Event>,
    deferred: Mutex<Vec<Reply>>,
}

impl Probe {
    pub(crate) fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<Event>) {
        let (events, receiver) = mpsc::unbounded_channel();
        let deferred = Mutex::default();
        (Arc::new(Self { events, deferred }), receiver)
    }

    fn tell(&self, event: Event) {
        let _ = self.events.send(event);
    }
}

impl Processor for Probe {
    fn process(&self, _connection: &Connection, request: Command, reply: Reply) {
        let success = Command::response(ResponseCode::SUCCESS);
        match request.request_code() {
            ECHO => reply.send(success.with_body(request.body.contiguous())),
            KEEP => self.tell(Event::Kept(reply)),
            LARGE => {
                let bytes = request.ext.get("bytes").unwrap().parse().unwrap();
                reply.send(success.with_body(vec![7; bytes]));
            }
            DEFER => self.deferred.lock().push(reply),
            PANIC => panic!("as asked"),
            _ => drop(reply),
        }
    }

    fn process_in_place<'a>(&self, request: RawRequest<'a>) -> Result<(), RawRequest<'a>> {
        if !request.frame().header().starts_with(IN_PLACE) {
            return Err(request);
        }
        let bytes = request.frame().len();
        let reply = request.accept(9, HeaderFormat::Json, false);
        reply.send_with(|opaque, format, out| {
            let mut response = Command::response(ResponseCode::SUCCESS);
            response.set_response_to(opaque, format);
            frame::encode(&response.with_remark(bytes.to_string()), out);
        });
        Ok(())
    }

    fn served(&self, _connection: &Connection) {
        let kept = std::mem::take(&mut *self.deferred.lock());
        let _held = HeldWakes::new();
        for reply in kept {
            reply.send(Command::response(ResponseCode::SUCCESS));
        }
        self.tell(Event::Served);
    }

    fn opened(&self, connection: &Connection) {
        self.tell(Event::Opened(connection.clone()));
    }

    fn closed(&self, connection: &Connection) {
        self.tell(Event::Closed(connection.clone()));
    }
}

pub(crate) struct Running {
    pub(crate) server: Server,
    pub(crate) tasks: TaskTracker,
    pub(crate) cancel: CancellationToken,
    events: Mutex<mpsc::UnboundedReceiver<Event>>,
}

impl Running {
    pub(crate) fn start(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let mut config = ServerConfig::default();
        change(&mut config);
        let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
        let (probe, events) = Probe::new();
        let any = "127.0.0.1:0".parse().unwrap();
        let server = Server::bind(any, config, probe, &tasks, cancel.clone()).unwrap();
        Self {
            server,
            tasks,
            cancel,
            events: Mutex::new(events),
        }
    }

    pub(crate) fn with_limits(change: impl FnOnce(&mut ConnectionLimits)) -> Self {
        Self::start(|config| change(&mut config.limits))
    }

    pub(crate) fn address(&self) -> String {
        self.server.local_addr().to_string()
    }

    pub(crate) fn stats(&self) -> StatsSnapshot {
        self.server.stats().snapshot()
    }

    pub(crate) async fn connect(&self) -> Peer {
        Peer {
            socket: TcpStream::connect(self.server.local_addr()).await.unwrap(),
            buffer: BytesMut::new(),
        }
    }

    /// Waits until the server's counters are as wanted.
    pub(crate) async fn until(&self, is_so: impl Fn(StatsSnapshot) -> bool) {
        let waited = async {
            while !is_so(self.stats()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, waited).await.expect("it comes to that");
    }

    pub(crate) fn try_event(&self) -> Option<Event> {
        self.events.lock().try_recv().ok()
    }

    pub(crate) async fn event(&self) -> Event {
        let next = std::future::poll_fn(|context| self.events.lock().poll_recv(context));
        timeout(PATIENCE, next)
            .await
            .expect("something happens")
            .unwrap()
    }

    pub(crate) async fn opened(&self) -> Connection {
        loop {
            if let Event::Opened(connection) = self.event().await {
                return connection;
            }
        }
    }

    pub(crate) async fn served(&self) {
        while !matches!(self.event().await, Event::Served) {}
    }

    pub(crate) async fn kept(&self) -> Reply {
        loop {
            if let Event::Kept(reply) = self.event().await {
                return reply;
            }
        }
    }

    pub(crate) async fn closed(&self) -> Connection {
        loop {
            if let Event::Closed(connection) = self.event().await {
                return connection;
            }
        }
    }

    /// The server still serves others.
    pub(crate) async fn assert_serves(&self) {
        let mut peer = self.connect().await;
        peer.send(&request(ECHO, 77)).await;
        assert_eq!(peer.answer().await.opaque, 77);
    }
}

pub(crate) fn request(code: RequestCode, opaque: i32) -> Command {
    let mut request = Command::request(code);
    request.opaque = opaque;
    request
}

pub(crate) fn encoded(command: &Command) -> BytesMut {
    let mut out = BytesMut::new();
    frame::encode(command, &mut out);
    out
}

pub(crate) struct Peer {
    socket: TcpStream,
    buffer: BytesMut,
}

impl Peer {
    pub(crate) async fn send(&mut self, command: &Command) {
        self.send_bytes(&encoded(command)).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.try_send_bytes(bytes).await.unwrap();
    }

    pub(crate) async fn try_send_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        timeout(PATIENCE, self.socket.write_all(bytes))
            .await
            .expect("the server reads")
    }

    /// The next frame, or `None` when the server has closed the connection.
    pub(crate) async fn next(&mut self) -> Option<Command> {
        loop {
            if let Some(command) = frame::decode(&mut self.buffer, &Limits::default()).unwrap() {
                return Some(command);
            }
            let read = timeout(PATIENCE, self.socket.read_buf(&mut self.buffer))
                .await
                .expect("an answer or the end");
            if read.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    pub(crate) async fn answer(&mut self) -> Command {
        self.next().await.expect("an answer")
    }

    pub(crate) async fn assert_closed(&mut self) {
        assert_eq!(self.next().await, None);
    }
}

pub(crate) fn body(len: usize) -> Bytes {
    vec![1; len].into()
}

//! Where sends wait while a mastership is on its way to another replica, or to this one. A client that were refused would try twice more
//! within a millisecond and give the message up (`DefaultMQProducerImpl`); in that time nothing has changed yet.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rocket_protocol::{Command, RequestCode};
use rocket_remoting::{Connection, Reply};
use rocket_replication::replica::Writes;
use tokio::sync::Notify;

/// How long a send waits at most: RocketMQ's clients wait 3 s for an answer, and a refusal says that nothing was stored.
const PATIENCE: Duration = Duration::from_millis(2_500);
/// How often it is looked whether somebody must wait on.
const LOOK: Duration = Duration::from_millis(2);
/// Bytes of bodies that wait at one time.
const BYTES_MAX: usize = 64 << 20;
/// Sends that wait at one time.
const SENDS_MAX: usize = 65_536;

/// Whether a request is a producer's message.
pub(crate) fn is_send(code: RequestCode) -> bool {
    matches!(
        code,
        RequestCode::SEND_MESSAGE | RequestCode::SEND_MESSAGE_V2 | RequestCode::SEND_BATCH_MESSAGE
    )
}

/// A send that waits.
pub(crate) struct Waiting {
    pub(crate) connection: Connection,
    pub(crate) request: Command,
    pub(crate) reply: Reply,
    until: Instant,
}

impl Waiting {
    pub(crate) fn new(
        now: Instant,
        connection: Connection,
        request: Command,
        reply: Reply,
    ) -> Self {
        Self {
            connection,
            request,
            reply,
            until: now + PATIENCE,
        }
    }
}

/// See the module.
pub(crate) struct WaitingRoom {
    writes: Box<dyn Fn() -> Writes + Send + Sync>,
    inside: Mutex<Inside>,
    entered: Notify,
    is_closed: AtomicBool,
}

#[derive(Default)]
struct Inside {
    waiting: Vec<Waiting>,
    bytes: usize,
}

impl WaitingRoom {
    /// `writes`: whether the replica takes sends now.
    pub(crate) fn new(writes: impl Fn() -> Writes + Send + Sync + 'static) -> Self {
        Self {
            writes: Box::new(writes),
            inside: Mutex::default(),
            entered: Notify::new(),
            is_closed: AtomicBool::new(false),
        }
    }

    /// Whether a send must wait. `serves`: what serves clients is in place.
    pub(crate) fn must_wait(&self, serves: bool) -> bool {
        !self.is_closed.load(Ordering::Acquire) && is_on_its_way((self.writes)(), serves)
    }

    /// Takes a send in, or gives it back when too much waits, or nobody does any more.
    pub(crate) fn enter(&self, one: Waiting) -> Option<Waiting> {
        let mut inside = self.inside.lock();
        let bytes = inside.bytes + one.request.body.len();
        // Asked under the lock: whoever closes takes out after that all who are in.
        let is_closed = self.is_closed.load(Ordering::Acquire);
        if is_closed || inside.waiting.len() >= SENDS_MAX || bytes > BYTES_MAX {
            return Some(one);
        }
        inside.bytes = bytes;
        inside.waiting.push(one);
        drop(inside);
        self.entered.notify_one();
        None
    }

    /// Ends when it is time to look whether somebody may go: at once when somebody has come, else soon after the last look.
    pub(crate) async fn someone(&self) {
        if self.inside.lock().waiting.is_empty() {
            self.entered.notified().await;
        } else {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Those who need not wait on, or have waited for too long, in the order in which they came.
    pub(crate) fn leaving(&self, now: Instant, serves: bool) -> Vec<Waiting> {
        let must_wait = self.must_wait(serves);
        let mut inside = self.inside.lock();
        let is_leaving = |one: &mut Waiting| !must_wait || one.until <= now;
        let leaving: Vec<Waiting> = inside.waiting.extract_if(.., is_leaving).collect();
        let bytes: usize = leaving.iter().map(|one| one.request.body.len()).sum();
        inside.bytes -= bytes;
        leaving
    }

    /// Nobody waits from now on.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
    }
}

/// Whether it is about to be known who takes sends: this replica opens or hands over, or it has opened or handed over just now and what
/// serves clients has not followed yet.
fn is_on_its_way(writes: Writes, serves: bool) -> bool {
    match writes {
        Writes::Busy => true,
        Writes::NotMaster => serves,
        Writes::Open => !serves,
        Writes::TooFewInSync => false,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::Arc;

    use rocket_remoting::{Client, ClientConfig, NoRequests, Processor, Server, ServerConfig};
    use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::*;

    /// Hands on what it is asked.
    struct Handing(UnboundedSender<Waiting>);

    impl Processor for Handing {
        fn process(&self, connection: &Connection, request: Command, reply: Reply) {
            let one = Waiting::new(Instant::now(), connection.clone(), request, reply);
            let _ = self.0.send(one);
        }
    }

    #[tokio::test]
    async fn nobody_enters_once_it_is_closed_and_who_is_in_leaves() {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let (handing, mut handed) = unbounded_channel();
        let server = Server::bind(
            SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            ServerConfig::default(),
            Arc::new(Handing(handing)),
            &tasks,
            stop.clone(),
        );
        let address = server.unwrap().local_addr().to_string();
        let client = Client::connect(&address, ClientConfig::default(), Arc::new(NoRequests));
        let client = client.await.unwrap();
        for _ in 0..2 {
            let send = Command::request(RequestCode::SEND_MESSAGE);
            client.send_oneway(send).unwrap();
        }
        let room = WaitingRoom::new(|| Writes::Busy);
        assert!(room.must_wait(true));
        let early = handed.recv().await.unwrap();
        assert!(room.enter(early).is_none());
        // It was told to wait just before the room was closed.
        let late = handed.recv().await.unwrap();
        room.close();
        assert!(room.enter(late).is_some());
        assert!(!room.must_wait(true));
        assert_eq!(room.leaving(Instant::now(), true).len(), 1);
        client.close().await;
        stop.cancel();
        tasks.close();
        tasks.wait().await;
    }

    #[test]
    fn sends_wait_while_board_and_stage_disagree_and_never_else() {
        for (writes, serves, waits) in [
            (Writes::Open, true, false),
            (Writes::Open, false, true),
            (Writes::Busy, true, true),
            (Writes::Busy, false, true),
            (Writes::NotMaster, true, true),
            (Writes::NotMaster, false, false),
            (Writes::TooFewInSync, true, false),
            (Writes::TooFewInSync, false, false),
        ] {
            assert_eq!(is_on_its_way(writes, serves), waits, "{writes:?} {serves}");
        }
    }
}

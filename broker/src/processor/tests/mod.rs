//! The processors over real sockets, on a real store in a temporary folder. Time is the test's own.

mod admin;
mod delay;
mod grace;
mod group;
mod making;
mod offset;
mod pull;
mod replica;
mod retry;
mod send;
mod serving;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::Registry;
use rocket_protocol::body::{ConsumerData, HeartbeatData, ProducerData, SubscriptionData};
use rocket_protocol::header::{
    PullMessageHeader, PullMessageResponseHeader, SendMessageHeader, SendMessageResponseHeader,
    SendMessageV2Header,
};
use rocket_protocol::{Command, RecordView, RequestCode, ResponseCode, UnixMillis};
use rocket_remoting::{
    Client, ClientConfig, Connection, NoRequests, Processor, Reply, Server, ServerConfig,
};
use rocket_store::{
    Arrival, Clock, CommitPolicy, Ends, Flush, FlushFailure, LocalEnds, LocalPolicy, PutStatus,
    Removed, Store, StoreConfig, StoreEvents,
};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{BrokerProcessor, BrokerStore, Deps, PullPolling};
use crate::clients::Clients;
use crate::config::{BrokerConfig, LiveConfig, Settings as _};
use crate::crew::Alarm;
use crate::identity::Identity;
use crate::metadata::{Following, Metadata, Wake};
use crate::metrics::Metrics;
use crate::retention::GroupReaders;

/// No test waits this long unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);
/// 2023-11-14T22:13:20Z.
const START: i64 = 1_700_000_000_000;

/// Milliseconds, and by how much somebody has set the time of day since.
struct TestClock(AtomicI64, AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> UnixMillis {
        let set_by = self.1.load(Ordering::SeqCst);
        UnixMillis(self.0.load(Ordering::SeqCst) + set_by)
    }
    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst).unsigned_abs())
    }
}

/// Of one broker alone, unless it takes nothing for a while.
#[derive(Default)]
struct Doors {
    are_closed: AtomicBool,
}

impl CommitPolicy for Doors {
    fn ends(&self, local: LocalEnds) -> Ends {
        LocalPolicy { flush: Flush::Sync }.ends(local)
    }
    fn may_append(&self) -> Result<(), PutStatus> {
        if self.are_closed.load(Ordering::SeqCst) {
            return Err(PutStatus::ServiceNotAvailable("closed".into()));
        }
        Ok(())
    }
}

struct Events(Arc<PullPolling>, Wake);

impl StoreEvents for Events {
    fn arrived(&self, arrivals: &[Arrival]) {
        self.0.arrivals(arrivals);
        self.1.arrived(arrivals);
    }
    fn failed(&self, failure: &FlushFailure) {
        panic!("{failure:?}");
    }
    fn removed(&self, _: &Removed) {}
}

/// A broker's inside with a server in front of it.
struct World {
    dir: TempDir,
    clock: Arc<TestClock>,
    doors: Arc<Doors>,
    store: Arc<BrokerStore>,
    processor: Arc<BrokerProcessor>,
    topics_changed: Arc<AtomicUsize>,
    address: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// Of a replica of a group.
    following: Option<Following>,
}

impl World {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    async fn with(pairs: &[(&str, &str)]) -> Self {
        Self::behind(ServerConfig::default(), pairs).await
    }

    async fn behind(server: ServerConfig, pairs: &[(&str, &str)]) -> Self {
        Self::on(tempfile::tempdir().unwrap(), server, pairs).await
    }

    async fn on(dir: TempDir, server: ServerConfig, pairs: &[(&str, &str)]) -> Self {
        Self::make(dir, server, pairs, false).await
    }

    /// A replica of a group, whose log is committed where it is durable. It does not lead yet.
    async fn replica() -> Self {
        Self::make(
            tempfile::tempdir().unwrap(),
            ServerConfig::default(),
            &[],
            true,
        )
        .await
    }

    async fn make(
        dir: TempDir,
        server: ServerConfig,
        pairs: &[(&str, &str)],
        is_replica: bool,
    ) -> Self {
        let mut config = BrokerConfig::default();
        config.set("brokerName", "broker-a").unwrap().unwrap();
        for (key, value) in pairs {
            config.set(key, value).unwrap().unwrap();
        }
        let clock = Arc::new(TestClock(AtomicI64::new(START), AtomicI64::new(0)));
        let long_polling = Arc::new(PullPolling::new(3000));
        let settings = StoreConfig {
            dir: dir.path().to_owned(),
            segment_bytes: 16 << 20,
            index_slots: 1000,
            index_entries: 4000,
            flush: Flush::Sync,
            ..StoreConfig::default()
        };
        let wake = Wake::default();
        let doors = Arc::new(Doors::default());
        let (store, _) = Store::open(
            settings,
            Arc::clone(&clock) as Arc<dyn Clock>,
            Arc::clone(&doors) as _,
            Arc::new(Events(Arc::clone(&long_polling), wake.clone())),
        )
        .unwrap();
        let store = Arc::new(store);
        let topics_changed = Arc::new(AtomicUsize::new(0));
        let changes = Arc::clone(&topics_changed);
        let identity = Identity::of(&config, 10911, UnixMillis(START)).await;
        let now = UnixMillis(START);
        let metadata = Arc::new(if is_replica {
            Metadata::open_replica(dir.path(), &config, now, &store, wake).unwrap()
        } else {
            Metadata::open(dir.path(), &config, now).unwrap()
        });
        let alarm = Alarm::new(|what| panic!("{what}"));
        let following = is_replica.then(|| metadata.follow(alarm.clone()).unwrap());
        let clients = Arc::new(Clients::new());
        let readers = Arc::new(GroupReaders::new(
            Arc::clone(&metadata),
            Arc::clone(&clients),
            config.message_delay_level.0.len(),
            config.file_reserved_time,
        ));
        store.set_readers(Arc::clone(&readers) as _);
        let deps = Deps {
            metadata,
            readers,
            config: Arc::new(LiveConfig::new(config)),
            store: Arc::clone(&store),
            clients,
            long_polling,
            metrics: Arc::new(Metrics::new(&Registry::new()).unwrap()),
            topics_changed: Arc::new(move || {
                changes.fetch_add(1, Ordering::SeqCst);
            }),
            alarm,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            identity: Arc::new(identity),
        };
        let processor = BrokerProcessor::new(deps);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let server = Server::bind(
            SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            server,
            Arc::clone(&processor) as Arc<dyn Processor>,
            &tasks,
            stop.clone(),
        )
        .unwrap();
        tasks.spawn(Arc::clone(&processor).run(stop.clone()));
        Self {
            dir,
            clock,
            doors,
            store,
            processor,
            topics_changed,
            address: server.local_addr(),
            stop,
            tasks,
            following,
        }
    }

    /// Somebody sets the time of day.
    fn set_back(&self, by: Duration) {
        let ms = i64::try_from(by.as_millis()).unwrap();
        self.clock.1.fetch_sub(ms, Ordering::SeqCst);
    }

    fn advance(&self, by: Duration) {
        let ms = i64::try_from(by.as_millis()).unwrap();
        self.clock.0.fetch_add(ms, Ordering::SeqCst);
    }

    async fn client(&self) -> Peer {
        self.client_with(Arc::new(NoRequests)).await
    }

    async fn client_with(&self, processor: Arc<dyn Processor>) -> Peer {
        let address = self.address.to_string();
        let client = Client::connect(&address, ClientConfig::default(), processor)
            .await
            .unwrap();
        Peer(client, Arc::clone(&self.store))
    }

    /// Stops the server, which must not wait for anything. What it stored stays as long as the folder that is returned.
    async fn stop(self) -> TempDir {
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(PATIENCE, self.tasks.wait())
            .await
            .unwrap();
        drop(self.following);
        self.processor.close();
        self.store.close().unwrap();
        self.dir
    }
}

/// A client of the world.
struct Peer(Client, Arc<BrokerStore>);

impl Peer {
    /// Calls, and waits until what was appended can be seen: an answer may come a little before that.
    async fn call(&self, request: Command) -> Command {
        let response = self.0.call(request, PATIENCE).await.unwrap();
        until(|| {
            let positions = self.1.positions();
            positions.dispatched >= positions.appended
        })
        .await;
        response
    }

    /// Calls and expects a code.
    async fn expect(&self, request: Command, code: ResponseCode) -> Command {
        let response = self.call(request).await;
        assert_eq!(response.response_code(), code, "{:?}", response.remark);
        response
    }

    async fn send(&self, topic: &str, queue: i32, body: &str, properties: &str) -> Command {
        self.call(send_request(topic, queue, body, properties))
            .await
    }

    /// Sends and expects success.
    async fn send_ok(
        &self,
        topic: &str,
        queue: i32,
        body: &str,
        properties: &str,
    ) -> SendMessageResponseHeader {
        let response = self.send(topic, queue, body, properties).await;
        assert_eq!(
            response.response_code(),
            ResponseCode::SUCCESS,
            "{:?}",
            response.remark
        );
        response.header().unwrap()
    }

    /// Pulls everything of a queue from `offset` on, without waiting.
    async fn pull(&self, topic: &str, queue: i32, offset: i64) -> Pulled {
        Pulled::of(&self.call(pull_request(topic, queue, offset, 4)).await)
    }

    async fn heartbeat(&self, client_id: &str, group: &str, topic: &str, expression: &str) {
        let data = HeartbeatData {
            client_id: client_id.to_owned(),
            consumer_data_set: vec![ConsumerData {
                group_name: group.to_owned(),
                subscription_data_set: vec![SubscriptionData {
                    topic: topic.to_owned(),
                    sub_string: expression.to_owned(),
                    sub_version: 1,
                    ..SubscriptionData::default()
                }],
                ..ConsumerData::default()
            }],
            producer_data_set: vec![ProducerData {
                group_name: "producers".to_owned(),
            }],
            ..HeartbeatData::default()
        };
        let request =
            Command::request(RequestCode::HEART_BEAT).with_body(serde_json::to_vec(&data).unwrap());
        self.expect(request, ResponseCode::SUCCESS).await;
    }
}

/// An answer to a pull, taken apart.
#[derive(Debug)]
struct Pulled {
    code: ResponseCode,
    remark: String,
    header: PullMessageResponseHeader,
    bodies: Vec<String>,
}

impl Pulled {
    fn of(response: &Command) -> Self {
        let bytes = response.body.contiguous();
        let mut rest = &bytes[..];
        let mut bodies = Vec::new();
        while !rest.is_empty() {
            let (record, len) = RecordView::parse(rest).unwrap();
            bodies.push(String::from_utf8(record.body().to_vec()).unwrap());
            rest = &rest[len..];
        }
        Self {
            code: response.response_code(),
            remark: response.remark.as_deref().unwrap_or_default().to_owned(),
            header: response.header().unwrap(),
            bodies,
        }
    }
}

fn send_header(topic: &str, queue: i32, properties: &str) -> SendMessageHeader {
    SendMessageHeader {
        producer_group: "producers".into(),
        topic: topic.to_owned().into(),
        default_topic: "TBW102".into(),
        default_topic_queue_nums: 4,
        queue_id: queue,
        born_timestamp: START,
        properties: Some(properties.to_owned().into()),
        ..SendMessageHeader::default()
    }
}

fn send_request(topic: &str, queue: i32, body: &str, properties: &str) -> Command {
    let header: SendMessageV2Header = send_header(topic, queue, properties).into();
    Command::request(RequestCode::SEND_MESSAGE_V2)
        .with_header(&header)
        .with_body(body.as_bytes().to_vec())
}

fn pull_header(topic: &str, queue: i32, offset: i64, sys_flag: i32) -> PullMessageHeader {
    PullMessageHeader {
        consumer_group: "g".into(),
        topic: topic.to_owned().into(),
        queue_id: queue,
        queue_offset: offset,
        max_msg_nums: 32,
        sys_flag,
        suspend_timeout_millis: 15_000,
        subscription: Some("*".into()),
        ..PullMessageHeader::default()
    }
}

fn pull_request(topic: &str, queue: i32, offset: i64, sys_flag: i32) -> Command {
    Command::request(RequestCode::PULL_MESSAGE)
        .with_header(&pull_header(topic, queue, offset, sys_flag))
}

/// A client that tells what the broker asks of it, and answers with success.
struct Listener(mpsc::UnboundedSender<Command>);

impl Listener {
    fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<Command>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Arc::new(Self(sender)), receiver)
    }
}

impl Processor for Listener {
    fn process(&self, _: &Connection, request: Command, reply: Reply) {
        let answer = Command::response(ResponseCode::SUCCESS).with_body(request.body.clone());
        let _ = self.0.send(request);
        reply.send(answer);
    }
}

async fn next(receiver: &mut mpsc::UnboundedReceiver<Command>) -> Command {
    tokio::time::timeout(PATIENCE, receiver.recv())
        .await
        .unwrap()
        .unwrap()
}

/// Waits until something that other tasks bring about is true.
async fn until(mut is_true: impl FnMut() -> bool) {
    let waited = async {
        while !is_true() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.unwrap();
}

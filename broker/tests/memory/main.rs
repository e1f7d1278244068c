//! What a broker in this process takes per connection and per message: counted, so the same on every machine. What a process of its own
//! takes was measured once: `docs/memory.md`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use prometheus::Registry;
use rocket_broker::broker::Broker;
use rocket_broker::config::{BrokerConfig, Settings as _};
use rocket_broker::metrics::Scrape;
use rocket_protocol::header::{PullMessageHeader, SendMessageHeader};
use rocket_protocol::{Command, RequestCode, frame};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

mod pulls;
mod sends;

/// What is counted is counted for all threads together, so one test at a time counts.
static ALONE: Mutex<()> = Mutex::new(());

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

/// What does not come in this time does not come.
const PATIENCE: Duration = Duration::from_secs(20);
const CONNECTIONS: usize = 1000;
/// The bound for a connection that only waits.
const BYTES_EACH_MAX: i64 = 12 << 10;
/// Pulls that wait on one connection, and the bound for each.
const PULLS: usize = 10_000;
const BYTES_PER_PULL_MAX: i64 = 1 << 10;

fn frame_of(request: &Command) -> BytesMut {
    let mut bytes = BytesMut::new();
    frame::encode(request, &mut bytes);
    bytes
}

fn send() -> Command {
    let header = SendMessageHeader {
        producer_group: "producers".into(),
        topic: "T".into(),
        default_topic: "TBW102".into(),
        default_topic_queue_nums: 4,
        properties: Some("TAGS\u{1}TagA\u{2}".into()),
        ..SendMessageHeader::default()
    };
    Command::request(RequestCode::SEND_MESSAGE)
        .with_header(&header)
        .with_body(vec![7; 100])
}

/// Gives the message at `offset`, once it is there.
fn pull(offset: i64) -> Command {
    let header = PullMessageHeader {
        consumer_group: "a-consumer-group".into(),
        topic: "T".into(),
        queue_offset: offset,
        max_msg_nums: 32,
        sys_flag: 2 | 4,
        suspend_timeout_millis: 120_000,
        subscription: Some("TagA || TagB".into()),
        ..PullMessageHeader::default()
    };
    Command::request(RequestCode::PULL_MESSAGE).with_header(&header)
}

/// Answered at once. Frames of a connection are taken in their order, so what came before it is parked by then.
fn question() -> Command {
    Command::request(RequestCode::GET_MAX_OFFSET)
        .with_ext("topic", "T")
        .with_ext("queueId", "0")
}

/// A broker on threads that are counted.
fn counted_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .on_thread_start(counting::count_this_thread)
        .build()
        .unwrap()
}

async fn start(dir: &Path, more: &[(&str, &str)]) -> Broker {
    let mut config = BrokerConfig::default();
    let dir = dir.to_str().unwrap();
    for (key, value) in [
        ("storePathRootDir", dir),
        ("listenPort", "0"),
        ("metricsPort", "0"),
        ("bindAddress", "127.0.0.1"),
    ]
    .iter()
    .chain(more)
    {
        config.set(key, value).unwrap().unwrap();
    }
    let registry = Registry::new();
    let scrape = Arc::new(Scrape::new(registry.clone()));
    Broker::start(config, &registry, scrape).await.unwrap()
}

#[test]
fn a_connection_that_waits_costs_little() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let serving = counted_runtime();
    let dir = folder.path().to_owned();
    let broker = serving
        .block_on(serving.spawn(async move { start(&dir, &[]).await }))
        .unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, broker.address().port()));
    let asking = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    asking.block_on(async {
        let mut first = Client::connect(address).await;
        first.send(&[send(), pull(0)]).await;
        first.answers(2).await;
        let open = async |count: usize, offset: i64| {
            let mut clients = Vec::new();
            for _ in 0..count {
                let mut client = Client::connect(address).await;
                client.send(&[pull(offset), question()]).await;
                client.answers(1).await;
                clients.push(client);
            }
            assert_eq!(broker.waiting_pulls(), count);
            clients
        };
        // The message that all wait for is sent, and each is seen to its end.
        let release = async |first: &mut Client, clients: Vec<Client>| {
            first.send(&[send()]).await;
            first.answers(1).await;
            for mut client in clients {
                client.answers(1).await;
                client.close().await;
            }
            assert_eq!(broker.waiting_pulls(), 0);
        };
        // What is made once is made now.
        let clients = open(50, 1).await;
        release(&mut first, clients).await;
        let before = counting::counted().bytes;
        let clients = open(CONNECTIONS, 2).await;
        let each = (counting::counted().bytes - before) / i64::try_from(CONNECTIONS).unwrap();
        assert!(each > 500, "{each}: nothing was counted");
        assert!(
            each <= BYTES_EACH_MAX,
            "{each} bytes per waiting connection"
        );
        release(&mut first, clients).await;
        let before = counting::counted().bytes;
        let mut pulls = vec![pull(3); PULLS];
        pulls.push(question());
        first.send(&pulls).await;
        first.answers(1).await;
        assert_eq!(broker.waiting_pulls(), PULLS);
        let each = (counting::counted().bytes - before) / i64::try_from(PULLS).unwrap();
        assert!(each > 100, "{each}: nothing was counted");
        assert!(each <= BYTES_PER_PULL_MAX, "{each} bytes per waiting pull");
    });
    serving.block_on(broker.stop()).unwrap();
}

struct Client(TcpStream);

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    async fn send(&mut self, requests: &[Command]) {
        let frames: Vec<u8> = requests.iter().flat_map(frame_of).collect();
        self.0.write_all(&frames).await.unwrap();
    }

    async fn answers(&mut self, count: usize) {
        let reading = async {
            for _ in 0..count {
                let len = self.0.read_u32().await.unwrap();
                let mut answer = vec![0; usize::try_from(len).unwrap()];
                self.0.read_exact(&mut answer).await.unwrap();
            }
        };
        timeout(PATIENCE, reading).await.expect("an answer");
    }

    /// Waits until the broker has closed it, too.
    async fn close(mut self) {
        self.0.shutdown().await.unwrap();
        let end = timeout(PATIENCE, self.0.read_u8()).await;
        assert!(end.expect("the end").is_err());
    }
}

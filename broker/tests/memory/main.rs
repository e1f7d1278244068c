//! What a broker in this process takes per connection and per message: counted, so the same on every machine. What a process of its own
//! takes was measured once: `docs/memory.md`.
#![allow(
    clippy::unwrap_used,
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

mod pulls;
mod sends;

/// What is counted is counted for all threads together, so one test at a time counts.
static ALONE: Mutex<()> = Mutex::new(());

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

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
        ..SendMessageHeader::default()
    };
    Command::request(RequestCode::SEND_MESSAGE)
        .with_header(&header)
        .with_body(vec![7; 100])
}

/// Waits at the broker for the message behind the last one.
fn waiting_pull() -> Command {
    let header = PullMessageHeader {
        consumer_group: "a-consumer-group".into(),
        topic: "T".into(),
        queue_offset: 1,
        max_msg_nums: 32,
        sys_flag: 2 | 4,
        suspend_timeout_millis: 120_000,
        subscription: Some("TagA || TagB".into()),
        ..PullMessageHeader::default()
    };
    Command::request(RequestCode::PULL_MESSAGE).with_header(&header)
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
        let mut first = TcpStream::connect(address).await.unwrap();
        first.write_all(&frame_of(&send())).await.unwrap();
        let mut answer = [0; 4];
        first.read_exact(&mut answer).await.unwrap();
        let open = async |count: usize| {
            let mut connections = Vec::new();
            for _ in 0..count {
                let mut connection = TcpStream::connect(address).await.unwrap();
                let pull = frame_of(&waiting_pull());
                connection.write_all(&pull).await.unwrap();
                connections.push(connection);
            }
            until(|| broker.waiting_pulls() >= count).await;
            connections
        };
        // What is made once is made now.
        drop(open(50).await);
        until(|| broker.waiting_pulls() == 0).await;
        let before = counting::counted().bytes;
        let connections = open(CONNECTIONS).await;
        let each = (counting::counted().bytes - before) / i64::try_from(CONNECTIONS).unwrap();
        assert!(each > 500, "{each}: nothing was counted");
        assert!(
            each <= BYTES_EACH_MAX,
            "{each} bytes per waiting connection"
        );
        drop(connections);
        until(|| broker.waiting_pulls() == 0).await;
        let before = counting::counted().bytes;
        let pulls = frame_of(&waiting_pull()).repeat(PULLS);
        first.write_all(&pulls).await.unwrap();
        until(|| broker.waiting_pulls() == PULLS).await;
        let each = (counting::counted().bytes - before) / i64::try_from(PULLS).unwrap();
        assert!(each > 100, "{each}: nothing was counted");
        assert!(each <= BYTES_PER_PULL_MAX, "{each} bytes per waiting pull");
    });
    serving.block_on(broker.stop()).unwrap();
}

async fn until(mut is_true: impl FnMut() -> bool) {
    let waited = async {
        while !is_true() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waited)
        .await
        .unwrap();
}

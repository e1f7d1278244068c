//! The name server over real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on ends by panicking"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rocket_namesrv::{KvConfig, Namesrv, NamesrvProcessor, Settings, table::Rules};
use rocket_protocol::body::{
    DataVersion, RegisterBrokerBody, RouteData, TopicConfig, TopicConfigTable,
};
use rocket_protocol::header::{
    GetRouteInfoHeader, KvKeyHeader, PutKvConfigHeader, RegisterBrokerHeader,
};
use rocket_protocol::{Command, RequestCode, ResponseCode, UnixMillis};
use rocket_remoting::{Client, ClientConfig, NoRequests, Server, ServerConfig};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const PATIENCE: Duration = Duration::from_secs(5);

struct Running {
    address: String,
    tasks: TaskTracker,
    stop: CancellationToken,
    processor: Arc<NamesrvProcessor>,
    folder: tempfile::TempDir,
}

fn start(now: fn() -> UnixMillis) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let kv = KvConfig::open(&folder.path().join("kv.json")).unwrap();
    let settings = Settings {
        rules: Rules::default(),
        order_message: false,
        all_topic_list: true,
    };
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let processor = Arc::new(NamesrvProcessor::new(
        Arc::new(Namesrv::new(settings, kv, now)),
        tasks.clone(),
    ));
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = Server::bind(
        any,
        ServerConfig::default(),
        Arc::clone(&processor) as _,
        &tasks,
        stop.clone(),
    )
    .unwrap();
    Running {
        address: server.local_addr().to_string(),
        tasks,
        stop,
        processor,
        folder,
    }
}

impl Running {
    async fn connect(&self) -> Client {
        Client::connect(&self.address, ClientConfig::default(), Arc::new(NoRequests))
            .await
            .unwrap()
    }

    async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn register(expiry: i64) -> Command {
    let topic = |name: &str| {
        (
            name.to_owned(),
            TopicConfig {
                topic_name: name.to_owned(),
                ..TopicConfig::default()
            },
        )
    };
    let body = RegisterBrokerBody {
        topic_config_serialize_wrapper: TopicConfigTable {
            data_version: DataVersion {
                counter: 1,
                state_version: 0,
                timestamp: 1,
            },
            topic_config_table: [topic("T"), topic("U")].into(),
            ..TopicConfigTable::default()
        },
        ..RegisterBrokerBody::default()
    };
    let header = RegisterBrokerHeader {
        broker_name: "broker-a".into(),
        broker_addr: "127.0.0.1:10911".into(),
        cluster_name: "C".into(),
        ha_server_addr: "127.0.0.1:10912".into(),
        heartbeat_timeout_millis: Some(expiry),
        ..RegisterBrokerHeader::default()
    };
    Command::request(RequestCode::REGISTER_BROKER)
        .with_header(&header)
        .with_body(body.to_json())
}

async fn route(client: &Client) -> Command {
    let header = GetRouteInfoHeader {
        topic: "T".into(),
        ..GetRouteInfoHeader::default()
    };
    client
        .call(
            Command::request(RequestCode::GET_ROUTEINFO_BY_TOPIC).with_header(&header),
            PATIENCE,
        )
        .await
        .unwrap()
}

/// The close of a connection reaches the table when the server's task for it ends; asking again is how a client sees it.
async fn until_gone(client: &Client) {
    let gone = async {
        while route(client).await.response_code() != ResponseCode::TOPIC_NOT_EXIST {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone)
        .await
        .expect("the route is still there");
}

#[tokio::test]
async fn a_broker_is_routed_to_until_its_connection_closes() {
    let server = start(|| UnixMillis(1));
    let (broker, client) = (server.connect().await, server.connect().await);
    assert_eq!(
        route(&client).await.response_code(),
        ResponseCode::TOPIC_NOT_EXIST
    );
    let registered = broker.call(register(120_000), PATIENCE).await.unwrap();
    assert_eq!(registered.response_code(), ResponseCode::SUCCESS);
    let found = RouteData::parse(&route(&client).await.body.contiguous()).unwrap();
    assert_eq!(found.broker_datas[0].broker_addrs[&0], "127.0.0.1:10911");
    broker.close().await;
    until_gone(&client).await;
    client.close().await;
    server.end().await;
}

#[tokio::test]
async fn a_silent_broker_is_forgotten_and_cut_off() {
    use std::sync::atomic::{AtomicI64, Ordering};
    static NOW: AtomicI64 = AtomicI64::new(0);
    let server = start(|| UnixMillis(NOW.load(Ordering::Relaxed)));
    let (broker, client) = (server.connect().await, server.connect().await);
    broker.call(register(10_000), PATIENCE).await.unwrap();
    NOW.store(10_001, Ordering::Relaxed);
    server.processor.expire();
    assert_eq!(
        route(&client).await.response_code(),
        ResponseCode::TOPIC_NOT_EXIST
    );
    let cut_off = async {
        while broker.is_open() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, cut_off)
        .await
        .expect("the silent broker's connection is still open");
    server.end().await;
}

#[tokio::test]
async fn a_key_value_setting_is_answered_after_it_was_written() {
    let server = start(|| UnixMillis(1));
    let client = server.connect().await;
    let put = PutKvConfigHeader {
        namespace: "N".into(),
        key: "k".into(),
        value: "v".into(),
    };
    let put = Command::request(RequestCode::PUT_KV_CONFIG).with_header(&put);
    assert_eq!(
        client.call(put, PATIENCE).await.unwrap().response_code(),
        ResponseCode::SUCCESS
    );
    let on_disk = std::fs::read_to_string(server.folder.path().join("kv.json")).unwrap();
    assert!(on_disk.contains("\"k\": \"v\""), "{on_disk}");
    let get = Command::request(RequestCode::GET_KV_CONFIG).with_header(&KvKeyHeader {
        namespace: "N".into(),
        key: "k".into(),
    });
    assert_eq!(
        client.call(get, PATIENCE).await.unwrap().ext.get("value"),
        Some("v")
    );
    client.close().await;
    server.end().await;
}

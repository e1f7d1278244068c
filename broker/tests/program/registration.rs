//! Registration with real name servers over loopback sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::Registry;
use rocket_broker::config::{HostPort, NamesrvConfig};
use rocket_broker::crew::{Alarm, Crew};
use rocket_broker::metrics::{self, Scrape};
use rocket_broker::name_server::NameServer;
use rocket_broker::registration::{Announcement, Plan, Reached, Registration};
use rocket_protocol::body::{
    DataVersion, RegisterBrokerBody, TopicConfig, TopicConfigTable, TopicList,
};
use rocket_protocol::header::{BrokerIdentityHeader, RegisterBrokerHeader};
use rocket_protocol::{Command, RequestCode};
use rocket_remoting::{Client, ClientConfig, NoRequests};

const PATIENCE: Duration = Duration::from_secs(20);

/// A broker that announces the topics that it is given.
struct Topics(Mutex<Vec<&'static str>>);

impl Announcement for Topics {
    fn register(&self) -> Command {
        let topics = self.0.lock();
        let topic = |name: &&str| {
            (
                (*name).to_owned(),
                TopicConfig {
                    topic_name: (*name).to_owned(),
                    ..TopicConfig::default()
                },
            )
        };
        let body = RegisterBrokerBody {
            topic_config_serialize_wrapper: TopicConfigTable {
                data_version: DataVersion {
                    counter: i64::try_from(topics.len()).unwrap(),
                    ..DataVersion::default()
                },
                topic_config_table: topics.iter().map(topic).collect(),
                ..TopicConfigTable::default()
            },
            ..RegisterBrokerBody::default()
        };
        let header = RegisterBrokerHeader {
            broker_name: "b".into(),
            broker_addr: "127.0.0.1:10911".into(),
            cluster_name: "C".into(),
            ha_server_addr: "127.0.0.1:10912".into(),
            ..RegisterBrokerHeader::default()
        };
        Command::request(RequestCode::REGISTER_BROKER)
            .with_header(&header)
            .with_body(body.to_json())
    }

    fn unregister(&self) -> Command {
        let header = BrokerIdentityHeader {
            broker_name: "b".into(),
            broker_addr: "127.0.0.1:10911".into(),
            cluster_name: "C".into(),
            broker_id: 0,
        };
        Command::request(RequestCode::UNREGISTER_BROKER).with_header(&header)
    }
}

struct Servers {
    folder: tempfile::TempDir,
}

impl Servers {
    fn start(&self, port: u16) -> NameServer {
        let config = NamesrvConfig {
            bind_address: [127, 0, 0, 1].into(),
            listen_port: port,
            kv_config_path: self.folder.path().join("kv.json"),
            ..NamesrvConfig::default()
        };
        let registry: Registry = metrics::registry("", "nameserver", "n").unwrap();
        NameServer::start(&config, &registry, &Scrape::new(registry.clone())).unwrap()
    }
}

fn plan(addresses: &[SocketAddr]) -> Plan {
    let target = |address: &SocketAddr| HostPort {
        host: address.ip().to_string(),
        port: address.port(),
    };
    // A period that no test waits for: what happens, happens at once.
    Plan {
        targets: addresses.iter().map(target).collect(),
        period: Duration::from_hours(1),
        timeout: PATIENCE,
    }
}

async fn topics(address: SocketAddr) -> Vec<String> {
    let client = Client::connect(
        &address.to_string(),
        ClientConfig::default(),
        Arc::new(NoRequests),
    )
    .await
    .unwrap();
    let answer = client
        .call(
            Command::request(RequestCode::GET_ALL_TOPIC_LIST_FROM_NAMESERVER),
            PATIENCE,
        )
        .await
        .unwrap();
    TopicList::parse(&answer.body.contiguous())
        .unwrap()
        .topic_list
}

async fn until(what: &str, address: SocketAddr, wanted: &[&str]) {
    let reached = async {
        while topics(address).await != wanted {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, reached)
        .await
        .unwrap_or_else(|_| panic!("{what}"));
}

fn servers() -> Servers {
    Servers {
        folder: tempfile::tempdir().unwrap(),
    }
}

#[tokio::test]
async fn every_name_server_is_told_at_start_upon_a_change_and_at_the_end() {
    let servers = servers();
    let both = [servers.start(0), servers.start(0)];
    let addresses = [both[0].address(), both[1].address()];
    let broker = Arc::new(Topics(Mutex::new(vec!["T", "U"])));
    let crew = Crew::default();
    let registration = Registration::new(Alarm::default());
    registration.start(
        plan(&addresses),
        Arc::clone(&broker) as _,
        &crew.tasks,
        crew.stop.clone(),
    );
    for address in addresses {
        until("the start is told", address, &["T", "U"]).await;
    }
    broker.0.lock().push("V");
    registration.topics_changed();
    for address in addresses {
        until("a change is told at once", address, &["T", "U", "V"]).await;
    }
    crew.dismiss().await;
    for address in addresses {
        assert!(topics(address).await.is_empty());
    }
    assert_eq!(registration.reached().registered, 0);
}

#[tokio::test]
async fn a_name_server_that_is_down_costs_the_others_nothing_and_is_told_when_it_is_back() {
    let servers = servers();
    let (up, down) = (servers.start(0), servers.start(0));
    let address = down.address();
    down.stop().await;
    drop(down);
    let broker = Arc::new(Topics(Mutex::new(vec!["T", "U"])));
    let crew = Crew::default();
    let registration = Registration::new(Alarm::default());
    registration.start(
        plan(&[up.address(), address]),
        broker as _,
        &crew.tasks,
        crew.stop.clone(),
    );
    registration.first().await;
    until("the living one is told", up.address(), &["T", "U"]).await;
    assert_eq!(
        registration.reached(),
        Reached {
            registered: 1,
            known: 2
        }
    );
    let _back = servers.start(address.port());
    until("the one that is back is told", address, &["T", "U"]).await;
    crew.dismiss().await;
}

#[tokio::test]
async fn a_name_server_that_restarts_is_told_again_without_waiting_for_the_period() {
    let servers = servers();
    let first = servers.start(0);
    let address = first.address();
    let broker = Arc::new(Topics(Mutex::new(vec!["T", "U"])));
    let crew = Crew::default();
    let registration = Registration::new(Alarm::default());
    registration.start(
        plan(&[address]),
        broker as _,
        &crew.tasks,
        crew.stop.clone(),
    );
    registration.first().await;
    first.stop().await;
    let _second = servers.start(address.port());
    until("the restarted one is told", address, &["T", "U"]).await;
    crew.dismiss().await;
}

/// One that does not know what to say.
struct Speechless;

impl Announcement for Speechless {
    fn register(&self) -> Command {
        panic!("no words")
    }

    fn unregister(&self) -> Command {
        panic!("no words")
    }
}

#[tokio::test]
async fn a_registration_that_breaks_is_told_of() {
    let servers = servers();
    let server = servers.start(0);
    let crew = Crew::default();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let alarm = Alarm::new(move |what| drop(tell.send(what)));
    Registration::new(alarm).start(
        plan(&[server.address()]),
        Arc::new(Speechless),
        &crew.tasks,
        crew.stop.clone(),
    );
    let what = tokio::time::timeout(PATIENCE, told.recv()).await.unwrap();
    assert_eq!(what.as_deref(), Some("registration: no words"));
    crew.dismiss().await;
}

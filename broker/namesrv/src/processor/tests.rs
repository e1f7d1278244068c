//! Codes, remarks and bodies as RocketMQ's clients, tools and brokers expect them.

use rocket_protocol::body::{
    DataVersion, RegisterBrokerBody, RouteData, TopicConfig, TopicConfigTable,
};
use rocket_protocol::header::{
    AddWritePermResponseHeader, GetKvConfigResponseHeader, QueryDataVersionResponseHeader,
    RegisterBrokerResponseHeader, WipeWritePermResponseHeader,
};

use super::wire::crc32;
use super::*;
use crate::kv::ORDER_TOPIC_CONFIG;

fn settings() -> Settings {
    Settings {
        rules: Rules::default(),
        order_message: true,
        all_topic_list: true,
    }
}

struct Server {
    namesrv: Namesrv,
    _folder: tempfile::TempDir,
}

fn server(settings: Settings) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let kv = KvConfig::open(&folder.path().join("kv.json")).unwrap();
    Server {
        namesrv: Namesrv::new(settings, kv, || UnixMillis(1)),
        _folder: folder,
    }
}

impl Server {
    fn ask(&self, request: &Command) -> Command {
        match self.namesrv.handle(1, request) {
            Outcome::Answer(answer) => answer,
            Outcome::Disk(change) => change.apply(),
        }
    }

    fn ask_of(&self, code: RequestCode, fields: &[(&'static str, &str)]) -> Command {
        self.ask(&request(code, fields))
    }
}

fn request(code: RequestCode, fields: &[(&'static str, &str)]) -> Command {
    fields
        .iter()
        .fold(Command::request(code), |request, (name, value)| {
            request.with_ext(*name, (*value).to_owned())
        })
}

fn body(topics: &[&str]) -> RegisterBrokerBody {
    let topic = |name: &&str| {
        (
            (*name).to_owned(),
            TopicConfig {
                topic_name: (*name).to_owned(),
                ..TopicConfig::default()
            },
        )
    };
    RegisterBrokerBody {
        topic_config_serialize_wrapper: TopicConfigTable {
            data_version: DataVersion {
                counter: 1,
                state_version: 0,
                timestamp: 7,
            },
            topic_config_table: topics.iter().map(topic).collect(),
            ..TopicConfigTable::default()
        },
        ..RegisterBrokerBody::default()
    }
}

const IDENTITY: [(&str, &str); 4] = [
    ("brokerName", "broker-a"),
    ("brokerAddr", "127.0.0.1:10911"),
    ("clusterName", "C"),
    ("brokerId", "0"),
];

fn register(fields: &[(&'static str, &str)], body: impl Into<rocket_protocol::Body>) -> Command {
    request(RequestCode::REGISTER_BROKER, &IDENTITY)
        .with_ext("haServerAddr", "127.0.0.1:10912")
        .with_body(body)
        .with_fields(fields)
}

trait WithFields {
    fn with_fields(self, fields: &[(&'static str, &str)]) -> Self;
}

impl WithFields for Command {
    fn with_fields(self, fields: &[(&'static str, &str)]) -> Self {
        fields.iter().fold(self, |request, (name, value)| {
            request.with_ext(*name, (*value).to_owned())
        })
    }
}

fn registered(topics: &[&str]) -> Server {
    let server = server(settings());
    assert_eq!(
        server
            .ask(&register(&[], body(topics).to_json()))
            .response_code(),
        ResponseCode::SUCCESS
    );
    server
}

fn refusal(answer: &Command) -> (ResponseCode, &str) {
    (
        answer.response_code(),
        answer.remark.as_deref().unwrap_or_default(),
    )
}

fn text(answer: &Command) -> String {
    String::from_utf8(answer.body.contiguous().to_vec()).unwrap()
}

#[test]
fn a_route_is_strict_json_in_rocketmqs_shape() {
    let server = registered(&["T", "U"]);
    assert_eq!(
        text(&server.ask_of(RequestCode::GET_ROUTEINFO_BY_TOPIC, &[("topic", "T")])),
        r#"{"brokerDatas":[{"brokerAddrs":{"0":"127.0.0.1:10911"},"brokerName":"broker-a","cluster":"C","enableActingMaster":false}],"filterServerTable":{},"queueDatas":[{"brokerName":"broker-a","perm":6,"readQueueNums":16,"topicSysFlag":0,"writeQueueNums":16}]}"#
    );
}

#[test]
fn an_unknown_topic_has_rocketmqs_code_and_remark() {
    let server = registered(&["T", "U"]);
    let answer = server.ask_of(RequestCode::GET_ROUTEINFO_BY_TOPIC, &[("topic", "X")]);
    assert_eq!(
        refusal(&answer),
        (
            ResponseCode::TOPIC_NOT_EXIST,
            "No topic route info in name server for the topic: X\nSee https://rocketmq.apache.org/docs/bestPractice/06FAQ for further details."
        )
    );
}

#[test]
fn an_unknown_code_and_a_missing_field_are_told() {
    let server = server(settings());
    assert_eq!(
        refusal(&server.ask_of(RequestCode(9999), &[])),
        (
            ResponseCode::REQUEST_CODE_NOT_SUPPORTED,
            " request type 9999 not supported"
        )
    );
    assert_eq!(
        refusal(&server.ask_of(RequestCode::GET_ROUTEINFO_BY_TOPIC, &[])).0,
        ResponseCode::SYSTEM_ERROR
    );
}

#[test]
fn a_compressed_registration_and_its_checksum_are_read() {
    let server = server(settings());
    let compressed = body(&["T", "U"]).to_compressed();
    let right = crc32(&compressed).to_string();
    let wrong = (crc32(&compressed) ^ 1).to_string();
    let send = |crc: &str| {
        server.ask(&register(
            &[("compressed", "true"), ("bodyCrc32", crc)],
            compressed.clone(),
        ))
    };
    assert_eq!(
        refusal(&send(&wrong)),
        (ResponseCode::SYSTEM_ERROR, "crc32 not match")
    );
    assert_eq!(send(&right).response_code(), ResponseCode::SUCCESS);
    assert_eq!(server.namesrv.counts(), (1, 2));
}

#[test]
fn a_registration_before_3_0_11_has_a_bare_topic_table() {
    let server = server(settings());
    let mut old = register(
        &[],
        rocket_protocol::json::to_json(&body(&["T", "U"]).topic_config_serialize_wrapper),
    );
    old.version = 36;
    assert_eq!(server.ask(&old).response_code(), ResponseCode::SUCCESS);
    assert_eq!(server.namesrv.counts(), (1, 2));
}

#[test]
fn broken_registrations_change_nothing() {
    let server = server(settings());
    let long = "x".repeat(1025);
    for (fields, body) in [
        (vec![], b"{".to_vec()),
        (vec![("compressed", "true")], b"no zlib".to_vec()),
        (
            vec![("brokerAddr", "a:1,b:2")],
            body(&["T", "U"]).to_json().to_vec(),
        ),
        (
            vec![("brokerId", "-1")],
            body(&["T", "U"]).to_json().to_vec(),
        ),
        (
            vec![("brokerName", &*long)],
            body(&["T", "U"]).to_json().to_vec(),
        ),
        (
            vec![("haServerAddr", &*long)],
            body(&["T", "U"]).to_json().to_vec(),
        ),
        (
            vec![("__ZONE_NAME", &*long)],
            body(&["T", "U"]).to_json().to_vec(),
        ),
    ] {
        assert_eq!(
            server.ask(&register(&fields, body)).response_code(),
            ResponseCode::SYSTEM_ERROR,
            "{fields:?}"
        );
    }
    assert_eq!(
        refusal(&server.ask(&register(&[], body(&["T"]).to_json()))),
        (ResponseCode::SYSTEM_ERROR, "register broker failed")
    );
    assert_eq!(server.namesrv.counts(), (0, 0));
}

#[test]
fn a_slave_is_told_its_master() {
    let server = registered(&["T", "U"]);
    let slave = register(
        &[("brokerId", "1"), ("brokerAddr", "127.0.0.1:20911")],
        body(&["T", "U"]).to_json(),
    );
    let header: RegisterBrokerResponseHeader = server.ask(&slave).header().unwrap();
    assert_eq!(header.master_addr.as_deref(), Some("127.0.0.1:10911"));
    assert_eq!(header.ha_server_addr.as_deref(), Some("127.0.0.1:10912"));
}

/// Hole 13 of docs/replication.md §13.4: for a while two brokers take themselves for the master of a group.
#[test]
fn routes_lead_to_the_master_of_the_latest_epoch_however_often_another_registers() {
    let server = server(settings());
    let register_as = |channel, addr: &str, epoch| {
        let mut body = body(&["T", "U"]);
        let table = &mut body.topic_config_serialize_wrapper;
        table.data_version.state_version = epoch;
        let request = register(&[("brokerAddr", addr)], body.to_json());
        let Outcome::Answer(answer) = server.namesrv.handle(channel, &request) else {
            panic!("a registration waits for no disk");
        };
        assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
    };
    let masters = || {
        let route = server.ask_of(RequestCode::GET_ROUTEINFO_BY_TOPIC, &[("topic", "T")]);
        let route = RouteData::parse(&route.body.contiguous()).unwrap();
        let groups = route.broker_datas.into_iter();
        groups
            .flat_map(|group| group.broker_addrs)
            .collect::<Vec<_>>()
    };
    let (old, new) = ("127.0.0.1:1", "127.0.0.1:2");
    register_as(1, old, 4);
    assert_eq!(masters(), [(0, old.to_owned())]);
    register_as(2, new, 5);
    // Over the connection that it has, and over a new one.
    for channel in [1, 1, 3] {
        register_as(channel, old, 4);
        assert_eq!(masters(), [(0, new.to_owned())]);
    }
    server.namesrv.closed(1);
    server.namesrv.closed(3);
    assert_eq!(masters(), [(0, new.to_owned())]);
}

#[test]
fn data_versions_are_compared() {
    let server = registered(&["T", "U"]);
    let query = |counter| {
        let version = DataVersion {
            counter,
            state_version: 0,
            timestamp: 7,
        };
        server
            .ask(&request(RequestCode::QUERY_DATA_VERSION, &IDENTITY).with_body(version.to_json()))
    };
    assert!(
        !query(1)
            .header::<QueryDataVersionResponseHeader>()
            .unwrap()
            .changed
    );
    let answer = query(2);
    assert!(
        answer
            .header::<QueryDataVersionResponseHeader>()
            .unwrap()
            .changed
    );
    assert_eq!(
        DataVersion::parse(&answer.body.contiguous())
            .unwrap()
            .counter,
        1
    );
}

#[test]
fn lists_are_in_rocketmqs_shapes() {
    let server = registered(&["T", "U"]);
    let ask = |code, fields: &[(&'static str, &str)]| text(&server.ask_of(code, fields));
    assert_eq!(
        ask(RequestCode::GET_ALL_TOPIC_LIST_FROM_NAMESERVER, &[]),
        r#"{"topicList":["T","U"]}"#
    );
    assert_eq!(
        ask(RequestCode::GET_TOPICS_BY_CLUSTER, &[("cluster", "D")]),
        r#"{"topicList":[]}"#
    );
    assert_eq!(
        ask(RequestCode::GET_SYSTEM_TOPIC_LIST_FROM_NS, &[]),
        r#"{"brokerAddr":"127.0.0.1:10911","topicList":["C","broker-a"]}"#
    );
    assert_eq!(
        ask(RequestCode::GET_BROKER_CLUSTER_INFO, &[]),
        r#"{"brokerAddrTable":{"broker-a":{"brokerAddrs":{"0":"127.0.0.1:10911"},"brokerName":"broker-a","cluster":"C","enableActingMaster":false}},"clusterAddrTable":{"C":["broker-a"]}}"#
    );
    assert_eq!(
        ask(
            RequestCode::GET_BROKER_MEMBER_GROUP,
            &[("clusterName", "C"), ("brokerName", "broker-a")]
        ),
        r#"{"brokerMemberGroup":{"brokerAddrs":{"0":"127.0.0.1:10911"},"brokerName":"broker-a","cluster":"C"}}"#
    );
}

#[test]
fn the_list_of_all_topics_can_be_forbidden() {
    let server = server(Settings {
        all_topic_list: false,
        ..settings()
    });
    let answer = server.ask_of(RequestCode::GET_ALL_TOPIC_LIST_FROM_NAMESERVER, &[]);
    assert_eq!(refusal(&answer), (ResponseCode::SYSTEM_ERROR, "disable"));
}

#[test]
fn write_permission_is_taken_and_given_back_with_counts() {
    let server = registered(&["T", "U"]);
    let wiped = server.ask_of(
        RequestCode::WIPE_WRITE_PERM_OF_BROKER,
        &[("brokerName", "broker-a")],
    );
    assert_eq!(
        wiped
            .header::<WipeWritePermResponseHeader>()
            .unwrap()
            .wipe_topic_count,
        2
    );
    assert!(
        text(&server.ask_of(RequestCode::GET_ROUTEINFO_BY_TOPIC, &[("topic", "T")]))
            .contains("\"perm\":4")
    );
    let added = server.ask_of(
        RequestCode::ADD_WRITE_PERM_OF_BROKER,
        &[("brokerName", "broker-a")],
    );
    assert_eq!(
        added
            .header::<AddWritePermResponseHeader>()
            .unwrap()
            .add_topic_count,
        2
    );
}

#[test]
fn key_value_settings_reach_routes_and_registrations() {
    let server = registered(&["T", "U"]);
    let key = [("namespace", ORDER_TOPIC_CONFIG), ("key", "T")];
    let get = || server.ask_of(RequestCode::GET_KV_CONFIG, &key);
    assert_eq!(
        refusal(&get()),
        (
            ResponseCode::QUERY_NOT_FOUND,
            "No config item, Namespace: ORDER_TOPIC_CONFIG Key: T"
        )
    );
    let list = || server.ask_of(RequestCode::GET_KVLIST_BY_NAMESPACE, &key[..1]);
    assert_eq!(
        refusal(&list()),
        (
            ResponseCode::QUERY_NOT_FOUND,
            "No config item, Namespace: ORDER_TOPIC_CONFIG"
        )
    );
    let put = request(RequestCode::PUT_KV_CONFIG, &key).with_ext("value", "broker-a:4");
    assert_eq!(server.ask(&put).response_code(), ResponseCode::SUCCESS);
    assert_eq!(
        get()
            .header::<GetKvConfigResponseHeader>()
            .unwrap()
            .value
            .as_deref(),
        Some("broker-a:4")
    );
    assert_eq!(text(&list()), r#"{"table":{"T":"broker-a:4"}}"#);
    assert_eq!(
        text(&server.ask(&register(&[], body(&["T", "U"]).to_json()))),
        r#"{"table":{"T":"broker-a:4"}}"#
    );
    let route = text(&server.ask_of(RequestCode::GET_ROUTEINFO_BY_TOPIC, &[("topic", "T")]));
    assert!(
        route.contains(r#""orderTopicConf":"broker-a:4""#),
        "{route}"
    );
    assert_eq!(
        server
            .ask_of(RequestCode::DELETE_KV_CONFIG, &key)
            .response_code(),
        ResponseCode::SUCCESS
    );
    assert_eq!(get().response_code(), ResponseCode::QUERY_NOT_FOUND);
    let empty = server.ask_of(
        RequestCode::PUT_KV_CONFIG,
        &[("namespace", ""), ("key", "k"), ("value", "v")],
    );
    assert_eq!(
        refusal(&empty),
        (ResponseCode::SYSTEM_ERROR, "namespace or key is null")
    );
}

#[test]
fn a_farewell_and_a_deleted_topic_end_routes() {
    let server = registered(&["T", "U"]);
    server.ask_of(RequestCode::DELETE_TOPIC_IN_NAMESRV, &[("topic", "T")]);
    assert_eq!(
        server
            .ask_of(RequestCode::GET_ROUTEINFO_BY_TOPIC, &[("topic", "T")])
            .response_code(),
        ResponseCode::TOPIC_NOT_EXIST
    );
    server.ask_of(RequestCode::UNREGISTER_BROKER, &IDENTITY);
    assert_eq!(server.namesrv.counts(), (0, 0));
}

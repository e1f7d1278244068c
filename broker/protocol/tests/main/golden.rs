//! Every frame of `tests/fixtures/wire`, taken from Apache's clients, tools, brokers and name servers, is decoded, compared
//! with what its index says, read through the typed header and body of its code, and encoded again.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use rocket_protocol::body::*;
use rocket_protocol::code::RequestCode as R;
use rocket_protocol::frame::{self, Limits};
use rocket_protocol::header::*;
use rocket_protocol::message::{BatchMessage, OffsetMessageId, UniqueKey, batch, property};
use rocket_protocol::{
    Command, ExtFields, HeaderFormat, Message, RecordView, RequestCode, TopicName, json,
};
use serde_json::Value;

struct Captured {
    name: String,
    bytes: Bytes,
    index: Value,
    command: Command,
}

impl Captured {
    /// The code of the request that this is or answers.
    fn request_code(&self) -> RequestCode {
        let code = self
            .index
            .get("request_code")
            .unwrap_or(&self.index["code"]);
        RequestCode(i32::try_from(code.as_i64().unwrap()).unwrap())
    }
}

fn captured() -> Vec<Captured> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/wire");
    let mut frames = Vec::new();
    for scenario in std::fs::read_dir(&root).expect("tests/fixtures/wire") {
        let folder = scenario.unwrap().path();
        let index = std::fs::read(folder.join("index.json")).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        for entry in index["frames"].as_array().unwrap() {
            let path = folder.join(entry["file"].as_str().unwrap());
            let bytes = Bytes::from(std::fs::read(&path).unwrap());
            let mut buffer = BytesMut::from(&bytes[..]);
            let command = frame::decode(&mut buffer, &Limits::default());
            let name = path.strip_prefix(&root).unwrap().display().to_string();
            let command = command
                .unwrap_or_else(|error| panic!("{name}: {error}"))
                .expect("a whole frame");
            assert!(buffer.is_empty(), "{name} is one frame");
            frames.push(Captured {
                name,
                bytes,
                index: entry.clone(),
                command,
            });
        }
    }
    assert!(frames.len() > 350, "the fixtures are there");
    frames
}

#[test]
fn frames_decode_to_what_their_index_says() {
    for Captured {
        name,
        index,
        command,
        ..
    } in captured()
    {
        let number = |key: &str| index[key].as_i64().unwrap();
        assert_eq!(i64::from(command.code), number("code"), "{name}");
        assert_eq!(i64::from(command.opaque), number("opaque"), "{name}");
        assert_eq!(i64::from(command.flag), number("flag"), "{name}");
        assert_eq!(i64::from(command.version), number("version"), "{name}");
        assert_eq!(
            i64::try_from(command.body.len()).unwrap(),
            number("body_len"),
            "{name}"
        );
        assert_eq!(
            command.remark.as_deref(),
            index.get("remark").and_then(Value::as_str),
            "{name}"
        );
        let format = if index["serialize"] == "JSON" {
            HeaderFormat::Json
        } else {
            HeaderFormat::Compact
        };
        assert_eq!(command.format, format, "{name}");
        let ext: BTreeMap<&str, &str> = command.ext.iter().collect();
        let expected = index["ext"].as_object().unwrap().iter();
        let expected: BTreeMap<&str, &str> = expected
            .map(|(k, v)| (k.as_str(), v.as_str().unwrap()))
            .collect();
        assert_eq!(ext, expected, "{name}");
    }
}

#[test]
fn compact_frames_are_encoded_to_the_same_bytes_and_json_frames_to_the_same_command() {
    let (mut compact, mut identical_json) = (0, 0);
    for Captured {
        name,
        bytes,
        command,
        ..
    } in captured()
    {
        let mut out = BytesMut::new();
        frame::encode(&command, &mut out);
        if command.format == HeaderFormat::Compact {
            compact += 1;
            assert_eq!(out, bytes, "{name}");
        } else {
            identical_json += usize::from(out == bytes);
            let again = frame::decode(&mut out, &Limits::default())
                .unwrap()
                .unwrap();
            assert_eq!(again, command, "{name}");
        }
    }
    assert!(compact >= 25, "{compact} compact frames");
    // Not a promise of the protocol, but a sign that keys and escapes are those of Java.
    assert!(
        identical_json >= 100,
        "{identical_json} JSON frames have the very bytes of their sender"
    );
}

/// Fields that any request may carry, or that a client adds beside its header.
const FREE_FIELDS: [&str; 10] = [
    "ns",
    "nsd",
    "bname",
    "oway",
    "lo",
    "MSG_REGION",
    "TRACE_ON",
    "ReqT",
    "__ZONE_NAME",
    "__ZONE_MODE",
];

fn check_header<H: HeaderFields>(frame: &Captured, also: &[&str]) {
    let header: H = frame
        .command
        .header()
        .unwrap_or_else(|error| panic!("{}: {error}", frame.name));
    let mut written = ExtFields::new();
    header.write(&mut written);
    for (key, value) in frame.command.ext.iter() {
        let known = FREE_FIELDS.contains(&key) || also.contains(&key) || value.is_empty();
        assert!(
            known || written.get(key) == Some(value),
            "{}: {key}={value}",
            frame.name
        );
    }
}

#[test]
fn request_headers_have_all_fields_that_are_sent() {
    let mut checked = BTreeMap::<String, usize>::new();
    for frame in captured()
        .iter()
        .filter(|frame| !frame.command.is_response())
    {
        let code = frame.request_code();
        match code {
            R::SEND_MESSAGE => check_header::<SendMessageHeader>(frame, &[]),
            R::SEND_MESSAGE_V2 | R::SEND_BATCH_MESSAGE => {
                check_header::<SendMessageV2Header>(frame, &[]);
            }
            R::PULL_MESSAGE | R::LITE_PULL_MESSAGE => check_header::<PullMessageHeader>(frame, &[]),
            R::QUERY_CONSUMER_OFFSET => check_header::<QueryConsumerOffsetHeader>(frame, &[]),
            R::UPDATE_CONSUMER_OFFSET => check_header::<UpdateConsumerOffsetHeader>(frame, &[]),
            R::SEARCH_OFFSET_BY_TIMESTAMP => check_header::<SearchOffsetHeader>(frame, &[]),
            R::GET_MAX_OFFSET => check_header::<GetMaxOffsetHeader>(frame, &[]),
            R::GET_MIN_OFFSET => check_header::<GetMinOffsetHeader>(frame, &[]),
            R::GET_EARLIEST_MSG_STORETIME => {
                check_header::<GetEarliestMsgStoretimeHeader>(frame, &[]);
            }
            R::VIEW_MESSAGE_BY_ID => check_header::<ViewMessageHeader>(frame, &[]),
            R::QUERY_MESSAGE => check_header::<QueryMessageHeader>(frame, &[]),
            R::GET_CONSUMER_LIST_BY_GROUP
            | R::NOTIFY_CONSUMER_IDS_CHANGED
            | R::GET_CONSUMER_CONNECTION_LIST => {
                check_header::<ConsumerGroupHeader>(frame, &[]);
            }
            R::CONSUMER_SEND_MSG_BACK => check_header::<ConsumerSendMsgBackHeader>(frame, &[]),
            R::END_TRANSACTION => check_header::<EndTransactionHeader>(frame, &[]),
            R::CHECK_TRANSACTION_STATE => check_header::<CheckTransactionStateHeader>(frame, &[]),
            R::UNREGISTER_CLIENT => check_header::<UnregisterClientHeader>(frame, &[]),
            R::GET_ROUTEINFO_BY_TOPIC => check_header::<GetRouteInfoHeader>(frame, &[]),
            R::REGISTER_BROKER => check_header::<RegisterBrokerHeader>(frame, &[]),
            R::UNREGISTER_BROKER | R::QUERY_DATA_VERSION => {
                check_header::<BrokerIdentityHeader>(frame, &[]);
            }
            R::UPDATE_AND_CREATE_TOPIC => check_header::<CreateTopicHeader>(frame, &[]),
            R::DELETE_TOPIC_IN_NAMESRV => check_header::<DeleteTopicFromNamesrvHeader>(frame, &[]),
            R::DELETE_TOPIC_IN_BROKER
            | R::GET_TOPIC_CONFIG
            | R::GET_TOPIC_STATS_INFO
            | R::QUERY_TOPIC_CONSUME_BY_WHO => {
                check_header::<TopicHeader>(frame, &[]);
            }
            R::PUT_KV_CONFIG => check_header::<PutKvConfigHeader>(frame, &[]),
            R::GET_KV_CONFIG | R::DELETE_KV_CONFIG => check_header::<KvKeyHeader>(frame, &[]),
            R::WIPE_WRITE_PERM_OF_BROKER | R::ADD_WRITE_PERM_OF_BROKER => {
                check_header::<BrokerNameHeader>(frame, &[]);
            }
            R::GET_CONSUME_STATS => check_header::<GetConsumeStatsHeader>(frame, &[]),
            R::GET_PRODUCER_CONNECTION_LIST => check_header::<ProducerGroupHeader>(frame, &[]),
            R::DELETE_SUBSCRIPTIONGROUP => {
                check_header::<DeleteSubscriptionGroupHeader>(frame, &[]);
            }
            R::GET_BROKER_CONSUME_STATS => check_header::<GetBrokerConsumeStatsHeader>(frame, &[]),
            R::VIEW_BROKER_STATS_DATA => check_header::<ViewBrokerStatsHeader>(frame, &[]),
            R::INVOKE_BROKER_TO_RESET_OFFSET => check_header::<ResetOffsetHeader>(frame, &[]),
            R::GET_ALL_TOPIC_CONFIG => check_header::<GetAllTopicConfigHeader>(frame, &[]),
            R::GET_ALL_SUBSCRIPTIONGROUP_CONFIG => {
                check_header::<GetAllSubscriptionGroupHeader>(frame, &[]);
            }
            _ => continue,
        }
        *checked.entry(code.to_string()).or_default() += 1;
    }
    assert!(checked.len() >= 34, "{checked:?}");
}

#[test]
fn response_headers_have_all_fields_that_are_sent() {
    let mut checked = BTreeMap::<String, usize>::new();
    for frame in captured()
        .iter()
        .filter(|frame| frame.command.is_response())
    {
        let code = frame.request_code();
        let is_success = frame.command.code == 0;
        match code {
            R::PULL_MESSAGE | R::LITE_PULL_MESSAGE
                if (19..=21).contains(&frame.command.code) || is_success =>
            {
                check_header::<PullMessageResponseHeader>(frame, &[]);
            }
            _ if !is_success => continue,
            R::SEND_MESSAGE | R::SEND_MESSAGE_V2 | R::SEND_BATCH_MESSAGE => {
                check_header::<SendMessageResponseHeader>(frame, &[]);
                let header: SendMessageResponseHeader = frame.command.header().unwrap();
                for id in header.msg_id.split(',') {
                    assert_eq!(
                        id.parse::<OffsetMessageId>().unwrap().to_string(),
                        id,
                        "{}",
                        frame.name
                    );
                }
            }
            R::QUERY_CONSUMER_OFFSET
            | R::SEARCH_OFFSET_BY_TIMESTAMP
            | R::GET_MAX_OFFSET
            | R::GET_MIN_OFFSET => {
                check_header::<OffsetResponseHeader>(frame, &[]);
            }
            R::GET_EARLIEST_MSG_STORETIME => check_header::<TimestampResponseHeader>(frame, &[]),
            R::QUERY_MESSAGE => check_header::<QueryMessageResponseHeader>(frame, &[]),
            R::HEART_BEAT => check_header::<HeartbeatResponseHeader>(frame, &[]),
            R::REGISTER_BROKER => check_header::<RegisterBrokerResponseHeader>(frame, &[]),
            R::QUERY_DATA_VERSION => check_header::<QueryDataVersionResponseHeader>(frame, &[]),
            R::GET_BROKER_CONFIG => check_header::<GetBrokerConfigResponseHeader>(frame, &[]),
            R::WIPE_WRITE_PERM_OF_BROKER => check_header::<WipeWritePermResponseHeader>(frame, &[]),
            R::ADD_WRITE_PERM_OF_BROKER => check_header::<AddWritePermResponseHeader>(frame, &[]),
            R::GET_KV_CONFIG => check_header::<GetKvConfigResponseHeader>(frame, &[]),
            R::GET_ALL_TOPIC_CONFIG => check_header::<GetAllTopicConfigResponseHeader>(frame, &[]),
            R::GET_ALL_SUBSCRIPTIONGROUP_CONFIG => {
                check_header::<GetAllSubscriptionGroupResponseHeader>(frame, &[]);
            }
            _ => continue,
        }
        *checked.entry(code.to_string()).or_default() += 1;
    }
    assert!(checked.len() >= 17, "{checked:?}");
}

macro_rules! check_body {
    ($frame:expr, $body:expr, $type:ty) => {{
        let typed =
            <$type>::parse(&$body).unwrap_or_else(|error| panic!("{}: {error}", $frame.name));
        (
            json::parse(&$body).unwrap(),
            json::parse(&typed.to_json()).unwrap(),
        )
    }};
}

/// Whether `ours` says all that `theirs` says; numbers compare by value. Sets may be in any order.
fn covers(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            theirs.iter().all(|(key, theirs)| match ours.get(key) {
                Some(ours) => covers(ours, theirs),
                // Left out when empty.
                None => theirs.as_object().is_some_and(serde_json::Map::is_empty),
            })
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len()
                && theirs
                    .iter()
                    .all(|theirs| ours.iter().any(|ours| covers(ours, theirs)))
        }
        (Value::Number(ours), Value::Number(theirs)) => ours.as_f64() == theirs.as_f64(),
        _ => ours == theirs,
    }
}

#[test]
fn bodies_are_read_and_written_with_all_that_is_in_them() {
    let mut checked = BTreeMap::<String, usize>::new();
    for frame in captured()
        .iter()
        .filter(|frame| !frame.command.body.is_empty())
    {
        let body = frame.command.body.contiguous();
        let code = frame.request_code();
        let (theirs, ours) = match (code, frame.command.is_response()) {
            (_, true) if frame.command.code != 0 => continue,
            (R::GET_ROUTEINFO_BY_TOPIC, true) => check_body!(frame, body, RouteData),
            (R::GET_BROKER_CLUSTER_INFO, true) => check_body!(frame, body, ClusterInfo),
            (
                R::GET_ALL_TOPIC_LIST_FROM_NAMESERVER | R::GET_SYSTEM_TOPIC_LIST_FROM_BROKER,
                true,
            ) => {
                check_body!(frame, body, TopicList)
            }
            (R::HEART_BEAT, false) => check_body!(frame, body, HeartbeatData),
            (R::QUERY_DATA_VERSION, _) => check_body!(frame, body, DataVersion),
            (R::GET_CONSUMER_LIST_BY_GROUP, true) => check_body!(frame, body, ConsumerList),
            (R::LOCK_BATCH_MQ | R::UNLOCK_BATCH_MQ, false) => {
                check_body!(frame, body, LockBatchRequest)
            }
            (R::LOCK_BATCH_MQ, true) => check_body!(frame, body, LockBatchResponse),
            (R::GET_TOPIC_CONFIG, true) => check_body!(frame, body, TopicConfig),
            (R::GET_ALL_TOPIC_CONFIG, true) => check_body!(frame, body, TopicConfigTable),
            (R::GET_ALL_SUBSCRIPTIONGROUP_CONFIG, true) => {
                check_body!(frame, body, SubscriptionGroupTable)
            }
            (R::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, false) => {
                check_body!(frame, body, SubscriptionGroupConfig)
            }
            (R::GET_ALL_CONSUMER_OFFSET, true) => check_body!(frame, body, ConsumerOffsetTable),
            (R::GET_ALL_DELAY_OFFSET, true) => check_body!(frame, body, DelayOffsetTable),
            (R::GET_BROKER_RUNTIME_INFO, true) => check_body!(frame, body, KvTable),
            (R::GET_TOPIC_STATS_INFO, true) => check_body!(frame, body, TopicStats),
            (R::GET_CONSUME_STATS, true) => check_body!(frame, body, ConsumeStats),
            (R::GET_BROKER_CONSUME_STATS, true) => check_body!(frame, body, BrokerConsumeStats),
            (R::GET_PRODUCER_CONNECTION_LIST, true) => check_body!(frame, body, ProducerConnection),
            (R::GET_ALL_PRODUCER_INFO, true) => check_body!(frame, body, ProducerTable),
            (R::QUERY_TOPIC_CONSUME_BY_WHO, true) => check_body!(frame, body, GroupList),
            (R::VIEW_BROKER_STATS_DATA, true) => check_body!(frame, body, BrokerStatsData),
            (R::INVOKE_BROKER_TO_RESET_OFFSET, true) => check_body!(frame, body, ResetOffset),
            (R::SET_MESSAGE_REQUEST_MODE, false) => check_body!(frame, body, SetMessageRequestMode),
            (R::GET_BROKER_HA_STATUS, true) => check_body!(frame, body, HaRuntimeInfo),
            (R::REGISTER_BROKER, false) if body.starts_with(b"{") => {
                check_body!(frame, body, RegisterBrokerBody)
            }
            _ => continue,
        };
        assert!(
            covers(&ours, &theirs),
            "{}\n theirs {theirs}\n ours   {ours}",
            frame.name
        );
        *checked.entry(code.to_string()).or_default() += 1;
    }
    assert!(checked.len() >= 22, "{checked:?}");
}

#[test]
fn a_compressed_registration_is_read() {
    let frames = captured();
    // Apache's 5.4.0 says `compressed=false` of a body that it has compressed, and its own name server then refuses it.
    let is_compressed = |frame: &&Captured| {
        let is_registration =
            frame.command.request_code() == R::REGISTER_BROKER && !frame.command.is_response();
        is_registration && !frame.command.body.contiguous().starts_with(b"{")
    };
    let frame = frames
        .iter()
        .find(is_compressed)
        .expect("a compressed registration");
    let body = frame.command.body.contiguous();
    let header: RegisterBrokerHeader = frame.command.header().unwrap();
    let crc = rocket_protocol::message::body_crc(&body);
    assert_eq!(i32::try_from(crc).unwrap(), header.body_crc32);
    let typed = RegisterBrokerBody::parse_compressed(&body, frame.command.version >= 413).unwrap();
    let topics = &typed.topic_config_serialize_wrapper.topic_config_table;
    assert!(topics.contains_key("TBW102"), "{topics:?}");
    assert_eq!(
        RegisterBrokerBody::parse_compressed(&typed.to_compressed(), true).unwrap(),
        typed
    );
}

#[test]
fn records_and_batches_are_encoded_to_the_same_bytes() {
    let (mut records, mut batched, mut keys) = (0, 0, 0);
    for frame in captured() {
        let body = frame.command.body.contiguous();
        match (frame.request_code(), frame.command.is_response()) {
            (
                R::PULL_MESSAGE | R::LITE_PULL_MESSAGE | R::QUERY_MESSAGE | R::VIEW_MESSAGE_BY_ID,
                true,
            )
            | (R::CHECK_TRANSACTION_STATE, false) => {
                let mut rest = &body[..];
                while !rest.is_empty() {
                    let (view, len) = RecordView::parse(rest)
                        .unwrap_or_else(|error| panic!("{}: {error}", frame.name));
                    assert_eq!(encode_again(&body, &view), rest[..len], "{}", frame.name);
                    if let Some(key) = view.property(property::UNIQ_KEY) {
                        // Go writes some digits small.
                        let again = key.parse::<UniqueKey>().unwrap().to_string();
                        assert!(
                            again.eq_ignore_ascii_case(key),
                            "{}: {again} {key}",
                            frame.name
                        );
                        keys += 1;
                    }
                    rest = &rest[len..];
                    records += 1;
                }
            }
            (R::SEND_BATCH_MESSAGE, false) => {
                let mut out = Vec::new();
                for message in batch::views(&body) {
                    BatchMessage::from(message.unwrap()).encode(&mut out);
                    batched += 1;
                }
                assert_eq!(out, body, "{}", frame.name);
            }
            _ => {}
        }
    }
    assert!(
        records >= 20 && batched >= 4 && keys >= 10,
        "{records} records, {batched} batched, {keys} keys"
    );
}

fn encode_again(body: &Bytes, view: &RecordView<'_>) -> Vec<u8> {
    let message = Message {
        topic: TopicName::parse(view.topic()).unwrap(),
        queue_id: view.queue_id(),
        flag: view.flag(),
        sys_flag: view.sys_flag(),
        born_timestamp: view.born_timestamp(),
        born_host: view.born_host(),
        store_host: view.store_host(),
        reconsume_times: view.reconsume_times(),
        prepared_transaction_offset: view.prepared_transaction_offset(),
        body: body.slice_ref(view.body()),
        body_crc: rocket_protocol::message::body_crc(view.body()),
        properties: body.slice_ref(view.properties()),
    };
    let mut out = Vec::new();
    message.encode(
        view.queue_offset(),
        view.physical_offset(),
        view.store_timestamp(),
        &mut out,
    );
    out
}

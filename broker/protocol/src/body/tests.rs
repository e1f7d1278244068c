use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn queue(id: i32) -> MessageQueue {
    MessageQueue {
        broker_name: "a".to_owned(),
        queue_id: id,
        topic: "T".to_owned(),
    }
}

#[test]
fn a_route_has_quoted_broker_ids_and_apaches_order() {
    let route = RouteData {
        broker_datas: vec![BrokerData {
            broker_addrs: BTreeMap::from([
                (0, "10.0.0.1:10911".to_owned()),
                (1, "10.0.0.2:10911".to_owned()),
            ]),
            broker_name: "a".to_owned(),
            cluster: "c".to_owned(),
            ..Default::default()
        }],
        queue_datas: vec![QueueData {
            broker_name: "a".to_owned(),
            perm: 6,
            read_queue_nums: 8,
            topic_sys_flag: 0,
            write_queue_nums: 8,
        }],
        ..Default::default()
    };
    let text = r#"{"brokerDatas":[{"brokerAddrs":{"0":"10.0.0.1:10911","1":"10.0.0.2:10911"},"brokerName":"a","cluster":"c","enableActingMaster":false}],"filterServerTable":{},"queueDatas":[{"brokerName":"a","perm":6,"readQueueNums":8,"topicSysFlag":0,"writeQueueNums":8}]}"#;
    assert_eq!(route.to_json(), text);
    assert_eq!(RouteData::parse(text.as_bytes()).unwrap(), route);
    let bare = text.replace("\"0\":", "0:").replace("\"1\":", "1:");
    assert_eq!(RouteData::parse(bare.as_bytes()).unwrap(), route);
}

#[test]
fn tables_of_queues_have_objects_as_keys() {
    let offset = TopicOffset {
        last_update_timestamp: 9,
        max_offset: 5,
        min_offset: 1,
    };
    let stats = TopicStats {
        offset_table: [(queue(0), offset), (queue(1), offset)]
            .into_iter()
            .collect(),
        topic_put_tps: 0.0,
    };
    let text = r#"{"offsetTable":{{"brokerName":"a","queueId":0,"topic":"T"}:{"lastUpdateTimestamp":9,"maxOffset":5,"minOffset":1},{"brokerName":"a","queueId":1,"topic":"T"}:{"lastUpdateTimestamp":9,"maxOffset":5,"minOffset":1}},"topicPutTps":0.0}"#;
    assert_eq!(stats.to_json(), text);
    assert_eq!(TopicStats::parse(text.as_bytes()).unwrap(), stats);
}

#[test]
fn nested_tables_of_queues_come_back() {
    let stats = ConsumeStats {
        consume_tps: 1.5,
        offset_table: [(queue(3), ConsumeOffset::default())].into_iter().collect(),
    };
    let broker = BrokerConsumeStats {
        broker_addr: "h:1".to_owned(),
        consume_stats_list: vec![BTreeMap::from([(
            "g".to_owned(),
            vec![stats.clone(), stats.clone()],
        )])],
        total_diff: 7,
        total_inflight_diff: -1,
    };
    assert_eq!(
        BrokerConsumeStats::parse(&broker.to_json()).unwrap(),
        broker
    );
    let status = ConsumerStatus {
        consumer_table: BTreeMap::from([(
            "10.0.0.1@{\"x\"".to_owned(),
            [(queue(0), 4)].into_iter().collect(),
        )]),
        message_queue_table: QueueTable::default(),
    };
    assert_eq!(ConsumerStatus::parse(&status.to_json()).unwrap(), status);
}

#[test]
fn a_reset_is_written_for_java_and_for_cpp() {
    let reset = ResetOffset {
        offset_table: [(queue(0), 4), (queue(1), 5)].into_iter().collect(),
    };
    assert_eq!(ResetOffset::parse(&reset.to_json()).unwrap(), reset);
    let list = r#"{"offsetTable":[{"brokerName":"a","offset":4,"queueId":0,"topic":"T"},{"brokerName":"a","offset":5,"queueId":1,"topic":"T"}]}"#;
    assert_eq!(reset.to_json_list(), list);
}

#[test]
fn heartbeats_of_go_and_cpp_are_read() {
    let go = br#"{"clientID":"1.2.3.4@5","producerDataSet":[{"groupName":"p"}],"consumerDataSet":[{"groupName":"g","consumeType":"CONSUME_PASSIVELY","messageModel":"CLUSTERING","consumeFromWhere":"CONSUME_FROM_LAST_OFFSET","subscriptionDataSet":[{"classFilterMode":false,"topic":"T","subString":"*","tagsSet":null,"codeSet":[],"subVersion":1700000000000000000,"expressionType":"TAG"}],"unitMode":false}]}"#;
    let heartbeat = HeartbeatData::parse(go).unwrap();
    let subscription = &heartbeat.consumer_data_set[0].subscription_data_set[0];
    assert_eq!(
        (subscription.topic.as_str(), subscription.sub_version),
        ("T", 1_700_000_000_000_000_000)
    );
    assert!(subscription.tags_set.is_empty());
    let cpp = br#"{"clientID":"c","consumerDataSet":[{"groupName":"g","subscriptionDataSet":[{"topic":"T","subString":"a","codeSet":["97"],"tagsSet":["a"],"subVersion":"170"}]}]}"#;
    let heartbeat = HeartbeatData::parse(cpp).unwrap();
    let consumer = &heartbeat.consumer_data_set[0];
    assert_eq!(consumer.consume_type, ConsumeType::Passively);
    assert_eq!(consumer.subscription_data_set[0].code_set, [97]);
    assert_eq!(consumer.subscription_data_set[0].sub_version, 170);
    assert_eq!(
        consumer.subscription_data_set[0].expression_type,
        EXPRESSION_TAG
    );
}

#[test]
fn missing_settings_take_javas_defaults() {
    let topic = TopicConfig::parse(br#"{"topicName":"T"}"#).unwrap();
    assert_eq!((topic.read_queue_nums, topic.perm), (16, 6));
    let group = SubscriptionGroupConfig::parse(br#"{"groupName":"g","groupRetryPolicy":{"type":"EXPONENTIAL","exponentialRetryPolicy":{}}}"#).unwrap();
    assert_eq!(
        (
            group.retry_max_times,
            group.which_broker_when_consume_slowly
        ),
        (16, 1)
    );
    assert_eq!(
        group
            .group_retry_policy
            .exponential_retry_policy
            .unwrap()
            .max,
        7_200_000
    );
}

#[test]
fn offset_tables_with_bare_keys_are_read() {
    let table = ConsumerOffsetTable::parse(
        br#"{"dataVersion":{"counter":1},"offsetTable":{"T@g":{0:5,1:6}}}"#,
    )
    .unwrap();
    assert_eq!(table.offset_table["T@g"], BTreeMap::from([(0, 5), (1, 6)]));
    assert_eq!(table.data_version.counter, 1);
}

fn registration() -> RegisterBrokerBody {
    let topic = |name: &str, attributes: &[(&str, &str)]| TopicConfig {
        topic_name: name.to_owned(),
        attributes: attributes
            .iter()
            .map(|&(k, v)| (k.to_owned(), v.to_owned()))
            .collect(),
        ..Default::default()
    };
    let topics = [
        topic("T", &[]),
        topic("F", &[("message.type", "FIFO"), ("a b", "c d")]),
    ];
    RegisterBrokerBody {
        filter_server_list: Vec::new(),
        topic_config_serialize_wrapper: TopicConfigTable {
            data_version: DataVersion {
                counter: 3,
                state_version: 1,
                timestamp: 9,
            },
            topic_config_table: topics
                .into_iter()
                .map(|topic| (topic.topic_name.clone(), topic))
                .collect(),
            ..Default::default()
        },
    }
}

#[test]
fn registrations_come_back_plain_and_compressed() {
    let body = registration();
    assert_eq!(RegisterBrokerBody::parse(&body.to_json()).unwrap(), body);
    let compressed = body.to_compressed();
    assert_eq!(
        RegisterBrokerBody::parse_compressed(&compressed, true).unwrap(),
        body
    );
    assert_eq!(
        RegisterBrokerBody::parse_compressed(&compressed, false).unwrap(),
        body
    );
}

#[test]
fn a_compressed_bomb_is_refused() {
    use std::io::Write as _;
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = vec![0; 1 << 20];
    for _ in 0..=(INFLATED_BYTES_MAX >> 20) {
        encoder.write_all(&zeros).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    assert!(matches!(
        RegisterBrokerBody::parse_compressed(&bomb, true),
        Err(RegisterError::TooLarge)
    ));
}

#[test]
fn a_compressed_body_has_so_many_topics_and_no_more() {
    use std::io::Write as _;
    let parse = |topics: usize| {
        let mut plain = Vec::new();
        plain.extend_from_slice(&2_u32.to_be_bytes());
        plain.extend_from_slice(b"{}");
        plain.extend_from_slice(&u32::try_from(topics).unwrap().to_be_bytes());
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&plain).unwrap();
        RegisterBrokerBody::parse_compressed(&encoder.finish().unwrap(), true)
    };
    // The first has none of the topics that it counts.
    let torn = parse(REGISTERED_TOPICS_MAX);
    assert!(matches!(torn, Err(RegisterError::Torn(_))));
    let many = parse(REGISTERED_TOPICS_MAX + 1);
    assert!(matches!(many, Err(RegisterError::TooManyTopics(_))));
}

proptest! {
    #[test]
    fn damaged_compressed_registrations_are_survived(at in 0..200_usize, value: u8, inside: bool) {
        use std::io::{Read as _, Write as _};
        let compressed = registration().to_compressed();
        let mut bytes = compressed.to_vec();
        if inside {
            bytes.clear();
            flate2::read::ZlibDecoder::new(&*compressed).read_to_end(&mut bytes).unwrap();
        }
        if let Some(byte) = bytes.get_mut(at) {
            *byte = value;
        }
        if inside {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&bytes).unwrap();
            bytes = encoder.finish().unwrap();
        }
        let _ = RegisterBrokerBody::parse_compressed(&bytes, true);
    }
}

#[test]
fn properties_files_come_back() {
    let text = write_properties([("a", "1"), ("b", "x=y")]);
    assert_eq!(text, Bytes::from_static(b"a=1\nb=x=y\n"));
    let table = parse_properties("# comment\n a = 1 \r\n\nb=x=y\nc\n");
    assert_eq!(
        table.into_iter().collect::<Vec<_>>(),
        [("a", "1"), ("b", "x=y"), ("c", "")].map(|(k, v)| (k.to_owned(), v.to_owned()))
    );
}

#[test]
fn a_users_password_is_not_printed() {
    let user = User {
        username: "u".to_owned(),
        password: Some("secret".to_owned()),
        ..Default::default()
    };
    assert!(!format!("{user:?}").contains("secret"));
}

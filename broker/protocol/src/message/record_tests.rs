use bytes::Bytes;
use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::message::properties::PROPERTIES_BYTES_MAX;
use crate::message::{EncodeError, Message, write_blank};
use crate::name::TopicName;

fn message() -> Message {
    let body = Bytes::from_static(b"hello");
    Message {
        topic: TopicName::parse("T").unwrap(),
        queue_id: QueueId(3),
        flag: -7,
        sys_flag: SysFlag(0),
        born_timestamp: UnixMillis(1_700_000_000_000),
        born_host: "10.0.0.9:54321".parse().unwrap(),
        store_host: "10.0.0.1:10911".parse().unwrap(),
        reconsume_times: 2,
        prepared_transaction_offset: 11,
        body_crc: body_crc(&body),
        body,
        properties: Bytes::from_static(b"TAGS\x01a\x02"),
    }
}

fn encoded(message: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(
        QueueOffset(5),
        PhysicalOffset(4096),
        UnixMillis(42),
        &mut out,
    );
    out
}

#[test]
fn a_record_has_the_fields_of_its_message() {
    let bytes = encoded(&message());
    assert_eq!(bytes.len(), message().encoded_len());
    let (view, len) = RecordView::parse(&bytes).unwrap();
    assert_eq!(len, bytes.len());
    assert_eq!(view.magic(), MAGIC_V1);
    assert_eq!(view.queue_offset(), QueueOffset(5));
    assert_eq!(view.physical_offset(), PhysicalOffset(4096));
    assert_eq!(view.store_timestamp(), UnixMillis(42));
    assert_eq!(view.topic(), "T");
    assert_eq!(view.body(), b"hello");
    assert_eq!(view.property("TAGS"), Some("a"));
    assert_eq!(view.reconsume_times(), 2);
    assert_eq!(bytes[position::QUEUE_OFFSET..][..8], 5_u64.to_be_bytes());
    assert_eq!(
        bytes[position::PHYSICAL_OFFSET..][..8],
        4096_u64.to_be_bytes()
    );
    assert_eq!(
        bytes[position::STORE_TIMESTAMP_V4..][..8],
        42_u64.to_be_bytes()
    );
}

#[test]
fn the_store_timestamp_moves_behind_an_ipv6_born_host() {
    let mut message = message();
    message.born_host = "[::1]:5".parse().unwrap();
    let bytes = encoded(&message);
    assert_eq!(
        bytes[position::STORE_TIMESTAMP_V6..][..8],
        42_u64.to_be_bytes()
    );
}

#[rstest]
#[case(127, MAGIC_V1)]
#[case(128, MAGIC_V2)]
#[case(255, MAGIC_V2)]
fn long_topics_take_the_second_version(#[case] len: usize, #[case] magic: i32) {
    let mut message = message();
    message.topic = TopicName::parse(&format!("%RETRY%{}", "t".repeat(len - 7))).unwrap();
    let bytes = encoded(&message);
    let (view, _) = RecordView::parse(&bytes).unwrap();
    assert_eq!(
        (view.magic(), view.topic()),
        (magic, message.topic.as_str())
    );
}

#[test]
fn a_changed_body_is_noticed_unless_trusted() {
    let mut bytes = encoded(&message());
    let at = bytes
        .windows(5)
        .position(|window| window == b"hello")
        .unwrap();
    bytes[at] ^= 1;
    assert!(matches!(
        RecordView::parse(&bytes),
        Err(RecordError::BadCrc { .. })
    ));
    assert!(RecordView::parse_trusting(&bytes).is_ok());
}

#[test]
fn blank_unwritten_and_torn_are_told_apart() {
    let mut blank = Vec::new();
    write_blank(1000, &mut blank);
    assert_eq!(
        RecordView::parse(&blank),
        Err(RecordError::Blank { len: 1000 })
    );
    assert_eq!(RecordView::parse(&[0; 64]), Err(RecordError::Unwritten));
    assert!(matches!(
        RecordView::parse(&[0; 7]),
        Err(RecordError::Torn { .. })
    ));
    let bytes = encoded(&message());
    let cut = &bytes[..bytes.len() - 1];
    let torn = RecordError::Torn {
        need: bytes.len(),
        have: cut.len(),
    };
    assert_eq!(RecordView::parse(cut), Err(torn));
}

#[rstest]
#[case::negative_total(0, &(-1_i32).to_be_bytes(), "total")]
#[case::total_too_small(0, &90_i32.to_be_bytes(), "total")]
#[case::body_too_long(84, &i32::MAX.to_be_bytes(), "body")]
#[case::body_negative(84, &(-1_i32).to_be_bytes(), "body")]
#[case::topic_too_long(93, &[255], "topic")]
#[case::properties_negative(95, &(-1_i16).to_be_bytes(), "properties")]
#[case::properties_too_short(95, &2_i16.to_be_bytes(), "total")]
fn lying_lengths_are_refused(#[case] at: usize, #[case] value: &[u8], #[case] field: &str) {
    let mut bytes = encoded(&message());
    bytes[at..at + value.len()].copy_from_slice(value);
    match RecordView::parse(&bytes) {
        Err(RecordError::BadLength { field: found, .. }) => assert_eq!(found, field),
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[case::queue_id(12, "queue id")]
#[case::queue_offset(20, "queue offset")]
#[case::physical_offset(28, "physical offset")]
#[case::born_port(52, "born host")]
fn impossible_fields_are_refused(#[case] at: usize, #[case] field: &'static str) {
    let mut bytes = encoded(&message());
    bytes[at] = 0x80;
    assert_eq!(
        RecordView::parse(&bytes),
        Err(RecordError::BadField { field })
    );
}

#[test]
fn properties_that_do_not_fit_are_refused_before_encoding() {
    let mut message = message();
    message.properties = vec![b'x'; PROPERTIES_BYTES_MAX].into();
    assert_eq!(message.check(), Ok(()));
    message.properties = vec![b'x'; PROPERTIES_BYTES_MAX + 1].into();
    assert_eq!(message.check(), Err(EncodeError::PropertiesTooLong(32_768)));
}

proptest! {
    #[test]
    fn records_come_back(
        topic in "[a-z]{1,120}", queue in 0..1000_u32, flag: i32, sys_flag in 0..0x800_i32, born: i64,
        born_host: SocketAddr, store_host: SocketAddr, body: Vec<u8>, properties in "[A-Z]{0,50}",
        offset in 0..=i64::MAX,
    ) {
        // Records carry neither scope nor flow of an IPv6 address.
        let plain = |host: SocketAddr| SocketAddr::new(host.ip(), host.port());
        let message = Message {
            topic: TopicName::parse(&topic).unwrap(), queue_id: QueueId(queue), flag, sys_flag: SysFlag(sys_flag),
            born_timestamp: UnixMillis(born), born_host: plain(born_host), store_host: plain(store_host),
            reconsume_times: 0, prepared_transaction_offset: 0, body_crc: body_crc(&body), body: body.into(),
            properties: properties.into(),
        };
        let offset = PhysicalOffset::from_wire(offset).unwrap();
        let mut bytes = Vec::new();
        message.encode(QueueOffset(1), offset, UnixMillis(2), &mut bytes);
        prop_assert_eq!(bytes.len(), message.encoded_len());
        bytes.push(0);
        let (view, len) = RecordView::parse(&bytes).unwrap();
        prop_assert_eq!(len + 1, bytes.len());
        prop_assert_eq!(view.topic(), message.topic.as_str());
        prop_assert_eq!(view.body(), &*message.body);
        prop_assert_eq!(view.properties(), &*message.properties);
        prop_assert_eq!((view.born_host(), view.store_host()), (message.born_host, message.store_host));
        prop_assert_eq!(view.physical_offset(), offset);
        prop_assert_eq!(view.sys_flag(), message.as_ref().record_sys_flag());
    }

    #[test]
    fn any_bytes_are_survived(bytes: Vec<u8>) {
        let _ = RecordView::parse(&bytes);
    }

    #[test]
    fn any_damage_is_survived(at in 0..110_usize, value: u8) {
        let mut bytes = encoded(&message());
        if let Some(byte) = bytes.get_mut(at) {
            *byte = value;
        }
        let _ = RecordView::parse(&bytes);
    }
}

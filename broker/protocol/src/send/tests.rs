use std::net::{Ipv6Addr, SocketAddr};

use bytes::{BufMut as _, BytesMut};
use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::code::ResponseCode;
use crate::ext_fields::ExtFields;
use crate::frame;
use crate::header::{HeaderFields as _, SendMessageResponseHeader, SendMessageV2Header};
use crate::ids::PhysicalOffset;
use crate::message::OffsetMessageId;
use crate::message::id::host_letters;

const PROPERTIES: &str = "UNIQ_KEY\u{1}7F0000010000000000000000000000AB\u{2}WAIT\u{1}true\u{2}";

fn header() -> SendMessageHeader {
    SendMessageHeader {
        producer_group: "pg".into(),
        topic: "orders".into(),
        default_topic: "TBW102".into(),
        default_topic_queue_nums: 4,
        queue_id: -1,
        sys_flag: 1,
        born_timestamp: 1_700_000_000_000,
        flag: 7,
        properties: Some(PROPERTIES.into()),
        reconsume_times: Some(0),
        broker_name: Some("broker-a".into()),
        ..SendMessageHeader::default()
    }
}

fn request(code: RequestCode, format: HeaderFormat) -> Command {
    let mut request = Command::request(code);
    if code == RequestCode::SEND_MESSAGE {
        request = request.with_header(&header());
    } else {
        request = request.with_header(&SendMessageV2Header::from(header()));
    }
    (request.opaque, request.format) = (77, format);
    request.with_body(b"body".to_vec())
}

fn encoded(command: &Command) -> BytesMut {
    let mut out = BytesMut::new();
    frame::encode(command, &mut out);
    out
}

fn frame_of(format: HeaderFormat, header: &[u8]) -> BytesMut {
    let kind = u32::from(format == HeaderFormat::Compact);
    let len = u32::try_from(header.len()).unwrap();
    let mut out = BytesMut::new();
    out.put_u32(4 + len);
    out.put_u32(kind << 24 | len);
    out.put_slice(header);
    out
}

/// Where the view says something, the long way says the same. Returns whether it did.
fn both_agree(frame: &[u8]) -> bool {
    let limits = Limits::default();
    let mut scratch = Scratch::default();
    let Ok(Some(whole)) = frame::view(frame, &limits) else {
        return false;
    };
    let Some(view) = SendView::read(&whole, &limits, &mut scratch) else {
        return false;
    };
    let command = whole.to_command(&limits).expect("both take it");
    let header = match command.request_code() {
        RequestCode::SEND_MESSAGE => SendMessageHeader::read(&command.ext).unwrap(),
        _ => SendMessageV2Header::read(&command.ext).unwrap().into(),
    };
    assert_eq!(view, SendView::of(&command, &header));
    assert_eq!(whole.body(), &command.body.contiguous()[..]);
    true
}

#[rstest]
fn what_clients_send_is_read_in_place(
    #[values(
        RequestCode::SEND_MESSAGE,
        RequestCode::SEND_MESSAGE_V2,
        RequestCode::SEND_BATCH_MESSAGE
    )]
    code: RequestCode,
    #[values(HeaderFormat::Json, HeaderFormat::Compact)] format: HeaderFormat,
) {
    let frame = encoded(&request(code, format));
    let limits = Limits::default();
    let whole = frame::view(&frame, &limits).unwrap().unwrap();
    let mut scratch = Scratch::default();
    let view = SendView::read(&whole, &limits, &mut scratch).unwrap();
    assert_eq!((view.code, view.opaque, view.format), (code, 77, format));
    assert_eq!((view.topic, view.queue_id, view.flag), ("orders", -1, 7));
    assert_eq!(view.properties, PROPERTIES.as_bytes());
    assert_eq!((view.reconsume_times, view.batch), (Some(0), false));
    assert_eq!(whole.body(), b"body");
    assert!(both_agree(&frame));
}

#[rstest]
#[case::not_a_send(r#"{"code":11,"extFields":{"a":"1"},"opaque":1}"#)]
#[case::a_response(r#"{"code":310,"extFields":{"a":"g","b":"t","c":"d","d":"1","e":"1","f":"0","g":"0","h":"0"},"flag":1,"opaque":1}"#)]
#[case::fields_before_the_code(
    r#"{"extFields":{"a":"g","b":"t","c":"d","d":"1","e":"1","f":"0","g":"0","h":"0"},"code":310}"#
)]
#[case::no_topic(
    r#"{"code":310,"extFields":{"a":"g","c":"d","d":"1","e":"1","f":"0","g":"0","h":"0"}}"#
)]
#[case::no_number(
    r#"{"code":310,"extFields":{"a":"g","b":"t","c":"d","d":"x","e":"1","f":"0","g":"0","h":"0"}}"#
)]
#[case::numbers_as_values(
    r#"{"code":310,"extFields":{"a":"g","b":"t","c":"d","d":1,"e":"1","f":"0","g":"0","h":"0"}}"#
)]
#[case::escapes_elsewhere(r#"{"code":310,"extFields":{"a":"g","b":"\u0074","c":"d","d":"1","e":"1","f":"0","g":"0","h":"0"}}"#)]
#[case::letters_beyond_ascii(r#"{"code":310,"extFields":{"a":"g","b":"t","c":"d","d":"1","e":"1","f":"0","g":"0","h":"0","i":"A\u0001\u00fc"}}"#)]
fn odd_forms_are_left_to_the_long_way(#[case] header: &str) {
    assert!(!both_agree(&frame_of(
        HeaderFormat::Json,
        header.as_bytes()
    )));
}

#[test]
fn all_plain_escapes_of_properties_are_undone() {
    let header = r#"{"code":310,"extFields":{"a":"g","b":"t","c":"d","d":"1","e":"1","f":"0","g":"0","h":"0","i":"A\u0001\"\\\/\b\f\n\r\tü\u0002"},"opaque":1}"#;
    let frame = frame_of(HeaderFormat::Json, header.as_bytes());
    let limits = Limits::default();
    let whole = frame::view(&frame, &limits).unwrap().unwrap();
    let mut scratch = Scratch::default();
    let view = SendView::read(&whole, &limits, &mut scratch).unwrap();
    assert_eq!(
        view.properties,
        "A\u{1}\"\\/\u{8}\u{c}\n\r\tü\u{2}".as_bytes()
    );
    assert!(both_agree(&frame));
}

fn arbitrary_ext() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = prop_oneof![
        "[a-n]",
        Just("topic".to_owned()),
        Just("properties".to_owned()),
        "[a-z]{0,3}"
    ];
    let value = prop_oneof![
        "-?[0-9]{1,11}",
        "[a-z%]{0,5}",
        "(true|false|)",
        "[\u{1}\u{2}A-C\"\\\\ü]{0,9}"
    ];
    proptest::collection::vec((name, value), 0..24)
}

proptest! {
    #[test]
    fn both_ways_agree_on_any_fields(
        extra in arbitrary_ext(),
        whole in any::<bool>(),
        v1 in any::<bool>(),
        compact in any::<bool>(),
        flag in -3..5_i32,
    ) {
        let code = if v1 { RequestCode::SEND_MESSAGE } else { RequestCode::SEND_MESSAGE_V2 };
        let format = if compact { HeaderFormat::Compact } else { HeaderFormat::Json };
        let mut command = request(code, format);
        if !whole {
            command.ext = ExtFields::new();
        }
        for (name, value) in extra {
            command.ext.insert(name, value);
        }
        command.flag = flag;
        both_agree(&encoded(&command));
    }

    /// Flips, cuts and doubles pieces of good headers, so that the odd corners are reached.
    #[test]
    fn both_ways_agree_on_damaged_headers(
        compact in any::<bool>(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 0..4),
    ) {
        let format = if compact { HeaderFormat::Compact } else { HeaderFormat::Json };
        let frame = encoded(&request(RequestCode::SEND_MESSAGE_V2, format));
        let whole = frame::view(&frame, &Limits::default()).unwrap().unwrap();
        let mut header = whole.header().to_vec();
        for (at, byte, kind) in edits {
            let at = at.index(header.len());
            match kind {
                0 => header[at] = byte,
                1 => header[at] ^= 1 << (byte % 8),
                2 => { header.remove(at); }
                _ => header.insert(at, byte),
            }
        }
        both_agree(&frame_of(format, &header));
    }

    #[test]
    fn an_answer_is_what_the_general_encoder_writes(
        codes in proptest::sample::select(vec![ResponseCode::SUCCESS, ResponseCode::FLUSH_DISK_TIMEOUT, ResponseCode::SLAVE_NOT_AVAILABLE]),
        offsets in proptest::collection::vec(0..=i64::MAX.cast_unsigned(), 1..5),
        queue in (any::<i32>(), any::<i64>()),
        key in proptest::option::of("[A-F0-9\"\u{1}ü]{0,40}"),
        region in "[a-zA-Z\"]{0,12}",
        trace_on: bool,
        opaque: i32,
        compact: bool,
        v6: bool,
    ) {
        let format = if compact { HeaderFormat::Compact } else { HeaderFormat::Json };
        let store_host: SocketAddr = if v6 { (Ipv6Addr::LOCALHOST, 10911).into() } else { ([127, 0, 0, 1], 10911).into() };
        let offsets: Vec<_> = offsets.into_iter().map(PhysicalOffset).collect();
        let ids: Vec<_> = offsets.iter().map(|&offset| OffsetMessageId { store_host, offset }.to_string()).collect();
        let header = SendMessageResponseHeader {
            msg_id: ids.join(",").into(),
            queue_id: queue.0,
            queue_offset: queue.1,
            transaction_id: key.clone().map(Into::into),
            ..SendMessageResponseHeader::default()
        };
        let mut command = Command::response(codes)
            .with_header(&header)
            .with_ext("MSG_REGION", region.clone())
            .with_ext("TRACE_ON", if trace_on { "true" } else { "false" });
        command.set_response_to(opaque, format);
        let mut out = BytesMut::from(&b"before"[..]);
        SendResponse {
            code: codes,
            host_letters: &host_letters(store_host),
            offsets: &offsets,
            queue_id: queue.0,
            queue_offset: queue.1,
            unique_key: key.as_deref(),
            region: &region,
            trace_on,
        }
        .encode(opaque, format, &mut out);
        prop_assert_eq!(&out[6..], &encoded(&command)[..]);
    }
}

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::byte_str::ByteStr;
use crate::code::RequestCode;
use crate::command::Language;
use crate::ext_fields::ExtFields;

fn frame_of(kind: u8, header: &[u8], body: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_u32(u32::try_from(4 + header.len() + body.len()).unwrap());
    out.put_u32(u32::from(kind) << 24 | u32::try_from(header.len()).unwrap());
    out.put_slice(header);
    out.put_slice(body);
    out
}

fn decode_json(header: &str) -> Result<Command, FrameError> {
    decode(&mut frame_of(0, header.as_bytes(), b""), &Limits::default())
        .map(|command| command.unwrap())
}

fn rule_of(mut buffer: BytesMut, limits: &Limits) -> Rule {
    decode(&mut buffer, limits).unwrap_err().rule
}

#[test]
fn a_java_request_is_read_in_place() {
    let header = r#"{"code":310,"extFields":{"a":"pg","i":"TAGS\u0001x\u0002"},"flag":0,"language":"JAVA","opaque":7,"serializeTypeCurrentRPC":"JSON","version":401}"#;
    let mut buffer = frame_of(0, header.as_bytes(), b"body");
    let start = buffer.as_ptr() as usize;
    let end = start + buffer.len();
    let command = decode(&mut buffer, &Limits::default()).unwrap().unwrap();
    assert_eq!(command.request_code(), RequestCode::SEND_MESSAGE_V2);
    assert_eq!(
        (command.opaque, command.version, command.language),
        (7, 401, Language::JAVA)
    );
    assert_eq!(command.ext.get("i"), Some("TAGS\u{1}x\u{2}"));
    let shared = command.ext.get_shared("a").unwrap();
    for place in [
        shared.as_bytes().as_ptr() as usize,
        command.body.contiguous().as_ptr() as usize,
    ] {
        assert!(
            (start..end).contains(&place),
            "a slice of what was received"
        );
    }
}

#[rstest]
#[case::numbers_as_values(r#"{"code":11,"extFields":{"queueId":3,"x":null,"y":true},"opaque":1}"#, &[("queueId", "3"), ("y", "true")])]
#[case::unknown_keys(r#"{"code":11,"nested":{"a":[1,{}]},"extFields":{"q":"1"},"opaque":1}"#, &[("q", "1")])]
#[case::no_fields(r#"{"code":11,"opaque":1}"#, &[])]
#[case::null_fields(r#"{"code":11,"extFields":null,"opaque":1,"remark":null}"#, &[])]
#[case::empty_fields(r#" { "code" : 11 , "extFields" : { } , "opaque" : 1 } "#, &[])]
#[case::surrogates(r#"{"code":11,"extFields":{"q":"\ud83d\ude00\/\b"},"opaque":1}"#, &[("q", "\u{1f600}/\u{8}")])]
#[case::texts_as_numbers(r#"{"code":"11","opaque":"1"}"#, &[])]
#[case::escaped_key(r#"{"code":11,"opaque":1,"extFields":{"\u0061":"1"}}"#, &[("a", "1")])]
fn odd_forms_are_read_as_java_reads_them(#[case] header: &str, #[case] fields: &[(&str, &str)]) {
    let command = decode_json(header).unwrap();
    assert_eq!((command.code, command.opaque), (11, 1));
    assert_eq!(command.ext.iter().collect::<Vec<_>>(), fields);
}

#[rstest]
#[case(0, Rule::FrameTooShort(0))]
#[case(3, Rule::FrameTooShort(3))]
#[case(-1, Rule::FrameTooShort(-1))]
#[case(i32::MIN, Rule::FrameTooShort(i32::MIN))]
#[case(i32::MAX, Rule::FrameTooLong { len: i32::MAX, max: 16 << 20 })]
#[case((16 << 20) + 1, Rule::FrameTooLong { len: (16 << 20) + 1, max: 16 << 20 })]
fn impossible_lengths_are_refused_at_once(#[case] len: i32, #[case] rule: Rule) {
    let buffer = BytesMut::from(&len.to_be_bytes()[..]);
    assert_eq!(rule_of(buffer, &Limits::default()), rule);
}

#[rstest]
#[case::tls(&[0x16, 3, 1, 2, 0])]
#[case::http(b"GET / HTTP/1.1\r\n")]
#[case::ssh(b"SSH-2.0-OpenSSH")]
fn other_protocols_are_refused(#[case] bytes: &[u8]) {
    assert!(matches!(
        rule_of(bytes.into(), &Limits::default()),
        Rule::FrameTooLong { .. }
    ));
}

#[test]
fn a_header_beyond_its_frame_or_bound_is_refused_before_its_bytes_come() {
    let words = |total: u32, header: u32| {
        let mut out = BytesMut::new();
        out.put_u32(total);
        out.put_u32(header);
        out
    };
    let limits = Limits {
        header_bytes_max: 100,
        ..Limits::default()
    };
    assert_eq!(
        rule_of(words(10, 7), &limits),
        Rule::HeaderBeyondFrame {
            header: 7,
            frame: 6
        }
    );
    assert_eq!(
        rule_of(words(200, 101), &limits),
        Rule::HeaderTooLong { len: 101, max: 100 }
    );
    assert_eq!(
        rule_of(words(200, 2 << 24 | 9), &limits),
        Rule::UnknownHeaderType(2)
    );
    assert!(matches!(decode(&mut words(200, 100), &limits), Ok(None)));
}

#[rstest]
#[case::nothing("", None)]
#[case::no_object("[]", None)]
#[case::cut_off(r#"{"code":1,"opaque":5"#, None)]
#[case::code_no_number(r#"{"opaque":5,"code":"x"}"#, Some(5))]
#[case::code_too_large(r#"{"code":99999999999,"opaque":5}"#, Some(5))]
#[case::fraction(r#"{"code":1.5,"opaque":5}"#, Some(5))]
#[case::fields_no_object(r#"{"code":1,"opaque":5,"extFields":[]}"#, Some(5))]
#[case::lone_surrogate(r#"{"code":1,"opaque":5,"remark":"\ud800"}"#, None)]
#[case::two_values(r#"{"code":1,"opaque":5}{}"#, None)]
fn broken_json_headers_keep_their_opaque_if_it_can_be_read(
    #[case] header: &str,
    #[case] opaque: Option<i32>,
) {
    let error = decode_json(header).unwrap_err();
    assert!(matches!(error.rule, Rule::MalformedHeader(_)), "{error}");
    assert_eq!(error.opaque(), opaque);
}

#[test]
fn deep_headers_are_refused() {
    let deep = format!(r#"{{"x":{}}}"#, "[".repeat(100_000));
    assert!(matches!(
        decode_json(&deep).unwrap_err().rule,
        Rule::MalformedHeader(_)
    ));
}

#[test]
fn headers_that_are_no_utf8_are_refused() {
    let buffer = frame_of(0, b"{\"remark\":\"\xff\"}", b"");
    assert!(matches!(
        rule_of(buffer, &Limits::default()),
        Rule::MalformedHeader(_)
    ));
}

fn many_fields(count: usize, format: HeaderFormat) -> BytesMut {
    let mut command = Command::request(RequestCode::HEART_BEAT);
    command.format = format;
    command.opaque = 9;
    (0..count).for_each(|index| command.ext.insert(format!("k{index}"), "v"));
    let mut out = BytesMut::new();
    encode(&command, &mut out);
    out
}

#[rstest]
#[case(HeaderFormat::Json)]
#[case(HeaderFormat::Compact)]
fn the_number_of_fields_is_bounded(#[case] format: HeaderFormat) {
    let limits = Limits {
        ext_fields_max: 8,
        ..Limits::default()
    };
    assert_eq!(
        decode(&mut many_fields(8, format), &limits)
            .unwrap()
            .unwrap()
            .ext
            .len(),
        8
    );
    let error = decode(&mut many_fields(9, format), &limits).unwrap_err();
    assert_eq!(
        (error.rule.clone(), error.opaque()),
        (Rule::TooManyExtFields { max: 8 }, Some(9))
    );
}

/// A compact header: the fixed part with opaque 5, an empty remark, and what follows.
fn compact(rest: &[u8]) -> BytesMut {
    let mut header = vec![0, 34, 0, 1, 0x91, 0, 0, 0, 5, 0, 0, 0, 0];
    header.extend_from_slice(rest);
    frame_of(1, &header, b"")
}

#[rstest]
#[case::remark_negative(&[0xff; 4], "the remark does not fit")]
#[case::remark_too_long(&[0, 0, 0, 9, 1], "the remark does not fit")]
#[case::remark_no_text(&[0, 0, 0, 1, 0xff], "the remark is no UTF-8")]
#[case::no_fields_length(&[0, 0, 0, 0], "the ext fields do not fit")]
#[case::fields_too_long(&[0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff], "the ext fields do not fit")]
#[case::key_cut_off(&[0, 0, 0, 0, 0, 0, 0, 3, 0, 9, b'k'], "an ext field is cut off")]
#[case::key_negative(&[0, 0, 0, 0, 0, 0, 0, 2, 0xff, 0xff], "an ext field is cut off")]
#[case::value_cut_off(&[0, 0, 0, 0, 0, 0, 0, 7, 0, 1, b'k', 0, 0, 0, 9], "an ext field is cut off")]
#[case::value_negative(&[0, 0, 0, 0, 0, 0, 0, 7, 0, 1, b'k', 0xff, 0, 0, 0], "an ext field is cut off")]
#[case::value_no_text(&[0, 0, 0, 0, 0, 0, 0, 8, 0, 1, b'k', 0, 0, 0, 1, 0xff], "an ext field is no UTF-8")]
fn broken_compact_headers_are_refused_with_their_opaque(
    #[case] rest: &[u8],
    #[case] why: &'static str,
) {
    let error = decode(&mut compact(rest), &Limits::default()).unwrap_err();
    assert_eq!(
        (error.rule.clone(), error.opaque()),
        (Rule::MalformedHeader(why), Some(5))
    );
}

#[test]
fn a_compact_header_without_its_fixed_part_is_refused() {
    let error = decode(&mut frame_of(1, &[0; 12], b""), &Limits::default()).unwrap_err();
    assert_eq!(
        error,
        Rule::MalformedHeader("the fixed part is cut off").into()
    );
}

#[test]
fn codes_beyond_16_bits_take_the_json_form() {
    let mut command = Command::request(RequestCode::POP_MESSAGE);
    command.format = HeaderFormat::Compact;
    let mut out = BytesMut::new();
    encode(&command, &mut out);
    assert_eq!(out[4], 0);
    let read = decode(&mut out, &Limits::default()).unwrap().unwrap();
    assert_eq!(read.request_code(), RequestCode::POP_MESSAGE);
}

#[test]
fn head_and_chunks_are_the_whole_frame() {
    let chunks = vec![
        Bytes::from_static(b"one"),
        Bytes::new(),
        Bytes::from_static(b"two"),
    ];
    let command = Command::request(RequestCode::PULL_MESSAGE)
        .with_body(chunks)
        .with_remark("r");
    let (mut head, mut whole) = (BytesMut::new(), BytesMut::new());
    encode_head(&command, &mut head);
    encode(&command, &mut whole);
    head.extend_from_slice(b"onetwo");
    assert_eq!(head, whole);
    assert_eq!(
        missing_bytes(&whole[..20], &Limits::default()),
        Some(whole.len() - 20)
    );
}

prop_compose! {
    fn any_command()(
        code in -2..0x8000_i32, language in 0..14_i8, version in 0..600_i32, opaque: i32, flag in 0..4_i32,
        remark in proptest::option::of("\\PC{1,20}|[\u{0}-\u{ff}]{1,9}"),
        ext in proptest::collection::btree_map("[a-zA-Z\"\\\\]{1,9}", "[\u{0}-\u{ff}😀]{0,30}", 0..9),
        body: Vec<u8>, is_compact: bool,
    ) -> Command {
        let mut fields = ExtFields::new();
        for (key, value) in ext {
 fields.insert(key, value);
}
        let format = if is_compact { HeaderFormat::Compact } else { HeaderFormat::Json };
        Command {
            code, language: Language(language), version, opaque, flag, remark: remark.map(ByteStr::from), ext: fields,
            body: body.into(), format,
        }
    }
}

proptest! {
    #[test]
    fn commands_come_back(commands in proptest::collection::vec(any_command(), 1..4)) {
        let mut buffer = BytesMut::new();
        for command in &commands {
 encode(command, &mut buffer);
}
        for command in &commands {
            let read = decode(&mut buffer, &Limits::default()).unwrap();
            prop_assert_eq!(read.as_ref(), Some(command));
        }
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn frames_may_come_in_any_pieces(command in any_command(), cut: prop::sample::Index) {
        let mut whole = BytesMut::new();
        encode(&command, &mut whole);
        let at = cut.index(whole.len());
        let rest = whole.split_off(at);
        prop_assert_eq!(decode(&mut whole, &Limits::default()), Ok(None));
        whole.extend_from_slice(&rest);
        prop_assert_eq!(decode(&mut whole, &Limits::default()), Ok(Some(command)));
    }

    #[test]
    fn the_scanner_and_the_full_parser_agree(command in any_command()) {
        let mut command = command;
        command.format = HeaderFormat::Json;
        command.body = Body::EMPTY;
        let mut out = BytesMut::new();
        encode(&command, &mut out);
        let header = out.split_off(8).freeze();
        let scanned = json_header::decode(header.clone(), &Limits::default()).unwrap();
        let parsed = json_header::decode_fully(&header, &Limits::default()).unwrap();
        prop_assert_eq!(scanned, parsed);
    }

    #[test]
    fn any_bytes_are_survived(bytes: Vec<u8>) {
        let _ = decode(&mut BytesMut::from(&bytes[..]), &Limits::default());
        let _ = decode(&mut frame_of(0, &bytes, b""), &Limits::default());
        let _ = decode(&mut frame_of(1, &bytes, b""), &Limits::default());
    }

    #[test]
    fn any_damage_is_survived(command in any_command(), at: prop::sample::Index, value: u8) {
        let mut out = BytesMut::new();
        encode(&command, &mut out);
        let at = at.index(out.len());
        out[at] = value;
        let _ = decode(&mut out, &Limits::default());
    }

    #[test]
    fn what_the_scanner_takes_the_full_parser_takes_alike(text in r#"\{("(code|opaque|x|extFields|remark)":("a"|1|-0|01|\{\}|null|"\\u0041"|1e3|\{"k":"v"\}),?){0,4}\}"#) {
        let bytes = Bytes::from(text);
        let scanned = json_header::decode(bytes.clone(), &Limits::default());
        let parsed = json_header::decode_fully(&bytes, &Limits::default());
        prop_assert_eq!(scanned.ok(), parsed.ok());
    }
}

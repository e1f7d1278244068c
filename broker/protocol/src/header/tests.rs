use rstest::rstest;

use super::*;
use crate::ext_fields::ExtFields;

fn fields(pairs: &[(&'static str, &'static str)]) -> ExtFields {
    let mut ext = ExtFields::new();
    for &(name, value) in pairs {
        ext.insert(name, value);
    }
    ext
}

const SEND_V2: [(&str, &str); 10] = [
    ("a", "pg"),
    ("b", "T"),
    ("c", "TBW102"),
    ("d", "4"),
    ("e", "-1"),
    ("f", "0"),
    ("g", "1700000000000"),
    ("h", "7"),
    ("i", "TAGS\u{1}a\u{2}"),
    ("m", "true"),
];

#[test]
fn letters_become_names() {
    let short = SendMessageV2Header::read(&fields(&SEND_V2)).unwrap();
    let long = SendMessageHeader::from(short.clone());
    assert_eq!(
        (long.topic.as_str(), long.queue_id, long.flag),
        ("T", -1, 7)
    );
    assert!(long.batch && !long.unit_mode);
    assert_eq!(long.properties.as_deref(), Some("TAGS\u{1}a\u{2}"));
    assert_eq!(long.max_reconsume_times, None);
    let mut ext = ExtFields::new();
    long.write(&mut ext);
    assert_eq!(SendMessageHeader::read(&ext), Ok(long.clone()));
    assert_eq!(SendMessageV2Header::from(long), short);
}

#[rstest]
#[case("d", "", HeaderError::Missing("d"))]
#[case("d", "4x", HeaderError::Malformed { name: "d", expected: "32-bit number" })]
#[case("d", "2147483648", HeaderError::Malformed { name: "d", expected: "32-bit number" })]
#[case("g", "1e3", HeaderError::Malformed { name: "g", expected: "64-bit number" })]
#[case("j", "many", HeaderError::Malformed { name: "j", expected: "32-bit number" })]
fn malformed_fields_are_named(
    #[case] name: &'static str,
    #[case] value: &'static str,
    #[case] error: HeaderError,
) {
    let mut ext = fields(&SEND_V2);
    ext.insert(name, value);
    assert_eq!(SendMessageV2Header::read(&ext), Err(error));
}

#[test]
fn missing_fields_take_their_defaults_or_are_named() {
    let ext = fields(&[("topic", "T"), ("queueId", "0")]);
    assert!(GetMaxOffsetHeader::read(&ext).unwrap().committed);
    assert_eq!(
        OffsetResponseHeader::read(&ext),
        Err(HeaderError::Missing("offset"))
    );
    let reset = fields(&[
        ("topic", "T"),
        ("group", "g"),
        ("timestamp", "-1"),
        ("isForce", "TRUE"),
    ]);
    let reset = ResetOffsetHeader::read(&reset).unwrap();
    assert_eq!(
        (reset.queue_id, reset.offset, reset.is_force),
        (-1, None, true)
    );
}

#[test]
fn unset_fields_are_not_written() {
    let mut ext = ExtFields::new();
    PullMessageResponseHeader {
        next_begin_offset: 5,
        ..Default::default()
    }
    .write(&mut ext);
    let written: Vec<_> = ext.iter().collect();
    let expected = [
        ("suggestWhichBrokerId", "0"),
        ("nextBeginOffset", "5"),
        ("minOffset", "0"),
        ("maxOffset", "0"),
    ];
    assert_eq!(written, expected);
}

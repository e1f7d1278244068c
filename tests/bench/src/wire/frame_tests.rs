use bytes::BytesMut;
use rocket_protocol::command::Command;
use rocket_protocol::frame::{self, Limits};
use rocket_protocol::message::batch;
use rstest::rstest;

use super::*;

fn shape(format: HeaderFormat) -> Shape {
    Shape {
        format,
        topic: "bench".into(),
        topics: 1,
        queues: 12,
        body_bytes: 100,
        batch: 1,
        origin: 0xabc,
    }
}

fn message(queue: u32, sequence: u64) -> Message {
    Message {
        opaque: 1_234_567_890,
        topic: 0,
        queue,
        born: 1_800_000_000_123,
        sequence,
        stamp: None,
    }
}

fn decoded(bytes: &[u8]) -> Vec<Command> {
    let mut buffer = BytesMut::from(bytes);
    let mut all = Vec::new();
    while let Some(command) = frame::decode(&mut buffer, &Limits::default()).unwrap() {
        all.push(command);
    }
    assert!(buffer.is_empty(), "bytes are left behind the last frame");
    all
}

#[rstest]
#[case(HeaderFormat::Json)]
#[case(HeaderFormat::Compact)]
fn each_patched_frame_decodes_to_what_was_asked_for(#[case] format: HeaderFormat) {
    let mut frames = SendFrames::new(&shape(format));
    let mut out = Vec::new();
    frames.write(&message(3, 5), &mut out);
    frames.write(&message(11, 0xabc_def0_1234), &mut out);
    let commands = decoded(&out);
    let [first, second] = &commands[..] else {
        panic!("two frames, not {}", commands.len())
    };
    for (command, queue, sequence) in [(first, "3", "000000000005"), (second, "11", "0ABCDEF01234")]
    {
        assert_eq!(command.code, RequestCode::SEND_MESSAGE_V2.0);
        assert_eq!(command.format, format);
        assert_eq!(command.opaque, 1_234_567_890);
        let field = |name| command.ext.get(name).unwrap();
        assert_eq!(field("b"), "bench");
        assert_eq!(field("e"), queue);
        assert_eq!(field("g"), "1800000000123");
        assert_eq!(
            field("i"),
            format!("UNIQ_KEY\u{1}7F000001000000000ABC{sequence}\u{2}WAIT\u{1}true\u{2}")
        );
        assert_eq!(&command.body.contiguous()[..], filling(100));
    }
}

#[test]
fn frames_have_the_fields_of_the_java_client_in_its_order() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../fixtures/wire/java-5.4.0-compact/008-c2s-310.bin"
    );
    let java = decoded(&std::fs::read(path).unwrap());
    let mut out = Vec::new();
    SendFrames::new(&shape(HeaderFormat::Compact)).write(&message(0, 0), &mut out);
    let names = |command: &Command| -> Vec<String> {
        command
            .ext
            .iter()
            .map(|(name, _)| name.to_owned())
            .collect()
    };
    let ours = decoded(&out);
    assert_eq!(names(&ours[0]), names(&java[0]));
    assert_eq!(ours[0].language, java[0].language);
    assert_eq!(ours[0].version, java[0].version);
}

#[rstest]
#[case(HeaderFormat::Json)]
#[case(HeaderFormat::Compact)]
fn topics_are_patched_by_their_number(#[case] format: HeaderFormat) {
    let many = Shape {
        topics: 2000,
        ..shape(format)
    };
    let mut frames = SendFrames::new(&many);
    let mut out = Vec::new();
    for topic in [0, 1999] {
        let message = Message {
            topic,
            ..message(1, 0)
        };
        frames.write(&message, &mut out);
    }
    let names: Vec<String> = decoded(&out)
        .iter()
        .map(|command| command.ext.get("b").unwrap().to_owned())
        .collect();
    assert_eq!(names, ["bench-000000", "bench-001999"]);
    assert_eq!(names[1], topic_name("bench", 2000, 1999));
}

#[rstest]
#[case(HeaderFormat::Json)]
#[case(HeaderFormat::Compact)]
fn each_message_of_a_batch_has_its_own_key_and_stamp(#[case] format: HeaderFormat) {
    let shape = Shape {
        batch: 3,
        ..shape(format)
    };
    let mut frames = SendFrames::new(&shape);
    let mut out = Vec::new();
    let message = Message {
        stamp: Some(0x0102_0304_0506_0708),
        ..message(2, 15)
    };
    frames.write(&message, &mut out);
    let command = decoded(&out).remove(0);
    assert_eq!(command.code, RequestCode::SEND_BATCH_MESSAGE.0);
    assert_eq!(command.ext.get("m"), Some("true"));
    let body = command.body.contiguous();
    let messages: Vec<_> = batch::views(&body).collect::<Result<_, _>>().unwrap();
    let keys: Vec<_> = messages
        .iter()
        .map(|message| String::from_utf8(message.properties.to_vec()).unwrap())
        .collect();
    let key =
        |end| format!("UNIQ_KEY\u{1}7F000001000000000ABC0000000000{end}\u{2}WAIT\u{1}true\u{2}");
    assert_eq!(keys, [key("0F"), key("10"), key("11")]);
    for message in &messages {
        assert_eq!(message.body[..8], [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(message.body[8..], filling(100)[8..]);
    }
}

#[test]
fn writing_into_a_buffer_with_room_moves_nothing() {
    let mut frames = SendFrames::new(&shape(HeaderFormat::Compact));
    let mut out = Vec::with_capacity(frames.bytes_max() * 2);
    let before = (out.capacity(), out.as_ptr());
    frames.write(&message(10, 1), &mut out);
    frames.write(&message(10, 2), &mut out);
    assert_eq!(before, (out.capacity(), out.as_ptr()));
}

//! Queue offsets that nobody ever gave to a message of the log: a start that builds the queues again takes them for what they
//! are, where checksums vouch for the records behind them.

use rocket_mapped_file::Directory as _;
use rocket_protocol::QueueId;
use rocket_store::{Engine, GetStatus, ReadLimits, Step};

use crate::rebuilding::{end, of_apache, open, send_to};
use crate::support::{Tell, topic};

/// How many messages a consumer of queue 0 gets from the beginning.
fn consumed(engine: &Engine<Tell>) -> u32 {
    let limits = ReadLimits {
        messages_max: 32,
        bytes_max: 256 << 10,
    };
    let (mut next, mut count) = (0, 0);
    while next < end(engine, 0).cast_signed() {
        let result = engine.get(&topic("t"), QueueId(0), next, limits, &|_, _| true);
        assert!(
            matches!(
                result.status,
                GetStatus::Found | GetStatus::NoMatchedMessage
            ),
            "{result:?}"
        );
        assert!(result.next_begin > next, "a consumer gets on: {result:?}");
        next = result.next_begin;
        count += result.messages;
    }
    count
}

#[test]
fn messages_behind_offsets_that_another_broker_gave_are_no_damage_when_queues_are_built_again() {
    let dir = of_apache();
    let engine = open(&dir);
    for n in 0..200 {
        assert_eq!(send_to(&engine, 0), 20_000 + n);
    }
    while engine.seal_step() == Step::Worked {}
    engine.checkpoint_step();
    assert_eq!(consumed(&engine), 400);
    drop(engine);
    let dir = dir.killed();
    dir.replace("rocket/queues/damaged", b"a test says so")
        .unwrap();
    let engine = open(&dir);
    assert_eq!(engine.damage(), []);
    assert_eq!((end(&engine, 0), consumed(&engine)), (20_200, 400));
    assert_eq!(send_to(&engine, 0), 20_200);
}

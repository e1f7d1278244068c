//! Queues that are built again, and logs whose bounds are lost: no offset is given away twice, nothing good is cut.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use rocket_mapped_file::Directory as _;
use rocket_mapped_file::memory::{Faults, MemoryDirectory};
use rocket_protocol::{Message, QueueId, RecordView};
use rocket_store::{
    Engine, Flush, LocalPolicy, NoEvents, OpenError, Promise, Retention, Step, StoreConfig,
};

use crate::support::{Tell, TestClock, clock, message_of, small, topic};

const SEGMENT: u64 = 64 << 10;
const T0: i64 = 1_800_000_000_000;

fn config() -> StoreConfig {
    let defaults = StoreConfig::default();
    StoreConfig {
        segment_bytes: SEGMENT,
        index_slots: 1024,
        index_entries: 100_000,
        checksum_block_bytes: 4096,
        retention: Retention {
            reserved: Duration::from_hours(72),
            delete_when: (0..24).collect(),
            ..defaults.retention
        },
        ..small("unused".as_ref())
    }
}

fn try_open(
    dir: &MemoryDirectory,
    clock: &Arc<TestClock>,
    config: StoreConfig,
) -> Result<Engine<Tell>, OpenError> {
    open_with(dir, clock, config, Flush::Sync)
}

fn open_with(
    dir: &MemoryDirectory,
    clock: &Arc<TestClock>,
    config: StoreConfig,
    flush: Flush,
) -> Result<Engine<Tell>, OpenError> {
    let opened = Engine::open(
        config,
        Arc::new(dir.clone()),
        Arc::clone(clock) as _,
        Arc::new(LocalPolicy { flush }),
        Arc::new(NoEvents),
    );
    opened.map(|(engine, _)| engine)
}

pub(crate) fn open(dir: &MemoryDirectory) -> Engine<Tell> {
    try_open(dir, &clock(T0), config()).unwrap()
}

/// Sends, flushes and dispatches; the queue offset.
fn send(engine: &Engine<Tell>, message: &Message) -> u64 {
    let (tell, told) = channel();
    let taken = engine.append(&[message.as_ref()], Promise::Kept, Tell(tell));
    assert!(taken.is_ok());
    engine.write_step();
    engine.flush_step(0);
    while engine.dispatch_step() == Step::Worked {}
    told.try_recv().unwrap().appended.unwrap().queue_offset.0
}

pub(crate) fn send_to(engine: &Engine<Tell>, queue: u32) -> u64 {
    send(engine, &message_of("t", queue, 1000))
}

/// Where the queue ends.
pub(crate) fn end(engine: &Engine<Tell>, queue: u32) -> u64 {
    let range = engine.queue_range(&topic("t"), QueueId(queue));
    range.map_or(0, |range| range.max.0)
}

/// The files in a folder whose names end so.
fn files(dir: &MemoryDirectory, folder: &str, suffix: &str) -> Vec<String> {
    let names = dir.list_names(folder).into_iter();
    names
        .filter(|name| name.ends_with(suffix))
        .map(|name| format!("{folder}/{name}"))
        .collect()
}

#[test]
fn the_offset_of_a_damaged_last_message_is_not_given_again() {
    let dir = MemoryDirectory::default();
    let engine = open(&dir);
    for _ in 0..9 {
        send_to(&engine, 0);
    }
    let last = usize::try_from(engine.positions().appended.0).unwrap();
    send_to(&engine, 0);
    engine.checkpoint_step();
    drop(engine);
    let next = dir.killed();
    // Its magic: it is no record any more.
    next.flip("commitlog/00000000000000000000", last + 4);
    let engine = open(&next);
    assert_eq!(end(&engine, 0), 10, "the queue knew of it");
    drop(engine);
    let engine = open(&next.killed());
    assert_eq!(send_to(&engine, 0), 10, "and remembers");
}

/// A store where all messages of queue 1 have expired, and those of queue 0 that are left lie behind them.
fn expired() -> (MemoryDirectory, Arc<TestClock>) {
    let (dir, clock) = (MemoryDirectory::default(), clock(T0));
    let engine = try_open(&dir, &clock, config()).unwrap();
    for _ in 0..5 {
        send_to(&engine, 1);
    }
    for _ in 0..100 {
        send_to(&engine, 0);
    }
    engine.checkpoint_step();
    clock
        .0
        .fetch_add(100 * 3_600_000, std::sync::atomic::Ordering::Relaxed);
    for _ in 0..150 {
        send_to(&engine, 0);
    }
    engine.checkpoint_step();
    engine.retention_step();
    engine.checkpoint_step();
    assert!(engine.positions().min.0 > 0, "files are gone");
    let range = engine.queue_range(&topic("t"), QueueId(1)).unwrap();
    assert_eq!((range.min.0, range.max.0), (5, 5), "all of them expired");
    drop(engine);
    (dir.killed(), clock)
}

#[test]
fn queues_that_are_built_again_give_no_offset_again_of_messages_that_expired() {
    let (dir, _) = expired();
    let mark = "rocket/queues/damaged";
    dir.replace(mark, b"a test says so").unwrap();
    // Whatever ends the start that builds them, the next one still knows.
    for nth in 1.. {
        let dir = dir.killed();
        dir.set_faults(Faults {
            create_error_at: Some((nth, 5)),
            ..Faults::default()
        });
        let is_open = try_open(&dir, &clock(T0), config()).is_ok();
        for seed in 0..4 {
            let engine = open(&dir.crashed(seed));
            assert_eq!((end(&engine, 1), end(&engine, 0)), (5, 250), "{nth}");
            assert_eq!(send_to(&engine, 1), 5);
            drop(engine);
        }
        if is_open {
            assert!(dir.read("rocket/queue-offsets.json").unwrap().is_none());
            return;
        }
    }
}

#[test]
fn a_table_of_the_queues_that_rots_costs_no_offset() {
    let (dir, _) = expired();
    let tables = files(&dir, "rocket/queues", ".table");
    assert_eq!(tables.len(), 2, "one is kept behind the newest");
    dir.flip(tables.last().unwrap(), 530);
    let engine = open(&dir);
    assert_eq!((end(&engine, 1), end(&engine, 0)), (5, 250));
    assert_eq!(send_to(&engine, 1), 5);
    assert_eq!(send_to(&engine, 0), 250);
}

#[test]
fn messages_in_the_place_of_deleted_ones_that_a_crash_took_are_not_deleted() {
    for seed in 0..8 {
        let dir = MemoryDirectory::default();
        let engine = open(&dir);
        send_to(&engine, 0);
        let (tell, _told) = channel();
        let lost = message_of("t", 0, 9000);
        let taken = engine.append(&[lost.as_ref()], Promise::Kept, Tell(tell));
        assert!(taken.is_ok());
        engine.write_step();
        engine.delete_topic(&topic("t")).unwrap();
        let dir = dir.crashed(seed);
        let engine = open(&dir);
        assert_eq!(send_to(&engine, 0), 0);
        assert_eq!(end(&engine, 0), 1);
        let engine = open(&dir.killed());
        assert_eq!(end(&engine, 0), 1);
    }
}

/// The files that are full have expired, and go.
fn expire(engine: &Engine<Tell>, clock: &TestClock) {
    let later = 100 * 3_600_000;
    clock
        .0
        .fetch_add(later, std::sync::atomic::Ordering::Relaxed);
    engine.checkpoint_step();
    engine.retention_step();
    assert!(engine.positions().min.0 > 0, "files are gone");
}

/// What was noted of the queues since does not count, since the log behind it was not flushed.
#[test]
fn messages_of_a_topic_that_was_made_again_have_a_place_when_those_of_its_old_life_expired() {
    let (dir, clock) = (MemoryDirectory::default(), clock(T0));
    let engine = open_with(&dir, &clock, config(), Flush::Async).unwrap();
    for _ in 0..5 {
        send_to(&engine, 0);
    }
    engine.checkpoint_step();
    engine.delete_topic(&topic("t")).unwrap();
    for _ in 0..100 {
        send(&engine, &message_of("other", 0, 1000));
    }
    for offset in 0..3 {
        assert_eq!(send_to(&engine, 0), offset);
    }
    let (tell, _told) = channel();
    let unflushed = message_of("other", 0, 1000);
    let taken = engine.append(&[unflushed.as_ref()], Promise::Kept, Tell(tell));
    assert!(taken.is_ok());
    engine.write_step();
    while engine.dispatch_step() == Step::Worked {}
    expire(&engine, &clock);
    for dir in [dir.killed(), dir.crashed(1)] {
        let engine = open(&dir);
        let range = engine.queue_range(&topic("t"), QueueId(0)).unwrap();
        assert_eq!((range.min.0, range.max.0), (0, 3));
        assert_eq!(send_to(&engine, 0), 3);
    }
}

#[test]
fn a_table_that_takes_the_place_of_one_that_rots_brings_no_topic_back() {
    let (dir, clock) = (MemoryDirectory::default(), clock(T0));
    let engine = try_open(&dir, &clock, config()).unwrap();
    let send_others = |count| {
        for _ in 0..count {
            send(&engine, &message_of("other", 0, 1000));
        }
    };
    for _ in 0..5 {
        send_to(&engine, 0);
    }
    send_others(100);
    engine.checkpoint_step();
    engine.delete_topic(&topic("t")).unwrap();
    send_others(120);
    engine.checkpoint_step();
    for offset in 0..3 {
        assert_eq!(send_to(&engine, 0), offset);
    }
    expire(&engine, &clock);
    let dir = dir.killed();
    let tables = files(&dir, "rocket/queues", ".table");
    assert_eq!(tables.len(), 2, "{tables:?}");
    dir.flip(tables.last().unwrap(), 530);
    let engine = open(&dir);
    let range = engine.queue_range(&topic("t"), QueueId(0)).unwrap();
    assert_eq!((range.min.0, range.max.0), (0, 3));
    assert_eq!(send_to(&engine, 0), 3);
}

/// Opens what a start is ended in at each of its steps, until one comes to its end; each time `look` is shown what the start
/// after it made of that.
fn end_starts(dir: &MemoryDirectory, look: impl Fn(&Engine<Tell>, u64)) {
    for step in 0.. {
        let begun = dir.killed();
        begun.set_faults(Faults {
            dies_after: Some(step),
            ..Faults::default()
        });
        let is_open = try_open(&begun, &clock(T0), config()).is_ok();
        for dir in [begun.killed(), begun.crashed(step)] {
            look(&open(&dir), step);
        }
        if is_open {
            return;
        }
    }
}

/// What a start cut short has made of it is not what a broker was flushed by.
#[test]
fn an_import_that_was_cut_short_is_begun_again() {
    for has_queues in [true, false] {
        let dir = of_apache();
        if !has_queues {
            dir.remove_folder("consumequeue").unwrap();
        }
        let log_end = open(&dir.killed()).positions().appended;
        dir.flip("commitlog/00000000000000000000", 5 * 4096 + 100);
        end_starts(&dir, |engine, step| {
            assert_eq!(engine.positions().appended, log_end, "{step}");
            assert_eq!(engine.damage().len(), 1, "{step}");
            let next = if has_queues { 20_000 } else { 200 };
            assert_eq!(send_to(engine, 0), next, "{step}");
        });
    }
}

/// Its queues, which cannot be read or are not there, do not tell where a closed log ended; its checkpoint tells what was flushed.
#[test]
fn old_damage_in_a_folder_that_apache_closed_is_no_torn_tail() {
    for has_queues in [true, false] {
        let dir = of_apache();
        dir.remove("abort").unwrap();
        if !has_queues {
            dir.remove_folder("consumequeue").unwrap();
        }
        let log_end = open(&dir.killed()).positions().appended;
        dir.flip("commitlog/00000000000000000000", 5 * 4096 + 100);
        let engine = open(&dir);
        assert_eq!(engine.positions().appended, log_end);
        assert_eq!(engine.damage().len(), 1);
        let next = if has_queues { 20_000 } else { 200 };
        assert_eq!(send_to(&engine, 0), next);
    }
}

/// The table of the queues told where the log was flushed to, and goes when they are built again.
#[test]
fn what_is_told_of_a_lost_checkpoint_outlasts_what_told_it() {
    let dir = MemoryDirectory::default();
    let engine = open(&dir);
    for _ in 0..200 {
        send_to(&engine, 0);
    }
    engine.checkpoint_step();
    let log_end = engine.positions().appended;
    drop(engine);
    let dir = dir.killed();
    for slot in [0, 4096] {
        dir.flip("rocket/checkpoint", slot + 1);
    }
    dir.replace("rocket/queues/damaged", b"a test says so")
        .unwrap();
    dir.flip("commitlog/00000000000000000000", 5 * 4096 + 100);
    end_starts(&dir, |engine, step| {
        assert_eq!(engine.positions().appended, log_end, "{step}");
        assert_eq!(engine.damage().len(), 1, "{step}");
        assert_eq!(send_to(engine, 0), 200, "{step}");
    });
}

/// As an Apache broker that was killed leaves it, whose queues have files of another size than is configured here. Of the queue
/// there are 200 messages, and the name of its file tells that it had 20,000.
pub(crate) fn of_apache() -> MemoryDirectory {
    let dir = MemoryDirectory::default();
    let engine = open(&dir);
    for _ in 0..200 {
        send_to(&engine, 0);
    }
    drop(engine);
    let dir = dir.killed();
    for folder in ["rocket", "index"] {
        dir.remove_folder(folder).unwrap();
    }
    // Everything is secured, says its checkpoint, up to a time after the last file was begun.
    dir.replace("checkpoint", &[(T0 + 60_000).to_be_bytes(); 2].concat())
        .unwrap();
    dir.create_folder("consumequeue/t/0").unwrap();
    let queue = "consumequeue/t/0/00000000000000400000";
    dir.replace(queue, &vec![0; 400_000]).unwrap();
    dir
}

/// A file under another name than its own, or of another broker: every record is whole and says that it lies elsewhere.
#[test]
fn a_folder_of_apache_whose_records_belong_elsewhere_does_not_open_and_is_left_as_it_is() {
    let dir = of_apache();
    dir.remove("checkpoint").unwrap();
    dir.remove_folder("consumequeue").unwrap();
    let names = dir.list_names("commitlog");
    let path = |name: &String| format!("commitlog/{name}");
    let second = dir.read(&path(&names[1])).unwrap().unwrap();
    dir.replace(&path(&names[0]), &second).unwrap();
    for name in &names[1..] {
        dir.remove(&path(name)).unwrap();
    }
    let Err(error) = try_open(&dir, &clock(T0), config()) else {
        panic!("it opens");
    };
    let said = error.to_string();
    assert!(said.contains("says it belongs at 65536"), "{said}");
    let left = dir.killed().read(&path(&names[0])).unwrap().unwrap();
    assert!(left == second, "nothing was cut");
}

#[test]
fn queues_of_apache_that_cannot_be_read_hide_no_message() {
    let engine = open(&of_apache());
    let range = engine.queue_range(&topic("t"), QueueId(0)).unwrap();
    assert_eq!(range.min.0, 0);
    assert_eq!(range.max.0, 20_000);
    assert_eq!(send_to(&engine, 0), 20_000);
}

#[test]
fn without_a_checkpoint_damage_is_damage_and_no_torn_tail() {
    let dir = MemoryDirectory::default();
    let engine = open(&dir);
    for _ in 0..200 {
        send_to(&engine, 0);
    }
    while engine.seal_step() == Step::Worked {}
    engine.checkpoint_step();
    let log_end = engine.positions().appended;
    drop(engine);
    for slots in [vec![0, 4096], vec![]] {
        let dir = dir.killed();
        for &slot in &slots {
            dir.flip("rocket/checkpoint", slot + 1);
        }
        if slots.is_empty() {
            dir.remove("rocket/checkpoint").unwrap();
        }
        dir.flip("commitlog/00000000000000000000", 5 * 4096 + 100);
        let engine = open(&dir);
        assert_eq!(engine.positions().appended, log_end, "nothing was cut");
        assert_eq!(send_to(&engine, 0), 200);
        engine.scrub_step(u64::MAX);
        assert_eq!(engine.damage().len(), 1, "{:?}", engine.damage());
    }
}

/// A record from a time when larger ones were taken is dispatched, and so is a copy of it that the broker makes itself.
#[test]
fn a_lowered_limit_of_size_stops_nothing_that_was_taken_before() {
    let dir = MemoryDirectory::default();
    let limit = |message_bytes_max| StoreConfig {
        segment_bytes: 8 << 20,
        message_bytes_max,
        ..config()
    };
    let engine = try_open(&dir, &clock(T0), limit(4 << 20)).unwrap();
    let large = message_of("t", 0, 3 << 20);
    let (tell, _told) = channel();
    let taken = engine.append(&[large.as_ref()], Promise::Kept, Tell(tell));
    assert!(taken.is_ok());
    engine.write_step();
    engine.flush_step(0);
    while engine.seal_step() == Step::Worked {}
    engine.mark_step();
    drop(engine);
    let next = dir.killed();
    let engine = try_open(&next, &clock(T0), limit(1024)).unwrap();
    assert_eq!(end(&engine, 0), 1);
    assert_eq!(send(&engine, &large), 1);
}

/// The bodies' numbers by queue offset.
pub(crate) fn numbers(engine: &Engine<Tell>) -> BTreeMap<u64, u32> {
    let limits = rocket_store::ReadLimits {
        messages_max: 32,
        bytes_max: 64 << 10,
    };
    let mut found = BTreeMap::new();
    let (name, mut next) = (topic("t"), 0);
    let end = engine.queue_range(&name, QueueId(0)).unwrap().max.to_wire();
    while next < end {
        let result = engine.get(&name, QueueId(0), next, limits, &|_, _| true);
        assert!(result.next_begin > next, "a consumer gets on: {result:?}");
        next = result.next_begin;
        for chunk in result.chunks {
            let mut rest = &chunk[..];
            while !rest.is_empty() {
                let (view, len) = RecordView::parse(rest).unwrap();
                let number = std::str::from_utf8(&view.body()[..8]).unwrap();
                found.insert(view.queue_offset().0, number.parse().unwrap());
                rest = &rest[len..];
            }
        }
    }
    found
}

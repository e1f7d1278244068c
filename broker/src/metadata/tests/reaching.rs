//! Replicas whose logs begin behind the last message of a queue, and what they know of it: all that the last snapshot says.

use rocket_store::{Aside, Opening, RecordsError, Retention};

use super::super::change::{Change, Part, Record, Stamp, VERSION};
use super::*;

/// Of which the log goes back no further than a few files.
const SELDOM: &str = "seldom";

/// Retention that the tests ask for by their size, and that takes nothing before metadata says what it may.
fn small() -> StoreConfig {
    StoreConfig {
        kept_from: PhysicalOffset(0),
        retention: Retention {
            bytes_max: 200 << 10,
            interval: Duration::from_millis(100),
            ..StoreConfig::default().retention
        },
        checkpoint_interval: Duration::from_millis(100),
        ..config()
    }
}

fn min(world: &World) -> u64 {
    world.store.positions().min.0
}

/// A log whose master had three messages in a queue that has none any more.
fn grown() -> (World, Master) {
    let world = World::on(tempfile::tempdir().unwrap(), small());
    let master = world.master();
    for _ in 0..3 {
        world.send(SELDOM, b"x");
    }
    grow(&world, &master);
    until(|| world.range(SELDOM) == (3, 3));
    (world, master)
}

/// The log goes on until its present beginning is gone.
fn grow(world: &World, master: &Master) {
    let before = min(world);
    let body = vec![b'x'; 4000];
    until(|| {
        let positions = world.store.positions();
        // Not more than what retention comes after.
        if positions.appended.0 - positions.min.0 < 1 << 20 {
            world.send("often", &body);
            world.tell(&master.metadata);
        }
        positions.min.0 > before + (100 << 10)
    });
    master.applied();
}

/// A log that begins where that of `master` does now, and holds the same from there on.
fn copied(master: &World) -> World {
    copied_showing(master, u64::MAX)
}

/// The same, of which nothing from `shown` on is visible.
fn copied_showing(master: &World, shown: u64) -> World {
    loop {
        let world = World::on(tempfile::tempdir().unwrap(), small());
        world.show(shown);
        let begin = master.store.positions().min;
        world.store.start_anew(begin, 2, Aside::Nothing).unwrap();
        match try_copy(master, &world) {
            Ok(()) => return world,
            // Retention was not done yet.
            Err(RecordsError::Gone { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// What a log has beyond the end of a copy comes there.
fn copy(from: &World, to: &World) {
    try_copy(from, to).unwrap();
}

fn try_copy(from: &World, to: &World) -> Result<(), RecordsError> {
    let end = from.store.positions().appended;
    loop {
        let at = to.store.positions().appended;
        if at >= end {
            break;
        }
        let records = from.store.read_records(at, end, 1 << 20)?;
        let taken = to.store.append_copied(at, records.file_end, &records.bytes);
        assert_eq!(taken.unwrap(), records.to);
    }
    assert!(to.store.catch_up());
    Ok(())
}

/// The store of `world` takes messages from here on, and what `replica` has is what its group knows.
fn lead(world: &World, replica: &Metadata) {
    assert_eq!(world.store.become_writer().unwrap(), Opening::Open);
    replica.lead(NOW, PATIENCE).unwrap();
}

fn knows(world: &World) -> bool {
    let topic = TopicName::parse(SELDOM).unwrap();
    world.store.queue_range(&topic, Q).is_some()
}

fn has_ends(metadata: &Metadata) -> bool {
    let replica = metadata.replica.as_ref().unwrap();
    replica.base().unwrap().has_ends
}

/// A snapshot as programs took it that told nothing of queues.
fn send_old_snapshot(world: &World, master: &Metadata) {
    let replica = master.replica.as_ref().unwrap();
    let at = replica.log.range().unwrap().max.to_wire();
    let part = Part {
        id: 77,
        at,
        physical: world.end(),
        number: 0,
        of: 1,
        content: state(master).split(usize::MAX).pop().unwrap(),
        queues: None,
    };
    let record = Record {
        v: VERSION,
        writer: 5,
        number: 1,
        stamp: Stamp::at(NOW),
        change: Change::Part(Box::new(part)),
    };
    let body = record.encode().unwrap();
    world.send(rocket_protocol::name::system_topic::METADATA, &body);
}

#[test]
fn a_replica_that_joined_after_retention_gives_no_offset_again() {
    for is_older_last in [false, true] {
        let (world, master) = grown();
        if is_older_last {
            send_old_snapshot(&world, &master.metadata);
        }
        let joined = copied(&world);
        assert!(!knows(&joined), "its log tells nothing of the queue");
        let replica = joined.slave("joined");
        assert_eq!(joined.range(SELDOM), (3, 3));
        assert_eq!(has_ends(&replica), !is_older_last);
        lead(&joined, &replica);
        assert!(has_ends(&replica));
        joined.send(SELDOM, b"y");
        assert_eq!(joined.range(SELDOM), (3, 4));
        // Who had the messages has the new one too.
        world.store.step_down().unwrap();
        copy(&joined, &world);
        assert_eq!(world.range(SELDOM), (3, 4));
        assert_eq!(world.store.stats().messages_misplaced, 0);
    }
}

#[test]
fn a_snapshot_that_comes_later_is_enough() {
    let (world, master) = grown();
    let joined = copied_showing(&world, 0);
    let replica = joined.replica("joined");
    let (begin, part) = (joined.store.positions().min, joined.end());
    // One record after the other becomes visible.
    let mut at = begin;
    while at.0 < part {
        let end = PhysicalOffset(part);
        at = joined.store.read_records(at, end, 1).unwrap().to;
        joined.show(at.0);
        drain(&replica);
    }
    assert_eq!(joined.range(SELDOM), (3, 3));
    // The next one changes nothing.
    let before = replica.replica.as_ref().unwrap().base();
    for _ in 0..70 {
        world.send("often", &[b'x'; 1000]);
    }
    world.tell(&master.metadata);
    master.applied();
    joined.show(u64::MAX);
    copy(&world, &joined);
    drain(&replica);
    assert_ne!(replica.replica.as_ref().unwrap().base(), before);
    assert_eq!(joined.range(SELDOM), (3, 3));
    assert_eq!(state(&replica).topics, state(&master.metadata).topics);
}

/// The store is dropped as a process that is killed leaves it; what was folded was kept beside the log before.
#[test]
fn what_was_told_is_there_after_a_kill_with_what_was_kept_of_it() {
    for is_kept in [true, false] {
        let (world, _master) = grown();
        let joined = copied(&world);
        let replica = joined.slave("joined");
        if is_kept {
            let of_group = replica.replica.as_ref().unwrap();
            replica.save_cache(of_group, NOW).unwrap();
        }
        drop(replica);
        let World { dir, store, .. } = joined;
        drop(store);
        let joined = World::on(dir, small());
        let replica = joined.slave("joined");
        assert_eq!(joined.range(SELDOM), (3, 3));
        lead(&joined, &replica);
        joined.send(SELDOM, b"y");
        assert_eq!(joined.range(SELDOM), (3, 4));
    }
}

/// Of a log that was begun anew since nothing is believed, though the next change is the one that was awaited.
#[test]
fn what_was_kept_of_a_log_that_went_is_not_believed() {
    let (world, master) = grown();
    let joined = copied(&world);
    let replica = joined.slave("joined");
    let of_group = replica.replica.as_ref().unwrap();
    replica.save_cache(of_group, NOW).unwrap();
    let next = of_group.follower.lock().next;
    drop(replica);
    grow(&world, &master);
    let metadata = rocket_protocol::name::system_topic::METADATA;
    until(|| {
        grow(&world, &master);
        i64::try_from(world.range(metadata).0).unwrap() >= next
    });
    let again = copied(&world);
    // As if the first change of the log that came instead were the next one.
    let path = joined.dir.path().join("joined/config/rocket-metadata.json");
    let text = std::fs::read_to_string(path).unwrap();
    let mut kept: serde_json::Value = serde_json::from_str(&text).unwrap();
    let first = i64::try_from(again.range(metadata).0).unwrap();
    kept["next"] = first.into();
    kept["last"]["offset"] = (first - 1).into();
    let folder = again.dir.path().join("joined/config");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("rocket-metadata.json"), kept.to_string()).unwrap();
    assert!(!knows(&again));
    again.slave("joined");
    assert_eq!(again.range(SELDOM), (3, 3));
}

#[test]
fn a_master_takes_another_snapshot_where_the_last_one_tells_no_ends() {
    let world = World::new();
    let master = world.master();
    assert!(has_ends(&master.metadata));
    world.send(SELDOM, b"x");
    send_old_snapshot(&world, &master.metadata);
    until(|| !has_ends(&master.metadata));
    let heir = world.slave("heir");
    assert!(!has_ends(&heir));
    master.metadata.stand_down();
    heir.lead(NOW, PATIENCE).unwrap();
    assert!(has_ends(&heir));
    assert_eq!(state(&world.slave("late")), state(&heir));
    let end = world.end();
    heir.stand_down();
    heir.lead(NOW, PATIENCE).unwrap();
    assert_eq!(world.end(), end, "once is enough");
}

#[test]
fn before_the_first_snapshot_retention_takes_nothing() {
    let (world, other) = (
        World::on(tempfile::tempdir().unwrap(), small()),
        World::on(tempfile::tempdir().unwrap(), small()),
    );
    other.store.keep_from(PhysicalOffset(u64::MAX));
    let early = world.replica("early");
    let send = |kib: usize| {
        for _ in 0..kib {
            world.send("a", &[b'x'; 1024]);
            other.send("a", &[b'x'; 1024]);
        }
    };
    send(400);
    // What has nothing to keep tells when retention has looked, twice.
    until(|| min(&other) > 0);
    send(200);
    until(|| min(&other) > 300 << 10);
    assert_eq!(min(&world), 0);
    let master = world.master();
    drain(&early);
    until(|| min(&world) > 300 << 10);
    assert_eq!(state(&early), state(&master.metadata));
}

//! The times of a master: how it begins, what it tells the log, how it ends.

use super::super::change::{Change, Record, Stamp, VERSION};
use super::*;

/// The snapshots that a replica knows of: which changes are in the last one.
fn base(metadata: &Metadata) -> i64 {
    let replica = metadata.replica.as_ref().unwrap();
    let base = replica.follower.lock().base;
    base.map_or(-1, |base| base.at)
}

#[test]
fn the_first_master_tells_the_log_what_its_files_hold() {
    let world = World::new();
    let dir = world.dir.path().join("master");
    {
        // As an import left it.
        let alone = Metadata::open(&dir, &BrokerConfig::default(), NOW).unwrap();
        let topic = (TopicName::parse("old").unwrap(), TopicConfig::default());
        alone.topics.update([topic], NOW).unwrap();
        commit(&alone, "old", "g", 5);
        alone.delay.set(2, 7);
        alone.flush(NOW).unwrap();
    }
    let slave = world.replica("slave");
    assert!(!slave.step().unwrap() && !slave.topics.contains("old"));
    let master = world.master();
    assert!(master.metadata.topics.contains("old"));
    drain(&slave);
    assert!(slave.topics.contains("old"));
    assert_eq!(slave.offsets.committed("old", "g", Q), Some(5));
    assert_eq!(slave.delay.get(2), 7);
    assert_eq!(state(&slave), state(&master.metadata));
}

#[test]
fn what_only_a_later_replica_has_in_its_files_is_not_believed() {
    let world = World::new();
    let master = world.master();
    master.put("t").unwrap();
    let alone = Metadata::open(
        &world.dir.path().join("slave"),
        &BrokerConfig::default(),
        NOW,
    );
    let stale = (TopicName::parse("stale").unwrap(), TopicConfig::default());
    alone.unwrap().topics.update([stale], NOW).unwrap();
    let slave = world.slave("slave");
    assert!(slave.topics.contains("t") && !slave.topics.contains("stale"));
}

#[test]
fn a_master_does_not_begin_before_all_that_it_has_is_visible() {
    let world = World::new();
    let master = world.master();
    let heir = world.slave("heir");
    world.show(world.end());
    master.metadata.set_patience(Duration::from_millis(20));
    assert!(master.put("acknowledged-elsewhere").is_err());
    master.metadata.stand_down();
    let early = heir.lead(NOW, Duration::from_millis(30));
    assert_eq!(early, Err(LeadError::NotYet));
    assert!(!heir.leads());
    world.show(u64::MAX);
    heir.lead(NOW, PATIENCE).unwrap();
    assert!(heir.topics.contains("acknowledged-elsewhere"));
}

#[test]
fn a_promotion_costs_the_positions_of_the_last_moment_and_no_others() {
    let world = World::new();
    let master = world.master();
    let heir = world.slave("heir");
    commit(&master.metadata, "t", "g", 5);
    commit(&master.metadata, "u", "g", 50);
    world.tell(&master.metadata);
    commit(&master.metadata, "t", "g", 9);
    // What it told itself does not take back what came since.
    until(|| {
        let replica = master.metadata.replica.as_ref().unwrap();
        let next = replica.follower.lock().next;
        u64::try_from(next).unwrap() == replica.log.range().unwrap().max.0
    });
    assert_eq!(master.metadata.offsets.committed("t", "g", Q), Some(9));
    heir.lead(NOW, PATIENCE).unwrap();
    assert_eq!(heir.offsets.committed("t", "g", Q), Some(5));
    assert_eq!(heir.offsets.committed("u", "g", Q), Some(50));
    // It does not come back with the one who had it.
    master.metadata.stand_down();
    assert_eq!(master.metadata.offsets.committed("t", "g", Q), Some(5));
    assert_eq!(state(&master.metadata), state(&heir));
}

#[test]
fn a_handover_costs_none() {
    let world = World::new();
    let master = world.master();
    let heir = world.slave("heir");
    commit(&master.metadata, "t", "g", 9);
    master.metadata.delay.set(1, 4);
    master.metadata.farewell(NOW).unwrap();
    world.written();
    master.metadata.stand_down();
    heir.lead(NOW, PATIENCE).unwrap();
    assert_eq!(heir.offsets.committed("t", "g", Q), Some(9));
    assert_eq!(heir.delay.get(1), 4);
}

#[test]
fn only_what_moved_is_told_and_nothing_where_nothing_did() {
    let world = World::new();
    let master = world.master();
    let metadata = &master.metadata;
    let told = || {
        let before = world.end();
        world.tell(metadata);
        world.end() - before
    };
    for number in 0..500 {
        commit(metadata, "t", &format!("g{number}"), 1);
    }
    let all = told();
    assert_eq!(told(), 0);
    commit(metadata, "t", "g7", 2);
    commit(metadata, "t", "g7", 3);
    let one = told();
    assert!(one > 0 && one * 10 < all, "{one} of {all}");
    let slave = world.slave("slave");
    assert_eq!(slave.offsets.committed("t", "g7", Q), Some(3));
}

#[test]
fn an_order_of_an_administrator_is_in_the_log_when_it_is_answered() {
    let world = World::new();
    let master = world.master();
    let (topic, group) = (
        TopicName::parse("t").unwrap(),
        GroupName::parse("g").unwrap(),
    );
    master.metadata.offsets.reset(&topic, &group, &[(Q, 3)]);
    master.metadata.keep_positions(NOW).unwrap();
    let slave = world.slave("slave");
    assert_eq!(slave.offsets.committed("t", "g", Q), Some(3));
}

#[test]
fn each_file_of_the_log_gets_a_snapshot_and_none_gets_two() {
    let world = World::new();
    let master = world.master();
    let metadata = &master.metadata;
    master.put("t").unwrap();
    world.tell(metadata);
    assert_eq!(base(metadata), 0);
    let body = vec![b'x'; 1000];
    let mut before = base(metadata);
    for _ in 0..3 {
        let file = world.store.file_start(PhysicalOffset(world.end() - 1));
        while world.store.file_start(PhysicalOffset(world.end())) == file {
            world.send("t", &body);
        }
        world.send("t", &body);
        world.tell(metadata);
        until(|| base(metadata) > before);
        before = base(metadata);
        let end = world.end();
        world.tell(metadata);
        assert_eq!(world.end(), end);
    }
}

#[test]
fn a_change_of_a_newer_program_stops_who_does_not_know_it() {
    let world = World::new();
    let master = world.master();
    let slave = world.slave("slave");
    master.put("a").unwrap();
    let newer = br#"{"v":2,"change":{"quotas":{}}}"#;
    world.send(rocket_protocol::name::system_topic::METADATA, newer);
    assert_eq!(slave.step(), Ok(true), "what comes before is applied");
    assert!(slave.topics.contains("a"));
    assert_eq!(slave.step(), Err(Newer(2)));
    assert_eq!(slave.step(), Err(Newer(2)));
    let led = slave.lead(NOW, PATIENCE);
    assert_eq!(led, Err(LeadError::Newer(Newer(2))));
    // Nor does a new one.
    let late = world.replica("late");
    assert_eq!(late.lead(NOW, PATIENCE), Err(LeadError::Newer(Newer(2))));
}

#[test]
fn what_is_no_change_is_passed_over() {
    let world = World::new();
    let master = world.master();
    world.send(rocket_protocol::name::system_topic::METADATA, b"hello");
    master.put("a").unwrap();
    let slave = world.slave("slave");
    assert!(slave.topics.contains("a"));
}

#[test]
fn a_change_that_is_too_long_is_refused_before_it_is_appended() {
    let world = World::new();
    let master = world.master();
    let before = world.end();
    let topics = (0..30_000).map(|number| {
        let name = TopicName::parse(&format!("a-rather-long-name-of-a-topic-{number}")).unwrap();
        (name, TopicConfig::default())
    });
    let refused = master.metadata.topics.update(topics, NOW);
    assert!(matches!(
        refused,
        Err(FileError::Log(LogError::TooLarge(_)))
    ));
    assert_eq!(world.end(), before);
}

#[test]
fn a_snapshot_that_was_not_finished_does_not_count() {
    let world = World::new();
    let master = world.master();
    master.put("a").unwrap();
    let content = super::super::change::Content::default();
    let part = super::super::change::Part {
        id: 77,
        at: 3,
        physical: 0,
        number: 0,
        of: 2,
        content,
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
    let slave = world.slave("slave");
    assert!(slave.topics.contains("a"));
    assert_eq!(base(&slave), 0);
    until(|| state(&slave) == state(&master.metadata));
}

//! Changes: who makes them, who sees them, and what those are told who wait.

use super::super::change::{Change, Moved, Stamp};
use super::*;

#[test]
fn what_the_master_changes_every_replica_has() {
    let world = World::new();
    let master = world.master();
    let slave = world.slave("slave");
    master.put("a").unwrap();
    master.put("b").unwrap();
    master.put_group("g");
    let config = BrokerConfig::default();
    let metadata = &master.metadata;
    let fresh = TopicName::parse("fresh").unwrap();
    let made = metadata
        .topics
        .create_by_send(&fresh, "TBW102", 4, 0, &config, NOW)
        .unwrap();
    assert!(made.1 && made.0.write_queue_nums == 4);
    let made = metadata
        .topics
        .create_by_send(&fresh, "TBW102", 2, 0, &config, NOW)
        .unwrap();
    assert!(!made.1 && made.0.write_queue_nums == 4);
    assert!(
        metadata
            .groups
            .find_or_create("h", &config, NOW)
            .unwrap()
            .is_some()
    );
    assert!(metadata.groups.delete("g", true, NOW).unwrap());
    commit(metadata, "a", "h", 7);
    metadata.delay.set(3, 9);
    world.tell(metadata);
    drain(&slave);
    assert!(slave.topics.contains("a") && slave.topics.contains("fresh"));
    assert!(slave.groups.contains("h") && !slave.groups.contains("g"));
    assert_eq!(slave.offsets.committed("a", "h", Q), Some(7));
    assert_eq!(slave.delay.get(3), 9);
    assert_eq!(state(&slave), state(metadata));
    assert_eq!(slave.topics.version(), metadata.topics.version());
    // One that comes now folds the same from the log.
    assert_eq!(state(&world.slave("late")), state(metadata));
}

#[test]
fn bounds_of_what_clients_may_make_hold_in_a_group_too() {
    let world = World::new();
    let master = world.master();
    let metadata = &master.metadata;
    let config = BrokerConfig {
        auto_create_topics_max: metadata.topics.names().len() + 1,
        auto_create_groups_max: system_groups().len() + 1,
        ..BrokerConfig::default()
    };
    let create = |topic: &str| {
        let topic = TopicName::parse(topic).unwrap();
        metadata
            .topics
            .create_by_send(&topic, "TBW102", 4, 0, &config, NOW)
    };
    assert!(create("a").is_ok());
    assert!(matches!(create("b"), Err(CreateError::TooMany(_))));
    let group = |group: &str| metadata.groups.find_or_create(group, &config, NOW);
    assert!(group("a").is_ok());
    assert!(matches!(group("b"), Err(CreateGroupError::TooMany(_))));
}

#[test]
fn who_does_not_lead_makes_no_change() {
    let world = World::new();
    let master = world.master();
    master.put("a").unwrap();
    let slave = world.slave("slave");
    let change = |metadata: &Metadata| {
        let topic = (TopicName::parse("b").unwrap(), TopicConfig::default());
        metadata.topics.update([topic], NOW)
    };
    let refused =
        |result: Result<(), FileError>| matches!(result, Err(FileError::Log(LogError::NotMaster)));
    assert!(refused(change(&slave)));
    master.metadata.stand_down();
    assert!(refused(change(&master.metadata)));
    assert!(master.metadata.topics.contains("a") && !master.metadata.topics.contains("b"));
    // The other one leads, and the first one follows.
    slave.lead(NOW, PATIENCE).unwrap();
    assert!(slave.leads() && !master.metadata.leads());
    let slave = Arc::new(slave);
    let _following = slave.follow(Alarm::default()).unwrap();
    change(&slave).unwrap();
    until(|| master.metadata.topics.contains("b"));
}

#[test]
fn a_change_that_is_not_visible_in_time_is_told_as_unknown_and_still_comes() {
    let world = World::new();
    let master = world.master();
    master.metadata.set_patience(Duration::from_millis(50));
    world.show(world.end());
    let unknown = master.put("a");
    assert!(matches!(unknown, Err(FileError::Log(LogError::Unknown))));
    assert!(!master.metadata.topics.contains("a"));
    world.show(u64::MAX);
    until(|| master.metadata.topics.contains("a"));
}

#[test]
fn who_waits_when_the_term_ends_is_told_that_the_outcome_is_unknown() {
    let world = World::new();
    let master = world.master();
    master.metadata.set_patience(PATIENCE);
    world.show(world.end());
    let before = world.end();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| master.put("a"));
        until(|| world.end() > before);
        master.metadata.stand_down();
        assert!(matches!(
            waiting.join().unwrap(),
            Err(FileError::Log(LogError::Unknown))
        ));
    });
}

#[test]
fn many_who_ask_at_once_are_all_served() {
    let world = World::new();
    let master = world.master();
    std::thread::scope(|scope| {
        for number in 0..16 {
            let master = &master;
            scope.spawn(move || {
                for round in 0..5 {
                    master.put(&format!("t-{number}-{round}")).unwrap();
                }
            });
        }
    });
    let topics = master.metadata.topics.names();
    let made = topics
        .iter()
        .filter(|topic| topic.as_str().starts_with("t-"));
    assert_eq!(made.count(), 80);
    assert_eq!(state(&world.slave("slave")), state(&master.metadata));
}

#[test]
fn a_deleted_topic_is_hidden_by_its_change_and_its_queues_go_on() {
    let world = World::new();
    let master = world.master();
    master.put("t").unwrap();
    for body in [b"1", b"2", b"3"] {
        world.send("t", body);
    }
    commit(&master.metadata, "t", "g", 2);
    world.tell(&master.metadata);
    assert_eq!(world.range("t"), (0, 3));
    let before = world.end();
    assert!(master.metadata.topics.delete("t", NOW).unwrap());
    assert_eq!(world.range("t"), (3, 3));
    assert_eq!(master.metadata.offsets.committed("t", "g", Q), None);
    master.put("t").unwrap();
    world.send("t", b"4");
    assert_eq!(world.range("t"), (3, 4));
    world.tell(&master.metadata);
    let slave = world.slave("slave");
    assert_eq!(state(&slave), state(&master.metadata));
    assert_eq!(state(&slave).hidden["t"], before, "where the change lies");
    master.stop();
    drop(slave);
    // It is said again after a start, from what was kept and from the log alone.
    let world = world.again();
    assert_eq!(world.replica("master").topics.get("t").unwrap().perm, 6);
    assert_eq!(world.range("t"), (3, 4));
    let world = world.again();
    drop(world.replica("nobody"));
    assert_eq!(world.range("t"), (3, 4));
}

#[test]
fn what_was_told_of_a_deleted_group_is_taken_back() {
    let world = World::new();
    let master = world.master();
    let metadata = &master.metadata;
    master.put_group("g");
    commit(metadata, "t", "g", 5);
    world.tell(metadata);
    metadata.groups.delete("g", true, NOW).unwrap();
    assert_eq!(metadata.offsets.committed("t", "g", Q), None);
    // As if it had been told a moment too late.
    let replica = metadata.replica.as_ref().unwrap();
    let rows = [("t@g".to_owned(), [(0, 5)].into())].into();
    let moved = Moved {
        rows,
        ..Moved::default()
    };
    replica
        .log
        .put(Change::Positions(moved), Stamp::at(NOW))
        .unwrap();
    world.tell(metadata);
    let slave = world.slave("slave");
    assert_eq!(slave.offsets.committed("t", "g", Q), None);
}

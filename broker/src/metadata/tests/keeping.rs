//! What is kept over restarts: beside the log, or in the log alone.

use std::fs;

use rocket_store::{Aside, CutError, Retention};

use super::*;

/// Some of everything.
fn fill(world: &World, master: &Master) {
    for topic in ["a", "b", "c"] {
        master.put(topic).unwrap();
    }
    master.put_group("g");
    master.metadata.topics.delete("c", NOW).unwrap();
    commit(&master.metadata, "a", "g", 7);
    master.metadata.delay.set(3, 9);
    world.tell(&master.metadata);
    master.applied();
}

#[test]
fn the_log_alone_is_enough() {
    let world = World::new();
    let master = world.master();
    fill(&world, &master);
    let expected = state(&master.metadata);
    master.stop();
    fs::remove_dir_all(world.dir.path().join("master")).unwrap();
    let world = world.again();
    let again = world.replica("master");
    assert_eq!(state(&again), expected);
    assert!(expected.hidden.contains_key("c"));
}

#[test]
fn what_was_kept_is_used_and_goes_on_where_it_ends() {
    let world = World::new();
    let master = world.master();
    fill(&world, &master);
    master.metadata.close(NOW).unwrap();
    let kept = world.dir.path().join("kept");
    copy_folder(&world.dir.path().join("master"), &kept);
    master.put("later").unwrap();
    let expected = state(&master.metadata);
    master.stop();
    let world = world.again();
    // A mark that only the file has.
    let path = kept.join("config/rocket-metadata.json");
    let text = fs::read_to_string(&path).unwrap();
    let marked = text.replace(r#""delay":{"3":9}"#, r#""delay":{"3":9,"4":44}"#);
    assert_ne!(text, marked);
    fs::write(&path, marked).unwrap();
    let again = world.replica("kept");
    assert_eq!(again.delay.get(4), 44, "it was read");
    assert!(again.topics.contains("later"));
    again.delay.replace(expected.delay.clone());
    assert_eq!(state(&again), expected);
}

#[test]
fn apaches_files_are_written_too() {
    let world = World::new();
    let master = world.master();
    fill(&world, &master);
    master.stop();
    let alone = Metadata::open(
        &world.dir.path().join("master"),
        &BrokerConfig::default(),
        NOW,
    )
    .unwrap();
    assert!(alone.topics.contains("a") && alone.groups.contains("g"));
    assert_eq!(alone.offsets.committed("a", "g", Q), Some(7));
    assert_eq!(alone.delay.get(3), 9);
}

/// The log ends where it did before the last change; what was kept has that change.
fn cut_behind_what_was_kept() -> World {
    let world = World::new();
    let master = world.master();
    master.put("stays").unwrap();
    let end = PhysicalOffset(world.end());
    master.put("goes").unwrap();
    master.stop();
    cut(world, end)
}

/// What lies behind `end` is cut off, though it was visible.
fn cut(world: World, end: PhysicalOffset) -> World {
    let cut = world.store.cut(end, 2, Aside::Nothing);
    assert!(matches!(cut, Err(CutError::NeedsRestart)));
    // Left as it is: the next start cuts.
    let _closed = world.store.close();
    let World { dir, store, .. } = world;
    drop(store);
    let world = World::on(dir, config());
    assert_eq!(world.end(), end.0);
    world
}

/// Hole 7 of docs/replication.md §13.4: positions that stayed behind those of the messages that were cut off made consumers
/// pass over the ones that came in their place.
#[test]
fn positions_behind_messages_that_were_cut_off_go_with_them() {
    for is_told in [true, false] {
        let world = World::new();
        let master = world.master();
        master.put("t").unwrap();
        world.send("t", b"stays");
        commit(&master.metadata, "t", "g", 1);
        world.tell(&master.metadata);
        master.applied();
        let end = PhysicalOffset(world.end());
        for _ in 0..2 {
            world.send("t", b"goes");
        }
        commit(&master.metadata, "t", "g", 3);
        if is_told {
            world.tell(&master.metadata);
            master.applied();
        }
        master.keep();
        drop(master);
        let world = cut(world, end);
        assert_eq!(world.range("t"), (0, 1));
        // Of whoever kept something beside the log, and of whoever has the log alone.
        for name in ["master", "late"] {
            let replica = world.slave(name);
            assert_eq!(replica.offsets.committed("t", "g", Q), Some(1), "{name}");
        }
    }
}

/// A killed master comes back with what the group knows, and not with what it never told the log.
#[test]
fn what_a_master_never_told_the_log_is_not_kept_beside_it() {
    let world = World::new();
    let master = world.master();
    commit(&master.metadata, "t", "g", 5);
    master.metadata.delay.set(2, 6);
    world.tell(&master.metadata);
    master.applied();
    commit(&master.metadata, "t", "g", 9);
    commit(&master.metadata, "t", "h", 9);
    master.metadata.delay.set(2, 9);
    master.keep();
    drop(master);
    let world = world.again();
    let again = world.replica("master");
    assert_eq!(again.offsets.committed("t", "g", Q), Some(5));
    assert_eq!(again.offsets.committed("t", "h", Q), None);
    assert_eq!(again.delay.get(2), 6);
    assert_eq!(state(&again), state(&world.slave("late")));
}

#[test]
fn what_was_kept_of_a_log_that_was_cut_is_thrown_away() {
    let world = cut_behind_what_was_kept();
    let again = world.replica("master");
    assert!(again.topics.contains("stays") && !again.topics.contains("goes"));
    let path = world.dir.path().join("master/config/rocket-metadata.json");
    assert!(!path.exists(), "before anything is done with the log");
    again.lead(NOW, PATIENCE).unwrap();
    assert_eq!(state(&world.slave("late")), state(&again));
}

#[test]
fn what_was_kept_is_not_taken_for_another_change_at_its_place() {
    let world = cut_behind_what_was_kept();
    let other = Arc::new(world.replica("other"));
    let following = other.follow(Alarm::default()).unwrap();
    other.lead(NOW, PATIENCE).unwrap();
    let topic = (TopicName::parse("instead").unwrap(), TopicConfig::default());
    other.topics.update([topic], NOW).unwrap();
    let again = world.replica("master");
    assert!(again.topics.contains("instead") && !again.topics.contains("goes"));
    assert_eq!(state(&again), state(&other));
    drop(following);
}

#[test]
fn a_damaged_file_is_thrown_away() {
    let world = World::new();
    let master = world.master();
    fill(&world, &master);
    let expected = state(&master.metadata);
    master.stop();
    let path = world.dir.path().join("master/config/rocket-metadata.json");
    fs::write(&path, b"{").unwrap();
    assert_eq!(state(&world.replica("master")), expected);
}

/// A log that retention looks at often.
fn small() -> StoreConfig {
    StoreConfig {
        retention: Retention {
            bytes_max: 200 << 10,
            interval: Duration::from_millis(100),
            ..StoreConfig::default().retention
        },
        checkpoint_interval: Duration::from_millis(100),
        ..config()
    }
}

#[test]
fn retention_leaves_the_last_snapshot_until_there_is_another() {
    let (world, other) = (
        World::on(tempfile::tempdir().unwrap(), small()),
        World::on(tempfile::tempdir().unwrap(), small()),
    );
    let master = world.master();
    let send = |kib: usize| {
        for _ in 0..kib {
            world.send("a", &[b'x'; 1024]);
            other.send("a", &[b'x'; 1024]);
        }
    };
    let min = |world: &World| world.store.positions().min.0;
    send(400);
    // What has nothing to keep tells when retention has looked, twice.
    until(|| min(&other) > 0);
    send(200);
    until(|| min(&other) > 300 << 10);
    assert_eq!(min(&world), 0);
    world.tell(&master.metadata);
    until(|| min(&world) > 300 << 10);
    assert_eq!(state(&world.slave("slave")), state(&master.metadata));
}

#[test]
fn the_log_alone_is_enough_when_its_old_files_are_gone() {
    let small = small();
    let world = World::on(tempfile::tempdir().unwrap(), small.clone());
    let master = world.master();
    fill(&world, &master);
    let body = vec![b'x'; 4000];
    let mut number = 0;
    until(|| {
        let positions = world.store.positions();
        // Not more than what retention comes after.
        if positions.appended.0 - positions.min.0 < 1 << 20 {
            world.send("a", &body);
            number += 1;
            if number % 10 == 0 {
                commit(&master.metadata, "b", "g", number);
                world.tell(&master.metadata);
            }
        }
        positions.min.0 > 300 << 10
    });
    master.put("last").unwrap();
    world.tell(&master.metadata);
    // The first changes are gone.
    until(|| world.range(rocket_protocol::name::system_topic::METADATA).0 > 5);
    let expected = state(&master.metadata);
    master.stop();
    fs::remove_dir_all(world.dir.path().join("master")).unwrap();
    let world = world.again_with(small);
    let again = world.replica("master");
    let mut found = state(&again);
    // What no message is left of need not be hidden.
    found.hidden = expected.hidden.clone();
    assert_eq!(found, expected);
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// An administrator's order is told to the clients of the group once, by whichever master, and until then their commits are void.
#[test]
fn order_that_no_client_fetched_outlives_its_master() {
    let world = World::new();
    let master = world.master();
    master.put("t").unwrap();
    commit(&master.metadata, "t", "g", 7);
    let (topic, group) = (
        TopicName::parse("t").unwrap(),
        GroupName::parse("g").unwrap(),
    );
    let told = |metadata: &Metadata| metadata.offsets.take_reset(&topic, &group, Q);
    let order = |offset| {
        master
            .metadata
            .offsets
            .reset(&topic, &group, &[(Q, offset)]);
        world.tell(&master.metadata);
        master.applied();
    };
    order(2);
    let slave = world.slave("slave");
    assert_eq!(slave.offsets.committed("t", "g", Q), Some(2));
    assert!(!slave.offsets.commit(&topic, &group, Q, 9));
    // The master tells it itself: nobody else is to do so again.
    assert_eq!(told(&master.metadata), Some(2));
    world.tell(&master.metadata);
    master.applied();
    drain(&slave);
    assert_eq!(told(&slave), None);
    assert_eq!(slave.offsets.committed("t", "g", Q), Some(2));

    order(3);
    let snapshot = |metadata: &Metadata| state(metadata).split(1);
    assert!(
        snapshot(&master.metadata)
            .iter()
            .any(|part| !part.orders.is_empty())
    );
    master.stop();
    let world = world.again();
    // From what was kept beside the log, and from the log alone.
    for name in ["master", "late"] {
        assert_eq!(told(&world.slave(name)), Some(3), "{name}");
    }
}

/// An earlier program passes orders over where it folds them.
#[test]
fn what_a_program_folded_that_knows_no_orders_is_folded_again() {
    let world = World::new();
    let master = world.master();
    master.put("t").unwrap();
    let (topic, group) = (
        TopicName::parse("t").unwrap(),
        GroupName::parse("g").unwrap(),
    );
    master.metadata.offsets.reset(&topic, &group, &[(Q, 3)]);
    world.tell(&master.metadata);
    master.applied();
    master.stop();
    let path = world.dir.path().join("master/config/rocket-metadata.json");
    let text = fs::read_to_string(&path).unwrap();
    let mut kept: serde_json::Value = serde_json::from_str(&text).unwrap();
    let content = kept["content"].as_object_mut().unwrap();
    assert!(content.remove("orders").is_some());
    kept["v"] = 2.into();
    fs::write(&path, kept.to_string()).unwrap();
    let world = world.again();
    let again = world.slave("master");
    assert_eq!(again.offsets.take_reset(&topic, &group, Q), Some(3));
}

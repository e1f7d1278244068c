//! Masters of a group in the order of their epochs, those that are gone among them.

use super::*;

/// What somebody is told whose registration changes nothing.
fn superseded() -> Registered {
    Registered {
        is_superseded: true,
        ..Registered::default()
    }
}

fn master(addr: &str, epoch: i64) -> Registration {
    let mut registration = broker("a", 0, addr, &["T", "U"]);
    registration.version.state = epoch;
    registration
}

#[test]
fn a_smaller_state_version_cannot_take_a_living_id() {
    let mut table = table();
    let state = |addr, state| {
        let mut registration = broker("a", 0, addr, &["T", "U"]);
        registration.version.state = state;
        registration
    };
    table.register(state("new:1", 5), 1, T0).unwrap();
    assert_eq!(table.register(state("old:1", 4), 2, T0), Ok(superseded()));
    assert_eq!(addrs(&table, "T", "a"), [(0, "new:1".to_owned())]);
    assert_eq!(table.live_count(), 1);
    table.register(state("newer:1", 6), 3, T0).unwrap();
    assert_eq!(addrs(&table, "T", "a"), [(0, "newer:1".to_owned())]);
}

#[test]
fn a_smaller_state_version_is_ignored_under_the_same_address_too() {
    let mut table = table();
    let state = |state, topic| {
        let mut registration = broker("a", 0, "svc:1", &["T", topic]);
        registration.version.state = state;
        registration
    };
    table.register(state(5, "New"), 1, T0).unwrap();
    table.register(state(4, "Old"), 2, T0).unwrap();
    assert_eq!(table.topics(|_| true), ["New", "T"]);
    assert!(table.channel_closed(2).is_empty());
}

/// One that was replaced, cannot know it, and is still heard here.
#[test]
fn the_epoch_of_a_master_outlives_its_connection() {
    for addr in ["old:1", "new:1"] {
        let mut table = table();
        table.register(master(addr, 4), 1, T0).unwrap();
        table.register(master("new:1", 5), 2, T0).unwrap();
        table.heard("C", "new:1", at(20));
        assert!(table.channel_closed(2).contains(&"new:1".to_owned()));
        assert_eq!(table.register(master(addr, 4), 1, at(30)), Ok(superseded()));
        assert_eq!(
            table.register(master(addr, 4), 3, at(140)),
            Ok(superseded())
        );
        assert!(table.route("T").is_none());
        // Slaves are.
        let mut slave = broker("a", 1, "slave:1", &["T", "U"]);
        slave.version.state = 4;
        table.register(slave, 4, at(140)).unwrap();
        table.register(master("new:1", 5), 5, at(140)).unwrap();
        assert_eq!(addrs(&table, "T", "a")[0], (0, "new:1".to_owned()));
    }
}

#[test]
fn the_epoch_of_a_master_that_stays_away_is_forgotten() {
    let mut table = table();
    table.register(master("new:1", 5), 1, T0).unwrap();
    table.channel_closed(1);
    assert_eq!(
        table.register(master("old:1", 4), 2, at(120)),
        Ok(superseded())
    );
    assert!(table.expire(at(121)).is_empty());
    assert_eq!(table.former.len(), 0);
    table.register(master("old:1", 4), 2, at(121)).unwrap();
    assert_eq!(addrs(&table, "T", "a"), [(0, "old:1".to_owned())]);
}

/// The group may begin anew, or come to be one that is not replicated.
#[test]
fn a_master_that_said_farewell_is_in_nobodys_way() {
    let mut table = table();
    table.register(master("m:1", 5), 1, T0).unwrap();
    table.channel_closed(1);
    table.register(master("m:1", 6), 2, T0).unwrap();
    table.unregister("C", "a", "m:1", 2);
    table.register(master("m:1", 1), 3, T0).unwrap();
    // The farewell of an earlier one says nothing of a later one whose connection broke.
    table.register(master("new:1", 8), 4, T0).unwrap();
    table.channel_closed(4);
    table.unregister("C", "a", "m:1", 3);
    assert_eq!(table.register(master("m:1", 7), 5, T0), Ok(superseded()));
}

#[test]
fn only_so_many_epochs_are_remembered_and_none_outside_of_replicated_groups() {
    let mut table = table();
    for number in 0..5_000_i64 {
        let mut registration = master(&format!("m:{number}"), 5);
        registration.name = format!("group-{number}");
        let channel = number.unsigned_abs();
        table.register(registration, channel, at(number)).unwrap();
        table.channel_closed(channel);
    }
    assert_eq!(table.former.len(), 4_096);
    let mut late = master("late:1", 4);
    late.name = "group-4999".into();
    assert_eq!(table.register(late, 9_999, at(5_000)), Ok(superseded()));
    table.expire(at(10_000));
    table.register(master("alone:1", 0), 1, at(10_000)).unwrap();
    table.channel_closed(1);
    assert_eq!(table.former.len(), 0);
}

#[test]
fn the_farewell_of_an_old_master_leaves_its_successor_under_the_same_address() {
    let mut table = table();
    table
        .register(broker("a", 0, "svc:1", &["T", "U"]), 1, T0)
        .unwrap();
    table
        .register(broker("a", 0, "svc:1", &["T", "U"]), 2, T0)
        .unwrap();
    table.unregister("C", "a", "svc:1", 1);
    assert!(table.route("T").is_some());
    table.unregister("C", "a", "svc:1", 2);
    assert!(table.route("T").is_none());
    assert_eq!(table.live_count(), 0);
}

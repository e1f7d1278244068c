//! Who asks the coordinator, and who is elected by whom.

use std::sync::Arc;

use super::slaves_of;
use crate::world::{End, Plan, World};

/// Without the row of requests a read that was begun before a write was answered would look like a coordinator that forgot.
#[test]
fn reads_that_are_slow_do_not_look_like_a_coordinator_that_forgot() {
    use rocket_replication::memory::Fate;
    let mut world = World::healthy(Plan::sync(2, 1));
    let master = world.open_master().unwrap();
    let slave = slaves_of(&world, master)[0];
    // A newer state is hinted at, so that the master reads; then it wants a write while that read is out.
    let mut newer = (*world.state()).clone();
    newer.version = newer.version.next();
    world.hint(master, Arc::new(newer));
    assert!(world.request(master, Fate::Answered));
    world.crash(slave, End::Kill);
    for _ in 0..20 {
        while let Some(at) = world.deliverable().first().copied() {
            world.deliver(at);
        }
        world.pass(100);
    }
    assert!(!world.request(master, Fate::Answered), "the write waits");
    world.answer(master);
    world.heal();
    assert_eq!(world.open_master(), Some(master));
}

/// C6: one that applies nothing and says so at once, as one whose folder is full, is asked at the pace of tries.
#[test]
fn coordinator_that_refuses_every_write_of_a_master_is_asked_now_and_then() {
    let mut world = World::healthy(Plan::sync(3, 2));
    let old = world.open_master().unwrap();
    world.crash(old, End::Kill);
    world.elect(&world.reports(), true);
    world.refuses = true;
    let before = world.requests;
    for _ in 0..100 {
        world.calm();
        world.pass(100);
    }
    let asked = world.requests - before;
    assert!((10..100).contains(&asked), "{asked} requests in 10 s");
    assert_eq!(world.open_master(), None);
    world.refuses = false;
    world.heal();
}

fn by_itself() -> Plan {
    Plan {
        elects_itself: true,
        ..Plan::sync(3, 2)
    }
}

#[test]
fn replicas_elect_among_themselves_and_again_when_the_master_is_gone() {
    let mut world = World::healthy(by_itself());
    let first = world.open_master().unwrap();
    world.send(first, 10).unwrap();
    world.calm();
    world.crash(first, End::Kill);
    for _ in 0..40 {
        world.calm();
        world.pass(100);
    }
    let second = world.open_master().expect("they elected one");
    assert_ne!(first, second);
    world.heal();
    world.check_acked();
}

/// L5: with a healthy group, and with one that only lost a link, the epoch does not move.
#[test]
fn nobody_is_elected_without_a_reason() {
    let mut world = World::healthy(by_itself());
    let state = world.state();
    for round in 0..200 {
        world.calm();
        world.pass(100);
        if round % 10 == 0 {
            world.cut_wire(round);
        }
    }
    assert_eq!(world.state().epoch, state.epoch);
    assert_eq!(world.state().in_sync.len(), 3);
}

/// The first election waits for all that the group shall have, so that none with messages is passed over.
#[test]
fn new_group_waits_for_its_replicas_but_not_for_ever() {
    let mut world = World::new(by_itself());
    world.start(0);
    world.start(1);
    for _ in 0..100 {
        world.calm();
        world.pass(100);
    }
    assert_eq!(world.state().master, None);
    for _ in 0..300 {
        world.calm();
        world.pass(100);
    }
    assert!(world.open_master().is_some());
}

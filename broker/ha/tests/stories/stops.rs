//! Handovers, stops, and what a run that ended speaks for.

use rocket_ha::News;
use rocket_mapped_file::memory::MemoryDirectory;
use rocket_replication::replica::{Flush, Writes};

use super::slaves_of;
use crate::world::{End, Plan, World};

#[test]
fn planned_handover_cuts_nothing_and_loses_no_answer() {
    let mut world = World::healthy(Plan::sync(3, 2));
    let old = world.open_master().unwrap();
    let successor = slaves_of(&world, old)[1];
    world.send(old, 10).unwrap();
    world.ask_handover(successor);
    world.hint(old, world.state());
    assert!(world.request(old, rocket_replication::memory::Fate::Answered));
    world.answer(old);
    assert_eq!(world.process(old).board.writes(), Writes::Busy);
    assert!(world.send(old, 10).is_none(), "no send is taken meanwhile");
    world.calm();
    world.pass(100);
    world.heal();
    assert_eq!(world.open_master(), Some(successor));
    assert_eq!((world.acked.len(), world.unknown.len()), (1, 0));
    let cut = |(_, news): &(usize, News)| matches!(news, News::Cut { .. });
    assert!(!world.news.iter().any(cut));
    world.check_acked();
}

/// Until nothing more comes of it.
fn leave(world: &mut World, n: usize) {
    let mut tries = 0;
    while world.takes_leave(n) {
        tries += 1;
        assert!(tries < 20, "{:?}", world.state());
        world.calm();
        world.pass(20);
    }
}

#[test]
fn master_that_is_about_to_stop_is_replaced_first() {
    let mut world = World::healthy(Plan::sync(3, 2));
    let old = world.open_master().unwrap();
    let epoch = world.state().epoch;
    world.send(old, 10).unwrap();
    leave(&mut world, old);
    world.calm();
    assert!(world.replica(old).leading().is_none());
    assert_eq!(world.state().epoch, epoch.next());
    world.stop(old);
    let new = world.open_master().expect("another one took over");
    world.send(new, 10).unwrap();
    world.calm();
    // Nobody waited for the one that stopped.
    assert_eq!((world.acked.len(), world.unknown.len()), (2, 0));
    world.heal();
    assert_eq!(world.open_master(), Some(new));
    world.check_acked();
}

#[test]
fn slave_that_is_about_to_stop_says_so_and_no_send_waits_for_it() {
    let mut world = World::healthy(Plan::sync(3, 2));
    let master = world.open_master().unwrap();
    let slave = slaves_of(&world, master)[0];
    leave(&mut world, slave);
    world.calm();
    assert_eq!(world.state().in_sync.len(), 2);
    world.stop(slave);
    world.send(master, 10).unwrap();
    world.calm();
    assert_eq!(world.acked.len(), 1);
    world.heal();
    assert_eq!(world.state().in_sync.len(), 3);
}

#[test]
fn master_that_nobody_can_replace_goes_on() {
    let mut world = World::healthy(Plan::sync(2, 1));
    let master = world.open_master().unwrap();
    world.crash(slaves_of(&world, master)[0], End::Kill);
    for _ in 0..40 {
        world.calm();
        world.pass(100);
    }
    assert!(!world.takes_leave(master));
    assert_eq!(world.state().handover, None);
    world.send(master, 10).unwrap();
    world.calm();
    assert_eq!(world.acked.len(), 1);
}

#[test]
fn handover_to_one_that_does_not_answer_is_given_up_after_a_while() {
    let mut world = World::healthy(Plan::sync(3, 1));
    let old = world.open_master().unwrap();
    let successor = slaves_of(&world, old)[0];
    world.ask_handover(successor);
    world.crash(successor, End::Kill);
    for _ in 0..40 {
        world.calm();
        world.pass(100);
    }
    assert_eq!(world.open_master(), Some(old));
    assert_eq!(world.state().handover, None);
}

/// Flush ASYNC, and nowhere to keep a residence proof: only an orderly stop speaks for what was acknowledged.
#[test]
fn orderly_stop_keeps_the_place_in_s_and_a_kill_does_not() {
    let plan = Plan {
        flush: Flush::Async,
        ..Plan::sync(3, 1)
    };
    for is_orderly in [true, false] {
        let mut world = World::healthy(plan);
        let master = world.open_master().unwrap();
        world.send(master, 10).unwrap();
        world.calm();
        let slave = slaves_of(&world, master)[0];
        let id = world.replica(slave).member().unwrap().replica_id;
        if is_orderly {
            world.stop(slave);
        } else {
            world.crash(slave, End::Kill);
        }
        world.machines[slave].shelf = MemoryDirectory::default();
        world.start(slave);
        while world.request(slave, rocket_replication::memory::Fate::Answered) {
            world.answer(slave);
        }
        let kept = world.state().in_sync.iter().any(|m| m.replica_id == id);
        assert_eq!(kept, is_orderly);
        world.heal();
        world.check_acked();
    }
}

//! A group with a fixed master (docs/replication.md §14, static): it alone takes sends, and comes back to lead with everything that was
//! acknowledged, whatever it lost.

use rocket_mapped_file::memory::{Dice, MemoryDirectory};
use rocket_replication::messages::RoleName;
use rocket_replication::replica::Flush;

use crate::walks::{Wear, act};
use crate::world::{End, Plan, World};

fn plan(flush: Flush) -> Plan {
    Plan {
        flush,
        elects_itself: true,
        is_fixed: true,
        ..Plan::sync(3, 2)
    }
}

/// Until the fixed master leads and all have everything.
fn settle(world: &mut World) {
    for _ in 0..20 {
        world.heal();
        if world.open_master() == Some(0) {
            return;
        }
        for _ in 0..10 {
            world.calm();
            world.pass(100);
        }
    }
    panic!("the fixed master does not lead: {:#?}", world.state());
}

/// Whether a slave ever led, and how often something was given up.
fn caretakers(world: &World) -> (usize, usize) {
    let first = world.replica(0).member().unwrap().replica_id;
    let mut led: Vec<_> = world.history.iter().filter_map(|s| s.master).collect();
    led.dedup();
    let others = led.iter().filter(|m| m.replica_id != first).count();
    (others, world.state().unclean.len())
}

#[test]
fn killed_master_is_waited_for_and_leads_again() {
    let mut world = World::healthy(plan(Flush::Sync));
    assert_eq!(world.open_master(), Some(0));
    for _ in 0..5 {
        world.send(0, 10).unwrap();
    }
    world.calm();
    assert_eq!(world.acked.len(), 5);
    let epoch = world.state().epoch;
    world.crash(0, End::Kill);
    for _ in 0..100 {
        world.calm();
        world.pass(100);
    }
    assert_eq!(world.open_master(), None, "no slave takes over");
    assert_eq!(world.state().epoch, epoch);
    settle(&mut world);
    assert!(world.state().epoch > epoch, "every start has its epoch");
    world.check_acked();
    assert_eq!(caretakers(&world), (0, 0));
}

#[test]
fn new_group_waits_for_all_its_replicas() {
    let mut world = World::new(plan(Flush::Sync));
    world.start(0);
    world.start(1);
    for _ in 0..600 {
        world.calm();
        world.pass(100);
    }
    assert_eq!(world.state().master, None);
    settle(&mut world);
}

#[test]
fn killed_master_with_unflushed_bytes_leads_when_its_slaves_say_that_it_lacks_nothing() {
    let mut world = World::healthy(plan(Flush::Async));
    for _ in 0..5 {
        world.send(0, 10).unwrap();
    }
    world.calm();
    assert_eq!(world.acked.len(), 5);
    // This nobody else has.
    let alone = world.send(0, 10).unwrap();
    world.crash(0, End::Kill);
    // With its residence proof it would lead without asking.
    world.machines[0].shelf = MemoryDirectory::default();
    settle(&mut world);
    world.check_acked();
    assert_eq!(caretakers(&world), (0, 0));
    let (at, payload) = &world.sent[&alone];
    let image = world.process(1).log.image();
    let found = image.record_at(*at).map(|(_, payload)| payload);
    assert_eq!(found, Some(&payload[..]), "not cut off for a shorter log");
}

#[test]
fn master_that_lost_power_copies_back_what_it_had_acknowledged() {
    let mut world = World::healthy(plan(Flush::Async));
    for _ in 0..5 {
        world.send(0, 10).unwrap();
    }
    // Its own flush does not end before it is over.
    world.settle_flushing(&[1, 2]);
    assert_eq!(world.acked.len(), 5);
    let end = world.replica(1).log().end;
    world.crash(0, End::Power(0));
    for _ in 0..50 {
        world.calm();
        world.pass(100);
    }
    world.start(0);
    assert!(world.replica(0).log().end < end, "or nothing is shown");
    settle(&mut world);
    world.check_acked();
    let (led, given_up) = caretakers(&world);
    assert!(led > 0, "somebody kept what it lacked");
    assert_eq!(given_up, 0);
    assert_eq!(world.replica(1).log().end, world.replica(0).log().end);
    world.send(0, 10).expect("and takes sends again");
}

#[test]
fn master_that_lost_power_waits_for_who_may_have_what_it_lost() {
    let mut world = World::healthy(plan(Flush::Async));
    world.send(0, 10).unwrap();
    world.settle_flushing(&[1, 2]);
    for n in 0..3 {
        let end = if n == 0 { End::Power(0) } else { End::Kill };
        world.crash(n, end);
    }
    world.start(0);
    for _ in 0..600 {
        world.calm();
        world.pass(100);
    }
    assert_eq!(world.state().master, None);
    assert_eq!(world.replica(0).role(), RoleName::Idle);
    settle(&mut world);
    world.check_acked();
}

#[test]
fn master_that_stops_has_nobody_take_over() {
    let mut world = World::healthy(plan(Flush::Sync));
    world.send(0, 10).unwrap();
    world.calm();
    assert!(!world.takes_leave(0));
    world.stop(0);
    world.calm();
    assert_eq!(world.state().handover, None);
    settle(&mut world);
    assert_eq!(caretakers(&world), (0, 0));
    world.check_acked();
}

const WEAR: Wear = Wear {
    power_cuts: true,
    strange_writes: true,
};

/// With flush ASYNC only the master's machine loses power: a slave has everything that was acknowledged then.
#[test]
fn nothing_acknowledged_is_lost_whatever_happens_to_the_master() {
    let mut copied = 0;
    for flush in [Flush::Sync, Flush::Async] {
        let (mut acked, mut epochs) = (0, 0);
        for seed in 0..150 {
            let walk = || {
                let mut dice = Dice::new(seed);
                let mut world = World::healthy(plan(flush));
                for _ in 0..3_000 {
                    act(&mut world, &mut dice, WEAR);
                }
                settle(&mut world);
                world.check_acked();
                let epoch = world.state().epoch.0;
                (world.acked.len(), epoch, caretakers(&world).0)
            };
            let Ok(done) = std::panic::catch_unwind(walk) else {
                panic!("seed {seed}, flush {flush:?}");
            };
            acked += done.0;
            epochs += done.1;
            copied += done.2;
        }
        assert!(
            acked > 5 * 150 && epochs > 3 * 150,
            "{acked} acknowledged, {epochs} epochs"
        );
    }
    // A master that was only killed lost nothing, and proves it.
    assert!(copied > 5, "{copied} times something was copied back");
}

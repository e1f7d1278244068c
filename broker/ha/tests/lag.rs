//! What people are told of replicas that are behind, in a group of three with flush SYNC and replication SYNC.

use rocket_ha::Event;
use rocket_ha::memory::Wish;
use rocket_replication::messages::Message;

use crate::world::{End, Plan, World};

fn healthy() -> (World, usize, usize) {
    let mut world = World::healthy(Plan::sync(3, 2));
    rest(&mut world);
    let master = world.open_master().unwrap();
    let slave = (0..3).find(|n| *n != master).unwrap();
    (world, master, slave)
}

/// Long enough for S to shrink.
fn rest(world: &mut World) {
    for _ in 0..20 {
        world.calm();
        world.pass(200);
    }
    world.calm();
}

/// Bytes and milliseconds.
fn lag(world: &World, n: usize) -> (u64, u64) {
    let view = world.process(n).board.group();
    (view.lag_bytes, view.lag_ms)
}

#[test]
fn slave_that_is_lost_lags_more_and_more_also_when_it_is_out_of_s() {
    let (mut world, master, slave) = healthy();
    assert_eq!(lag(&world, master), (0, 0));
    world.crash(slave, End::Kill);
    rest(&mut world);
    assert_eq!(world.process(master).board.group().in_sync, 2);
    assert_eq!(lag(&world, master), (0, 0), "it lacks nothing yet");
    let had = world.replica(master).log().end;
    world.send(master, 10).unwrap();
    world.calm();
    let first = world.replica(master).log().end.since(had);
    assert_eq!(lag(&world, master), (first, 0));
    world.pass(1_000);
    assert_eq!(lag(&world, master), (first, 1_000));
    world.send(master, 10).unwrap();
    world.calm();
    assert!(lag(&world, master).0 > first);
    world.pass(60_000);
    assert_eq!(lag(&world, master).1, 61_000);
    world.heal();
    assert_eq!(lag(&world, master), (0, 0));
}

#[test]
fn slave_that_is_cut_off_says_for_how_long() {
    let (mut world, master, slave) = healthy();
    assert_eq!(lag(&world, slave), (0, 0));
    // Nothing of what is sent arrives.
    for _ in 0..5 {
        world.pass(1_000);
    }
    assert_eq!(lag(&world, slave), (0, 5_000));
    assert_eq!(lag(&world, master), (0, 0), "no byte is missing there");
    rest(&mut world);
    assert_eq!(lag(&world, slave), (0, 0));
}

#[test]
fn slave_without_a_master_says_for_how_long() {
    let (mut world, master, slave) = healthy();
    world.crash(master, End::Kill);
    for _ in 0..10 {
        world.calm();
        world.pass(1_000);
    }
    assert_eq!(lag(&world, slave), (0, 10_000));
    let reports = world.reports();
    world.elect(&reports, true);
    rest(&mut world);
    let next = world.open_master().expect("another one took over");
    for n in (0..3).filter(|n| *n != master) {
        assert_eq!(lag(&world, n), (0, 0));
    }
    // The former master never was with this one: who is in sync says that it is missing.
    world.send(next, 10).unwrap();
    world.calm();
    assert_eq!(lag(&world, next), (0, 0));
    assert_eq!(world.process(next).board.group().in_sync, 2);
}

#[test]
fn slave_that_stopped_in_order_does_not_lag_until_it_is_back() {
    let (mut world, master, slave) = healthy();
    for _ in 0..20 {
        let goes_on = world.takes_leave(slave);
        world.calm();
        if !goes_on {
            break;
        }
        world.pass(20);
    }
    world.stop(slave);
    rest(&mut world);
    world.send(master, 10).unwrap();
    world.calm();
    world.pass(5_000);
    assert_eq!(lag(&world, master), (0, 0));
    world.heal();
    rest(&mut world);
    world.crash(slave, End::Kill);
    rest(&mut world);
    world.send(master, 10).unwrap();
    world.calm();
    world.pass(5_000);
    let (bytes, ms) = lag(&world, master);
    assert!(bytes > 0 && ms == 5_000, "{bytes} bytes, {ms} ms");
}

/// What an elector is told that asks.
fn is_linked(world: &mut World, n: usize) -> bool {
    let now_ms = world.now_ms;
    let process = world.machines[n].process.as_mut().unwrap();
    let elector = process.net.fresh();
    let asked = Event::Received(elector, Message::Probe);
    process.actor.step(now_ms, Some(asked));
    while let Some(wish) = process.net.take() {
        if let Wish::Send(link, Message::Report(report)) = wish
            && link == elector
        {
            return report.master_linked;
        }
    }
    panic!("it says nothing")
}

#[test]
fn slave_whose_master_is_silent_does_not_hold_up_an_election() {
    let (mut world, _, slave) = healthy();
    assert!(is_linked(&mut world, slave));
    // Nothing of what is sent arrives, and no link is closed.
    world.pass(700);
    assert!(is_linked(&mut world, slave));
    world.pass(200);
    assert!(!is_linked(&mut world, slave));
    world.calm();
    assert!(is_linked(&mut world, slave), "it spoke again");
}

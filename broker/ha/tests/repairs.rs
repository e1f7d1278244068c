//! Stories of damage (docs/replication.md §8.15): found while a replica runs or by its start, repaired from whoever has the
//! bytes, and in no case counted for what is not there.

use rocket_ha::News;
use rocket_replication::Version;
use rocket_replication::messages::RoleName;
use rocket_replication::replica::Writes;

use crate::world::{End, Plan, World};

/// Three replicas, `sends` messages that all of them have, the master and the others.
fn group(sends: u64) -> (World, usize, [usize; 2]) {
    let mut world = World::healthy(Plan::sync(3, 2));
    let master = world.open_master().unwrap();
    for _ in 0..sends {
        world.send(master, 10).unwrap();
        world.calm();
    }
    world.heal();
    let slaves = [(master + 1) % 3, (master + 2) % 3];
    (world, master, slaves)
}

/// The second message of the log of `n`, on its disk: where it lies.
fn second(world: &World, n: usize) -> (u64, u64) {
    let image = world.process(n).log.image();
    let ends = image.boundaries();
    (ends[0], ends[1])
}

fn rot(world: &World, n: usize) {
    let (from, to) = second(world, n);
    world.process(n).log.rot(from, to);
}

fn give_no_ranges(world: &World, n: usize, gives_none: bool) {
    world.process(n).log.give_no_ranges(gives_none);
}

fn pass(world: &mut World, rounds: u64) {
    for _ in 0..rounds {
        world.pass(50);
        world.calm();
    }
}

fn is_damaged(world: &World, n: usize) -> bool {
    !world.process(n).log.image().damaged.is_empty()
}

fn is_in_sync(world: &World, n: usize) -> bool {
    let member = world.replica(n).member().unwrap();
    world.state().in_sync.contains(&member)
}

/// Counterexample found by a seed of the simulation: after a start it joined again by where its log ended, and was counted for
/// bytes that it did not have.
#[test]
fn replica_that_starts_with_damage_counts_for_nothing_until_it_is_repaired() {
    let (mut world, master, [slave, other]) = group(4);
    let place = second(&world, slave);
    world.crash(slave, End::Kill);
    world.machines[slave].image.damaged = vec![place];
    for n in [master, other] {
        give_no_ranges(&world, n, true);
    }
    world.start(slave);
    let before = world.acked.len();
    for len in 0..30 {
        world.pass(100);
        world.calm();
        world.send(master, len).unwrap();
    }
    world.calm();
    assert_eq!(world.acked.len(), before + 30, "the others are enough");
    assert!(is_damaged(&world, slave) && !is_in_sync(&world, slave));
    give_no_ranges(&world, other, false);
    world.heal();
    assert!(!is_damaged(&world, slave));
    world.check_acked();
}

/// Counterexample to §8.15 as it was: nothing is sent, so what the slave acknowledged before was all there is, and its master
/// took it into S again at once.
#[test]
fn slave_that_finds_damage_leaves_s_and_stays_out_though_nothing_is_sent() {
    let (mut world, master, [slave, other]) = group(4);
    for n in [master, other] {
        give_no_ranges(&world, n, true);
    }
    rot(&world, slave);
    pass(&mut world, 100);
    assert!(!is_in_sync(&world, slave));
    assert_eq!(world.replica(slave).role(), RoleName::CatchUp);
    assert!(world.news.contains(&(slave, News::Damaged(true))));
    assert!(world.send(master, 10).is_some(), "the others are enough");
    world.calm();
    for n in [master, other] {
        give_no_ranges(&world, n, false);
    }
    let epoch = world.state().epoch;
    world.heal();
    assert!(!is_damaged(&world, slave) && is_in_sync(&world, slave));
    assert!(world.news.contains(&(slave, News::Damaged(false))));
    assert_eq!(world.state().epoch, epoch);
    world.check_acked();
}

#[test]
fn master_repairs_itself_from_a_slave_and_takes_sends_all_the_time() {
    let (mut world, master, _) = group(4);
    let state = world.state();
    rot(&world, master);
    for _ in 0..40 {
        assert!(world.send(master, 10).is_some());
        pass(&mut world, 1);
    }
    assert!(!is_damaged(&world, master));
    assert_eq!(world.state().epoch, state.epoch);
    assert_eq!(world.state().in_sync, state.in_sync);
    world.heal();
    world.check_acked();
}

/// What a master appended and lost before anybody had copied it: alone in S it would take it for committed.
#[test]
fn master_does_not_answer_for_what_it_lost_before_anybody_had_it() {
    let mut world = World::healthy(Plan::sync(3, 1));
    let master = world.open_master().unwrap();
    world.send(master, 10).unwrap();
    world.calm();
    let before = world.process(master).log.image().end();
    let lost = world.send(master, 10).unwrap();
    let end = world.process(master).log.image().end();
    world.process(master).log.rot(before, end);
    world.flush(master);
    pass(&mut world, 400);
    assert!(is_damaged(&world, master) && !world.acked.contains(&lost));
    assert_eq!(world.process(master).board.committed().0, before);
    world.check_acked();
}

#[test]
fn what_one_replica_lost_too_comes_from_the_third() {
    let (mut world, master, [slave, other]) = group(4);
    rot(&world, master);
    rot(&world, slave);
    pass(&mut world, 60);
    world.heal();
    for n in [master, slave, other] {
        assert!(!is_damaged(&world, n), "{n}");
    }
    world.check_acked();
}

#[test]
fn what_nobody_has_is_passed_over_by_readers_until_somebody_has_it() {
    let (mut world, master, [slave, other]) = group(4);
    rot(&world, master);
    for n in [slave, other] {
        give_no_ranges(&world, n, true);
    }
    pass(&mut world, 60);
    assert!(is_damaged(&world, master));
    assert!(world.process(master).log.passes_damage());
    assert!(world.send(master, 10).is_some());
    let ends = world.process(master).log.image().boundaries();
    world.process(master).log.rot(ends[2], ends[3]);
    pass(&mut world, 1);
    assert!(
        !world.process(master).log.passes_damage(),
        "what is found later is asked for first"
    );
    pass(&mut world, 60);
    assert!(world.process(master).log.passes_damage());
    give_no_ranges(&world, other, false);
    pass(&mut world, 200);
    assert!(!is_damaged(&world, master));
    assert!(world.replica(master).repair().given_up().is_empty());
}

/// Counterexample found by a seed of the simulation: a slave passed over what nobody had, cut its log, was repaired and joined S, and
/// its queues lacked messages that were acknowledged.
#[test]
fn slave_passes_over_nothing_even_if_nobody_has_it() {
    let (mut world, master, [slave, other]) = group(4);
    rot(&world, slave);
    for n in [master, other] {
        give_no_ranges(&world, n, true);
    }
    pass(&mut world, 60);
    assert!(world.replica(slave).repair().is_given_up());
    assert!(!world.process(slave).log.passes_damage());
    give_no_ranges(&world, other, false);
    pass(&mut world, 200);
    assert!(!is_damaged(&world, slave) && is_in_sync(&world, slave));
    world.check_acked();
}

/// Whoever cannot be asked may have it.
#[test]
fn readers_wait_while_a_replica_cannot_be_asked() {
    let (mut world, master, [slave, other]) = group(4);
    world.crash(other, End::Kill);
    rot(&world, master);
    give_no_ranges(&world, slave, true);
    pass(&mut world, 300);
    assert!(is_damaged(&world, master));
    assert!(!world.process(master).log.passes_damage());
    world.start(other);
    pass(&mut world, 300);
    assert!(!is_damaged(&world, master));
}

/// Counterexample: the log said that it cannot give queue offsets yet, which was taken for a disk that failed, and at the second
/// start the replica was halted.
#[test]
fn master_that_cannot_know_its_queue_offsets_takes_no_sends_until_damage_is_given_up() {
    let mut world = World::healthy(Plan::sync(1, 1));
    for _ in 0..4 {
        world.send(0, 10).unwrap();
        world.calm();
    }
    world.crash(0, End::Kill);
    world.start(0);
    world.calm();
    rot(&world, 0);
    if world.state().master != world.replica(0).member() {
        world.elect(&world.reports(), true);
    }
    // No time goes by, so nothing is given up.
    world.calm();
    assert_eq!(world.replica(0).role(), RoleName::Master);
    assert_eq!(world.process(0).board.writes(), Writes::Busy);
    assert_eq!(world.send(0, 10), None);
    pass(&mut world, 20);
    assert!(world.process(0).log.passes_damage());
    assert_eq!(world.open_master(), Some(0));
    let sent = world.send(0, 10).unwrap();
    world.calm();
    assert!(world.acked.contains(&sent));
    let is_halt = |(_, news): &(usize, News)| matches!(news, News::Halted(_));
    assert!(!world.news.iter().any(is_halt) && !world.process(0).log.fails());
}

#[test]
fn damage_that_is_read_right_now_is_repaired_later() {
    let (mut world, _, [slave, _]) = group(4);
    rot(&world, slave);
    world.process(slave).log.read_there(true);
    pass(&mut world, 60);
    assert!(is_damaged(&world, slave) && !is_in_sync(&world, slave));
    world.process(slave).log.read_there(false);
    world.heal();
    assert!(!is_damaged(&world, slave));
}

fn is_asked(world: &World, n: usize) -> bool {
    world.process(n).reader.is_asked()
}

#[test]
fn slow_disk_of_who_is_asked_holds_up_only_who_asks() {
    let (mut world, master, [slave, _]) = group(4);
    let state = world.state();
    world.slow(master, true);
    rot(&world, slave);
    pass(&mut world, 10);
    assert!(is_damaged(&world, slave) && is_asked(&world, master));
    let sent = world.send(master, 10).unwrap();
    pass(&mut world, 10);
    assert!(world.acked.contains(&sent), "the others are enough");
    assert!(is_damaged(&world, slave) && is_asked(&world, master));
    assert_eq!(world.state().epoch, state.epoch);
    world.slow(master, false);
    pass(&mut world, 1);
    assert!(!is_damaged(&world, slave));
    world.heal();
    world.check_acked();
}

/// The link is given up after two seconds; what is read for it then goes nowhere, and the question on the next one is not lost.
#[test]
fn slow_disk_is_asked_again_and_reads_for_one_link_at_a_time() {
    let (mut world, master, [slave, other]) = group(4);
    world.slow(master, true);
    give_no_ranges(&world, other, true);
    rot(&world, slave);
    pass(&mut world, 160);
    assert!(is_damaged(&world, slave) && is_asked(&world, master));
    world.slow(master, false);
    pass(&mut world, 200);
    assert!(!is_damaged(&world, slave));
    world.heal();
    world.check_acked();
}

/// Where the log was cut other bytes may lie than those that were asked for.
#[test]
fn question_that_was_taken_before_a_cut_is_looked_at_again() {
    let (mut world, old, others) = group(4);
    let reports: Vec<_> = others
        .iter()
        .filter_map(|n| world.replica(*n).report())
        .collect();
    world.elect(&reports, true);
    // Nobody shows that to the old master.
    world.machines[old].hinted = Version(u64::MAX);
    world.calm();
    world.pass(100);
    world.calm();
    let next = world.open_master().expect("one of the two took over");
    let slave = 3 - old - next;
    world.send(old, 10).expect("it does not know yet");
    world.slow(old, true);
    give_no_ranges(&world, next, true);
    rot(&world, slave);
    // Before it gives up its slaves, and hears of the next master with that.
    pass(&mut world, 8);
    assert!(is_damaged(&world, slave) && is_asked(&world, old));
    world.hint(old, world.state());
    world.calm();
    let is_cut = |(n, news): &(usize, News)| *n == old && matches!(news, News::Cut { .. });
    assert!(world.news.iter().any(is_cut), "{:?}", world.news);
    world.slow(old, false);
    assert!(world.read_range(old), "as it was asked before the cut");
    assert!(is_damaged(&world, slave) && is_asked(&world, old), "again");
    world.settle_without_flush();
    assert!(!is_damaged(&world, slave), "it has that still");
    world.machines[old].hinted = Version(0);
    world.heal();
    world.check_acked();
}

/// Also when links are lost and processes end in the middle of it.
#[test]
fn repair_goes_on_after_whatever_ends_it() {
    for step in 0..40 {
        let (mut world, master, [slave, other]) = group(12);
        let image = world.process(slave).log.image();
        let ends = image.boundaries();
        for pair in ends.chunks_exact(2) {
            world.process(slave).log.rot(pair[0], pair[1]);
        }
        for _ in 0..step {
            world.pass(50);
            while world.dials() > 0 {
                world.dial();
            }
            if let Some(first) = world.deliverable().first().copied() {
                world.deliver(first);
            }
        }
        match step % 4 {
            0 => world.cut_wire(step),
            1 => world.crash(other, End::Kill),
            2 => world.crash(slave, End::Power(u64::MAX)),
            _ => world.crash(master, End::Kill),
        }
        world.heal();
        pass(&mut world, 100);
        world.heal();
        assert!(!is_damaged(&world, slave), "{step}");
        world.check_acked();
    }
}

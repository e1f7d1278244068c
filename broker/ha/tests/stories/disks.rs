//! Disks that fail, bytes that are refused, cuts and beginnings anew that a crash interrupts.

use std::sync::Arc;

use rocket_ha::{Event, Items, News, Then};
use rocket_mapped_file::memory::Faults;
use rocket_replication::PhysicalOffset;
use rocket_replication::effect::Halt;
use rocket_replication::messages::RoleName;
use rocket_replication::replica::Writes;

use super::slaves_of;
use crate::world::{End, Plan, World};

#[test]
fn failed_disk_ends_all_acknowledging_and_the_replica_leaves_s() {
    for failed in 0..3 {
        let mut world = World::healthy(Plan::sync(3, 2));
        let master = world.open_master().unwrap();
        let before = world.send(master, 10).unwrap();
        let member = world.replica(failed).member().unwrap();
        let broken = Faults {
            change_error: Some(5),
            ..Faults::default()
        };
        world.machines[failed].dir.set_faults(broken);
        world.process(failed).log.fail();
        world.step(failed, Some(Event::LogFailed));
        assert_eq!(world.replica(failed).role(), RoleName::Halted);
        assert_ne!(world.process(failed).board.writes(), Writes::Open);
        assert!(
            world
                .news
                .contains(&(failed, News::Halted(Halt::DiskFailed)))
        );
        world.calm();
        assert!(!world.state().in_sync.contains(&member));
        // A failed master told its sender that the outcome is unknown; another one's sender waits for the smaller S.
        assert_eq!(world.unknown.contains(&before), failed == master);
        let mended = Faults::default();
        world.machines[failed].dir.set_faults(mended);
        world.crash(failed, End::Kill);
        world.heal();
        world.check_acked();
    }
}

/// A file that cannot be saved in the middle of a step is a failed disk: what depends on it is not done.
#[test]
fn election_that_cannot_be_noted_is_not_obeyed() {
    let mut world = World::healthy(Plan::sync(3, 2));
    let old = world.open_master().unwrap();
    let next = slaves_of(&world, old)[0];
    world.crash(old, End::Kill);
    let reports = [world.replica(next).report().unwrap()];
    world.elect(&reports, true);
    let broken = Faults {
        change_error: Some(28),
        ..Faults::default()
    };
    world.machines[next].dir.set_faults(broken);
    world.hint(next, world.state());
    world.calm();
    assert_eq!(world.replica(next).role(), RoleName::Halted);
    assert_eq!(world.open_master(), None);
    assert_eq!(world.state().master, None, "it left");
}

#[test]
fn bytes_that_are_no_records_are_refused_and_copied_again() {
    let mut world = World::healthy(Plan::sync(3, 2));
    let master = world.open_master().unwrap();
    let slave = slaves_of(&world, master)[0];
    let end = world.replica(slave).log().end;
    world.send(master, 10).unwrap();
    world.wake(master);
    assert!(world.spoil_data_for(slave));
    world.deliver_to(slave);
    assert_eq!(world.replica(slave).log().end, end);
    assert_eq!(world.process(slave).log.image().end(), end.0);
    assert!(!world.replica(slave).following().unwrap().is_streaming());
    world.heal();
    assert_eq!(world.acked.len(), 1);
    world.check_acked();
}

/// §8.5: a crash before each of the changes that a cut makes, with and without loss of what was not flushed.
#[test]
fn cut_is_finished_whenever_it_was_interrupted() {
    let mut interrupted = 0;
    for (left, power) in (0..12).flat_map(|left| [(left, false), (left, true)]) {
        let (mut world, old) = with_a_tail();
        world.start(old);
        let end = if power { End::Power(left) } else { End::Kill };
        world.light(old, left, end);
        for _ in 0..3 {
            world.calm();
            world.pass(100);
        }
        let cut = Items::new(Arc::new(world.machines[old].dir.clone()));
        let intent = cut.load().unwrap().and_then(|saved| saved.cut);
        interrupted += u32::from(intent.is_some_and(|cut| cut.then == Then::Cut));
        world.heal();
        world.check_acked();
        // By the run that cut, or by the start that finished it (P4).
        let told = world.news.iter().filter_map(|(n, news)| match news {
            News::Cut { to, from_end, .. } if *n == old => Some(from_end.since(*to)),
            _ => None,
        });
        let told: Vec<u64> = told.collect();
        let gone = world.process(old).log.image().quarantine;
        let gone = gone.first().map(|(_, bytes)| bytes.len() as u64);
        assert!(
            gone.is_some_and(|gone| told.contains(&gone)),
            "left {left}: {told:?} told, {gone:?} gone"
        );
    }
    assert!(interrupted > 2, "the crashes missed the cut");
}

#[test]
fn cut_that_only_a_start_can_finish_ends_the_process() {
    let (mut world, old) = with_a_tail();
    world.start(old);
    world.process(old).log.demand_restart();
    for _ in 0..3 {
        world.calm();
        world.pass(100);
    }
    assert!(world.news.contains(&(old, News::NeedsRestart)));
    let state = world.state();
    world.pass(5_000);
    world.calm();
    assert_eq!(state.version, world.state().version, "it does nothing more");
    world.crash(old, End::Kill);
    world.heal();
    world.check_acked();
    let is_told = |(n, news): &(usize, News)| *n == old && matches!(news, News::Cut { .. });
    assert!(world.news.iter().any(is_told), "{:?}", world.news);
}

/// What is cut off may be the only copy of something (P4): without room for it there is no cut, and nothing is wrong with the disk.
#[test]
fn cut_without_room_for_what_goes_is_done_by_a_start_that_finds_some() {
    let (mut world, old) = with_a_tail();
    world.start(old);
    world.process(old).log.lack_room(true);
    for _ in 0..3 {
        world.calm();
        world.pass(100);
    }
    assert_ne!(world.replica(old).role(), RoleName::Halted);
    assert!(world.news.contains(&(old, News::NeedsRestart)));
    assert!(world.process(old).log.image().quarantine.is_empty());
    world.crash(old, End::Kill);
    world.heal();
    world.check_acked();
    let is_told = |(n, news): &(usize, News)| *n == old && matches!(news, News::Cut { .. });
    assert!(world.news.iter().any(is_told), "{:?}", world.news);
    assert_eq!(world.process(old).log.image().quarantine.len(), 1);
}

/// A stopped machine whose log has a tail that nobody else has.
fn with_a_tail() -> (World, usize) {
    let mut world = World::healthy(Plan::sync(3, 2));
    let old = world.open_master().unwrap();
    world.send(old, 10).unwrap();
    world.calm();
    let reports: Vec<_> = slaves_of(&world, old)
        .iter()
        .filter_map(|n| world.replica(*n).report())
        .collect();
    world.send(old, 10).unwrap();
    world.flush(old);
    world.crash(old, End::Kill);
    world.elect(&reports, true);
    world.pass(200);
    world.calm();
    let master = world.open_master().expect("a survivor took over");
    world.send(master, 30).unwrap();
    world.calm();
    (world, old)
}

/// `BehindRetention` (§8.5), with a crash before each of the changes that it makes.
#[test]
fn slave_that_retention_left_behind_starts_anew() {
    for (left, power) in (0..10).flat_map(|left| [(left, false), (left, true)]) {
        let mut world = World::healthy(Plan::sync(3, 2));
        let master = world.open_master().unwrap();
        let slave = slaves_of(&world, master)[0];
        world.send(master, 10).unwrap();
        world.calm();
        world.crash(slave, End::Kill);
        for len in 0..30 {
            world.pass(100);
            world.calm();
            world.send(master, len).unwrap();
        }
        world.calm();
        let log = world.process(master).log.clone();
        log.retain_from(log.image().boundaries()[20]);
        world.start(slave);
        let end = if power { End::Power(left) } else { End::Kill };
        world.light(slave, left, end);
        world.heal();
        world.check_acked();
        assert_eq!(world.process(slave).log.image().min, log.image().min);
        let told =
            |(n, news): &(usize, News)| *n == slave && matches!(news, News::StartedAnew { .. });
        assert!(world.news.iter().any(told), "left {left}");
    }
}

/// §8.6. One of the two logs was made with another length of files and brought here by hand: whatever the master sends, it cannot
/// be appended, and a link given up and opened again for ever would tell nobody.
#[test]
fn log_whose_file_ends_elsewhere_than_the_masters_halts_and_says_where() {
    let mut world = World::healthy(Plan::sync(3, 2));
    let master = world.open_master().unwrap();
    let slave = slaves_of(&world, master)[0];
    world.send(master, 10).unwrap();
    world.calm();
    world.crash(slave, End::Kill);
    let theirs = world.machines[slave].file_bytes;
    world.machines[slave].file_bytes = theirs - 10;
    world.start(slave);
    world.calm();
    let before = world.process(slave).log.image();
    world.send(master, 10).unwrap();
    for _ in 0..40 {
        world.pass(100);
        world.calm();
    }
    let ours = PhysicalOffset(theirs - 10);
    let theirs = PhysicalOffset(theirs);
    let why = Halt::OtherFile { ours, theirs };
    assert!(world.news.contains(&(slave, News::Halted(why))));
    assert_eq!(world.process(slave).log.image(), before, "nothing changed");
    assert_eq!(world.acked.len(), 2, "the others are enough");
    world.crash(slave, End::Kill);
    world.machines[slave].file_bytes = theirs.0;
    world.heal();
    world.check_acked();
}

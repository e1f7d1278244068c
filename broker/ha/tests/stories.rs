//! One story each, told with three replicas, flush SYNC and replication SYNC unless it says otherwise.

use rocket_ha::{Answers, Event, Items, News, Then};
use rocket_mapped_file::memory::Faults;
use rocket_replication::effect::{Halt, Report};
use rocket_replication::messages::RoleName;
use rocket_replication::replica::{Flush, Writes};
use rocket_store::PutStatus;
use std::sync::Arc;

use crate::world::{End, Plan, World};

fn slaves_of(world: &World, master: usize) -> Vec<usize> {
    (0..world.machines.len()).filter(|n| *n != master).collect()
}

#[test]
fn send_is_answered_when_all_of_s_have_flushed_it_and_not_before() {
    let mut world = World::healthy(Plan::sync(3, 2));
    let master = world.open_master().unwrap();
    let slaves = slaves_of(&world, master);
    let ticket = world.send(master, 10).unwrap();
    for n in [master, slaves[0], slaves[1]] {
        world.settle_without_flush();
        assert!(!world.acked.contains(&ticket), "before {n} flushed");
        world.flush(n);
    }
    world.settle_without_flush();
    assert!(world.acked.contains(&ticket));
}

#[test]
fn consumers_see_what_is_committed_and_no_more() {
    let mut world = World::healthy(Plan::sync(3, 2));
    let master = world.open_master().unwrap();
    let before = world.process(master).log.visible();
    world.send(master, 10).unwrap();
    world.flush(master);
    world.settle_without_flush();
    assert_eq!(world.process(master).log.visible(), before);
    world.heal();
    for n in 0..3 {
        let log = &world.process(n).log;
        assert!(log.visible() > before && log.visible() == log.image().end());
    }
}

#[test]
fn killed_master_is_replaced_and_nothing_acknowledged_is_lost() {
    let mut world = World::healthy(Plan::sync(3, 2));
    let master = world.open_master().unwrap();
    let epoch = world.state().epoch;
    for len in 0..20 {
        world.send(master, len).unwrap();
        world.calm();
    }
    assert_eq!(world.acked.len(), 20);
    world.crash(master, End::Power(3));
    let survivors = world.reports();
    world.elect(&survivors, true);
    world.pass(100);
    world.calm();
    let next = world.open_master().expect("a survivor took over");
    assert!(next != master && world.state().epoch > epoch);
    // The two that are left are enough.
    world.send(next, 10).unwrap();
    world.calm();
    assert_eq!(world.acked.len(), 21);
    world.heal();
    world.check_acked();
}

/// The old master runs on and clients still reach it, but nobody else does (§11).
#[test]
fn master_that_was_replaced_unknowingly_answers_nothing_and_gives_its_tail_up() {
    let mut world = World::healthy(Plan::sync(3, 2));
    let old = world.open_master().unwrap();
    let others = slaves_of(&world, old);
    let reports: Vec<_> = others
        .iter()
        .filter_map(|n| world.replica(*n).report())
        .collect();
    world.elect(&reports, true);
    let lost = world.send(old, 10).expect("it does not know yet");
    world.flush(old);
    for n in &others {
        world.hint(*n, world.state());
        while world.request(*n, rocket_replication::memory::Fate::Answered) {
            world.answer(*n);
        }
    }
    world.flush(old);
    world.settle_without_flush();
    assert!(!world.acked.contains(&lost));
    world.heal();
    assert!(
        world.unknown.contains(&lost),
        "never answered as kept or as failed"
    );
    let (at, payload) = &world.sent[&lost];
    let image = world.process(old).log.image();
    assert!(
        image
            .record_at(*at)
            .is_none_or(|(_, found)| found != &payload[..])
    );
    // What was cut off is kept aside (P4), and the cut is told.
    assert!(image.quarantine.iter().any(|(from, _)| from == at));
    let told = |(n, news): &(usize, News)| {
        *n == old
            && matches!(
                news,
                News::Cut {
                    report: Report::Quiet,
                    ..
                }
            )
    };
    assert!(world.news.iter().any(told), "{:?}", world.news);
    world.check_acked();
}

/// With answers that do not wait for the commit, a cut may take away what was acknowledged, and says so (P4).
#[test]
fn cut_with_quick_answers_is_reported() {
    let plan = Plan {
        answers: Answers::Counted,
        ..Plan::sync(3, 2)
    };
    let mut world = World::healthy(plan);
    let old = world.open_master().unwrap();
    let reports: Vec<_> = slaves_of(&world, old)
        .iter()
        .filter_map(|n| world.replica(*n).report())
        .collect();
    world.elect(&reports, true);
    let lost = world.send(old, 10).unwrap();
    world.flush(old);
    assert!(world.acked.contains(&lost), "its own flush is enough");
    world.crash(old, End::Kill);
    world.heal();
    let told = |(n, news): &(usize, News)| {
        *n == old
            && matches!(
                news,
                News::Cut {
                    report: Report::Event,
                    ..
                }
            )
    };
    assert!(world.news.iter().any(told), "{:?}", world.news);
}

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

/// Flush ASYNC: only an orderly stop speaks for what was acknowledged.
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

#[test]
fn slave_refuses_sends_and_a_small_s_does_too() {
    let mut world = World::healthy(Plan::sync(3, 3));
    let master = world.open_master().unwrap();
    let slave = slaves_of(&world, master)[0];
    assert!(world.send(slave, 1).is_none());
    world.crash(slave, End::Kill);
    for _ in 0..60 {
        world.calm();
        world.pass(100);
    }
    assert_eq!(world.state().in_sync.len(), 2);
    let board = &world.process(master).board;
    assert_eq!(board.writes(), Writes::TooFewInSync);
    let refused = world.process(master).log.send(b"x", 1);
    assert_eq!(refused, Err(PutStatus::InSyncReplicasNotEnough));
    world.heal();
    assert!(world.send(master, 1).is_some());
}

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

/// §8.15. Counterexample found by a seed of the simulation: it joined again by where its log ended, and was counted for bytes
/// that it did not have.
#[test]
fn replica_whose_log_is_damaged_counts_for_nothing() {
    let mut world = World::healthy(Plan::sync(3, 2));
    let master = world.open_master().unwrap();
    let slave = slaves_of(&world, master)[0];
    world.send(master, 10).unwrap();
    world.calm();
    world.crash(slave, End::Kill);
    world.machines[slave].is_damaged = true;
    world.start(slave);
    for len in 0..30 {
        world.pass(100);
        world.calm();
        world.send(master, len).unwrap();
    }
    world.calm();
    assert_eq!(world.acked.len(), 31, "the others are enough");
    let member = world.replica(slave).member().unwrap();
    let state = world.state();
    assert!(state.is_current(member), "it is registered");
    assert!(!state.is_complete(member), "and in no set");
    world.crash(slave, End::Kill);
    world.machines[slave].is_damaged = false;
    world.heal();
    world.check_acked();
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

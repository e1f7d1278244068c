//! What senders are told and readers see, and what becomes of it when the master is replaced.

use rocket_ha::{Answers, News};
use rocket_replication::effect::Report;
use rocket_replication::replica::Writes;
use rocket_store::PutStatus;

use super::slaves_of;
use crate::world::{End, Plan, World};

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

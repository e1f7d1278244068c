//! What a change of roles leaves: who becomes master, who steps down, and a log whose end is cut off.

use rocket_mapped_file::memory::Faults;

use super::*;
use crate::mutant::{self, Mutant};
use crate::{Aside, CutError, Health, OnDamage};

#[test]
fn who_becomes_master_gives_places_behind_all_records_and_times_that_do_not_fall() {
    let master = master_with(30);
    let records = master.records();
    let slave = Node::new(4096);
    slave.copy(&master, master.end(), 1000);
    // Of the last ones nothing is visible, and the clock is an hour behind.
    slave.confirm(records[records.len() - 9].0);
    slave.clock.0.store(NOON - 3_600_000, Ordering::Relaxed);
    slave.role.leads.store(true, Ordering::Relaxed);
    assert!(
        matches!(
            slave.append(100, 0, 10),
            Err(PutStatus::ServiceNotAvailable(_))
        ),
        "the policy alone does not make a writer"
    );
    slave.engine.become_writer().unwrap();
    for queue in 0..QUEUES {
        slave.send(100 + u64::from(queue), queue, 10);
    }
    slave.confirm(slave.end());
    slave.dispatch();
    for queue in 0..QUEUES {
        let number = 100 + u64::from(queue);
        assert_eq!(slave.seen().get(&(queue, 10)), Some(&number));
    }
    assert_eq!(slave.seen().len(), 33);
    let (_, last) = slave.records().pop().unwrap();
    let (view, _) = RecordView::parse(&last).unwrap();
    assert_eq!(view.store_timestamp(), UnixMillis(NOON));
}

#[test]
fn a_master_that_gives_places_behind_what_is_visible_alone_is_seen() {
    let test = who_becomes_master_gives_places_behind_all_records_and_times_that_do_not_fall;
    assert!(fails_with(Mutant::OffsetsOfVisible, test));
}

/// What nobody knew of is damage like any other: the places that were given in it come back with a repair.
#[test]
fn who_comes_upon_damage_on_the_way_to_lead_gives_no_places_yet() {
    let master = master_with(9);
    let config = StoreConfig {
        on_damage: OnDamage::Hold,
        ..config(4096)
    };
    let (slave, _) = Node::open(MemoryDirectory::default(), config, 0).unwrap();
    slave.copy(&master, master.end(), 1000);
    slave.flush();
    let third = usize::try_from(master.records()[2].0).unwrap();
    slave.dir.flip("commitlog/00000000000000000000", third + 4);
    let opening = slave.engine.become_writer().unwrap();
    assert!(matches!(opening, Opening::Later(_)), "{opening:?}");
    assert_eq!(slave.engine.damage().len(), 1);
    assert_eq!(slave.engine.health(), Health::Writable, "nothing failed");
    slave.engine.pass_over(&slave.engine.damaged_spans());
    assert_eq!(slave.engine.become_writer().unwrap(), Opening::Open);
}

/// Whether a test would see this fault.
fn fails_with(mutant: Mutant, test: fn()) -> bool {
    let failed = std::panic::catch_unwind(|| mutant::with(Some(mutant), test)).is_err();
    mutant::with(None, || ());
    failed
}

#[test]
fn offsets_that_a_cut_took_back_are_given_again() {
    let master = master_with(6);
    let (old, new) = (Node::new(4096), Node::new(4096));
    for copy in [&old, &new] {
        copy.copy(&master, master.end(), 1 << 20);
    }
    let start = master.end();
    old.lead();
    for number in 100..110 {
        old.send(number, 0, 10);
    }
    old.follow();
    new.lead();
    new.send(200, 0, 10);
    old.engine.cut(at(start), 2, Aside::Nothing).unwrap();
    old.copy(&new, new.end(), 1 << 20);
    old.lead();
    old.send(201, 0, 10);
    old.confirm(old.end());
    old.dispatch();
    let seen = old.seen();
    let of_queue: Vec<u64> = seen
        .range((0, 0)..(1, 0))
        .map(|(_, number)| *number)
        .collect();
    assert_eq!(of_queue, [0, 3, 200, 201]);
}

#[test]
fn offsets_of_messages_that_expired_are_not_given_again_when_a_cut_has_the_queues_built_again() {
    give_none_again_after_a_cut(|_| {});
}

/// Its queues still hold what goes, so none of its tables holds what the start is to know.
#[test]
fn who_waits_to_be_opened_again_keeps_what_the_next_start_is_to_know_of_the_queues() {
    give_none_again_after_a_cut(|slave| {
        for _ in 0..3 {
            slave.engine.checkpoint_step();
        }
    });
    give_none_again_after_a_cut(|slave| slave.engine.finish().unwrap());
}

/// All messages of a queue expire but one, which is cut off; `meanwhile` comes between the cut and the start that does it.
fn give_none_again_after_a_cut(meanwhile: fn(&Node)) {
    let master = Node::new(4096);
    master.lead();
    for number in 0..40 {
        let queue = if number < 3 || number == 38 { 2 } else { 0 };
        master.send(number, queue, 300);
    }
    let to = master.records().iter().rev().nth(3).unwrap().0;
    let mut slave = Node::new(4096);
    slave.copy(&master, master.end(), 1 << 20);
    slave.confirm(slave.end());
    slave.flush();
    slave.dispatch();
    let mut expires = config(4096);
    expires.retention.bytes_max = 2 * 4096;
    for is_cut in [false, true, false] {
        if is_cut {
            let error = slave.engine.cut(at(to), 2, Aside::Nothing).unwrap_err();
            assert!(matches!(error, CutError::NeedsRestart), "{error}");
            meanwhile(&slave);
        }
        let dir = slave.dir.killed();
        slave = Node::open(dir, expires.clone(), master.end()).unwrap().0;
        slave.dispatch();
        slave.engine.checkpoint_step();
        slave.engine.retention_step();
    }
    assert!(slave.engine.positions().min.0 > 4096);
    assert_eq!(slave.end(), to);
    let places = slave.seen();
    assert!(!places.keys().any(|(queue, _)| *queue == 2), "they expired");
    let (&(_, last), _) = places.iter().next_back().unwrap();
    slave.lead();
    for (queue, next) in [(2, 3), (0, last + 1)] {
        slave.send(100, queue, 0);
        let (_, record) = slave.records().pop().unwrap();
        let (view, _) = RecordView::parse(&record).unwrap();
        assert_eq!((view.queue_id().0, view.queue_offset().0), (queue, next));
    }
}

/// Counterexample found by a seed of the simulation: the first message of a queue lay in damage, the log was cut before it, and
/// what came in its place from another master nobody could read.
#[test]
fn offsets_of_damaged_messages_that_are_cut_off_are_given_again() {
    for (stay, flipped, has_lost_queues) in [
        (0, 1, false),
        (3, 5, false),
        (3, 1, false),
        (0, 0, true),
        (0, 1, true),
    ] {
        let old = master_with(9);
        old.flush();
        old.dispatch();
        while old.engine.seal_step() == crate::Step::Worked {}
        old.engine.checkpoint_step();
        let records = old.records();
        let dir = old.dir.killed();
        let path = "commitlog/00000000000000000000";
        dir.flip(path, usize::try_from(records[flipped].0).unwrap() + 120);
        let mut damaged = Node::open(dir, config(4096), old.end()).unwrap().0;
        damaged.engine.scrub_step(u64::MAX);
        assert_eq!(damaged.engine.damage().len(), 1);
        if has_lost_queues {
            // They are built again from what can be read.
            let dir = damaged.dir.killed();
            for entry in dir.list("rocket/queues").unwrap() {
                dir.remove(&format!("rocket/queues/{}", entry.name))
                    .unwrap();
            }
            damaged = Node::open(dir, config(4096), old.end()).unwrap().0;
            damaged.dispatch();
            damaged.engine.checkpoint_step();
        }

        let new = Node::new(4096);
        let kept = records[stay].0;
        new.copy(&old, kept, 1 << 20);
        new.lead();
        for number in 100..109 {
            new.send(number, u32::try_from(number).unwrap() % QUEUES, 10);
        }
        new.confirm(new.end());
        let cut = damaged.engine.cut(at(kept), 2, Aside::Nothing);
        assert!(matches!(cut, Err(CutError::NeedsRestart)), "{cut:?}");
        let mut copy = Node::open(damaged.dir.killed(), config(4096), 0).unwrap().0;
        // Once more: nothing of what was carried is left.
        for _ in 0..2 {
            copy.copy(&new, new.end(), 1 << 20);
            copy.confirm(new.end());
            copy.dispatch();
            copy.engine.checkpoint_step();
            let topic = TopicName::parse(TOPIC).unwrap();
            for queue in 0..QUEUES {
                let range = |node: &Node| node.engine.queue_range(&topic, QueueId(queue)).unwrap();
                new.dispatch();
                assert_eq!(
                    range(&copy).max,
                    range(&new).max,
                    "{stay} {flipped} {queue}"
                );
            }
            if kept == 0 || flipped > stay {
                assert_eq!(copy.seen(), new.seen());
            }
            let confirm = copy.end();
            copy.flush();
            copy = Node::open(copy.dir.killed(), config(4096), confirm)
                .unwrap()
                .0;
        }
    }
}

#[test]
fn who_steps_down_leaves_nobody_waiting_and_takes_no_more() {
    let master = master_with(2);
    let before = master.end();
    master.outcomes.lock().clear();
    master.append(7, 0, 10).unwrap();
    master.append(8, 0, 10).unwrap();
    assert_eq!(master.end(), before, "not written yet");
    master.role.leads.store(false, Ordering::Relaxed);
    let quiet = master.engine.quiesce().unwrap();
    assert!(
        master.outcomes.lock().is_empty(),
        "they wait to be committed"
    );
    let end = master.engine.step_down().unwrap();
    assert!(quiet == end && end.0 == master.end() && end.0 > before);
    let outcomes = std::mem::take(&mut *master.outcomes.lock());
    assert_eq!(outcomes.len(), 2);
    for outcome in outcomes {
        assert_eq!(outcome.status, PutStatus::FlushSlaveTimeout);
        assert!(outcome.appended.is_some(), "the outcome is unknown");
    }
    master.role.leads.store(true, Ordering::Relaxed);
    let refused = master.append(9, 0, 10);
    assert!(matches!(refused, Err(PutStatus::ServiceNotAvailable(_))));
    master.confirm(master.end());
    assert!(
        master.outcomes.lock().is_empty(),
        "nobody is answered twice"
    );
    master.engine.become_writer().unwrap();
    master.send(9, 0, 10);
}

#[test]
fn a_copy_that_begins_anew_keeps_aside_what_is_not_known_to_be_committed() {
    let master = master_with(30);
    let slave = Node::new(4096);
    slave.copy(&master, master.end(), 1000);
    let (committed, _) = slave.records()[20];
    slave.confirm(committed);
    let kept = Aside::Kept { bytes_max: 1 << 20 };
    let begun = slave.engine.start_anew(at(100_000), 7, kept);
    assert!(matches!(begun, Err(CutError::NeedsRestart)), "{begun:?}");
    let name = format!("{:020}-{committed:020}-{:020}", 7, slave.end());
    assert_eq!(slave.dir.list_names("quarantine"), [name]);
}

#[test]
fn an_empty_copy_begins_where_the_master_does_without_a_restart() {
    let master = master_with(40);
    for begin in [8192, 4096 + 17] {
        let records: Vec<Record> = master.records();
        let begin = records
            .iter()
            .map(|(start, _)| *start)
            .find(|start| *start >= begin);
        let begin = begin.unwrap();
        let slave = Node::new(9000);
        slave.engine.checkpoint_step();
        slave
            .engine
            .start_anew(at(begin), 2, Aside::Nothing)
            .unwrap();
        let positions = slave.engine.positions();
        assert_eq!((positions.min, positions.appended), (at(begin), at(begin)));
        let reopened = Node::open(slave.dir.crashed(7), config(9000), begin)
            .unwrap()
            .0;
        assert_eq!(reopened.engine.positions().min, at(begin));
        for copy in [slave, reopened] {
            copy.copy(&master, master.end(), 1000);
            copy.flush();
            copy.confirm(copy.end());
            copy.dispatch();
            copy.engine.checkpoint_step();
            let held: Vec<Record> = records
                .iter()
                .filter(|(start, _)| *start >= begin)
                .cloned()
                .collect();
            assert_eq!(copy.records(), held);
            assert_eq!(copy.seen(), copy.to_be_seen(&held));
            assert_eq!(copy.files()[0].0, begin);
            assert_eq!(
                copy.files()[1..],
                master.files()[master.files().len() - copy.files().len() + 1..]
            );
            let again = Node::open(copy.dir.crashed(3), config(9000), copy.end())
                .unwrap()
                .0;
            assert_eq!(again.records(), held);
            assert_eq!(again.seen(), copy.to_be_seen(&held));
        }
    }
}

#[test]
fn what_a_cut_takes_away_is_kept_aside_with_its_epoch_if_asked() {
    let master = master_with(20);
    let cut = master.records()[15].0;
    let slave = Node::new(4096);
    slave.copy(&master, master.end(), 1 << 20);
    let all: Vec<u8> = slave
        .records()
        .into_iter()
        .flat_map(|(_, bytes)| bytes)
        .collect();
    let end = slave.end();
    let kept = Aside::Kept { bytes_max: 1 << 20 };
    slave.engine.cut(at(cut), 5, kept).unwrap();
    let path = format!("quarantine/{:020}-{cut:020}-{end:020}", 5);
    let aside = slave.dir.crashed(1).read(&path).unwrap().unwrap();
    assert_eq!(aside, all[usize::try_from(cut).unwrap()..]);
}

/// P4: it may be the only copy of what was acknowledged. So it stays in the log until there is room for it elsewhere.
#[test]
fn a_cut_without_room_for_what_goes_changes_nothing_and_is_done_when_there_is_some() {
    let master = master_with(20);
    let cut = master.records()[15].0;
    let slave = Node::new(4096);
    slave.copy(&master, master.end(), 1 << 20);
    let bytes = slave.end() - cut;
    let kept = Aside::Kept { bytes_max: 1 << 20 };
    slave.engine.look_at_disk();
    slave
        .dir
        .set_capacity(slave.engine.disk_usage().used + bytes - 1);
    let writes = |write_error_at| {
        slave.dir.set_faults(Faults {
            write_error_at,
            ..Faults::default()
        });
    };
    // The second time it is the copying that finds none.
    for _ in 0..2 {
        for change in [
            slave.engine.cut(at(cut), 5, kept),
            slave.engine.start_anew(at(100_000), 5, kept),
        ] {
            let Err(CutError::NoRoom { .. }) = change else {
                panic!("{change:?}");
            };
        }
        assert_eq!(slave.records(), master.records());
        assert_eq!(slave.engine.health(), Health::Writable);
        assert_eq!(slave.dir.list_names("quarantine"), Vec::<String>::new());
        slave.dir.set_capacity(u64::MAX);
        writes(Some((1, 28)));
    }
    writes(None);
    slave.engine.cut(at(cut), 5, kept).unwrap();
    assert_eq!(slave.records(), master.records()[..15]);
    assert_eq!(slave.dir.list_names("quarantine").len(), 1);
}

#[test]
fn a_log_is_cut_between_records_only() {
    let master = master_with(5);
    let second = master.records()[1].0;
    let slave = Node::new(4096);
    slave.copy(&master, master.end(), 1 << 20);
    slave
        .engine
        .cut(at(slave.end()), 2, Aside::Nothing)
        .unwrap();
    for wrong in [1, second - 1, second + 1, slave.end() - 1] {
        let error = slave.engine.cut(at(wrong), 2, Aside::Nothing).unwrap_err();
        assert!(
            matches!(error, CutError::NotThere { .. }),
            "{wrong}: {error}"
        );
    }
    assert_eq!(slave.records(), master.records());
    slave.engine.cut(at(second), 2, Aside::Nothing).unwrap();
    assert_eq!(slave.records(), master.records()[..1]);
}

/// What is cut off is whole records of these very places, so only zeros keep them from being found again: here a new record
/// ends where an old one began.
#[test]
fn records_that_were_cut_off_are_not_found_again_behind_a_new_one() {
    let master = Node::new(4096);
    master.lead();
    for number in 0..6 {
        master.send(number, 0, 200);
    }
    let slave = Node::new(4096);
    slave.copy(&master, master.end(), 1 << 20);
    slave.flush();
    let old = master.records();
    let to = old[2].0;
    let other = Node::new(4096);
    other.copy(&master, to, 1 << 20);
    other.lead();
    other.send(100, 0, 200);
    slave.engine.cut(at(to), 2, Aside::Nothing).unwrap();
    slave.copy(&other, other.end(), 1 << 20);
    assert_eq!(slave.end(), old[3].0);
    for dir in [slave.dir.killed(), slave.dir.crashed(7)] {
        let (again, _) = Node::open(dir, config(4096), 0).unwrap();
        let found = again.records();
        assert!((2..=3).contains(&found.len()), "{}", found.len());
        assert_eq!(found, other.records()[..found.len()]);
    }
}

#[test]
fn a_cut_that_leaves_old_records_in_the_file_is_seen() {
    let test = records_that_were_cut_off_are_not_found_again_behind_a_new_one;
    assert!(fails_with(Mutant::CutNotZeroed, test));
}

#[test]
fn blocks_that_a_cut_changed_are_summed_anew_and_condemned_by_nothing_old() {
    let master = master_with(24);
    let slave = Node::new(4096);
    slave.copy(&master, master.end(), 1 << 20);
    slave.flush();
    let seal = |node: &Node| {
        while node.engine.seal_step() == crate::Step::Worked {}
        node.engine.scrub_step(1 << 20);
    };
    seal(&slave);
    let start = master.records()[3].0;
    let other = Node::new(4096);
    other.copy(&master, start, 1 << 20);
    other.lead();
    for number in 100..130 {
        other.send(number, 0, 70);
    }
    slave.engine.cut(at(start), 2, Aside::Nothing).unwrap();
    slave.copy(&other, other.end(), 1 << 20);
    for node in [
        &slave,
        &Node::open(slave.dir.killed(), config(4096), 0).unwrap().0,
    ] {
        node.flush();
        seal(node);
        node.clock.0.fetch_add(7_200_000, Ordering::Relaxed);
        seal(node);
        assert_eq!(node.engine.damage(), []);
        assert_eq!(node.records(), other.records());
    }
}

#[test]
fn a_flush_in_flight_and_late_steps_of_the_house_do_not_bring_back_what_was_cut() {
    let master = master_with(24);
    let slave = Node::new(4096);
    slave.copy(&master, master.end(), 1 << 20);
    let job = slave.engine.flush_begin(1).unwrap();
    let start = master.records()[3].0;
    slave.engine.cut(at(start), 2, Aside::Nothing).unwrap();
    let result = job.run();
    slave.engine.flush_end(&job, result);
    slave.engine.prepare_step();
    slave.engine.ceiling_step();
    slave.engine.mark_step();
    slave.engine.checkpoint_step();
    assert!(slave.engine.positions().durable.0 <= start);
    for dir in [slave.dir.killed(), slave.dir.crashed(5)] {
        let again = Node::open(dir, config(4096), 0).unwrap().0;
        let records = again.records();
        assert_eq!(records, master.records()[..records.len()]);
        assert!(records.len() <= 3 && again.engine.damage().is_empty());
    }
    slave.copy(&master, master.end(), 1 << 20);
    assert_eq!(slave.records(), master.records());
}

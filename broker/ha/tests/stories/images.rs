//! A disk that was put back from an image holds less than its replica acknowledged, and knows nothing of the run that did (docs/replication.md
//! §8.2.7, §8.3).

use rocket_replication::mutations::Mutations;

use super::slaves_of;
use crate::world::{End, Plan, World};

fn pass_a_while(world: &mut World) {
    for _ in 0..20 {
        world.pass(100);
        world.calm();
    }
}

/// Whether `n`, which was just started, was in S or E in the first state that records its run.
fn was_taken_for_complete(world: &mut World, n: usize) -> bool {
    world.calm();
    let member = world.replica(n).member().expect("it is registered");
    let mut states = world.history.iter();
    let first = states.find(|state| state.is_current(member)).unwrap();
    first.is_complete(member)
}

/// The only one that runs is elected, and takes sends.
fn lead(world: &mut World, n: usize) {
    world.elect(&world.reports(), true);
    pass_a_while(world);
    assert_eq!(world.open_master(), Some(n));
}

/// Two replicas, m = 1, the slave is down: the master acknowledges alone in its next run, and its disk is put back to what it was before
/// that run. Returns whether it is taken for complete then.
fn is_complete_on_an_older_disk(mutations: Mutations, is_stopped_in_order: bool) -> (World, bool) {
    let mut world = World::healthy(Plan {
        mutations,
        ..Plan::sync(2, 1)
    });
    let master = world.open_master().unwrap();
    world.send(master, 10).unwrap();
    world.calm();
    let slave = slaves_of(&world, master)[0];
    world.crash(slave, End::Power(0));
    pass_a_while(&mut world);
    assert_eq!(world.state().in_sync.len(), 1, "it goes on alone");
    if is_stopped_in_order {
        world.stop(master);
    } else {
        world.crash(master, End::Power(0));
    }
    let machine = &world.machines[master];
    let older = (machine.dir.killed(), machine.image.clone());
    world.start(master);
    assert!(was_taken_for_complete(&mut world, master));
    lead(&mut world, master);
    let ticket = world.send(master, 10).unwrap();
    world.calm();
    assert!(world.acked.contains(&ticket));
    // Written over in place: the residence proof of the folder is still there, and lists the run that is recorded.
    world.crash(master, End::Kill);
    (world.machines[master].dir, world.machines[master].image) = older;
    world.start(master);
    let is_complete = was_taken_for_complete(&mut world, master);
    lead(&mut world, master);
    (world, is_complete)
}

#[test]
fn disk_that_was_put_back_loses_its_place_and_what_it_lacks_is_told() {
    for is_stopped_in_order in [false, true] {
        let broken = Mutations::default();
        let (world, is_complete) = is_complete_on_an_older_disk(broken, is_stopped_in_order);
        assert!(!is_complete);
        // P4: what was acknowledged in the run that the disk does not know is given up by an election that says so.
        assert_eq!(world.state().unclean.len(), 1);
    }
}

/// The note comes before the record: wherever power goes while a run registers, the disk knows whichever run is recorded.
fn are_complete_after_a_cut_while_they_register(mutations: Mutations) -> bool {
    (0..6).all(|left| {
        let mut world = World::healthy(Plan {
            mutations,
            ..Plan::sync(3, 2)
        });
        let master = world.open_master().unwrap();
        let slave = slaves_of(&world, master)[0];
        world.crash(slave, End::Power(0));
        world.start(slave);
        world.light(slave, left, End::Power(left));
        world.calm();
        // It may have come through.
        world.crash(slave, End::Power(left));
        world.start(slave);
        let is_complete = was_taken_for_complete(&mut world, slave);
        world.heal();
        is_complete
    })
}

#[test]
fn power_that_goes_while_a_run_registers_costs_it_no_place() {
    let sound = Mutations::default();
    assert!(are_complete_after_a_cut_while_they_register(sound));
}

#[cfg(feature = "mutants")]
#[test]
fn older_disk_that_counts_and_a_note_that_comes_late_are_seen() {
    use rocket_replication::mutations::Mutant;
    let counts = Mutations::default().with(Mutant::M50);
    let (world, is_complete) = is_complete_on_an_older_disk(counts, false);
    assert!(is_complete, "M50");
    assert!(world.state().unclean.is_empty(), "and nobody is told");
    let late = Mutations::default().with(Mutant::M51);
    assert!(!are_complete_after_a_cut_while_they_register(late), "M51");
}

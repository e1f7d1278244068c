//! What the residence proof is good for (docs/replication.md §8.2): flush `ASYNC`, and processes that are killed.

use rocket_ha::Event;
use rocket_mapped_file::memory::MemoryDirectory;
use rocket_replication::mutations::Mutations;
use rocket_replication::replica::Flush;

use super::slaves_of;
use crate::world::{End, Plan, World};

fn quick(mutations: Mutations) -> Plan {
    Plan {
        flush: Flush::Async,
        mutations,
        ..Plan::sync(3, 2)
    }
}

/// A group in which a message was acknowledged that nobody has flushed.
fn with_unflushed(mutations: Mutations) -> World {
    let mut world = World::healthy(quick(mutations));
    let master = world.open_master().unwrap();
    let ticket = world.send(master, 10).unwrap();
    world.settle_flushing(&[]);
    assert!(world.acked.contains(&ticket), "page caches are enough");
    world
}

/// Whether `n`, which was just started, was in S in the first state that records its run.
fn was_taken_for_complete(world: &mut World, n: usize) -> bool {
    for _ in 0..20 {
        world.pass(100);
        world.settle_flushing(&[]);
    }
    let member = world.replica(n).member().expect("it is registered");
    let mut states = world.history.iter();
    let first = states.find(|state| state.is_current(member)).unwrap();
    first.is_complete(member)
}

#[test]
fn processes_that_are_all_killed_at_once_lose_nothing_and_nobody_decides_for_a_loss() {
    for are_proofs_kept in [true, false] {
        let mut world = with_unflushed(Mutations::default());
        for n in 0..3 {
            world.crash(n, End::Kill);
            if !are_proofs_kept {
                world.machines[n].shelf = MemoryDirectory::default();
            }
        }
        world.heal();
        world.check_acked();
        let is_clean = world.state().unclean.is_empty();
        assert_eq!(is_clean, are_proofs_kept, "{:?}", world.state().unclean);
    }
}

#[test]
fn killed_slave_keeps_its_place_in_s_and_one_without_power_does_not() {
    for (end, expected) in [(End::Kill, true), (End::Power(0), false)] {
        let mut world = with_unflushed(Mutations::default());
        let master = world.open_master().unwrap();
        let slave = slaves_of(&world, master)[0];
        world.crash(slave, end);
        world.start(slave);
        assert_eq!(was_taken_for_complete(&mut world, slave), expected);
        world.heal();
        world.check_acked();
    }
}

/// A run that started after power came back, and ended before it registered, has a proof of its own: not of what was lost.
#[test]
fn proof_of_a_run_that_never_registered_does_not_speak_for_the_one_before() {
    let mut world = with_unflushed(Mutations::default());
    let master = world.open_master().unwrap();
    let slave = slaves_of(&world, master)[0];
    world.crash(slave, End::Power(0));
    world.start(slave);
    world.crash(slave, End::Kill);
    world.start(slave);
    assert!(!was_taken_for_complete(&mut world, slave));
    world.heal();
    world.check_acked();
}

/// The slave's disk fails, it cannot tell the coordinator, and is killed.
fn is_complete_after_a_failure(mutations: Mutations) -> bool {
    let mut world = with_unflushed(mutations);
    let master = world.open_master().unwrap();
    let slave = slaves_of(&world, master)[0];
    world.process(slave).log.fail();
    world.step(slave, Some(Event::LogFailed));
    world.crash(slave, End::Kill);
    world.start(slave);
    was_taken_for_complete(&mut world, slave)
}

#[test]
fn replica_whose_disk_failed_has_no_proof() {
    assert!(!is_complete_after_a_failure(Mutations::default()));
}

#[cfg(feature = "mutants")]
#[test]
fn proof_that_outlives_a_failure_is_seen() {
    use rocket_replication::mutations::Mutant;
    let broken = Mutations::default().with(Mutant::M48);
    assert!(is_complete_after_a_failure(broken));
}

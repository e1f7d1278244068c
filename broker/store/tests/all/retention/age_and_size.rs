//! By age and by size: consumers are waited for, many of them in rounds, and nothing goes before it is known who reads.

use std::sync::Arc;

use rocket_store::{RemovalReason, Step};

use super::{FILE, World, filled};

#[test]
fn a_log_that_is_too_large_loses_its_oldest_files_and_keeps_what_is_not_consumed() {
    let mut world = World::with(|config| config.retention.bytes_max = 3 * FILE);
    filled(&mut world, 6);
    world.groups.set(1, 0, 1, true);
    let removed = world.retain();
    assert_eq!(removed.len(), 1);
    assert_eq!(removed[0].reason, RemovalReason::Oversize);
    assert_eq!((removed[0].to.0, &removed[0].unconsumed), (FILE, &vec![]));
    assert_eq!(world.engine.stats().bytes_held, 2 * FILE);
    world.groups.set(1, 0, 6, true);
    assert_eq!(world.retain().len(), 1);
    assert_eq!((world.files(), world.engine.stats().bytes_held), (3, 0));
}

#[test]
fn a_file_whose_first_message_cannot_be_read_does_not_keep_those_before_it() {
    let mut world = World::with(|config| config.checksum_block_bytes = 512);
    for _ in 0..20 {
        assert!(world.send(0, 1000));
    }
    while world.engine.seal_step() == Step::Worked {}
    world.engine.checkpoint_step();
    world
        .dir
        .break_sectors(&format!("commitlog/{FILE:020}"), 0, 512);
    // What this process wrote counts as compared; the scrubber looks again.
    world.engine.scrub_step(u64::MAX);
    assert_eq!(world.engine.damage().len(), 1);
    world.pass(200);
    assert!(world.send(0, 1000));
    world.retain();
    assert!(world.engine.positions().min.0 >= 2 * FILE);
}

#[test]
fn until_it_is_known_who_reads_nothing_goes_below_the_hard_limit() {
    let mut world = World::without_readers(|_| {});
    filled(&mut world, 4);
    world.pass(73);
    filled(&mut world, 1);
    assert_eq!(world.retain(), []);
    assert!(world.engine.stats().bytes_held > 0);
    world.engine.set_readers(Arc::clone(&world.groups) as _);
    assert_eq!(world.retain().len(), 1);
}

#[test]
fn many_readers_are_looked_at_in_rounds() {
    let mut world = World::with(|config| config.retention.files_per_round = 10);
    filled(&mut world, 8);
    world.pass(73);
    filled(&mut world, 1);
    // Each of them has passed the first four files, which only a look at its unit tells.
    (0..5000).for_each(|number| world.groups.set(number, 0, 4, true));
    assert_eq!(world.engine.retention_step(), Step::Worked);
    assert_eq!(world.heard(), []);
    while world.engine.retention_step() == Step::Worked {}
    let removed = world.heard();
    assert!(!removed.is_empty());
    assert_eq!(world.engine.positions().min.0, 4 * FILE);
    for removed in &removed {
        world.check(removed, false);
    }
}

//! A full disk: what goes by force, what is refused, and what has room left.

use rocket_mapped_file::Directory as _;
use rocket_mapped_file::memory::Faults;
use rocket_protocol::QueueId;
use rocket_store::{RemovalReason, Watermarks};

use super::{FILE, World, filled, group};
use crate::support::topic;

#[test]
fn above_the_hard_limit_the_oldest_file_goes_and_who_lost_it_is_named() {
    let mut world = World::new();
    filled(&mut world, 6);
    world.groups.set(1, 0, 0, true);
    world.fill_disk(80);
    assert_eq!(world.retain(), []);
    world.fill_disk(86);
    let removed = world.retain();
    assert_eq!(removed[0].reason, RemovalReason::Forced);
    let lost = &removed[0].unconsumed;
    assert_eq!((lost[0].from.0, lost[0].to.0, lost.len()), (0, 1, 1));
    assert_eq!(lost[0].group, group(1));
}

#[test]
fn on_a_small_disk_the_hard_limit_is_where_the_next_file_has_no_room() {
    let mut world = World::with(|config| {
        config.watermarks = Watermarks {
            clean: 100,
            force: Some(100),
            refuse: 100,
        };
    });
    filled(&mut world, 6);
    world.engine.look_at_disk();
    world
        .dir
        .set_capacity(world.engine.disk_usage().used + FILE / 2);
    assert_eq!(world.retain(), []);
    assert!(!world.send(0, 3800), "there is no room for its file");
    let mut removed = world.retain();
    // What else lies on the disk has grown meanwhile, which the next look tells from what is not freed yet.
    removed.extend(world.retain());
    assert!((1..=2).contains(&removed.len()), "and no more than needed");
    assert_eq!(removed[0].reason, RemovalReason::Forced);
    world.engine.prepare_step();
    assert!(world.send(0, 3800));
}

#[test]
fn without_a_hard_limit_writes_are_refused_and_nothing_is_removed() {
    let mut world = World::with(|config| config.watermarks.force = None);
    filled(&mut world, 6);
    world.fill_disk(97);
    assert_eq!(world.retain(), []);
    assert!(!world.send(0, 10), "refused");
    world.dir.set_capacity(u64::MAX);
    assert_eq!(world.retain(), []);
    assert!(world.send(0, 10), "taken again by itself");
}

#[test]
fn the_room_for_metadata_is_refused_to_log_files_and_there_for_the_rest() {
    const RESERVE: u64 = 10_000;
    let mut world = World::with(|config| config.metadata_reserve_bytes = RESERVE);
    filled(&mut world, 30);
    world.engine.look_at_disk();
    let used = world.engine.disk_usage().used;
    world.dir.set_capacity(used + 2 * FILE + RESERVE);
    let mut taken = 0;
    while world.send(0, 3800) {
        taken += 1;
        world.engine.checkpoint_step();
    }
    assert!((1..=2).contains(&taken), "{taken}");
    let left = world.dir.space().unwrap().available;
    assert!(left > RESERVE / 2, "{left} of {RESERVE} are left");
    world
        .dir
        .create(
            "config",
            left - 10,
            rocket_mapped_file::SegmentOptions::default(),
        )
        .unwrap();
    world.dir.remove("config").unwrap();
    // What was taken is in the queues, though nothing more is taken.
    world.engine.checkpoint_step();
    assert_eq!(
        world.engine.positions().dispatched,
        world.engine.positions().appended
    );
    world.dir.set_capacity(u64::MAX);
    world.engine.prepare_step();
    assert!(world.send(0, 3800), "taken again by itself");
}

#[test]
fn a_disk_that_others_fill_refuses_sends_loses_nothing_and_recovers_by_itself() {
    let mut world = World::with(|config| config.metadata_reserve_bytes = 20_000);
    filled(&mut world, 3);
    world.engine.checkpoint_step();
    // Nothing can be made any more, not even small files.
    world.dir.set_capacity(1);
    world.dir.set_faults(Faults {
        change_error: Some(28),
        ..Faults::default()
    });
    world.engine.look_at_disk();
    assert!(!world.send(0, 10));
    for _ in 0..5 {
        world.engine.checkpoint_step();
        world.engine.prepare_step();
        assert_eq!(world.retain(), []);
    }
    world.dir.set_faults(Faults::default());
    world.dir.set_capacity(u64::MAX);
    world.engine.look_at_disk();
    world.engine.prepare_step();
    assert!(world.send(0, 10));
    let range = world.engine.queue_range(&topic("t"), QueueId(0)).unwrap();
    assert_eq!((range.min.0, range.max.0), (0, 4));
}

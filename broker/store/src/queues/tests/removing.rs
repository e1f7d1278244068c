//! What retention takes of the queues while others use them.

use parking_lot::Mutex;
use rocket_mapped_file::memory::{Change, Faults, FusedDirectory};

use super::*;

const UNITS: &str = ".units";

/// What happens when a file of units goes, with the log's new begin known and its files still there.
type Meanwhile = Arc<Mutex<Option<Box<dyn FnMut() + Send>>>>;

/// A disk on which that happens.
fn watched() -> (Arc<dyn Directory>, Meanwhile) {
    let meanwhile = Meanwhile::default();
    let watched = Arc::clone(&meanwhile);
    let dir = FusedDirectory::<(), ()>::new(MemoryDirectory::default());
    let dir = dir.lying(move |change| {
        if let Change::Remove(path) = change
            && path.ends_with(UNITS)
            && let Some(deed) = &mut *watched.lock()
        {
            deed();
        }
        false
    });
    (Arc::new(dir), meanwhile)
}

#[test]
fn messages_that_a_reader_saw_go_first_are_told_all_the_same() {
    let (dir, meanwhile) = watched();
    let mut world = World::new(&dir, small(), 3);
    world.put(3000);
    let queue = world.queues.get_or_make(&topic(), QueueId(9));
    for index in 0..5 {
        queue
            .put(index, unit_at(world.position + index * RECORD))
            .unwrap();
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    *meanwhile.lock() = Some(Box::new({
        let (queue, seen) = (Arc::clone(&queue), Arc::clone(&seen));
        move || seen.lock().push(queue.range())
    }));
    let (removed, gone) = world.queues.remove_before(world.position + 3 * RECORD);
    gone.unwrap();
    assert_eq!(seen.lock().first(), Some(&(3, 5)), "the reader was first");
    assert!(removed.contains(&(topic(), QueueId(9), 3)), "{removed:?}");
    // It holds the queue, which holds the disk, which holds it.
    *meanwhile.lock() = None;
}

/// Units that lie before a gap in the files would be taken for damage, and all queues be built again.
#[test]
fn of_the_oldest_files_of_units_none_comes_back_behind_which_another_one_is_missing() {
    let log_min = 1500 * RECORD + 1;
    for changes in 0.. {
        let mut is_over = false;
        for seed in 0..16 {
            let dir = MemoryDirectory::default();
            let shared: Arc<dyn Directory> = Arc::new(dir.clone());
            let mut world = World::new(&shared, small(), 3);
            world.put(3000);
            dir.set_faults(Faults {
                dies_after: Some(changes),
                ..Faults::default()
            });
            is_over = world.queues.remove_before(log_min).1.is_ok();
            let crashed: Arc<dyn Directory> = Arc::new(dir.crashed_in_any_order(seed));
            let deleted = Deleted::open(Arc::clone(&crashed)).unwrap();
            let secured = Secured {
                log_min,
                dispatched: world.position,
            };
            let (again, known) = Queues::open(crashed, small(), Some(secured), &deleted).unwrap();
            assert!(known.is_some(), "{changes} {seed}");
            (0..3).for_each(|id| world.check(&again, id));
        }
        if is_over {
            assert!(changes > 4, "several files go");
            return;
        }
    }
}

//! What a crash or damage leaves of the queues.

use super::*;
use crate::mutant::{self, Mutant};

/// Units of messages that the commit log lost in a crash are dispatched, in the journal and in a table that is not to
/// count yet. Whether the next start knows none of them, and all others.
fn forgets_what_the_log_lost() -> bool {
    let dir = MemoryDirectory::default();
    let shared: Arc<dyn Directory> = Arc::new(dir.clone());
    let mut world = World::new(&shared, small(), 3);
    world.put(100);
    let (put, secured) = (world.put, world.position);
    for round in 0..2 {
        for n in 0..200 {
            let index = put + round * 200 + n;
            let queue = world
                .queues
                .get(&topic(), QueueId(u32::try_from(index % 3).unwrap()));
            queue
                .unwrap()
                .put(index / 3, unit_at(world.position))
                .unwrap();
            world.position += RECORD;
        }
        world.queues.save(world.position).unwrap();
        if round == 1 {
            let table = world.queues.begin_table(world.position).unwrap();
            world.queues.write_table(table.expect("is due")).unwrap();
        }
        world.queues.commit_table(secured).unwrap();
    }
    let (again, known) = opened(&shared, small(), secured);
    known.is_some_and(|known| known.covered == secured)
        && again.all().iter().map(|queue| queue.max()).sum::<u64>() == put
}

/// Whether everything secured is there after each of some crashes.
fn survives_crashes() -> bool {
    (0..20).all(|seed| {
        let dir = MemoryDirectory::default();
        let shared: Arc<dyn Directory> = Arc::new(dir.clone());
        let mut world = World::new(&shared, small(), 3);
        world.put(400);
        world.secure(world.queues.begin_table_now(world.position).ok());
        let shared: Arc<dyn Directory> = Arc::new(dir.crashed(seed));
        let (again, known) = opened(&shared, small(), world.position);
        let is_right = |queue: &SharedQueue| {
            let (min, max) = queue.range();
            (min..max).all(|index| {
                let expected = unit_at((index * 3 + u64::from(queue.queue_id().0)) * RECORD);
                queue.get(index).is_ok_and(|unit| unit == Some(expected))
            })
        };
        known.is_some() && again.all().len() == 3 && again.all().iter().all(is_right)
    })
}

#[test]
fn a_start_believes_nothing_that_was_not_secured() {
    assert!(forgets_what_the_log_lost());
    for mutant in [Mutant::TableAheadOfLog, Mutant::JournalAheadOfLog] {
        let is_right = mutant::with(Some(mutant), forgets_what_the_log_lost);
        assert!(!is_right, "{mutant:?} is seen");
    }
}

#[test]
fn extents_are_whole_before_a_table_names_them() {
    assert!(survives_crashes());
    let is_right = mutant::with(Some(Mutant::ExtentsUnflushed), survives_crashes);
    assert!(!is_right, "torn extents are seen");
}

#[test]
fn damage_is_seen_and_leads_to_building_again() {
    let dir = MemoryDirectory::default();
    let shared: Arc<dyn Directory> = Arc::new(dir.clone());
    let mut world = World::new(&shared, small(), 1);
    world.put(1000);
    dir.flip(&format!("{FOLDER}/{:020}.units", 0), 64 + 72 + 30);
    let queue = world.queues.get(&topic(), QueueId(0)).unwrap();
    let error = queue.read(2, 1, &mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert_eq!(queue.get(999).unwrap(), Some(unit_at(999 * RECORD)));
    world.queues.note_damage(&error);
    let (again, known) = opened(&shared, small(), world.position);
    assert!(known.is_none());
    assert_eq!(
        again.next_offsets(),
        [(topic(), QueueId(0), 1000)],
        "which offsets were given away is known all the same"
    );
}

#[test]
fn damaged_tables_or_a_lost_file_lead_to_building_again() {
    for suffix in [".table", ".units"] {
        let dir = MemoryDirectory::default();
        let shared: Arc<dyn Directory> = Arc::new(dir.clone());
        let mut world = World::new(&shared, small(), 3);
        world.put(1000);
        let names = dir.list(FOLDER).unwrap();
        let of_kind = names.iter().filter(|entry| entry.name.ends_with(suffix));
        let paths: Vec<_> = of_kind
            .map(|entry| format!("{FOLDER}/{}", entry.name))
            .collect();
        if suffix == ".table" {
            for path in &paths {
                dir.flip(path, 40);
            }
        } else {
            dir.remove(&paths[0]).unwrap();
        }
        let (_, known) = opened(&shared, small(), world.position);
        assert!(known.is_none(), "{suffix}");
    }
}

#[test]
fn the_table_before_takes_the_place_of_one_that_rots() {
    let dir = MemoryDirectory::default();
    let shared: Arc<dyn Directory> = Arc::new(dir.clone());
    let mut world = World::new(&shared, small(), 3);
    world.put(900);
    world.secure(world.queues.begin_table_now(world.position).ok());
    let older = world.position;
    world.put(60);
    world.secure(world.queues.begin_table_now(world.position).ok());
    let names = dir.list(FOLDER).unwrap();
    let suffix = ".table";
    let mut tables = names.iter().filter(|entry| entry.name.ends_with(suffix));
    let newest = tables.next_back().unwrap();
    dir.flip(&format!("{FOLDER}/{}", newest.name), 540);
    let (again, known) = opened(&shared, small(), world.position);
    assert_eq!(known.unwrap().covered, older);
    world.put = 900;
    (0..3).for_each(|id| world.check(&again, id));
}

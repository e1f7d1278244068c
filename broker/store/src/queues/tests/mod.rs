//! Queues as the dispatcher fills them and the checkpoint secures them: what they cost ([`cost`]), what a crash or damage leaves
//! of them ([`damage`]), and how they come, go on and go: while others look ([`removing`]),
//! and at once ([`together`]).

mod cost;
mod damage;
mod removing;
mod together;

use rocket_mapped_file::memory::MemoryDirectory;

use super::*;
use crate::deleted::Deleted;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

/// Puts units as the dispatcher does, and secures them as the checkpoint does.
struct World {
    queues: Queues,
    topic: TopicName,
    ids: u32,
    position: u64,
    put: u64,
}

const RECORD: u64 = 200;

fn topic() -> TopicName {
    TopicName::parse("orders").unwrap()
}

fn opened(
    dir: &Arc<dyn Directory>,
    config: QueueLogConfig,
    dispatched: u64,
) -> (Queues, Option<Known>) {
    let deleted = Deleted::open(Arc::clone(dir)).unwrap();
    let secured = Secured {
        log_min: 0,
        dispatched,
    };
    Queues::open(Arc::clone(dir), config, Some(secured), &deleted).unwrap()
}

impl World {
    fn new(dir: &Arc<dyn Directory>, config: QueueLogConfig, ids: u32) -> Self {
        let (queues, _) = opened(dir, config, 0);
        queues.reset(0).unwrap();
        let world = Self {
            queues,
            topic: topic(),
            ids,
            position: 0,
            put: 0,
        };
        world.secure(world.queues.begin_table_now(0).ok());
        world
    }

    fn secure(&self, table: Option<TableDue>) {
        self.queues.save(self.position).unwrap();
        for (_, file) in self.queues.take_unflushed() {
            file.flush(0).unwrap();
        }
        if let Some(table) = table {
            self.queues.write_table(table).unwrap();
        }
        self.queues.commit_table(self.position).unwrap();
    }

    /// One message for each queue in turn.
    fn put(&mut self, messages: u64) {
        for _ in 0..messages {
            let ids = u64::from(self.ids);
            let id = QueueId(u32::try_from(self.put % ids).unwrap());
            let unit = unit_at(self.position);
            let queue = self.queues.get_or_make(&self.topic, id);
            queue.put(self.put / ids, unit).unwrap();
            self.put += 1;
            self.position += RECORD;
            if self.put.is_multiple_of(50_000) {
                self.checkpoint();
            }
        }
        self.checkpoint();
    }

    fn checkpoint(&self) {
        self.queues.save(self.position).unwrap();
        self.secure(self.queues.begin_table(self.position).unwrap());
    }

    fn check(&self, queues: &Queues, id: u32) {
        let queue = queues.get(&self.topic, QueueId(id)).unwrap();
        let ids = u64::from(self.ids);
        let (mut next, max) = queue.range();
        assert_eq!(max, (self.put - u64::from(id)).div_ceil(ids));
        while next < max {
            let mut units = Vec::new();
            queue.read(next, 32, &mut units).unwrap();
            assert!(!units.is_empty(), "{next}");
            for unit in units {
                assert_eq!(unit, unit_at((next * ids + u64::from(id)) * RECORD));
                next += 1;
            }
        }
    }
}

fn unit_at(physical_offset: u64) -> Unit {
    Unit {
        physical_offset,
        size: u32::try_from(RECORD).unwrap(),
        tags_code: i64::from(i32::MAX) - i64::try_from(physical_offset % 9999).unwrap(),
    }
}

fn small() -> QueueLogConfig {
    QueueLogConfig {
        file_bytes: 4000,
        journal_bytes: 2000,
        extent_units: 8,
        table_units: 300,
    }
}

#[test]
fn many_readers_of_many_queues_get_each_its_own_units() {
    const QUEUES: u32 = 700;
    let dir = MemoryDirectory::default();
    let shared: Arc<dyn Directory> = Arc::new(dir.clone());
    let mut world = World::new(&shared, small(), QUEUES);
    world.put(40_000);
    let ids = u64::from(QUEUES);
    // Each queue is read at two places in turn, and at more queues than are kept.
    let mut units = Vec::new();
    for step in 0..25 {
        for id in 0..QUEUES {
            let queue = world.queues.get(&world.topic, QueueId(id)).unwrap();
            for index in [step, 30 + step] {
                units.clear();
                queue.read(index, 3, &mut units).unwrap();
                assert!(!units.is_empty());
                for (index, unit) in (index..).zip(&units) {
                    assert_eq!(*unit, unit_at((index * ids + u64::from(id)) * RECORD));
                    assert_eq!(queue.get(index).unwrap(), Some(*unit));
                }
            }
        }
    }
}

#[test]
fn files_go_when_all_their_messages_are_gone() {
    let dir = MemoryDirectory::default();
    let shared: Arc<dyn Directory> = Arc::new(dir.clone());
    let mut world = World::new(&shared, small(), 3);
    world.put(3000);
    let files = || dir.list(FOLDER).unwrap().len();
    let before = files();
    let (removed, gone) = world.queues.remove_before(1500 * RECORD + 1);
    gone.unwrap();
    assert_eq!(removed.iter().map(|(_, _, count)| count).sum::<u64>(), 1501);
    assert!(files() < before * 2 / 3, "{before} {}", files());
    let ranges = |queues: &Queues| {
        queues
            .all()
            .iter()
            .map(|queue| queue.range())
            .collect::<Vec<_>>()
    };
    let expected = [(501, 1000), (500, 1000), (500, 1000)];
    assert_eq!(ranges(&world.queues), expected);
    (0..3).for_each(|id| world.check(&world.queues, id));
    let deleted = Deleted::open(Arc::clone(&shared)).unwrap();
    let secured = Secured {
        log_min: 1500 * RECORD + 1,
        dispatched: world.position,
    };
    let (again, _) = Queues::open(shared, small(), Some(secured), &deleted).unwrap();
    assert_eq!(ranges(&again), expected, "the table was older");
    world.queues.remove_before(u64::MAX).1.unwrap();
    assert_eq!(ranges(&world.queues), [(1000, 1000); 3]);
}

#[test]
fn a_queue_goes_on_behind_a_gap_however_wide() {
    let dir = MemoryDirectory::default();
    let shared: Arc<dyn Directory> = Arc::new(dir.clone());
    let world = World::new(&shared, small(), 1);
    let far = 50 + (5 << 20);
    let queue = world.queues.get_or_make(&topic(), QueueId(0));
    for index in (0..50).chain(far..far + 50) {
        queue.put(index, unit_at(index * RECORD)).unwrap();
    }
    let position = (far + 50) * RECORD;
    world.queues.save(position).unwrap();
    let table = world.queues.begin_table_now(position).unwrap();
    world.queues.write_table(table).unwrap();
    world.queues.commit_table(position).unwrap();
    let (again, _) = opened(&shared, small(), position);
    for queues in [&world.queues, &again] {
        let queue = queues.get(&topic(), QueueId(0)).unwrap();
        assert_eq!(queue.range(), (far, far + 50));
        for index in far..far + 50 {
            assert_eq!(queue.get(index).unwrap(), Some(unit_at(index * RECORD)));
        }
    }
}

/// Found by the model: a queue that never had a message was dropped, its number was given again by the next process, and the
/// one after that took the new queue for the dropped one.
#[test]
fn the_number_of_a_dropped_queue_is_not_given_again() {
    let dir = MemoryDirectory::default();
    let shared: Arc<dyn Directory> = Arc::new(dir);
    let world = World::new(&shared, small(), 1);
    world.queues.get_or_make(&topic(), QueueId(0));
    world.queues.remove_topic(&topic());
    world.checkpoint();
    let (queues, _) = opened(&shared, small(), 0);
    let world = World { queues, ..world };
    let queue = world.queues.get_or_make(&topic(), QueueId(0));
    queue.put(0, unit_at(0)).unwrap();
    let world = World {
        position: RECORD,
        put: 1,
        ..world
    };
    world.checkpoint();
    let (again, _) = opened(&shared, small(), RECORD);
    world.check(&again, 0);
}

#[test]
fn a_topic_that_was_removed_does_not_come_back() {
    let dir = MemoryDirectory::default();
    let shared: Arc<dyn Directory> = Arc::new(dir);
    let mut world = World::new(&shared, small(), 3);
    world.put(1000);
    world.queues.remove_topic(&topic());
    assert!(world.queues.all().is_empty());
    world.position += 1;
    world.checkpoint();
    let (again, known) = opened(&shared, small(), world.position);
    assert!(known.is_some() && again.all().is_empty());
    assert_eq!(again.next_offset(&topic(), QueueId(0)), 0);
    assert_eq!(again.give_offsets(&topic(), QueueId(0), 2), 0);
    assert_eq!(again.give_offsets(&topic(), QueueId(0), 1), 2);
}

#[test]
fn a_place_that_is_given_twice_is_counted_and_one_that_a_start_fills_again_is_not() {
    let dir: Arc<dyn Directory> = Arc::new(MemoryDirectory::default());
    let mut world = World::new(&dir, small(), 2);
    world.put(40);
    let queue = world.queues.get(&topic(), QueueId(0)).unwrap();
    for index in 0..20 {
        queue.put(index, unit_at(index * 2 * RECORD)).unwrap();
    }
    assert_eq!(world.queues.misplaced(), 0);
    queue.put(7, unit_at(world.position)).unwrap();
    queue.put(20, unit_at(world.position + RECORD)).unwrap();
    queue.reach(25).unwrap();
    queue.put(24, unit_at(world.position + 2 * RECORD)).unwrap();
    assert_eq!((world.queues.misplaced(), queue.max()), (2, 25));
    assert_eq!(queue.get(7).unwrap(), Some(unit_at(14 * RECORD)));
}

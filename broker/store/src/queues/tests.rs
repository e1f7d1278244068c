//! What many queues cost, counted; and what becomes of damage.

use rocket_mapped_file::disk::DiskDirectory;
use rocket_mapped_file::memory::MemoryDirectory;

use super::*;
use crate::deleted::Deleted;
use crate::mutant::{self, Mutant};

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

/// Bytes written for each message, and files made.
fn cost(ids: u32) -> (u64, u64) {
    let dir = MemoryDirectory::default();
    let shared: Arc<dyn Directory> = Arc::new(dir.clone());
    let mut world = World::new(&shared, QueueLogConfig::default(), ids);
    dir.reset_counts();
    world.put(600_000);
    let bytes = dir.counts().bytes_written / world.put;
    let names = dir.list(FOLDER).unwrap();
    let number = |suffix: &str| {
        let of_kind = names
            .iter()
            .filter_map(|entry| entry.name.strip_suffix(suffix));
        of_kind.filter_map(|name| name.parse::<u64>().ok()).max()
    };
    let files = number(".table").unwrap_or(0)
        + number(".journal").unwrap_or(0)
        + number(".units").unwrap_or(0) / (64 << 20)
        + 2;
    world.check(&world.queues, ids / 2);
    (bytes, files)
}

#[test]
fn the_cost_of_a_message_does_not_depend_on_the_number_of_queues() {
    let (few, few_files) = cost(8);
    let (many, many_files) = cost(50_000);
    println!(
        "8 queues: {few} bytes a message, {few_files} files; 50,000: {many}, {many_files} files"
    );
    assert!((20..=64).contains(&few), "{few}");
    assert!((20..=64).contains(&many), "{many}");
    assert!(many_files <= few_files + 4, "{many_files} {few_files}");
}

#[test]
fn an_idle_queue_takes_few_bytes_of_memory() {
    const QUEUES: u32 = 100_000;
    let dir = tempfile::tempdir().unwrap();
    let dir: Arc<dyn Directory> = Arc::new(DiskDirectory::open(dir.path()).unwrap());
    let mut world = World::new(&dir, QueueLogConfig::default(), QUEUES);
    counting::count_this_thread();
    let before = counting::counted().bytes;
    world.put(3 * u64::from(QUEUES));
    let busy = (counting::counted().bytes - before) / i64::from(QUEUES);
    world.secure(world.queues.begin_table_now(world.position).ok());
    let one_topic = (counting::counted().bytes - before) / i64::from(QUEUES);
    // The other extreme: every queue with a topic of its own.
    let before = counting::counted().bytes;
    for n in 0..QUEUES {
        let topic = TopicName::parse(&format!("%RETRY%consumers-of-orders-{n}")).unwrap();
        let queue = world.queues.get_or_make(&topic, QueueId(0));
        queue.put(0, unit_at(world.position)).unwrap();
        world.position += RECORD;
    }
    world.checkpoint();
    world.secure(world.queues.begin_table_now(world.position).ok());
    let own_topic = (counting::counted().bytes - before) / i64::from(QUEUES);
    println!(
        "bytes a queue: {one_topic} at rest, {busy} with 3 units in memory, {own_topic} with its topic"
    );
    assert!(one_topic <= 220, "{one_topic}");
    assert!(own_topic <= 300, "{own_topic}");
}

#[test]
fn a_reader_from_the_beginning_reads_little_but_its_own_units() {
    let dir = MemoryDirectory::default();
    let shared: Arc<dyn Directory> = Arc::new(dir.clone());
    let config = QueueLogConfig {
        table_units: 60_000,
        ..QueueLogConfig::default()
    };
    let mut world = World::new(&shared, config, 1000);
    world.put(1_000_000);
    dir.reset_counts();
    world.check(&world.queues, 700);
    let (read, own) = (dir.counts().bytes_read, 1000 * 20);
    println!(
        "{read} bytes read for {own} bytes of units, of {}",
        1000 * own
    );
    assert!(read < 20 * own, "{read}");
}

#[test]
fn a_start_reads_the_table_and_the_journal_and_finds_everything() {
    let dir = MemoryDirectory::default();
    let shared: Arc<dyn Directory> = Arc::new(dir.clone());
    let mut world = World::new(&shared, QueueLogConfig::default(), 20_000);
    world.put(700_000);
    dir.reset_counts();
    let (again, known) = opened(&shared, QueueLogConfig::default(), world.position);
    let counts = dir.counts();
    println!(
        "{} reads of {} bytes for 20,000 queues",
        counts.reads, counts.bytes_read
    );
    assert_eq!(known.unwrap().covered, world.position);
    assert!(counts.reads < 200, "{counts:?}");
    assert!(counts.bytes_read < 8_000_000, "{counts:?}");
    for id in [0, 1, 9_999, 19_999] {
        world.check(&again, id);
    }
}

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
fn a_deep_queue_is_read_at_any_index() {
    let dir = MemoryDirectory::default();
    let shared: Arc<dyn Directory> = Arc::new(dir.clone());
    let config = QueueLogConfig {
        extent_units: 2,
        file_bytes: 64 << 10,
        ..small()
    };
    let mut world = World::new(&shared, config, 1);
    world.put(10_000);
    let queue = world.queues.get(&topic(), QueueId(0)).unwrap();
    dir.reset_counts();
    for index in (0..10_000).step_by(97) {
        assert_eq!(queue.get(index).unwrap(), Some(unit_at(index * RECORD)));
    }
    let each = dir.counts().reads / 104;
    assert!(each < 80, "{each} reads for one of 5,000 extents");
}

#[test]
fn whoever_goes_through_a_deep_queue_reads_each_extent_once() {
    const UNITS: u64 = 400_000;
    let dir = MemoryDirectory::default();
    let shared: Arc<dyn Directory> = Arc::new(dir.clone());
    let mut world = World::new(&shared, QueueLogConfig::default(), 1);
    world.put(UNITS);
    let extents = UNITS / QueueLogConfig::default().extent_units as u64;
    dir.reset_counts();
    world.check(&world.queues, 0);
    let reads = dir.counts().reads;
    println!(
        "{reads} reads for {extents} extents and {} pulls",
        UNITS / 32
    );
    // And one search for every 32 of them.
    assert!(reads <= 3 * extents, "{reads} reads for {extents} extents");
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
    let removed = world.queues.remove_before(1500 * RECORD + 1).unwrap();
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
    world.queues.remove_before(u64::MAX).unwrap();
    assert_eq!(ranges(&world.queues), [(1000, 1000); 3]);
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
}

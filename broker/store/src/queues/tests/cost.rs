//! What many queues and deep ones cost, counted: bytes written and read, files, memory.

use rocket_mapped_file::disk::DiskDirectory;

use super::*;

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

//! Readers that are far behind: they wait for the disk where nobody else does, and leave the page cache as it was. Shown by
//! what the kernel is told; what comes of it on a real disk, `rocket-bench` tells.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::time::Duration;

use rocket_mapped_file::Advice;
use rocket_mapped_file::memory::MemoryDirectory;
use rocket_protocol::QueueId;
use rocket_store::{
    Engine, Flush, GetResult, GetStatus, LocalPolicy, NoEvents, NotInMemory, Promise, ReadLimits,
    Step, StoreConfig,
};

use crate::support::{Tell, TestClock, clock, message, topic};
use crate::watched::{Cache, Piece, Watched};

const SEGMENT_BYTES: u64 = 8 << 20;
const RECORDS: usize = 240;
const BODY_BYTES: usize = 100_000;
const LIMITS: (ReadLimits, ReadLimits) = (
    ReadLimits {
        messages_max: 8,
        bytes_max: 256 << 10,
    },
    ReadLimits {
        messages_max: 4,
        bytes_max: 256 << 10,
    },
);

struct World {
    dir: Watched,
    clock: Arc<TestClock>,
    engine: Option<Engine<Tell>>,
}

impl World {
    /// A log of 23 MiB that an earlier process wrote; nothing of it is in memory.
    fn new() -> Self {
        let mut world = Self {
            dir: Watched::new(MemoryDirectory::default()),
            clock: clock(1_800_000_000_000),
            engine: None,
        };
        world.open();
        (0..RECORDS).for_each(|number| world.send(number));
        world.open();
        *world.dir.cache() = Cache::default();
        world
    }

    fn open(&mut self) {
        if let Some(engine) = self.engine.take() {
            drop(engine);
        }
        let config = StoreConfig {
            segment_bytes: SEGMENT_BYTES,
            index_slots: 16,
            index_entries: 1024,
            catch_up_bytes: 8 << 20,
            catch_up_bytes_per_second: 16 << 20,
            memory_bytes: 4 << 20,
            ..StoreConfig::default()
        };
        let (engine, _) = Engine::open(
            config,
            self.dir.disk(),
            Arc::clone(&self.clock) as _,
            Arc::new(LocalPolicy { flush: Flush::Sync }),
            Arc::new(NoEvents),
        )
        .unwrap();
        self.engine = Some(engine);
    }

    fn engine(&self) -> &Engine<Tell> {
        self.engine.as_ref().unwrap()
    }

    fn send(&self, number: usize) {
        let body = vec![u8::try_from(number % 251).unwrap(); BODY_BYTES];
        let (tell, _) = channel();
        let message = message("t", 0, body, "");
        let engine = self.engine();
        let taken = engine.append(&[message.as_ref()], Promise::Kept, Tell(tell));
        assert!(taken.is_ok());
        engine.write_step();
        self.engine().flush_step(0);
        while self.engine().dispatch_step() == Step::Worked {}
    }

    fn in_memory(&self, from: usize) -> Result<GetResult, NotInMemory> {
        let from = i64::try_from(from).unwrap();
        self.engine()
            .get_in_memory(&topic("t"), QueueId(0), from, LIMITS, &|_, _| true)
    }

    fn catching_up(&self, from: usize) -> GetResult {
        let from = i64::try_from(from).unwrap();
        self.engine()
            .get_catching_up(&topic("t"), QueueId(0), from, LIMITS, &|_, _| true)
    }

    fn advised(&self, advice: Advice) -> Vec<Piece> {
        let cache = self.dir.cache();
        let of = cache.advised.iter().filter(|(given, _)| *given == advice);
        of.map(|(_, piece)| piece.clone()).collect()
    }
}

/// Reads on from `from` to the end, as a broker does: from memory where that is possible. Returns how often it was not.
fn read_on(world: &World, mut from: usize, to: usize) -> usize {
    let mut waited = 0;
    while from < to {
        let result = world.in_memory(from).unwrap_or_else(|NotInMemory| {
            waited += 1;
            world.catching_up(from)
        });
        assert_eq!(result.status, GetStatus::Found);
        let mut bytes = result.chunks.concat();
        for number in from..from + result.messages as usize {
            let (record, len) = rocket_protocol::RecordView::parse(&bytes).unwrap();
            assert_eq!(
                record.queue_offset().to_wire(),
                i64::try_from(number).unwrap()
            );
            assert!(
                record
                    .body()
                    .iter()
                    .all(|byte| usize::from(*byte) == number % 251)
            );
            bytes.drain(..len);
        }
        assert!(bytes.is_empty());
        from = usize::try_from(result.next_begin).unwrap();
    }
    waited
}

#[test]
fn who_is_behind_has_it_fetched_ahead_and_given_up_behind() {
    let world = World::new();
    assert_eq!(world.in_memory(0).err(), Some(NotInMemory));
    assert!(read_on(&world, 0, RECORDS) > 0);
    let fetched = world.advised(Advice::WillNeed);
    let once: BTreeSet<_> = fetched.iter().collect();
    assert_eq!(once.len(), fetched.len(), "each piece is fetched once");
    // All but the piece that the log ended in, which the new process writes to.
    assert_eq!(once.len(), 23);
    let mut sorted = fetched.clone();
    sorted.sort();
    assert_eq!(sorted, fetched, "in order");
    let given_up = world.advised(Advice::DontNeed);
    assert_eq!(given_up, fetched[..fetched.len() - 8], "oldest first");
    let cache = world.dir.cache();
    assert_eq!(cache.faults, 0, "nobody waited in a map");
    assert!(
        cache.resident_max <= 10,
        "{} MiB at once",
        cache.resident_max
    );
}

/// Flushes here take no time at all, so the reader's rate stays what it is at first.
#[test]
fn who_fetches_pauses_for_the_sake_of_flushes_and_who_reads_what_is_there_does_not() {
    let world = World::new();
    assert_eq!(world.engine().catch_up_pause(), Duration::ZERO);
    world.catching_up(0);
    let pause = world.engine().catch_up_pause();
    let of_five_mib = Duration::from_secs(5) / 16;
    let credit = Duration::from_millis(50);
    assert_eq!(pause + credit, of_five_mib);
    // What was fetched ahead costs nothing more.
    world.catching_up(2);
    assert_eq!(world.engine().catch_up_pause(), pause);
}

#[test]
fn what_was_in_memory_before_stays_and_is_read_without_waiting() {
    let world = World::new();
    let warm: BTreeSet<Piece> = (0..8)
        .map(|piece| (format!("commitlog/{SEGMENT_BYTES:020}"), piece))
        .collect();
    world.dir.cache().resident = warm.clone();
    let within = 100;
    assert_eq!(read_on(&world, within, within + 16), 0);
    let asked = world.dir.cache().asked;
    assert_eq!(read_on(&world, within, within + 16), 0);
    assert_eq!(world.dir.cache().asked, asked, "a look counts for a while");
    world.clock.0.fetch_add(2_000, Ordering::Relaxed);
    assert_eq!(read_on(&world, within, within + 16), 0);
    assert!(world.dir.cache().asked > asked);
    read_on(&world, 0, RECORDS);
    let cache = world.dir.cache();
    assert!(warm.is_subset(&cache.resident));
    assert!(cache.advised.iter().all(|(_, piece)| !warm.contains(piece)));
    assert_eq!(cache.faults, 0);
}

#[test]
fn what_this_process_wrote_is_read_without_a_look_and_never_given_up() {
    let world = World::new();
    (RECORDS..RECORDS + 100).for_each(|number| world.send(number));
    let written = world.dir.cache().resident.clone();
    // The first of them lie in a piece that the earlier process began.
    assert_eq!(read_on(&world, RECORDS, RECORDS + 100), 0);
    assert_eq!(world.dir.cache().asked, 0);
    read_on(&world, 0, RECORDS + 100);
    let cache = world.dir.cache();
    assert!(written.is_subset(&cache.resident), "all is still there");
    assert_eq!(cache.faults, 0);
}

#[test]
fn how_far_behind_a_read_begins_decides_how_much_it_gives() {
    let world = World::new();
    (RECORDS..RECORDS + 100).for_each(|number| world.send(number));
    assert_eq!(world.catching_up(0).bytes / BODY_BYTES, 2, "bytes bound it");
    let near = world.in_memory(RECORDS + 80).unwrap();
    assert_eq!(near.messages, 2);
    let small = ReadLimits {
        messages_max: 1,
        bytes_max: 1 << 20,
    };
    let large = ReadLimits {
        messages_max: 5,
        bytes_max: 1 << 20,
    };
    let get = |from: usize| {
        let from = i64::try_from(from).unwrap();
        let engine = world.engine();
        engine
            .get_in_memory(&topic("t"), QueueId(0), from, (large, small), &|_, _| true)
            .unwrap()
            .messages
    };
    assert_eq!((get(RECORDS), get(RECORDS + 80)), (1, 5));
}

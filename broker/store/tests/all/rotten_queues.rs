//! Extents of queues that rot and that no reader meets: retention goes on beside them, whoever finds them leaves a note, and
//! the next start builds the queues again.

use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rocket_mapped_file::Directory as _;
use rocket_mapped_file::memory::MemoryDirectory;
use rocket_protocol::{GroupName, QueueId, QueueOffset, UnixMillis};
use rocket_store::{
    Arrival, Boundary, Engine, Flush, FlushFailure, GetStatus, Health, LocalPolicy, OpenError,
    Promise, QueueLogConfig, ReadLimits, Reader, Readers, Removed, Retention, Step, StoreConfig,
    StoreEvents,
};

use crate::support::{Tell, TestClock, clock, message_of, small, topic};

const T0: i64 = 1_800_000_000_000;
const SEGMENT: u64 = 64 << 10;
/// A start compares every fourth of them with the log, the first one among them.
const QUEUES: u32 = 200;
const ROTTEN: u32 = 7;
const UNITS: &str = ".units";
const MARK: &str = "rocket/queues/damaged";

#[derive(Default)]
struct Heard(Mutex<Vec<Removed>>);

impl StoreEvents for Heard {
    fn arrived(&self, _: &[Arrival]) {}
    fn failed(&self, _: &FlushFailure) {}
    fn removed(&self, removed: &Removed) {
        self.0.lock().unwrap().push(removed.clone());
    }
}

/// A group that is gone, and had consumed nothing of the queue beside the rotten one.
struct Gone;

impl Readers for Gone {
    fn readers(&self, _: UnixMillis) -> Vec<Reader> {
        vec![Reader {
            group: GroupName::parse("gone").unwrap(),
            topic: topic("t"),
            queue_id: QueueId(ROTTEN + 1),
            next: QueueOffset(0),
            is_live: false,
        }]
    }
}

struct World {
    engine: Engine<Tell>,
    dir: MemoryDirectory,
    clock: Arc<TestClock>,
    heard: Arc<Heard>,
    /// Place and queue of every message.
    sent: Vec<(u64, u32)>,
}

impl World {
    fn new() -> Self {
        Self::with(20_000)
    }

    /// Files of units have so many bytes.
    fn with(file_bytes: u64) -> Self {
        let (dir, clock) = (MemoryDirectory::default(), clock(T0));
        let heard = Arc::new(Heard::default());
        let engine = open(&dir, &clock, &heard, file_bytes).unwrap();
        engine.set_readers(Arc::new(Gone));
        Self {
            engine,
            dir,
            clock,
            heard,
            sent: Vec::new(),
        }
    }

    /// Sends, flushes and dispatches; the message's place.
    fn send(&mut self, queue: u32, body: usize) -> u64 {
        let (tell, told) = channel();
        let message = message_of("t", queue, body);
        let taken = self
            .engine
            .append(&[message.as_ref()], Promise::Kept, Tell(tell));
        assert!(taken.is_ok());
        self.engine.write_step();
        self.engine.flush_step(0);
        while self.engine.dispatch_step() == Step::Worked {}
        let at = told.try_recv().unwrap().appended.unwrap().physical_offset.0;
        self.sent.push((at, queue));
        at
    }

    /// One message for each queue in turn. Seven rounds are due for a table of the queues.
    fn rounds(&mut self, count: usize) {
        for _ in 0..count {
            for queue in 0..QUEUES {
                self.send(queue, 100);
            }
        }
    }

    /// So much later that what is there has expired.
    fn pass(&self) {
        self.clock.0.fetch_add(100 * 3_600_000, Ordering::Relaxed);
    }

    /// The messages of a queue that lie before `end` of the log.
    fn count(&self, queue: u32, end: u64) -> u64 {
        let of_queue = self
            .sent
            .iter()
            .filter(|(at, of)| *of == queue && *at < end);
        of_queue.count() as u64
    }

    fn unit_files(&self) -> usize {
        let names = self.dir.list_names("rocket/queues");
        let units = names.iter().filter(|name| name.ends_with(UNITS));
        units.count()
    }

    /// Flips a bit in the head of the extent of the rotten queue that begins with the unit `first`.
    fn rot(&self, first: u64) {
        for name in self.dir.list_names("rocket/queues") {
            let path = format!("rocket/queues/{name}");
            let bytes = self.dir.read(&path).unwrap().unwrap();
            let is_it = |head: &[u8]| {
                head.starts_with(b"RKX1")
                    && head[12..16] == ROTTEN.to_be_bytes()
                    && head[16..] == first.to_be_bytes()
            };
            if let Some(at) = bytes.windows(24).position(is_it) {
                self.dir.flip(&path, at + 20);
                return;
            }
        }
        panic!("there is no such extent");
    }

    /// The next start after a kill.
    fn next(&self) -> Result<Engine<Tell>, OpenError> {
        open(&self.dir.killed(), &self.clock, &Arc::default(), 20_000)
    }
}

fn open(
    dir: &MemoryDirectory,
    clock: &Arc<TestClock>,
    heard: &Arc<Heard>,
    file_bytes: u64,
) -> Result<Engine<Tell>, OpenError> {
    let config = StoreConfig {
        segment_bytes: SEGMENT,
        queue_log: QueueLogConfig {
            file_bytes,
            journal_bytes: 100_000,
            extent_units: 16,
            table_units: 100,
        },
        retention: Retention {
            reserved: Duration::from_hours(72),
            delete_when: (0..24).collect(),
            files_per_round: 100,
            ..StoreConfig::default().retention
        },
        ..small("unused".as_ref())
    };
    let opened = Engine::open(
        config,
        Arc::new(dir.clone()),
        Arc::clone(clock) as _,
        Arc::new(LocalPolicy { flush: Flush::Sync }),
        Arc::clone(heard) as _,
    );
    opened.map(|(engine, _)| engine)
}

fn range(engine: &Engine<Tell>, queue: u32) -> (u64, u64) {
    let range = engine.queue_range(&topic("t"), QueueId(queue)).unwrap();
    (range.min.0, range.max.0)
}

/// How many messages of a queue a consumer from the beginning gets.
fn consumed(engine: &Engine<Tell>, queue: u32) -> usize {
    let (min, max) = range(engine, queue);
    let limits = ReadLimits {
        messages_max: 32,
        bytes_max: 64 << 10,
    };
    let (mut next, mut count) = (min.cast_signed(), 0);
    while next < max.cast_signed() {
        let result = engine.get(&topic("t"), QueueId(queue), next, limits, &|_, _| true);
        assert!(
            matches!(
                result.status,
                GetStatus::Found | GetStatus::MessageWasRemoving
            ),
            "{result:?}"
        );
        next = result.next_begin;
        count += result.messages as usize;
    }
    count
}

#[test]
fn what_expired_goes_beside_a_queue_that_rots_and_the_rot_is_noted() {
    let mut world = World::new();
    world.rounds(7);
    world.engine.checkpoint_step();
    world.rounds(4);
    world.pass();
    world.rounds(3);
    world.engine.checkpoint_step();
    let before = world.unit_files();
    // The extent of which some messages expire.
    world.rot(7);
    world.engine.retention_step();
    let log_min = world.engine.positions().min.0;
    let lost = world.count(ROTTEN + 1, log_min);
    assert!((8..14).contains(&lost), "{lost}");
    assert!(
        world.unit_files() < before,
        "files of units that nobody needs go: {before}"
    );
    {
        let heard = world.heard.0.lock().unwrap();
        assert_eq!(heard.len(), 1);
        let of = |queue| {
            let mut messages = heard[0].messages.iter();
            messages.find(|(_, id, _)| *id == QueueId(queue))
        };
        assert_eq!(of(ROTTEN + 1).unwrap().2, lost);
        assert_eq!(of(ROTTEN), None, "nobody knows");
        let unconsumed = &heard[0].unconsumed;
        assert_eq!((unconsumed.len(), unconsumed[0].to.0), (1, lost));
    }
    assert!(world.dir.read(MARK).unwrap().is_some(), "it is noted");
    world.engine.checkpoint_step();
    assert!(matches!(world.engine.health(), Health::ReadOnly { .. }));
    let engine = world.next().unwrap();
    assert_eq!(engine.health(), Health::Writable);
    let left = world.count(ROTTEN, u64::MAX) - world.count(ROTTEN, log_min);
    assert_eq!(consumed(&engine, ROTTEN) as u64, left);
}

#[test]
fn of_a_queue_that_stands_still_nothing_is_read_when_its_messages_expire() {
    // The file with the extent stays: others need it.
    let mut world = World::with(1 << 20);
    world.rounds(7);
    world.engine.checkpoint_step();
    for n in 0..250 {
        if n == 100 {
            world.pass();
        }
        world.send(0, 1000);
    }
    world.engine.checkpoint_step();
    world.rot(0);
    world.engine.retention_step();
    assert_eq!(range(&world.engine, ROTTEN), (7, 7));
    {
        let heard = world.heard.0.lock().unwrap();
        let mut messages = heard.iter().flat_map(|removed| &removed.messages);
        let of_rotten = messages.find(|(_, id, _)| *id == QueueId(ROTTEN));
        assert_eq!(of_rotten.unwrap().2, 7);
    }
    world.engine.checkpoint_step();
    assert_eq!(world.engine.health(), Health::Writable);
    assert_eq!(world.dir.read(MARK).unwrap(), None);
}

/// The message behind the gap asks for the queue's first one, which nobody has looked for since retention took some.
#[test]
fn a_start_that_ends_at_a_rotten_extent_is_the_only_one() {
    let mut world = World::new();
    world.rounds(4);
    world.pass();
    world.rounds(3);
    world.engine.checkpoint_step();
    world.engine.retention_step();
    let min = world.count(ROTTEN, world.engine.positions().min.0);
    assert!((1..7).contains(&min), "{min}");
    let damaged = world.send(ROTTEN, 100);
    world.send(ROTTEN, 100);
    world.engine.mark_step();
    let start = damaged / SEGMENT * SEGMENT;
    let in_body = usize::try_from(damaged - start).unwrap() + 120;
    world.dir.flip(&format!("commitlog/{start:020}"), in_body);
    world.rot(0);
    let dir = world.dir.killed();
    let open = || open(&dir, &world.clock, &Arc::default(), 20_000);
    let first = open().map(|_| ());
    assert!(matches!(first, Err(OpenError::Failed(_))), "{first:?}");
    let engine = open().unwrap();
    assert_eq!(range(&engine, ROTTEN), (min, 9));
    // All but the damaged one.
    assert_eq!(consumed(&engine, ROTTEN) as u64, 8 - min);
}

#[test]
fn a_search_by_time_notes_the_rot_that_it_meets() {
    let mut world = World::new();
    world.rounds(7);
    world.engine.checkpoint_step();
    world.rot(0);
    let (name, time) = (topic("t"), UnixMillis(T0));
    let ask = |queue| {
        let boundary = Boundary::Lower;
        let engine = &world.engine;
        engine.offset_by_time(&name, QueueId(queue), time, boundary)
    };
    assert_eq!(ask(ROTTEN + 1).unwrap(), 0);
    assert!(ask(ROTTEN).is_err());
    assert!(world.dir.read(MARK).unwrap().is_some());
    world.engine.checkpoint_step();
    assert!(matches!(world.engine.health(), Health::ReadOnly { .. }));
    let engine = world.next().unwrap();
    assert_eq!(consumed(&engine, ROTTEN), 7);
}

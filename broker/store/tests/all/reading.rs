//! The answers of reads for every kind of offset, and searches by time, over the disk in memory.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;

use rocket_mapped_file::memory::MemoryDirectory;
use rocket_protocol::{PhysicalOffset, QueueId, TopicName, UnixMillis};
use rocket_store::{
    Boundary, CommitPolicy, Ends, Engine, GetResult, GetStatus, LocalEnds, NoEvents, Promise,
    PutStatus, QueueLogConfig, ReadLimits, RemovalReason, Removed, Step, StoreConfig, StoreEvents,
};

use crate::support::{Tell, TestClock, clock, message, topic};

const LIMITS: ReadLimits = ReadLimits {
    messages_max: 32,
    bytes_max: 1 << 20,
};
const T0: i64 = 1_800_000_000_000;

/// Shows consumers only the first bytes.
struct UpTo(std::sync::atomic::AtomicU64);

impl CommitPolicy for UpTo {
    fn ends(&self, local: LocalEnds) -> Ends {
        let end = local
            .durable
            .min(PhysicalOffset(self.0.load(Ordering::Relaxed)));
        Ends {
            committed: end,
            answered: end,
            visible: end,
        }
    }

    fn may_append(&self) -> Result<(), PutStatus> {
        Ok(())
    }
}

pub(crate) struct World {
    pub(crate) engine: Engine<Tell>,
    clock: Arc<TestClock>,
    limit: Arc<UpTo>,
    dir: MemoryDirectory,
    pub(crate) topic: TopicName,
}

impl World {
    pub(crate) fn new(events: Arc<dyn StoreEvents>) -> Self {
        let config = StoreConfig {
            segment_bytes: 4096,
            queue_log: QueueLogConfig {
                file_bytes: 1000,
                journal_bytes: 500,
                extent_units: 4,
                table_units: 20,
            },
            index_slots: 16,
            index_entries: 64,
            ..StoreConfig::default()
        };
        let clock = clock(T0);
        let dir = MemoryDirectory::default();
        let limit = Arc::new(UpTo(u64::MAX.into()));
        let policy = Arc::clone(&limit) as Arc<dyn CommitPolicy>;
        let (engine, _) = Engine::open(
            config,
            Arc::new(dir.clone()),
            Arc::clone(&clock) as _,
            policy,
            events,
        )
        .unwrap();
        Self {
            engine,
            clock,
            limit,
            dir,
            topic: topic("t"),
        }
    }

    fn send_at(&self, time: i64, body: usize) {
        self.send_to(0, time, body);
    }

    /// Sends to one of the topic's queues.
    pub(crate) fn send_to(&self, queue: u32, time: i64, body: usize) {
        self.clock.0.store(T0 + time, Ordering::Relaxed);
        let (tell, _) = channel();
        let message = message("t", queue, vec![b'x'; body], "TAGS\u{1}a\u{2}");
        let taken = self
            .engine
            .append(&[message.as_ref()], Promise::Kept, Tell(tell));
        assert!(taken.is_ok());
        self.engine.write_step();
        self.engine.flush_step(0);
        while self.engine.dispatch_step() == Step::Worked {}
    }

    fn get(&self, from: i64) -> GetResult {
        self.engine
            .get(&self.topic, QueueId(0), from, LIMITS, &|_, _| true)
    }

    fn status(&self, from: i64) -> (GetStatus, i64) {
        let result = self.get(from);
        (result.status, result.next_begin)
    }

    fn by_time(&self, time: i64, boundary: Boundary) -> i64 {
        self.search(0, time, boundary)
    }

    /// The queue offset at a time.
    pub(crate) fn search(&self, queue: u32, time: i64, boundary: Boundary) -> i64 {
        let time = UnixMillis(T0 + time);
        self.engine
            .offset_by_time(&self.topic, QueueId(queue), time, boundary)
            .unwrap()
    }

    /// Has retention find the disk full to so much.
    pub(crate) fn fill_disk(&self, percent: u64) {
        self.engine.look_at_disk();
        let used = self.engine.disk_usage().used;
        self.dir.set_capacity(used * 100 / percent);
        self.engine.retention_step();
    }
}

#[test]
fn every_kind_of_offset_has_rocketmqs_answer() {
    let world = World::new(Arc::new(NoEvents));
    assert_eq!(world.status(5), (GetStatus::NoMatchedLogicQueue, 0));
    (0..4).for_each(|time| world.send_at(time, 10));
    assert_eq!(world.status(0), (GetStatus::Found, 4));
    assert_eq!(world.status(3), (GetStatus::Found, 4));
    assert_eq!(world.status(4), (GetStatus::OffsetOverflowOne, 4));
    assert_eq!(world.status(9), (GetStatus::OffsetOverflowBadly, 4));
    assert_eq!(world.status(-1), (GetStatus::OffsetTooSmall, 0));
    let adjacent = world.get(0);
    assert_eq!(
        (adjacent.chunks.len(), adjacent.messages),
        (1, 4),
        "adjacent records share a chunk"
    );
    let none = world
        .engine
        .get(&world.topic, QueueId(0), 1, LIMITS, &|_, _| false);
    assert_eq!(
        (none.status, none.next_begin),
        (GetStatus::NoMatchedMessage, 4)
    );
}

#[test]
fn limits_end_a_read_but_one_message_always_comes() {
    let world = World::new(Arc::new(NoEvents));
    (0..4).for_each(|time| world.send_at(time, 500));
    let read = |messages_max, bytes_max| {
        let result = world.engine.get(
            &world.topic,
            QueueId(0),
            0,
            ReadLimits {
                messages_max,
                bytes_max,
            },
            &|_, _| true,
        );
        (result.messages, result.next_begin)
    };
    assert_eq!(read(2, 1 << 20), (2, 2));
    assert_eq!(read(32, 1), (1, 1));
    assert_eq!(read(32, 1300), (2, 2));
}

#[test]
fn what_is_not_visible_is_waited_for_and_not_out_of_range() {
    let world = World::new(Arc::new(NoEvents));
    world.send_at(0, 10);
    let first = world.engine.positions().appended.0;
    world.limit.0.store(first, Ordering::Relaxed);
    world.send_at(1, 10);
    world.send_at(2, 10);
    assert_eq!(world.get(0).messages, 1);
    assert_eq!(world.status(1), (GetStatus::OffsetOverflowOne, 1));
    assert_eq!(world.status(3), (GetStatus::OffsetOverflowOne, 3));
    assert_eq!(world.status(4), (GetStatus::OffsetOverflowBadly, 1));
    assert_eq!(world.engine.record_at(PhysicalOffset(first)), None);
    world.limit.0.store(u64::MAX, Ordering::Relaxed);
    world.engine.settle();
    while world.engine.dispatch_step() == Step::Worked {}
    assert_eq!(world.get(0).messages, 3);
}

#[test]
fn a_time_between_messages_has_a_lower_and_an_upper_side() {
    let world = World::new(Arc::new(NoEvents));
    for time in [10, 10, 10, 30, 30] {
        world.send_at(time, 10);
    }
    let both = |time| {
        (
            world.by_time(time, Boundary::Lower),
            world.by_time(time, Boundary::Upper),
        )
    };
    assert_eq!(both(5), (0, 0));
    assert_eq!(both(10), (0, 2));
    assert_eq!(both(20), (3, 2));
    assert_eq!(both(30), (3, 4));
    assert_eq!(both(40), (5, 4));
    assert_eq!(
        world.engine.earliest_store_time(&world.topic, QueueId(0)),
        Some(UnixMillis(T0 + 10))
    );
}

#[derive(Default)]
struct Heard(std::sync::Mutex<Vec<Removed>>);

impl StoreEvents for Heard {
    fn arrived(&self, _: &[rocket_store::Arrival]) {}
    fn failed(&self, _: &rocket_store::FlushFailure) {}
    fn removed(&self, removed: &Removed) {
        self.0.lock().unwrap().push(removed.clone());
    }
}

#[test]
fn a_filling_disk_removes_the_oldest_file_then_refuses_and_recovers_by_itself() {
    let heard = Arc::new(Heard::default());
    let world = World::new(Arc::clone(&heard) as Arc<dyn StoreEvents>);
    (0..12).for_each(|time| world.send_at(time, 1000));
    assert_eq!(world.status(0).0, GetStatus::Found);
    world.fill_disk(88);
    let removed = heard.0.lock().unwrap().clone();
    assert_eq!(
        removed.first().map(|removed| removed.reason),
        Some(RemovalReason::Forced)
    );
    let gone: u64 = removed
        .iter()
        .flat_map(|removed| &removed.messages)
        .map(|(_, _, count)| count)
        .sum();
    let (status, min) = world.status(0);
    assert_eq!(
        (status, min),
        (GetStatus::OffsetTooSmall, i64::try_from(gone).unwrap())
    );
    assert_eq!(world.engine.stats().messages_removed, gone);
    assert_eq!(
        world.get(min).messages,
        u32::try_from(12 - gone).unwrap().min(32)
    );

    world.dir.set_capacity(world.engine.disk_usage().used);
    world.engine.look_at_disk();
    let (tell, _told) = channel();
    let message = message("t", 0, "x", "");
    let append = || {
        world
            .engine
            .append(&[message.as_ref()], Promise::Kept, Tell(tell.clone()))
    };
    assert!(matches!(append(), Err(rocket_store::Refused::DiskFull(_))));
    world.dir.set_capacity(u64::MAX);
    world.engine.look_at_disk();
    assert!(append().is_ok());
}

#[test]
fn no_room_for_another_file_refuses_until_there_is() {
    let world = World::new(Arc::new(NoEvents));
    world.send_at(0, 3000);
    world.dir.set_capacity(0);
    let (tell, told) = channel();
    let message = message("t", 0, vec![1; 3000], "");
    let append = || {
        world
            .engine
            .append(&[message.as_ref()], Promise::Kept, Tell(tell.clone()))
    };
    for _ in 0..2 {
        assert!(matches!(append(), Err(rocket_store::Refused::DiskFull(_))));
    }
    world.dir.set_capacity(u64::MAX);
    world.engine.prepare_step();
    assert!(append().is_ok());
    world.engine.write_step();
    world.engine.flush_step(0);
    assert_eq!(told.recv().unwrap().appended.unwrap().queue_offset.0, 1);
}

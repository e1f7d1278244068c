//! Retention against a list of what was sent and read: by age and size, past consumers only when that is allowed, and then
//! with names.

mod age_and_size;
mod full_disk;
mod walks;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rocket_mapped_file::memory::MemoryDirectory;
use rocket_protocol::{GroupName, QueueId, QueueOffset, UnixMillis};
use rocket_store::{
    Arrival, Engine, Flush, FlushFailure, LocalPolicy, Promise, QueueLogConfig, Reader, Readers,
    Refused, Removed, Retention, Step, StoreConfig, StoreEvents,
};

use crate::support::{Tell, TestClock, clock, message_of, topic};

const T0: i64 = 1_800_000_000_000;
const HOUR: i64 = 3_600_000;
const FILE: u64 = 4096;
const RESERVED_HOURS: u64 = 72;
const EXTRA_HOURS: u64 = 24;

#[derive(Default)]
struct Heard(Mutex<Vec<Removed>>);

impl StoreEvents for Heard {
    fn arrived(&self, _: &[Arrival]) {}
    fn failed(&self, failure: &FlushFailure) {
        panic!("{failure:?}");
    }
    fn removed(&self, removed: &Removed) {
        self.0.lock().unwrap().push(removed.clone());
    }
}

/// What groups consume next, and whether they live. By number of the group and the queue.
#[derive(Default)]
struct Groups(Mutex<BTreeMap<(u32, u32), (u64, bool)>>);

impl Groups {
    fn set(&self, group: u32, queue: u32, next: u64, is_live: bool) {
        self.0
            .lock()
            .unwrap()
            .insert((group, queue), (next, is_live));
    }
}

fn group(number: u32) -> GroupName {
    GroupName::parse(&format!("g{number}")).unwrap()
}

impl Readers for Groups {
    fn readers(&self, _: UnixMillis) -> Vec<Reader> {
        let groups = self.0.lock().unwrap();
        groups
            .iter()
            .map(|((number, queue), (next, is_live))| Reader {
                group: group(*number),
                topic: topic("t"),
                queue_id: QueueId(*queue),
                next: QueueOffset(*next),
                is_live: *is_live,
            })
            .collect()
    }
}

struct World {
    engine: Engine<Tell>,
    dir: MemoryDirectory,
    clock: Arc<TestClock>,
    heard: Arc<Heard>,
    groups: Arc<Groups>,
    /// Place, queue, queue offset and time of every message.
    sent: Vec<(u64, u32, u64, i64)>,
}

impl World {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut StoreConfig)) -> Self {
        let world = Self::without_readers(change);
        world.engine.set_readers(Arc::clone(&world.groups) as _);
        world
    }

    fn without_readers(change: impl FnOnce(&mut StoreConfig)) -> Self {
        let defaults = StoreConfig::default();
        let mut config = StoreConfig {
            segment_bytes: FILE,
            queue_log: QueueLogConfig {
                file_bytes: 1000,
                journal_bytes: 500,
                extent_units: 4,
                table_units: 20,
            },
            retention: Retention {
                reserved: Duration::from_hours(RESERVED_HOURS),
                unconsumed_extra: Duration::from_hours(EXTRA_HOURS),
                delete_when: (0..24).collect(),
                files_per_round: 3,
                ..defaults.retention
            },
            ..defaults
        };
        change(&mut config);
        let (dir, clock, heard) = (
            MemoryDirectory::default(),
            clock(T0),
            Arc::new(Heard::default()),
        );
        let (engine, _) = Engine::open(
            config,
            Arc::new(dir.clone()),
            Arc::clone(&clock) as _,
            Arc::new(LocalPolicy { flush: Flush::Sync }),
            Arc::clone(&heard) as _,
        )
        .unwrap();
        Self {
            engine,
            dir,
            clock,
            heard,
            groups: Arc::default(),
            sent: Vec::new(),
        }
    }

    fn now(&self) -> i64 {
        self.clock.0.load(Ordering::Relaxed)
    }

    fn pass(&self, hours: i64) {
        self.clock.0.fetch_add(hours * HOUR, Ordering::Relaxed);
    }

    /// `false`: refused because the disk is full.
    fn send(&mut self, queue: u32, body: usize) -> bool {
        let (tell, told) = channel();
        let message = message_of("t", queue, body);
        match self
            .engine
            .append(&[message.as_ref()], Promise::Kept, Tell(tell))
        {
            Ok(()) => {}
            Err(Refused::DiskFull(_)) => return false,
            Err(other) => panic!("{:?}", other.into_parts().1),
        }
        self.engine.write_step();
        self.engine.flush_step(0);
        while self.engine.dispatch_step() == Step::Worked {}
        let appended = told.try_recv().unwrap().appended.unwrap();
        let (at, offset) = (appended.physical_offset.0, appended.queue_offset.0);
        self.sent.push((at, queue, offset, self.now()));
        true
    }

    /// Files that are there.
    fn files(&self) -> usize {
        self.dir.list_names("commitlog").len()
    }

    /// Sets the size of the disk so that it is so full.
    fn fill_disk(&self, percent: u64) {
        self.engine.look_at_disk();
        let used = self.engine.disk_usage().used;
        self.dir.set_capacity(used * 100 / percent);
        self.engine.look_at_disk();
    }

    /// What retention did since the last call.
    fn heard(&self) -> Vec<Removed> {
        std::mem::take(&mut *self.heard.0.lock().unwrap())
    }

    fn retain(&self) -> Vec<Removed> {
        assert_eq!(self.engine.retention_step(), Step::Idle);
        self.heard()
    }
}

/// So many files of one message each, and what follows.
fn filled(world: &mut World, files: usize) {
    (0..files).for_each(|_| assert!(world.send(0, 3800)));
}

//! Retention against a list of what was sent and read: by age and size, past consumers only when that is allowed, and then
//! with names.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use rocket_mapped_file::Directory as _;
use rocket_mapped_file::memory::{Faults, MemoryDirectory};
use rocket_protocol::{GroupName, QueueId, QueueOffset, UnixMillis};
use rocket_store::{
    Arrival, Engine, Flush, FlushFailure, LocalPolicy, Promise, QueueLogConfig, Reader, Readers,
    Refused, RemovalReason, Removed, Retention, Step, StoreConfig, StoreEvents, Unconsumed,
    Watermarks,
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

    /// When the newest message of the file that ends at `end` was stored, as retention sees it.
    fn newest(&self, end: u64) -> i64 {
        let next = self.sent.iter().find(|(at, ..)| *at >= end);
        next.map_or(i64::MAX, |(.., time)| *time)
    }

    fn is_overdue(&self, end: u64, hours: u64) -> bool {
        self.newest(end)
            .checked_add(i64::try_from(hours).unwrap() * HOUR)
            .is_some_and(|until| self.now() > until)
    }

    /// Groups that had not consumed a message in `from..to`, with what they lost; of live ones, or of all.
    fn readers_of(&self, from: u64, to: u64, live_only: bool) -> Vec<Unconsumed> {
        let groups = self.groups.0.lock().unwrap();
        let mut lost = Vec::new();
        for ((number, queue), (next, is_live)) in &*groups {
            let unread = self.sent.iter().filter(|(at, of, offset, _)| {
                (from..to).contains(at) && of == queue && offset >= next
            });
            let offsets: Vec<u64> = unread.map(|(_, _, offset, _)| *offset).collect();
            if let (Some(first), Some(last)) = (offsets.first(), offsets.last())
                && (*is_live || !live_only)
            {
                lost.push(Unconsumed {
                    group: group(*number),
                    topic: topic("t"),
                    queue_id: QueueId(*queue),
                    from: QueueOffset(*first),
                    to: QueueOffset(last + 1),
                });
            }
        }
        lost
    }

    /// What must hold of one removal.
    fn check(&self, removed: &Removed, was_forced: bool) {
        let mut named = removed.unconsumed.clone();
        named.sort_by_key(|lost| {
            let number = lost.group.as_str()[1..].parse::<u32>().unwrap();
            (number, lost.queue_id)
        });
        assert_eq!(
            named,
            self.readers_of(removed.from.0, removed.to.0, false),
            "who lost what is named, exactly"
        );
        let counted: u64 = removed.messages.iter().map(|(_, _, count)| count).sum();
        let gone = self
            .sent
            .iter()
            .filter(|(at, ..)| (removed.from.0..removed.to.0).contains(at));
        assert_eq!(counted, gone.count() as u64);
        if removed.reason == RemovalReason::Forced {
            assert!(was_forced, "below the hard limit nothing is forced");
            return;
        }
        let mut start = removed.from.0;
        while start < removed.to.0 {
            let end = start + FILE;
            let unread = self.readers_of(start, end, true);
            assert!(
                unread.is_empty() || self.is_overdue(end, RESERVED_HOURS + EXTRA_HOURS),
                "past a live group below the hard limit: {unread:?}"
            );
            start = end;
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Send { queue: u32, body: usize },
    Pass { hours: i64 },
    Read { group: u32, queue: u32, share: u64 },
    Go { group: u32 },
    Fill { percent: u64 },
    Free,
    Retain,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..3_u32, 0..3000_usize).prop_map(|(queue, body)| Op::Send { queue, body }),
        2 => (1..60_i64).prop_map(|hours| Op::Pass { hours }),
        4 => (0..4_u32, 0..3_u32, 0..=100_u64)
            .prop_map(|(group, queue, share)| Op::Read { group, queue, share }),
        1 => (0..4_u32).prop_map(|group| Op::Go { group }),
        1 => (50..100_u64).prop_map(|percent| Op::Fill { percent }),
        1 => Just(Op::Free),
        3 => Just(Op::Retain),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn below_the_hard_limit_no_file_goes_before_every_live_group_has_consumed_it(
        ops in proptest::collection::vec(op(), 1..120),
        bytes_max in proptest::option::of(FILE * 2..FILE * 8),
    ) {
        let mut world = World::with(|config| {
            config.retention.bytes_max = bytes_max.unwrap_or(u64::MAX);
        });
        for op in ops {
            match op {
                Op::Send { queue, body } => {
                    world.send(queue, body);
                }
                Op::Pass { hours } => world.pass(hours),
                Op::Read { group, queue, share } => {
                    let end = world.sent.iter().filter(|(_, of, ..)| *of == queue).count() as u64;
                    world.groups.set(group, queue, end * share / 100, true);
                }
                Op::Go { group } => {
                    let mut groups = world.groups.0.lock().unwrap();
                    for ((of, _), (_, is_live)) in &mut *groups {
                        *is_live &= *of != group;
                    }
                }
                Op::Fill { percent } => world.fill_disk(percent),
                Op::Free => world.dir.set_capacity(u64::MAX),
                Op::Retain => {
                    // What it writes beforehand takes room too.
                    world.engine.checkpoint_step();
                    world.engine.look_at_disk();
                    // Above the mark, or where the next log file has no room.
                    let disk = world.engine.disk_usage();
                    let was_forced = disk.ratio > 0.85 || disk.capacity - disk.used < FILE + disk.capacity / 10;
                    while let removals = world.retain()
                        && !removals.is_empty()
                    {
                        for removed in &removals {
                            world.check(removed, was_forced);
                        }
                    }
                    // And nothing is kept without need.
                    let start = world.engine.positions().min.0;
                    let is_old = world.is_overdue(start + FILE, RESERVED_HOURS);
                    prop_assert!(!is_old || !world.readers_of(start, start + FILE, true).is_empty());
                }
            }
        }
    }
}

/// So many files of one message each, and what follows.
fn filled(world: &mut World, files: usize) {
    (0..files).for_each(|_| assert!(world.send(0, 3800)));
}

#[test]
fn a_log_that_is_too_large_loses_its_oldest_files_and_keeps_what_is_not_consumed() {
    let mut world = World::with(|config| config.retention.bytes_max = 3 * FILE);
    filled(&mut world, 6);
    world.groups.set(1, 0, 1, true);
    let removed = world.retain();
    assert_eq!(removed.len(), 1);
    assert_eq!(removed[0].reason, RemovalReason::Oversize);
    assert_eq!((removed[0].to.0, &removed[0].unconsumed), (FILE, &vec![]));
    assert_eq!(world.engine.stats().bytes_held, 2 * FILE);
    world.groups.set(1, 0, 6, true);
    assert_eq!(world.retain().len(), 1);
    assert_eq!((world.files(), world.engine.stats().bytes_held), (3, 0));
}

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
fn a_file_whose_first_message_cannot_be_read_does_not_keep_those_before_it() {
    let mut world = World::with(|config| config.checksum_block_bytes = 512);
    for _ in 0..20 {
        assert!(world.send(0, 1000));
    }
    while world.engine.seal_step() == Step::Worked {}
    world.engine.checkpoint_step();
    world
        .dir
        .break_sectors(&format!("commitlog/{FILE:020}"), 0, 512);
    // What this process wrote counts as compared; the scrubber looks again.
    world.engine.scrub_step(u64::MAX);
    assert_eq!(world.engine.damage().len(), 1);
    world.pass(200);
    assert!(world.send(0, 1000));
    world.retain();
    assert!(world.engine.positions().min.0 >= 2 * FILE);
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
    let removed = world.retain();
    // What else lies on the disk has grown a little meanwhile.
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
fn until_it_is_known_who_reads_nothing_goes_below_the_hard_limit() {
    let mut world = World::without_readers(|_| {});
    filled(&mut world, 4);
    world.pass(73);
    filled(&mut world, 1);
    assert_eq!(world.retain(), []);
    assert!(world.engine.stats().bytes_held > 0);
    world.engine.set_readers(Arc::clone(&world.groups) as _);
    assert_eq!(world.retain().len(), 1);
}

#[test]
fn many_readers_are_looked_at_in_rounds() {
    let mut world = World::with(|config| config.retention.files_per_round = 10);
    filled(&mut world, 8);
    world.pass(73);
    filled(&mut world, 1);
    // Each of them has passed the first four files, which only a look at its unit tells.
    (0..5000).for_each(|number| world.groups.set(number, 0, 4, true));
    assert_eq!(world.engine.retention_step(), Step::Worked);
    assert_eq!(world.heard(), []);
    while world.engine.retention_step() == Step::Worked {}
    let removed = world.heard();
    assert!(!removed.is_empty());
    assert_eq!(world.engine.positions().min.0, 4 * FILE);
    for removed in &removed {
        world.check(removed, false);
    }
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

//! Copies of a log: a master's engine, a slave's engine that follows it, and what must hold between them.
//!
//! - [`copying`]: what is handed out, taken and refused.
//! - [`roles`]: what a change of roles leaves.
//! - [`hidden`]: what a broker hides, and what it keeps.
//! - [`reaching`]: where queues go on whose messages a copy never had.
//! - [`steps`]: a cut that a crash ends at each of its steps.
//! - [`withheld`]: what a repair hides while somebody reads there.
//! - [`model`]: random copies, cuts, elections and crashes against the list of records.

mod copying;
mod hidden;
mod model;
mod reaching;
mod roles;
mod steps;
mod withheld;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;
use rocket_mapped_file::Directory as _;
use rocket_mapped_file::memory::MemoryDirectory;
use rocket_protocol::{Message, PhysicalOffset, QueueId, RecordView, TopicName, UnixMillis};

use crate::test_support::message_with;
use crate::{
    Clock, CommitPolicy, Completion, Ends, Engine, GetStatus, LocalEnds, NoEvents, OpenError,
    Opening, Promise, PutOutcome, PutStatus, QueueLogConfig, ReadLimits, RecordsError,
    RecoveryReport, Refused, StoreConfig,
};

const TOPIC: &str = "orders";
const QUEUES: u32 = 3;
const NOON: i64 = 1_700_000_000_000;

struct Time(AtomicI64);

impl Clock for Time {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::Relaxed))
    }
}

/// What replication says: how much is committed, and whether this copy is the master's.
#[derive(Default)]
struct Role {
    confirm: AtomicU64,
    leads: AtomicBool,
}

impl CommitPolicy for Role {
    fn ends(&self, local: LocalEnds) -> Ends {
        let confirm = self.confirm.load(Ordering::Relaxed);
        let end = PhysicalOffset(confirm).min(local.appended);
        Ends {
            committed: end,
            answered: end,
            visible: end,
        }
    }

    fn may_append(&self) -> Result<(), PutStatus> {
        if self.leads.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err(PutStatus::ServiceNotAvailable("no master".into()))
        }
    }
}

type Outcomes = Arc<Mutex<Vec<PutOutcome>>>;

struct Tell(Outcomes);

impl Completion for Tell {
    fn complete(self, outcome: PutOutcome) {
        self.0.lock().push(outcome);
    }
}

/// One record, or the filler at the end of a file, with its offset.
type Record = (u64, Vec<u8>);

/// One copy.
struct Node {
    dir: MemoryDirectory,
    config: StoreConfig,
    clock: Arc<Time>,
    role: Arc<Role>,
    outcomes: Outcomes,
    engine: Engine<Tell>,
}

fn config(segment_bytes: u64) -> StoreConfig {
    StoreConfig {
        segment_bytes,
        queue_log: QueueLogConfig {
            file_bytes: 1500,
            journal_bytes: 700,
            extent_units: 4,
            table_units: 24,
        },
        index_slots: 16,
        index_entries: 64,
        flush_flights: 3,
        checksum_block_bytes: 512,
        ..StoreConfig::default()
    }
}

impl Node {
    fn new(segment_bytes: u64) -> Self {
        Self::open(MemoryDirectory::default(), config(segment_bytes), 0)
            .unwrap()
            .0
    }

    /// A copy that knows that all before `confirm` is committed.
    fn open(
        dir: MemoryDirectory,
        config: StoreConfig,
        confirm: u64,
    ) -> Result<(Self, RecoveryReport), OpenError> {
        let clock = Arc::new(Time(AtomicI64::new(NOON)));
        let role = Arc::new(Role::default());
        role.confirm.store(confirm, Ordering::Relaxed);
        let (engine, report) = Engine::open(
            config.clone(),
            Arc::new(dir.clone()),
            Arc::clone(&clock) as Arc<dyn Clock>,
            Arc::clone(&role) as Arc<dyn CommitPolicy>,
            Arc::new(NoEvents),
        )?;
        let node = Self {
            dir,
            config,
            clock,
            role,
            outcomes: Outcomes::default(),
            engine,
        };
        Ok((node, report))
    }

    fn end(&self) -> u64 {
        self.engine.positions().appended.0
    }

    /// All before `end` is committed.
    fn confirm(&self, end: u64) {
        self.role.confirm.fetch_max(end, Ordering::Relaxed);
        self.engine.settle();
    }

    fn dispatch(&self) {
        while self.engine.dispatch_step() == crate::Step::Worked {}
    }

    fn flush(&self) {
        while self.engine.flush_step(0) == crate::Step::Worked {}
    }

    /// Takes messages from here on; what it has is committed.
    fn lead(&self) {
        self.confirm(self.end());
        assert_eq!(self.engine.become_writer().unwrap(), Opening::Open);
        self.role.leads.store(true, Ordering::Relaxed);
    }

    fn follow(&self) -> PhysicalOffset {
        self.role.leads.store(false, Ordering::Relaxed);
        self.engine.step_down().unwrap()
    }

    fn append(&self, number: u64, queue: u32, size: usize) -> Result<(), PutStatus> {
        let mut body = format!("{number:08}").into_bytes();
        body.resize(8 + size, b'.');
        let properties = format!("UNIQ_KEY\u{1}k{number:08}\u{2}");
        let message: Message = message_with(TOPIC, queue, body, &properties);
        let tell = Tell(Arc::clone(&self.outcomes));
        self.engine
            .append(&[message.as_ref()], Promise::Kept, tell)
            .map_err(|refused: Refused<Tell>| refused.into_parts().1)
    }

    /// Appends a message and writes it.
    fn send(&self, number: u64, queue: u32, size: usize) {
        self.append(number, queue, size).unwrap();
        self.engine.write_step();
    }

    /// Appends what `master` has and this copy has not, not beyond `to`.
    fn copy(&self, master: &Self, to: u64, bytes_target: usize) {
        while self.copy_one(master, to, bytes_target) {}
    }

    /// As [`Node::copy`] for what is handed out at once. Whether there was something.
    fn copy_one(&self, master: &Self, to: u64, bytes_target: usize) -> bool {
        let at = PhysicalOffset(self.end());
        match master
            .engine
            .read_records(at, PhysicalOffset(to), bytes_target)
        {
            Ok(records) => {
                let taken = self
                    .engine
                    .append_copied(at, records.file_end, &records.bytes);
                assert_eq!(taken.unwrap(), records.to);
                true
            }
            Err(RecordsError::Nothing) => false,
            Err(error) => panic!("{error} at {at}"),
        }
    }

    /// All records, one by one.
    fn records(&self) -> Vec<Record> {
        let positions = self.engine.positions();
        let (mut at, mut records) = (positions.min, Vec::new());
        while at < positions.appended {
            let found = self.engine.read_records(at, positions.appended, 1);
            let found = found.unwrap_or_else(|error| panic!("{error} at {at}"));
            records.push((at.0, found.bytes.to_vec()));
            at = found.to;
        }
        records
    }

    /// Begin and length of the log's files that hold something.
    fn files(&self) -> Vec<(u64, u64)> {
        let entries = self.dir.list("commitlog").unwrap();
        let of = |entry: rocket_mapped_file::Entry| (entry.name.parse().unwrap(), entry.len);
        let mut files: Vec<(u64, u64)> = entries.into_iter().map(of).collect();
        files.retain(|(start, _)| *start < self.end());
        files
    }

    /// What consumers see, by queue and offset.
    fn seen(&self) -> BTreeMap<(u32, u64), u64> {
        let topic = TopicName::parse(TOPIC).unwrap();
        let mut seen = BTreeMap::new();
        for queue in 0..QUEUES {
            let Some(range) = self.engine.queue_range(&topic, QueueId(queue)) else {
                continue;
            };
            let mut next = range.min.to_wire();
            while next < range.max.to_wire() {
                let limits = ReadLimits {
                    messages_max: 5,
                    bytes_max: 4000,
                };
                let found = self
                    .engine
                    .get(&topic, QueueId(queue), next, limits, &|_, _| true);
                assert_eq!(found.status, GetStatus::Found, "queue {queue} at {next}");
                for (number, offset) in found.chunks.iter().flat_map(|chunk| messages(chunk)) {
                    assert_eq!(offset.to_wire(), next, "dense");
                    seen.insert((queue, offset.0), number);
                    next += 1;
                    let key = format!("k{number:08}");
                    let by_key =
                        self.engine
                            .query(&topic, &key, 5, UnixMillis(0), UnixMillis(i64::MAX));
                    assert_eq!(by_key.records.len(), 1, "{key}");
                }
            }
        }
        seen
    }

    /// What consumers should see of these records.
    fn to_be_seen(&self, records: &[Record]) -> BTreeMap<(u32, u64), u64> {
        let dispatched = self.engine.positions().dispatched.0;
        let is_seen = |record: &&Record| record.0 + record.1.len() as u64 <= dispatched;
        let of = |(_, bytes): &Record| {
            let (view, _) = RecordView::parse(bytes).ok()?;
            Some(((view.queue_id().0, view.queue_offset().0), number(&view)))
        };
        records.iter().filter(is_seen).filter_map(of).collect()
    }
}

/// A master with so many messages of 300 bytes and more in files of 4096.
fn master_with(messages: u64) -> Node {
    let master = Node::new(4096);
    master.lead();
    for number in 0..messages {
        let size = usize::try_from(number % 7).unwrap() * 40;
        master.send(number, u32::try_from(number).unwrap() % QUEUES, 200 + size);
    }
    master.confirm(master.end());
    master
}

fn at(offset: u64) -> PhysicalOffset {
    PhysicalOffset(offset)
}

fn number(view: &RecordView<'_>) -> u64 {
    std::str::from_utf8(&view.body()[..8])
        .unwrap()
        .parse()
        .unwrap()
}

/// Numbers and queue offsets of whole records.
fn messages(mut bytes: &[u8]) -> Vec<(u64, rocket_protocol::QueueOffset)> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let (view, len) = RecordView::parse(bytes).unwrap();
        messages.push((number(&view), view.queue_offset()));
        bytes = &bytes[len..];
    }
    messages
}

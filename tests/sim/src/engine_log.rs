//! The store's engine, its steps made by the world, over a disk in memory that loses any subset of unflushed sectors.

mod judge;
mod records;
mod replicated;
mod snapshots;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use bytes::Bytes;
use parking_lot::Mutex;
use rocket_ha::memory::{Image, Told};
use rocket_ha::{Found, Log, Residence, StoreLog};
use rocket_mapped_file::memory::{Faults, MemoryDirectory};
use rocket_protocol::message::record::body_crc;
use rocket_protocol::name::system_topic;
use rocket_protocol::{Message, QueueId, SysFlag, TopicName, UnixMillis};
use rocket_replication::PhysicalOffset;
use rocket_store::{
    Arrival, Clock, CommitPolicy, Completion, Engine, Flush, FlushFailure, Health, OnDamage,
    Promise, PutOutcome, PutStatus, QueueLogConfig, ReadLimits, Removed, Retention, Step,
    StoreConfig, StoreEvents, Watermarks,
};

use crate::fuse::FusedDirectory;
use crate::log::{Followed, GroupLog, Mirror, Seen};
use crate::snapshots::Snapshots;
use records::views;

const SEGMENT_BYTES: u64 = 4096;
const BLOCK_BYTES: u64 = 512;
const EIO: i32 = 5;

/// Tells a sender, if there is one.
pub(crate) struct Done(Option<u64>, Sender<(u64, Told)>);

impl Completion for Done {
    fn complete(self, outcome: PutOutcome) {
        let Some(ticket) = self.0 else { return };
        let told = match outcome.status {
            PutStatus::Ok => Told::Ok,
            _ => Told::Unknown,
        };
        // Nobody hears what a dying process says.
        let _unheard = self.1.send((ticket, told));
    }
}

struct Still;

impl Clock for Still {
    fn now(&self) -> UnixMillis {
        UnixMillis(1)
    }
}

/// Tells the proof of the flushes.
struct Flushes(Arc<Residence>);

impl StoreEvents for Flushes {
    fn arrived(&self, _: &[Arrival]) {}

    fn flush_begins(&self) {
        self.0.flush_begins();
    }

    fn flush_succeeded(&self) {
        self.0.flush_succeeded();
    }

    fn failed(&self, _: &FlushFailure) {
        self.0.lost();
    }

    fn removed(&self, _: &Removed) {}
}

/// See the module.
#[derive(Clone)]
pub(crate) struct EngineLog {
    engine: Arc<Engine<Done>>,
    log: StoreLog<Engine<Done>>,
    policy: Arc<dyn CommitPolicy>,
    dir: MemoryDirectory,
    topic: TopicName,
    /// Of the snapshots.
    metadata: TopicName,
    snapshots: Arc<Mutex<Snapshots>>,
    tell: Sender<(u64, Told)>,
    told: Arc<Mutex<Receiver<(u64, Told)>>>,
}

fn config(flush: Flush) -> StoreConfig {
    StoreConfig {
        segment_bytes: SEGMENT_BYTES,
        queue_log: QueueLogConfig {
            file_bytes: 2000,
            journal_bytes: 1000,
            extent_units: 4,
            table_units: 30,
        },
        index_slots: 16,
        index_entries: 64,
        flush,
        checksum_block_bytes: BLOCK_BYTES,
        // All that it may, once it may take something.
        retention: Retention {
            bytes_max: 0,
            ..StoreConfig::default().retention
        },
        kept_from: PhysicalOffset(0),
        watermarks: Watermarks {
            clean: 90,
            force: None,
            refuse: 95,
        },
        // As a broker with a coordinator has it.
        on_damage: OnDamage::Hold,
        ..StoreConfig::default()
    }
}

impl GroupLog for EngineLog {
    const QUEUES: u64 = 3;
    const DATA_BYTES: u64 = 1200;

    fn open(
        dir: &FusedDirectory,
        _: Image,
        policy: Arc<dyn CommitPolicy>,
        flush: Flush,
        residence: &Arc<Residence>,
    ) -> Result<(Self, Found), String> {
        let named = |name| TopicName::parse(name).map_err(|error| error.to_string());
        let (topic, metadata) = (named("orders")?, named(system_topic::METADATA)?);
        let opened = Engine::open(
            config(flush),
            Arc::new(dir.clone()),
            Arc::new(Still),
            Arc::clone(&policy),
            Arc::new(Flushes(Arc::clone(residence))),
        );
        let (engine, report) = opened.map_err(|error| error.to_string())?;
        let engine = Arc::new(engine);
        let (tell, told) = channel();
        let found = Found {
            damaged: report.damaged_ranges > 0,
            confirm: report.confirm.max(engine.positions().dispatched),
        };
        let log = Self {
            log: StoreLog::new(Arc::clone(&engine), 1 << 20),
            engine,
            policy,
            dir: dir.memory().clone(),
            topic,
            metadata,
            snapshots: Arc::default(),
            tell,
            told: Arc::new(Mutex::new(told)),
        };
        Ok((log, found))
    }

    fn left(&self) -> Image {
        Image::default()
    }

    fn send(&self, queue: u64, payload: &[u8], ticket: u64) -> Result<(), PutStatus> {
        self.append(&self.topic, queue, payload, Some(ticket))
    }

    fn flush(&self) {
        while self.engine.flush_step(0) == Step::Worked && !self.has_failed() {}
        self.engine.settle();
    }

    fn keep_house(&self, kind: u64) {
        let engine = &self.engine;
        match kind % 8 {
            0..3 => while engine.dispatch_step() == Step::Worked {},
            3 => engine.checkpoint_step(),
            4 => engine.prepare_step(),
            5 => engine.ceiling_step(),
            6 => {
                engine.seal_step();
                engine.mark_step();
            }
            _ => {
                engine.retention_step();
                engine.index_step();
            }
        }
    }

    fn fail(&self, dir: &FusedDirectory, kind: u64) {
        let mut faults = Faults {
            seed: kind,
            ..Faults::default()
        };
        match kind % 3 {
            0 => faults.flush_error_at = Some(1),
            1 => faults.short_write_at = Some(1),
            _ => faults.write_error_at = Some((1, EIO)),
        }
        dir.memory().set_faults(faults);
    }

    fn has_failed(&self) -> bool {
        matches!(self.engine.health(), Health::ReadOnly { .. })
    }

    fn rot(&self, dir: &FusedDirectory, number: u64) -> bool {
        let engine = &self.engine;
        while engine.seal_step() == Step::Worked {}
        engine.checkpoint_step();
        let positions = engine.positions();
        // Whole blocks of checksums: what lies behind the last one nobody can tell.
        let first = positions.min.0.div_ceil(BLOCK_BYTES);
        let blocks = (positions.durable.0 / BLOCK_BYTES).saturating_sub(first);
        if blocks == 0 || self.has_failed() {
            return false;
        }
        let at = (first + number % blocks) * BLOCK_BYTES + number / blocks % BLOCK_BYTES;
        let path = format!("commitlog/{:020}", at / SEGMENT_BYTES * SEGMENT_BYTES);
        let flip = || dir.memory().flip(&path, (at % SEGMENT_BYTES) as usize);
        flip();
        engine.scrub_step(u64::MAX);
        let is_found = !engine.damage().is_empty();
        if !is_found {
            flip();
        }
        is_found
    }

    fn take_told(&self) -> Vec<(u64, Told)> {
        self.told.lock().try_iter().collect()
    }

    fn is_flush_wanted(&self) -> bool {
        let ends = self.log.ends();
        ends.durable < ends.appended && !self.has_failed()
    }

    fn takes_sends(&self) -> bool {
        self.policy.may_append().is_ok() && self.engine.health() == Health::Writable
    }

    fn visible(&self) -> u64 {
        self.engine.positions().dispatched.0
    }

    fn refresh(&self, mirror: &mut Mirror) {
        let ends = self.log.ends();
        if ends.min.0 != mirror.min {
            mirror.bytes.clear();
            mirror.min = ends.min.0;
        }
        mirror.keep_below(ends.appended.0);
        let mut at = PhysicalOffset(mirror.end());
        // What cannot be read now is missed by who compares.
        while at < ends.appended
            && let Ok(records) = self.engine.read_records(at, ends.appended, 1 << 20)
        {
            mirror.bytes.extend_from_slice(&records.bytes);
            at = records.to;
        }
        mirror.durable = ends.durable.0;
        mirror.is_damaged = !self.engine.damage().is_empty();
    }

    fn read(&self, queue: u64, from: u64) -> Vec<Seen> {
        let limits = ReadLimits {
            messages_max: 4,
            bytes_max: 1 << 20,
        };
        let from = i64::try_from(from).unwrap_or(i64::MAX);
        let queue = QueueId(queue as u32);
        let got = self
            .engine
            .get(&self.topic, queue, from, limits, &|_, _| true);
        let views = got.chunks.iter().flat_map(|chunk| views(chunk));
        let seen = views.map(|(offset, ticket)| Seen {
            offset,
            next: offset + 1,
            ticket,
        });
        seen.collect()
    }

    fn read_range(&self, offset: PhysicalOffset, length: u32) -> std::io::Result<Bytes> {
        let read = self.engine.read_range(offset, length as usize);
        read.map_err(std::io::Error::other)
    }

    fn first(&self, queue: u64) -> u64 {
        let range = self.engine.queue_range(&self.topic, QueueId(queue as u32));
        range.map_or(0, |range| range.min.0)
    }

    fn retain(&self, below: u64) {
        let Some(base) = self.snapshots.lock().base else {
            return;
        };
        self.engine.keep_from(PhysicalOffset(base.min(below)));
        self.engine.retention_step();
        self.engine.keep_from(PhysicalOffset(0));
    }

    fn boundaries(&self) -> Vec<u64> {
        let Some(base) = self.snapshots.lock().base else {
            return Vec::new();
        };
        let first = self.engine.positions().min.0 + 1;
        (first..=base)
            .filter(|at| at.is_multiple_of(SEGMENT_BYTES))
            .collect()
    }

    fn follow_snapshots(&self) -> Followed {
        self.follow()
    }

    fn take_snapshot(&self) {
        self.take();
    }

    fn is_snapshot_due(&self) -> bool {
        self.is_due()
    }

    fn places(&self, log: &[u8]) -> Result<(), String> {
        judge::places(log)
    }

    fn derived(&self) -> Result<(), String> {
        self.judge_queues()
    }

    fn quarantine(&self) -> Vec<(u64, u64)> {
        let names = self.dir.list_names("quarantine");
        let pieces = names.iter().filter_map(|name| {
            let mut numbers = name.split('-').skip(1).map(str::parse);
            Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
        });
        pieces.collect()
    }
}

impl EngineLog {
    fn append(
        &self,
        topic: &TopicName,
        queue: u64,
        payload: &[u8],
        ticket: Option<u64>,
    ) -> Result<(), PutStatus> {
        let here = SocketAddr::from(([127, 0, 0, 1], 1));
        let body = Bytes::copy_from_slice(payload);
        let message = Message {
            topic: topic.clone(),
            queue_id: QueueId(queue as u32),
            flag: 0,
            sys_flag: SysFlag(0),
            born_timestamp: UnixMillis(1),
            born_host: here,
            store_host: here,
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body_crc: body_crc(&body),
            body,
            properties: Bytes::new(),
        };
        let done = Done(ticket, self.tell.clone());
        let taken = self.engine.append(&[message.as_ref()], Promise::Kept, done);
        taken.map_err(|refused| refused.into_parts().1)?;
        self.engine.write_step();
        Ok(())
    }
}

//! The store's engine over a disk in memory, as the log of a machine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use bytes::Bytes;
use parking_lot::Mutex;
use rocket_ha::memory::{Image, Told};
use rocket_ha::{AppendError, Chunk, CutError, Ends, Found, Log, Pending, StoreLog};
use rocket_mapped_file::memory::MemoryDirectory;
use rocket_protocol::message::record::body_crc;
use rocket_protocol::{Message, QueueId, RecordView, SysFlag, TopicName, UnixMillis};
use rocket_replication::{Epoch, PhysicalOffset};
use rocket_store::{
    Clock, CommitPolicy, Completion, Engine, Flush, NoEvents, Promise, PutOutcome, PutStatus,
    QueueLogConfig, Step, StoreConfig,
};

use crate::logs::MachineLog;

struct Done(u64, Sender<(u64, Told)>);

impl Completion for Done {
    fn complete(self, outcome: PutOutcome) {
        let told = match outcome.status {
            PutStatus::Ok => Told::Ok,
            _ => Told::Unknown,
        };
        // Nobody hears what a dying process says.
        let _ = self.1.send((self.0, told));
    }
}

struct Still;

impl Clock for Still {
    fn now(&self) -> UnixMillis {
        UnixMillis(1)
    }
}

/// The store's engine; its steps are made by the world.
#[derive(Clone)]
pub(crate) struct EngineLog {
    engine: Arc<Engine<Done>>,
    log: StoreLog<Engine<Done>>,
    policy: Arc<dyn CommitPolicy>,
    tell: Sender<(u64, Told)>,
    told: Arc<Mutex<Receiver<(u64, Told)>>>,
}

impl MachineLog for EngineLog {
    fn open(dir: &MemoryDirectory, _: Image, policy: Arc<dyn CommitPolicy>) -> (Self, Found) {
        let config = StoreConfig {
            segment_bytes: 4096,
            queue_log: QueueLogConfig {
                file_bytes: 2000,
                journal_bytes: 1000,
                extent_units: 4,
                table_units: 30,
            },
            index_slots: 16,
            index_entries: 64,
            flush: Flush::Sync,
            ..StoreConfig::default()
        };
        let opened = Engine::open(
            config,
            Arc::new(dir.clone()),
            Arc::new(Still),
            Arc::clone(&policy),
            Arc::new(NoEvents),
        );
        let (engine, report) = opened.unwrap();
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
            tell,
            told: Arc::new(Mutex::new(told)),
        };
        (log, found)
    }

    fn left(&self) -> Image {
        Image::default()
    }

    fn send(&self, payload: &[u8], ticket: u64) -> Result<u64, PutStatus> {
        let here = SocketAddr::from(([127, 0, 0, 1], 1));
        let body = Bytes::copy_from_slice(payload);
        let message = Message {
            topic: TopicName::parse("orders").unwrap(),
            queue_id: QueueId(0),
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
        let before = self.log.ends().appended.0;
        let taken = self.engine.append(&[message.as_ref()], Promise::Kept, done);
        taken.map_err(|refused| refused.into_parts().1)?;
        self.engine.write_step();
        // The record is the last one; a filler may lie before it.
        let (min, bytes) = self.bytes();
        let mut at = before;
        while let Some(rest) = bytes.get((at - min) as usize..) {
            match RecordView::parse(rest) {
                Ok(_) => break,
                Err(_) => at = (at / 4096 + 1) * 4096,
            }
        }
        Ok(at)
    }

    fn flush(&self) {
        while let Some(job) = self.engine.flush_begin(0) {
            let result = job.run();
            self.engine.flush_end(&job, result);
        }
        self.engine.settle();
        while self.engine.dispatch_step() == Step::Worked {}
    }

    fn checkpoint(&self) {
        self.engine.checkpoint_step();
    }

    fn take_told(&self) -> Vec<(u64, Told)> {
        self.told.lock().try_iter().collect()
    }

    fn is_flush_wanted(&self) -> bool {
        let ends = self.log.ends();
        ends.durable < ends.appended
    }

    fn takes_sends(&self) -> bool {
        self.policy.may_append().is_ok()
    }

    fn visible(&self) -> u64 {
        self.engine.positions().committed.0
    }

    fn bytes(&self) -> (u64, Vec<u8>) {
        let ends = self.log.ends();
        let (mut at, mut bytes) = (ends.min, Vec::new());
        while at < ends.appended {
            let records = self.engine.read_records(at, ends.appended, 1 << 20);
            let records = records.unwrap();
            bytes.extend_from_slice(&records.bytes);
            at = records.to;
        }
        (ends.min.0, bytes)
    }

    fn payload_at(&self, offset: u64) -> Option<Vec<u8>> {
        let end = self.log.ends().appended;
        let records = self.engine.read_records(PhysicalOffset(offset), end, 1);
        let records = records.ok()?;
        let (view, _) = RecordView::parse(&records.bytes).ok()?;
        Some(view.body().to_vec())
    }
}

impl Log for EngineLog {
    fn ends(&self) -> Ends {
        self.log.ends()
    }

    fn append_copied(
        &mut self,
        at: PhysicalOffset,
        file_end: PhysicalOffset,
        bytes: &Bytes,
    ) -> Result<(), AppendError> {
        self.log.append_copied(at, file_end, bytes)
    }

    fn read_records(
        &mut self,
        from: PhysicalOffset,
        to: PhysicalOffset,
        bytes_target: u64,
    ) -> std::io::Result<Chunk> {
        self.log.read_records(from, to, bytes_target)
    }

    fn flush_soon(&mut self) {
        self.log.flush_soon();
    }

    fn cut(&mut self, to: PhysicalOffset, epoch: Epoch) -> Result<(), CutError> {
        self.log.cut(to, epoch)
    }

    fn start_anew(&mut self, at: PhysicalOffset, epoch: Epoch) -> Result<(), CutError> {
        self.log.start_anew(at, epoch)
    }

    fn stop_appends(&mut self, pending: Pending) -> std::io::Result<()> {
        self.log.stop_appends(pending)
    }

    fn become_writer(&mut self, epoch: Epoch) -> std::io::Result<()> {
        self.log.become_writer(epoch)
    }

    fn re_evaluate(&mut self) {
        self.log.re_evaluate();
    }
}

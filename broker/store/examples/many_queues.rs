//! What a message costs when it may go to any of many queues: processor time and bytes written, from its append to its
//! unit in the queue, on one thread; then the time that a start takes. Counts and processor time, so that other load on the
//! machine does little to them.
//!
//! `many_queues FOLDER QUEUES [MESSAGES]`
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::Context as _;
use rocket_mapped_file::disk::DiskDirectory;
use rocket_protocol::message::record::body_crc;
use rocket_protocol::{Message, QueueId, SysFlag, TopicName, UnixMillis};
use rocket_store::{
    Clock, Completion, Engine, Flush, LocalPolicy, NoEvents, Promise, PutOutcome, Step,
    StoreConfig, Watermarks,
};

/// Messages of one topic; more queues take more topics.
const QUEUES_PER_TOPIC: u32 = 8;
/// Messages between two steps of the engine, and between two checkpoints.
const BATCH: u64 = 64;
const CHECKPOINT: u64 = 50_000;

#[derive(Default)]
struct Time(AtomicI64);

impl Clock for Time {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

struct Done;

impl Completion for Done {
    fn complete(self, _: PutOutcome) {}
}

/// Nanoseconds that this thread ran.
fn ran() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split(' ').next().context("schedstat")?.parse()?)
}

/// Bytes that this process handed to the disk, or will.
fn written() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/io")?;
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(line.context("write_bytes")?.parse()?)
}

fn resident_kib() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.context("RssAnon")?.parse()?)
}

fn open(dir: &std::path::Path) -> anyhow::Result<Engine<Done>> {
    let config = StoreConfig {
        index_enabled: false,
        flush: Flush::Async,
        // How full the disk was before is not what is asked.
        watermarks: Watermarks {
            clean: 100,
            force: Some(100),
            refuse: 100,
        },
        ..StoreConfig::default()
    };
    let policy = Arc::new(LocalPolicy {
        flush: Flush::Async,
    });
    let clock = Arc::new(Time::default());
    let dir = Arc::new(DiskDirectory::open(dir)?);
    Ok(Engine::open(config, dir, clock, policy, Arc::new(NoEvents))?.0)
}

#[expect(
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    reason = "figures for people, at the edge of this program"
)]
fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().context("which folder?")?);
    let queues: u32 = arguments.next().context("how many queues?")?.parse()?;
    let messages: u64 = arguments
        .next()
        .map_or(Ok(2_000_000), |text| text.parse())?;
    let topics: Vec<TopicName> = (0..queues.div_ceil(QUEUES_PER_TOPIC))
        .map(|n| TopicName::parse(&format!("orders-{n}")))
        .collect::<Result<_, _>>()?;
    let engine = open(&dir)?;
    let body = bytes::Bytes::from(vec![b'x'; 128]);
    let mut message = Message {
        topic: TopicName::parse("t")?,
        queue_id: QueueId(0),
        flag: 0,
        sys_flag: SysFlag(0),
        born_timestamp: UnixMillis(0),
        born_host: "127.0.0.1:1".parse()?,
        store_host: "127.0.0.1:2".parse()?,
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body_crc: body_crc(&body),
        body,
        properties: bytes::Bytes::new(),
    };
    let (ran_before, written_before) = (ran()?, written()?);
    // A generator of full period over a power of two: every queue in turn, in no order that caches would like.
    let mut at: u64 = 1;
    for n in 1..=messages {
        at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let queue = u32::try_from(((at >> 32) * u64::from(queues)) >> 32)?;
        let topic = usize::try_from(queue / QUEUES_PER_TOPIC)?;
        message.topic = topics.get(topic).context("a topic")?.clone();
        message.queue_id = QueueId(queue % QUEUES_PER_TOPIC);
        engine
            .append(&[message.as_ref()], Promise::AppendOnly, Done)
            .map_err(|refused| anyhow::anyhow!("{:?}", refused.into_parts().1))?;
        if n % BATCH == 0 {
            engine.write_step();
            engine.settle();
            while engine.dispatch_step() == Step::Worked {}
        }
        if n % CHECKPOINT == 0 {
            engine.prepare_step();
            engine.flush_step(0);
            engine.checkpoint_step();
        }
    }
    engine.write_step();
    while engine.dispatch_step() == Step::Worked {}
    let records = engine.positions().appended.0;
    let each = |number: u64| number as f64 / messages as f64;
    println!(
        "{queues} queues, {messages} messages: {:.2} us each, {:.1} bytes each besides the log's {:.0}, {} MiB anonymous",
        each(ran()? - ran_before) / 1000.0,
        each((written()? - written_before).saturating_sub(records)),
        each(records),
        resident_kib()? >> 10
    );
    // As after a kill: what came since the last checkpoint is read again.
    drop(engine);
    let begun = std::time::Instant::now();
    let engine = open(&dir)?;
    println!(
        "open again: {} ms for {} queues",
        begun.elapsed().as_millis(),
        engine.queues().len()
    );
    Ok(())
}

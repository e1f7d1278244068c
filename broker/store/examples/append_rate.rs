//! Appends from producers that each keep a number of messages in flight, and prints what that costs: CPU time per message
//! of the whole process and flushes and writes per 1000 messages. Not a verdict: the disk and the neighbours decide the
//! rate; CPU time and counts are what can be compared.
//!
//! `append_rate FOLDER [sync|async] [MESSAGES] [BODY_BYTES] [PRODUCERS] [IN_FLIGHT_EACH] [FLIGHTS]`
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use rocket_protocol::message::MessageRef;
use rocket_protocol::{QueueId, SysFlag, TopicName, UnixMillis};
use rocket_store::{
    Clock, Completion, Flush, LocalPolicy, NoEvents, Promise, PutOutcome, PutStatus, Store,
    StoreConfig,
};

/// As the Java client sends them.
const PROPERTIES: &[u8] =
    b"UNIQ_KEY\x017F0000010FA41B2A3C4D000000000001\x02WAIT\x01true\x02TAGS\x01TagA\x02";
const QUEUES: u64 = 8;

struct System(Instant);

#[expect(clippy::disallowed_methods, reason = "the edge of this program")]
impl Clock for System {
    fn now(&self) -> UnixMillis {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// One producer's answers; woken at most once for all that come together, as a connection is.
struct Answers {
    thread: Thread,
    is_parked: AtomicBool,
    good: AtomicU64,
    bad: AtomicU64,
}

struct Tell(Arc<Answers>);

impl Completion for Tell {
    fn complete(self, outcome: PutOutcome) {
        let answers = &*self.0;
        match outcome.status {
            PutStatus::Ok => answers.good.fetch_add(1, Ordering::SeqCst),
            _ => answers.bad.fetch_add(1, Ordering::SeqCst),
        };
        if answers.is_parked.swap(false, Ordering::SeqCst) {
            answers.thread.unpark();
        }
    }
}

#[derive(Clone)]
struct Load {
    messages: u64,
    in_flight: u64,
    body: Vec<u8>,
    topic: TopicName,
}

fn produce(store: &Store<Tell>, load: &Load) -> anyhow::Result<()> {
    let answers = Arc::new(Answers {
        thread: std::thread::current(),
        is_parked: AtomicBool::new(false),
        good: AtomicU64::new(0),
        bad: AtomicU64::new(0),
    });
    let mut sent = 0;
    loop {
        let done = answers.good.load(Ordering::SeqCst);
        anyhow::ensure!(
            answers.bad.load(Ordering::SeqCst) == 0,
            "a message was not stored"
        );
        if done == load.messages {
            return Ok(());
        }
        let room = (done + load.in_flight).min(load.messages) - sent;
        for _ in 0..room {
            append(store, load, sent, Tell(Arc::clone(&answers)))?;
            sent += 1;
        }
        if room > 0 {
            store.write_out();
        }
        // Who parks looks again before it sleeps, so no answer is slept through.
        answers.is_parked.store(true, Ordering::SeqCst);
        while answers.good.load(Ordering::SeqCst) == done && answers.bad.load(Ordering::SeqCst) == 0
        {
            std::thread::park_timeout(Duration::from_secs(1));
        }
        answers.is_parked.store(false, Ordering::SeqCst);
    }
}

fn append(store: &Store<Tell>, load: &Load, number: u64, tell: Tell) -> anyhow::Result<()> {
    let message = MessageRef {
        topic: &load.topic,
        queue_id: QueueId(u32::try_from(number % QUEUES)?),
        flag: 0,
        sys_flag: SysFlag(0),
        born_timestamp: UnixMillis(0),
        born_host: ([127, 0, 0, 1], 1).into(),
        store_host: ([127, 0, 0, 1], 2).into(),
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body: &load.body,
        body_crc: None,
        properties: PROPERTIES,
        more_properties: &[],
    };
    store
        .append(&[message], Promise::Kept, tell)
        .map_err(|refused| anyhow::anyhow!("{:?}", refused.into_parts().1))
}

/// CPU time of all threads of this process.
fn cpu_time() -> anyhow::Result<Duration> {
    let mut nanos = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let stat = std::fs::read_to_string(task?.path().join("schedstat"))?;
        let on_cpu = stat.split(' ').next().context("schedstat")?;
        nanos += on_cpu.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}

#[expect(clippy::disallowed_methods, reason = "the edge of this program")]
fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().context("which folder?")?);
    let flush = match arguments.next().as_deref() {
        None | Some("sync") => Flush::Sync,
        Some("async") => Flush::Async,
        Some(other) => anyhow::bail!("neither sync nor async: {other}"),
    };
    let mut number = |otherwise: u64| arguments.next().map_or(Ok(otherwise), |text| text.parse());
    let (messages, bytes, producers) = (number(200_000)?, number(1024)?, number(4)?.max(1));
    let (in_flight, flights) = (number(16)?, number(2)?);
    let config = StoreConfig {
        dir,
        flush,
        flush_flights: usize::try_from(flights)?,
        ..StoreConfig::default()
    };
    let policy = Arc::new(LocalPolicy { flush });
    let (store, _) = Store::open(
        config,
        Arc::new(System(Instant::now())),
        policy,
        Arc::new(NoEvents),
    )?;
    let load = Load {
        messages: messages / producers,
        in_flight,
        body: vec![b'x'; usize::try_from(bytes)?],
        topic: TopicName::parse("rate")?,
    };
    // Buffers and queues have their size, and files are there, before anything is counted.
    produce(
        &store,
        &Load {
            messages: 10_000,
            ..load.clone()
        },
    )?;
    let (before, begun, cpu) = (store.stats(), Instant::now(), cpu_time()?);
    // Threads that ended are in no folder any more: each producer counts itself.
    let spent = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..producers)
            .map(|_| {
                scope.spawn(|| {
                    produce(&store, &load)?;
                    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
                    anyhow::Ok(
                        stat.split(' ')
                            .next()
                            .context("schedstat")?
                            .parse::<u64>()?,
                    )
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow::anyhow!("panicked"))?)
            .sum::<anyhow::Result<u64>>()
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = (cpu_time()? + Duration::from_nanos(spent)).saturating_sub(cpu);
    let stats = store.stats();
    #[expect(clippy::cast_precision_loss, reason = "counts for people")]
    let per_1000 = |count: u64| count as f64 * 1000.0 / messages as f64;
    #[expect(clippy::cast_precision_loss, reason = "counts for people")]
    let (rate, micros) = (
        messages as f64 / seconds,
        cpu.as_secs_f64() * 1e6 / messages as f64,
    );
    println!(
        "{flush:?} {bytes} B, {producers} producers x {in_flight}, {flights} flights: {micros:.2} us CPU a message, \
         {rate:.0} a second, per 1000: {:.1} flushes, {:.1} writes",
        per_1000(stats.flushes - before.flushes),
        per_1000(stats.batches_appended - before.batches_appended)
    );
    store.close()?;
    Ok(())
}

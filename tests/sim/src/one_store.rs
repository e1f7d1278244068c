//! One store engine, its disk, and a sender, driven by a seed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use rocket_mapped_file::memory::{Dice, MemoryDirectory};
use rocket_protocol::message::record::body_crc;
use rocket_protocol::{Message, NameError, QueueId, RecordView, SysFlag, TopicName, UnixMillis};
use rocket_store::{
    Clock, Completion, Engine, Flush, FlushJob, LocalPolicy, NoEvents, OpenError, Promise,
    PutOutcome, PutStatus, QueueLogConfig, ReadLimits, StoreConfig,
};
use thiserror::Error;

/// What must not happen.
#[derive(Debug, Error)]
pub enum Broken {
    /// A message that was answered `Ok` is not where the answer said.
    #[error(
        "message {number} was answered at offset {offset} and is not there; the trace so far:\n{trace}"
    )]
    Lost {
        /// Its number.
        number: u64,
        /// Where it should be.
        offset: u64,
        /// What happened.
        trace: String,
    },
    /// The store did not open after a crash.
    #[error("the store does not open again")]
    Open(#[from] OpenError),
    /// The world is built wrongly.
    #[error("the topic's name")]
    Name(#[from] NameError),
}

#[derive(Default)]
struct Time(AtomicI64);

impl Clock for Time {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::Relaxed))
    }
}

struct Done(u64, Sender<(u64, PutOutcome)>);

impl Completion for Done {
    fn complete(self, outcome: PutOutcome) {
        // The world may have stopped listening: that is the end of a run.
        let _unheard = self.1.send((self.0, outcome));
    }
}

struct World {
    dice: Dice,
    trace: String,
    topic: TopicName,
    clock: Arc<Time>,
    dir: MemoryDirectory,
    engine: Engine<Done>,
    job: Option<FlushJob>,
    told: Receiver<(u64, PutOutcome)>,
    tell: Sender<(u64, PutOutcome)>,
    sent: u64,
    answered: BTreeMap<u64, u64>,
}

/// Runs `steps` steps drawn from `seed`.
///
/// # Errors
/// What the world found broken, with the trace up to there.
pub fn run(seed: u64, steps: u32) -> Result<String, Broken> {
    let clock = Arc::new(Time::default());
    let dir = MemoryDirectory::default();
    let (tell, told) = channel();
    let mut world = World {
        dice: Dice::new(seed),
        trace: String::new(),
        topic: TopicName::parse("orders")?,
        engine: open(&dir, &clock)?,
        clock,
        dir,
        job: None,
        told,
        tell,
        sent: 0,
        answered: BTreeMap::new(),
    };
    for _ in 0..steps {
        world.step()?;
    }
    world.restart("power")?;
    Ok(world.trace)
}

fn open(dir: &MemoryDirectory, clock: &Arc<Time>) -> Result<Engine<Done>, OpenError> {
    let config = StoreConfig {
        segment_bytes: 8192,
        queue_log: QueueLogConfig {
            file_bytes: 2000,
            journal_bytes: 1000,
            extent_units: 4,
            table_units: 30,
        },
        index_slots: 16,
        index_entries: 64,
        ..StoreConfig::default()
    };
    let policy = Arc::new(LocalPolicy { flush: Flush::Sync });
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    Engine::open(
        config,
        Arc::new(dir.clone()),
        clock,
        policy,
        Arc::new(NoEvents),
    )
    .map(|(engine, _)| engine)
}

impl World {
    fn say(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _infallible = writeln!(self.trace, "{} {line}", self.clock.now());
    }

    fn step(&mut self) -> Result<(), Broken> {
        self.clock.0.fetch_add(1, Ordering::Relaxed);
        match self.dice.below(40) {
            0..12 => self.send(),
            12..20 => {
                let did = self.engine.write_step();
                self.say(format_args!("write {did:?}"));
            }
            20..26 => self.flush(),
            26..32 => {
                let did = self.engine.dispatch_step();
                self.say(format_args!("dispatch {did:?}"));
            }
            32..35 => {
                self.engine.checkpoint_step();
                self.say(format_args!("secure"));
            }
            35 => self.restart("power")?,
            36 => self.restart("kill")?,
            _ => self.engine.settle(),
        }
        self.listen();
        Ok(())
    }

    fn send(&mut self) {
        let number = self.sent;
        self.sent += 1;
        let mut body = number.to_be_bytes().to_vec();
        body.resize(8 + usize::try_from(self.dice.below(900)).unwrap_or(0), 0);
        let here = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        let message = Message {
            topic: self.topic.clone(),
            queue_id: QueueId(0),
            flag: 0,
            sys_flag: SysFlag(0),
            born_timestamp: self.clock.now(),
            born_host: here(1),
            store_host: here(2),
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body_crc: body_crc(&body),
            body: body.into(),
            properties: bytes::Bytes::new(),
        };
        let completion = Done(number, self.tell.clone());
        let taken = self
            .engine
            .append(&[message.as_ref()], Promise::Kept, completion)
            .is_ok();
        self.say(format_args!("send {number} taken {taken}"));
    }

    /// Begins a flush, or ends the one in flight.
    fn flush(&mut self) {
        if let Some(job) = self.job.take() {
            let result = job.run();
            self.say(format_args!("flush ends, good {}", result.is_ok()));
            self.engine.flush_end(&job, result);
        } else {
            self.job = self.engine.flush_begin(0);
            let begun = self.job.is_some();
            self.say(format_args!("flush begins {begun}"));
        }
    }

    fn restart(&mut self, how: &str) -> Result<(), Broken> {
        self.listen();
        let seed = self.dice.roll();
        self.dir = if how == "power" {
            self.dir.crashed(seed)
        } else {
            self.dir.killed()
        };
        self.job = None;
        self.engine.abandon();
        // What a dying process says reaches nobody.
        self.told.try_iter().for_each(drop);
        self.engine = open(&self.dir, &self.clock)?;
        let positions = self.engine.positions();
        self.say(format_args!("{how}: {positions:?}"));
        self.check()
    }

    fn listen(&mut self) {
        while let Ok((number, outcome)) = self.told.try_recv() {
            let status = outcome.status;
            let offset = outcome.appended.map(|appended| appended.queue_offset.0);
            self.say(format_args!("answer {number} {status:?} {offset:?}"));
            if let (PutStatus::Ok, Some(offset)) = (status, offset) {
                self.answered.insert(offset, number);
            }
        }
    }

    fn check(&self) -> Result<(), Broken> {
        let limits = ReadLimits {
            messages_max: 1,
            bytes_max: 1,
        };
        for (&offset, &number) in &self.answered {
            let from = i64::try_from(offset).unwrap_or(i64::MAX);
            let result = self
                .engine
                .get(&self.topic, QueueId(0), from, limits, &|_, _| true);
            let view = result
                .chunks
                .first()
                .and_then(|chunk| RecordView::parse(chunk).ok());
            let is_there =
                view.is_some_and(|(view, _)| view.body().starts_with(&number.to_be_bytes()));
            if !is_there {
                return Err(Broken::Lost {
                    number,
                    offset,
                    trace: self.trace.clone(),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_trace() {
        for seed in 0..20 {
            let (first, second) = (run(seed, 300).unwrap(), run(seed, 300).unwrap());
            assert_eq!(first, second, "seed {seed}");
            assert!(
                first.contains("Ok") && first.contains("power"),
                "seed {seed} did nothing"
            );
        }
        assert_ne!(run(1, 300).unwrap(), run(2, 300).unwrap());
    }

    #[test]
    fn nothing_acknowledged_is_lost_in_a_thousand_worlds() {
        for seed in 0..1000 {
            run(seed, 200).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        }
    }
}

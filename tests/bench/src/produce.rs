//! A closed loop of sends: `connections` × `in_flight` lanes, each of which waits for its answer before it sends again.
//!
//! A lane is what a checker needs: within one lane and one queue the order of sending is the order of storing. A lane
//! whose connection breaks notes the open outcome, connects again and goes on, so a broker may be killed beneath it. A
//! connection on which an answer did not come in time is left too, as RocketMQ's clients do (`clientCloseSocketIfTimeout`):
//! it may lead to a machine that is gone, of which TCP alone would tell after a quarter of an hour.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use hdrhistogram::Histogram;
use rocket_protocol::code::ResponseCode;
use rocket_remoting::Client;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

use crate::history::{self, Event};
use crate::request::Request;
use crate::route::{self, Queue};

/// A lane that is refused waits so long before it goes on.
const PAUSE: Duration = Duration::from_millis(2);
/// How often the caller is told how far it is.
const PROGRESS: Duration = Duration::from_millis(200);

/// What to send.
#[derive(Debug, Clone)]
pub struct Options {
    /// Name server address.
    pub namesrv: String,
    /// Topic; it must exist, or the cluster must create topics by itself.
    pub topic: String,
    /// TCP connections, spread over the topic's brokers.
    pub connections: u32,
    /// Requests in flight on each connection.
    pub in_flight: u32,
    /// Size of a body in bytes.
    pub body_bytes: usize,
    /// Messages in one request: 1, or more for batches.
    pub batch: u32,
    /// Stop after this many sends in all.
    pub count: Option<u64>,
    /// Stop after this time.
    pub duration: Option<Duration>,
    /// Prefix of the messages' keys; two runs on one topic need two.
    pub run: String,
    /// How long an answer is waited for, and how long connecting to a broker may take.
    pub patience: Duration,
    /// How long a lane rests after an answer.
    pub rest: Duration,
    /// Set by the caller to end the run early.
    pub stop: Arc<AtomicBool>,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// Sends with `SEND_OK`.
    pub acked: u64,
    /// Sends whose outcome is open.
    pub unknown: u64,
    /// Sends that the broker refused.
    pub refused: u64,
    /// Seconds from the first send to the last answer.
    pub seconds: f64,
    /// Acknowledged messages per second.
    pub rate: f64,
    /// Latency percentiles of acknowledged sends in microseconds: p50, p90, p99, p99.9, max.
    pub latency_us: [u64; 5],
}

struct Shared {
    options: Options,
    left: AtomicU64,
    deadline: Option<Instant>,
    history: Option<Mutex<BufWriter<File>>>,
    acked: AtomicU64,
    unknown: AtomicU64,
    refused: AtomicU64,
}

/// Runs the loop; `progress` is called about five times a second with the number of acknowledged sends.
///
/// # Errors
/// The route cannot be found or the history cannot be written.
pub async fn run(
    options: Options,
    to: Option<&Path>,
    progress: impl Fn(u64),
) -> anyhow::Result<Summary> {
    let queues = route::queues_to_send(&options.namesrv, &options.topic).await?;
    let history = match to {
        Some(path) => Some(Mutex::new(BufWriter::new(
            File::create(path).with_context(|| path.display().to_string())?,
        ))),
        None => None,
    };
    let shared = Arc::new(Shared {
        left: AtomicU64::new(options.count.unwrap_or(u64::MAX)),
        deadline: options.duration.map(|duration| Instant::now() + duration),
        history,
        acked: AtomicU64::new(0),
        unknown: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        options,
    });
    let begin = Instant::now();
    let mut connections = JoinSet::new();
    for number in 0..shared.options.connections {
        connections.spawn(connection(Arc::clone(&shared), queues.clone(), number));
    }
    let mut latency = Histogram::<u64>::new(3)?;
    let mut tick = interval(PROGRESS);
    loop {
        tokio::select! {
            done = connections.join_next() => match done {
                Some(lanes) => latency.add(lanes??)?,
                None => break,
            },
            _ = tick.tick() => progress(shared.acked.load(Ordering::Relaxed)),
        }
    }
    if let Some(history) = &shared.history {
        lock(history).flush().context("writing the history")?;
    }
    let seconds = begin.elapsed().as_secs_f64();
    let acked = shared.acked.load(Ordering::Relaxed);
    #[expect(
        clippy::cast_precision_loss,
        reason = "a rate needs no more than 53 bits"
    )]
    let rate = acked as f64 / seconds;
    Ok(Summary {
        acked,
        unknown: shared.unknown.load(Ordering::Relaxed),
        refused: shared.refused.load(Ordering::Relaxed),
        seconds,
        rate,
        latency_us: [0.5, 0.9, 0.99, 0.999, 1.0]
            .map(|quantile| latency.value_at_quantile(quantile)),
    })
}

/// One connection: connects, runs its lanes until the connection breaks or the run ends, connects again.
async fn connection(
    shared: Arc<Shared>,
    queues: Vec<Queue>,
    number: u32,
) -> anyhow::Result<Histogram<u64>> {
    let mut brokers: Vec<&str> = queues.iter().map(|queue| queue.addr.as_str()).collect();
    brokers.dedup();
    let addr = brokers
        .get(number as usize % brokers.len().max(1))
        .copied()
        .unwrap_or_default()
        .to_owned();
    let own: Arc<[u32]> = queues
        .iter()
        .filter(|queue| queue.addr == addr)
        .map(|queue| queue.id)
        .collect();
    let mut lanes: Vec<Lane> = (0..shared.options.in_flight)
        .map(|slot| Lane {
            number: number * shared.options.in_flight + slot,
            sequence: 0,
        })
        .collect();
    let mut latency = Histogram::<u64>::new(3)?;
    while shared.goes_on() {
        let connecting = timeout(shared.options.patience, route::connect(&addr)).await;
        let Ok(Ok(client)) = connecting else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        let client = Arc::new(client);
        let mut running = JoinSet::new();
        for lane in lanes.drain(..) {
            running.spawn(lane.run(Arc::clone(&shared), Arc::clone(&client), Arc::clone(&own)));
        }
        while let Some(done) = running.join_next().await {
            let (lane, seen) = done??;
            latency.add(seen)?;
            lanes.push(lane);
        }
    }
    Ok(latency)
}

struct Lane {
    number: u32,
    sequence: u64,
}

impl Lane {
    /// Sends until the run ends or the connection breaks.
    async fn run(
        mut self,
        shared: Arc<Shared>,
        client: Arc<Client>,
        queues: Arc<[u32]>,
    ) -> anyhow::Result<(Self, Histogram<u64>)> {
        let mut latency = Histogram::<u64>::new(3)?;
        while shared.take() {
            let request = self.next(&shared, &queues);
            for event in request.sent() {
                shared.note(&event)?;
            }
            let begin = Instant::now();
            match client
                .call(
                    request.command(&shared.options.topic),
                    shared.options.patience,
                )
                .await
            {
                Ok(answer) => {
                    if answer.response_code() == ResponseCode::SUCCESS {
                        latency.record(
                            u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX),
                        )?;
                    }
                    let is_refused = answer.response_code() != ResponseCode::SUCCESS;
                    for event in request.outcome(&answer) {
                        shared.note(&event)?;
                    }
                    let rest = if is_refused {
                        PAUSE.max(shared.options.rest)
                    } else {
                        shared.options.rest
                    };
                    if !rest.is_zero() {
                        sleep(rest).await;
                    }
                }
                Err(error) => {
                    for event in request.unknown(&error.to_string()) {
                        shared.note(&event)?;
                    }
                    client.connection().close();
                    break;
                }
            }
        }
        Ok((self, latency))
    }
}

impl Lane {
    /// The lane's next messages, for the next queue.
    fn next(&mut self, shared: &Shared, queues: &[u32]) -> Request {
        let first = self.sequence;
        let count = u64::from(shared.options.batch.max(1));
        self.sequence += count;
        let turn = (u64::from(self.number) + first / count) % queues.len().max(1) as u64;
        let queue = usize::try_from(turn)
            .ok()
            .and_then(|turn| queues.get(turn))
            .copied()
            .unwrap_or(0);
        let messages = (first..self.sequence)
            .map(|sequence| {
                let key = format!("{}-{}-{sequence}", shared.options.run, self.number);
                let body = body(&key, shared.options.body_bytes);
                (key, body)
            })
            .collect();
        Request {
            producer: self.number,
            first,
            queue,
            messages,
        }
    }
}

impl Shared {
    fn goes_on(&self) -> bool {
        !self.options.stop.load(Ordering::Relaxed)
            && self.left.load(Ordering::Relaxed) > 0
            && self
                .deadline
                .is_none_or(|deadline| Instant::now() < deadline)
    }

    /// Takes one send of those that are left.
    fn take(&self) -> bool {
        self.goes_on()
            && self
                .left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                    left.checked_sub(1)
                })
                .is_ok()
    }

    fn note(&self, event: &Event) -> anyhow::Result<()> {
        match event {
            Event::Acked { .. } => self.acked.fetch_add(1, Ordering::Relaxed),
            Event::Unknown { .. } => self.unknown.fetch_add(1, Ordering::Relaxed),
            Event::Refused { .. } => self.refused.fetch_add(1, Ordering::Relaxed),
            Event::Sent { .. } => 0,
        };
        match &self.history {
            Some(history) => {
                history::write(&mut *lock(history), event).context("writing the history")
            }
            None => Ok(()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A body that differs from message to message: the key, again and again.
pub fn body(key: &str, bytes: usize) -> Bytes {
    key.bytes().chain(*b" ").cycle().take(bytes).collect()
}

/// CRC32 (IEEE), as the record's body checksum before its mask.
pub fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

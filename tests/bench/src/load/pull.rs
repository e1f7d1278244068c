//! The consuming load: pulls of all queues of a topic, each queue with one request open at a time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use rocket_protocol::code::ResponseCode;
use rocket_protocol::command::HeaderFormat;

use super::latency::{self, histogram};
use super::{Control, Watch, Window, attend};
use crate::wire::OPAQUE_BASE;
use crate::wire::answer::{Answer, Record, readable};
use crate::wire::frame::{STAMP_BYTES, topic_name};
use crate::wire::pull::PullFrames;
use crate::wire::socket::{Fill, Poll, Socket};

/// What a consumer does with the end of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtEnd {
    /// It is done with that queue.
    Stop,
    /// It begins again at the queue's first message, so that a run may be longer than the backlog.
    Again,
    /// It waits for new messages (long polling).
    Wait,
}

/// A consuming load on one broker.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Where to pull from.
    pub broker: SocketAddr,
    /// Topic, or what the topics' names begin with.
    pub topic: String,
    /// Number of topics.
    pub topics: u32,
    /// Queues of each topic.
    pub queues: u32,
    /// Form of the headers.
    pub format: HeaderFormat,
    /// TCP connections; queues are spread over them.
    pub connections: u32,
    /// Consumer group.
    pub group: String,
    /// Most messages of one answer.
    pub messages_max: u32,
    /// Where each queue begins.
    pub from: From,
    /// What comes after a queue's end.
    pub at_end: AtEnd,
    /// Whether each pull commits.
    pub commits: bool,
    /// The producer's window when bodies begin with the moment that they were intended at: messages intended in it are
    /// measured from then to their receipt, on the same clock.
    pub stamps: Option<Window>,
    /// Not measured at first.
    pub warm_up: Duration,
    /// Measured then.
    pub measured: Duration,
}

/// Where a consumer begins in each queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// At offset 0.
    First,
    /// Behind the present last message.
    Last,
}

impl Reading {
    /// Catch-up from the first message with Java's default of 32 messages a pull.
    pub fn on(broker: SocketAddr, topic: &str) -> Self {
        Self {
            broker,
            topic: topic.to_owned(),
            topics: 1,
            queues: 8,
            format: HeaderFormat::Compact,
            connections: 4,
            group: "rocket-bench".to_owned(),
            messages_max: 32,
            from: From::First,
            at_end: AtEnd::Stop,
            commits: false,
            stamps: None,
            warm_up: Duration::from_secs(1),
            measured: Duration::from_secs(5),
        }
    }

    /// Runs it on the given clock.
    ///
    /// # Errors
    /// The connection's, an answer that is none, and offsets that are not consecutive.
    pub fn run_in(
        &self,
        window: Window,
        control: &Arc<Control>,
        watch: &mut dyn Watch,
    ) -> anyhow::Result<Pulled> {
        let reader = Reader::start(self, window)?;
        let shared = Arc::clone(control);
        control.working.fetch_add(1, Ordering::Release);
        let thread = std::thread::spawn(move || {
            let outcome = reader.run(&shared);
            shared.working.fetch_sub(1, Ordering::Release);
            outcome
        });
        attend(&window, control, watch);
        match thread.join() {
            Ok(outcome) => outcome,
            Err(_) => bail!("the thread of the consumer panicked"),
        }
    }

    /// Runs it on a clock of its own.
    ///
    /// # Errors
    /// As [`Reading::run_in`].
    pub fn run(&self, watch: &mut dyn Watch) -> anyhow::Result<Pulled> {
        let window = Window::new(self.warm_up, self.measured);
        self.run_in(window, &Arc::default(), watch)
    }
}

/// What a consumer saw.
#[derive(Debug)]
pub struct Pulled {
    /// Seconds that were measured: the window, or less when all queues ended before.
    pub seconds: f64,
    /// Messages in the window.
    pub messages: u64,
    /// Bytes of records in the window.
    pub bytes: u64,
    /// Pulls that brought messages, in the window.
    pub pulls: u64,
    /// Messages in all.
    pub messages_in_all: u64,
    /// Time of each pull that brought messages, or, with stamps, of each message since its stamp; nanoseconds.
    pub latency: Histogram<u64>,
}

impl Pulled {
    /// Megabytes (10^6) of records per second.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a rate needs no more than 53 bits"
    )]
    pub fn megabytes_per_second(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.seconds
    }

    /// Messages per second.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a rate needs no more than 53 bits"
    )]
    pub fn rate(&self) -> f64 {
        self.messages as f64 / self.seconds
    }
}

struct Queue {
    topic: String,
    id: u32,
    next: u64,
    asked: u64,
    connection: usize,
    done: bool,
}

/// A consumer that has connected and knows where each queue begins.
pub struct Reader {
    poll: Poll,
    sockets: Vec<Socket>,
    queues: Vec<Queue>,
    frames: PullFrames,
    at_end: AtEnd,
    stamps: Option<Window>,
    window: Window,
    open: usize,
    pulled: Pulled,
}

impl Reader {
    /// Connects.
    ///
    /// # Errors
    /// The connection's, and a queue that the broker does not know.
    pub fn start(reading: &Reading, window: Window) -> anyhow::Result<Self> {
        let poll = Poll::new().context("epoll")?;
        let count = reading.topics.max(1) * reading.queues.max(1);
        let mut sockets = Vec::new();
        for token in 0..reading.connections.clamp(1, count) as usize {
            let socket = Socket::connect(reading.broker, 64 << 10)
                .with_context(|| format!("connecting to {}", reading.broker))?;
            poll.add(&socket, token)?;
            sockets.push(socket);
        }
        let mut frames = PullFrames::new(reading.format, &reading.group, reading.messages_max);
        frames.commits = reading.commits;
        frames.suspend_ms = if reading.at_end == AtEnd::Wait {
            15_000
        } else {
            0
        };
        let mut caller = crate::wire::call::Caller::connect(reading.broker)?;
        let mut queues = Vec::new();
        for place in 0..count {
            let topic = topic_name(
                &reading.topic,
                reading.topics,
                place / reading.queues.max(1),
            );
            let id = place % reading.queues.max(1);
            let next = match reading.from {
                From::First => 0,
                From::Last => caller.max_offset(&topic, id)?,
            };
            queues.push(Queue {
                topic,
                id,
                next,
                asked: 0,
                connection: place as usize % sockets.len(),
                done: false,
            });
        }
        Ok(Self {
            poll,
            sockets,
            queues,
            frames,
            at_end: reading.at_end,
            stamps: reading.stamps,
            window,
            open: 0,
            pulled: Pulled {
                seconds: window.seconds(),
                messages: 0,
                bytes: 0,
                pulls: 0,
                messages_in_all: 0,
                latency: histogram(),
            },
        })
    }

    /// Pulls until the window ends, every queue is done, or it is told to stop.
    ///
    /// # Errors
    /// The connection's, an answer that is none, and offsets that are not consecutive.
    pub fn run(mut self, control: &Control) -> anyhow::Result<Pulled> {
        for queue in 0..self.queues.len() {
            self.ask(queue, self.window.now());
        }
        for token in 0..self.sockets.len() {
            self.flush(token)?;
        }
        let mut ready = Vec::new();
        let mut now = self.window.now();
        while self.open > 0 && now < self.window.to && !control.stopped() {
            ready.clear();
            self.poll.wait(now, None, &mut ready)?;
            now = self.window.now();
            let before = self.pulled.messages_in_all;
            for token in ready.drain(..) {
                self.read(token, now)?;
                self.flush(token)?;
            }
            let further = self.pulled.messages_in_all - before;
            control.messages.fetch_add(further, Ordering::Relaxed);
        }
        if now < self.window.to {
            self.pulled.seconds = super::seconds(now.saturating_sub(self.window.from)).max(1e-9);
        }
        Ok(self.pulled)
    }

    fn ask(&mut self, index: usize, now: u64) {
        let Some(queue) = self.queues.get_mut(index).filter(|queue| !queue.done) else {
            return;
        };
        let Some(socket) = self.sockets.get_mut(queue.connection) else {
            return;
        };
        let opaque = OPAQUE_BASE + i32::try_from(index).unwrap_or_default();
        queue.asked = now;
        self.open += 1;
        self.frames.write(
            opaque,
            &queue.topic,
            queue.id,
            queue.next,
            &mut socket.output,
        );
    }

    fn flush(&mut self, token: usize) -> io::Result<()> {
        let Some(socket) = self.sockets.get_mut(token) else {
            return Ok(());
        };
        let done = socket.flush()?;
        self.poll.want_write(socket, token, !done)
    }

    fn read(&mut self, token: usize, now: u64) -> anyhow::Result<()> {
        let Some(socket) = self.sockets.get_mut(token) else {
            return Ok(());
        };
        if socket.fill()? == Fill::Nothing {
            return Ok(());
        }
        let mut answered = Vec::new();
        while let Some(frame) = socket.next_frame()? {
            let answer = Answer::scan(frame.kind, frame.header)
                .with_context(|| format!("no answer: {}", readable(frame.header)))?;
            let index = usize::try_from(answer.opaque - OPAQUE_BASE).unwrap_or(usize::MAX);
            let queue = self
                .queues
                .get_mut(index)
                .with_context(|| format!("an answer to no pull: {}", readable(frame.header)))?;
            self.open = self.open.saturating_sub(1);
            match ResponseCode(answer.code) {
                ResponseCode::SUCCESS => {
                    take(
                        &mut self.pulled,
                        queue,
                        frame.body,
                        now,
                        self.window,
                        self.stamps,
                    )?;
                }
                // Nothing new: PULL_NOT_FOUND (19) or PULL_RETRY_IMMEDIATELY (20); at the end of a queue of Apache's 19 too.
                ResponseCode::PULL_NOT_FOUND | ResponseCode::PULL_RETRY_IMMEDIATELY => {
                    let next = answer.next_begin.unwrap_or(queue.next);
                    match self.at_end {
                        AtEnd::Stop if answer.max.is_none_or(|max| queue.next >= max) => {
                            queue.done = true;
                        }
                        AtEnd::Again if answer.max.is_none_or(|max| queue.next >= max) => {
                            queue.next = 0;
                        }
                        _ => queue.next = next,
                    }
                }
                _ => bail!("pull of queue {}: {}", queue.id, readable(frame.header)),
            }
            answered.push(index);
        }
        for index in answered {
            self.ask(index, now);
        }
        Ok(())
    }
}

/// Walks the records of one answer; their offsets must go on from the queue's next one.
fn take(
    pulled: &mut Pulled,
    queue: &mut Queue,
    body: &[u8],
    now: u64,
    window: Window,
    stamps: Option<Window>,
) -> anyhow::Result<()> {
    let measured = window.measures(now);
    let mut rest = body;
    let mut messages = 0;
    while !rest.is_empty() {
        let record = Record::first(rest).with_context(|| {
            format!(
                "no record behind offset {} of queue {}",
                queue.next, queue.id
            )
        })?;
        if record.queue_offset != queue.next {
            bail!(
                "queue {} of {} gives offset {} where {} is next",
                queue.id,
                queue.topic,
                record.queue_offset,
                queue.next
            );
        }
        queue.next += 1;
        messages += 1;
        if let Some(stamps) = stamps
            && let Some(stamp) = record.body.first_chunk::<STAMP_BYTES>()
        {
            let stamp = u64::from_be_bytes(*stamp);
            if stamps.measures(stamp) {
                latency::record(&mut pulled.latency, now.saturating_sub(stamp));
            }
        }
        rest = rest.get(record.len..).unwrap_or_default();
    }
    pulled.messages_in_all += messages;
    if measured {
        pulled.messages += messages;
        pulled.bytes += body.len() as u64;
        pulled.pulls += 1;
        if stamps.is_none() {
            latency::record(&mut pulled.latency, now.saturating_sub(queue.asked));
        }
    }
    Ok(())
}

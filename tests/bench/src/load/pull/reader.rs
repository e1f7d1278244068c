//! A consumer's thread with its connections and queues.

use std::io;
use std::sync::atomic::Ordering;

use anyhow::{Context, bail};
use rocket_protocol::code::ResponseCode;

use super::{AtEnd, From, Pulled, Reading};
use crate::load::latency::{self, histogram};
use crate::load::{Control, Window, seconds};
use crate::wire::OPAQUE_BASE;
use crate::wire::answer::{Answer, Record, readable};
use crate::wire::frame::{STAMP_BYTES, topic_name};
use crate::wire::pull::PullFrames;
use crate::wire::socket::{Fill, Poll, Socket};

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
            self.pulled.seconds = seconds(now.saturating_sub(self.window.from)).max(1e-9);
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

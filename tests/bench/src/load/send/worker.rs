//! One thread of the generator with its connections.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;

use super::{Load, OPEN_LOOP_IN_FLIGHT, Sent, Spread};
use crate::load::flow::{Flow, Pace};
use crate::load::{Control, Window, latency, nanos};
use crate::wire::answer::{Answer, readable};
use crate::wire::frame::{Message, SendFrames, Shape};
use crate::wire::socket::{Fill, Poll, Socket};

/// After sending ended, answers are waited for this long.
const DRAIN: Duration = Duration::from_secs(10);

/// Unsent bytes of one connection above which nothing is added.
const OUTPUT_BYTES_MAX: usize = 4 << 20;

struct Conn {
    socket: Socket,
    frames: SendFrames,
    flow: Flow,
    chooser: Chooser,
    /// First entry of its broker in `Sent::seen`.
    base: usize,
    alive: bool,
}

struct Chooser {
    spread: Spread,
    places: u64,
    state: u64,
}

impl Chooser {
    fn next(&mut self) -> u64 {
        match self.spread {
            Spread::Turns => {
                self.state += 1;
                self.state % self.places
            }
            Spread::Random => {
                // xorshift64*: uniform enough to hit every queue, two nanoseconds.
                self.state ^= self.state >> 12;
                self.state ^= self.state << 25;
                self.state ^= self.state >> 27;
                (self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % self.places
            }
        }
    }
}

pub(super) struct Worker {
    poll: Poll,
    conns: Vec<Conn>,
    window: Window,
    queues: u32,
    batch: u32,
    stamps: bool,
    open_loop: bool,
    born_base: u64,
    pub(super) sent: Sent,
}

impl Worker {
    pub(super) fn start(load: &Load, window: Window, number: u32, of: u32) -> anyhow::Result<Self> {
        let poll = Poll::new().context("epoll")?;
        let mut conns = Vec::new();
        for index in (number..load.connections).step_by(of as usize) {
            let conn = Conn::open(load, window, index)?;
            poll.add(&conn.socket, conns.len())?;
            conns.push(conn);
        }
        Ok(Self {
            poll,
            conns,
            window,
            queues: load.queues.max(1),
            batch: load.batch.max(1),
            stamps: load.stamps,
            open_loop: load.rate.is_some(),
            born_base: millis().saturating_sub(window.now() / 1_000_000),
            sent: Sent::new(load, window),
        })
    }

    pub(super) fn run(&mut self, control: &Control) -> anyhow::Result<()> {
        let drain_end = self.window.to.saturating_add(nanos(DRAIN));
        let mut ready = Vec::with_capacity(256);
        let mut now = self.window.now();
        for token in 0..self.conns.len() {
            self.turn(token, now, Step::Requests);
        }
        loop {
            now = self.window.now();
            let stopped = control.stopped();
            let idle = self.conns.iter().all(|conn| {
                !conn.alive || (conn.flow.open() == 0 && (stopped || conn.flow.is_out(now)))
            });
            if idle || now >= drain_end {
                break;
            }
            let wake = (self.open_loop && !stopped)
                .then(|| {
                    self.conns
                        .iter()
                        .filter_map(|conn| conn.flow.wake_at(now))
                        .min()
                })
                .flatten();
            if wake.is_none_or(|wake| wake > now) {
                ready.clear();
                self.poll.wait(now, wake, &mut ready)?;
            }
            now = self.window.now();
            let before = self.sent.messages_in_all;
            let step = if stopped { Step::Answers } else { Step::Both };
            for token in ready.drain(..) {
                self.turn(token, now, step);
            }
            if self.open_loop && !stopped {
                for token in 0..self.conns.len() {
                    self.turn(token, now, Step::Requests);
                }
            }
            let further = self.sent.messages_in_all - before;
            control.messages.fetch_add(further, Ordering::Relaxed);
        }
        for conn in &mut self.conns {
            self.sent.unanswered += conn.flow.give_up(now, &mut self.sent.latency);
        }
        Ok(())
    }

    /// One step of one connection; a connection that breaks is noted and left out.
    fn turn(&mut self, token: usize, now: u64, step: Step) {
        let Some(conn) = self.conns.get_mut(token).filter(|conn| conn.alive) else {
            return;
        };
        let outcome = if step == Step::Requests {
            Ok(())
        } else {
            conn.read(now, u64::from(self.batch), self.queues, &mut self.sent)
        };
        let outcome = outcome.and_then(|()| {
            if step != Step::Answers {
                conn.add(now, self.born_base, self.queues, self.batch, self.stamps);
            }
            let done = conn.socket.flush()?;
            self.poll.want_write(&mut conn.socket, token, !done)
        });
        if let Err(error) = outcome {
            conn.alive = false;
            let _ = self.poll.forget(&conn.socket);
            self.sent.broken += 1;
            self.sent.trouble(|| format!("a connection broke: {error}"));
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Take answers.
    Answers,
    /// Take answers, then let requests leave.
    Both,
    /// Let requests leave.
    Requests,
}

impl Conn {
    fn open(load: &Load, window: Window, index: u32) -> anyhow::Result<Self> {
        let brokers = load.brokers.len().max(1);
        let broker = index as usize % brokers;
        let addr = *load.brokers.get(broker).context("no broker")?;
        let shape = Shape {
            format: load.format,
            topic: load.topic.clone(),
            topics: load.topics.max(1),
            queues: load.queues.max(1),
            body_bytes: load.body_bytes,
            batch: load.batch.max(1),
            origin: origin(index),
        };
        let frames = SendFrames::new(&shape);
        let pace = match load.rate {
            None => Pace::Closed,
            Some(rate) => {
                let interval = f64::from(load.connections.max(1)) * 1e9 / rate;
                Pace::Open {
                    interval,
                    first: interval * f64::from(index) / f64::from(load.connections.max(1)),
                }
            }
        };
        let in_flight = match pace {
            Pace::Closed => load.in_flight,
            Pace::Open { .. } => load.in_flight.max(OPEN_LOOP_IN_FLIGHT),
        };
        let room = (load.in_flight as usize * frames.bytes_max()).min(2 * OUTPUT_BYTES_MAX);
        let places = u64::from(load.topics.max(1)) * u64::from(load.queues.max(1));
        let share = load.requests_max / u64::from(load.connections.max(1));
        let rest = load.requests_max % u64::from(load.connections.max(1));
        let left = share.saturating_add(u64::from(u64::from(index) < rest));
        Ok(Self {
            socket: Socket::connect(addr, room).with_context(|| format!("connecting to {addr}"))?,
            frames,
            flow: Flow::new(pace, window, in_flight, left),
            chooser: Chooser {
                spread: load.spread,
                places,
                state: match load.spread {
                    Spread::Turns => u64::from(index),
                    Spread::Random => (u64::from(index) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
                },
            },
            base: broker * usize::try_from(places)?,
            alive: true,
        })
    }

    /// Adds requests to the output as long as they may leave.
    fn add(&mut self, now: u64, born_base: u64, queues: u32, batch: u32, stamps: bool) {
        let born = born_base + now / 1_000_000;
        while self.socket.unsent() < OUTPUT_BYTES_MAX {
            let mut place = 0;
            let chooser = &mut self.chooser;
            let started = self.flow.start(now, || {
                place = chooser.next();
                place
            });
            let Some(start) = started else {
                break;
            };
            let place = u32::try_from(place).unwrap_or(0);
            let message = Message {
                opaque: start.opaque,
                topic: place / queues,
                queue: place % queues,
                born,
                sequence: start.index * u64::from(batch),
                stamp: stamps.then_some(start.intended),
            };
            self.frames.write(&message, &mut self.socket.output);
        }
    }

    fn read(&mut self, now: u64, batch: u64, queues: u32, sent: &mut Sent) -> io::Result<()> {
        if self.socket.fill()? == Fill::Nothing {
            return Ok(());
        }
        while let Some(frame) = self.socket.next_frame()? {
            let bad = |what: &str| {
                let text = format!("{what}: {}", readable(frame.header));
                io::Error::new(io::ErrorKind::InvalidData, text)
            };
            let answer = Answer::scan(frame.kind, frame.header)
                .ok_or_else(|| bad("an answer that cannot be read"))?;
            let Some((finished, took)) = self.flow.finish(now, answer.opaque) else {
                return Err(bad("an answer to no open request"));
            };
            if answer.code != 0 {
                sent.refused += 1;
                sent.trouble(|| readable(frame.header));
                continue;
            }
            let (Some(queue), Some(offset)) = (answer.queue, answer.offset) else {
                return Err(bad("SEND_OK without queue and offset"));
            };
            if u64::from(queue) != finished.note % u64::from(queues) {
                return Err(bad("an answer for another queue"));
            }
            let place = self.base + usize::try_from(finished.note).unwrap_or(usize::MAX);
            if let Some(seen) = sent.seen.get_mut(place) {
                seen.note(offset, batch);
            }
            sent.messages_in_all += batch;
            if finished.measured {
                sent.messages += batch;
                latency::record(&mut sent.latency, took);
            }
        }
        Ok(())
    }
}

fn millis() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(0)
}

/// Distinguishes unique keys of runs and connections: 32 bits of time and process, 16 bits of connection.
fn origin(connection: u32) -> u64 {
    static RUN: AtomicU64 = AtomicU64::new(0);
    let run = (millis() << 4)
        ^ u64::from(std::process::id())
        ^ (RUN.fetch_add(1, Ordering::Relaxed) << 20);
    (run << 16) | u64::from(connection & 0xffff)
}

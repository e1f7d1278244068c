//! The producing load: threads, connections, and what they saw.

mod worker;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use hdrhistogram::Histogram;
use rocket_protocol::command::HeaderFormat;

use super::latency::histogram;
use super::offsets::Seen;
use super::{Control, Watch, Window, attend, per_second};
use worker::Worker;

/// How many requests an open loop may have open on one connection.
pub const OPEN_LOOP_IN_FLIGHT: u32 = 1 << 14;

/// Which queue the next request goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// One after the other, each connection starting elsewhere, as the Java client does.
    Turns,
    /// Uniformly at random.
    Random,
}

/// A producing load on one broker.
#[derive(Debug, Clone)]
pub struct Load {
    /// Where to send to; connections are spread over the addresses.
    pub brokers: Vec<SocketAddr>,
    /// Topic, or what the topics' names begin with.
    pub topic: String,
    /// Number of topics.
    pub topics: u32,
    /// Queues of each topic on each broker.
    pub queues: u32,
    /// Form of the headers.
    pub format: HeaderFormat,
    /// TCP connections.
    pub connections: u32,
    /// Open requests of a connection.
    pub in_flight: u32,
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Messages of a request.
    pub batch: u32,
    /// Requests per second over all connections; without it the loop is closed.
    pub rate: Option<f64>,
    /// Which queue is next.
    pub spread: Spread,
    /// Whether bodies begin with the moment that they were intended at.
    pub stamps: bool,
    /// Most requests over all connections.
    pub requests_max: u64,
    /// Threads of the generator.
    pub threads: u32,
    /// Not measured at first.
    pub warm_up: Duration,
    /// Measured then.
    pub measured: Duration,
}

impl Load {
    /// A closed loop of single messages on a topic with 8 queues, with a second of warm-up and 5 s measured.
    pub fn on(broker: SocketAddr, topic: &str) -> Self {
        Self {
            brokers: vec![broker],
            topic: topic.to_owned(),
            topics: 1,
            queues: 8,
            format: HeaderFormat::Compact,
            connections: 8,
            in_flight: 8,
            body_bytes: 1024,
            batch: 1,
            rate: None,
            spread: Spread::Turns,
            stamps: false,
            requests_max: u64::MAX,
            threads: 1,
            warm_up: Duration::from_secs(1),
            measured: Duration::from_secs(5),
        }
    }

    /// Runs it; `window` gives the clock, so that a consumer can share it.
    ///
    /// # Errors
    /// A connection cannot be made or breaks, or an answer is none. What the broker refuses is counted, no error.
    pub fn run_in(
        &self,
        window: Window,
        control: &Arc<Control>,
        watch: &mut dyn Watch,
    ) -> anyhow::Result<Sent> {
        let mut threads = Vec::new();
        let count = self.threads.clamp(1, self.connections.max(1));
        for number in 0..count {
            let load = self.clone();
            threads.push(control.start(move |control| {
                let mut worker = Worker::start(&load, window, number, count)?;
                worker.run(control).map(|()| worker.sent)
            }));
        }
        attend(&window, control, watch);
        let mut sent = Sent::new(self, window);
        for thread in threads {
            match thread.join() {
                Ok(outcome) => sent.merge(outcome?),
                Err(_) => bail!("a thread of the generator panicked"),
            }
        }
        Ok(sent)
    }

    /// Runs it on a clock of its own.
    ///
    /// # Errors
    /// As [`Load::run_in`].
    pub fn run(&self, watch: &mut dyn Watch) -> anyhow::Result<Sent> {
        let window = Window::new(self.warm_up, self.measured);
        self.run_in(window, &Arc::default(), watch)
    }
}

/// What a load saw.
#[derive(Debug)]
pub struct Sent {
    /// Seconds of the measured window.
    pub seconds: f64,
    /// Messages acknowledged with `SEND_OK` in the window.
    pub messages: u64,
    /// Messages acknowledged in all.
    pub messages_in_all: u64,
    /// Requests answered with another code, in all.
    pub refused: u64,
    /// Requests without an answer.
    pub unanswered: u64,
    /// Connections that broke.
    pub broken: u64,
    /// The first bad thing in words.
    pub first_trouble: Option<String>,
    /// Latency of acknowledged requests in the window, in nanoseconds.
    pub latency: Histogram<u64>,
    /// Offsets by topic and queue: entry `topic * queues + queue` of each broker after the other.
    pub seen: Vec<Seen>,
}

impl Sent {
    fn new(load: &Load, window: Window) -> Self {
        let places = load.brokers.len() * load.topics as usize * load.queues as usize;
        Self {
            seconds: window.seconds(),
            messages: 0,
            messages_in_all: 0,
            refused: 0,
            unanswered: 0,
            broken: 0,
            first_trouble: None,
            latency: histogram(),
            seen: vec![Seen::default(); places],
        }
    }

    fn merge(&mut self, other: Self) {
        self.messages += other.messages;
        self.messages_in_all += other.messages_in_all;
        self.refused += other.refused;
        self.unanswered += other.unanswered;
        self.broken += other.broken;
        self.first_trouble = self.first_trouble.take().or(other.first_trouble);
        // Both have the same bounds.
        let _ = self.latency.add(&other.latency);
        for (own, further) in self.seen.iter_mut().zip(&other.seen) {
            own.merge(further);
        }
    }

    fn trouble(&mut self, what: impl FnOnce() -> String) {
        self.first_trouble.get_or_insert_with(what);
    }

    /// Acknowledged messages per second.
    pub fn rate(&self) -> f64 {
        per_second(self.messages, self.seconds)
    }

    /// Whether each queue's offsets are consecutive. Only for a run that had its queues for itself.
    ///
    /// # Errors
    /// Names the first queues whose offsets are not. A run with unanswered requests cannot be checked and says so.
    pub fn check_dense(&self) -> anyhow::Result<()> {
        if self.unanswered > 0 || self.broken > 0 {
            let trouble = self.first_trouble.as_deref().unwrap_or("no answer came");
            bail!(
                "{} requests without an answer, {} broken connections: {trouble}",
                self.unanswered,
                self.broken
            );
        }
        let bad: BTreeMap<usize, _> = self
            .seen
            .iter()
            .enumerate()
            .filter_map(|(place, seen)| Some((place, seen.check().err()?)))
            .collect();
        match bad.first_key_value() {
            Some((place, why)) => bail!("{} queues, the first of them {place}: {why}", bad.len()),
            None => Ok(()),
        }
    }
}

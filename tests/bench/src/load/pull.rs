//! The consuming load: pulls of all queues of a topic, each queue with one request open at a time.

mod reader;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use hdrhistogram::Histogram;
use rocket_protocol::command::HeaderFormat;

use super::{Control, Watch, Window, attend, per_second};
pub use reader::Reader;

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
        let thread = control.start(move |control| reader.run(control));
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
    pub fn megabytes_per_second(&self) -> f64 {
        per_second(self.bytes, self.seconds) / 1e6
    }

    /// Messages per second.
    pub fn rate(&self) -> f64 {
        per_second(self.messages, self.seconds)
    }
}

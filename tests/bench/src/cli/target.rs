//! Which broker and which queues a load is for.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use bench::load::{nanos, send};
use bench::route;
use bench::wire::call::{Caller, resolve};
use bench::wire::frame::topic_name;
use clap::{Args, ValueEnum};
use rocket_protocol::command::HeaderFormat;

#[derive(Args)]
pub(super) struct Target {
    /// Address of a name server, which tells brokers and queues
    #[arg(long, default_value = "127.0.0.1:9876")]
    pub(super) namesrv: String,
    /// Address of a broker, instead of asking a name server
    #[arg(long)]
    pub(super) broker: Option<String>,
    /// Topic
    #[arg(long)]
    pub(super) topic: String,
    /// Number of topics; above 1 their names are TOPIC-000000, TOPIC-000001, ...
    #[arg(long, default_value_t = 1)]
    pub(super) topics: u32,
    /// Queues of each topic on each broker; with a name server it is asked
    #[arg(long, default_value_t = 8)]
    pub(super) queues: u32,
    /// Form of the headers
    #[arg(long, value_enum, default_value = "compact")]
    pub(super) header: Header,
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Header {
    /// RocketMQ's binary form
    Compact,
    /// JSON, the clients' default
    Json,
}

impl From<Header> for HeaderFormat {
    fn from(header: Header) -> Self {
        match header {
            Header::Compact => Self::Compact,
            Header::Json => Self::Json,
        }
    }
}

/// How long to measure.
#[derive(Args)]
pub(super) struct Time {
    /// Seconds that are measured
    #[arg(long, default_value_t = 10.0)]
    pub(super) seconds: f64,
    /// Seconds before, not measured
    #[arg(long, default_value_t = 1.0)]
    pub(super) warm_up: f64,
}

impl Time {
    pub(super) fn parts(&self) -> anyhow::Result<(Duration, Duration)> {
        Ok((
            Duration::try_from_secs_f64(self.warm_up).context("--warm-up")?,
            Duration::try_from_secs_f64(self.seconds).context("--seconds")?,
        ))
    }
}

impl Target {
    /// The masters and the number of queues of each topic on one of them.
    pub(super) fn find(&self) -> anyhow::Result<(Vec<SocketAddr>, u32)> {
        if let Some(broker) = &self.broker {
            return Ok((vec![resolve(broker)?], self.queues));
        }
        let name = topic_name(&self.topic, self.topics, 0);
        let queues = async_run(route::queues_to_send(&self.namesrv, &name))?;
        let mut brokers = Vec::new();
        for queue in &queues {
            let addr = resolve(&queue.addr)?;
            if !brokers.contains(&addr) {
                brokers.push(addr);
            }
        }
        let per_broker = queues.iter().map(|queue| queue.id + 1).max().unwrap_or(1);
        Ok((brokers, per_broker))
    }

    /// Creates the topics with `queues` queues each.
    pub(super) fn create(&self, queues: u32) -> anyhow::Result<()> {
        if let Some(broker) = &self.broker {
            return create_on(resolve(broker)?, &self.topic, self.topics, queues);
        }
        for number in 0..self.topics.max(1) {
            let name = topic_name(&self.topic, self.topics, number);
            async_run(route::create(&self.namesrv, &name, queues))?;
        }
        Ok(())
    }

    /// A load on this target with everything else as by default.
    pub(super) fn load(&self) -> anyhow::Result<send::Load> {
        let (brokers, queues) = self.find()?;
        let first = *brokers.first().context("no broker")?;
        Ok(send::Load {
            brokers,
            queues,
            topics: self.topics,
            format: self.header.into(),
            ..send::Load::on(first, &self.topic)
        })
    }
}

/// Creates topics on one broker, with progress when they are many.
pub(super) fn create_on(
    broker: SocketAddr,
    topic: &str,
    topics: u32,
    queues: u32,
) -> anyhow::Result<()> {
    let mut caller = Caller::connect(broker)?;
    let mut told = std::time::Instant::now();
    for number in 0..topics.max(1) {
        caller.create_topic(&topic_name(topic, topics, number), queues)?;
        if nanos(told.elapsed()) > 1_000_000_000 {
            told = std::time::Instant::now();
            eprintln!("{} of {topics} topics created", number + 1);
        }
    }
    Ok(())
}

pub(super) fn async_run<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

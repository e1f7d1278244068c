//! Both brokers with the same settings, warm, each with a topic of eight queues.

use std::time::Duration;

use anyhow::Context;

use super::pairs::{FOREIGN, Figures, Gather, Pair, Side};
use super::server::{Broker, Cast, NameServer};
use super::{Options, Talk, memory, settle};
use crate::load::latency::Percentiles;
use crate::load::pull::{AtEnd, Pulled, Reading};
use crate::load::send::{Load, Sent};
use crate::load::{Nobody, stored};
use crate::process::{Meter, Usage};
use crate::wire::call::Caller;

/// The topic that both have.
pub(super) const TOPIC: &str = "bench";
pub(super) const QUEUES: u32 = 8;

/// Both brokers.
pub(super) struct Stage<'a> {
    pub(super) options: &'a Options,
    pub(super) talk: &'a Talk,
    pub(super) namesrv: &'a NameServer,
    pub(super) cast: Cast,
    apache: Option<Broker>,
    ours: Option<Broker>,
    /// How often the stores were begun anew.
    pub(super) renewed: u32,
    /// Bytes that a run may append.
    appended_max: u64,
}

/// What a run may append before any was measured.
const APPENDED_AT_FIRST: u64 = 1 << 30;

impl<'a> Stage<'a> {
    pub(super) fn start(
        options: &'a Options,
        talk: &'a Talk,
        namesrv: &'a NameServer,
        cast: Cast,
    ) -> anyhow::Result<Self> {
        let mut stage = Self {
            options,
            talk,
            namesrv,
            cast,
            apache: None,
            ours: None,
            renewed: 0,
            appended_max: APPENDED_AT_FIRST,
        };
        stage.begin()?;
        Ok(stage)
    }

    fn begin(&mut self) -> anyhow::Result<()> {
        self.talk
            .say(&format!("{}: starting both brokers", self.cast.name));
        self.apache = None;
        self.ours = None;
        for side in [Side::Apache, Side::Ours] {
            let broker = Broker::start(self.options, self.namesrv, side, self.cast)?;
            Caller::connect(broker.addr)?.create_topic(TOPIC, QUEUES)?;
            match side {
                Side::Apache => self.apache = Some(broker),
                Side::Ours => self.ours = Some(broker),
            }
        }
        self.warm(Side::Apache, self.options.warm)?;
        self.warm(Side::Ours, Duration::from_secs(1))
    }

    /// Sends and pulls for a while, so that Java's compiler has seen it.
    pub(super) fn warm(&mut self, side: Side, time: Duration) -> anyhow::Result<()> {
        self.talk.say(&format!(
            "{}: warming {side:?} for {time:?}",
            self.cast.name
        ));
        let addr = self.broker(side)?.addr;
        let shapes = [(8, 8, 1024, 1), (4, 64, 128, 1), (8, 1, 1024, 32)];
        for (connections, in_flight, body_bytes, batch) in shapes {
            let load = Load {
                connections,
                in_flight,
                body_bytes,
                batch,
                warm_up: Duration::ZERO,
                measured: time / 4,
                ..Load::on(addr, TOPIC)
            };
            load.run(&mut Nobody)?;
        }
        let reading = Reading {
            at_end: AtEnd::Again,
            warm_up: Duration::ZERO,
            measured: time / 4,
            ..Reading::on(addr, TOPIC)
        };
        reading.run(&mut Nobody)?;
        Ok(())
    }

    pub(super) fn broker(&mut self, side: Side) -> anyhow::Result<&mut Broker> {
        let broker = match side {
            Side::Apache => &mut self.apache,
            Side::Ours => &mut self.ours,
        };
        broker.as_mut().context("a broker that does not run")
    }

    /// Empties both stores when they have grown beyond the bound.
    pub(super) fn keep_small(&mut self) -> anyhow::Result<()> {
        let bytes =
            self.broker(Side::Apache)?.stored_bytes() + self.broker(Side::Ours)?.stored_bytes();
        if bytes > self.options.store_bytes_max {
            self.renewed += 1;
            self.begin()?;
        }
        Ok(())
    }

    /// A load on one broker with this stage's topic.
    pub(super) fn load(&mut self, side: Side) -> anyhow::Result<Load> {
        Ok(Load {
            format: self.options.header,
            measured: self.options.measured,
            warm_up: self.options.measured / 5,
            ..Load::on(self.broker(side)?.addr, TOPIC)
        })
    }

    /// The other broker counts as foreign: it has to be idle.
    pub(super) fn meter(&mut self, side: Side) -> anyhow::Result<Meter> {
        Ok(Meter::new(&self.broker(side)?.pids()))
    }

    /// Runs a load that has its queues for itself, checks what was acknowledged, and gives its figures.
    pub(super) fn send(&mut self, side: Side, load: &Load) -> anyhow::Result<Figures> {
        settle(self.options)?;
        let mut meter = self.meter(side)?;
        let sent = memory::run(load, &mut meter, self.appended_max)?;
        self.appended_max = self.appended_max.max(memory::appended(load, &sent));
        let waited = self.check(side, load, &sent)?;
        let mut figures = send_figures(&sent, &meter.usage());
        figures.insert("visible_after_ms".to_owned(), waited.as_secs_f64() * 1e3);
        Ok(figures)
    }

    /// That each acknowledged message is there once; how long until it was in its queue.
    pub(super) fn check(
        &mut self,
        side: Side,
        load: &Load,
        sent: &Sent,
    ) -> anyhow::Result<Duration> {
        let addr = self.broker(side)?.addr;
        if sent.refused > 0 {
            let trouble = sent.first_trouble.as_deref().unwrap_or_default();
            self.talk.say(&format!(
                "{side:?} refused {} requests: {trouble}",
                sent.refused
            ));
        }
        sent.check_dense()
            .and_then(|()| {
                let place = (load.topic.as_str(), load.topics, load.queues);
                stored::check(addr, place, load.body_bytes, &sent.seen)
            })
            .with_context(|| format!("{side:?} is not counted"))
    }

    /// Runs a consumer and gives its figures.
    pub(super) fn pull(&mut self, side: Side, reading: &Reading) -> anyhow::Result<Figures> {
        settle(self.options)?;
        let mut meter = self.meter(side)?;
        let pulled = reading.run(&mut meter)?;
        Ok(pull_figures(&pulled, &meter.usage()))
    }

    /// Measures pairs of `measure` until enough of them count.
    pub(super) fn pairs(
        &mut self,
        wanted: usize,
        mut measure: impl FnMut(&mut Self, Side) -> anyhow::Result<Figures>,
    ) -> anyhow::Result<Gather> {
        let mut gather = Gather::new(wanted, self.options.foreign_max());
        while let Some(order) = gather.next_order() {
            self.keep_small()?;
            let mut pair = Pair::default();
            for side in order {
                let figures = measure(self, side)?;
                match side {
                    Side::Apache => pair.apache = figures,
                    Side::Ours => pair.ours = figures,
                }
            }
            let told = tell(&pair);
            let number = gather.accepted.len() + 1;
            match gather.offer(pair) {
                Some(why) => self.talk.say(&format!("  refused: {why}")),
                None => self
                    .talk
                    .say(&format!("  pair {number} of {wanted}: {told}")),
            }
        }
        Ok(gather)
    }
}

/// The figures that people look at while it runs.
fn tell(pair: &Pair) -> String {
    let names = [
        "rate",
        "p50_us",
        "p99_us",
        "cores",
        "mb_per_s",
        "many_rate",
        "with_p999_us",
        FOREIGN,
    ];
    let text: Vec<String> = names
        .iter()
        .filter_map(|name| {
            let (apache, ours) = (pair.apache.get(*name), pair.ours.get(*name)?);
            let digits = usize::from(*ours < 10.0) * 2;
            Some(match apache {
                Some(apache) => format!("{name} {apache:.digits$} / {ours:.digits$}"),
                None => format!("{name} - / {ours:.digits$}"),
            })
        })
        .collect();
    format!("{} (Apache's / ours)", text.join(", "))
}

/// What a producing load gave.
#[expect(clippy::cast_precision_loss, reason = "figures for ratios")]
pub(super) fn send_figures(sent: &Sent, usage: &Usage) -> Figures {
    let latency = Percentiles::of(&sent.latency);
    let mut figures = latency_figures(&latency, "");
    figures.extend(usage_figures(usage));
    let cpu = usage.target_seconds().max(1e-9);
    figures.extend([
        ("rate".to_owned(), sent.rate()),
        ("refused".to_owned(), sent.refused as f64),
        ("messages_per_cpu_s".to_owned(), sent.messages as f64 / cpu),
        (
            "cpu_us".to_owned(),
            cpu * 1e6 / (sent.messages as f64).max(1.0),
        ),
    ]);
    figures
}

/// Percentiles under their names.
pub(super) fn latency_figures(latency: &Percentiles, prefix: &str) -> Figures {
    [
        ("p50", latency.p50),
        ("p90", latency.p90),
        ("p99", latency.p99),
        ("p999", latency.p999),
        ("p9999", latency.p9999),
        ("max", latency.max),
    ]
    .map(|(name, micros)| (format!("{prefix}{name}_us"), micros))
    .into()
}

fn usage_figures(usage: &Usage) -> Figures {
    [
        ("cores", usage.target_cores),
        ("generator_cores", usage.own_cores),
        ("kernel_cores", usage.kernel_cores),
        (FOREIGN, usage.foreign_cores),
        ("anonymous_mib", mebibytes(usage.anonymous_bytes)),
        ("write_mib", mebibytes(usage.write_bytes)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

#[expect(clippy::cast_precision_loss, reason = "figures for ratios")]
fn pull_figures(pulled: &Pulled, usage: &Usage) -> Figures {
    let mut figures = usage_figures(usage);
    let cpu = usage.target_seconds().max(1e-9);
    figures.extend([
        ("rate".to_owned(), pulled.rate()),
        ("mb_per_s".to_owned(), pulled.megabytes_per_second()),
        ("mb_per_cpu_s".to_owned(), pulled.bytes as f64 / 1e6 / cpu),
    ]);
    figures
}

/// Bytes in MiB.
#[expect(clippy::cast_precision_loss, reason = "figures for ratios")]
pub(super) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

//! P8 and P9: rows with stores of their own.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::fs::{Advice, fadvise};

use super::memory::{self, Memory};
use super::pairs::{Figures, Gather, Pair, Side};
use super::sends::fill;
use super::server::{Broker, Cast, NameServer};
use super::stage::{QUEUES, Stage, latency_figures, send_figures};
use super::{Found, Options, Talk, settle};
use crate::load::latency::Percentiles;
use crate::load::pull::Reading;
use crate::load::send::{Load, Spread};
use crate::load::{Control, Nobody, Window, stored};
use crate::process::Meter;
use crate::wire::call::Caller;
use crate::wire::frame::topic_name;

/// A cold catch-up that takes longer is cut off.
const CATCH_UP_MAX: Duration = Duration::from_mins(3);

/// About the bytes of a record with a body of 1 KiB.
const RECORD_BYTES: u64 = 1270;
/// What a run with many queues may append.
const APPENDED: u64 = 2 << 30;
/// A cold catch-up brings its backlog into the page cache in about this time.
const READING: Duration = Duration::from_secs(25);

/// P8: sends at 30 % of the broker's own maximum, without a reader and while another client reads a backlog that is not in the
/// page cache.
pub(super) fn cold_catch_up(stage: &mut Stage<'_>) -> anyhow::Result<Found> {
    const BACKLOG: &str = "backlog";
    let messages = stage.options.backlog_bytes / RECORD_BYTES;
    let mut found = Found::default();
    // Of each broker: the rate of its sends, and the messages of its backlog.
    let mut plans = Vec::new();
    for side in [Side::Apache, Side::Ours] {
        stage
            .talk
            .say(&format!("  {side:?}: {messages} messages of backlog"));
        let filled = fill(stage, side, BACKLOG, messages)?;
        let load = stage.load(side)?;
        let figures = stage.send(side, &load)?;
        let rate = figures.get("rate").context("a rate")? * 0.3;
        plans.push((side, rate, filled));
        found.remarks.push(format!(
            "{side:?} was sent {rate:.0} messages/s, 30 % of its closed loop with 64 in flight."
        ));
    }
    let wanted = stage.options.slow_pairs;
    let mut gather = Gather::new(wanted, stage.options.foreign_max());
    while let Some(order) = gather.next_order() {
        let mut pair = Pair::default();
        for side in order {
            let plan = plans.iter().find(|plan| plan.0 == side);
            let (_, rate, filled) = *plan.context("a plan")?;
            let figures = beside_a_reader(stage, side, rate, BACKLOG, filled)?;
            let told = |name: &str| figures.get(name).copied().unwrap_or(f64::NAN) / 1e3;
            stage.talk.say(&format!(
                "  {side:?}: p99.9 {:.1} ms without, {:.1} ms with {:.0} MB/s of cold reading",
                told("without_p999_us"),
                told("with_p999_us"),
                told("read_mb_per_s") * 1e3
            ));
            match side {
                Side::Apache => pair.apache = figures,
                Side::Ours => pair.ours = figures,
            }
        }
        if let Some(why) = gather.offer(pair) {
            stage.talk.say(&format!("  refused: {why}"));
        }
    }
    found.pairs = gather.accepted;
    found.refused = gather.refused;
    Ok(found)
}

fn beside_a_reader(
    stage: &mut Stage<'_>,
    side: Side,
    rate: f64,
    backlog: &str,
    messages: u64,
) -> anyhow::Result<Figures> {
    // A process that has the log mapped keeps it in the page cache.
    let broker = stage.broker(side)?;
    broker.stop()?;
    forget(&broker.dir)?;
    broker.open()?;
    let load = Load {
        connections: 8,
        rate: Some(rate),
        warm_up: Duration::from_secs(3),
        measured: stage.options.measured * 2,
        ..stage.load(side)?
    };
    settle(stage.options)?;
    let mut meter = stage.meter(side)?;
    let without = memory::run(&load, &mut meter, stage.options.backlog_bytes / 2)?;
    stage.check(side, &load, &without)?;
    let mut figures = latency_figures(&Percentiles::of(&without.latency), "without_");
    let foreign = meter.usage().foreign_cores;

    let long = Load {
        measured: CATCH_UP_MAX,
        ..load.clone()
    };
    let control: Arc<Control> = Arc::default();
    let shared = Arc::clone(&control);
    settle(stage.options)?;
    let memory = Memory::take(stage.options.backlog_bytes);
    // Its clock runs from here on: taking memory lasts seconds, and what was intended meanwhile would count as late.
    let window = Window::new(Duration::from_secs(1), CATCH_UP_MAX);
    let sender = std::thread::spawn(move || long.run_in(window, &shared, &mut Nobody));
    std::thread::sleep(Duration::from_secs(1));
    let reading = Reading {
        format: stage.options.header,
        warm_up: Duration::ZERO,
        measured: CATCH_UP_MAX,
        ..Reading::on(load.brokers.first().copied().context("a broker")?, backlog)
    };
    let mut meter = stage.meter(side)?;
    let pulled = std::thread::scope(|scope| {
        scope.spawn(|| memory.free_over(READING));
        reading.run(&mut meter)
    });
    control.stop();
    let with = match sender.join() {
        Ok(sent) => sent?,
        Err(_) => bail!("the producer panicked"),
    };
    let pulled = pulled?;
    if pulled.messages_in_all < messages {
        stage.talk.say(&format!(
            "  {side:?} gave {} of {messages} messages in {:.0} s",
            pulled.messages_in_all, pulled.seconds
        ));
    }
    figures.extend(latency_figures(&Percentiles::of(&with.latency), "with_"));
    figures.insert("read_mb_per_s".to_owned(), pulled.megabytes_per_second());
    let usage = meter.usage();
    let device = super::stage::mebibytes(usage.read_bytes);
    figures.insert("read_device_mib".to_owned(), device);
    figures.insert("foreign_cores".to_owned(), foreign.max(usage.foreign_cores));
    Ok(figures)
}

/// Makes the kernel forget the cached pages of all files of a store that nobody has open.
fn forget(dir: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            forget(&entry.path())?;
        } else {
            let file = File::open(entry.path())?;
            // Pages that are not yet written would stay.
            file.sync_data()?;
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}

/// P9: each broker with its few and its many queues; what Apache's broker cannot do is told in words.
pub(super) fn many_queues(
    options: &Options,
    talk: &Talk,
    namesrv: &NameServer,
    cast: Cast,
) -> anyhow::Result<Found> {
    let mut found = Found::default();
    let mut pairs = Vec::new();
    for side in [Side::Apache, Side::Ours] {
        let mut broker = Broker::start(options, namesrv, side, cast)?;
        match queues_of(options, talk, &mut broker, options.slow_pairs) {
            Ok(runs) => pairs.push(runs),
            Err(error) => {
                let ended = if broker.has_ended() {
                    "It ended by itself. "
                } else {
                    ""
                };
                talk.say(&broker.program().log_end());
                let why = format!("{side:?} with many queues: {error:#}. {ended}");
                talk.say(&why);
                found.remarks.push(why.replace('\n', " "));
                pairs.push(Vec::new());
            }
        }
    }
    let ours = pairs.pop().unwrap_or_default();
    let mut apache = pairs.pop().unwrap_or_default();
    apache.resize(ours.len(), Figures::new());
    for (apache, ours) in apache.into_iter().zip(ours) {
        let pair = Pair { apache, ours };
        match pair.refusal(options.foreign_max()) {
            Some(why) => found.refused.push(why),
            None => found.pairs.push(pair),
        }
    }
    found.remarks.push(
        "The two brokers run one after the other; the ratio is within one broker: many queues to 8 queues, both chosen at random.".to_owned(),
    );
    Ok(found)
}

fn queues_of(
    options: &Options,
    talk: &Talk,
    broker: &mut Broker,
    runs: usize,
) -> anyhow::Result<Vec<Figures>> {
    let side = broker.side;
    create(talk, broker, "few", 1, QUEUES)?;
    let (topics, queues) = options.many_queues;
    create(talk, broker, "many", topics, queues)?;
    let mut shapes = vec![("few", 1, QUEUES), ("many", topics, queues)];
    let (topics, queues) = options.million_queues;
    if side == Side::Ours && topics > 0 {
        create(talk, broker, "million", topics, queues)?;
        shapes.push(("million", topics, queues));
    }
    // Each queue gets its first message before anything is measured: files are made then.
    for shape in &shapes {
        run_shape(options, broker, *shape, options.warm)?;
    }
    let mut all = Vec::new();
    for number in 1..=runs {
        let mut figures = Figures::new();
        for shape in &shapes {
            let run = run_shape(options, broker, *shape, options.measured)?;
            for name in ["rate", "p99_us", "anonymous_mib", "visible_after_ms"] {
                let value = run.get(name).copied().unwrap_or(f64::NAN);
                figures.insert(format!("{}_{name}", shape.0), value);
            }
            let foreign = run.get("foreign_cores").copied().unwrap_or(0.0);
            let worst = figures.entry("foreign_cores".to_owned()).or_insert(0.0);
            *worst = worst.max(foreign);
        }
        let told: Vec<String> = shapes
            .iter()
            .map(|(name, ..)| {
                let rate = figures.get(&format!("{name}_rate")).copied();
                format!("{name} {:.0}/s", rate.unwrap_or(f64::NAN))
            })
            .collect();
        talk.say(&format!(
            "  {side:?}, run {number} of {runs}: {}",
            told.join(", ")
        ));
        all.push(figures);
    }
    Ok(all)
}

fn create(
    talk: &Talk,
    broker: &Broker,
    name: &str,
    topics: u32,
    queues: u32,
) -> anyhow::Result<()> {
    let mut caller = Caller::connect(broker.addr)?;
    for number in 0..topics {
        caller.create_topic(&topic_name(name, topics, number), queues)?;
        if (number + 1) % 100 == 0 {
            talk.say(&format!(
                "  {:?}: {} of {topics} topics",
                broker.side,
                number + 1
            ));
        }
    }
    Ok(())
}

fn run_shape(
    options: &Options,
    broker: &mut Broker,
    (topic, topics, queues): (&str, u32, u32),
    measured: Duration,
) -> anyhow::Result<Figures> {
    let load = Load {
        topics,
        queues,
        spread: Spread::Random,
        format: options.header,
        warm_up: measured / 5,
        measured,
        ..Load::on(broker.addr, topic)
    };
    let mut meter = Meter::new(&broker.pids());
    let sent = memory::run(&load, &mut meter, APPENDED)?;
    // A broker that is short of time for a moment refuses; one that refuses a hundredth cannot do this.
    if sent.refused * 100 > sent.messages_in_all {
        let trouble = sent.first_trouble.clone().unwrap_or_default();
        bail!("{} requests were refused: {trouble}", sent.refused);
    }
    sent.check_dense()?;
    let place = (topic, topics, queues);
    let waited = stored::check(broker.addr, place, load.body_bytes, &sent.seen)?;
    let mut figures = send_figures(&sent, &meter.usage());
    figures.insert("visible_after_ms".to_owned(), waited.as_secs_f64() * 1e3);
    Ok(figures)
}

//! R3 and R5: what a slave adds to a single request, and what one that begins with nothing costs the others.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::Found;
use super::pairs::{Figures, Pair, Side};
use super::sends::fill;
use super::server::{Broker, Cast};
use super::settle;
use super::stage::{QUEUES, Stage, TOPIC, send_figures};
use crate::load::send::Load;
use crate::load::{Control, Nobody, Window, per_second};
use crate::process::Meter;
use crate::wire::call::Caller;

/// Both sides with a slave, and each time right behind ours another broker of ours that has none.
pub(super) fn one_in_flight(stage: &mut Stage<'_>) -> anyhow::Result<Found> {
    let alone = Cast {
        name: "no-slave",
        slaves: 0,
        ..stage.cast
    };
    let single = Broker::start(stage.options, stage.namesrv, Side::Ours, alone)?;
    Caller::connect(single.addr)?.create_topic(TOPIC, QUEUES)?;
    let warming = Load {
        measured: Duration::from_secs(1),
        ..Load::on(single.addr, TOPIC)
    };
    warming.run(&mut Nobody)?;
    let pairs = stage.options.pairs;
    let gather = stage.pairs(pairs, |stage, side| {
        let load = Load {
            connections: 1,
            in_flight: 1,
            ..stage.load(side)?
        };
        let mut figures = stage.send(side, &load)?;
        if side == Side::Ours {
            settle(stage.options)?;
            let load = Load {
                brokers: vec![single.addr],
                ..load
            };
            let mut meter = Meter::new(&single.pids());
            let sent = load.run(&mut meter)?;
            sent.check_dense()?;
            let alone = send_figures(&sent, &meter.usage());
            for name in ["p50_us", "p99_us"] {
                let value = alone.get(name).copied().unwrap_or(f64::NAN);
                figures.insert(format!("single_{name}"), value);
            }
        }
        Ok(figures)
    })?;
    Ok(gather.into())
}

/// A slave that does not catch up in this time does not count.
const CATCH_UP_MAX: Duration = Duration::from_mins(5);

/// About the bytes of a record with a body of 1 KiB.
const RECORD_BYTES: u64 = 1270;

/// R5, our broker alone: one of two slaves loses its disk and starts again under a closed loop, which goes on with the other one.
pub(super) fn catch_up(stage: &mut Stage<'_>) -> anyhow::Result<Found> {
    let messages = stage.options.backlog_bytes / RECORD_BYTES;
    let mut found = Found::default();
    for round in 1..=stage.options.slow_pairs {
        stage.keep_small()?;
        let log = |stage: &mut Stage<'_>| {
            let bytes = stage.broker(Side::Ours)?.gauge("rocket_log_appended_bytes");
            bytes.context("the master tells no end of its log")
        };
        #[expect(clippy::cast_precision_loss, reason = "a size to be reached roughly")]
        let missing = stage.options.backlog_bytes as f64 - log(stage)?;
        if missing > 0.0 {
            fill(stage, Side::Ours, "history", messages)?;
        }
        stage.broker(Side::Ours)?.lose_slave()?;
        let load = stage.load(Side::Ours)?;
        let alone = stage.send(Side::Ours, &load)?;
        let mut figures = catch_up_once(stage, &load)?;
        for (name, from) in [("without_rate", "rate"), ("without_p99_us", "p99_us")] {
            figures.insert(name.to_owned(), alone.get(from).copied().unwrap_or(0.0));
        }
        let told = |name: &str| figures.get(name).copied().unwrap_or(f64::NAN);
        stage.talk.say(&format!(
            "  round {round}: {:.0} MB/s to the slave; {:.0} messages/s meanwhile, {:.0} without",
            told("catch_up_mb_per_s"),
            told("with_rate"),
            told("without_rate")
        ));
        found.pairs.push(Pair {
            apache: Figures::new(),
            ours: figures,
        });
    }
    found.remarks.push(
        "A slave's copy of the whole log, from the start of its process until it is in sync, while 64 sends are in flight; both slaves, the master and the generator share \
         two cores and one disk."
            .to_owned(),
    );
    Ok(found)
}

fn catch_up_once(stage: &mut Stage<'_>, load: &Load) -> anyhow::Result<Figures> {
    let window = Window::new(Duration::from_secs(1), CATCH_UP_MAX);
    let control: Arc<Control> = Arc::default();
    let (sending, shared) = (load.clone(), Arc::clone(&control));
    settle(stage.options)?;
    let sender = std::thread::spawn(move || sending.run_in(window, &shared, &mut Nobody));
    std::thread::sleep(Duration::from_secs(1));
    let broker = stage.broker(Side::Ours)?;
    let (begin, before) = (Instant::now(), control.messages.load(Ordering::Relaxed));
    broker.start_slave()?;
    let mut caught_up = false;
    while !caught_up && begin.elapsed() < CATCH_UP_MAX {
        std::thread::sleep(Duration::from_millis(50));
        caught_up = broker.gauge("rocket_in_sync_replicas") == Some(3.0);
    }
    let seconds = begin.elapsed().as_secs_f64();
    let sent = control.messages.load(Ordering::Relaxed) - before;
    let copied = broker.gauge("rocket_log_appended_bytes").unwrap_or(0.0);
    control.stop();
    match sender.join() {
        Ok(sent) => sent?.check_dense()?,
        Err(_) => bail!("the producer panicked"),
    }
    if !caught_up {
        bail!("the slave is not in sync after {CATCH_UP_MAX:?}");
    }
    Ok([
        ("with_rate".to_owned(), per_second(sent, seconds)),
        ("catch_up_mb_per_s".to_owned(), copied / 1e6 / seconds),
        ("catch_up_s".to_owned(), seconds),
    ]
    .into())
}

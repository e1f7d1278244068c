//! P1 to P7 and the curves: what one stage's two brokers can be asked one after the other.

use std::time::Duration;

use super::Found;
use super::pairs::{Side, median};
use super::row::Row;
use super::stage::{QUEUES, Stage};
use crate::load::Nobody;
use crate::load::pull::{AtEnd, Reading};
use crate::load::send::Load;
use crate::wire::call::Caller;

/// In-flight requests of the curves, and their split into connections.
const CURVE: [(u32, u32); 9] = [
    (1, 1),
    (2, 1),
    (4, 1),
    (4, 2),
    (8, 2),
    (8, 4),
    (8, 8),
    (8, 16),
    (8, 32),
];

/// Messages of the backlog of P7.
const BACKLOG: u64 = 200_000;

pub(super) fn closed_loop(row: Row, stage: &mut Stage<'_>) -> anyhow::Result<Found> {
    let (connections, in_flight, body_bytes, batch) = match row {
        Row::P2 => (1, 1, 1024, 1),
        Row::P3 => (4, 64, 128, 1),
        Row::P4 => (64, 1, 1024, 1),
        Row::P6 => (8, 1, 1024, 128),
        _ => (8, 8, 1024, 1),
    };
    let pairs = stage.options.pairs;
    let gather = stage.pairs(pairs, |stage, side| {
        let load = Load {
            connections,
            in_flight,
            body_bytes,
            batch,
            ..stage.load(side)?
        };
        stage.send(side, &load)
    })?;
    Ok(gather.into())
}

/// P5: both get half of what Apache's broker can do with 64 in flight.
pub(super) fn open_loop(stage: &mut Stage<'_>) -> anyhow::Result<Found> {
    let rate = apache_maximum(stage)? / 2.0;
    stage.talk.say(&format!("  open loop at {rate:.0}/s"));
    let pairs = stage.options.slow_pairs;
    let measured = stage.options.open_loop;
    let gather = stage.pairs(pairs, |stage, side| {
        let load = Load {
            connections: 16,
            rate: Some(rate),
            measured,
            ..stage.load(side)?
        };
        let mut figures = stage.send(side, &load)?;
        figures.insert("intended_rate".to_owned(), rate);
        Ok(figures)
    })?;
    let mut found = Found::from(gather);
    found.remarks.push(format!(
        "The rate is {rate:.0} messages/s on 16 connections; latency counts from the intended moment."
    ));
    Ok(found)
}

/// The median of three closed loops with 64 in flight.
pub(super) fn apache_maximum(stage: &mut Stage<'_>) -> anyhow::Result<f64> {
    let mut rates = Vec::new();
    for _ in 0..3 {
        let load = stage.load(Side::Apache)?;
        let figures = stage.send(Side::Apache, &load)?;
        rates.extend(figures.get("rate"));
    }
    Ok(median(&rates).unwrap_or(0.0))
}

/// P7: a backlog that lies in the page cache is read again and again.
pub(super) fn catch_up(stage: &mut Stage<'_>) -> anyhow::Result<Found> {
    const TOPIC: &str = "backlog";
    let mut filled = None;
    let pairs = stage.options.pairs;
    let gather = stage.pairs(pairs, |stage, side| {
        if filled != Some(stage.renewed) {
            for side in [Side::Apache, Side::Ours] {
                fill(stage, side, TOPIC, BACKLOG)?;
            }
            filled = Some(stage.renewed);
        }
        let reading = Reading {
            format: stage.options.header,
            at_end: AtEnd::Again,
            warm_up: stage.options.measured / 5,
            measured: stage.options.measured,
            ..Reading::on(stage.broker(side)?.addr, TOPIC)
        };
        stage.pull(side, &reading)
    })?;
    Ok(gather.into())
}

/// Sends about so many messages of 1 KiB into a topic of eight queues, which it creates; how many were acknowledged.
pub(super) fn fill(
    stage: &mut Stage<'_>,
    side: Side,
    topic: &str,
    messages: u64,
) -> anyhow::Result<u64> {
    const BATCH: u32 = 32;
    let addr = stage.broker(side)?.addr;
    Caller::connect(addr)?.create_topic(topic, QUEUES)?;
    let load = Load {
        connections: 4,
        in_flight: 2,
        batch: BATCH,
        requests_max: messages.div_ceil(u64::from(BATCH)),
        warm_up: Duration::ZERO,
        measured: Duration::from_hours(1),
        ..Load::on(addr, topic)
    };
    let sent = load.run(&mut Nobody)?;
    stage.check(side, &load, &sent)?;
    Ok(sent.messages_in_all)
}

/// Throughput and latency against the number of requests in flight.
pub(super) fn curve(stage: &mut Stage<'_>) -> anyhow::Result<Found> {
    let mut found = Found::default();
    for (in_flight, connections) in CURVE {
        stage.keep_small()?;
        let mut both = Vec::new();
        for side in [Side::Apache, Side::Ours] {
            let load = Load {
                connections,
                in_flight,
                ..stage.load(side)?
            };
            both.push(stage.send(side, &load)?);
        }
        let rate = |at: usize| {
            both.get(at)
                .and_then(|figures| figures.get("rate"))
                .copied()
        };
        stage.talk.say(&format!(
            "  {} in flight: {:.0} / {:.0} messages/s (Apache's / ours)",
            in_flight * connections,
            rate(0).unwrap_or(0.0),
            rate(1).unwrap_or(0.0)
        ));
        if let [apache, ours] = &mut both[..] {
            let point = (std::mem::take(apache), std::mem::take(ours));
            found
                .curve
                .push((in_flight * connections, point.0, point.1));
        }
    }
    Ok(found)
}

//! P10: kill -9 under load with a small and a large log.

use std::time::Duration;

use anyhow::Context;

use super::Found;
use super::pairs::{Figures, Pair, Side};
use super::sends::fill;
use super::stage::Stage;
use crate::load::recovery::{Round, round};

/// Of load before each kill.
const BEFORE_KILL: Duration = Duration::from_millis(700);

/// About the bytes of a record with a body of 1 KiB.
const RECORD_BYTES: u64 = 1270;

pub(super) fn measure(stage: &mut Stage<'_>) -> anyhow::Result<Found> {
    let (small, large) = stage.options.log_bytes;
    let rounds = stage.options.slow_pairs;
    let mut pairs = vec![Pair::default(); rounds];
    let mut found = Found::default();
    // About what each log holds, Apache's and ours.
    let mut written = [0_u64; 2];
    for (name, bytes) in [("small_ms", small), ("large_ms", large)] {
        for (side, written) in [Side::Apache, Side::Ours].into_iter().zip(&mut written) {
            stage
                .talk
                .say(&format!("  filling {side:?} up to {} MiB", bytes >> 20));
            let missing = bytes.saturating_sub(*written) / RECORD_BYTES;
            fill(stage, side, &format!("log-{bytes}"), missing.max(1))?;
            *written += missing * RECORD_BYTES;
        }
        for (number, pair) in pairs.iter_mut().enumerate() {
            let order = if number % 2 == 0 {
                [Side::Apache, Side::Ours]
            } else {
                [Side::Ours, Side::Apache]
            };
            for side in order {
                let (figures, written) = match side {
                    Side::Apache => (&mut pair.apache, &mut written[0]),
                    Side::Ours => (&mut pair.ours, &mut written[1]),
                };
                let outcome = kill_once(stage, side)?;
                figures.insert(name.to_owned(), outcome.seconds * 1e3);
                *written += outcome.acked * RECORD_BYTES;
            }
            let told = |figures: &Figures| figures.get(name).copied().unwrap_or(f64::NAN);
            stage.talk.say(&format!(
                "  {} MiB, round {}: {:.0} / {:.0} ms (Apache's / ours)",
                bytes >> 20,
                number + 1,
                told(&pair.apache),
                told(&pair.ours)
            ));
        }
    }
    found.pairs = pairs;
    found.remarks.push(
        "Async flush, page cache warm; the pair's other broker runs idle meanwhile. Pairs are not refused for foreign CPU: the dying process and \
         writeback are part of it."
            .to_owned(),
    );
    Ok(found)
}

fn kill_once(stage: &mut Stage<'_>, side: Side) -> anyhow::Result<Round> {
    let load = stage.load(side)?;
    let broker = stage.broker(side)?;
    let running = broker.take()?;
    let (running, outcome) = round(broker.program(), running, &load, BEFORE_KILL)
        .with_context(|| format!("{side:?}: {}", broker.program().log_end()))?;
    broker.put(running);
    Ok(outcome)
}

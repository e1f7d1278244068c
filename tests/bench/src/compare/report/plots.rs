//! The plots: throughput against in-flight, and percentiles of latency.

use crate::compare::pairs::{Figures, Pair, median};
use crate::compare::record::Outcome;
use crate::compare::row::Row;
use crate::compare::svg::{Chart, Series};

/// Name and chart of each plot that there are figures for.
pub(super) fn plots(outcomes: &[Outcome]) -> Vec<(&'static str, Chart)> {
    let mut plots = Vec::new();
    for (row, name, title) in [
        (
            Row::CurveSync,
            "throughput-sync",
            "Throughput, SYNC_FLUSH, 1 KiB",
        ),
        (
            Row::CurveAsync,
            "throughput-async",
            "Throughput, ASYNC_FLUSH, 1 KiB",
        ),
    ] {
        let outcome = outcomes.iter().find(|outcome| outcome.row == row);
        if let Some(curve) = outcome
            .map(|outcome| &outcome.curve)
            .filter(|curve| !curve.is_empty())
        {
            plots.push((name, throughput(title, curve)));
        }
    }
    for (row, name, title) in [
        (
            Row::P1,
            "latency-sync",
            "Latency of sends, SYNC_FLUSH, 64 in flight",
        ),
        (
            Row::P5,
            "latency-open-loop",
            "Latency of sends, open loop at half of Apache's maximum",
        ),
    ] {
        if let Some(outcome) = outcomes
            .iter()
            .find(|outcome| outcome.row == row && !outcome.pairs.is_empty())
        {
            plots.push((name, percentiles(title, &outcome.pairs)));
        }
    }
    plots
}

fn throughput(title: &str, curve: &[(u32, Figures, Figures)]) -> Chart {
    let series = |name: &str, side: fn(&(u32, Figures, Figures)) -> &Figures| Series {
        name: name.to_owned(),
        values: curve
            .iter()
            .map(|point| side(point).get("rate").copied())
            .collect(),
    };
    Chart {
        title: title.to_owned(),
        places_label: "requests in flight".to_owned(),
        values_label: "messages/s".to_owned(),
        places: curve
            .iter()
            .map(|(in_flight, ..)| in_flight.to_string())
            .collect(),
        series: vec![
            series("Apache 5.4.0", |point| &point.1),
            series("RocketCluster", |point| &point.2),
        ],
        logarithmic: false,
    }
}

fn percentiles(title: &str, pairs: &[Pair]) -> Chart {
    let names = ["p50", "p90", "p99", "p999", "p9999", "max"];
    let series = |name: &str, side: fn(&Pair) -> &Figures| Series {
        name: name.to_owned(),
        values: names
            .iter()
            .map(|percentile| {
                let figure = format!("{percentile}_us");
                let values: Vec<f64> = pairs
                    .iter()
                    .filter_map(|pair| side(pair).get(&figure).copied())
                    .collect();
                median(&values).map(|micros| micros / 1e3)
            })
            .collect(),
    };
    Chart {
        title: title.to_owned(),
        places_label: "percentile".to_owned(),
        values_label: "ms".to_owned(),
        places: ["50", "90", "99", "99.9", "99.99", "max"]
            .map(str::to_owned)
            .into(),
        series: vec![
            series("Apache 5.4.0", |pair| &pair.apache),
            series("RocketCluster", |pair| &pair.ours),
        ],
        logarithmic: true,
    }
}

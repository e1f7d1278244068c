//! The figures behind the ratios.

use std::fmt::Write;

use crate::compare::pairs::{Figures, Pair, median};
use crate::compare::record::Outcome;

/// Figures of the second table: name, heading, divisor, digits.
const ABSOLUTE: [(&str, &str, f64, usize); 10] = [
    ("rate", "messages/s", 1.0, 0),
    ("p50_us", "p50 ms", 1e3, 2),
    ("p99_us", "p99 ms", 1e3, 2),
    ("p999_us", "p99.9 ms", 1e3, 1),
    ("max_us", "max ms", 1e3, 1),
    ("cores", "broker cores", 1.0, 2),
    ("cpu_us", "CPU µs a message", 1.0, 2),
    ("mb_per_s", "MB/s", 1.0, 0),
    ("anonymous_mib", "memory MiB", 1.0, 1),
    ("visible_after_ms", "in queues after ms", 1.0, 0),
];

pub(super) fn absolute(out: &mut String, outcomes: &[Outcome]) {
    out.push_str("\n## Figures\n\nMedians over the pairs, Apache's / ours.\n\n| id |");
    for (_, heading, ..) in ABSOLUTE {
        let _ = write!(out, " {heading} |");
    }
    out.push_str(" measured |\n|---|");
    out.push_str(&"---|".repeat(ABSOLUTE.len() + 1));
    out.push('\n');
    for outcome in outcomes.iter().filter(|outcome| !outcome.pairs.is_empty()) {
        let _ = write!(out, "| {:?} |", outcome.row);
        for (name, _, divisor, digits) in ABSOLUTE {
            let side = |side: fn(&Pair) -> &Figures| {
                let values: Vec<f64> = outcome
                    .pairs
                    .iter()
                    .filter_map(|pair| side(pair).get(name).copied())
                    .collect();
                median(&values).map(|value| format!("{:.digits$}", value / divisor))
            };
            let (apache, ours) = (side(|pair| &pair.apache), side(|pair| &pair.ours));
            match (apache, ours) {
                (None, None) => out.push_str(" |"),
                (apache, ours) => {
                    let text = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
                    let _ = write!(out, " {} / {} |", text(apache), text(ours));
                }
            }
        }
        let refused = match outcome.refused.len() {
            0 => String::new(),
            count => format!(", {count} refused"),
        };
        let _ = writeln!(out, " {}{refused} |", outcome.parameters);
    }
    others(out, outcomes);
}

/// What rows measured besides, which has no column.
fn others(out: &mut String, outcomes: &[Outcome]) {
    for outcome in outcomes {
        let mut names: Vec<&String> = outcome
            .pairs
            .iter()
            .flat_map(|pair| pair.ours.keys())
            .collect();
        names.sort_unstable();
        names.dedup();
        let special = |name: &&&String| {
            [
                "small", "large", "few", "many", "million", "with", "idle", "loaded", "syscalls",
                "device", "read_mb", "single", "catch_up",
            ]
            .iter()
            .any(|begin| name.starts_with(begin))
        };
        let mut parts = Vec::new();
        for name in names.iter().filter(special) {
            let of = |side: fn(&Pair) -> &Figures| {
                let values: Vec<f64> = outcome
                    .pairs
                    .iter()
                    .filter_map(|pair| side(pair).get(name.as_str()).copied())
                    .collect();
                median(&values)
            };
            let ours = of(|pair| &pair.ours).unwrap_or(f64::NAN);
            parts.push(match of(|pair| &pair.apache) {
                Some(apache) => format!("`{name}` {apache:.1} / {ours:.1}"),
                None => format!("`{name}` {ours:.2}"),
            });
        }
        if !parts.is_empty() {
            let _ = writeln!(out, "\n{:?}: {}.", outcome.row, parts.join(", "));
        }
    }
}

//! The targets of each row, as a table. Pure.

use super::pairs::Better::{Higher, Lower};
use super::pairs::{Better, Pair};
use super::row::Unit::{Count, Mebibytes, Micros, Millis, Times};
use super::row::{Check, Row, Unit};
use crate::limits::Limits;

type Value = fn(&Pair, &Limits) -> Option<f64>;

fn check(what: &'static str, unit: Unit, better: Better, value: Value) -> Check {
    Check {
        what,
        unit,
        better,
        must: None,
        aim: None,
        value,
    }
}

impl Check {
    fn must(self, bound: f64) -> Self {
        Self {
            must: Some(bound),
            ..self
        }
    }

    fn aim(self, bound: f64) -> Self {
        Self {
            aim: Some(bound),
            ..self
        }
    }
}

fn own(pair: &Pair, figure: &str) -> Option<f64> {
    pair.ours.get(figure).copied()
}

fn share(pair: &Pair, figure: &str, of: &str) -> Option<f64> {
    Some(own(pair, figure)? / own(pair, of)?)
}

/// The targets of a row.
pub(super) fn of(row: Row) -> Vec<Check> {
    match row {
        Row::P1 | Row::P2 => synchronous(row),
        Row::P3 | Row::P4 | Row::P5 | Row::P6 => asynchronous(row),
        Row::P7 | Row::P8 => reading(row),
        Row::P9 => vec![
            check("messages/s to 8 queues", Times, Higher, |pair, _| {
                share(pair, "many_rate", "few_rate")
            })
            .must(0.9),
            check("the same with 10^6 queues", Times, Higher, |pair, _| {
                share(pair, "million_rate", "few_rate")
            })
            .aim(0.7),
        ],
        Row::P10 => vec![
            check("small log", Millis, Lower, |pair, _| own(pair, "small_ms"))
                .must(500.0)
                .aim(150.0),
            check("large log", Millis, Lower, |pair, _| own(pair, "large_ms"))
                .must(500.0)
                .aim(150.0),
            check("large to small log", Times, Lower, |pair, _| {
                share(pair, "large_ms", "small_ms")
            })
            .must(1.15),
        ],
        Row::P11 => vec![
            check("idle", Mebibytes, Lower, |pair, _| own(pair, "idle_mib"))
                .must(16.0)
                .aim(8.0),
            check("loaded", Mebibytes, Lower, |pair, _| {
                own(pair, "loaded_mib")
            })
            .must(64.0)
            .aim(40.0),
        ],
        Row::P12 => vec![
            check("system calls", Count, Lower, |pair, _| {
                own(pair, "syscalls")
            })
            .must(0.6),
            check("device bytes to body", Count, Lower, |pair, _| {
                own(pair, "device_bytes")
            })
            .must(1.3),
        ],
        Row::R1 | Row::R2 | Row::R3 | Row::R4 => replicated(row),
        Row::R5 => vec![
            check(
                "bytes to receive and pwrite",
                Times,
                Higher,
                |pair, limits| {
                    Some(own(pair, "catch_up_mb_per_s")? / limits.receive_pwrite_mb_per_s)
                },
            )
            .must(0.6),
            check("messages/s with to without", Times, Higher, |pair, _| {
                share(pair, "with_rate", "without_rate")
            })
            .must(0.8),
        ],
        Row::CurveSync | Row::CurveAsync => Vec::new(),
    }
}

fn synchronous(row: Row) -> Vec<Check> {
    if row == Row::P1 {
        return vec![
            check("messages/s to Apache's", Times, Higher, |pair, _| {
                pair.ratio("rate")
            })
            .must(3.0)
            .aim(6.0),
            check(
                "messages/s to flushes alone",
                Times,
                Higher,
                |pair, limits| Some(own(pair, "rate")? / limits.sync_messages_per_s()),
            )
            .aim(0.7),
        ];
    }
    vec![
        check("p50 to Apache's", Times, Lower, |pair, _| {
            pair.ratio("p50_us")
        })
        .must(0.5),
        check(
            "p50 above flush and round trip",
            Micros,
            Lower,
            |pair, limits| {
                Some(own(pair, "p50_us")? - limits.flush_p50_us() - limits.echo_1_p50_us)
            },
        )
        .must(80.0)
        .aim(40.0),
    ]
}

fn asynchronous(row: Row) -> Vec<Check> {
    let rate = check("messages/s to Apache's", Times, Higher, |pair, _| {
        pair.ratio("rate")
    });
    let p99 = check("p99 to Apache's", Times, Lower, |pair, _| {
        pair.ratio("p99_us")
    });
    match row {
        Row::P3 => vec![
            check(
                "messages per broker CPU second to Apache's",
                Times,
                Higher,
                |pair, _| pair.ratio("messages_per_cpu_s"),
            )
            .must(4.0)
            .aim(8.0),
        ],
        Row::P4 => vec![rate.must(2.0).aim(3.0), p99.must(0.25).aim(0.125)],
        Row::P5 => vec![
            p99.must(0.2),
            check("p99.9 to Apache's", Times, Lower, |pair, _| {
                pair.ratio("p999_us")
            })
            .must(0.1),
            check("max", Millis, Lower, |pair, _| {
                Some(own(pair, "max_us")? / 1e3)
            })
            .aim(20.0),
        ],
        _ => vec![
            rate.must(2.0),
            check(
                "bodies to receive and pwrite",
                Times,
                Higher,
                |pair, limits| {
                    Some(own(pair, "rate")? * 1024.0 / 1e6 / limits.receive_pwrite_mb_per_s)
                },
            )
            .aim(0.6),
        ],
    }
}

fn reading(row: Row) -> Vec<Check> {
    if row == Row::P7 {
        return vec![
            check(
                "MB per broker CPU second to Apache's",
                Times,
                Higher,
                |pair, _| pair.ratio("mb_per_cpu_s"),
            )
            .must(3.0),
            check("MB/s to sendfile", Times, Higher, |pair, limits| {
                Some(own(pair, "mb_per_s")? / limits.sendfile_mb_per_s)
            })
            .aim(0.6),
        ];
    }
    vec![
        check(
            "p99.9 of sends, with to without reading",
            Times,
            Lower,
            |pair, _| share(pair, "with_p999_us", "without_p999_us"),
        )
        .must(1.5)
        .aim(1.2),
    ]
}

fn replicated(row: Row) -> Vec<Check> {
    if row == Row::R3 {
        return vec![
            check("p50 to Apache's", Times, Lower, |pair, _| {
                pair.ratio("p50_us")
            }),
            check(
                "p50 above a single broker and a round trip",
                Micros,
                Lower,
                |pair, limits| {
                    Some(own(pair, "p50_us")? - own(pair, "single_p50_us")? - limits.echo_1_p50_us)
                },
            )
            .must(100.0),
        ];
    }
    vec![
        check("messages/s to Apache's", Times, Higher, |pair, _| {
            pair.ratio("rate")
        })
        .must(2.0)
        .aim(5.0),
    ]
}

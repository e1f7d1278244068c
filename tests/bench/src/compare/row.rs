//! The rows of the comparison: what each measures and when its target is met. Pure.

use serde::{Deserialize, Serialize};

use super::pairs::{Better, Pair, Summary};
use super::record::Outcome;
use super::targets;
use crate::limits::Limits;

/// A row of the table, or a curve.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[value(rename_all = "UPPER")]
#[expect(missing_docs, reason = "`workload` tells")]
pub enum Row {
    P1,
    P2,
    P3,
    P4,
    P5,
    P6,
    P7,
    P8,
    P9,
    P10,
    P11,
    P12,
    R1,
    R2,
    R3,
    R4,
    R5,
    CurveSync,
    CurveAsync,
}

impl Row {
    /// Its targets.
    pub fn checks(self) -> Vec<Check> {
        targets::of(self)
    }

    /// All of them, in the order of the table.
    pub const ALL: [Self; 19] = [
        Self::P1,
        Self::P2,
        Self::P3,
        Self::P4,
        Self::P5,
        Self::P6,
        Self::P7,
        Self::P8,
        Self::P9,
        Self::P10,
        Self::P11,
        Self::P12,
        Self::R1,
        Self::R2,
        Self::R3,
        Self::R4,
        Self::R5,
        Self::CurveSync,
        Self::CurveAsync,
    ];

    /// What is done.
    pub fn workload(self) -> &'static str {
        match self {
            Self::P1 => "sync flush, 64 in flight (8 connections × 8)",
            Self::P2 => "sync flush, 1 in flight",
            Self::P3 => "async flush, 128 B, 4 connections × 64",
            Self::P4 => "async flush, 64 connections × 1",
            Self::P5 => "open loop at half of Apache's maximum",
            Self::P6 => "batches of 128 × 1 KiB, 8 connections",
            Self::P7 => "hot catch-up pull",
            Self::P8 => "cold catch-up while sending at 30 %",
            Self::P9 => "many queues, sends uniformly at random",
            Self::P10 => "kill -9 under load, exec to first SEND_OK",
            Self::P11 => "anonymous memory",
            Self::P12 => "counts per message, sync flush, 64 in flight",
            Self::R1 => "one slave, async flush, 64 in flight",
            Self::R2 => "two slaves, async flush, 64 in flight",
            Self::R3 => "one slave, async flush, 1 in flight",
            Self::R4 => "two slaves, sync flush, 64 in flight",
            Self::R5 => "a slave without a disk comes back under load",
            Self::CurveSync => "throughput against in-flight, sync flush",
            Self::CurveAsync => "throughput against in-flight, async flush",
        }
    }

    /// Whether a run of it takes minutes.
    pub fn is_slow(self) -> bool {
        matches!(self, Self::P5 | Self::P8 | Self::P9 | Self::P10 | Self::R5)
    }
}

/// In what a value is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A factor.
    Times,
    /// Microseconds.
    Micros,
    /// Milliseconds.
    Millis,
    /// 2^20 bytes.
    Mebibytes,
    /// A plain number.
    Count,
}

impl Unit {
    /// The value with its unit.
    pub fn text(self, value: f64) -> String {
        match self {
            Self::Times if value >= 100.0 => format!("{value:.0}×"),
            Self::Times if value < 0.3 => format!("{value:.3}×"),
            Self::Times => format!("{value:.2}×"),
            Self::Micros => format!("{value:.0} µs"),
            Self::Millis => format!("{value:.1} ms"),
            Self::Mebibytes => format!("{value:.1} MiB"),
            Self::Count => format!("{value:.2}"),
        }
    }
}

/// One target of a row.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// What is looked at.
    pub what: &'static str,
    /// In what it is told.
    pub unit: Unit,
    /// Which direction is good.
    pub better: Better,
    /// The bound that must hold.
    pub must: Option<f64>,
    /// The bound that is aimed at.
    pub aim: Option<f64>,
    /// The value of one pair.
    pub value: fn(&Pair, &Limits) -> Option<f64>,
}

/// A target held against what was measured.
#[derive(Debug, Clone, Copy)]
pub struct Judgement {
    /// The target.
    pub check: Check,
    /// What was measured; nothing when no pair has the figures.
    pub summary: Option<Summary>,
}

impl Judgement {
    /// Whether the median meets what must hold.
    pub fn meets_must(&self) -> Option<bool> {
        Some(
            self.check
                .better
                .meets(self.summary?.median, self.check.must?),
        )
    }

    /// Whether the median meets what is aimed at.
    pub fn meets_aim(&self) -> Option<bool> {
        Some(
            self.check
                .better
                .meets(self.summary?.median, self.check.aim?),
        )
    }
}

/// All targets of a measured row. The limits before and after count by half.
pub fn judge(outcome: &Outcome) -> Vec<Judgement> {
    let limits = outcome.limits();
    outcome
        .row
        .checks()
        .into_iter()
        .map(|check| {
            let values: Vec<f64> = outcome
                .pairs
                .iter()
                .filter_map(|pair| (check.value)(pair, &limits))
                .filter(|value| value.is_finite())
                .collect();
            Judgement {
                check,
                summary: Summary::of(&values, check.better),
            }
        })
        .collect()
}

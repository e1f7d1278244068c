//! Latencies: recorded in nanoseconds, told in microseconds.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longest latency that is told apart from longer ones.
const LONGEST_NANOS: u64 = 600_000_000_000;

/// A histogram with three digits, from half a microsecond to ten minutes.
///
/// # Panics
/// Never: the bounds are constants that fit.
#[expect(clippy::expect_used, reason = "the bounds are constants that fit")]
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(500, LONGEST_NANOS, 3).expect("constant bounds")
}

/// Records a latency; what is longer than the longest counts as the longest.
pub fn record(histogram: &mut Histogram<u64>, nanos: u64) {
    histogram.saturating_record(nanos);
}

/// Percentiles of a run in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half are not slower.
    pub p50: f64,
    /// 90 %.
    pub p90: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    pub p999: f64,
    /// 99.99 %.
    pub p9999: f64,
    /// The slowest.
    pub max: f64,
}

impl Percentiles {
    /// Of all that was recorded.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| micros(histogram.value_at_quantile(quantile));
        Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: if histogram.is_empty() {
                0.0
            } else {
                micros(histogram.max())
            },
        }
    }

    /// With their names, slowest last.
    pub fn named(&self) -> [(&'static str, f64); 6] {
        [
            ("p50", self.p50),
            ("p90", self.p90),
            ("p99", self.p99),
            ("p99.9", self.p999),
            ("p99.99", self.p9999),
            ("max", self.max),
        ]
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a latency needs no more than 53 bits"
)]
fn micros(nanos: u64) -> f64 {
    (nanos as f64 / 100.0).round() / 10.0
}

//! Which measurements count, and what a set of pairs says: pure.
//!
//! Both brokers are measured one right after the other, in alternating order, so that whatever the machine does in that minute
//! it does to both; only the ratio within a pair is used. A pair beside foreign work is refused and repeated, a bounded number
//! of times.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// More foreign cores than this, and a measurement does not count.
pub const FOREIGN_CORES_MAX: f64 = 0.3;

/// Limits before and after a row that differ by more than this factor, and the row does not count.
pub const DRIFT_MAX: f64 = 1.5;

/// What one measurement of one broker gave, by name.
pub type Figures = BTreeMap<String, f64>;

/// Name of the figure that decides over refusal.
pub const FOREIGN: &str = "foreign_cores";

/// Both brokers, one after the other.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Pair {
    /// Apache's broker; empty when it could not be measured.
    pub apache: Figures,
    /// Ours.
    pub ours: Figures,
}

impl Pair {
    /// Why it does not count when more than so many foreign cores are too many, if so.
    pub fn refusal(&self, foreign_max: f64) -> Option<String> {
        [("Apache's", &self.apache), ("ours", &self.ours)]
            .iter()
            .find_map(|(whose, figures)| {
                let foreign = *figures.get(FOREIGN)?;
                (foreign > foreign_max).then(|| {
                    format!("{foreign:.2} cores of foreign CPU while {whose} was measured")
                })
            })
    }

    /// Ours divided by Apache's.
    pub fn ratio(&self, figure: &str) -> Option<f64> {
        let (ours, apache) = (self.ours.get(figure)?, self.apache.get(figure)?);
        (*apache > 0.0).then(|| ours / apache)
    }
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Apache's broker.
    Apache,
    /// Our broker.
    Ours,
}

/// Pairs on their way to a wanted number.
#[derive(Debug)]
pub struct Gather {
    wanted: usize,
    foreign_max: f64,
    attempts_left: usize,
    attempts: usize,
    /// Pairs that count.
    pub accepted: Vec<Pair>,
    /// Why others do not.
    pub refused: Vec<String>,
}

impl Gather {
    /// Wants so many beside at most so many foreign cores; as many again, and two, may be refused.
    pub fn new(wanted: usize, foreign_max: f64) -> Self {
        Self {
            wanted,
            foreign_max,
            attempts_left: 2 * wanted + 2,
            attempts: 0,
            accepted: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// The order of the next pair, or nothing when there are enough or too many were refused.
    pub fn next_order(&self) -> Option<[Side; 2]> {
        let more = self.accepted.len() < self.wanted && self.attempts_left > 0;
        more.then(|| {
            if self.attempts.is_multiple_of(2) {
                [Side::Apache, Side::Ours]
            } else {
                [Side::Ours, Side::Apache]
            }
        })
    }

    /// Takes a measured pair; says why it does not count, if so.
    pub fn offer(&mut self, pair: Pair) -> Option<&str> {
        self.attempts += 1;
        self.attempts_left = self.attempts_left.saturating_sub(1);
        if let Some(why) = pair.refusal(self.foreign_max) {
            self.refused.push(why);
            return self.refused.last().map(String::as_str);
        }
        self.accepted.push(pair);
        None
    }
}

/// Which direction is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
}

impl Better {
    /// Whether `value` is at least as good as `bound`.
    pub fn meets(self, value: f64, bound: f64) -> bool {
        match self {
            Self::Higher => value >= bound,
            Self::Lower => value <= bound,
        }
    }
}

/// Median and worst of values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Half are not greater; the mean of the two in the middle when there are two.
    pub median: f64,
    /// The worst one.
    pub worst: f64,
}

impl Summary {
    /// Of at least one value.
    pub fn of(values: &[f64], better: Better) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(*sorted.get(middle.checked_sub(1)?)?, upper)
        } else {
            upper
        };
        let worst = match better {
            Better::Higher => *sorted.first()?,
            Better::Lower => *sorted.last()?,
        };
        Some(Self { median, worst })
    }
}

/// The median alone.
pub fn median(values: &[f64]) -> Option<f64> {
    Summary::of(values, Better::Higher).map(|summary| summary.median)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(rate: f64, foreign: f64) -> Figures {
        [("rate".to_owned(), rate), (FOREIGN.to_owned(), foreign)].into()
    }

    fn pair(apache: f64, ours: f64, foreign: f64) -> Pair {
        Pair {
            apache: figures(apache, 0.1),
            ours: figures(ours, foreign),
        }
    }

    #[test]
    fn the_median_is_of_ratios_and_not_the_ratio_of_medians() {
        let pairs = [
            pair(10.0, 20.0, 0.0),
            pair(100.0, 300.0, 0.0),
            pair(50.0, 450.0, 0.0),
        ];
        let ratios: Vec<f64> = pairs.iter().filter_map(|pair| pair.ratio("rate")).collect();
        let summary = Summary::of(&ratios, Better::Higher).unwrap();
        assert_eq!((summary.median, summary.worst), (3.0, 2.0));
        let summary = Summary::of(&ratios, Better::Lower).unwrap();
        assert_eq!((summary.median, summary.worst), (3.0, 9.0));
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn order_alternates_and_refused_pairs_are_repeated_up_to_a_bound() {
        let mut gather = Gather::new(2, FOREIGN_CORES_MAX);
        assert_eq!(gather.next_order(), Some([Side::Apache, Side::Ours]));
        assert_eq!(gather.offer(pair(1.0, 1.0, 0.1)), None);
        assert_eq!(gather.next_order(), Some([Side::Ours, Side::Apache]));
        let why = gather.offer(pair(1.0, 1.0, 0.31)).unwrap();
        assert_eq!(why, "0.31 cores of foreign CPU while ours was measured");
        assert_eq!(gather.next_order(), Some([Side::Apache, Side::Ours]));
        assert_eq!(gather.offer(pair(1.0, 1.0, 0.3)), None);
        assert_eq!(gather.next_order(), None, "two count");
        assert_eq!((gather.accepted.len(), gather.refused.len()), (2, 1));

        let mut noisy = Gather::new(1, FOREIGN_CORES_MAX);
        let mut tries = 0;
        while noisy.next_order().is_some() {
            noisy.offer(pair(1.0, 1.0, 1.5));
            tries += 1;
        }
        assert_eq!((tries, noisy.accepted.len()), (4, 0));
    }

    #[test]
    fn foreign_cpu_beside_either_broker_refuses_the_pair() {
        let mut pair = pair(1.0, 1.0, 0.0);
        assert_eq!(pair.refusal(FOREIGN_CORES_MAX), None);
        pair.apache.insert(FOREIGN.to_owned(), 0.5);
        assert!(
            pair.refusal(FOREIGN_CORES_MAX)
                .unwrap()
                .contains("Apache's")
        );
    }

    #[test]
    fn a_figure_that_one_side_lacks_has_no_ratio() {
        let mut pair = pair(0.0, 5.0, 0.0);
        assert_eq!(pair.ratio("rate"), None, "nothing divides by zero");
        pair.apache.clear();
        assert_eq!(pair.ratio("rate"), None);
        assert!(Better::Lower.meets(1.0, 1.0) && !Better::Lower.meets(1.1, 1.0));
        assert!(Better::Higher.meets(1.0, 1.0) && !Better::Higher.meets(0.9, 1.0));
    }
}

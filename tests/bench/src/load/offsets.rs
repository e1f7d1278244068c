//! Are the queue offsets of all answers those of a broker that stores each message once?
//!
//! With one run on a topic, the offsets that it was told must be consecutive in each queue: none twice, none left out. They
//! arrive in any order and there are millions, so each queue keeps five numbers instead of the offsets: how many, the least,
//! the greatest, their sum and the sum of their squares. Consecutive offsets have sums that follow from the first three; a
//! doubled or skipped offset changes at least one of them.

use std::fmt;

/// What is known of the offsets of one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    count: u64,
    min: u64,
    max: u64,
    sum: u64,
    squares: u64,
}

impl Seen {
    /// Notes `messages` offsets from `first` on.
    pub fn note(&mut self, first: u64, messages: u64) {
        let (sum, squares) = sums(first, messages);
        self.merge(&Self {
            count: messages,
            min: first,
            max: first.wrapping_add(messages.wrapping_sub(1)),
            sum,
            squares,
        });
    }

    /// Adds what another thread saw of the same queue.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = *other;
            return;
        }
        self.count += other.count;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sum = self.sum.wrapping_add(other.sum);
        self.squares = self.squares.wrapping_add(other.squares);
    }

    /// Offsets that were told.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The greatest offset that was told.
    pub fn max(&self) -> Option<u64> {
        (self.count > 0).then_some(self.max)
    }

    /// The least offset that was told.
    pub fn min(&self) -> Option<u64> {
        (self.count > 0).then_some(self.min)
    }

    /// Whether they are consecutive.
    pub fn check(&self) -> Result<(), NotDense> {
        if self.count == 0 {
            return Ok(());
        }
        let (sum, squares) = sums(self.min, self.count);
        let spans = self.max.wrapping_sub(self.min).wrapping_add(1);
        if spans == self.count && (sum, squares) == (self.sum, self.squares) {
            return Ok(());
        }
        Err(NotDense {
            count: self.count,
            min: self.min,
            max: self.max,
        })
    }
}

/// Sum and sum of squares of `count` numbers from `first`, modulo 2^64.
fn sums(first: u64, count: u64) -> (u64, u64) {
    // In u128 the products stay exact for all counts below 2^42; afterwards only the remainder matters.
    let (n, a) = (u128::from(count), u128::from(first));
    let triangle = n * n.saturating_sub(1) / 2;
    let pyramid = n.saturating_sub(1) * n * (2 * n).saturating_sub(1) / 6;
    let sum = n.wrapping_mul(a).wrapping_add(triangle);
    let squares = n
        .wrapping_mul(a.wrapping_mul(a))
        .wrapping_add((2 * a).wrapping_mul(triangle))
        .wrapping_add(pyramid);
    (low(sum), low(squares))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the remainder modulo 2^64 is meant"
)]
fn low(number: u128) -> u64 {
    number as u64
}

/// Offsets of a queue that are not consecutive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotDense {
    count: u64,
    min: u64,
    max: u64,
}

impl fmt::Display for NotDense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, min, max } = self;
        write!(
            f,
            "{count} answers with offsets {min} to {max} that are not consecutive"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(offsets: &[u64]) -> Seen {
        let mut seen = Seen::default();
        for offset in offsets {
            seen.note(*offset, 1);
        }
        seen
    }

    #[test]
    fn consecutive_offsets_in_any_order_are_dense() {
        assert_eq!(seen(&[7, 5, 6, 9, 8]).check(), Ok(()));
        assert_eq!(Seen::default().check(), Ok(()));
        let far = (1_u64 << 40) + 3;
        let mut long = Seen::default();
        for batch in [2, 0, 1] {
            long.note(far + batch * 1000, 1000);
        }
        assert_eq!(long.check(), Ok(()));
    }

    #[test]
    fn doubled_skipped_and_swapped_offsets_are_not() {
        for offsets in [
            &[5, 6, 6, 8][..],               // one twice, one left out: same count, same ends
            &[5, 6, 8],                      // left out
            &[5, 5],                         // twice
            &[1, 3, 3, 5, 4, 2, 2, 8, 9, 8], // sums that nearly agree
        ] {
            assert!(seen(offsets).check().is_err(), "{offsets:?}");
        }
        // The same sum as 0..8, other squares.
        assert!(seen(&[0, 2, 2, 2, 4, 5, 6, 7]).check().is_err());
    }

    #[test]
    fn halves_of_two_threads_make_a_whole() {
        let (mut even, odd) = (seen(&[0, 2, 4]), seen(&[1, 3]));
        assert!(even.check().is_err());
        even.merge(&odd);
        assert_eq!(even.check(), Ok(()));
    }
}

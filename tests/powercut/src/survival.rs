//! Which of many things survive a loss of power.

use rocket_mapped_file::memory::Dice;

/// How survivors are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survival {
    /// The first so many.
    First(usize),
    /// All but a few: a single lost sector in the middle is the hardest case.
    MostlyKept,
    /// A coin for each.
    Coin,
}

impl Survival {
    /// For `count` things: all, none, a beginning, or a coin for each. The plain cases must come up often too.
    pub fn of(count: usize, dice: &mut Dice) -> Self {
        match dice.below(5) {
            0 => Self::First(count),
            1 => Self::First(0),
            2 => Self::First(usize::try_from(dice.below(count as u64 + 1)).unwrap_or(count)),
            3 => Self::MostlyKept,
            _ => Self::Coin,
        }
    }

    /// Whether thing `number` survives.
    pub const fn keeps(self, number: usize, dice: &mut Dice) -> bool {
        match self {
            Self::First(count) => number < count,
            Self::MostlyKept => !dice.once_in(12),
            Self::Coin => dice.once_in(2),
        }
    }
}

//! A number sequence from a seed: all the chance there is here.

/// SplitMix64.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// The sequence of `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in `from..to`; `from` if that is empty.
    pub const fn within(&mut self, from: u64, to: u64) -> u64 {
        if to <= from {
            from
        } else {
            from + self.roll() % (to - from)
        }
    }

    /// True once in `times`.
    pub const fn once_in(&mut self, times: u64) -> bool {
        self.within(0, times) == 0
    }

    /// One of `choices`.
    ///
    /// # Panics
    /// When there is none.
    #[expect(
        clippy::indexing_slicing,
        reason = "documented; below the length otherwise"
    )]
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        let at = self.within(0, choices.len() as u64);
        &choices[usize::try_from(at).unwrap_or(0)]
    }

    /// Which of many things survive: all, none, a beginning, or a coin for each. The plain cases must come up often too.
    pub fn survival(&mut self, count: usize) -> Survival {
        match self.within(0, 5) {
            0 => Survival::First(count),
            1 => Survival::First(0),
            2 => {
                Survival::First(usize::try_from(self.within(0, count as u64 + 1)).unwrap_or(count))
            }
            3 => Survival::MostlyKept,
            _ => Survival::Coin,
        }
    }
}

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
    /// Whether thing `number` survives.
    pub const fn keeps(self, number: usize, dice: &mut Dice) -> bool {
        match self {
            Self::First(count) => number < count,
            Self::MostlyKept => !dice.once_in(12),
            Self::Coin => dice.once_in(2),
        }
    }
}

//! What a schedule is: the modes of a group (a column of docs/replication.md §11), which faults may come (drawn from the
//! seed, so that some schedules are full of one kind), and how long it goes on.

use std::fmt;
use std::str::FromStr;

use rocket_ha::Answers;
use rocket_mapped_file::memory::Dice;
use rocket_replication::mutations::Mutations;
use rocket_replication::replica::Flush;
use rocket_replication::{Policy, Replication};

/// A column of docs/replication.md §11.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Column {
    /// Flush async, replication async.
    A,
    /// Flush sync, replication async.
    B,
    /// Flush async, replication sync, 2 replicas, m = 1.
    C1,
    /// Flush async, replication sync, 3 replicas, m = 2.
    C,
    /// Flush sync, replication sync, 3 replicas, m = 2.
    D,
}

impl Column {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::A, Self::B, Self::C1, Self::C, Self::D];

    /// Replicas of the group.
    pub fn replicas(self) -> usize {
        if self == Self::C1 { 2 } else { 3 }
    }

    /// m.
    pub fn min_in_sync(self) -> u8 {
        if matches!(self, Self::C | Self::D) {
            2
        } else {
            1
        }
    }

    /// When an append counts.
    pub fn flush(self) -> Flush {
        if matches!(self, Self::B | Self::D) {
            Flush::Sync
        } else {
            Flush::Async
        }
    }

    /// What an answer waits for.
    pub fn answers(self) -> Answers {
        if matches!(self, Self::A | Self::B) {
            Answers::Counted
        } else {
            Answers::Committed
        }
    }

    /// The same as an object asks for it (§5.1).
    pub fn policy(self) -> Policy {
        Policy {
            flush: self.flush(),
            replication: match self.answers() {
                Answers::Counted => Replication::Async,
                Answers::Committed => Replication::Sync,
            },
        }
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl FromStr for Column {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = |column: &Self| column.to_string().eq_ignore_ascii_case(text);
        let found = Self::ALL.into_iter().find(named);
        found.ok_or_else(|| format!("no column is called {text}; one of A, B, C1, C, D"))
    }
}

/// What the log of a replica is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Weight {
    /// The twin in memory: whole records are lost, no sectors.
    Light,
    /// The store's engine over a disk in memory that loses any subset of unflushed sectors.
    Heavy,
}

/// A kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Fault {
    /// A process is killed; the page cache stays.
    Kill,
    /// A process is stopped in order.
    Stop,
    /// A machine loses power, and what was not flushed.
    Power,
    /// A process or machine ends in the middle of a step, between two changes of its disk.
    MidStep,
    /// A disk is lost whole; the machine comes back with an empty one.
    LostDisk,
    /// A write or flush fails.
    DiskError,
    /// A disk is full for a while.
    FullDisk,
    /// A process stands still and goes on later.
    Pause,
    /// A link breaks; its two ends notice at times of their own.
    LinkCut,
    /// Nothing arrives in one direction between two machines, for a while.
    Stall,
    /// An answer of the coordinator is lost, or a write comes late, or twice.
    StrangeWrite,
    /// A process does not reach the coordinator for a while.
    Unreachable,
    /// A watch shows an old state.
    StaleHint,
    /// A master is suspected for no reason.
    Suspicion,
    /// Somebody asks for a planned handover.
    Handover,
    /// Somebody changes m.
    ChangeM,
    /// Retention takes the beginning of a log.
    Retention,
    /// A process starts again with the other flush mode.
    FlushMode,
    /// For a while the object is an old copy of itself.
    Forgetting,
    /// Somebody asks for other modes while the group runs (§5.1).
    ChangeModes,
    /// Bits flip on one disk below what is flushed, and the scrubber finds it (§8.15).
    Rot,
    /// Retention takes the beginning of a store's log too, up to the last snapshot (§10, T4), and to one queue little is sent.
    Expiry,
}

impl Fault {
    /// All kinds.
    pub const ALL: [Self; 22] = [
        Self::Kill,
        Self::Stop,
        Self::Power,
        Self::MidStep,
        Self::LostDisk,
        Self::DiskError,
        Self::FullDisk,
        Self::Pause,
        Self::LinkCut,
        Self::Stall,
        Self::StrangeWrite,
        Self::Unreachable,
        Self::StaleHint,
        Self::Suspicion,
        Self::Handover,
        Self::ChangeM,
        Self::Retention,
        Self::FlushMode,
        Self::Forgetting,
        Self::ChangeModes,
        Self::Rot,
        Self::Expiry,
    ];

    /// So many of them are older than the others, which have dice of their own: seeds that were noted before there were others
    /// still give the schedules that they gave, when those are taken away.
    const OLDER: usize = 19;
    /// The same, before there was the last one.
    const OLD: usize = 21;
}

/// Which kinds may come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Weather(u32);

impl Weather {
    /// With one kind more.
    #[must_use]
    pub fn with(self, fault: Fault) -> Self {
        Self(self.0 | 1 << fault as u8)
    }

    /// Whether a kind may come.
    pub fn has(self, fault: Fault) -> bool {
        self.0 & 1 << fault as u8 != 0
    }

    /// With one kind less.
    #[must_use]
    pub fn without(self, fault: Fault) -> Self {
        Self(self.0 & !(1 << fault as u8))
    }

    /// What a schedule chooses among when something is to go wrong. Not all of them may come.
    pub(crate) fn choices(self) -> &'static [Fault] {
        let has_any = |faults: &[Fault]| faults.iter().any(|fault| self.has(*fault));
        if has_any(&Fault::ALL[Fault::OLD..]) {
            &Fault::ALL
        } else if has_any(&Fault::ALL[Fault::OLDER..]) {
            &Fault::ALL[..Fault::OLD]
        } else {
            &Fault::ALL[..Fault::OLDER]
        }
    }

    /// Every kind, each with one chance in two; some are rarer.
    fn drawn(dice: &mut Dice, newer: &mut Dice, newest: &mut Dice) -> Self {
        let mut weather = Self::default();
        for fault in Fault::ALL {
            let drawn = match fault {
                Fault::FlushMode | Fault::Forgetting => dice.once_in(6),
                Fault::ChangeModes => newer.once_in(3),
                Fault::Rot => newer.once_in(6),
                Fault::Expiry => newest.once_in(2),
                _ => dice.once_in(2),
            };
            if drawn {
                weather = weather.with(fault);
            }
        }
        weather
    }
}

/// One schedule.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Decides everything.
    pub seed: u64,
    /// The group's modes.
    pub column: Column,
    /// What its logs are.
    pub weight: Weight,
    /// Steps before faults stop.
    pub steps: u32,
    /// Rules broken on purpose.
    pub mutations: Mutations,
    /// Kinds of faults that may come.
    pub weather: Weather,
    /// The replicas elect their master themselves; else two electors beside them do.
    pub elects_itself: bool,
    /// The schedule begins with a group that is at rest, or with nobody registered.
    pub begins_healthy: bool,
    /// Where modes change: the object asks for some from its beginning on, or from the first change on.
    pub begins_with_modes: bool,
    /// Where logs lose their beginnings: how many messages there were before the first fault, some files of them or none.
    pub old_messages: u64,
}

impl Plan {
    /// The schedule of a seed.
    pub fn of(seed: u64, column: Column, weight: Weight) -> Self {
        let mut dice = Dice::new(seed ^ 0x706c_616e);
        let mut newer = Dice::new(seed ^ 0x6e65_7765);
        let mut newest = Dice::new(seed ^ 0x6578_7069);
        Self {
            seed,
            column,
            weight,
            steps: match weight {
                Weight::Light => 1_200,
                Weight::Heavy => 2_000,
            },
            mutations: Mutations::default(),
            weather: Weather::drawn(&mut dice, &mut newer, &mut newest),
            elects_itself: dice.once_in(4),
            begins_healthy: !dice.once_in(5),
            begins_with_modes: !newer.once_in(3),
            old_messages: if newest.once_in(2) { 100 } else { 0 },
        }
    }

    /// The schedule that its seed gave before modes changed and bits flipped.
    #[must_use]
    pub fn of_old(self) -> Self {
        let newer = Fault::ALL.iter().skip(Fault::OLDER);
        let weather = newer.fold(self.weather, |weather, fault| weather.without(*fault));
        Self { weather, ..self }
    }

    /// The schedule that its seed gave before a store's log lost its beginning.
    #[must_use]
    pub fn without_expiry(self) -> Self {
        Self {
            weather: self.weather.without(Fault::Expiry),
            ..self
        }
    }

    /// Whether logs tell where queues go on, as those of brokers do.
    pub(crate) fn has_snapshots(&self) -> bool {
        self.weather.has(Fault::Expiry)
    }

    /// Whether the object asks for modes, now one and now another.
    pub fn changes_modes(&self) -> bool {
        self.weather.has(Fault::ChangeModes)
    }

    /// Whether everything that is ever promised is flushed everywhere before.
    pub(crate) fn promises_flushed_alone(&self) -> bool {
        self.column.flush() == Flush::Sync && !self.is_mixed() && !self.changes_modes()
    }

    /// Whether machines may run with different flush modes.
    pub fn is_mixed(&self) -> bool {
        self.weather.has(Fault::FlushMode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_fault_comes_in_some_schedules_and_not_in_others() {
        for fault in Fault::ALL {
            let has = |seed| Plan::of(seed, Column::D, Weight::Light).weather.has(fault);
            let count = (0..600).filter(|seed| has(*seed)).count();
            assert!((40..560).contains(&count), "{fault:?} in {count} of 600");
        }
    }

    #[test]
    fn columns_are_named_as_in_the_specification() {
        for column in Column::ALL {
            assert_eq!(column.to_string().parse(), Ok(column));
        }
        assert!("E".parse::<Column>().is_err());
    }
}

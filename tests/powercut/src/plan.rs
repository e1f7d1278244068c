//! What a seed says: settings, loads, and how each of several runs of the broker ends.
//!
//! The plan is the same for the same seed. What the process has done at its n-th write is not: threads and sockets are
//! its own.

use std::fmt;

use rocket_mapped_file::memory::Dice;

use crate::disk::{Faults, Moment};
use crate::load::Shape;

/// The promise under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    /// Answered after the flush.
    Sync,
    /// Answered after the append; flushed at intervals.
    Async,
}

impl Flush {
    /// The value of `flushDiskType`.
    pub const fn setting(self) -> &'static str {
        match self {
            Self::Sync => "SYNC_FLUSH",
            Self::Async => "ASYNC_FLUSH",
        }
    }
}

/// How a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The power goes at an event of the commit log.
    Cut,
    /// SIGKILL; the machine stays.
    Kill,
    /// SIGTERM, and then the power goes.
    Stop,
    /// A sync of the commit log says EIO.
    SyncError,
    /// A write to the commit log says EIO after a part.
    WriteError,
    /// The medium becomes read-only.
    ReadOnly,
    /// The medium is full for a while; then the power goes.
    Full,
}

/// One run of the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phase {
    /// The load.
    pub shape: Shape,
    /// How it ends.
    pub end: End,
    /// The faults that bring the end.
    pub faults: Faults,
    /// After a fault that ends the process by itself: whether the power goes too.
    pub power_goes: bool,
    /// Bytes of room left, for [`End::Full`].
    pub room: u64,
    /// The power goes once more while the next start recovers, at this event.
    pub in_recovery: Option<Moment>,
}

/// One round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What it was made from.
    pub seed: u64,
    /// The promise.
    pub flush: Flush,
    /// The interval of [`Flush::Async`].
    pub flush_interval_ms: u64,
    /// Bytes of a commit log file.
    pub segment_bytes: u64,
    /// Bytes of a consume queue file.
    pub queue_file_bytes: u64,
    /// Entries of an index file.
    pub index_max: u64,
    /// Longest time of a sync in microseconds.
    pub sync_us: u64,
    /// Runs, one after the other, on one store.
    pub phases: Vec<Phase>,
}

impl Plan {
    /// The plan of `seed`.
    pub fn of(seed: u64, flush: Flush) -> Self {
        let mut dice = Dice::new(seed);
        let segment_bytes = *dice.pick(&[2 << 20, 4 << 20, 16 << 20]);
        let count = dice.within(3, 6);
        Self {
            seed,
            flush,
            flush_interval_ms: *dice.pick(&[20, 50, 200]),
            segment_bytes,
            queue_file_bytes: *dice.pick(&[20_000, 60_000, 600_000]),
            index_max: *dice.pick(&[2000, 8000, 100_000]),
            sync_us: *dice.pick(&[0, 300, 1500]),
            phases: (0..count).map(|_| phase(flush, &mut dice)).collect(),
        }
    }

    /// A plan of `count` kills under loads of one shape; the power stays.
    pub fn of_kills(seed: u64, flush: Flush, shape: Shape, count: u64) -> Self {
        let mut dice = Dice::new(seed);
        let kill = |dice: &mut Dice| Phase {
            shape,
            end: End::Kill,
            faults: Faults::default(),
            power_goes: false,
            room: dice.roll() >> 1,
            in_recovery: None,
        };
        Self {
            phases: (0..count).map(|_| kill(&mut dice)).collect(),
            ..Self::of(seed, flush)
        }
    }

    /// `key=value` settings of the broker.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        [
            ("flushDiskType", self.flush.setting().to_owned()),
            ("flushIntervalCommitLog", self.flush_interval_ms.to_string()),
            ("maxMessageSize", "65536".to_owned()),
            ("mappedFileSizeCommitLog", self.segment_bytes.to_string()),
            (
                "mappedFileSizeConsumeQueue",
                self.queue_file_bytes.to_string(),
            ),
            ("maxHashSlotNum", "1000".to_owned()),
            ("maxIndexNum", self.index_max.to_string()),
            ("cleanResourceInterval", "200".to_owned()),
            ("cleanFileForciblyEnable", "false".to_owned()),
            ("diskSpaceWarningLevelRatio", "99".to_owned()),
        ]
        .into()
    }
}

fn phase(flush: Flush, dice: &mut Dice) -> Phase {
    let end = *dice.pick(&[
        End::Cut,
        End::Cut,
        End::Cut,
        End::Cut,
        End::Kill,
        End::Stop,
        End::SyncError,
        End::SyncError,
        End::WriteError,
        End::ReadOnly,
        End::Full,
    ]);
    let write = |dice: &mut Dice| {
        let most = *dice.pick(&[60, 1500]);
        dice.within(10, most)
    };
    let sync = |dice: &mut Dice| match flush {
        Flush::Sync => {
            let most = *dice.pick(&[40, 400]);
            dice.within(5, most)
        }
        Flush::Async => dice.within(1, 8),
    };
    let mut faults = Faults {
        short_every: dice.once_in(4).then(|| dice.within(2, 20)),
        ..Faults::default()
    };
    match end {
        End::Cut => faults.cut_at = Some(moment(dice, write, sync)),
        End::SyncError => faults.sync_error_at = Some(sync(dice)),
        End::WriteError => faults.write_error_at = Some(write(dice)),
        End::ReadOnly => faults.read_only_at = Some(write(dice)),
        End::Kill | End::Stop | End::Full => {}
    }
    Phase {
        shape: *dice.pick(&[Shape::Small, Shape::Large, Shape::Batch]),
        end,
        faults,
        power_goes: dice.once_in(2),
        room: dice.within(1 << 19, 4 << 20),
        in_recovery: dice
            .once_in(4)
            .then(|| moment(dice, |dice| dice.within(1, 4), |dice| dice.within(1, 4))),
    }
}

fn moment(
    dice: &mut Dice,
    write: impl Fn(&mut Dice) -> u64,
    sync: impl Fn(&mut Dice) -> u64,
) -> Moment {
    match dice.within(0, 3) {
        0 => Moment::Write(write(dice)),
        1 => Moment::SyncBegin(sync(dice)),
        _ => Moment::SyncEnd(sync(dice)),
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = format!("{:?}", self.shape).to_lowercase();
        write!(f, "{shape}: ")?;
        let faults = &self.faults;
        match (self.end, faults.cut_at) {
            (End::Cut, Some(moment)) => write!(f, "cut at {moment:?}")?,
            (End::SyncError, _) => write!(f, "EIO at sync {:?}", faults.sync_error_at)?,
            (End::WriteError, _) => write!(f, "EIO at write {:?}", faults.write_error_at)?,
            (End::ReadOnly, _) => write!(f, "read-only from write {:?}", faults.read_only_at)?,
            (end, _) => write!(f, "{end:?}")?,
        }
        if let Some(every) = faults.short_every {
            write!(f, ", every {every}. write short")?;
        }
        if let Some(moment) = self.in_recovery {
            write!(f, ", again in recovery at {moment:?}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_plan_and_others_give_all_ends() {
        assert_eq!(Plan::of(7, Flush::Sync), Plan::of(7, Flush::Sync));
        let ends: Vec<End> = (0..100)
            .flat_map(|seed| Plan::of(seed, Flush::Async).phases)
            .map(|phase| phase.end)
            .collect();
        for end in [
            End::Cut,
            End::Kill,
            End::Stop,
            End::SyncError,
            End::WriteError,
            End::ReadOnly,
            End::Full,
        ] {
            assert!(ends.contains(&end), "{end:?}");
        }
    }
}

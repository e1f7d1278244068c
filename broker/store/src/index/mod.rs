//! The index by key: which messages have a key of this hash. Keys are random, so a table of hashes on the disk would be
//! written page by page all over; here they are gathered in memory and leave in order, always by appending:
//!
//! ```text
//! add ─▶ table in memory ──each time positions are secured──▶ tail file          about 6 bytes a key
//!             │ full
//!             └──▶ run of level 0 ──32 of them──▶ run of level 1 ──▶ …            about 7 bytes a key and level
//!
//! rocket/index/state                     what else must be known          (state.rs)
//! rocket/index/tail-0, tail-1            the table's keys, frame by frame  (tail.rs)
//! rocket/index/run-<from>-<to>-<level>   sorted keys of a stretch of log   (run.rs, block.rs, merge.rs)
//! index/<yyyyMMddHHmmssSSS>              as Apache's broker left them: read, never added to (apache.rs)
//! ```
//!
//! What must stay true:
//! - The stretches of the runs and the table join without gap or overlap, from the log's beginning (or where Apache's files
//!   end) to the dispatched position. A gap is damage: it is told and indexed again from the log.
//! - A run holds only keys of messages that a flush of the log has covered: a crash never makes one of them wrong.
//! - The checkpoint's dispatched position is never beyond what a flush of tail or runs has covered ([`Index::save`]).
//! - A lookup is by hash only: who asks verifies the key, and the time, on the record.
//!
//! Memory: two tables of 12 bytes a key ([`KEYS_MAX`]) and, for a moment, 8 bytes a key to sort one: 4 MiB in all; 4 KiB
//! per run, of which there are at most 31 per level; a merge 0.7 MiB.

pub(crate) mod apache;
pub(crate) mod apache_files;
mod block;
mod fields;
mod fill;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod merge;
mod open;
mod run;
mod spans;
mod state;
mod table;
mod tail;
#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use rocket_mapped_file::{Directory, Segment};
use rocket_protocol::{PhysicalOffset, UnixMillis};

use self::apache::ApacheFiles;
pub(crate) use self::fill::Add;
use self::merge::Merge;
pub(crate) use self::open::Known;
use self::run::{Run, scatter};
pub(crate) use self::state::{Noted, State};
use self::table::Table;
use self::tail::Chain;

/// Our files.
pub(crate) const FOLDER: &str = "rocket/index";
/// Keys of a table.
const KEYS_MAX: usize = 1 << 17;
/// Runs of one level that are merged into one of the next.
const FAN_IN: usize = 32;
/// Keys that one step merges: a few tens of milliseconds, and less than 2 MiB to flush.
const MERGE_STEP: usize = 1 << 18;

/// A table and what of it is in a tail file.
struct Tailed<T> {
    table: T,
    chain: Chain,
    /// Earliest and latest store time of the keys that are not in the file yet.
    times: (i64, i64),
}

/// No times yet.
const NO_TIMES: (i64, i64) = (i64::MAX, i64::MIN);

/// A full table, with the end of its stretch.
type Sealed = (Tailed<Arc<Table>>, u64);

/// What is added to and looked up.
pub(crate) struct Live {
    keys_max: usize,
    active: Tailed<Table>,
    sealed: Option<Sealed>,
    spare: Option<Table>,
    /// Oldest first.
    runs: Arc<Vec<Arc<Run>>>,
    apache: Arc<ApacheFiles>,
    /// Stretches of the log whose keys are missing, oldest first.
    gaps: Vec<Range<u64>>,
    tails: [Arc<dyn Segment>; 2],
    unflushed: [bool; 2],
    generation: u64,
    /// Keys of messages before are there already.
    skip_below: u64,
    newest: (i64, u64),
    buffer: Vec<u8>,
}

/// What goes on behind.
#[derive(Default)]
struct Work {
    merge: Option<Merge>,
    fill: Option<fill::Fill>,
}

/// See the module.
pub(crate) struct Index {
    dir: Arc<dyn Directory>,
    fan_in: usize,
    live: Mutex<Live>,
    /// Taken before `live` by who needs both.
    work: Mutex<Work>,
}

impl Live {
    /// Adds a key of a message; messages come in the order of the log. Those that are there already are passed over.
    pub(crate) fn add(&mut self, hash: i32, physical_offset: u64, store_timestamp: UnixMillis) {
        if physical_offset < self.skip_below {
            return;
        }
        // A message's keys stay together.
        if self.active.table.is_full()
            && self.sealed.is_none()
            && self.active.table.last_offset() != Some(physical_offset)
        {
            self.seal(physical_offset);
        }
        let time = store_timestamp.0;
        let times = &mut self.active.times;
        *times = (times.0.min(time), times.1.max(time));
        self.newest = (time, physical_offset);
        self.active.table.add(scatter(hash), physical_offset, time);
    }

    /// Whether more keys wait in memory than two tables are made for.
    pub(crate) fn is_crowded(&self) -> bool {
        self.sealed.is_some() && self.active.table.is_full()
    }

    /// Ends the active table's stretch at `to` and begins another table.
    fn seal(&mut self, to: u64) {
        let table = match self.spare.take() {
            Some(mut spare) => {
                spare.restart(to);
                spare
            }
            None => Table::new(to, self.keys_max),
        };
        self.generation += 1;
        let next = Tailed {
            table,
            chain: Chain::new(1 - self.active.chain.file, self.generation, to),
            times: NO_TIMES,
        };
        let full = std::mem::replace(&mut self.active, next);
        let full = Tailed {
            table: Arc::new(full.table),
            chain: full.chain,
            times: full.times,
        };
        self.sealed = Some((full, to));
    }

    /// Writes what is new to the tail files; everything before `position` must have been added. Returns what will be
    /// secured once [`Index::take_unflushed`] is flushed.
    fn save(&mut self, position: u64) -> io::Result<u64> {
        let (tails, unflushed) = (&self.tails, &mut self.unflushed);
        if let Some((sealed, to)) = &mut self.sealed
            && !save_one(sealed, tails, unflushed, *to, &mut self.buffer)?
        {
            return Ok(sealed.chain.to);
        }
        let active = &mut self.active;
        if save_one(active, tails, unflushed, position, &mut self.buffer)? {
            return Ok(self.active.chain.to);
        }
        // The file is full before the table is: many frames of few keys. The run will hold them.
        let secured = self.active.chain.to;
        if self.sealed.is_none() {
            self.seal(position);
        }
        Ok(secured)
    }

    fn install(&mut self, run: Run) {
        let at = self
            .runs
            .partition_point(|other| other.head.from < run.head.from);
        let mut runs = self.runs.to_vec();
        for gap in &mut self.gaps {
            if gap.start >= run.head.from && gap.start < run.head.to {
                gap.start = run.head.to;
            }
        }
        self.gaps.retain(|gap| gap.start < gap.end);
        runs.insert(at, Arc::new(run));
        self.runs = Arc::new(runs);
    }
}

fn save_one<T: AsTable>(
    tailed: &mut Tailed<T>,
    tails: &[Arc<dyn Segment>; 2],
    unflushed: &mut [bool; 2],
    to: u64,
    buffer: &mut Vec<u8>,
) -> io::Result<bool> {
    let Tailed {
        table,
        chain,
        times,
    } = tailed;
    let (Some(segment), Some(mark)) = (tails.get(chain.file), unflushed.get_mut(chain.file)) else {
        return Ok(false);
    };
    let is_new = to > chain.to;
    let done = chain.save(table.as_table(), *times, to, &**segment, buffer)?;
    if done {
        *mark |= is_new;
        *times = NO_TIMES;
    }
    Ok(done)
}

/// The table in memory, shared or not.
trait AsTable {
    fn as_table(&self) -> &Table;
}

impl AsTable for Table {
    fn as_table(&self) -> &Table {
        self
    }
}

impl AsTable for Arc<Table> {
    fn as_table(&self) -> &Table {
        self
    }
}

impl Index {
    /// For adding the keys of one or more messages.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Live> {
        self.live.lock()
    }

    /// Store time and offset of the newest message with a key.
    pub(crate) fn newest(&self) -> (UnixMillis, PhysicalOffset) {
        let (time, offset) = self.live.lock().newest;
        (UnixMillis(time), PhysicalOffset(offset))
    }

    /// Writes what is new to the tail; everything before `position` must have been added. Returns the position that is
    /// secured once [`Index::take_unflushed`] is flushed. What failed can be tried again.
    pub(crate) fn save(&self, position: u64) -> io::Result<u64> {
        self.live.lock().save(position)
    }

    /// The files that were written since the last call; to be flushed.
    pub(crate) fn take_unflushed(&self) -> Vec<(String, Arc<dyn Segment>)> {
        let mut live = self.live.lock();
        let marks = std::mem::take(&mut live.unflushed);
        if crate::mutant::is_on(crate::mutant::Mutant::IndexTailNotSecured) {
            return Vec::new();
        }
        let files = live.tails.iter().enumerate().zip(marks);
        files
            .filter(|(_, is_marked)| *is_marked)
            .map(|((number, segment), _)| (tail_path(number), Arc::clone(segment)))
            .collect()
    }

    /// One piece of what goes on behind: writing a full table, merging runs. `durable` is the flushed end of the log,
    /// `min` its beginning. Whether there was something to do.
    pub(crate) fn step(&self, durable: u64, min: u64) -> io::Result<bool> {
        let mut work = self.work.lock();
        if self.write_sealed(durable)? {
            return Ok(true);
        }
        if work.merge.is_none() {
            let runs = Arc::clone(&self.live.lock().runs);
            if let Some(inputs) = merge::choose(&runs, self.fan_in) {
                work.merge = Some(Merge::begin(&*self.dir, inputs.to_vec(), min)?);
            }
        }
        let Some(merge) = &mut work.merge else {
            return Ok(false);
        };
        let step = match merge.step(MERGE_STEP) {
            Ok(false) => return Ok(true),
            other => other,
        };
        let Some(merge) = work.merge.take() else {
            return Ok(false);
        };
        let path = merge.path().to_owned();
        let done = step.and_then(|_| merge.finish());
        match done {
            Ok((run, inputs)) => self.replace(run, &inputs)?,
            Err(failed) => {
                self.dir.remove(&path)?;
                match failed.input {
                    Some(input) => self.give_up(&input, &failed.error)?,
                    None => return Err(failed.error),
                }
            }
        }
        Ok(true)
    }

    /// Writes a full table now, if the log holds its messages for good.
    pub(crate) fn relieve(&self, durable: u64) -> io::Result<()> {
        let _work = self.work.lock();
        self.write_sealed(durable).map(|_| ())
    }

    /// Makes the full table a run, if there is one and the log holds all its messages for good.
    fn write_sealed(&self, durable: u64) -> io::Result<bool> {
        let sealed = self
            .live
            .lock()
            .sealed
            .as_ref()
            .map(|(tailed, to)| (Arc::clone(&tailed.table), *to));
        let Some((table, to)) = sealed.filter(|(_, to)| *to <= durable) else {
            return Ok(false);
        };
        let run = table.write(&*self.dir, to)?;
        drop(table);
        let mut live = self.live.lock();
        live.install(run);
        if let Some((tailed, _)) = live.sealed.take() {
            // A reader may still hold it; then the next table is a new one.
            live.spare = Arc::into_inner(tailed.table);
        }
        Ok(true)
    }

    /// Puts a merged run in the place of those it came from; what retention removed meanwhile stays away.
    fn replace(&self, run: Run, inputs: &[Arc<Run>]) -> io::Result<()> {
        let is_input = |other: &Arc<Run>| inputs.iter().any(|input| Arc::ptr_eq(input, other));
        {
            let mut live = self.live.lock();
            let before = live.runs.len();
            let mut runs = live.runs.to_vec();
            runs.retain(|other| !is_input(other));
            if runs.len() == before {
                drop(live);
                return self.dir.remove(&run.path);
            }
            live.runs = Arc::new(runs);
            live.install(run);
        }
        for input in inputs {
            self.dir.remove(&input.path)?;
        }
        self.dir.sync(FOLDER)
    }

    /// Takes a run that cannot be read out of use; its keys will be taken from the log again.
    fn give_up(&self, run: &Arc<Run>, error: &io::Error) -> io::Result<()> {
        tracing::error!(
            file = run.path, from = run.head.from, to = run.head.to, error = %error,
            "a part of the index cannot be read; until it is made again from the log its keys are not found"
        );
        {
            let mut live = self.live.lock();
            let mut runs = live.runs.to_vec();
            runs.retain(|other| !Arc::ptr_eq(other, run));
            if runs.len() == live.runs.len() {
                return Ok(());
            }
            live.runs = Arc::new(runs);
            live.gaps.push(run.head.from..run.head.to);
            live.gaps.sort_by_key(|gap| gap.start);
        }
        self.dir.remove(&run.path)
    }

    /// Offsets of messages whose key has this hash and that may have been stored within `begin..=end`, newest first;
    /// `wanted` verifies each and tells whether to go on. Keys that are added meanwhile are not held up.
    pub(crate) fn lookup(
        &self,
        hash: i32,
        begin: i64,
        end: i64,
        mut wanted: impl FnMut(u64) -> bool,
    ) -> io::Result<()> {
        let scattered = scatter(hash);
        let times = (begin, end);
        let mut offsets = Vec::new();
        let (sealed, runs, apache) = {
            let live = self.live.lock();
            live.active.table.lookup(scattered, times, &mut offsets);
            (
                live.sealed
                    .as_ref()
                    .map(|(tailed, _)| Arc::clone(&tailed.table)),
                Arc::clone(&live.runs),
                Arc::clone(&live.apache),
            )
        };
        if let Some(sealed) = sealed {
            sealed.lookup(scattered, times, &mut offsets);
        }
        for offset in offsets {
            if !wanted(offset) {
                return Ok(());
            }
        }
        for run in runs.iter().rev() {
            match run.lookup(scattered, times, &mut wanted) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => self.give_up(run, &error)?,
            }
        }
        apache.lookup(hash, begin, end, wanted)
    }

    /// Removes what holds only keys of messages before `min`.
    pub(crate) fn remove_before(&self, min: u64) -> io::Result<()> {
        let (removed, apache) = {
            let mut live = self.live.lock();
            let is_gone = |run: &Arc<Run>| run.head.to <= gone_below(min);
            let (removed, kept): (Vec<_>, Vec<_>) = live.runs.iter().cloned().partition(is_gone);
            if !removed.is_empty() {
                live.runs = Arc::new(kept);
            }
            live.gaps.retain(|gap| gap.end > min);
            (removed, Arc::clone(&live.apache))
        };
        for run in &removed {
            self.dir.remove(&run.path)?;
        }
        if !removed.is_empty() {
            self.dir.sync(FOLDER)?;
        }
        let Some(rest) = apache.remove_before(&*self.dir, min)? else {
            return Ok(());
        };
        self.live.lock().apache = Arc::new(rest);
        Ok(())
    }
}

/// Below this nobody asks any more.
fn gone_below(min: u64) -> u64 {
    if crate::mutant::is_on(crate::mutant::Mutant::RunDroppedEarly) {
        return min + 2000;
    }
    min
}

fn tail_path(number: usize) -> String {
    format!("{FOLDER}/tail-{number}")
}

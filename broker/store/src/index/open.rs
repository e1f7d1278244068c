//! Opening: which runs count, what the tail holds of the rest, and what is missing. Reads one page of each run and the
//! tail files, so it does not depend on how many keys there are.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;
use rocket_mapped_file::{Directory, Fill, Segment, SegmentOptions};

use super::apache::{ApacheFiles, Sizes};
use super::run::{Opened, Run};
use super::state::{Noted, State};
use super::table::Table;
use super::tail::{self, Chain, Frame};
use super::{FAN_IN, FOLDER, Index, KEYS_MAX, Live, NO_TIMES, Tailed, Work, tail_path};
use crate::checksums::is_damage;

/// What recovery knows before the index is opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    /// Sizes of Apache's files.
    pub(crate) sizes: Sizes,
    /// The last process stopped in order.
    pub(crate) clean: bool,
    /// Everything before was noted as dispatched and flushed; what follows will be dispatched again.
    pub(crate) dispatched: u64,
    /// First byte of the log.
    pub(crate) min: u64,
    /// End of the log.
    pub(crate) end: u64,
}

/// What the tail holds.
struct Loaded {
    table: Table,
    /// Where to go on, if the file can be gone on with.
    chain: Option<Chain>,
    /// The table is complete up to here.
    to: u64,
    generation: u64,
}

impl Index {
    /// Opens the index, or makes it. The second value is how many bytes of the log are to be indexed again.
    pub(crate) fn open(dir: Arc<dyn Directory>, known: Known) -> io::Result<(Self, u64)> {
        let entries = usize::try_from(known.sizes.entries).unwrap_or(KEYS_MAX);
        Self::open_with(dir, known, KEYS_MAX.min(entries), FAN_IN)
    }

    /// As [`Index::open`], with tables of `keys_max` keys and merges of `fan_in` runs.
    pub(crate) fn open_with(
        dir: Arc<dyn Directory>,
        known: Known,
        keys_max: usize,
        fan_in: usize,
    ) -> io::Result<(Self, u64)> {
        dir.create_folder(FOLDER)?;
        let runs = open_runs(&*dir, known)?;
        let mut gaps = Vec::new();
        let (apache, base) = open_apache(&*dir, known, !runs.is_empty())?;
        let runs = join(&*dir, runs, base.max(known.min), &mut gaps)?;
        let runs_end = runs.last().map_or(base.max(known.min), |run| run.head.to);
        let tails = [0, 1]
            .map(|number| open_tail(&*dir, number, keys_max))
            .into_iter()
            .collect::<io::Result<Vec<_>>>()?;
        let tails: [Arc<dyn Segment>; 2] = tails
            .try_into()
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        let loaded = load(&tails, runs_end, known.dispatched, keys_max)?;
        let mut from = runs_end;
        if loaded.to < known.dispatched {
            gaps.push(from..known.dispatched);
            from = known.dispatched;
        }
        let live = Live {
            keys_max,
            newest: newest_of(&runs, &loaded, &apache),
            active: Tailed {
                table: Table::new(from, keys_max),
                chain: Chain::new(0, loaded.generation + 1, from),
                times: NO_TIMES,
            },
            sealed: None,
            spare: None,
            runs: Arc::new(runs),
            apache: Arc::new(apache),
            gaps: Vec::new(),
            tails,
            unflushed: [false; 2],
            generation: loaded.generation + 1,
            skip_below: from,
            buffer: Vec::new(),
        };
        let index = Self {
            dir,
            fan_in,
            live: Mutex::new(live),
            work: Mutex::new(Work::default()),
        };
        let goes_on = loaded.to >= known.dispatched && loaded.chain.is_some();
        if loaded.to >= known.dispatched {
            index.take_over(loaded, known.dispatched)?;
        }
        if !goes_on {
            let live = index.live.lock();
            for segment in &live.tails {
                tail::forget(&**segment)?;
            }
        }
        gaps.retain(|gap| gap.start < gap.end);
        gaps.sort_by_key(|gap| gap.start);
        let missing = gaps.iter().map(|gap| gap.end - gap.start).sum();
        for gap in &gaps {
            tracing::error!(
                from = gap.start,
                to = gap.end,
                "keys of these messages are missing and are indexed again"
            );
        }
        index.live.lock().gaps = gaps;
        Ok((index, missing))
    }

    /// Takes over what the tail held: as the table, if its file can be gone on with; else as a run, behind which both
    /// files are free.
    fn take_over(&self, loaded: Loaded, dispatched: u64) -> io::Result<()> {
        let mut live = self.live.lock();
        if let Some(chain) = loaded.chain {
            live.generation = chain.generation;
            live.skip_below = chain.to;
            live.active = Tailed {
                table: loaded.table,
                chain,
                times: NO_TIMES,
            };
        } else if loaded.table.from < dispatched {
            // Without keys too: what says so would be written over, and a crash meanwhile would leave a gap.
            live.install(loaded.table.write(&*self.dir, dispatched)?);
            live.skip_below = dispatched;
            live.active.table.restart(dispatched);
            live.active.chain.to = dispatched;
        }
        Ok(())
    }
}

/// The files that are whole runs, sorted. What others held will be seen to be missing.
fn open_runs(dir: &dyn Directory, known: Known) -> io::Result<Vec<Run>> {
    let mut runs = Vec::new();
    for entry in dir.list(FOLDER)? {
        if entry.is_folder || !entry.name.starts_with("run-") {
            continue;
        }
        let path = format!("{FOLDER}/{}", entry.name);
        match Run::open(dir, path.clone())? {
            Opened::Run(run) if run.head.to > known.end || run.head.to <= known.min => {
                tracing::info!(
                    file = path,
                    "a part of the index is of messages that are not in the log"
                );
                dir.remove(&path)?;
            }
            Opened::Run(run) => runs.push(run),
            Opened::Unfinished => dir.remove(&path)?,
            Opened::Damaged => {
                tracing::error!(file = path, "a part of the index is damaged");
                dir.remove(&path)?;
            }
        }
    }
    dir.sync(FOLDER)?;
    runs.sort_by_key(|run| (run.head.from, std::cmp::Reverse(run.head.to)));
    Ok(runs)
}

/// Apache's files, and where they end and ours begin.
fn open_apache(
    dir: &dyn Directory,
    known: Known,
    has_runs: bool,
) -> io::Result<(ApacheFiles, u64)> {
    let mut apache = ApacheFiles::open(dir, known.sizes)?;
    let noted = State::read(dir)?;
    let base = match (noted, has_runs) {
        (Noted::State(state), _) => state.base,
        // Their newest message is indexed twice then; who asks sees one.
        (Noted::Damaged, _) | (Noted::Nothing, true) => {
            apache.newest().map_or(known.min, |(_, newest)| newest)
        }
        (Noted::Nothing, false) => {
            if !known.clean {
                apache.keep_before(dir, known.dispatched)?;
            }
            match apache.newest() {
                Some((_, newest)) => known.dispatched.max(newest),
                None => known.min,
            }
        }
    };
    let state = State {
        base,
        slots: known.sizes.slots,
        entries: known.sizes.entries,
    };
    if noted != Noted::State(state) {
        state.write(dir)?;
    }
    Ok((apache, base))
}

/// The runs that join from `from` on; others are left over from a merge, or do not fit, and are removed.
fn join(
    dir: &dyn Directory,
    runs: Vec<Run>,
    from: u64,
    gaps: &mut Vec<Range<u64>>,
) -> io::Result<Vec<Arc<Run>>> {
    let mut joined: Vec<Arc<Run>> = Vec::new();
    let mut end = from;
    for run in runs {
        let overlaps = joined
            .last()
            .is_some_and(|last| run.head.from < last.head.to);
        if overlaps || run.head.to < end {
            dir.remove(&run.path)?;
            continue;
        }
        if run.head.from > end {
            gaps.push(end..run.head.from);
        }
        end = run.head.to;
        joined.push(Arc::new(run));
    }
    dir.sync(FOLDER)?;
    Ok(joined)
}

fn open_tail(dir: &dyn Directory, number: usize, keys_max: usize) -> io::Result<Arc<dyn Segment>> {
    let path = tail_path(number);
    let exists = dir
        .list(FOLDER)?
        .iter()
        .any(|entry| path.ends_with(&entry.name));
    if exists {
        let opened = dir
            .open(&path, SegmentOptions::default())
            .and_then(|segment| tail::load(&*segment).map(|_| segment));
        match opened {
            // Nothing could be added to it, and what it held is indexed again.
            Err(error) if is_damage(&error) => {
                tracing::error!(file = path, %error, "a part of the index cannot be read");
                dir.remove(&path)?;
            }
            opened => return opened,
        }
    }
    let options = SegmentOptions {
        fill: Fill::Reserve,
        lanes: 1,
    };
    dir.create(&path, tail::file_bytes(keys_max), options)
}

/// The keys of messages from `from` to `dispatched` that the tail files hold. What lies beyond is not to be believed.
fn load(
    tails: &[Arc<dyn Segment>; 2],
    from: u64,
    dispatched: u64,
    keys_max: usize,
) -> io::Result<Loaded> {
    let mut files = Vec::new();
    for (number, segment) in tails.iter().enumerate() {
        let frames = tail::load(&**segment)?;
        if let Some(first) = frames.first() {
            files.push((first.generation, first.from, number, frames));
        }
    }
    files.sort_by_key(|(generation, ..)| *generation);
    let mut loaded = Loaded {
        table: Table::new(from, keys_max),
        chain: None,
        to: from,
        generation: files.last().map_or(0, |(generation, ..)| *generation),
    };
    // Where a later table begins an earlier one has nothing to say.
    let limits: Vec<u64> = files.iter().skip(1).map(|(_, first, ..)| *first).collect();
    let limits = limits.into_iter().chain([u64::MAX]);
    for ((generation, first, number, frames), limit) in files.iter().zip(limits) {
        let whole = *first == from
            && frames.last().is_some_and(|last| last.to == dispatched)
            && limit == u64::MAX;
        loaded.chain = whole.then(|| Chain {
            file: *number,
            generation: *generation,
            at: frames.last().map_or(0, |last| last.end),
            keys: frames.iter().map(|frame| frame.keys.len()).sum(),
            to: dispatched,
        });
        for frame in frames {
            take(&mut loaded, frame, limit.min(dispatched));
        }
    }
    Ok(loaded)
}

/// Takes the keys of a frame that lie behind what is taken and before `limit`, if no part is missing between.
fn take(loaded: &mut Loaded, frame: &Frame, limit: u64) {
    if frame.from > loaded.to || frame.to <= loaded.to || loaded.to >= limit {
        return;
    }
    for &(hash, offset) in &frame.keys {
        if offset >= loaded.to && offset < limit {
            loaded.table.add(hash, offset, frame.times.0);
            loaded.table.widen(frame.times.1);
        }
    }
    loaded.to = frame.to.min(limit);
}

fn newest_of(runs: &[Arc<Run>], loaded: &Loaded, apache: &ApacheFiles) -> (i64, u64) {
    let of_runs = runs.iter().map(|run| run.head.newest);
    let all = of_runs.chain(loaded.table.newest()).chain(apache.newest());
    all.max_by_key(|newest| newest.1).unwrap_or_default()
}

//! Indexing again what is missing: stretches of the log whose keys no file holds, because one was damaged, or because the
//! index was switched on late. Done in slices, from the log, as runs of level 0.

use std::io;
use std::ops::Range;

use super::Index;
use super::run::scatter;
use super::table::Table;

/// A stretch that is being indexed again.
pub(super) struct Fill {
    table: Table,
    /// Reached in the log.
    at: u64,
}

/// Takes a key of a message: hash, offset, store time.
pub(crate) type Add<'a> = dyn FnMut(i32, u64, i64) + 'a;

impl Index {
    /// One slice, if something is missing. `read` reads the log from a position to at most another, hands over the keys
    /// and says where it stopped, which is behind a whole message or behind damage; `None` when the log cannot be read now.
    /// Whether there was something to do.
    pub(crate) fn fill_step(
        &self,
        min: u64,
        read: impl FnOnce(Range<u64>, &mut Add<'_>) -> Option<u64>,
    ) -> io::Result<bool> {
        let mut work = self.work.lock();
        let (first, keys_max) = {
            let live = self.live.lock();
            (live.gaps.first().cloned(), live.keys_max)
        };
        let Some(gap) = first else {
            work.fill = None;
            return Ok(false);
        };
        let begun = work.fill.take().filter(|fill| fill.table.from == gap.start);
        let mut fill = begun.unwrap_or_else(|| Fill {
            table: Table::new(gap.start, keys_max),
            at: gap.start,
        });
        fill.at = fill.at.max(min).min(gap.end);
        let table = &mut fill.table;
        let reached = read(fill.at..gap.end, &mut |hash, offset, time| {
            table.add(scatter(hash), offset, time);
        });
        let Some(reached) = reached else {
            work.fill = Some(fill);
            return Ok(false);
        };
        if reached <= fill.at && fill.at < gap.end {
            tracing::error!(
                from = fill.at,
                to = gap.end,
                "the log cannot be read to index it again; keys of these messages are not found"
            );
            self.lock().gaps.retain(|other| *other != gap);
            return Ok(true);
        }
        fill.at = reached.max(fill.at);
        if fill.at < gap.end && !fill.table.is_full() {
            work.fill = Some(fill);
            return Ok(true);
        }
        let run = fill.table.write(&*self.dir, fill.at)?;
        let mut live = self.lock();
        live.install(run);
        if live.gaps.is_empty() {
            tracing::info!("the index is whole again");
        }
        Ok(true)
    }
}

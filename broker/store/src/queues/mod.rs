//! The consume queues: where the n-th message of each queue lies. Made for many: nothing here grows with the number of
//! queues but a few hundred bytes of memory each, and all writing is appending.
//!
//! ```text
//!                     ┌──▶ journal: every unit as it comes, ~14 B                              read at the next start
//! dispatch ──put──▶ tail of the queue (memory) ──full, or table due──▶ unit log: extents, 20 B a unit  read by consumers
//!                                                                        table: every queue, ~80 B, now and then
//! ```
//!
//! A unit is written twice, whatever the number of queues: to the journal at once, so that nothing of the commit log
//! needs to be read again, and as a part of an extent of its queue when there are enough of them, or when the units since
//! the last table are many ([`QueueLogConfig::table_units`]). Then all tails become extents, the table of the queues is
//! written, and older journals go. Queues that stand still cost their line in the table.
//!
//! The way from a queue to its extents is in the extents ([`extent`]). All of this follows from the commit log: what is
//! missing or damaged is built again from it, and what is ahead of it is not believed ([`journal`], [`snapshot`]).
//! Apache's form is read when a store has none of ours, and written by an export ([`crate::apache_queue`]).
//!
//! Order of locks: a queue's tail, then units or journal.

mod extent;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod journal;
mod mark;
mod nexts;
mod open;
mod queue;
mod recent;
mod snapshot;
mod table;
mod unit_log;

#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use rocket_mapped_file::{Directory, Segment};
use rocket_protocol::{QueueId, TopicName};

pub(crate) use self::open::{Known, Secured};
pub(crate) use self::queue::Queue;
pub(crate) use self::table::{TOGETHER, Wanted};

use self::journal::Journal;
use self::mark::Mark;
use self::queue::{Home, Note};
use self::recent::Recent;
use self::table::Table;
use self::unit_log::UnitLog;
use crate::config::QueueLogConfig;
use crate::unit::Unit;

/// The folder of our files.
pub(crate) const FOLDER: &str = "rocket/queues";
/// Units of new messages between two tables, for each queue: that many more queues share the cost of a table.
const TABLE_UNITS_PER_QUEUE: u64 = 6;
/// Bytes of the journal that are gathered before they are written.
const JOURNAL_BYTES: usize = 256 << 10;

/// A queue that others share.
pub(crate) type SharedQueue = Arc<Queue>;

/// See the module. Clones share all.
#[derive(Clone)]
pub(crate) struct Queues(Arc<Inner>);

struct Inner {
    dir: Arc<dyn Directory>,
    home: Arc<Home>,
    table: Table,
    tables: Mutex<Tables>,
}

/// The tables on the disk.
#[derive(Default)]
struct Tables {
    /// Of the newest one.
    number: u64,
    /// One that waits for the commit log.
    written: Option<snapshot::Written>,
    /// Positions of the newest one that counts and of the one before it; 0 where this process does not know.
    positions: [u64; 2],
}

/// A table that is to be written.
pub(crate) struct TableDue {
    queues: Vec<SharedQueue>,
    position: u64,
    journal: u64,
}

impl Queues {
    fn empty(dir: Arc<dyn Directory>, config: QueueLogConfig) -> Self {
        let units = UnitLog::new(Arc::clone(&dir), config.file_bytes);
        let journal = Journal::new(Arc::clone(&dir), config.journal_bytes, 0, 0);
        let home = Home {
            units: RwLock::new(units),
            journal: Mutex::new(journal),
            recent: Recent::default(),
            config,
            log_min: AtomicU64::new(0),
            upper: AtomicU64::new(0),
            slot_next: AtomicU32::new(0),
            misplaced: AtomicU64::new(0),
            mark: Mark::new(Arc::clone(&dir)),
        };
        Self(Arc::new(Inner {
            dir,
            home: Arc::new(home),
            table: Table::new(),
            tables: Mutex::default(),
        }))
    }

    /// No queues, and a folder of their own.
    #[cfg(test)]
    pub(crate) fn in_memory() -> Self {
        let dir = rocket_mapped_file::memory::MemoryDirectory::default();
        Self::empty(Arc::new(dir), QueueLogConfig::default())
    }

    /// Removes every queue. They are to be built from the message at `position` on.
    pub(crate) fn reset(&self, position: u64) -> io::Result<()> {
        let home = &self.0.home;
        self.0.table.clear();
        home.recent.clear();
        self.0.dir.remove_folder(FOLDER)?;
        self.0.dir.sync(crate::checkpoint::FOLDER)?;
        self.0.dir.create_folder(FOLDER)?;
        home.mark.clear();
        *home.units.write() = UnitLog::new(Arc::clone(&self.0.dir), home.config.file_bytes);
        let bytes = home.config.journal_bytes;
        *home.journal.lock() = Journal::new(Arc::clone(&self.0.dir), bytes, 0, position);
        home.upper.store(position, Ordering::Release);
        *self.0.tables.lock() = Tables::default();
        Ok(())
    }

    /// The queue, if it ever had a message that was put.
    pub(crate) fn get(&self, topic: &TopicName, queue_id: QueueId) -> Option<SharedQueue> {
        let queue = self.0.table.get(topic.as_str(), queue_id)?;
        (queue.max() > 0).then_some(queue)
    }

    /// The queue, made if it is missing.
    pub(crate) fn get_or_make(&self, topic: &TopicName, queue_id: QueueId) -> SharedQueue {
        self.0.table.get_or_make(&self.0.home, topic, queue_id)
    }

    /// Runs `work` with the queues that are `wanted`, at most [`TOGETHER`], which are made if they are missing; there are none
    /// for names that no topic can have. Within `work` no queue may be looked for.
    pub(crate) fn with_all<T>(
        &self,
        wanted: &[Wanted<'_>],
        work: impl FnOnce(&[Option<&Queue>; TOGETHER]) -> T,
    ) -> T {
        let missing: Vec<(TopicName, QueueId)> = {
            let together = self.0.table.together(wanted);
            let found = together.find();
            let mut both = wanted.iter().zip(&found);
            if both.all(|(wanted, found)| wanted.is_none() || found.is_some()) {
                return work(&found);
            }
            let wanted = wanted.iter().zip(found);
            let missing = wanted.filter(|(_, found)| found.is_none());
            let named = missing.filter_map(|(wanted, _)| {
                let (topic, queue_id) = (*wanted)?;
                Some((TopicName::parse(topic).ok()?, queue_id))
            });
            named.collect()
        };
        for (topic, queue_id) in missing {
            self.get_or_make(&topic, queue_id);
        }
        work(&self.0.table.together(wanted).find())
    }

    /// Gives away the next `count` offsets of a queue, which is made if it is missing; the first of them.
    pub(crate) fn give_offsets(&self, topic: &TopicName, queue_id: QueueId, count: u64) -> u64 {
        match self.0.table.give_offsets(topic.as_str(), queue_id, count) {
            Some(first @ 1..) => first,
            // Its first message: only now it may be missing.
            Some(first) => {
                self.get_or_make(topic, queue_id);
                first
            }
            None => self.get_or_make(topic, queue_id).give_offsets(count),
        }
    }

    /// Queue offset of the next message that is appended; 0 for a queue that never had one.
    pub(crate) fn next_offset(&self, topic: &TopicName, queue_id: QueueId) -> u64 {
        let queue = self.0.table.get(topic.as_str(), queue_id);
        queue.map_or(0, |queue| queue.next_offset())
    }

    /// Which offset each queue gives next, as far as it is known, in no order.
    pub(crate) fn next_offsets(&self) -> Vec<(TopicName, QueueId, u64)> {
        let all = self.0.table.all();
        let known = all.iter().map(|queue| {
            let next = queue.next_offset().max(queue.max());
            (queue.topic().clone(), queue.queue_id(), next)
        });
        known.filter(|(_, _, next)| *next > 0).collect()
    }

    /// One behind the offset of the last message that was put, of each queue that had one.
    pub(crate) fn put_offsets(&self) -> Vec<(TopicName, QueueId, u64)> {
        let all = self.all();
        let of = |queue: &SharedQueue| (queue.topic().clone(), queue.queue_id(), queue.max());
        all.iter().map(of).collect()
    }

    /// Messages that were put where their queue had other ones, since it was opened.
    pub(crate) fn misplaced(&self) -> u64 {
        self.0.home.misplaced.load(Ordering::Relaxed)
    }

    /// Both tables that a start may go by were begun when all messages before this had been put.
    pub(crate) fn tables_from(&self) -> u64 {
        let [_, before] = self.0.tables.lock().positions;
        before
    }

    /// Whether a table waits for the commit log.
    pub(crate) fn is_table_waiting(&self) -> bool {
        self.0.tables.lock().written.is_some()
    }

    /// Lets the next message of each queue follow the last one that was put. What the log has behind raises that again.
    pub(crate) fn reset_next(&self) {
        for queue in self.0.table.all() {
            queue.reset_next();
        }
    }

    /// All queues that ever had a message that was put, sorted.
    pub(crate) fn all(&self) -> Vec<SharedQueue> {
        let mut all = self.0.table.all();
        all.retain(|queue| queue.max() > 0);
        all.sort_by(|a, b| (a.topic(), a.queue_id()).cmp(&(b.topic(), b.queue_id())));
        all
    }

    /// Takes over a queue from elsewhere: it has these indexes, and `units` tells some of the units from an index on. A
    /// table must follow.
    pub(crate) fn import(
        &self,
        topic: &TopicName,
        queue_id: QueueId,
        indexes: Range<u64>,
        units: impl Fn(u64) -> io::Result<Vec<Unit>>,
    ) -> io::Result<()> {
        let queue = self.get_or_make(topic, queue_id);
        queue.begin_at(indexes.start);
        let mut next = indexes.start;
        while next < indexes.end {
            let mut run = units(next)?;
            run.truncate(usize::try_from(indexes.end - next).unwrap_or(usize::MAX));
            if run.is_empty() {
                return Err(damaged("a queue that is taken over"));
            }
            queue.put_and(next, &run, Note::Nowhere)?;
            next += run.len() as u64;
        }
        queue.raise_next(indexes.end);
        Ok(())
    }

    /// Forgets all queues of `topic`. What lies in the files is passed over from now on, which the next save makes known.
    pub(crate) fn remove_topic(&self, topic: &TopicName) {
        let removed = self.0.table.remove_topic(topic);
        let mut journal = self.0.home.journal.lock();
        for queue in removed {
            journal.drop_queue(queue.slot);
        }
    }

    /// Hides the messages of `topic` that lie before `offset` in the commit log, as if retention had taken them. Its queues
    /// keep their indexes: the next message follows the last one. Lasts as long as this value; to be said again at a start.
    pub(crate) fn hide_before(&self, topic: &TopicName, offset: u64) {
        self.0.table.hide_before(&self.0.home, topic, offset);
    }

    /// Whether so much waits in memory that it should be saved.
    pub(crate) fn is_save_due(&self) -> bool {
        self.0.home.journal.lock().unsaved() >= JOURNAL_BYTES
    }

    /// Writes what is only in memory. All messages before `position` have been put, and none behind it.
    pub(crate) fn save(&self, position: u64) -> io::Result<()> {
        self.0.home.journal.lock().save(position)
    }

    /// The files that were written since the last call; to be flushed.
    pub(crate) fn take_unflushed(&self) -> Vec<(String, Arc<dyn Segment>)> {
        self.0.home.journal.lock().take_unflushed()
    }

    /// Begins a table, if one is due. As with [`Queues::save`], nothing may be put meanwhile; the rest can be done beside
    /// that.
    pub(crate) fn begin_table(&self, position: u64) -> io::Result<Option<TableDue>> {
        let due =
            (TABLE_UNITS_PER_QUEUE * self.0.table.len() as u64).max(self.0.home.config.table_units);
        let is_due = self.0.home.journal.lock().units >= due;
        if !is_due || self.0.tables.lock().written.is_some() {
            return Ok(None);
        }
        self.begin_table_now(position).map(Some)
    }

    /// As [`Queues::begin_table`], due or not.
    pub(crate) fn begin_table_now(&self, position: u64) -> io::Result<TableDue> {
        let mut journal = self.0.home.journal.lock();
        Ok(TableDue {
            journal: journal.rotate(position)?,
            queues: self.0.table.all(),
            position,
        })
    }

    /// Writes and flushes a table with all extents that it needs. It counts after [`Queues::commit_table`].
    ///
    /// # Errors
    /// With the name of the file.
    pub(crate) fn write_table(&self, due: TableDue) -> Result<(), (String, io::Error)> {
        let number = self.0.tables.lock().number + 1;
        let named = |error| (FOLDER.to_owned(), error);
        let written = self.write_entries(number, due);
        if written.is_err() {
            snapshot::remove(&*self.0.dir, |of| of == number).map_err(named)?;
        }
        self.0.tables.lock().written = Some(written?);
        Ok(())
    }

    fn write_entries(
        &self,
        number: u64,
        due: TableDue,
    ) -> Result<snapshot::Written, (String, io::Error)> {
        let home = &self.0.home;
        let named = |error| (FOLDER.to_owned(), error);
        let mut queues = due.queues;
        queues.sort_unstable_by_key(|queue| Arc::as_ptr(&queue.topic));
        let units_before = home.journal.lock().units;
        let names = queues.iter().map(|queue| queue.topic().as_str().len());
        let mut writer = snapshot::Writer::create(&*self.0.dir, number, queues.len(), names.sum())
            .map_err(named)?;
        for queue in &queues {
            if let Some(saved) = queue.save().map_err(named)? {
                writer.add(queue.topic(), &saved).map_err(named)?;
            }
        }
        let (units_end, unflushed) = {
            let mut units = home.units.write();
            units.save().map_err(named)?;
            (units.end(), units.take_unflushed())
        };
        for (path, segment) in unflushed.into_iter().filter(|_| flushes_extents()) {
            segment.flush(0).map_err(|error| (path, error))?;
        }
        let head = snapshot::Head {
            number,
            position: due.position,
            upper: home.upper.load(Ordering::Acquire),
            units_end,
            journal: due.journal,
            slot_next: home.slot_next.load(Ordering::Relaxed),
        };
        let written = writer.finish(head).map_err(named)?;
        let mut journal = home.journal.lock();
        journal.units = journal.units.saturating_sub(units_before);
        Ok(written)
    }

    /// Makes the table that was written count, if there is one and the commit log is `durable` far enough; then removes
    /// what is older, but the table before: should this one rot, that one still tells which offsets were given away.
    pub(crate) fn commit_table(&self, durable: u64) -> io::Result<()> {
        let mut tables = self.0.tables.lock();
        let Some(written) = tables
            .written
            .as_ref()
            .filter(|written| written.head.upper <= durable || !waits_for_log())
        else {
            return Ok(());
        };
        written.commit()?;
        let head = written.head;
        let [newest, _] = tables.positions;
        *tables = Tables {
            number: head.number,
            written: None,
            positions: [head.position, newest],
        };
        snapshot::remove(&*self.0.dir, |number| is_unneeded(number, head.number))?;
        let journal = self.0.home.journal.lock();
        journal.remove(|number| number < head.journal)
    }

    /// The log begins at `log_min` now: removes files that nobody needs any more and moves the first index of every queue
    /// there. Returns how many messages each queue lost, and whether the files went. A queue whose first message cannot be found
    /// is none of them: its damage is noted, and keeps nothing of the other queues.
    pub(crate) fn remove_before(
        &self,
        log_min: u64,
    ) -> (Vec<(TopicName, QueueId, u64)>, io::Result<()>) {
        let home = &self.0.home;
        // Noted before: from then on any reader may move the first index of a queue.
        let queues = self.0.table.all().into_iter();
        let queues: Vec<_> = queues.map(|queue| (queue.first(), queue)).collect();
        home.log_min.fetch_max(log_min, Ordering::AcqRel);
        // First: nothing that goes is looked at any more, be it damaged or not.
        let files = home.units.write().remove_before(log_min);
        let (mut removed, mut unknown) = (Vec::new(), 0_u64);
        for (before, queue) in queues {
            let is_found = queue.find_min().is_ok();
            let count = queue.first().saturating_sub(before);
            if count > 0 {
                removed.push((queue.topic().clone(), queue.queue_id(), count));
            }
            unknown += u64::from(!is_found);
        }
        if unknown > 0 {
            tracing::error!(
                queues = unknown,
                "how many messages retention took of some queues is not known: their files are damaged"
            );
        }
        (removed, files)
    }

    /// Notes that a read failed: the next start is to build the queues again.
    pub(crate) fn note_damage(&self, error: &io::Error) {
        self.0.home.mark.set(error);
    }

    /// Whether something of the files was found damaged, by whomever.
    pub(crate) fn is_damaged(&self) -> bool {
        self.0.home.mark.is_set()
    }
}

/// Of the newest table in `dir` that counts: all messages before the first value have their units, none behind the second
/// one has, and to there the log is flushed. `None` also where no table can be read.
pub(crate) fn newest_table(dir: &dyn Directory) -> io::Result<Option<(u64, u64)>> {
    match snapshot::load(dir, |_, _| {}) {
        Ok(head) => Ok(head.map(|head| (head.position, head.upper))),
        Err(error) if open::is_damage(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a table is of no use beside the newest one that counts.
fn is_unneeded(number: u64, newest: u64) -> bool {
    number > newest || number + 1 < newest
}

fn flushes_extents() -> bool {
    !crate::mutant::is_on(crate::mutant::Mutant::ExtentsUnflushed)
}

fn waits_for_log() -> bool {
    !crate::mutant::is_on(crate::mutant::Mutant::TableAheadOfLog)
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} is damaged"))
}

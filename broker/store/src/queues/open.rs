//! From the files to the queues: the newest table, then the journals since. Work that grows with the number of queues and
//! with what came since the table, not with what the queues hold.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::HashMap;
use rocket_mapped_file::Directory;
use rocket_protocol::TopicName;

use super::extent::Chain;
use super::journal::{Entry, Journal};
use super::mark::Mark;
use super::queue::{Note, Queue, Saved};
use super::unit_log::UnitLog;
use super::{FOLDER, QueueLogConfig, Queues, damaged, is_unneeded, snapshot};
use crate::checksums;
use crate::deleted::Deleted;

/// What the commit log and the checkpoint say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Secured {
    /// The commit log begins here.
    pub(crate) log_min: u64,
    /// Everything before was dispatched, flushed; nothing that is noted of later messages may be believed.
    pub(crate) dispatched: u64,
}

/// What the files of the queues say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    /// All messages before have their units.
    pub(crate) covered: u64,
    /// No message at or behind this has a unit.
    pub(crate) upper: u64,
}

impl Queues {
    /// Opens the queues that are there. `None` beside them: there are none, or none that can be believed. Then
    /// [`Queues::reset`] must follow, and only [`Queues::next_offsets`] may be asked before.
    pub(crate) fn open(
        dir: Arc<dyn Directory>,
        config: QueueLogConfig,
        secured: Option<Secured>,
        deleted: &Deleted,
    ) -> io::Result<(Self, Option<Known>)> {
        dir.create_folder(FOLDER)?;
        let queues = Self::empty(dir, config);
        let Some(secured) = secured else {
            return Ok((queues, None));
        };
        let is_marked = Mark::is_left(&*queues.0.dir)?;
        match queues.load(secured, deleted) {
            Ok(_) if is_marked => {
                tracing::warn!("the files of the queues are damaged; they are built again");
                Ok((queues, None))
            }
            Ok(known) => Ok((queues, known)),
            Err(error) if is_damage(&error) => {
                tracing::warn!(error = %error, "the files of the queues cannot be believed; they are built again");
                Ok((queues, None))
            }
            Err(error) => Err(error),
        }
    }

    fn load(&self, secured: Secured, deleted: &Deleted) -> io::Result<Option<Known>> {
        let (dir, home) = (&self.0.dir, &self.0.home);
        home.log_min.store(secured.log_min, Ordering::Release);
        let mut by_slot: HashMap<u32, Option<Arc<Queue>>, foldhash::fast::RandomState> =
            HashMap::default();
        let head = snapshot::load(&**dir, |topic, saved| {
            let queue = (!deleted.covers(topic.as_str(), saved.last))
                .then(|| self.0.table.restore(home, topic, saved));
            by_slot.insert(saved.slot, queue);
        })?;
        let Some(head) = head else {
            return Ok(None);
        };
        *home.units.write() = UnitLog::open(
            Arc::clone(dir),
            home.config.file_bytes,
            head.units_end,
            secured.log_min,
        )?;
        home.upper.store(head.upper, Ordering::Release);
        home.slot_next.store(head.slot_next, Ordering::Relaxed);
        let journal = Journal::replay(
            Arc::clone(dir),
            home.config.journal_bytes,
            head.journal,
            head.position,
            secured.dispatched,
            |entry| self.apply(entry, &mut by_slot, deleted),
        )?;
        let known = Known {
            covered: journal.covered(),
            upper: home.upper.load(Ordering::Acquire),
        };
        *home.journal.lock() = journal;
        {
            let mut tables = self.0.tables.lock();
            tables.number = head.number;
            tables.positions = [head.position, 0];
        }
        snapshot::remove(&**dir, |number| is_unneeded(number, head.number))?;
        for queue in self.0.table.all() {
            queue.raise_next(queue.max());
        }
        Ok(Some(known))
    }

    fn apply(
        &self,
        entry: Entry,
        by_slot: &mut HashMap<u32, Option<Arc<Queue>>, foldhash::fast::RandomState>,
        deleted: &Deleted,
    ) -> io::Result<()> {
        match entry {
            Entry::Put { slot, index, unit } => match by_slot.get(&slot) {
                Some(Some(queue)) => {
                    if deleted.covers(queue.topic().as_str(), unit.physical_offset) {
                        return Ok(());
                    }
                    queue.put_and(index, &[unit], Note::Nowhere)
                }
                Some(None) => Ok(()),
                None => Err(damaged("a journal")),
            },
            Entry::Declare {
                slot,
                topic,
                queue_id,
            } => {
                let next = &self.0.home.slot_next;
                next.fetch_max(slot.saturating_add(1), Ordering::Relaxed);
                let saved = Saved {
                    slot,
                    queue_id,
                    min: 0,
                    min_offset: u64::MAX,
                    max: 0,
                    last: 0,
                    chain: Chain::EMPTY,
                };
                let queue = by_slot.entry(slot).or_default();
                // Also where a queue was dropped that had the number before: earlier versions gave it again.
                queue.get_or_insert_with(|| self.0.table.restore(&self.0.home, &topic, &saved));
                Ok(())
            }
            Entry::Drop { slot } => {
                // It may never have been declared; another queue must not have its number.
                let next = &self.0.home.slot_next;
                next.fetch_max(slot.saturating_add(1), Ordering::Relaxed);
                if let Some(Some(queue)) = by_slot.insert(slot, None) {
                    self.forget(&queue);
                }
                Ok(())
            }
        }
    }

    /// Takes a queue out of the table, unless another one has taken its place.
    fn forget(&self, queue: &Queue) {
        let name: &TopicName = queue.topic();
        let known = self.0.table.get(name.as_str(), queue.queue_id());
        if known.is_some_and(|known| known.slot == queue.slot) {
            self.0.table.remove(name.as_str(), queue.queue_id());
        }
    }
}

/// All of it follows from the log, so that a sector that cannot be read is no reason to stay closed.
pub(super) fn is_damage(error: &io::Error) -> bool {
    checksums::is_damage(error)
        || matches!(
            error.kind(),
            io::ErrorKind::InvalidData | io::ErrorKind::NotFound
        )
}

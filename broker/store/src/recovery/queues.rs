//! Where a start begins, and the queues that it goes on with: in our form, or taken over from Apache's, or none, and then all
//! of the log is dispatched again.

use std::sync::Arc;

use rocket_mapped_file::Directory;
use rocket_protocol::TopicName;

use crate::agree::{Sample, agree, look_at};
use crate::carried::Carried;
use crate::checkpoint::Bounds;
use crate::commit_log::{CommitLog, TailRule};
use crate::config::StoreConfig;
use crate::deleted::Deleted;
use crate::error::OpenError;
use crate::import::ApacheQueues;
use crate::queues::{Queues, Secured};

/// Where to begin.
pub(super) struct Start {
    pub(super) floor: u64,
    pub(super) dispatched: u64,
    pub(super) dispatched_time: i64,
    pub(super) confirm: u64,
    pub(super) rule: TailRule,
    /// Bytes that retention removed before the queues had them for good: so many messages' offsets are skipped.
    pub(super) removed: u64,
}

impl Start {
    /// Where reading the log begins: with all of it if nobody knows what of it was found damaged before.
    pub(super) fn first(&self, log: &CommitLog) -> u64 {
        if log.damage().is_unread() {
            return log.min();
        }
        self.floor.min(self.dispatched)
    }
}

/// The queues as the files have them.
pub(super) struct Found {
    pub(super) queues: Queues,
    /// No queue has a message at or behind this.
    pub(super) end: u64,
    /// A table of them is to be written before anything is dispatched.
    pub(super) is_new: bool,
}

/// What queues are opened from.
pub(super) struct Files<'a> {
    pub(super) config: &'a StoreConfig,
    pub(super) dir: &'a Arc<dyn Directory>,
    pub(super) log: &'a CommitLog,
    pub(super) deleted: &'a Deleted,
    pub(super) carried: &'a Carried,
}

/// Opens the queues, in our form, or else in Apache's, or else none, and finds out where to begin.
pub(super) fn open_queues(
    files: &Files<'_>,
    bounds: Option<Bounds>,
    clean: bool,
) -> Result<(Start, Found), OpenError> {
    let Files {
        config,
        dir,
        log,
        deleted,
        carried,
    } = *files;
    let secured = bounds.map(|bounds| Secured {
        log_min: log.min(),
        dispatched: bounds.dispatched,
    });
    let (queues, known) = Queues::open(Arc::clone(dir), config.queue_log, secured, deleted)
        .map_err(OpenError::io("open", "rocket/queues"))?;
    let apache = ApacheQueues::open(dir, config.consume_queue_file_bytes)
        .map_err(OpenError::io("open", "consumequeue"))?;
    let mut start = choose_start(&**dir, log, &apache, bounds, clean)?;
    if let Some(known) = known
        && agree(&queues, log)?
    {
        start.removed = log.min().saturating_sub(known.covered);
        start.dispatched = start.dispatched.min(known.covered).max(log.min());
        let (end, is_new) = (known.upper, false);
        return Ok((
            start,
            Found {
                queues,
                end,
                is_new,
            },
        ));
    }
    let is_taken_over = known.is_none()
        && !apache.is_empty()
        && take_over(files, &queues, &apache, start.dispatched)?;
    if !is_taken_over {
        let of_apache = apache.next_offsets(start.dispatched);
        carried
            .keep(of_apache.map_err(OpenError::io("read", "consumequeue"))?)
            .map_err(OpenError::io("write", "rocket/queue-offsets.json"))?;
        build_again(files, &queues, &mut start)?;
    }
    let (end, is_new) = (start.dispatched, true);
    Ok((
        start,
        Found {
            queues,
            end,
            is_new,
        },
    ))
}

fn take_over(
    files: &Files<'_>,
    queues: &Queues,
    apache: &ApacheQueues,
    dispatched: u64,
) -> Result<bool, OpenError> {
    let log = files.log;
    start_over(files, queues, dispatched)?;
    let agrees = |topic: &TopicName, queue_id, index, unit| {
        let place = (topic, queue_id, index);
        Ok(look_at(log, unit, place) == Sample::Agrees)
    };
    apache
        .move_to(queues, log.min(), dispatched, files.deleted, agrees)
        .map_err(OpenError::io("read", "consumequeue"))
}

/// Removes the files of the queues and carries over which offsets they gave away.
fn start_over(files: &Files<'_>, queues: &Queues, position: u64) -> Result<(), OpenError> {
    let carried = files.carried.keep(queues.next_offsets());
    carried.map_err(OpenError::io("write", "rocket/queue-offsets.json"))?;
    queues
        .reset(position)
        .map_err(OpenError::io("make", "rocket/queues"))
}

/// All queues from the beginning of the log.
pub(super) fn build_again(
    files: &Files<'_>,
    queues: &Queues,
    start: &mut Start,
) -> Result<(), OpenError> {
    let log = files.log;
    if start.dispatched > log.min() {
        tracing::warn!(from = log.min(), "building the queues again");
        start.dispatched_time = 0;
    }
    start.dispatched = log.min();
    start_over(files, queues, start.dispatched)
}

/// Secures queues that were just made.
pub(super) fn secure_new(queues: &Queues, dispatched: u64, durable: u64) -> Result<(), OpenError> {
    let due = queues
        .begin_table_now(dispatched)
        .map_err(OpenError::io("write", "rocket/queues"))?;
    queues
        .write_table(due)
        .map_err(|(file, error)| OpenError::io("write", &file)(error))?;
    queues
        .commit_table(durable)
        .map_err(OpenError::io("write", "rocket/queues"))
}

/// From our bounds, or else from what Apache's broker left.
fn choose_start(
    dir: &dyn Directory,
    log: &CommitLog,
    apache: &ApacheQueues,
    bounds: Option<Bounds>,
    clean: bool,
) -> Result<Start, OpenError> {
    let min = log.min();
    if let Some(bounds) = bounds {
        return Ok(Start {
            floor: bounds.floor.max(min),
            dispatched: bounds.dispatched.max(min),
            dispatched_time: bounds.dispatched_time,
            confirm: bounds.confirm,
            rule: TailRule::Ours,
            removed: 0,
        });
    }
    let start = apache.log_start(dir, log, clean)?;
    Ok(Start {
        floor: start,
        dispatched: start,
        dispatched_time: 0,
        confirm: 0,
        rule: TailRule::Apache,
        removed: 0,
    })
}

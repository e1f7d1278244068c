//! From a folder to a store whose log ends with a good record.
//!
//! The rules (replication protocol §8.2): scanning begins at what is known to be flushed. The first thing that is no
//! record is a torn tail if it lies at or above that floor: the log ends there, and the rest is made zero and flushed before
//! anything is appended, since a new record could end just where an old one begins. Below the floor it is damage, which
//! is told and never cut. What follows from the log is believed up to its own secured position and built again from there.
//!
//! A folder without our checkpoint is Apache's: after a clean stop its queues tell what was dispatched; after another
//! one everything is taken from the file whose first record is older than its checkpoint (`recoverAbnormally`).

use std::io;
use std::sync::Arc;

use rocket_mapped_file::{Directory, Fill};
use rocket_protocol::{PhysicalOffset, RecordView, TopicName, UnixMillis};

use crate::appender::{Appender, NextOffsets, is_queued};
use crate::checkpoint::{self, Bounds, Checkpoint};
use crate::commit_log::{CommitLog, ScanEnd, TailRule};
use crate::config::{Preallocate, StoreConfig};
use crate::consume_queue::Unit;
use crate::deleted::Deleted;
use crate::engine::{ABORT, Dispatcher, FLUSH_FAILED, Parts};
use crate::error::{OpenError, RecoveryReport};
use crate::index::Index;
use crate::queues::Queues;

/// Where to begin.
struct Start {
    floor: u64,
    dispatched: u64,
    dispatched_time: i64,
    confirm: u64,
    rule: TailRule,
}

pub(crate) fn recover(
    config: &StoreConfig,
    dir: &Arc<dyn Directory>,
) -> Result<(Parts, RecoveryReport), OpenError> {
    let lock = match dir.lock("lock") {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(OpenError::Locked),
        other => other.map_err(OpenError::io("lock", "lock"))?,
    };
    let clean = dir
        .read(ABORT)
        .map_err(OpenError::io("read", ABORT))?
        .is_none();
    let fill = match config.preallocate {
        Preallocate::Reserve => Fill::Reserve,
        Preallocate::Zeros => Fill::Zeros,
    };
    let log = CommitLog::open(
        Arc::clone(dir),
        config.segment_bytes,
        fill,
        config.flush_flights,
    )?;
    let (mut checkpoint, bounds) =
        Checkpoint::open(Arc::clone(dir)).map_err(OpenError::io("open", checkpoint::FOLDER))?;
    forget_unflushed(&**dir, &log)?;
    let deleted = Deleted::open(Arc::clone(dir))
        .map_err(OpenError::io("read", "rocket/deleted-topics.json"))?;
    let queues = Queues::open(Arc::clone(dir), config.consume_queue_file_bytes)
        .map_err(OpenError::io("open", "consumequeue"))?;
    remove_deleted(&queues, &deleted)?;
    let mut start = choose_start(&**dir, &log, &queues, bounds, clean)?;
    recover_queues(&queues, &log, &mut start, clean)?;

    let from = start.floor.min(start.dispatched);
    let (end, next, time) = scan_log(&log, &queues, &deleted, &start, from)?;
    let tail_cut = cut_tail(&log, from, &end).map_err(OpenError::io("cut", "commitlog"))?;
    let file = match log.files().last() {
        Some(file) => Arc::clone(file),
        None => log
            .ensure(0)
            .map_err(OpenError::io("create", "commitlog"))?,
    };
    publish(&log, end.end);

    let index = open_index(config, dir, clean, start.dispatched)?;
    let bounds = Bounds {
        confirm: start.confirm,
        floor: end.end,
        dispatched: start.dispatched,
        dispatched_time: start.dispatched_time,
    };
    checkpoint
        .write(bounds)
        .and_then(|()| checkpoint.flush())
        .map_err(OpenError::io("write", checkpoint::FOLDER))?;
    let pid = std::process::id().to_string();
    dir.replace(ABORT, pid.as_bytes())
        .map_err(OpenError::io("create", ABORT))?;
    dir.remove(FLUSH_FAILED)
        .and_then(|()| dir.sync(checkpoint::FOLDER))
        .map_err(OpenError::io("remove", FLUSH_FAILED))?;
    let report = RecoveryReport {
        clean,
        min: PhysicalOffset(log.min()),
        floor: PhysicalOffset(start.floor),
        confirm: PhysicalOffset(start.confirm),
        scanned_from: PhysicalOffset(from),
        log_end: PhysicalOffset(end.end),
        records_scanned: end.records,
        tail_cut,
        last_stored: UnixMillis(time),
    };
    let appender = Appender::new(end.end, file.end(), next, UnixMillis(time));
    let dispatcher = Dispatcher {
        position: start.dispatched,
        time: start.dispatched_time,
    };
    Ok((
        Parts {
            log,
            queues,
            index,
            checkpoint,
            deleted,
            appender,
            dispatcher,
            lock,
        },
        report,
    ))
}

/// Reads what is not known to be good. Below the floor anything else than good records is damage.
fn scan_log(
    log: &CommitLog,
    queues: &Queues,
    deleted: &Deleted,
    start: &Start,
    from: u64,
) -> Result<(ScanEnd, NextOffsets, i64), OpenError> {
    let mut next = next_offsets(queues);
    let mut time = start.dispatched_time;
    let last_end = log.files().last().map_or(0, |file| file.end());
    if last_end < start.floor {
        return Err(OpenError::damaged(
            "commitlog",
            last_end,
            start.floor,
            "the log's files end here",
        ));
    }
    let end = log.scan(from, start.rule, |offset, view| {
        raise_next(&mut next, deleted, offset, view, start.rule)?;
        time = time.max(view.store_timestamp().0);
        Ok(())
    })?;
    if end.end < start.floor {
        let file = log
            .file_at(end.end)
            .map_or_else(|| "commitlog".to_owned(), |file| file.path());
        let reason = end
            .reason
            .unwrap_or_else(|| "the log ends before".to_owned());
        return Err(OpenError::damaged(&file, end.end, start.floor, &reason));
    }
    Ok((end, next, time))
}

fn open_index(
    config: &StoreConfig,
    dir: &Arc<dyn Directory>,
    clean: bool,
    dispatched: u64,
) -> Result<Option<Index>, OpenError> {
    if !config.index_enabled {
        return Ok(None);
    }
    let secured = (!clean).then_some(dispatched);
    Index::open(
        Arc::clone(dir),
        config.index_slots,
        config.index_entries,
        secured,
    )
    .map(Some)
    .map_err(OpenError::io("open", "index"))
}

/// After a failed flush the page cache shows bytes that the disk does not have.
fn forget_unflushed(dir: &dyn Directory, log: &CommitLog) -> Result<(), OpenError> {
    if dir
        .read(FLUSH_FAILED)
        .map_err(OpenError::io("read", FLUSH_FAILED))?
        .is_none()
    {
        return Ok(());
    }
    for file in log.files() {
        file.segment
            .forget_cache()
            .map_err(OpenError::io("read anew", &file.path()))?;
    }
    Ok(())
}

/// A topic's removal that a crash undid.
fn remove_deleted(queues: &Queues, deleted: &Deleted) -> Result<(), OpenError> {
    for (topic, end) in deleted.topics() {
        let Ok(topic) = TopicName::parse(&topic) else {
            continue;
        };
        let is_old = |queue: &crate::queues::SharedQueue| {
            let queue = queue.lock();
            let first = queue.get(queue.min()).ok().flatten();
            first.is_some_and(|unit| unit.physical_offset < end)
        };
        if queues
            .all()
            .iter()
            .any(|(of, _, queue)| *of == topic && is_old(queue))
        {
            queues
                .remove_topic(&topic)
                .map_err(OpenError::io("remove", topic.as_str()))?;
        }
    }
    Ok(())
}

fn choose_start(
    dir: &dyn Directory,
    log: &CommitLog,
    queues: &Queues,
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
        });
    }
    let start = if clean {
        end_of_queues(queues, min)?
    } else {
        apache_start(dir, log)?
    };
    Ok(Start {
        floor: start,
        dispatched: start,
        dispatched_time: 0,
        confirm: 0,
        rule: TailRule::Apache,
    })
}

/// One behind the last message that any queue knows.
fn end_of_queues(queues: &Queues, min: u64) -> Result<u64, OpenError> {
    let mut end = min;
    for (_, _, queue) in queues.all() {
        let last = queue
            .lock()
            .cut(u64::MAX, false)
            .map_err(OpenError::io("read", "consumequeue"))?;
        if let Some((_, unit)) = last
            && unit != Unit::PADDING
        {
            end = end.max(unit.physical_offset + u64::from(unit.size));
        }
    }
    Ok(end)
}

/// The newest file whose first record was stored before the time that Apache's checkpoint secures, or the first file.
fn apache_start(dir: &dyn Directory, log: &CommitLog) -> Result<u64, OpenError> {
    let Some(time) = checkpoint::apache_time(dir).map_err(OpenError::io("read", "checkpoint"))?
    else {
        return Ok(log.min());
    };
    for file in log.files().iter().rev() {
        if first_store_time(log, file.start)?.is_some_and(|first| first <= time) {
            return Ok(file.start);
        }
    }
    Ok(log.min())
}

fn first_store_time(log: &CommitLog, start: u64) -> Result<Option<i64>, OpenError> {
    let Some(file) = log.file_at(start) else {
        return Ok(None);
    };
    let mut head = vec![
        0;
        usize::try_from(file.segment.len())
            .unwrap_or(usize::MAX)
            .min(128)
    ];
    file.segment
        .read_at(0, &mut head)
        .map_err(OpenError::io("read", &file.path()))?;
    Ok(store_time(&head))
}

/// The store time in the head of a record that need not be whole.
pub(crate) fn store_time(head: &[u8]) -> Option<i64> {
    use rocket_protocol::SysFlag;
    use rocket_protocol::message::record::{MAGIC_V1, MAGIC_V2, position};
    let magic = i32::from_be_bytes(*head.get(4..)?.first_chunk()?);
    let flag = SysFlag(i32::from_be_bytes(
        *head.get(position::SYS_FLAG..)?.first_chunk()?,
    ));
    let v6 = flag.has(SysFlag::BORN_HOST_V6);
    let at = if v6 {
        position::STORE_TIMESTAMP_V6
    } else {
        position::STORE_TIMESTAMP_V4
    };
    let time = i64::from_be_bytes(*head.get(at..)?.first_chunk()?);
    (matches!(magic, MAGIC_V1 | MAGIC_V2) && time > 0).then_some(time)
}

/// Cuts every queue to what is secured. If one of them disagrees with the log, all are built again from its beginning.
fn recover_queues(
    queues: &Queues,
    log: &CommitLog,
    start: &mut Start,
    clean: bool,
) -> Result<(), OpenError> {
    let all = queues.all();
    let mut agree = !all.is_empty();
    for (topic, queue_id, queue) in &all {
        let mut queue = queue.lock();
        let last = queue
            .cut(start.dispatched, !clean)
            .map_err(OpenError::io("cut", "consumequeue"))?;
        if let Some((index, unit)) = last
            && unit.physical_offset >= log.min()
            && unit != Unit::PADDING
        {
            let at_unit = |view: &RecordView<'_>| {
                view.topic() == topic.as_str()
                    && view.queue_id() == *queue_id
                    && view.queue_offset().0 == index
            };
            agree &= record_is(log, unit, at_unit)?;
        }
        queue
            .remove_before(log.min())
            .map_err(OpenError::io("read", "consumequeue"))?;
    }
    if !agree && start.dispatched > log.min() {
        tracing::warn!(
            from = log.min(),
            "queues do not agree with the log; building them again"
        );
        queues
            .remove_all()
            .map_err(OpenError::io("remove", "consumequeue"))?;
        start.dispatched = log.min();
        start.dispatched_time = 0;
    }
    Ok(())
}

fn record_is(
    log: &CommitLog,
    unit: Unit,
    wanted: impl Fn(&RecordView<'_>) -> bool,
) -> Result<bool, OpenError> {
    let Some(file) = log.file_at(unit.physical_offset) else {
        return Ok(false);
    };
    let at = unit.physical_offset - file.start;
    let len = usize::try_from(unit.size).unwrap_or(usize::MAX);
    if at + len as u64 > file.segment.len() {
        return Ok(false);
    }
    let mut bytes = vec![0; len];
    file.segment
        .read_at(at, &mut bytes)
        .map_err(OpenError::io("read", &file.path()))?;
    Ok(RecordView::parse_trusting(&bytes).is_ok_and(|(view, _)| wanted(&view)))
}

fn next_offsets(queues: &Queues) -> NextOffsets {
    let mut next = NextOffsets::default();
    for (topic, queue_id, queue) in queues.all() {
        next.raise(&topic, queue_id, queue.lock().max());
    }
    next
}

fn raise_next(
    next: &mut NextOffsets,
    deleted: &Deleted,
    offset: u64,
    view: &RecordView<'_>,
    rule: TailRule,
) -> Result<(), &'static str> {
    if !is_queued(view.sys_flag()) || deleted.covers(view.topic(), offset) {
        return Ok(());
    }
    let Ok(topic) = TopicName::parse(view.topic()) else {
        return Ok(());
    };
    let (known, found) = (next.get(&topic, view.queue_id()), view.queue_offset().0);
    // No checksum covers the header; queues are dense, so a larger offset than the next one was not written by us.
    if rule == TailRule::Ours && known > 0 && found > known {
        return Err("the queue offset leaves a gap");
    }
    next.raise(&topic, view.queue_id(), found + 1);
    Ok(())
}

/// Makes everything from the end of the log on zero, and flushes what recovery read: it may have come from the page cache.
fn cut_tail(log: &CommitLog, from: u64, end: &ScanEnd) -> io::Result<bool> {
    #[cfg(test)]
    if crate::mutant::is_on(crate::mutant::Mutant::TailNotZeroed) {
        return Ok(false);
    }
    let mut cut = log.remove_beyond(end.end)?;
    for file in log.files().iter().filter(|file| file.end() > from) {
        if end.end < file.end() {
            let keep = end.end.max(file.start) - file.start;
            cut |= holds_bytes(file, keep)?;
            file.segment.zero(keep, file.segment.len())?;
        }
        file.segment.flush(0)?;
    }
    Ok(cut)
}

/// Whether the first MiB from `keep` on holds anything. For the report only.
fn holds_bytes(file: &crate::commit_log::LogFile, keep: u64) -> io::Result<bool> {
    let len = usize::try_from(file.segment.len() - keep)
        .unwrap_or(usize::MAX)
        .min(1 << 20);
    let mut bytes = vec![0; len];
    file.segment.read_at(keep, &mut bytes)?;
    Ok(bytes.iter().any(|&byte| byte != 0))
}

fn publish(log: &CommitLog, end: u64) {
    for file in log.files() {
        file.segment
            .publish(end.clamp(file.start, file.end()) - file.start);
    }
}

//! From a folder to a store whose log ends with a good record.
//!
//! The rules (replication protocol §8.2): scanning begins at what is known to be flushed. The first thing that is no
//! record is a torn tail if it lies at or above that floor: the log ends there, and the rest is made zero and flushed before
//! anything is appended, since a new record could end just where an old one begins. Below the floor it is damage, which
//! is told and never cut. What follows from the log is believed up to its own secured position and built again from there.
//!
//! A folder without our checkpoint, and without anything else of ours to tell its bounds from ([`crate::lost`]), is
//! Apache's ([`crate::import`]). How the queues are opened, and where reading begins, is in [`queues`].

use std::io;
use std::sync::Arc;

use rocket_mapped_file::{Directory, Lock, SegmentOptions};
use rocket_protocol::{PhysicalOffset, RecordView, TopicName, UnixMillis};

use crate::api::{Clock, StoreEvents};
use crate::appender::{Appender, is_queued};
use crate::carried::Carried;
use crate::ceiling;
use crate::checkpoint::{self, Bounds, Checkpoint};
use crate::checksums;
use crate::commit_log::{self, CommitLog, TailRule};
use crate::config::StoreConfig;
use crate::damage;
use crate::deleted::Deleted;
use crate::dispatcher::Dispatcher;
use crate::engine::{ABORT, Parts};
use crate::error::{OpenError, RecoveryReport};
use crate::failure::{self, FailureKind, PastFailure};
use crate::import;
use crate::index::apache::Sizes;
use crate::index::{Index, Known};
use crate::intent;
use crate::lost::{self, Floor};
use crate::prepare::first_pace;
use crate::queues::Queues;
use crate::tail::{self, Followed};

use self::queues::{Files, Start, build_again, open_queues, secure_new};

mod queues;

pub(crate) fn recover(
    config: &StoreConfig,
    dir: &Arc<dyn Directory>,
    clock: &dyn Clock,
    events: &dyn StoreEvents,
) -> Result<(Parts, Box<dyn Lock>, RecoveryReport), OpenError> {
    let lock = match dir.lock("lock") {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(OpenError::Locked),
        other => other.map_err(OpenError::io("lock", "lock"))?,
    };
    let heard = events.locked();
    heard.map_err(OpenError::io("act on", failure::PATH))?;
    let recovered = recover_locked(config, dir, clock, events);
    let (parts, report) = recovered.inspect_err(|error| note_failure(&**dir, clock, error))?;
    Ok((parts, lock, report))
}

/// A start whose own write or flush failed is a run that failed, and the kernel may have told it of a write of an earlier one.
fn note_failure(dir: &dyn Directory, clock: &dyn Clock, error: &OpenError) {
    if !error.is_failed_write() {
        return;
    }
    let note = failure::note(clock.now(), FailureKind::Disk, &error.to_string());
    if let Err(error) = dir.replace(failure::PATH, note.as_bytes()) {
        tracing::error!(%error, "the failure could not be noted for the next start");
    }
}

fn recover_locked(
    config: &StoreConfig,
    dir: &Arc<dyn Directory>,
    clock: &dyn Clock,
    events: &dyn StoreEvents,
) -> Result<(Parts, RecoveryReport), OpenError> {
    remove_unfinished(&**dir)?;
    let clean = dir
        .read(ABORT)
        .map_err(OpenError::io("read", ABORT))?
        .is_none();
    let (mut checkpoint, bounds) =
        Checkpoint::open(Arc::clone(dir)).map_err(OpenError::io("open", checkpoint::FOLDER))?;
    let (bounds, log) = bounds_and_log(config, dir, &mut checkpoint, bounds, events)?;
    let deleted = Deleted::open(Arc::clone(dir))
        .map_err(OpenError::io("read", "rocket/deleted-topics.json"))?;
    let carried = Carried::open(Arc::clone(dir))
        .map_err(OpenError::io("read", "rocket/queue-offsets.json"))?;
    let files = Files {
        config,
        dir,
        log: &log,
        deleted: &deleted,
        carried: &carried,
    };
    let Scanned {
        start,
        from,
        found,
        time,
        queues,
        is_new,
    } = scan_from_queues(&files, bounds, clean)?;
    let end = found.end;
    let (tail_cut, file_end) = end_at(&log, from, &found, bounds, clock)?;
    // A note may have been for messages that the log has lost since: those that come in their place are no deleted ones.
    deleted
        .cut(end)
        .map_err(OpenError::io("write", "rocket/deleted-topics.json"))?;
    carried.raise(&queues, end);

    let known = Known {
        sizes: Sizes {
            slots: config.index_slots,
            entries: config.index_entries,
        },
        clean,
        dispatched: start.dispatched,
        min: log.min(),
        end,
    };
    let (index, index_missing) = open_index(config, dir, known)?;
    // What was committed by page caches may be gone from this one; what comes in its place is not committed by that.
    let confirm = start.confirm.min(end);
    let bounds = Bounds {
        confirm,
        floor: end,
        dispatched: start.dispatched,
        dispatched_time: start.dispatched_time,
        ceiling: end + ceiling::step(config),
        sealed: log.sound().sealed(),
        scrubbed: bounds.map_or(0, |bounds| bounds.scrubbed),
    };
    let failure = begin_run(&**dir, config, &mut checkpoint, bounds)?;
    if is_new {
        // Behind the bounds: a table without any would speak of a checkpoint that was lost, and of a floor where this start began.
        secure_new(&queues, start.dispatched, end)?;
    }
    import::remove(&**dir)?;
    log.set_ceiling(bounds.ceiling);
    let report = RecoveryReport {
        clean,
        failure,
        min: PhysicalOffset(log.min()),
        floor: PhysicalOffset(start.floor),
        confirm: PhysicalOffset(confirm),
        scanned_from: PhysicalOffset(from),
        log_end: PhysicalOffset(end),
        records_scanned: found.records,
        tail_cut,
        last_stored: UnixMillis(time),
        damaged_ranges: log.damage().all().len() as u64,
        index_missing,
    };
    let appender = Appender::new(end, file_end, queues.clone(), UnixMillis(time));
    let dispatcher = Dispatcher::new(start.dispatched, start.dispatched_time);
    Ok((
        Parts {
            log,
            queues,
            index,
            checkpoint,
            deleted,
            carried,
            appender,
            dispatcher,
        },
        report,
    ))
}

/// The log with a cut of it finished, and the bounds, which other files tell where the checkpoint has none.
fn bounds_and_log(
    config: &StoreConfig,
    dir: &Arc<dyn Directory>,
    checkpoint: &mut Checkpoint,
    bounds: Option<Bounds>,
    events: &dyn StoreEvents,
) -> Result<(Option<Bounds>, CommitLog), OpenError> {
    if bounds.is_some() {
        return cut_and_open_log(config, dir, checkpoint, bounds, events);
    }
    let (told, floor) = lost::bounds(&**dir, config.checksum_block_bytes)?.unzip();
    let (told, log) = cut_and_open_log(config, dir, checkpoint, told, events)?;
    let told = match told {
        Some(told) if floor == Some(Floor::Block) => Some(lost::between_records(&log, told)?),
        told => told,
    };
    if let Some(told) = told {
        // What told them may go before this start comes to its end.
        write_bounds(checkpoint, told)?;
    }
    Ok((told, log))
}

/// Finishes a cut, and opens the log. What a former process had written and not flushed is flushed, and who keeps a proof of that
/// is told.
fn cut_and_open_log(
    config: &StoreConfig,
    dir: &Arc<dyn Directory>,
    checkpoint: &mut Checkpoint,
    bounds: Option<Bounds>,
    events: &dyn StoreEvents,
) -> Result<(Option<Bounds>, CommitLog), OpenError> {
    events.flush_begins();
    let bounds = intent::finish(config, dir, checkpoint, bounds)?;
    let log = open_log(config, dir, bounds)?;
    events.flush_succeeded();
    Ok((bounds, log))
}

/// What the log and the queues came to.
struct Scanned {
    start: Start,
    from: u64,
    found: Followed,
    /// Store time of the last message.
    time: i64,
    queues: Queues,
    /// A table of them is to be written before anything is dispatched.
    is_new: bool,
}

/// Opens the queues and reads what of the log is not known to be good.
fn scan_from_queues(
    files: &Files<'_>,
    bounds: Option<Bounds>,
    clean: bool,
) -> Result<Scanned, OpenError> {
    let (log, deleted) = (files.log, files.deleted);
    let (mut start, queues) = open_queues(files, bounds, clean)?;
    let queues_end = queues.end.max(start.dispatched);
    let mut from = start.first(log);
    let (mut found, mut time) = scan_log(log, &queues.queues, deleted, &start, from)?;
    let mut is_new = queues.is_new;
    let queues = queues.queues;
    if found.end < queues_end {
        tracing::warn!(
            log_end = found.end,
            queues_end,
            "the queues go beyond the log"
        );
        build_again(files, &queues, &mut start)?;
        is_new = true;
        from = start.first(log);
        (found, time) = scan_log(log, &queues, deleted, &start, from)?;
    }
    Ok(Scanned {
        start,
        from,
        found,
        time,
        queues,
        is_new,
    })
}

/// How files of the log are made and opened.
pub(crate) fn segment_options(config: &StoreConfig) -> SegmentOptions {
    SegmentOptions {
        fill: config.fill(),
        lanes: config.flush_flights,
    }
}

/// The log as it lies there, with what the bounds tell of it.
pub(crate) fn open_log(
    config: &StoreConfig,
    dir: &Arc<dyn Directory>,
    bounds: Option<Bounds>,
) -> Result<CommitLog, OpenError> {
    let log = CommitLog::open(
        Arc::clone(dir),
        config.segment_bytes,
        segment_options(config),
        config.checksum_block_bytes,
        bounds.map(|bounds| bounds.floor),
    )?;
    log.set_ceiling(bounds.map_or(u64::MAX, |bounds| bounds.ceiling));
    // What the scan meets below is compared before it is believed.
    let sealed = bounds.map_or(0, |bounds| bounds.sealed.min(bounds.floor));
    log.sound().seal(log.block_start(sealed));
    forget_unflushed(&**dir, &log, bounds.map_or(0, |bounds| bounds.floor))?;
    Ok(log)
}

/// Removes what a killed process was about to make. No listing shows it; it takes room.
fn remove_unfinished(dir: &dyn Directory) -> Result<(), OpenError> {
    let folders = [
        commit_log::FOLDER,
        checkpoint::FOLDER,
        checksums::FOLDER,
        crate::queues::FOLDER,
        crate::index::FOLDER,
        crate::quarantine::FOLDER,
    ];
    folders.into_iter().try_for_each(|folder| {
        dir.remove_unfinished(folder)
            .map_err(OpenError::io("clear", folder))
    })
}

/// Notes durably where this run begins, and leaves the file that only an orderly stop removes. Returns how the run before
/// failed, if it left a note of that.
fn begin_run(
    dir: &dyn Directory,
    config: &StoreConfig,
    checkpoint: &mut Checkpoint,
    bounds: Bounds,
) -> Result<Option<PastFailure>, OpenError> {
    write_bounds(checkpoint, bounds)?;
    crate::export::note_file_bytes(dir, config.consume_queue_file_bytes)
        .map_err(OpenError::io("write", checkpoint::FOLDER))?;
    let pid = std::process::id().to_string();
    dir.replace(ABORT, pid.as_bytes())
        .map_err(OpenError::io("create", ABORT))?;
    let past = failure::past_failure(dir).map_err(OpenError::io("read", failure::PATH))?;
    dir.remove(failure::PATH)
        .and_then(|()| dir.sync(checkpoint::FOLDER))
        .map_err(OpenError::io("remove", failure::PATH))?;
    Ok(past)
}

fn write_bounds(checkpoint: &mut Checkpoint, bounds: Bounds) -> Result<(), OpenError> {
    checkpoint.set(bounds);
    checkpoint
        .flush()
        .map_err(OpenError::io("write", checkpoint::FOLDER))
}

/// Whether the run before failed.
fn has_failed(dir: &dyn Directory) -> Result<bool, OpenError> {
    is_there(dir, failure::PATH)
}

fn is_there(dir: &dyn Directory, path: &str) -> Result<bool, OpenError> {
    let found = dir.read(path).map_err(OpenError::io("read", path))?;
    Ok(found.is_some())
}

/// Remembers the damage that was found, cuts the tail behind it, and publishes what is left. Returns whether anything was
/// cut, and the end of the file that the log ends in.
fn end_at(
    log: &CommitLog,
    from: u64,
    found: &Followed,
    bounds: Option<Bounds>,
    clock: &dyn Clock,
) -> Result<(bool, u64), OpenError> {
    for damaged in &found.damaged {
        log.damage().note(damaged);
    }
    // Before anything is changed, and long before the floor is raised beyond it.
    let noted = log.damage().secure();
    noted.map_err(|source| OpenError::DamageNotNoted {
        file: damage::PATH,
        source,
    })?;
    let end = found.end;
    let tail_cut = tail::cut(log, from, end).map_err(OpenError::io("cut", "commitlog"))?;
    // What comes there next is not damaged: a file that was missing before one that is gone now, say.
    let forgotten = log.damage().forget_from(end);
    forgotten.map_err(OpenError::io("write", damage::PATH))?;
    if log.files().is_empty() {
        let begun = clock.elapsed();
        let took = || clock.elapsed().saturating_sub(begun);
        log.make_ahead(0, &|| Ok(()), &mut |filled| first_pace(filled, took()))
            .map_err(OpenError::io("create", "commitlog"))?;
    }
    let file_end = log.file_at(end).map_or(end, |file| file.end());
    publish(log, end);
    // Apache's log has no checksums yet: the scrubber makes them as it passes.
    let sealed = bounds.map_or(end, |bounds| bounds.sealed.min(end));
    log.sound().seal(log.block_start(sealed));
    Ok((tail_cut, file_end))
}

/// Reads what is not known to be good.
fn scan_log(
    log: &CommitLog,
    queues: &Queues,
    deleted: &Deleted,
    start: &Start,
    from: u64,
) -> Result<(Followed, i64), OpenError> {
    let mut time = start.dispatched_time;
    let removed = start.removed / tail::RECORD_BYTES_MIN;
    let found = tail::follow(
        log,
        from,
        start.floor,
        start.rule,
        |offset, view, missing| {
            // Behind damage as many may be missing as had room in it.
            let missing = missing + removed;
            let may_skip = |gap| {
                start.rule == TailRule::Apache || gap <= missing || log.vouches(offset, view.len())
            };
            raise_next(queues, deleted, offset, view, may_skip)?;
            time = time.max(view.store_timestamp().0);
            Ok(())
        },
    )?;
    Ok((found, time))
}

fn open_index(
    config: &StoreConfig,
    dir: &Arc<dyn Directory>,
    known: Known,
) -> Result<(Option<Index>, u64), OpenError> {
    if !config.index_enabled {
        return Ok((None, 0));
    }
    let (index, missing) =
        Index::open(Arc::clone(dir), known).map_err(OpenError::io("open", "index"))?;
    Ok((Some(index), missing))
}

/// After a failed flush the page cache shows bytes that the disk does not have, and a process that was killed may have had no
/// time, or no disk, to note one: only an orderly end speaks for the cache. What lies below the floor was flushed by a flush
/// that succeeded, and nothing was ever written beyond the ceiling.
fn forget_unflushed(dir: &dyn Directory, log: &CommitLog, floor: u64) -> Result<(), OpenError> {
    if !has_failed(dir)? && !is_there(dir, ABORT)? {
        return Ok(());
    }
    let written = floor..log.ceiling();
    let files = log.files();
    let doubtful = files
        .iter()
        .filter(|file| file.start < written.end && file.end() > written.start);
    for file in doubtful {
        file.segment
            .forget_cache()
            .map_err(OpenError::io("read anew", &file.path()))?;
    }
    Ok(())
}

/// Lets the queue of a record go on behind it, unless it leaves a gap of more offsets than it `may_skip`.
fn raise_next(
    queues: &Queues,
    deleted: &Deleted,
    offset: u64,
    view: &RecordView<'_>,
    may_skip: impl FnOnce(u64) -> bool,
) -> Result<(), &'static str> {
    if !is_queued(view.sys_flag()) || deleted.covers(view.topic(), offset) {
        return Ok(());
    }
    let Ok(topic) = TopicName::parse(view.topic()) else {
        return Ok(());
    };
    let queue = queues.get_or_make(&topic, view.queue_id());
    let (known, found) = (queue.next_offset(), view.queue_offset().0);
    // No checksum of the record covers its head. Queues are dense but where one went on behind what only its old files told of:
    // a larger offset than the next one was not written by us, unless the block says that it was.
    if known > 0 && found > known && !may_skip(found - known) {
        return Err("the queue offset leaves a gap");
    }
    queue.raise_next(found + 1);
    Ok(())
}

fn publish(log: &CommitLog, end: u64) {
    for file in log.files() {
        file.segment
            .publish(end.clamp(file.start, file.end()) - file.start);
    }
}

//! The end of the log as a start finds it (replication protocol §8.2).
//!
//! Scanning begins at the floor. What lies below was flushed once: whatever is wrong there is **damage**, which is told and
//! stepped over, never cut. The first thing at or above the floor that is no good record is the torn **tail**: the log
//! ends there, whatever good records lie behind (unflushed sectors persist in any order, and a later flush may have
//! reached the disk where an earlier did not), and all that was ever written behind is made zero and flushed before
//! anything is appended.

use std::io;
use std::sync::Arc;

use rocket_protocol::PhysicalOffset;

use crate::api::Damaged;
use crate::commit_log::{CommitLog, LogFile, TailRule};
use crate::error::OpenError;

/// The least bytes of a record: how many messages fit into damage.
pub(crate) const RECORD_BYTES_MIN: u64 = 91;

/// What a scan came to.
pub(crate) struct Followed {
    /// End of the log.
    pub(crate) end: u64,
    /// Good records seen.
    pub(crate) records: u64,
    /// Damage below the floor that was not known.
    pub(crate) damaged: Vec<Damaged>,
}

/// Follows the records from `from`. `each` gets every good record, its offset, and how many messages of one queue may be
/// missing before it, because they may have lain in damage.
///
/// # Errors
/// The files end below the floor, so that nobody knows where the log ended; or the disk fails above it.
pub(crate) fn follow(
    log: &CommitLog,
    from: u64,
    floor: u64,
    rule: TailRule,
    mut each: impl FnMut(u64, &rocket_protocol::RecordView<'_>, u64) -> Result<(), &'static str>,
) -> Result<Followed, OpenError> {
    let files_end = log.files().last().map_or(0, |file| file.end());
    if files_end < floor {
        return Err(OpenError::damaged(
            "commitlog",
            files_end,
            floor,
            "the log's files end here",
        ));
    }
    let mut found = Followed {
        end: from,
        records: 0,
        damaged: Vec::new(),
    };
    let known: u64 = log
        .damage()
        .all()
        .iter()
        .map(|damaged| damaged.to.0 - damaged.from.0)
        .sum();
    let mut missing = known / RECORD_BYTES_MIN;
    loop {
        let at = found.end;
        let end = log.scan(at, floor, rule, |offset, view| each(offset, view, missing))?;
        found.records += end.records;
        found.end = end.end;
        if end.end >= floor {
            return ends_in_a_file(log, end.end).map(|()| found);
        }
        let next = resume(log, end.end, floor, rule)?;
        found.damaged.push(Damaged {
            file: log
                .file_at(end.end)
                .map_or_else(|| "commitlog".to_owned(), |file| file.path()),
            from: PhysicalOffset(end.end),
            to: PhysicalOffset(next),
            reason: end.reason.unwrap_or_else(|| "a file is missing".to_owned()),
        });
        missing += (next - end.end) / RECORD_BYTES_MIN;
        found.end = next;
    }
}

/// A file that is shorter than it was may have taken the end with it, though the next one was made already.
fn ends_in_a_file(log: &CommitLog, end: u64) -> Result<(), OpenError> {
    let files = log.files();
    let goes_on = files.last().is_none_or(|last| last.end() == end);
    if goes_on || log.file_at(end).is_some() {
        return Ok(());
    }
    let reason = "the file that the log ended in is shorter than it was";
    Err(OpenError::damaged("commitlog", end, end, reason))
}

/// Where good records go on behind the damage at `from`: at one that knows its own place, at the next file, or at the
/// floor, which always lies between records.
pub(crate) fn resume(
    log: &CommitLog,
    from: u64,
    floor: u64,
    rule: TailRule,
) -> Result<u64, OpenError> {
    let Some(file) = log.file_at(from) else {
        let next = log
            .files()
            .iter()
            .map(|file| file.start)
            .find(|&start| start > from);
        return Ok(next.unwrap_or(floor).min(floor));
    };
    let end = file.end().min(floor);
    let mut at = from + 1;
    while at < end {
        match CommitLog::next_head(&file, at, end) {
            None => break,
            Some(candidate) => {
                if log.is_record(candidate, rule)? {
                    return Ok(candidate);
                }
                at = candidate + 1;
            }
        }
    }
    Ok(end)
}

/// Makes zero what was ever written from the end of the log on, and flushes what the scan read: it may have come from the
/// page cache. Returns whether anything lay there.
pub(crate) fn cut(log: &CommitLog, from: u64, end: u64) -> io::Result<bool> {
    if crate::mutant::is_on(crate::mutant::Mutant::TailNotZeroed) {
        return Ok(false);
    }
    let mut cut = log.remove_written_beyond(end)?;
    let ceiling = log.ceiling();
    for file in log.files().iter().filter(|file| file.end() > from) {
        let keep = end.clamp(file.start, file.end());
        let written = ceiling.clamp(keep, file.end());
        if keep < written {
            cut |= holds_bytes(file, keep, written).unwrap_or(true);
            // Blocks may be summed beyond: what rotted, or cannot be read, behind the floor ends the log as well.
            let first = file.sums.block_of(keep - file.start);
            file.sums.forget_from(first)?;
            file.segment.zero(keep - file.start, written - file.start)?;
        }
        if file.start <= end {
            file.segment.flush(0)?;
        }
    }
    Ok(cut)
}

/// Whether the first MiB of `from..to` holds anything. For the report only: what cannot be read is something.
fn holds_bytes(file: &Arc<LogFile>, from: u64, to: u64) -> io::Result<bool> {
    let len = usize::try_from(to - from)
        .unwrap_or(usize::MAX)
        .min(1 << 20);
    let mut bytes = vec![0; len];
    file.segment.read_at(from - file.start, &mut bytes)?;
    Ok(bytes.iter().any(|&byte| byte != 0))
}

//! What a cut takes away is kept aside, for whoever looks for it later (replication protocol §8.5, P4).
//!
//! ```text
//! quarantine/<epoch of the master that caused it>-<first byte>-<one behind the last byte>, 20 digits each:
//!     the bytes of the log, as they were
//! ```
//!
//! The names sort by age, since epochs rise. There is a bound for all of them together; the oldest goes first.

use std::io::{self, IoSlice};

use rocket_mapped_file::{Directory, Fill, Segment, SegmentOptions};

use crate::checksums::{BLOCK_BYTES, is_damage};
use crate::commit_log::CommitLog;

pub(crate) const FOLDER: &str = "quarantine";

/// Copies `from..to` of the log, flushed. At most `bytes_max` bytes are kept, older ones included.
pub(crate) fn keep(
    dir: &dyn Directory,
    log: &CommitLog,
    (from, to): (u64, u64),
    epoch: u64,
    bytes_max: u64,
) -> io::Result<()> {
    let len = (to - from).min(bytes_max);
    if len < to - from {
        tracing::warn!(
            from,
            to,
            kept = len,
            "only the first bytes of what is cut off are kept aside"
        );
    }
    dir.create_folder(FOLDER)?;
    let path = format!("{FOLDER}/{epoch:020}-{from:020}-{to:020}");
    // One of this name is from a try that a crash ended.
    dir.remove(&path)?;
    make_room(dir, bytes_max - len)?;
    if len == 0 {
        return Ok(());
    }
    let options = SegmentOptions {
        fill: Fill::Reserve,
        ..SegmentOptions::default()
    };
    let file = dir.create(&path, len, options)?;
    let done = copy(log, from, len, &*file).and_then(|()| file.flush(0));
    if done.is_err() {
        // A part of it is of no use, and takes room until somebody tries again.
        let _ = dir.remove(&path);
    }
    done
}

/// Removes the oldest files until all together have no more than `bytes_max` bytes.
fn make_room(dir: &dyn Directory, bytes_max: u64) -> io::Result<()> {
    let entries = dir.list(FOLDER)?;
    let mut bytes: u64 = entries.iter().map(|entry| entry.len).sum();
    for entry in entries.iter().filter(|entry| !entry.is_folder) {
        if bytes <= bytes_max {
            break;
        }
        tracing::warn!(
            file = entry.name,
            "what was kept aside goes, for newer bytes"
        );
        dir.remove(&format!("{FOLDER}/{}", entry.name))?;
        bytes -= entry.len;
    }
    dir.sync(FOLDER)
}

/// Sectors that cannot be read, and files that are missing, are left zero.
fn copy(log: &CommitLog, from: u64, len: u64, into: &dyn Segment) -> io::Result<()> {
    let mut block = Vec::new();
    let mut done = 0;
    while done < len {
        let at = from + done;
        let left = (len - done).min(BLOCK_BYTES);
        let Some(file) = log.file_at(at) else {
            done += left;
            continue;
        };
        let part = left.min(file.end() - at);
        block.resize(usize::try_from(part).unwrap_or(0), 0);
        match file.segment.read_at(at - file.start, &mut block) {
            Ok(()) => into.write_at(done, &[IoSlice::new(&block)])?,
            Err(error) if is_damage(&error) => {
                tracing::warn!(file = %file.path(), at, %error, "a part of what is cut off cannot be read");
            }
            Err(error) => return Err(error),
        }
        done += part;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rocket_mapped_file::memory::MemoryDirectory;

    use super::*;

    #[test]
    fn what_is_kept_aside_is_bounded_and_the_oldest_goes_first() {
        let dir = MemoryDirectory::default();
        let log = CommitLog::open(
            Arc::new(dir.clone()),
            4096,
            SegmentOptions::default(),
            512,
            None,
        );
        let log = log.unwrap();
        for start in [0, 4096] {
            let file = log.ensure(start, &|| Ok(())).unwrap();
            let byte = 1 + u8::try_from(start / 4096).unwrap();
            file.segment
                .write_at(0, &[IoSlice::new(&[byte; 4096])])
                .unwrap();
        }
        let keep = |range, epoch| keep(&dir, &log, range, epoch, 2000).unwrap();
        let sizes = |dir: &MemoryDirectory| -> Vec<(String, u64)> {
            let entries = dir.list(FOLDER).unwrap();
            let of = |entry: rocket_mapped_file::Entry| (entry.name[18..20].to_owned(), entry.len);
            entries.into_iter().map(of).collect()
        };
        let sized = |list: &[(&str, u64)]| -> Vec<(String, u64)> {
            list.iter()
                .map(|(name, len)| ((*name).to_owned(), *len))
                .collect()
        };
        keep((4000, 4200), 9);
        keep((4000, 4200), 9);
        let kept = dir.crashed(1);
        assert_eq!(sizes(&kept), sized(&[("09", 200)]));
        let path = format!("{FOLDER}/{:020}-{:020}-{:020}", 9, 4000, 4200);
        let bytes = kept.read(&path).unwrap().unwrap();
        assert_eq!((&bytes[..96], &bytes[96..]), (&[1; 96][..], &[2; 104][..]));
        keep((0, 1500), 10);
        assert_eq!(sizes(&dir), sized(&[("09", 200), ("10", 1500)]));
        keep((0, 500), 11);
        assert_eq!(sizes(&dir), sized(&[("10", 1500), ("11", 500)]));
        keep((0, 4000), 12);
        assert_eq!(
            sizes(&dir),
            sized(&[("12", 2000)]),
            "no more than the bound"
        );
    }
}

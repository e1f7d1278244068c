//! The CommitLog: files named by the 20-digit offset of their first byte, each ending with a filler when the next record
//! did not fit. Files may differ in size, so that a changed setting, or Apache's, opens.
//!
//! What a reader gets lies below the published position of its file; that position moves only after the write returned.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use rocket_mapped_file::{Directory, Pace, Segment, SegmentOptions};
use rocket_protocol::{PhysicalOffset, RecordView};

use crate::api::Damaged;
use crate::checksums::{self, Checksums, is_damage};
use crate::damage::Damage;
use crate::error::OpenError;
use crate::prepare::Haste;
use crate::sound::{Soundness, Unsound};

#[cfg(test)]
mod crashes;
mod scan;
mod shape;

pub(crate) use scan::TailRule;
pub(crate) use shape::Fit;

/// The folder's name.
pub(crate) const FOLDER: &str = "commitlog";

/// One file of the log.
pub(crate) struct LogFile {
    /// Offset of its first byte.
    pub(crate) start: u64,
    /// Its bytes.
    pub(crate) segment: Arc<dyn Segment>,
    /// The checksums of its blocks.
    pub(crate) sums: Checksums,
    retired: AtomicBool,
}

impl LogFile {
    /// One behind its last byte.
    pub(crate) fn end(&self) -> u64 {
        self.start + self.segment.len()
    }

    /// Relative to the store's folder.
    pub(crate) fn path(&self) -> String {
        path_of(self.start)
    }

    /// Closes what was open for writing; `true` if that was done before.
    pub(crate) fn retire(&self) -> bool {
        self.segment.retire();
        self.retired.swap(true, Ordering::Relaxed)
    }

    /// One behind the last byte that may be read.
    pub(crate) fn published_end(&self) -> u64 {
        self.start + self.segment.published()
    }

    /// `len` bytes at `at` of the file, lent if they are shown; `None` unless all of them are published. While damage is repaired
    /// whole blocks are shown to nobody, with what is sound in them: that is read.
    pub(crate) fn lend(&self, at: u64, len: usize) -> io::Result<Option<Bytes>> {
        let lent = self.segment.lease(at, len)?;
        if lent.is_some() || at.saturating_add(len as u64) > self.segment.published() {
            return Ok(lent);
        }
        let mut bytes = vec![0; len];
        self.segment.read_at(at, &mut bytes)?;
        Ok(Some(bytes.into()))
    }
}

fn path_of(start: u64) -> String {
    format!("{FOLDER}/{start:020}")
}

/// All files of the log.
pub(crate) struct CommitLog {
    dir: Arc<dyn Directory>,
    segment_bytes: u64,
    options: SegmentOptions,
    files: RwLock<Vec<Arc<LogFile>>>,
    /// Held while a file is made: the appender and who prepares files ahead may want the same one.
    making: Mutex<()>,
    /// The appender waits for that.
    haste: Haste,
    block_bytes: u64,
    sound: Soundness,
    /// See [`crate::ceiling`].
    ceiling: AtomicU64,
}

impl CommitLog {
    /// Lists the files that are there; none is opened before it is used. A last file that was never used and has another
    /// size than new files get is removed, since another one is wanted there, unless it alone tells where the log begins. Only
    /// one that begins at or behind the `floor` can be that: there a first record that reads as zero is the torn tail, and
    /// before it damage, with good messages behind. Files that are missing between others are damage.
    pub(crate) fn open(
        dir: Arc<dyn Directory>,
        segment_bytes: u64,
        options: SegmentOptions,
        block_bytes: u64,
        floor: Option<u64>,
    ) -> Result<Self, OpenError> {
        for folder in [FOLDER, checksums::FOLDER] {
            dir.create_folder(folder)
                .map_err(OpenError::io("create", folder))?;
        }
        let damage =
            Damage::open(Arc::clone(&dir)).map_err(OpenError::io("read", "rocket/damage.json"))?;
        let mut files: Vec<Arc<LogFile>> = Vec::new();
        // A process that was killed may have made or removed what no flush of the folder has covered: what is built on it would go
        // with the power.
        dir.sync(FOLDER).map_err(OpenError::io("flush", FOLDER))?;
        let entries = dir.list(FOLDER).map_err(OpenError::io("list", FOLDER))?;
        let mut starts: Vec<(u64, u64)> = entries
            .iter()
            .filter(|entry| !entry.is_folder && entry.name.len() == 20)
            .filter_map(|entry| Some((entry.name.parse().ok()?, entry.len)))
            .collect();
        starts.sort_unstable();
        let last = starts.last().map(|&(start, _)| start);
        for (start, len) in starts {
            let path = path_of(start);
            let segment = dir
                .open_later(&path, len, options)
                .map_err(OpenError::io("open", &path))?;
            if Some(start) == last
                && floor.is_some_and(|floor| start >= floor)
                && !(files.is_empty() && start > 0)
                && len != segment_bytes
                && is_unused(&*segment).map_err(OpenError::io("read", &path))?
            {
                dir.remove(&path).map_err(OpenError::io("remove", &path))?;
                dir.sync(FOLDER).map_err(OpenError::io("flush", FOLDER))?;
                continue;
            }
            if let Some(before) = files.last()
                && before.end() != start
            {
                if before.end() > start {
                    return Err(OpenError::damaged(
                        &before.path(),
                        before.end(),
                        start,
                        "the next file begins before the end of this one",
                    ));
                }
                damage.note(&Damaged {
                    file: before.path(),
                    from: PhysicalOffset(before.end()),
                    to: PhysicalOffset(start),
                    reason: "files are missing, or this one is shorter than it was".to_owned(),
                });
            }
            let sums = Checksums::new(Arc::clone(&dir), start, len, block_bytes);
            files.push(Arc::new(LogFile {
                start,
                segment,
                sums,
                retired: AtomicBool::new(false),
            }));
        }
        let min = files.first().map_or(0, |file| file.start);
        // The run that removed the files may have ended before it did this.
        damage.forget_before(min);
        remove_checksums_before(&*dir, min)?;
        Ok(Self {
            dir,
            segment_bytes,
            options,
            files: RwLock::new(files),
            making: Mutex::new(()),
            haste: Haste::default(),
            block_bytes,
            sound: Soundness::new(damage),
            ceiling: AtomicU64::new(u64::MAX),
        })
    }

    /// What may be served.
    pub(crate) fn sound(&self) -> &Soundness {
        &self.sound
    }

    /// Begin of the block that holds `offset`.
    pub(crate) fn block_start(&self, offset: u64) -> u64 {
        self.file_at(offset).map_or(offset, |file| {
            let block = file.sums.block_of(offset - file.start);
            file.start + file.sums.range(block).0
        })
    }

    /// What is known to be damaged.
    pub(crate) fn damage(&self) -> &Damage {
        &self.sound.damage
    }

    /// Nothing was ever written at or beyond this.
    pub(crate) fn ceiling(&self) -> u64 {
        self.ceiling.load(Ordering::Acquire)
    }

    /// Sets the ceiling, which is durable.
    pub(crate) fn set_ceiling(&self, ceiling: u64) {
        self.ceiling.store(ceiling, Ordering::Release);
    }

    /// Offset of the first byte; 0 while there is no file.
    pub(crate) fn min(&self) -> u64 {
        self.files.read().first().map_or(0, |file| file.start)
    }

    /// The files in order.
    pub(crate) fn files(&self) -> Vec<Arc<LogFile>> {
        self.files.read().clone()
    }

    /// The file that holds `offset`.
    pub(crate) fn file_at(&self, offset: u64) -> Option<Arc<LogFile>> {
        let files = self.files.read();
        let index = files
            .partition_point(|file| file.start <= offset)
            .checked_sub(1)?;
        files.get(index).filter(|file| offset < file.end()).cloned()
    }

    /// Who makes a file ahead looks here whether someone needs it.
    pub(crate) fn haste(&self) -> &Haste {
        &self.haste
    }

    /// The file that begins at `start`, made at once if it is missing and may be made. Only the end of the log may be given
    /// then.
    pub(crate) fn ensure(
        &self,
        start: u64,
        may_make: &dyn Fn() -> io::Result<()>,
    ) -> io::Result<Arc<LogFile>> {
        if let Some(file) = self.file_at(start) {
            assert!(
                file.start == start,
                "a log file is asked for in the middle of another"
            );
            return Ok(file);
        }
        let _need = self.haste.need();
        self.make_ahead(start, may_make, &mut |_| Pace::Enough)
    }

    /// The file that begins at `start`, made if it is missing and may be made, and filled as long as `pace` lets it.
    pub(crate) fn make_ahead(
        &self,
        start: u64,
        may_make: &dyn Fn() -> io::Result<()>,
        pace: &mut dyn FnMut(u64) -> Pace,
    ) -> io::Result<Arc<LogFile>> {
        let _making = self.making.lock();
        if let Some(file) = self.file_at(start) {
            return Ok(file);
        }
        // Whoever makes files ahead may come late: the log goes on elsewhere since it was cut.
        if self.files_end().is_some_and(|end| end != start) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        // Asked here: a file that someone else was making has taken its room already.
        may_make()?;
        self.make(start, self.segment_bytes, pace)
    }

    /// Makes a file behind the others, with `making` held.
    fn make(
        &self,
        start: u64,
        len: u64,
        pace: &mut dyn FnMut(u64) -> Pace,
    ) -> io::Result<Arc<LogFile>> {
        self.forget_checksums(start, len)?;
        let segment = self
            .dir
            .create_paced(&path_of(start), len, self.options, pace)?;
        let file = self.file_of(start, segment);
        let mut files = self.files.write();
        assert!(
            files.last().is_none_or(|last| last.end() == start),
            "a log file would leave a gap"
        );
        files.push(Arc::clone(&file));
        Ok(file)
    }

    /// No checksum that a crash brought back holds for the file that is to be made at `start`.
    fn forget_checksums(&self, start: u64, len: u64) -> io::Result<()> {
        let dir = Arc::clone(&self.dir);
        Checksums::new(dir, start, len, self.block_bytes).forget_from(0)
    }

    fn file_of(&self, start: u64, segment: Arc<dyn Segment>) -> Arc<LogFile> {
        let dir = Arc::clone(&self.dir);
        Arc::new(LogFile {
            start,
            sums: Checksums::new(dir, start, segment.len(), self.block_bytes),
            segment,
            retired: AtomicBool::new(false),
        })
    }

    fn files_end(&self) -> Option<u64> {
        self.files.read().last().map(|last| last.end())
    }

    /// `len` published bytes at `offset`, within one file; `None` where there are none, or none that may be served.
    pub(crate) fn read(&self, offset: u64, len: usize) -> Option<Bytes> {
        let file = self.file_at(offset)?;
        self.is_sound(&file, offset, len).ok()?;
        file.lend(offset - file.start, len).ok().flatten()
    }

    /// Whether `offset..offset + len`, all in `file`, may be served. To be asked before every read that is not of the end.
    pub(crate) fn is_sound(&self, file: &LogFile, offset: u64, len: usize) -> Result<(), Unsound> {
        self.sound.check(file, offset, len)
    }

    /// Whether checksums vouch for all of `offset..offset + len`, within one file.
    pub(crate) fn vouches(&self, offset: u64, len: usize) -> bool {
        let file = self.file_at(offset);
        file.is_some_and(|file| self.sound.vouches(&file, offset, len))
    }

    /// The same for who reads on behalf of a consumer: see [`crate::OnDamage`].
    pub(crate) fn may_serve(&self, file: &LogFile, offset: u64, len: usize) -> Result<(), Unsound> {
        self.sound.check_for_reader(file, offset, len)
    }

    /// The published record of at most `len_max` bytes that begins at `offset`. No more than a head is read where none begins:
    /// anybody may ask for any offset.
    pub(crate) fn record(&self, offset: u64, len_max: usize) -> Option<Bytes> {
        let head = self.read(offset, scan::HEAD)?;
        let len = scan::record_len(&head, offset).filter(|&len| len <= len_max)?;
        let bytes = self.read(offset, len)?;
        let (view, whole) = RecordView::parse_trusting(&bytes).ok()?;
        (whole == bytes.len() && view.physical_offset().0 == offset).then_some(())?;
        Some(bytes)
    }

    /// Removes the first `count` files, oldest first; never the last one. Each is gone for good before the next one goes, so
    /// that no crash brings one back behind which another one is missing. Returns what was removed.
    pub(crate) fn remove_first(&self, count: usize) -> io::Result<Vec<Arc<LogFile>>> {
        let mut removed = Vec::new();
        for _ in 0..count {
            let first = {
                let files = self.files.read();
                if files.len() < 2 {
                    break;
                }
                files.first().cloned()
            };
            let Some(first) = first else { break };
            self.dir.remove(&first.path())?;
            self.dir.sync(FOLDER)?;
            if let Err(error) = first.sums.remove() {
                tracing::warn!(file = %first.path(), %error, "the checksums of a removed file stay");
            }
            self.files.write().remove(0);
            self.damage().forget_before(self.min());
            removed.push(first);
        }
        Ok(removed)
    }

    /// Removes the files that begin beyond `end`, last first, unless nothing was ever written to them: those were made
    /// ahead. Each is gone for good before the next one goes, so that none comes back behind a gap.
    pub(crate) fn remove_written_beyond(&self, end: u64) -> io::Result<bool> {
        let mut any = false;
        let mut files = self.files.write();
        let first_beyond = files.iter().find(|file| file.start > end);
        if first_beyond.is_some_and(|file| file.start >= self.ceiling()) {
            return Ok(false);
        }
        while let Some(last) = files.last()
            && last.start > end
        {
            self.remove_file(last)?;
            self.dir.sync(FOLDER)?;
            files.pop();
            any = true;
        }
        Ok(any)
    }
}

/// Removes the checksums of log files that are gone, which the run that removed those did not come to: nobody else would.
fn remove_checksums_before(dir: &dyn Directory, min: u64) -> Result<(), OpenError> {
    let folder = checksums::FOLDER;
    let entries = dir.list(folder).map_err(OpenError::io("list", folder))?;
    let starts = entries.iter().filter_map(|entry| entry.name.parse().ok());
    for start in starts.filter(|&start| start < min) {
        let path = checksums::path_of(start);
        if let Err(error) = dir.remove(&path) {
            tracing::warn!(file = path, %error, "the checksums of a removed file stay");
        }
    }
    Ok(())
}

fn is_unused(segment: &dyn Segment) -> io::Result<bool> {
    let mut head = [0; 8];
    if segment.len() >= 8 {
        match segment.read_at(0, &mut head) {
            Err(error) if is_damage(&error) => return Ok(false),
            read => read?,
        }
    }
    Ok(head == [0; 8])
}

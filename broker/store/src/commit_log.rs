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
use rocket_protocol::message::record::{MAGIC_V1, MAGIC_V2, position};
use rocket_protocol::{PhysicalOffset, RecordError, RecordView, TopicName};

use crate::api::Damaged;
use crate::checksums::{self, Checksums, is_damage};
use crate::damage::Damage;
use crate::error::OpenError;
use crate::prepare::Haste;
use crate::sound::{Soundness, Unsound};

/// The folder's name.
pub(crate) const FOLDER: &str = "commitlog";
/// Bytes read at once while scanning.
const WINDOW_BYTES: usize = 1 << 20;

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
    /// size than new files get is one whose making was interrupted, and is removed. Files that are missing between others
    /// are damage.
    pub(crate) fn open(
        dir: Arc<dyn Directory>,
        segment_bytes: u64,
        options: SegmentOptions,
        block_bytes: u64,
    ) -> Result<Self, OpenError> {
        for folder in [FOLDER, checksums::FOLDER] {
            dir.create_folder(folder)
                .map_err(OpenError::io("create", folder))?;
        }
        let damage =
            Damage::open(Arc::clone(&dir)).map_err(OpenError::io("read", "rocket/damage.json"))?;
        let mut files: Vec<Arc<LogFile>> = Vec::new();
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
        // Asked here: a file that someone else was making has taken its room already.
        may_make()?;
        let segment =
            self.dir
                .create_paced(&path_of(start), self.segment_bytes, self.options, pace)?;
        let sums = Checksums::new(
            Arc::clone(&self.dir),
            start,
            self.segment_bytes,
            self.block_bytes,
        );
        let file = Arc::new(LogFile {
            start,
            segment,
            sums,
            retired: AtomicBool::new(false),
        });
        let mut files = self.files.write();
        assert!(
            files.last().is_none_or(|last| last.end() == start),
            "a log file would leave a gap"
        );
        files.push(Arc::clone(&file));
        Ok(file)
    }

    /// `len` published bytes at `offset`, within one file; `None` where there are none, or none that may be served.
    pub(crate) fn read(&self, offset: u64, len: usize) -> Option<Bytes> {
        let file = self.file_at(offset)?;
        self.is_sound(&file, offset, len).ok()?;
        file.segment.lease(offset - file.start, len).ok().flatten()
    }

    /// Whether `offset..offset + len`, all in `file`, may be served. To be asked before every read that is not of the end.
    pub(crate) fn is_sound(&self, file: &LogFile, offset: u64, len: usize) -> Result<(), Unsound> {
        self.sound.check(file, offset, len)
    }

    /// The published record that begins at `offset`.
    pub(crate) fn record(&self, offset: u64) -> Option<Bytes> {
        let head = self.read(offset, 4)?;
        let len = u32::from_be_bytes(*head.first_chunk()?);
        let bytes = self.read(offset, usize::try_from(len).ok()?)?;
        let (view, whole) = RecordView::parse_trusting(&bytes).ok()?;
        (whole == bytes.len() && view.physical_offset().0 == offset).then_some(())?;
        Some(bytes)
    }

    /// Removes the first `count` files, oldest first; never the last one. Returns what was removed.
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
            if let Err(error) = first.sums.remove() {
                tracing::warn!(file = %first.path(), %error, "the checksums of a removed file stay");
            }
            self.files.write().remove(0);
            removed.push(first);
        }
        if !removed.is_empty() {
            self.dir.sync(FOLDER)?;
            self.damage().forget_before(self.min());
        }
        Ok(removed)
    }

    /// Removes the files that begin beyond `end`, last first, unless nothing was ever written to them: those were made
    /// ahead.
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
            self.dir.remove(&last.path())?;
            last.sums.remove()?;
            files.pop();
            any = true;
        }
        if any {
            self.dir.sync(FOLDER)?;
        }
        Ok(any)
    }

    /// Follows the records from `from` to the first thing that is none, published or not, checksums included, or that
    /// `each` refuses. Below `floor` a sector that cannot be read is such a thing, and known damage another.
    pub(crate) fn scan(
        &self,
        from: u64,
        floor: u64,
        rule: TailRule,
        mut each: impl FnMut(u64, &RecordView<'_>) -> Result<(), &'static str>,
    ) -> Result<ScanEnd, OpenError> {
        let mut window = Window::default();
        let mut at = from;
        let mut records = 0;
        loop {
            let Some(file) = self.file_at(at) else {
                return Ok(ScanEnd {
                    end: at,
                    reason: None,
                    records,
                });
            };
            let step = match window.step(&file, at, rule, &mut each) {
                Err(error) if at < floor && is_damage(&error) => {
                    window = Window::default();
                    Step::End(error.to_string())
                }
                step => step.map_err(OpenError::io("read", &file.path()))?,
            };
            match step {
                Step::Record(len) => {
                    at += len;
                    records += 1;
                }
                Step::Filler => at = file.end(),
                Step::End(reason) => {
                    return Ok(ScanEnd {
                        end: at,
                        reason: Some(reason),
                        records,
                    });
                }
            }
        }
    }
}

impl CommitLog {
    /// Whether a good record begins at `at`.
    pub(crate) fn is_record(&self, at: u64, rule: TailRule) -> Result<bool, OpenError> {
        let Some(file) = self.file_at(at) else {
            return Ok(false);
        };
        match Window::default().step(&file, at, rule, &mut |_, _| Ok(())) {
            Err(error) if is_damage(&error) => Ok(false),
            step => {
                let step = step.map_err(OpenError::io("read", &file.path()))?;
                Ok(matches!(step, Step::Record(_)))
            }
        }
    }

    /// The first place in `from..to`, all in `file`, where what looks like the head of a record names that place.
    pub(crate) fn next_head(file: &LogFile, from: u64, to: u64) -> Option<u64> {
        let head = position::PHYSICAL_OFFSET + 8;
        let mut at = from;
        while at < to {
            let left = usize::try_from(file.end() - at).unwrap_or(usize::MAX);
            let mut bytes = vec![0; left.min(WINDOW_BYTES)];
            if file.segment.read_at(at - file.start, &mut bytes).is_err() {
                // Past a sector that cannot be read, a block at a time.
                at = (at / checksums::BLOCK_BYTES + 1) * checksums::BLOCK_BYTES;
                continue;
            }
            let is_head = |(index, bytes): &(usize, &[u8])| {
                let magic = bytes.get(4..).and_then(|bytes| bytes.first_chunk());
                let own = bytes
                    .get(position::PHYSICAL_OFFSET..)
                    .and_then(|bytes| bytes.first_chunk());
                magic.is_some_and(|magic| matches!(i32::from_be_bytes(*magic), MAGIC_V1 | MAGIC_V2))
                    && own.is_some_and(|own| u64::from_be_bytes(*own) == at + *index as u64)
            };
            if let Some((index, _)) = bytes.windows(head).enumerate().find(is_head) {
                let found = at + index as u64;
                return (found < to).then_some(found);
            }
            if bytes.len() < WINDOW_BYTES {
                return None;
            }
            at += (bytes.len() - head + 1) as u64;
        }
        None
    }
}

fn is_unused(segment: &dyn Segment) -> io::Result<bool> {
    let mut head = [0; 8];
    if segment.len() >= 8 {
        segment.read_at(0, &mut head)?;
    }
    Ok(head == [0; 8])
}

/// Which tail counts as torn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TailRule {
    /// As Apache's broker checks: lengths, magic, body checksum.
    Apache,
    /// And the record knows its own place, its topic is a topic, and its properties hold no zero byte. The body checksum
    /// covers nothing else; sectors that a crash lost read as zero, and this store refuses zero bytes in properties at
    /// append, so the three together see every lost sector.
    Ours,
}

/// Where a scan ended.
#[derive(Debug)]
pub(crate) struct ScanEnd {
    /// End of the last good record, or begin of the next file behind a filler.
    pub(crate) end: u64,
    /// What lies there instead of a record; `None` at the end of the last file.
    pub(crate) reason: Option<String>,
    /// Good records seen.
    pub(crate) records: u64,
}

enum Step {
    Record(u64),
    Filler,
    End(String),
}

/// A part of a file in memory, read ahead.
#[derive(Default)]
struct Window {
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    fn step(
        &mut self,
        file: &LogFile,
        at: u64,
        rule: TailRule,
        each: &mut impl FnMut(u64, &RecordView<'_>) -> Result<(), &'static str>,
    ) -> io::Result<Step> {
        let left = usize::try_from(file.end() - at).unwrap_or(usize::MAX);
        let mut need = left.min(8);
        loop {
            let here = self.at_least(file, at, need)?;
            match RecordView::parse(here) {
                Ok((view, len)) => {
                    if let Some(reason) = unlike_ours(at, rule, &view) {
                        return Ok(Step::End(reason.to_owned()));
                    }
                    return Ok(match each(at, &view) {
                        Ok(()) => Step::Record(len as u64),
                        Err(reason) => Step::End(reason.to_owned()),
                    });
                }
                Err(RecordError::Blank { len }) if len == left => return Ok(Step::Filler),
                Err(RecordError::Torn { need: more, have }) if more <= left && more > have => {
                    need = more;
                }
                Err(error) => return Ok(Step::End(error.to_string())),
            }
        }
    }

    /// At least `need` bytes at `at`, which the file has.
    fn at_least(&mut self, file: &LogFile, at: u64, need: usize) -> io::Result<&[u8]> {
        let have = |window: &Self| {
            let skip = usize::try_from(at.checked_sub(window.start)?).ok()?;
            (window.bytes.len() >= skip.checked_add(need)? && window.start >= file.start)
                .then_some(skip)
        };
        if have(self).is_none() {
            let left = usize::try_from(file.end() - at).unwrap_or(usize::MAX);
            self.bytes.resize(need.max(WINDOW_BYTES).min(left), 0);
            self.start = at;
            file.segment.read_at(at - file.start, &mut self.bytes)?;
        }
        let skip = have(self).unwrap_or(self.bytes.len());
        Ok(self.bytes.get(skip..).unwrap_or_default())
    }
}

fn unlike_ours(at: u64, rule: TailRule, view: &RecordView<'_>) -> Option<&'static str> {
    if rule == TailRule::Apache {
        return None;
    }
    if view.physical_offset().0 != at {
        return Some("the record belongs elsewhere");
    }
    if TopicName::parse(view.topic()).is_err() {
        return Some("the topic is none");
    }
    view.properties()
        .contains(&0)
        .then_some("the properties hold zero bytes")
}

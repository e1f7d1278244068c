//! The CommitLog: files named by the 20-digit offset of their first byte, each ending with a filler when the next record
//! did not fit. Files may differ in size, so that a changed setting, or Apache's, opens.
//!
//! What a reader gets lies below the published position of its file; that position moves only after the write returned.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use rocket_mapped_file::{Directory, Fill, Segment, SegmentOptions};
use rocket_protocol::{RecordError, RecordView, TopicName};

use crate::error::OpenError;

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
}

impl CommitLog {
    /// Opens the files that are there. A last file that was never used and has another size than new files get is one
    /// whose making was interrupted, and is removed.
    pub(crate) fn open(
        dir: Arc<dyn Directory>,
        segment_bytes: u64,
        fill: Fill,
        lanes: usize,
    ) -> Result<Self, OpenError> {
        dir.create_folder(FOLDER)
            .map_err(OpenError::io("create", FOLDER))?;
        let options = SegmentOptions { fill, lanes };
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
                .open(&path, options)
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
                return Err(OpenError::damaged(
                    &before.path(),
                    before.end(),
                    start,
                    "the next file does not begin here",
                ));
            }
            files.push(Arc::new(LogFile { start, segment }));
        }
        Ok(Self {
            dir,
            segment_bytes,
            options,
            files: RwLock::new(files),
            making: Mutex::new(()),
        })
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

    /// The file that begins at `start`, made if it is missing. Only the end of the log may be given then.
    pub(crate) fn ensure(&self, start: u64) -> io::Result<Arc<LogFile>> {
        let _making = self.making.lock();
        if let Some(file) = self.file_at(start) {
            assert!(
                file.start == start,
                "a log file is asked for in the middle of another"
            );
            return Ok(file);
        }
        let segment = self
            .dir
            .create(&path_of(start), self.segment_bytes, self.options)?;
        let file = Arc::new(LogFile { start, segment });
        let mut files = self.files.write();
        assert!(
            files.last().is_none_or(|last| last.end() == start),
            "a log file would leave a gap"
        );
        files.push(Arc::clone(&file));
        Ok(file)
    }

    /// `len` published bytes at `offset`, within one file.
    pub(crate) fn read(&self, offset: u64, len: usize) -> Option<Bytes> {
        let file = self.file_at(offset)?;
        file.segment.lease(offset - file.start, len).ok().flatten()
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
            self.files.write().remove(0);
            removed.push(first);
        }
        if !removed.is_empty() {
            self.dir.sync(FOLDER)?;
        }
        Ok(removed)
    }

    /// Removes the files that begin at or beyond `end`, last first, except one that begins exactly there.
    pub(crate) fn remove_beyond(&self, end: u64) -> io::Result<bool> {
        let mut any = false;
        let mut files = self.files.write();
        while let Some(last) = files.last()
            && last.start > end
        {
            self.dir.remove(&last.path())?;
            files.pop();
            any = true;
        }
        if any {
            self.dir.sync(FOLDER)?;
        }
        Ok(any)
    }

    /// Follows the records from `from` to the first thing that is none, published or not, checksums included, or that
    /// `each` refuses.
    pub(crate) fn scan(
        &self,
        from: u64,
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
            let step = window
                .step(&file, at, rule, &mut each)
                .map_err(OpenError::io("read", &file.path()))?;
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

//! Looking through the log for records: from a place on, and behind damage.

use std::io;

use rocket_mapped_file::Advice;
use rocket_protocol::message::record::{MAGIC_V1, MAGIC_V2, position};
use rocket_protocol::{RecordError, RecordView, TopicName};

use super::{CommitLog, LogFile};
use crate::checksums::{self, is_damage};
use crate::error::OpenError;
use crate::sound::Unsound;

/// Bytes read at once while scanning.
const WINDOW_BYTES: usize = 1 << 20;
/// Bytes of a record up to where it names its own place.
pub(super) const HEAD: usize = position::PHYSICAL_OFFSET + 8;

impl CommitLog {
    /// Follows the records from `from` to the first thing that is none, published or not, checksums included, or that
    /// `each` refuses. A sector that cannot be read is such a thing, and below `floor` so is a record in a damaged block:
    /// a flipped bit in its topic leaves it whole by its own checksum, which covers the body alone.
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
            let mut sound_each =
                |at: u64, view: &RecordView<'_>, len: usize| match self.unsound(&file, at, len)? {
                    Some(reason) if at < floor => Ok(Some(reason)),
                    _ => Ok(each(at, view).err()),
                };
            let step = match window.step(&file, at, rule, &mut sound_each) {
                Err(error) if is_damage(&error) && (at < floor || rule == TailRule::Ours) => {
                    tracing::error!(file = %file.path(), offset = at, %error, "the log cannot be read here");
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
                // Whole, and not torn: nothing here shows where the log ended, and a cut could take all of it.
                Step::Elsewhere(own) if rule == TailRule::Apache && at >= floor => {
                    let reason = format!(
                        "a whole record lies here that says it belongs at {own}: was the file renamed, or is it another broker's?"
                    );
                    return Err(OpenError::damaged(&file.path(), at, floor, &reason));
                }
                Step::Elsewhere(_) => {
                    return Ok(ScanEnd {
                        end: at,
                        reason: Some("the record belongs elsewhere".to_owned()),
                        records,
                    });
                }
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

    /// Whether a good record begins at `at`.
    pub(crate) fn is_record(&self, at: u64, rule: TailRule) -> Result<bool, OpenError> {
        let Some(file) = self.file_at(at) else {
            return Ok(false);
        };
        let mut sound = |at: u64, _: &RecordView<'_>, len: usize| self.unsound(&file, at, len);
        match Window::default().step(&file, at, rule, &mut sound) {
            Err(error) if is_damage(&error) => Ok(false),
            step => {
                let step = step.map_err(OpenError::io("read", &file.path()))?;
                Ok(matches!(step, Step::Record(_)))
            }
        }
    }

    /// Why the record may not be believed.
    fn unsound(&self, file: &LogFile, at: u64, len: usize) -> io::Result<Option<&'static str>> {
        match self.is_sound(file, at, len) {
            Ok(()) => Ok(None),
            Err(Unsound::Damaged) => Ok(Some("it lies in a damaged block")),
            Err(Unsound::Later) => Err(io::Error::other("its block cannot be read now")),
        }
    }

    /// The first place in `from..to`, all in `file`, where what looks like the head of a record names that place.
    pub(crate) fn next_head(file: &LogFile, from: u64, to: u64) -> Option<u64> {
        let head = HEAD;
        let mut at = from;
        while at < to {
            let left = usize::try_from(file.end() - at).unwrap_or(usize::MAX);
            let mut bytes = vec![0; left.min(WINDOW_BYTES)];
            let mut next = at + (bytes.len() - (head - 1).min(bytes.len())) as u64;
            if file.segment.read_at(at - file.start, &mut bytes).is_err() {
                // Past a sector that cannot be read, a block at a time, and only past the block that it lies in.
                next = (at / checksums::BLOCK_BYTES + 1) * checksums::BLOCK_BYTES;
                let block = usize::try_from(next - at).unwrap_or(usize::MAX);
                let is_read = [block + head - 1, block].into_iter().any(|len| {
                    bytes.truncate(len);
                    file.segment.read_at(at - file.start, &mut bytes).is_ok()
                });
                if !is_read {
                    at = next;
                    continue;
                }
            }
            let is_head =
                |(index, bytes): &(usize, &[u8])| record_len(bytes, at + *index as u64).is_some();
            if let Some((index, _)) = bytes.windows(head).enumerate().find(is_head) {
                let found = at + index as u64;
                return (found < to).then_some(found);
            }
            if bytes.len() == left {
                return None;
            }
            at = next;
        }
        None
    }
}

/// How many bytes the record has that `head` belongs to, if it is the head of one that lies at `offset`.
pub(super) fn record_len(head: &[u8], offset: u64) -> Option<usize> {
    let magic = i32::from_be_bytes(*head.get(4..)?.first_chunk()?);
    let own = u64::from_be_bytes(*head.get(position::PHYSICAL_OFFSET..)?.first_chunk()?);
    let len = usize::try_from(u32::from_be_bytes(*head.first_chunk()?)).ok()?;
    (matches!(magic, MAGIC_V1 | MAGIC_V2) && own == offset).then_some(len)
}

/// Which tail counts as torn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TailRule {
    /// As Apache's broker checks: lengths, magic, body checksum. A whole record that knows another place than its own is no
    /// tail: the log does not open.
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
    /// A whole record that names this place, and not the one where it lies.
    Elsewhere(u64),
    End(String),
}

/// A part of a file in memory, read ahead.
#[derive(Default)]
struct Window {
    start: u64,
    bytes: Vec<u8>,
    /// Somewhere before this there is a sector that cannot be read: nothing is read ahead.
    narrow_until: u64,
}

impl Window {
    /// What is at `at`. `each` gets a good record and its length, and says why it is none all the same.
    fn step(
        &mut self,
        file: &LogFile,
        at: u64,
        rule: TailRule,
        each: &mut impl FnMut(u64, &RecordView<'_>, usize) -> io::Result<Option<&'static str>>,
    ) -> io::Result<Step> {
        let left = usize::try_from(file.end() - at).unwrap_or(usize::MAX);
        let mut need = left.min(8);
        loop {
            let here = self.at_least(file, at, need)?;
            match RecordView::parse(here) {
                Ok((view, len)) => {
                    let own = view.physical_offset().0;
                    if own != at {
                        return Ok(Step::Elsewhere(own));
                    }
                    if let Some(reason) = unlike_ours(rule, &view) {
                        return Ok(Step::End(reason.to_owned()));
                    }
                    return Ok(match each(at, &view, len)? {
                        None => Step::Record(len as u64),
                        Some(reason) => Step::End(reason.to_owned()),
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
            let ahead = if at < self.narrow_until {
                0
            } else {
                WINDOW_BYTES
            };
            self.bytes.resize(need.max(ahead).min(left), 0);
            self.start = at;
            let mut read = file.segment.read_at(at - file.start, &mut self.bytes);
            if let Err(error) = &read
                && is_damage(error)
                && self.bytes.len() > need
            {
                // It is not what is needed that cannot be read.
                self.narrow_until = at + self.bytes.len() as u64;
                self.bytes.truncate(need);
                read = file.segment.read_at(at - file.start, &mut self.bytes);
            }
            if let Err(error) = read {
                self.bytes.clear();
                return Err(error);
            }
            // Fetched while this window is looked through.
            let next = at - file.start + self.bytes.len() as u64;
            let len = ahead.min(left.saturating_sub(self.bytes.len())) as u64;
            if len > 0 {
                file.segment.advise(next, len, Advice::WillNeed);
            }
        }
        let skip = have(self).unwrap_or(self.bytes.len());
        Ok(self.bytes.get(skip..).unwrap_or_default())
    }
}

fn unlike_ours(rule: TailRule, view: &RecordView<'_>) -> Option<&'static str> {
    if rule == TailRule::Apache {
        return None;
    }
    if TopicName::parse(view.topic()).is_err() {
        return Some("the topic is none");
    }
    view.properties()
        .contains(&0)
        .then_some("the properties hold zero bytes")
}

//! What a copy of another log needs: files that end where the master's do, and a log that is cut, or begun anew elsewhere.
//!
//! A cut takes back bytes that were published, which the rule of [`rocket_mapped_file::Segment`] forbids: they may be lent. So the file that is
//! cut in its middle is opened another time, with only what stays published, and takes the place of the first one. That is
//! sound because nobody is lent, or looks through the map at, bytes that are not visible, and what is visible is never cut
//! while a store is open.

use std::io;
use std::sync::Arc;

use rocket_mapped_file::Pace;

use super::{CommitLog, FOLDER, LogFile};
use crate::checksums;

/// Where records go that a master has in a file with a certain end.
pub(crate) enum Fit {
    /// Into this file, which ends there too.
    File(Arc<LogFile>),
    /// The log is empty and its first file ends elsewhere: it has to be made anew ([`CommitLog::begin_at`]).
    First,
    /// Nowhere: the file that holds the records before them ends here.
    Other(u64),
}

impl CommitLog {
    /// The file for what follows `at`, the end of the log, where the master's file ends at `file_end`. One that was made ahead
    /// with another length makes room for it.
    pub(crate) fn fit(
        &self,
        at: u64,
        file_end: u64,
        may_make: &dyn Fn() -> io::Result<()>,
    ) -> io::Result<Fit> {
        if let Some(file) = self.file_at(at)
            && file.end() == file_end
        {
            return Ok(Fit::File(file));
        }
        let _need = self.haste().need();
        let _making = self.making.lock();
        match self.file_at(at) {
            Some(file) if file.end() == file_end => return Ok(Fit::File(file)),
            Some(file) if file.start < at => return Ok(Fit::Other(file.end())),
            Some(_) if self.min() == at => return Ok(Fit::First),
            Some(_) => {
                may_make()?;
                self.remove_from(at)?;
            }
            None => may_make()?,
        }
        self.make(at, file_end - at, &mut |_| Pace::Enough)
            .map(Fit::File)
    }

    /// Takes away all that lies at or behind `to`, where nothing was ever written at or behind `written`: whole files, last
    /// first, and the rest of the one that stays is made zero. Flushed on return, and may be done again. Nobody appends or
    /// sums blocks meanwhile, and what lies behind `to` was never visible to a reader of this process.
    pub(crate) fn cut(&self, to: u64, written: u64) -> io::Result<()> {
        let _need = self.haste().need();
        let _making = self.making.lock();
        let sealed = self.sound.sealed().min(self.block_start(to));
        self.sound.seal(sealed);
        self.remove_from(to)?;
        let Some(before) = self.file_at(to) else {
            return Ok(());
        };
        let segment = self.dir.open(&before.path(), self.options)?;
        if segment.len() != before.segment.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let file = self.file_of(before.start, segment);
        let keep = to - file.start;
        file.sums.forget_from(file.sums.block_of(keep))?;
        let written = written.clamp(to, file.end()) - file.start;
        if !crate::mutant::is_on(crate::mutant::Mutant::CutNotZeroed) {
            file.segment.zero(keep, written)?;
        }
        file.segment.flush(0)?;
        file.segment.publish(keep);
        let mut files = self.files.write();
        if let Some(place) = files.iter_mut().find(|file| file.start == before.start) {
            *place = file;
        }
        Ok(())
    }

    /// Makes the log one empty file of `len` bytes that begins at `at`. What was there is gone; may be done again.
    pub(crate) fn begin_at(&self, at: u64, len: u64) -> io::Result<()> {
        let _need = self.haste().need();
        let _making = self.making.lock();
        self.remove_from(0)?;
        // In one go, so that nobody finds no file and takes the log for one that begins at 0.
        let mut files = self.files.write();
        for file in files.drain(..) {
            self.remove_file(&file)?;
        }
        self.dir.sync(FOLDER)?;
        self.forget_checksums(at, len)?;
        let path = super::path_of(at);
        let segment = self.dir.create(&path, len, self.options)?;
        files.push(self.file_of(at, segment));
        drop(files);
        self.sound.seal(at);
        Ok(())
    }

    /// Whether the log may end at `at`: a record or a filler begins there, or nothing can be told because it is damaged.
    pub(crate) fn may_end_at(&self, at: u64) -> io::Result<bool> {
        let Some(file) = self.file_at(at) else {
            return Ok(self.files_end() == Some(at));
        };
        let head = HEAD_BYTES.min(file.end() - at);
        if file.start == at || self.damage().within(at, at + head).is_some() {
            return Ok(true);
        }
        let mut bytes = vec![0; usize::try_from(head).unwrap_or(0)];
        file.segment.read_at(at - file.start, &mut bytes)?;
        Ok(begins_record(&bytes, at, file.end() - at))
    }

    /// Removes the files that begin at or behind `at`, last first, but for the first one of the log.
    fn remove_from(&self, at: u64) -> io::Result<()> {
        let mut any = false;
        loop {
            let last = {
                let mut files = self.files.write();
                if files.len() < 2 {
                    break;
                }
                files.pop_if(|last| last.start >= at)
            };
            let Some(last) = last else { break };
            self.remove_file(&last)?;
            any = true;
        }
        if any { self.dir.sync(FOLDER) } else { Ok(()) }
    }

    /// Removes a file, its checksums first and for good: if they came back they would condemn the file that takes its place. That
    /// the file itself is gone is to be flushed.
    pub(super) fn remove_file(&self, file: &LogFile) -> io::Result<()> {
        file.sums.remove()?;
        self.dir.sync(checksums::FOLDER)?;
        self.dir.remove(&file.path())
    }
}

/// Bytes that tell whether something is a record and where it belongs.
const HEAD_BYTES: u64 = 36;

/// Whether these are the first bytes of the record at `at`, or of a filler of the `left` bytes of the file.
fn begins_record(head: &[u8], at: u64, left: u64) -> bool {
    use rocket_protocol::message::record::{MAGIC_BLANK, MAGIC_V1, MAGIC_V2, position};
    let int = |from: usize| head.get(from..)?.first_chunk::<4>().copied();
    let (Some(len), Some(magic)) = (int(0), int(4)) else {
        return false;
    };
    let own = head
        .get(position::PHYSICAL_OFFSET..)
        .and_then(|rest| rest.first_chunk())
        .map(|own| u64::from_be_bytes(*own));
    match i32::from_be_bytes(magic) {
        MAGIC_V1 | MAGIC_V2 => own == Some(at),
        MAGIC_BLANK => u64::from(u32::from_be_bytes(len)) == left,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use rocket_mapped_file::memory::MemoryDirectory;
    use rocket_mapped_file::{Directory as _, SegmentOptions};

    use super::*;

    fn log_in(dir: &MemoryDirectory) -> CommitLog {
        let dir = Arc::new(dir.clone());
        CommitLog::open(dir, 4096, SegmentOptions::default(), 512, None).unwrap()
    }

    fn names(dir: &MemoryDirectory) -> Vec<(u64, u64)> {
        let entries = dir.list(FOLDER).unwrap();
        let of = |entry: rocket_mapped_file::Entry| (entry.name.parse().unwrap(), entry.len);
        entries.into_iter().map(of).collect()
    }

    const MAY: fn() -> io::Result<()> = || Ok(());

    #[test]
    fn a_file_made_ahead_with_another_length_makes_room_for_one_as_the_master_has_it() {
        let dir = MemoryDirectory::default();
        let log = log_in(&dir);
        log.ensure(0, &MAY).unwrap();
        log.ensure(4096, &MAY).unwrap();
        assert!(matches!(
            log.fit(4096, 4096 + 6000, &MAY).unwrap(),
            Fit::File(_)
        ));
        assert_eq!(names(&dir), [(0, 4096), (4096, 6000)]);
        assert!(matches!(
            log.fit(4096, 4096 + 6000, &MAY).unwrap(),
            Fit::File(_)
        ));
        let end = 4096 + 6000;
        assert!(matches!(
            log.fit(end, end + 100, &MAY).unwrap(),
            Fit::File(_)
        ));
        assert!(matches!(
            log.fit(100, 6000, &MAY).unwrap(),
            Fit::Other(4096)
        ));
        assert!(matches!(log.fit(0, 6000, &MAY).unwrap(), Fit::First));
        assert_eq!(names(&dir), [(0, 4096), (4096, 6000), (end, 100)]);
        let late = log.make_ahead(8192 + 4096, &MAY, &mut |_| Pace::GoOn);
        let late = late.map(|_| ()).unwrap_err();
        assert_eq!(
            late.kind(),
            io::ErrorKind::Interrupted,
            "who comes late makes none"
        );
    }

    #[test]
    fn a_cut_leaves_zeros_and_no_file_behind_it_and_the_lent_bytes_before_it_as_they_were() {
        let dir = MemoryDirectory::default();
        let log = log_in(&dir);
        for start in [0, 4096, 8192] {
            let file = log.ensure(start, &MAY).unwrap();
            file.segment
                .write_at(0, &[IoSlice::new(&[7; 4096])])
                .unwrap();
            file.segment.publish(4096);
        }
        let lent = log.read(4096, 1000).unwrap();
        log.cut(4096 + 1000, 8192 + 4096).unwrap();
        for dir in [dir.killed(), dir.crashed(1)] {
            assert_eq!(names(&dir), [(0, 4096), (4096, 4096)]);
            let left = dir.read("commitlog/00000000000000004096").unwrap().unwrap();
            assert!(left[..1000].iter().all(|&byte| byte == 7));
            assert!(left[1000..].iter().all(|&byte| byte == 0));
        }
        assert_eq!(lent, vec![7; 1000]);
        assert_eq!(log.read(4096, 1001), None, "no longer published");
        let file = log.file_at(4096 + 1000).unwrap();
        file.segment
            .write_at(1000, &[IoSlice::new(&[8; 10])])
            .unwrap();
        log.cut(4096, 4096 + 1010).unwrap();
        assert_eq!(names(&dir), [(0, 4096)]);
        log.cut(0, 4096).unwrap();
        assert_eq!(
            dir.read("commitlog/00000000000000000000").unwrap(),
            Some(vec![0; 4096])
        );
    }

    #[test]
    fn a_log_begins_anew_at_any_offset_and_is_found_there_again() {
        let dir = MemoryDirectory::default();
        let log = log_in(&dir);
        log.ensure(0, &MAY).unwrap();
        log.ensure(4096, &MAY).unwrap();
        for (at, len) in [(12_345, 6000), (12_345, 100), (17, 4096)] {
            log.begin_at(at, len).unwrap();
            assert_eq!(log.min(), at);
            assert_eq!(names(&dir.killed()), [(at, len)]);
            let again = log_in(&dir.killed());
            assert_eq!((again.min(), again.files().len()), (at, 1));
        }
    }
}

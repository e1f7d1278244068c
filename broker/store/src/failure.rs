//! What a store that failed leaves for the next start.
//!
//! ```text
//! rocket/flush-failed   ms since 1970 · space · "kind=disk" or "kind=store" · space · file and error, as text
//! ```
//!
//! Notes of earlier versions have no kind, and the first ones no time; those versions read the time alone. What does not say
//! that it was of the store's own counts as a failure of the disk. After either kind a start reads from the disk.

use std::io;

use rocket_mapped_file::Directory;
use rocket_protocol::UnixMillis;

use crate::error::is_too_many_open;

pub(crate) const PATH: &str = "rocket/flush-failed";
const DISK: &str = "kind=disk";
const STORE: &str = "kind=store";

/// What made a store read-only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// A write or flush failed. Where that happens again soon, the disk is broken.
    Disk,
    /// Anything else: an assertion that did not hold, a file that was found damaged, missing or shorter than it was, a want of
    /// memory or descriptors. It says nothing of the disk, and every copy of a log may come to it.
    Store,
}

impl FailureKind {
    /// That of a call that a disk may have failed. Other errors than these come from calls that write or flush.
    pub(crate) fn of(error: &io::Error) -> Self {
        use io::ErrorKind::{InvalidData, NotFound, OutOfMemory, UnexpectedEof};
        let kind = error.kind();
        let is_other = matches!(kind, InvalidData | NotFound | OutOfMemory | UnexpectedEof)
            || is_too_many_open(error);
        if is_other { Self::Store } else { Self::Disk }
    }
}

/// What the run before left a note of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PastFailure {
    /// When it was; 0 where an earlier version noted it without the time.
    pub at: UnixMillis,
    /// What it was.
    pub kind: FailureKind,
}

/// What the run before noted of its failure in `dir`, if that was not taken notice of yet: a start removes the note when it has
/// recovered the store. To be called with the folder locked ([`crate::StoreEvents::locked`]).
///
/// # Errors
/// The note cannot be read.
pub fn past_failure(dir: &dyn Directory) -> io::Result<Option<PastFailure>> {
    Ok(dir.read(PATH)?.map(|note| read(&note)))
}

/// The content of a note.
pub(crate) fn note(at: UnixMillis, kind: FailureKind, reason: &str) -> String {
    let kind = match kind {
        FailureKind::Disk => DISK,
        FailureKind::Store => STORE,
    };
    format!("{} {kind} {reason}", at.0)
}

fn read(note: &[u8]) -> PastFailure {
    let text = String::from_utf8_lossy(note);
    let mut words = text.split(' ');
    let at = words.next().and_then(|word| word.parse().ok());
    let kind = match words.next() {
        Some(STORE) => FailureKind::Store,
        _ => FailureKind::Disk,
    };
    PastFailure {
        at: UnixMillis(at.unwrap_or(0)),
        kind,
    }
}

#[cfg(test)]
#[cfg(not(feature = "loom"))]
mod tests {
    use std::sync::Arc;

    use rocket_mapped_file::memory::MemoryDirectory;

    use super::*;
    use crate::{Clock, Completion, Engine, Flush, LocalPolicy, NoEvents, PutOutcome, StoreConfig};

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
    const EIO: i32 = 5;
    const ENOMEM: i32 = 12;
    const ENOSPC: i32 = 28;

    struct Still;

    impl Clock for Still {
        fn now(&self) -> UnixMillis {
            NOW
        }
    }

    struct Nobody;

    impl Completion for Nobody {
        fn complete(self, _: PutOutcome) {}
    }

    /// The note that is left by a store that `fail` makes fail.
    fn noted(fail: impl FnOnce(&Engine<Nobody>)) -> Option<PastFailure> {
        let dir = MemoryDirectory::default();
        let config = StoreConfig {
            segment_bytes: 4096,
            ..StoreConfig::default()
        };
        let policy = Arc::new(LocalPolicy { flush: Flush::Sync });
        let opened = Engine::open(
            config,
            Arc::new(dir.clone()),
            Arc::new(Still),
            policy,
            Arc::new(NoEvents),
        );
        let (engine, report) = opened.unwrap();
        assert_eq!(report.failure, None);
        fail(&engine);
        past_failure(&dir).unwrap()
    }

    #[test]
    fn failure_that_is_no_write_or_flush_is_noted_as_none_of_the_disk() {
        let of = |kind| Some(PastFailure { at: NOW, kind });
        assert_eq!(noted(|_| ()), None);
        assert_eq!(noted(Engine::panicked), of(FailureKind::Store));
        assert_eq!(noted(|it| it.condemn("x")), of(FailureKind::Disk));
        let failed = |error: io::Error| noted(|it| it.fail("commitlog/0", &error));
        for error in [
            io::ErrorKind::InvalidData.into(),
            io::ErrorKind::UnexpectedEof.into(),
            io::Error::from_raw_os_error(ENOMEM),
        ] {
            assert_eq!(failed(error), of(FailureKind::Store));
        }
        for error in [
            io::ErrorKind::WriteZero.into(),
            io::Error::from_raw_os_error(EIO),
            io::Error::from_raw_os_error(ENOSPC),
        ] {
            assert_eq!(failed(error), of(FailureKind::Disk));
        }
    }

    #[test]
    fn note_of_an_earlier_version_is_one_of_the_disk() {
        let of = |at| PastFailure {
            at: UnixMillis(at),
            kind: FailureKind::Disk,
        };
        assert_eq!(read(b"17 commitlog/0: input/output error"), of(17));
        assert_eq!(read(b"commitlog/0: input/output error"), of(0));
        assert_eq!(read(b""), of(0));
        assert_eq!(read(b"17 kind=of a later version"), of(17));
    }
}

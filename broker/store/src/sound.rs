//! Whether bytes of the log may be served: they lie in no known damage, and their blocks were compared with their
//! checksums since this process began. What is not summed yet comes straight from the append and is exempt.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::RwLock;
use rocket_protocol::PhysicalOffset;

use crate::api::Damaged;
use crate::checksums::Compared;
use crate::commit_log::LogFile;
use crate::config::OnDamage;
use crate::damage::Damage;
use crate::repair::Span;

/// Why bytes are not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsound {
    /// They are damaged: to be passed over.
    Damaged,
    /// They cannot be read now, for a reason that may pass (too many open files): to be asked for again.
    Later,
}

/// How a block is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Through {
    /// The page cache: it will be served next.
    Cache,
    /// Leaving the page cache as it was.
    Aside,
}

/// See the module.
pub(crate) struct Soundness {
    pub(crate) damage: Damage,
    /// Every block before this has its checksum, or never will (it is older than the checksums).
    sealed: AtomicU64,
    /// See [`OnDamage::Hold`].
    holds: AtomicBool,
    /// Damage within these is not waited for all the same: no other copy has it.
    given_up: RwLock<Vec<Span>>,
}

impl Soundness {
    pub(crate) fn new(damage: Damage) -> Self {
        Self {
            damage,
            sealed: AtomicU64::new(0),
            holds: AtomicBool::new(false),
            given_up: RwLock::default(),
        }
    }

    /// What becomes of readers who come to damage.
    pub(crate) fn set_rule(&self, rule: OnDamage) {
        self.holds.store(rule == OnDamage::Hold, Ordering::Release);
    }

    /// Who waits for damage passes over what lies within these.
    pub(crate) fn pass_over(&self, given_up: &[Span]) {
        *self.given_up.write() = given_up.to_vec();
    }

    /// The first damage that meets `from..to` and is to be waited for: another copy may have it.
    pub(crate) fn held(&self, from: u64, to: u64) -> Option<Damaged> {
        if !self.holds.load(Ordering::Acquire) {
            return None;
        }
        let given_up = self.given_up.read();
        let mut at = from;
        while let Some(damaged) = self.damage.within(at, to) {
            let has = |span: &Span| span.from <= damaged.from && damaged.to <= span.to;
            if !given_up.iter().any(has) {
                return Some(damaged);
            }
            at = damaged.to.0;
        }
        None
    }

    /// As [`Soundness::check`], for a reader who passes over what is damaged and waits for what is to be had later.
    pub(crate) fn check_for_reader(
        &self,
        file: &LogFile,
        offset: u64,
        len: usize,
    ) -> Result<(), Unsound> {
        let end = offset.saturating_add(len as u64);
        match self.check(file, offset, len) {
            Err(Unsound::Damaged) if self.held(offset, end).is_some() => Err(Unsound::Later),
            // It was healed meanwhile.
            Err(Unsound::Damaged) if self.damage.within(offset, end).is_none() => {
                Err(Unsound::Later)
            }
            checked => checked,
        }
    }

    pub(crate) fn sealed(&self) -> u64 {
        self.sealed.load(Ordering::Acquire)
    }

    pub(crate) fn seal(&self, sealed: u64) {
        self.sealed.store(sealed, Ordering::Release);
    }

    /// Whether `offset..offset + len`, all in `file`, may be served.
    pub(crate) fn check(&self, file: &LogFile, offset: u64, len: usize) -> Result<(), Unsound> {
        let end = offset.saturating_add(len as u64);
        if self.damage.within(offset, end).is_some() {
            return Err(Unsound::Damaged);
        }
        let sealed = self.sealed();
        if offset >= sealed || len == 0 {
            return Ok(());
        }
        let last = end.min(sealed).min(file.end()) - 1;
        let blocks =
            file.sums.block_of(offset - file.start)..=file.sums.block_of(last - file.start);
        for block in blocks {
            if !file.sums.is_compared(block) && file.start + file.sums.range(block).1 <= sealed {
                self.compare(file, block, Through::Cache)?;
            }
        }
        Ok(())
    }

    /// Whether all of `offset..offset + len`, which lies in `file`, reads as it was written: every block of it has a checksum and
    /// fits it. Looks at all of them now.
    pub(crate) fn vouches(&self, file: &LogFile, offset: u64, len: usize) -> bool {
        let Some(last) = offset.saturating_add(len as u64).checked_sub(1) else {
            return false;
        };
        let sealed = self.sealed();
        let mut blocks =
            file.sums.block_of(offset - file.start)..=file.sums.block_of(last - file.start);
        blocks.all(|block| {
            file.start + file.sums.range(block).1 <= sealed
                && matches!(self.compare(file, block, Through::Cache), Ok(None))
        })
    }

    /// Compares a block. The checksum is returned when it is not entered yet.
    pub(crate) fn compare(
        &self,
        file: &LogFile,
        block: u64,
        through: Through,
    ) -> Result<Option<u32>, Unsound> {
        let compared = file.sums.compare(block, |at, into| match through {
            Through::Cache => file.segment.read_at(at, into),
            Through::Aside => file.segment.read_aside(at, into),
        });
        let (from, to) = file.sums.range(block);
        match compared {
            Compared::Good => {
                file.sums.set_compared(block);
                Ok(None)
            }
            Compared::Unknown(sum) => {
                file.sums.set_compared(block);
                Ok(Some(sum))
            }
            Compared::Bad(reason) => {
                file.sums.clear_compared(block);
                self.damage.note(&Damaged {
                    file: file.path(),
                    from: PhysicalOffset(file.start + from),
                    to: PhysicalOffset(file.start + to),
                    reason,
                });
                Err(Unsound::Damaged)
            }
            Compared::Later(error) => {
                tracing::warn!(file = %file.path(), at = from, %error, "a block of the log cannot be read now");
                Err(Unsound::Later)
            }
        }
    }
}

//! What of the log is known to be damaged: bytes that were flushed once and are not what was written.
//!
//! They are told (log, event, counters), never served, never cut away, and remembered over restarts, since a later start
//! does not look there again:
//!
//! ```text
//! rocket/damage.json    [{"file": …, "from": offset, "to": offset, "reason": …}, …]
//! ```

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use rocket_mapped_file::Directory;
use rocket_protocol::PhysicalOffset;
use serde::{Deserialize, Serialize};

use crate::api::Damaged;
use crate::checksums::is_damage;
use crate::mutant::{self, Mutant};

const PATH: &str = "rocket/damage.json";
/// Ranges that are remembered over a restart; what is found beyond them is found again by the scrubber.
const NOTED_MAX: usize = 1024;

#[derive(Serialize, Deserialize)]
struct Note {
    file: String,
    from: u64,
    to: u64,
    reason: String,
}

/// See the module.
pub(crate) struct Damage {
    dir: Arc<dyn Directory>,
    /// By first byte; they do not overlap by much, which is no matter.
    ranges: RwLock<BTreeMap<u64, Damaged>>,
    /// Whether there is any: what every read looks at.
    any: AtomicBool,
    /// How often it changed, so that who follows it need not look at all of it.
    changes: AtomicU64,
    /// Found, and not told to anybody yet.
    untold: Mutex<Vec<Damaged>>,
}

impl Damage {
    /// Reads what was remembered. A note that cannot be understood is left out: what it says is found again.
    pub(crate) fn open(dir: Arc<dyn Directory>) -> io::Result<Self> {
        let text = match dir.read(PATH) {
            Err(error) if is_damage(&error) => {
                tracing::error!(file = PATH, %error, "the note of known damage cannot be read");
                None
            }
            read => read?,
        };
        let text = text.filter(|_| !mutant::is_on(Mutant::DamageForgotten));
        let notes: Vec<Note> = match text {
            Some(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                tracing::error!(file = PATH, %error, "the note of known damage cannot be read");
                Vec::new()
            }),
            None => Vec::new(),
        };
        let ranges: BTreeMap<u64, Damaged> = notes
            .into_iter()
            .map(|note| {
                let damaged = Damaged {
                    file: note.file,
                    from: PhysicalOffset(note.from),
                    to: PhysicalOffset(note.to),
                    reason: note.reason,
                };
                (note.from, damaged)
            })
            .collect();
        for damaged in ranges.values() {
            tracing::error!(file = %damaged.file, from = %damaged.from, to = %damaged.to, reason = %damaged.reason, "known damage in the log");
        }
        Ok(Self {
            dir,
            any: AtomicBool::new(!ranges.is_empty()),
            changes: AtomicU64::new(0),
            ranges: RwLock::new(ranges),
            untold: Mutex::new(Vec::new()),
        })
    }

    /// Remembers damage; `false` if it was known.
    pub(crate) fn note(&self, damaged: &Damaged) -> bool {
        let mut ranges = self.ranges.write();
        let known = ranges.get(&damaged.from.0);
        if known.is_some_and(|known| known.to >= damaged.to) {
            return false;
        }
        tracing::error!(file = %damaged.file, from = %damaged.from, to = %damaged.to, reason = %damaged.reason, "damage in the log; it is not served");
        ranges.insert(damaged.from.0, damaged.clone());
        self.changed(&ranges);
        self.save(&ranges);
        self.untold.lock().push(damaged.clone());
        true
    }

    /// What was found since the last call.
    pub(crate) fn take_untold(&self) -> Vec<Damaged> {
        std::mem::take(&mut *self.untold.lock())
    }

    /// What lies at `from..to` is as it was written after all; what of a range lies elsewhere stays damaged.
    pub(crate) fn heal(&self, from: u64, to: u64) {
        if self.within(from, to).is_none() {
            return;
        }
        let mut ranges = self.ranges.write();
        let meets = |damaged: &&Damaged| damaged.from.0 < to && from < damaged.to.0;
        let healed: Vec<Damaged> = ranges.values().filter(meets).cloned().collect();
        for damaged in healed {
            tracing::info!(file = %damaged.file, from = damaged.from.0.max(from), to = damaged.to.0.min(to), "what was damaged reads as it was written again");
            ranges.remove(&damaged.from.0);
            let (before, behind) = (damaged.from.0..from, to..damaged.to.0);
            for rest in [before, behind].into_iter().filter(|rest| !rest.is_empty()) {
                let rest = Damaged {
                    from: PhysicalOffset(rest.start),
                    to: PhysicalOffset(rest.end),
                    ..damaged.clone()
                };
                ranges.insert(rest.from.0, rest);
            }
        }
        self.changed(&ranges);
        self.save(&ranges);
    }

    /// Forgets what lies before the log.
    pub(crate) fn forget_before(&self, log_min: u64) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let mut ranges = self.ranges.write();
        let before = ranges.len();
        ranges.retain(|_, damaged| damaged.to.0 > log_min);
        if ranges.len() != before {
            self.changed(&ranges);
            self.save(&ranges);
        }
    }

    /// Forgets what lies at or behind `end`, where the log is cut. Durable on return: what comes there next is not damaged.
    pub(crate) fn forget_from(&self, end: u64) -> io::Result<()> {
        let mut ranges = self.ranges.write();
        if ranges.values().all(|damaged| damaged.to.0 <= end) {
            return Ok(());
        }
        let mut next = ranges.clone();
        next.retain(|from, _| *from < end);
        for damaged in next.values_mut() {
            damaged.to = damaged.to.min(PhysicalOffset(end));
        }
        self.write(&next)?;
        self.changed(&next);
        *ranges = next;
        Ok(())
    }

    fn changed(&self, ranges: &BTreeMap<u64, Damaged>) {
        self.any.store(!ranges.is_empty(), Ordering::Release);
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// Another number whenever something was found, healed or forgotten since.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Not to be able to note it is no failure of the store: what is damaged will be found again.
    fn save(&self, ranges: &BTreeMap<u64, Damaged>) {
        if let Err(error) = self.write(ranges) {
            tracing::warn!(file = PATH, %error, "known damage could not be noted for the next start");
        }
    }

    fn write(&self, ranges: &BTreeMap<u64, Damaged>) -> io::Result<()> {
        let notes: Vec<Note> = ranges
            .values()
            .take(NOTED_MAX)
            .map(|damaged| Note {
                file: damaged.file.clone(),
                from: damaged.from.0,
                to: damaged.to.0,
                reason: damaged.reason.clone(),
            })
            .collect();
        self.dir.replace(PATH, &serde_json::to_vec(&notes)?)
    }

    /// The first damage that meets `from..to`.
    pub(crate) fn within(&self, from: u64, to: u64) -> Option<Damaged> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let ranges = self.ranges.read();
        ranges
            .range(..to)
            .map(|(_, damaged)| damaged)
            .find(|damaged| damaged.to.0 > from)
            .cloned()
    }

    /// All of it, in log order.
    pub(crate) fn all(&self) -> Vec<Damaged> {
        self.ranges.read().values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use rocket_mapped_file::memory::MemoryDirectory;

    use super::*;

    fn damaged(from: u64, to: u64) -> Damaged {
        Damaged {
            file: "commitlog/0".to_owned(),
            from: PhysicalOffset(from),
            to: PhysicalOffset(to),
            reason: "flipped".to_owned(),
        }
    }

    #[test]
    fn damage_is_remembered_over_a_restart_until_retention_takes_it() {
        let dir = MemoryDirectory::default();
        let damage = Damage::open(Arc::new(dir.clone())).unwrap();
        assert_eq!(damage.within(0, u64::MAX), None);
        assert!(damage.note(&damaged(100, 200)));
        assert!(!damage.note(&damaged(100, 200)), "it was known");
        let again = Damage::open(Arc::new(dir.killed())).unwrap();
        assert_eq!(again.within(199, 200), Some(damaged(100, 200)));
        assert_eq!(again.within(0, 100), None);
        assert_eq!(again.within(200, 300), None);
        again.forget_before(200);
        assert_eq!(again.all(), []);
    }

    #[test]
    fn only_what_was_read_again_heals() {
        let damage = Damage::open(Arc::new(MemoryDirectory::default())).unwrap();
        damage.note(&damaged(300, 700));
        damage.note(&damaged(900, 950));
        damage.heal(400, 500);
        assert_eq!(
            damage.all(),
            [damaged(300, 400), damaged(500, 700), damaged(900, 950)]
        );
        damage.heal(0, 400);
        damage.heal(500, 1000);
        assert_eq!(damage.all(), []);
        assert_eq!(damage.within(0, u64::MAX), None);
    }

    #[test]
    fn a_cut_takes_damage_along_and_leaves_what_lies_before_it() {
        let dir = MemoryDirectory::default();
        let damage = Damage::open(Arc::new(dir.clone())).unwrap();
        for (from, to) in [(100, 200), (300, 400), (500, 600)] {
            damage.note(&damaged(from, to));
        }
        damage.forget_from(350).unwrap();
        let left = [damaged(100, 200), damaged(300, 350)];
        assert_eq!(damage.all(), left);
        assert_eq!(Damage::open(Arc::new(dir.killed())).unwrap().all(), left);
        damage.forget_from(0).unwrap();
        assert_eq!(damage.within(0, u64::MAX), None);
    }
}

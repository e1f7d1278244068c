//! What of the log is known to be damaged: bytes that were flushed once and are not what was written.
//!
//! They are told (log, event, counters), never served, never cut away, and remembered over restarts, since a later start
//! does not look there again:
//!
//! ```text
//! rocket/damage.json    [{"file": …, "from": offset, "to": offset, "reason": …}, …]
//! ```
//!
//! For blocks without a checksum the note is all that is known: forgotten, what is rotten there would be summed and vouched
//! for. So what a start finds is noted durably before it believes anything for good ([`Damage::secure`]). A note that cannot
//! be read is no empty one: the start then looks through all of the log again, and leaves the note as it is until that is
//! done. A note has room for [`NOTED_MAX`] ranges; of more, the nearest become one, with the sound bytes between them.

use std::collections::{BTreeMap, BTreeSet};
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

pub(crate) const PATH: &str = "rocket/damage.json";
/// Ranges that a note has.
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
    /// What was noted could not be read, and the log was not looked through for it yet. Changed with `ranges` locked.
    is_unread: AtomicBool,
    /// The note does not say what is known. Changed with `ranges` locked.
    is_unsaved: AtomicBool,
}

impl Damage {
    /// Reads what was remembered; see [`Damage::is_unread`].
    pub(crate) fn open(dir: Arc<dyn Directory>) -> io::Result<Self> {
        let text = match dir.read(PATH) {
            Err(error) if is_damage(&error) => Err(error),
            read => Ok(read?),
        };
        let notes: io::Result<Vec<Note>> = match text {
            Ok(Some(text)) if !mutant::is_on(Mutant::DamageForgotten) => {
                serde_json::from_slice(&text).map_err(io::Error::from)
            }
            Ok(_) => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        let is_unread = notes.is_err();
        let notes = notes.unwrap_or_else(|error| {
            tracing::error!(file = PATH, %error, "the note of known damage cannot be read: the whole log is looked through again");
            Vec::new()
        });
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
            is_unread: AtomicBool::new(is_unread),
            is_unsaved: AtomicBool::new(false),
        })
    }

    /// What was noted could not be read: all of the log is to be looked through, and then [`Damage::secure`] called.
    pub(crate) fn is_unread(&self) -> bool {
        self.is_unread.load(Ordering::Acquire)
    }

    /// What is known is noted, durably on return. To be called when a start has noted all that it found.
    pub(crate) fn secure(&self) -> io::Result<()> {
        let ranges = self.ranges.write();
        if !self.is_unread() && !self.is_unsaved.load(Ordering::Acquire) {
            return Ok(());
        }
        self.put(&ranges)?;
        self.is_unread.store(false, Ordering::Release);
        Ok(())
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

    /// Forgets what lies before the log, whose files there are gone for good: nobody could repair it.
    pub(crate) fn forget_before(&self, log_min: u64) {
        if self.within(0, log_min).is_none() {
            return;
        }
        let mut ranges = self.ranges.write();
        let left = ranges.split_off(&log_min);
        let before = std::mem::replace(&mut *ranges, left);
        for damaged in before.into_values().filter(|it| it.to.0 > log_min) {
            let from = PhysicalOffset(log_min);
            let behind = ranges.get(&log_min).map_or(0, |known| known.to.0);
            if damaged.to.0 > behind {
                ranges.insert(log_min, Damaged { from, ..damaged });
            }
        }
        self.changed(&ranges);
        self.save(&ranges);
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

    /// Not to be able to note it is no failure of a store that is open: what is found then is what no checksum fits, or cannot be
    /// read, and is found again. What a start finds is secured by it.
    fn save(&self, ranges: &BTreeMap<u64, Damaged>) {
        if let Err(error) = self.write(ranges) {
            tracing::warn!(file = PATH, %error, "known damage could not be noted for the next start");
        }
    }

    fn write(&self, ranges: &BTreeMap<u64, Damaged>) -> io::Result<()> {
        if self.is_unread() {
            // Written over now, the note would be one of all damage, of a log that was not looked through.
            return Ok(());
        }
        self.put(ranges)
    }

    fn put(&self, ranges: &BTreeMap<u64, Damaged>) -> io::Result<()> {
        let notes: Vec<Note> = covering(ranges.values().cloned().collect(), NOTED_MAX)
            .into_iter()
            .map(|damaged| Note {
                file: damaged.file,
                from: damaged.from.0,
                to: damaged.to.0,
                reason: damaged.reason,
            })
            .collect();
        let noted = self.dir.replace(PATH, &serde_json::to_vec(&notes)?);
        self.is_unsaved.store(noted.is_err(), Ordering::Release);
        noted
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

/// At most `max` ranges that cover all of `ranges`, which are in log order: the nearest ones become one.
fn covering(ranges: Vec<Damaged>, max: usize) -> Vec<Damaged> {
    let excess = ranges.len().saturating_sub(max);
    if excess == 0 {
        return ranges;
    }
    let pairs = ranges.iter().zip(ranges.iter().skip(1)).zip(1..);
    let mut gaps: Vec<(u64, usize)> = pairs
        .map(|((before, next), at)| (next.from.0.saturating_sub(before.to.0), at))
        .collect();
    gaps.sort_unstable();
    let joined: BTreeSet<usize> = gaps.into_iter().take(excess).map(|(_, at)| at).collect();
    let mut covering: Vec<Damaged> = Vec::with_capacity(max);
    for (at, damaged) in ranges.into_iter().enumerate() {
        match covering.last_mut().filter(|_| joined.contains(&at)) {
            Some(before) => before.to = before.to.max(damaged.to),
            None => covering.push(damaged),
        }
    }
    covering
}

#[cfg(test)]
mod tests {
    use rocket_mapped_file::memory::{Faults, MemoryDirectory};

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
        let dir = dir.killed();
        let again = Damage::open(Arc::new(dir.clone())).unwrap();
        assert_eq!(again.within(199, 200), Some(damaged(100, 200)));
        assert_eq!(again.within(0, 100), None);
        assert_eq!(again.within(200, 300), None);
        again.note(&damaged(300, 500));
        again.note(&damaged(350, 700));
        again.note(&damaged(400, 450));
        again.forget_before(200);
        let left = [damaged(300, 500), damaged(350, 700), damaged(400, 450)];
        assert_eq!(again.all(), left);
        again.forget_before(400);
        assert_eq!(again.all(), [damaged(400, 700)], "the part that is there");
        let again = Damage::open(Arc::new(dir.killed())).unwrap();
        assert_eq!(again.all(), [damaged(400, 700)]);
        again.forget_before(700);
        assert_eq!(again.all(), []);
    }

    #[test]
    fn more_ranges_than_a_note_has_are_covered_by_fewer_and_the_nearest_become_one() {
        let ranges = [(0, 10), (100, 110), (112, 120), (121, 130), (300, 310)];
        let ranges = || ranges.map(|(from, to)| damaged(from, to)).to_vec();
        assert_eq!(covering(ranges(), 5), ranges());
        let three = [damaged(0, 10), damaged(100, 130), damaged(300, 310)];
        assert_eq!(covering(ranges(), 3), three);
        assert_eq!(covering(ranges(), 1), [damaged(0, 310)]);

        let dir = MemoryDirectory::default();
        let damage = Damage::open(Arc::new(dir.clone())).unwrap();
        let places = 0..=NOTED_MAX as u64;
        for n in places.clone() {
            damage.note(&damaged(n * 100, n * 100 + 50));
        }
        let again = Damage::open(Arc::new(dir.killed())).unwrap();
        assert_eq!(again.all().len(), NOTED_MAX);
        for n in places {
            let all = again.within(n * 100, n * 100 + 1);
            let all = all.filter(|all| all.to.0 >= n * 100 + 50);
            assert!(all.is_some(), "range {n}");
        }
    }

    #[test]
    fn a_note_that_cannot_be_read_is_left_as_it_is_until_the_log_was_looked_through() {
        let dir = MemoryDirectory::default();
        dir.create_folder("rocket").unwrap();
        let bad = b"[{\"file\": \"commitl";
        dir.replace(PATH, bad).unwrap();
        let damage = Damage::open(Arc::new(dir.clone())).unwrap();
        assert!(damage.is_unread());
        damage.note(&damaged(100, 200));
        damage.forget_from(150).unwrap();
        assert_eq!(dir.read(PATH).unwrap().unwrap(), bad, "not half of it");
        damage.secure().unwrap();
        assert!(!damage.is_unread());
        let again = Damage::open(Arc::new(dir.killed())).unwrap();
        assert!(!again.is_unread());
        assert_eq!(again.all(), [damaged(100, 150)]);
    }

    #[test]
    fn what_could_not_be_noted_is_noted_when_it_is_secured_or_that_fails() {
        let dir = MemoryDirectory::default();
        let damage = Damage::open(Arc::new(dir.clone())).unwrap();
        damage.secure().unwrap();
        assert_eq!(dir.read(PATH).unwrap(), None, "there is nothing to say");
        let set_full = |is_full: bool| {
            dir.set_faults(Faults {
                change_error: is_full.then_some(28),
                ..Faults::default()
            });
        };
        set_full(true);
        assert!(damage.note(&damaged(100, 200)));
        assert!(!damage.note(&damaged(100, 200)), "it is known by now");
        assert!(damage.secure().is_err());
        assert!(damage.secure().is_err(), "still");
        set_full(false);
        damage.secure().unwrap();
        let again = Damage::open(Arc::new(dir.killed())).unwrap();
        assert_eq!(again.all(), [damaged(100, 200)]);
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

//! One file: what a read sees, what the medium holds, and what lies between.
//!
//! A write changes the first and marks its 512-byte sectors. A sync takes the marked sectors with it when it begins and
//! brings them over when it ends; until then a power cut keeps any subset of them. A sync that fails brings over any
//! subset, and the rest is forgotten here though the kernel's page cache goes on showing it, as Linux does.

use std::collections::{BTreeMap, BTreeSet};

use rocket_mapped_file::memory::Dice;

use crate::survival::Survival;

/// What a medium writes all or nothing.
pub const SECTOR_BYTES: usize = 512;
/// Unit of room.
pub const PAGE_BYTES: usize = 4096;
const SECTOR: u64 = SECTOR_BYTES as u64;
const PAGE: u64 = PAGE_BYTES as u64;

type Sector = [u8; SECTOR_BYTES];

/// Bytes of which most are zero.
#[derive(Debug, Clone, Default)]
struct Sparse(BTreeMap<u64, Box<[u8]>>);

impl Sparse {
    fn read(&self, at: u64, into: &mut [u8]) {
        let mut done = 0;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let (page, within) = place(at + done as u64);
            let len = rest.len().min(PAGE_BYTES - within);
            let target = rest.get_mut(..len).unwrap_or_default();
            match self
                .0
                .get(&page)
                .and_then(|page| page.get(within..within + len))
            {
                Some(bytes) => target.copy_from_slice(bytes),
                None => target.fill(0),
            }
            done += len;
        }
    }

    fn write(&mut self, at: u64, bytes: &[u8]) {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            let (page, within) = place(at + done as u64);
            let len = rest.len().min(PAGE_BYTES - within);
            let page = self
                .0
                .entry(page)
                .or_insert_with(|| vec![0; PAGE_BYTES].into_boxed_slice());
            if let (Some(target), Some(source)) =
                (page.get_mut(within..within + len), rest.get(..len))
            {
                target.copy_from_slice(source);
            }
            done += len;
        }
    }

    fn sector(&self, number: u64) -> Sector {
        let mut sector = [0; SECTOR_BYTES];
        self.read(number * SECTOR, &mut sector);
        sector
    }

    fn set_sector(&mut self, number: u64, sector: &Sector) {
        self.write(number * SECTOR, sector);
    }
}

fn place(at: u64) -> (u64, usize) {
    (at / PAGE, usize::try_from(at % PAGE).unwrap_or(0))
}

/// A sync on its way.
#[derive(Debug, Clone)]
struct Flight {
    sectors: BTreeMap<u64, Sector>,
    len: u64,
    since_us: Option<u64>,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Image {
    cache: Sparse,
    medium: Sparse,
    len: u64,
    medium_len: u64,
    marked: BTreeSet<u64>,
    /// When the oldest marked sector was written.
    marked_since_us: Option<u64>,
    flights: BTreeMap<u64, Flight>,
    /// The newest sync that has ended.
    ended: u64,
    reserved: u64,
}

impl Image {
    /// Length as a process sees it.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether a process sees no bytes.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Pages that the file takes.
    pub fn pages(&self) -> u64 {
        (self.cache.0.len() as u64).max(self.reserved)
    }

    /// Pages that a write would take beyond those.
    pub fn pages_missing(&self, at: u64, bytes: u64) -> u64 {
        if bytes == 0 || (at + bytes).div_ceil(PAGE) <= self.reserved {
            return 0;
        }
        let pages = at / PAGE..=(at + bytes - 1) / PAGE;
        pages
            .filter(|page| !self.cache.0.contains_key(page))
            .count() as u64
    }

    /// Since when something waits for a sync, in the caller's microseconds.
    pub fn unsynced_since_us(&self) -> Option<u64> {
        let flights = self.flights.values().filter_map(|flight| flight.since_us);
        flights.chain(self.marked_since_us).min()
    }

    /// Whether a sync has bytes to bring over.
    pub fn is_unsynced(&self) -> bool {
        !self.marked.is_empty()
            || self
                .flights
                .values()
                .any(|flight| !flight.sectors.is_empty())
    }

    /// At most `bytes` from `at`, fewer at the end.
    pub fn read(&self, at: u64, bytes: usize) -> Vec<u8> {
        let left = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX);
        let mut into = vec![0; bytes.min(left)];
        self.cache.read(at, &mut into);
        into
    }

    /// Writes and lengthens.
    pub fn write(&mut self, at: u64, bytes: &[u8], now_us: u64) {
        if bytes.is_empty() {
            return;
        }
        let end = at + bytes.len() as u64;
        self.cache.write(at, bytes);
        self.mark(at / SECTOR..=(end - 1) / SECTOR, now_us);
        self.len = self.len.max(end);
    }

    /// Makes `from..to` zero; does not lengthen.
    pub fn zero(&mut self, from: u64, to: u64, now_us: u64) {
        let to = to.min(self.len);
        let mut at = from;
        while at < to {
            let (page, _) = place(at);
            let end = to.min((page + 1) * PAGE);
            let flying = |flight: &Flight| {
                let sectors = page * PAGE / SECTOR..(page + 1) * PAGE / SECTOR;
                flight.sectors.range(sectors).next().is_some()
            };
            if self.cache.0.contains_key(&page)
                || self.medium.0.contains_key(&page)
                || self.flights.values().any(flying)
            {
                let len = usize::try_from(end - at).unwrap_or(0);
                let zeros = [0; PAGE_BYTES];
                self.cache.write(at, zeros.get(..len).unwrap_or_default());
                self.mark(at / SECTOR..=(end - 1) / SECTOR, now_us);
            }
            at = end;
        }
    }

    /// Reserves room up to `end` and lengthens.
    pub fn reserve(&mut self, end: u64) {
        self.reserved = self.reserved.max(end.div_ceil(PAGE));
        self.len = self.len.max(end);
    }

    /// Changes the length.
    pub fn set_len(&mut self, len: u64, now_us: u64) {
        if len < self.len {
            self.zero(len, self.len, now_us);
            let kept = len.div_ceil(PAGE);
            self.reserved = self.reserved.min(kept);
        }
        self.len = len;
    }

    fn mark(&mut self, sectors: std::ops::RangeInclusive<u64>, now_us: u64) {
        self.marked.extend(sectors);
        self.marked_since_us.get_or_insert(now_us);
    }

    /// Sync `id` begins; ids rise. It also waits for what earlier syncs have on their way.
    pub fn sync_begin(&mut self, id: u64) {
        let mut sectors = std::mem::take(&mut self.marked);
        let since_us = self.unsynced_since_us();
        self.marked_since_us = None;
        for flight in self.flights.values() {
            sectors.extend(flight.sectors.keys());
        }
        let sectors = sectors
            .into_iter()
            .map(|number| (number, self.cache.sector(number)))
            .collect();
        let flight = Flight {
            sectors,
            len: self.len,
            since_us,
        };
        self.flights.insert(id, flight);
    }

    /// Sync `id` ends well: what it took is on the medium.
    pub fn sync_end(&mut self, id: u64) {
        let Some(flight) = self.flights.remove(&id) else {
            return;
        };
        for (number, sector) in &flight.sectors {
            self.medium.set_sector(*number, sector);
        }
        // Older syncs took the same sectors as they were before; those are overtaken.
        for (_, older) in self.flights.range_mut(..id) {
            older
                .sectors
                .retain(|number, _| !flight.sectors.contains_key(number));
            older.since_us = None;
        }
        if id > self.ended {
            self.ended = id;
            self.medium_len = flight.len;
        }
    }

    /// Sync `id` fails: some of what it took is on the medium, the rest is forgotten and no later sync brings it.
    pub fn sync_fail(&mut self, id: u64, dice: &mut Dice) {
        let Some(flight) = self.flights.remove(&id) else {
            return;
        };
        let survival = Survival::of(flight.sectors.len(), dice);
        for (at, (number, sector)) in flight.sectors.iter().enumerate() {
            let waits = self.marked.contains(number)
                || self
                    .flights
                    .values()
                    .any(|other| other.sectors.contains_key(number));
            if survival.keeps(at, dice) {
                self.medium.set_sector(*number, sector);
            } else if !waits {
                let old = self.medium.sector(*number);
                self.cache.set_sector(*number, &old);
            }
        }
        self.medium_len = flight.len.max(self.medium_len);
    }

    /// The file after a power cut: of what no sync brought over, any subset.
    #[must_use]
    pub fn after_cut(&self, dice: &mut Dice) -> Self {
        let mut medium = self.medium.clone();
        for flight in self.flights.values() {
            let survival = Survival::of(flight.sectors.len(), dice);
            for (at, (number, sector)) in flight.sectors.iter().enumerate() {
                if survival.keeps(at, dice) {
                    medium.set_sector(*number, sector);
                }
            }
        }
        let survival = Survival::of(self.marked.len(), dice);
        for (at, number) in self.marked.iter().enumerate() {
            if survival.keeps(at, dice) {
                medium.set_sector(*number, &self.cache.sector(*number));
            }
        }
        let len = if dice.once_in(2) {
            self.len
        } else {
            self.medium_len
        };
        // What lies beyond the length is not part of the file and comes back as zero when it grows.
        let mut after = Self {
            cache: medium.clone(),
            medium,
            len: u64::MAX,
            medium_len: len,
            reserved: self.reserved.min(len.div_ceil(PAGE)),
            ..Self::default()
        };
        let held = after
            .cache
            .0
            .keys()
            .next_back()
            .map_or(0, |page| (page + 1) * PAGE);
        after.zero(len, held, 0);
        after.marked.clear();
        after.marked_since_us = None;
        after.medium = after.cache.clone();
        after.len = len;
        after
    }
}

#[cfg(test)]
mod tests;

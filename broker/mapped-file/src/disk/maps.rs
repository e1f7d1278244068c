//! The map through which a file is read, and how a part of it is taken away from readers.
//!
//! A map never changes: one that shows less takes its place, and readers who had been lent the old one keep it. So whoever
//! takes a lease asks the map that he holds, and whoever writes over bytes that were shown knows that nobody looks at them when
//! every map that shows them is gone.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Weak};

use arc_swap::{ArcSwapOption, Guard};
use memmap2::Mmap;
use parking_lot::Mutex;

/// A read-only map; its bytes may be looked at only where it shows them, and below the published position of its segment.
pub(super) struct Map {
    bytes: Mmap,
    withheld: Range<usize>,
}

impl Map {
    fn of(file: &File, withheld: Range<usize>) -> io::Result<Self> {
        // SAFETY: the file has its full length and is never shortened; the folder's lock keeps other processes away.
        // Bytes of the map are read only where it shows them and below the published position. There `write_at` and `zero`
        // refuse to write, and `replace_at` writes only when every map that shows the place is gone.
        let bytes = unsafe { Mmap::map(file) }?;
        // As for reads of the file (`read_as_asked`), whose advice a fault does not look at. Else one that meets the page that is
        // being written may fill what is reserved behind the log with megabytes of zeros, and goes on so. A hint.
        let _ = bytes.advise(memmap2::Advice::Random);
        Ok(Self { bytes, withheld })
    }

    /// Whether it shows all of these bytes.
    pub(super) fn shows(&self, offset: usize, len: usize) -> bool {
        let end = offset.saturating_add(len);
        end <= self.bytes.len() && (end <= self.withheld.start || self.withheld.end <= offset)
    }

    fn withholds(&self, range: &Range<usize>) -> bool {
        self.withheld.start <= range.start && range.end <= self.withheld.end
    }

    /// The caller has checked that the map shows them, and that they lie below the published position of its segment.
    pub(super) fn published_bytes(&self, offset: usize, len: usize) -> &[u8] {
        let start = self.bytes.as_ptr();
        // SAFETY: the callers checked that `offset + len` lies below the published position and so within the map.
        let first = unsafe { start.add(offset) };
        // SAFETY: these bytes are mapped as long as `self` lives, which the result borrows, and being published and shown
        // they do not change as long as it does. No reference to other bytes of the map is made, so none covers bytes that
        // still change.
        unsafe { std::slice::from_raw_parts(first, len) }
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Maps {
    current: ArcSwapOption<Map>,
    /// Maps that had their time and may be lent still. Held while the current one changes.
    former: Mutex<Vec<Weak<Map>>>,
}

impl Maps {
    /// The map of today; there is one.
    pub(super) fn current<'a>(
        &self,
        file: impl FnOnce() -> io::Result<&'a File>,
    ) -> io::Result<Guard<Option<Arc<Map>>>> {
        let current = self.current.load();
        if current.is_some() {
            return Ok(current);
        }
        let _changing = self.former.lock();
        if self.current.load().is_none() {
            self.current.store(Some(Arc::new(Map::of(file()?, 0..0)?)));
        }
        Ok(self.current.load())
    }

    /// Shows `range` to nobody any more.
    ///
    /// # Errors
    /// `WouldBlock` while somebody looks at a part of it whom it was shown before.
    pub(super) fn withhold(&self, file: &File, range: Range<usize>) -> io::Result<()> {
        let mut former = self.former.lock();
        let current = self.current.load_full();
        if !current.is_some_and(|map| map.withholds(&range)) {
            self.change(&mut former, Map::of(file, range.clone())?);
        }
        former.retain(|map| map.strong_count() > 0);
        let is_shown = |map: &Weak<Map>| map.upgrade().is_some_and(|map| !map.withholds(&range));
        if former.iter().any(is_shown) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // What those read who had them came before what is written next.
        fence(Ordering::Acquire);
        Ok(())
    }

    /// Shows everything.
    pub(super) fn show_all(&self, file: &File) -> io::Result<()> {
        let mut former = self.former.lock();
        let current = self.current.load_full();
        if current.is_some_and(|map| !map.withheld.is_empty()) {
            self.change(&mut former, Map::of(file, 0..0)?);
        }
        Ok(())
    }

    fn change(&self, former: &mut Vec<Weak<Map>>, map: Map) {
        // Whoever is just looking at the old one holds it from here on, so it is counted below.
        let old = self.current.swap(Some(Arc::new(map)));
        former.extend(old.as_ref().map(Arc::downgrade));
    }
}

//! A process that is killed, or a machine that loses power, in the middle of what it does: before one of the changes that it
//! makes to its disk. What the process would have done afterwards is forgotten.
//!
//! The process runs on all the same, over a disk that nobody will see again: what there was at the moment of the crash is
//! taken when the fuse burns down, by whoever knows what belongs to it.

use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::MemoryDirectory;
use crate::segment::{Directory, Entry, Lock, Pace, Segment, SegmentOptions, Space};

/// A change of a small file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// It is removed.
    Remove(&'a str),
    /// It is replaced.
    Replace(&'a str),
}

type Freeze<E, F> = Box<dyn FnMut(&MemoryDirectory, E) -> F + Send>;
type Lies = Arc<dyn Fn(Change<'_>) -> bool + Send + Sync>;

struct State<E, F> {
    left: Option<(u64, E)>,
    freeze: Option<Freeze<E, F>>,
    frozen: Option<F>,
}

/// A folder whose process may come to a sudden end. `E` says which end, `F` is what there was then. Clones share it.
pub struct FusedDirectory<E, F> {
    dir: MemoryDirectory,
    state: Arc<Mutex<State<E, F>>>,
    lies: Option<Lies>,
}

impl<E, F> Clone for FusedDirectory<E, F> {
    fn clone(&self) -> Self {
        Self {
            dir: self.dir.clone(),
            state: Arc::clone(&self.state),
            lies: self.lies.clone(),
        }
    }
}

impl<E: Copy + Send + 'static, F: Send + 'static> FusedDirectory<E, F> {
    /// `dir`, and nothing is to happen yet.
    pub fn new(dir: MemoryDirectory) -> Self {
        let state = State {
            left: None,
            freeze: None,
            frozen: None,
        };
        Self {
            dir,
            state: Arc::new(Mutex::new(state)),
            lies: None,
        }
    }

    /// The same, of a disk that says of the changes that `lies` names that they are done, and does not do them.
    #[must_use]
    pub fn lying(mut self, lies: impl Fn(Change<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.lies = Some(Arc::new(lies));
        self
    }

    /// Says how to take what there is at a moment. It is called at most once, and must not come back here.
    pub fn freeze_by(&self, freeze: impl FnMut(&MemoryDirectory, E) -> F + Send + 'static) {
        self.state.lock().freeze = Some(Box::new(freeze));
    }

    /// The process ends before the change after `left` more.
    pub fn light(&self, left: u64, end: E) {
        self.state.lock().left = Some((left, end));
    }

    /// What there was when the fuse burnt down, if it did.
    pub fn take_frozen(&self) -> Option<F> {
        self.state.lock().frozen.take()
    }

    /// Nothing burns any more.
    pub fn put_out(&self) {
        self.state.lock().left = None;
    }

    /// Nothing is watched any more: what watched may know who has this folder, and neither would ever be dropped.
    pub fn forget(&self) {
        let mut state = self.state.lock();
        (state.left, state.freeze) = (None, None);
    }

    /// The folder itself.
    pub fn memory(&self) -> &MemoryDirectory {
        &self.dir
    }

    fn burn(&self) {
        let end = {
            let mut state = self.state.lock();
            match &mut state.left {
                Some((0, end)) => *end,
                Some((left, _)) => {
                    *left -= 1;
                    return;
                }
                None => return,
            }
        };
        // Taken out, since freezing looks at the directory and may not come back here with the lock held.
        let freeze = {
            let mut state = self.state.lock();
            state.left = None;
            state.freeze.take()
        };
        if let Some(mut freeze) = freeze {
            let frozen = freeze(&self.dir, end);
            self.state.lock().frozen = Some(frozen);
        }
    }

    fn lies_of(&self, change: Change<'_>) -> bool {
        self.lies.as_ref().is_some_and(|lies| lies(change))
    }

    fn wrap(&self, segment: Arc<dyn Segment>) -> Arc<dyn Segment> {
        Arc::new(FusedSegment {
            segment,
            dir: self.clone(),
        })
    }
}

impl<E: Copy + Send + 'static, F: Send + 'static> Directory for FusedDirectory<E, F> {
    fn list(&self, folder: &str) -> io::Result<Vec<Entry>> {
        self.dir.list(folder)
    }

    fn create_folder(&self, folder: &str) -> io::Result<()> {
        self.burn();
        self.dir.create_folder(folder)
    }

    fn create(
        &self,
        path: &str,
        len: u64,
        options: SegmentOptions,
    ) -> io::Result<Arc<dyn Segment>> {
        self.burn();
        let made = self.dir.create(path, len, options);
        made.map(|segment| self.wrap(segment))
    }

    fn create_paced(
        &self,
        path: &str,
        len: u64,
        options: SegmentOptions,
        pace: &mut dyn FnMut(u64) -> Pace,
    ) -> io::Result<Arc<dyn Segment>> {
        self.burn();
        let made = self.dir.create_paced(path, len, options, pace);
        made.map(|segment| self.wrap(segment))
    }

    fn open(&self, path: &str, options: SegmentOptions) -> io::Result<Arc<dyn Segment>> {
        let opened = self.dir.open(path, options);
        opened.map(|segment| self.wrap(segment))
    }

    fn open_later(
        &self,
        path: &str,
        len: u64,
        options: SegmentOptions,
    ) -> io::Result<Arc<dyn Segment>> {
        let opened = self.dir.open_later(path, len, options);
        opened.map(|segment| self.wrap(segment))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.burn();
        self.dir.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        if self.lies_of(Change::Remove(path)) {
            return Ok(());
        }
        self.burn();
        self.dir.remove(path)
    }

    fn remove_folder(&self, folder: &str) -> io::Result<()> {
        self.burn();
        self.dir.remove_folder(folder)
    }

    fn sync(&self, folder: &str) -> io::Result<()> {
        self.burn();
        self.dir.sync(folder)
    }

    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        self.dir.read(path)
    }

    fn replace(&self, path: &str, content: &[u8]) -> io::Result<()> {
        if self.lies_of(Change::Replace(path)) {
            return Ok(());
        }
        self.burn();
        self.dir.replace(path, content)
    }

    fn space(&self) -> io::Result<Space> {
        self.dir.space()
    }

    fn lock(&self, path: &str) -> io::Result<Box<dyn Lock>> {
        self.dir.lock(path)
    }
}

struct FusedSegment<E, F> {
    segment: Arc<dyn Segment>,
    dir: FusedDirectory<E, F>,
}

impl<E: Copy + Send + 'static, F: Send + 'static> Segment for FusedSegment<E, F> {
    fn len(&self) -> u64 {
        self.segment.len()
    }

    fn write_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        self.dir.burn();
        self.segment.write_at(offset, parts)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.segment.read_at(offset, into)
    }

    fn replace_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.dir.burn();
        self.segment.replace_at(offset, bytes)
    }

    fn show_all(&self) -> io::Result<()> {
        self.segment.show_all()
    }

    fn zero(&self, from: u64, to: u64) -> io::Result<()> {
        self.dir.burn();
        self.segment.zero(from, to)
    }

    fn publish(&self, end: u64) {
        self.segment.publish(end);
    }

    fn published(&self) -> u64 {
        self.segment.published()
    }

    fn lease(&self, offset: u64, len: usize) -> io::Result<Option<Bytes>> {
        self.segment.lease(offset, len)
    }

    fn flush(&self, lane: usize) -> io::Result<()> {
        self.dir.burn();
        self.segment.flush(lane)
    }

    fn forget_cache(&self) -> io::Result<()> {
        self.segment.forget_cache()
    }

    fn is_named(&self) -> io::Result<bool> {
        self.segment.is_named()
    }

    fn ready_to_write(&self) -> io::Result<()> {
        self.segment.ready_to_write()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_ends_before_the_change_that_is_named_and_nothing_after_it_is_seen() {
        let fused = FusedDirectory::new(MemoryDirectory::default());
        fused.freeze_by(|dir, seed: Option<u64>| match seed {
            Some(seed) => dir.crashed(seed),
            None => dir.killed(),
        });
        fused.light(2, None);
        for name in ["a", "b", "c", "d"] {
            fused.replace(name, b"x").unwrap();
        }
        let left = fused.take_frozen().unwrap();
        let is_there = |name| left.read(name).unwrap().is_some();
        assert_eq!(
            ["a", "b", "c", "d"].map(is_there),
            [true, true, false, false]
        );
        assert!(fused.take_frozen().is_none(), "once");
    }

    #[test]
    fn lying_disk_does_nothing_of_what_it_says() {
        let fused = FusedDirectory::<(), ()>::new(MemoryDirectory::default());
        let fused = fused.lying(|change| change == Change::Replace("a"));
        fused.replace("a", b"x").unwrap();
        fused.replace("b", b"x").unwrap();
        fused.remove("b").unwrap();
        assert_eq!(fused.read("a").unwrap(), None);
        assert_eq!(fused.read("b").unwrap(), None);
    }
}

//! A process that is killed, or a machine that loses power, in the middle of a step: before one of the changes that the step
//! makes to its disk. What the process would have done afterwards is forgotten.
//!
//! The step runs to its end all the same, over a disk that nobody will see again: what there was at the moment of the crash
//! is taken when the fuse burns down.

use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rocket_ha::News;
use rocket_ha::memory::{Image, Request, Told, Wish};
use rocket_mapped_file::memory::MemoryDirectory;
use rocket_mapped_file::{Directory, Entry, Lock, Pace, Segment, SegmentOptions, Space};
use rocket_replication::mutations::{Mutant, Mutations};

/// How a process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// The page cache stays.
    Kill,
    /// Of what was not flushed a part stays that this number decides.
    Power(u64),
}

impl End {
    /// What is left for the next process.
    pub(crate) fn left_of(self, dir: &MemoryDirectory, image: Image) -> (MemoryDirectory, Image) {
        match self {
            Self::Kill => (dir.killed(), image),
            Self::Power(seed) => (dir.crashed(seed), cut_by_power(image, seed)),
        }
    }
}

/// Whole records of what was not flushed stay, up to one that the seed decides.
fn cut_by_power(image: Image, seed: u64) -> Image {
    let unflushed = image.end().saturating_sub(image.durable);
    // All, none, or some.
    let kept = match seed % 4 {
        0 => 0,
        1 => unflushed,
        _ => (seed / 4) % (unflushed + 1),
    };
    let end = image.durable + kept;
    image.crashed(end)
}

/// What there was at the moment of the crash.
pub(crate) struct Frozen {
    pub(crate) end: End,
    pub(crate) dir: MemoryDirectory,
    pub(crate) image: Image,
    pub(crate) wishes: Vec<Wish>,
    /// On its way to the coordinator.
    pub(crate) request: Option<Request>,
    pub(crate) told: Vec<(u64, Told)>,
    /// What the process had let its store take for committed.
    pub(crate) committed: u64,
    /// What it had told and nobody had looked at.
    pub(crate) news: Vec<News>,
}

impl Frozen {
    /// A process that had not begun to talk to anybody.
    pub(crate) fn of_start(
        dir: &MemoryDirectory,
        image: Image,
        end: End,
        news: Vec<News>,
    ) -> Self {
        let (dir, image) = end.left_of(dir, image);
        Self {
            end,
            dir,
            image,
            wishes: Vec::new(),
            request: None,
            told: Vec::new(),
            committed: 0,
            news,
        }
    }
}

type Freeze = Box<dyn FnMut(&MemoryDirectory, End) -> Frozen + Send>;

struct State {
    left: Option<(u64, End)>,
    freeze: Option<Freeze>,
    frozen: Option<Frozen>,
}

/// A folder whose process may come to a sudden end.
#[derive(Clone)]
pub(crate) struct FusedDirectory {
    dir: MemoryDirectory,
    state: Arc<Mutex<State>>,
    mutations: Mutations,
}

impl FusedDirectory {
    pub(crate) fn new(dir: MemoryDirectory, mutations: Mutations) -> Self {
        let state = State {
            left: None,
            freeze: None,
            frozen: None,
        };
        Self {
            dir,
            state: Arc::new(Mutex::new(state)),
            mutations,
        }
    }

    /// Says how to see what there is at a moment.
    pub(crate) fn freeze_by(
        &self,
        freeze: impl FnMut(&MemoryDirectory, End) -> Frozen + Send + 'static,
    ) {
        self.state.lock().freeze = Some(Box::new(freeze));
    }

    /// The process ends before the change after `left` more.
    pub(crate) fn light(&self, left: u64, end: End) {
        self.state.lock().left = Some((left, end));
    }

    /// What there was when the fuse burnt down, if it did.
    pub(crate) fn take_frozen(&self) -> Option<Frozen> {
        self.state.lock().frozen.take()
    }

    /// Nothing burns any more.
    pub(crate) fn put_out(&self) {
        self.state.lock().left = None;
    }

    /// Nothing is watched any more: what watched knows the log, which knows this folder, and neither would ever be dropped.
    pub(crate) fn forget(&self) {
        let mut state = self.state.lock();
        (state.left, state.freeze) = (None, None);
    }

    pub(crate) fn memory(&self) -> &MemoryDirectory {
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

    fn wrap(&self, segment: Arc<dyn Segment>) -> Arc<dyn Segment> {
        Arc::new(FusedSegment {
            segment,
            dir: self.clone(),
        })
    }
}

impl Directory for FusedDirectory {
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
        self.dir
            .create(path, len, options)
            .map(|segment| self.wrap(segment))
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
        self.dir
            .open(path, options)
            .map(|segment| self.wrap(segment))
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
        if path.ends_with("replica/clean") && self.mutations.has(Mutant::M29) {
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
        if path.ends_with("replica/cut") && self.mutations.has(Mutant::M14) {
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

struct FusedSegment {
    segment: Arc<dyn Segment>,
    dir: FusedDirectory,
}

impl Segment for FusedSegment {
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

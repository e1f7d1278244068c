//! A machine that loses power, or a process that is killed, in the middle of a step: before one of the writes to the small files.
//! What the process would have done afterwards is forgotten.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use rocket_ha::News;
use rocket_ha::memory::{Image, Told, Wish};
use rocket_mapped_file::memory::MemoryDirectory;
use rocket_mapped_file::{Directory, Entry, Lock, Segment, SegmentOptions, Space};

use crate::world::End;

/// What there was at the moment of the crash.
pub(crate) struct Frozen {
    pub(crate) dir: MemoryDirectory,
    pub(crate) image: Image,
    pub(crate) wishes: Vec<Wish>,
    pub(crate) told: Vec<(u64, Told)>,
    pub(crate) news: Vec<News>,
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
}

impl FusedDirectory {
    pub(crate) fn new(dir: MemoryDirectory) -> Self {
        let state = State {
            left: None,
            freeze: None,
            frozen: None,
        };
        Self {
            dir,
            state: Arc::new(Mutex::new(state)),
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

    pub(crate) fn take_frozen(&self) -> Option<Frozen> {
        self.state.lock().frozen.take()
    }

    pub(crate) fn memory(&self) -> &MemoryDirectory {
        &self.dir
    }

    fn burn(&self) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        match &mut state.left {
            Some((0, end)) => {
                let freeze = state.freeze.as_mut();
                state.frozen = freeze.map(|freeze| freeze(&self.dir, *end));
                state.left = None;
            }
            Some((left, _)) => *left -= 1,
            None => {}
        }
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
        self.dir.create(path, len, options)
    }

    fn open(&self, path: &str, options: SegmentOptions) -> io::Result<Arc<dyn Segment>> {
        self.dir.open(path, options)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.burn();
        self.dir.remove(path)
    }

    fn remove_folder(&self, folder: &str) -> io::Result<()> {
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

//! The disk in memory with something between it and the store.

use std::io;
use std::sync::Arc;

use rocket_mapped_file::memory::MemoryDirectory;
use rocket_mapped_file::{Directory, Entry, Lock, Pace, Segment, SegmentOptions, Space};

type May = Arc<dyn Fn(&str) -> io::Result<()> + Send + Sync>;
type Told = Arc<dyn Fn(Space) -> Space + Send + Sync>;
type Begun = Arc<dyn Fn(&str) + Send + Sync>;
type Around = Arc<dyn Fn(&str, Arc<dyn Segment>) -> Arc<dyn Segment> + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Wrapped {
    dir: MemoryDirectory,
    may_open: May,
    may_replace: May,
    told: Told,
    begun: Begun,
    around: Around,
}

impl Wrapped {
    pub(crate) fn new(dir: MemoryDirectory) -> Self {
        Self {
            dir,
            may_open: Arc::new(|_| Ok(())),
            may_replace: Arc::new(|_| Ok(())),
            told: Arc::new(|space| space),
            begun: Arc::new(|_| {}),
            around: Arc::new(|_, segment| segment),
        }
    }

    /// Only such files can be opened.
    pub(crate) fn opening(
        self,
        may_open: impl Fn(&str) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let may_open = Arc::new(may_open);
        Self { may_open, ..self }
    }

    /// Only such small files can be replaced.
    pub(crate) fn replacing(
        self,
        may_replace: impl Fn(&str) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let may_replace = Arc::new(may_replace);
        Self {
            may_replace,
            ..self
        }
    }

    /// Something is around each segment, of this path.
    pub(crate) fn with(
        self,
        around: impl Fn(&str, Arc<dyn Segment>) -> Arc<dyn Segment> + Send + Sync + 'static,
    ) -> Self {
        let around = Arc::new(around);
        Self { around, ..self }
    }

    /// Hears of each file that is made at somebody's pace, when its making has begun.
    pub(crate) fn making(self, begun: impl Fn(&str) + Send + Sync + 'static) -> Self {
        let begun = Arc::new(begun);
        Self { begun, ..self }
    }

    /// The file system tells something else of its room.
    pub(crate) fn telling(self, told: impl Fn(Space) -> Space + Send + Sync + 'static) -> Self {
        let told = Arc::new(told);
        Self { told, ..self }
    }
}

impl Directory for Wrapped {
    fn list(&self, folder: &str) -> io::Result<Vec<Entry>> {
        self.dir.list(folder)
    }
    fn create_folder(&self, folder: &str) -> io::Result<()> {
        self.dir.create_folder(folder)
    }
    fn create(
        &self,
        path: &str,
        len: u64,
        options: SegmentOptions,
    ) -> io::Result<Arc<dyn Segment>> {
        let segment = self.dir.create(path, len, options)?;
        Ok((self.around)(path, segment))
    }
    fn create_paced(
        &self,
        path: &str,
        len: u64,
        options: SegmentOptions,
        pace: &mut dyn FnMut(u64) -> Pace,
    ) -> io::Result<Arc<dyn Segment>> {
        let segment = self.dir.create_paced(path, len, options, &mut |filled| {
            if filled == 0 {
                (self.begun)(path);
            }
            pace(filled)
        })?;
        Ok((self.around)(path, segment))
    }
    fn open(&self, path: &str, options: SegmentOptions) -> io::Result<Arc<dyn Segment>> {
        (self.may_open)(path)?;
        let segment = self.dir.open(path, options)?;
        Ok((self.around)(path, segment))
    }
    fn open_later(
        &self,
        path: &str,
        len: u64,
        options: SegmentOptions,
    ) -> io::Result<Arc<dyn Segment>> {
        let segment = self.dir.open_later(path, len, options)?;
        Ok((self.around)(path, segment))
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        self.dir.remove(path)
    }
    fn remove_folder(&self, folder: &str) -> io::Result<()> {
        self.dir.remove_folder(folder)
    }
    fn sync(&self, folder: &str) -> io::Result<()> {
        self.dir.sync(folder)
    }
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        self.dir.read(path)
    }
    fn replace(&self, path: &str, content: &[u8]) -> io::Result<()> {
        (self.may_replace)(path)?;
        self.dir.replace(path, content)
    }
    fn space(&self) -> io::Result<Space> {
        self.dir.space().map(|space| (self.told)(space))
    }
    fn lock(&self, path: &str) -> io::Result<Box<dyn Lock>> {
        self.dir.lock(path)
    }
}

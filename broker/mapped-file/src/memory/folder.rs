//! The folder of the twin in memory.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::segment::MemorySegment;
use super::{File, Image, MemoryDirectory, Undo, World};
use crate::segment::{
    Directory, Entry, FILL_PIECE_BYTES, Fill, Lock, Pace, Segment, SegmentOptions, Space,
};

impl MemoryDirectory {
    fn file(&self, path: &str) -> io::Result<File> {
        self.world
            .lock()
            .files
            .get(path)
            .cloned()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn segment(&self, path: &str, file: File) -> Arc<dyn Segment> {
        let len = file.lock().cache.len() as u64;
        let segment = MemorySegment::new(Arc::clone(&self.world), split(path).0, Ok(file), len);
        segment.count_open();
        Arc::new(segment)
    }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

impl Directory for MemoryDirectory {
    fn list(&self, folder: &str) -> io::Result<Vec<Entry>> {
        let world = self.world.lock();
        let files = world
            .files
            .iter()
            .filter(|(path, _)| split(path).0 == folder)
            .map(|(path, file)| Entry {
                name: split(path).1.to_owned(),
                is_folder: false,
                len: file.lock().cache.len() as u64,
            });
        let folders = world
            .folders
            .iter()
            .filter(|path| split(path).0 == folder)
            .map(|path| Entry {
                name: split(path).1.to_owned(),
                is_folder: true,
                len: 0,
            });
        let mut list: Vec<Entry> = files.chain(folders).collect();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(list)
    }

    fn create_folder(&self, folder: &str) -> io::Result<()> {
        let mut world = self.world.lock();
        world.change()?;
        let mut path = String::new();
        for part in folder.split('/').filter(|part| !part.is_empty()) {
            if !path.is_empty() {
                path.push('/');
            }
            path.push_str(part);
            world.folders.insert(path.clone());
        }
        Ok(())
    }

    fn create(
        &self,
        path: &str,
        len: u64,
        options: SegmentOptions,
    ) -> io::Result<Arc<dyn Segment>> {
        self.create_paced(path, len, options, &mut |_| Pace::GoOn)
    }

    fn create_paced(
        &self,
        path: &str,
        len: u64,
        options: SegmentOptions,
        pace: &mut dyn FnMut(u64) -> Pace,
    ) -> io::Result<Arc<dyn Segment>> {
        {
            let mut world = self.world.lock();
            world.creates += 1;
            if let Some((at, error)) = world.faults.create_error_at
                && world.creates >= at
            {
                return Err(io::Error::from_raw_os_error(error));
            }
            world.may_create(path, len)?;
        }
        let pieces = if options.fill == Fill::Zeros { len } else { 1 };
        // Nothing is there before all of it is.
        let mut filled = 0;
        while filled < pieces {
            match pace(filled) {
                Pace::GoOn => filled += FILL_PIECE_BYTES,
                Pace::Enough => break,
                Pace::GiveUp => return Err(io::ErrorKind::Interrupted.into()),
            }
        }
        let zeros = vec![0; usize::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?];
        let file = Arc::new(Mutex::new(Image::of(zeros)));
        {
            let mut world = self.world.lock();
            world.may_create(path, len)?;
            world.count_change()?;
            world.files.insert(path.to_owned(), Arc::clone(&file));
            world.changed(split(path).0, Undo::Created(path.to_owned()));
        }
        self.sync(split(path).0)?;
        Ok(self.segment(path, file))
    }

    fn open(&self, path: &str, _: SegmentOptions) -> io::Result<Arc<dyn Segment>> {
        self.world.lock().may_open()?;
        Ok(self.segment(path, self.file(path)?))
    }

    fn open_later(&self, path: &str, len: u64, _: SegmentOptions) -> io::Result<Arc<dyn Segment>> {
        let file = self.file(path).map_err(|error| error.kind());
        let segment = MemorySegment::new(Arc::clone(&self.world), split(path).0, file, len);
        Ok(Arc::new(segment))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.world.lock();
        world.change()?;
        if !world.files.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if world.files.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = world.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        world.files.insert(to.to_owned(), file);
        // Durable on return, and a journal commits in order.
        world
            .unsynced
            .retain(|change| ![from, to].contains(&change.undo.path()));
        for change in &mut world.unsynced {
            change.is_carried = true;
        }
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut world = self.world.lock();
        world.change()?;
        if let Some(file) = world.files.remove(path) {
            world.changed(split(path).0, Undo::Removed(path.to_owned(), file));
        }
        Ok(())
    }

    fn remove_folder(&self, folder: &str) -> io::Result<()> {
        let mut world = self.world.lock();
        world.change()?;
        let below = format!("{folder}/");
        let files: Vec<String> = world
            .files
            .keys()
            .filter(|path| path.starts_with(&below))
            .cloned()
            .collect();
        for path in files {
            if let Some(file) = world.files.remove(&path) {
                world.changed(split(folder).0, Undo::Removed(path, file));
            }
        }
        world
            .folders
            .retain(|path| path != folder && !path.starts_with(&below));
        Ok(())
    }

    fn sync(&self, folder: &str) -> io::Result<()> {
        let mut world = self.world.lock();
        world.count_change()?;
        // A journal commits in order: what was changed before a change that is flushed is flushed with it.
        let last = world
            .unsynced
            .iter()
            .rposition(|change| change.folder == folder);
        let carried = last.map_or(0, |last| last + 1);
        for change in world.unsynced.iter_mut().take(carried) {
            change.is_carried = true;
        }
        world.unsynced.retain(|change| change.folder != folder);
        Ok(())
    }

    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        match self.file(path) {
            Ok(file) => Ok(Some(file.lock().cache.clone())),
            Err(_) => Ok(None),
        }
    }

    fn replace(&self, path: &str, content: &[u8]) -> io::Result<()> {
        let mut world = self.world.lock();
        world.change()?;
        let image = Image::of(content.to_vec());
        world
            .files
            .insert(path.to_owned(), Arc::new(Mutex::new(image)));
        drop(world);
        self.sync(split(path).0)
    }

    fn space(&self) -> io::Result<Space> {
        let world = self.world.lock();
        Ok(Space {
            capacity: world.capacity,
            available: world.capacity.saturating_sub(world.used()),
        })
    }

    fn lock(&self, path: &str) -> io::Result<Box<dyn Lock>> {
        if !self.world.lock().locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(MemoryLock {
            world: Arc::clone(&self.world),
            path: path.to_owned(),
        }))
    }
}

struct MemoryLock {
    world: Arc<Mutex<World>>,
    path: String,
}

impl Lock for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.world.lock().locks.remove(&self.path);
    }
}

//! The disk in memory, with a count of what the log was asked for; and how many calls the messages of a batch share.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;

use bytes::Bytes;
use rocket_mapped_file::memory::MemoryDirectory;
use rocket_mapped_file::{Directory, Entry, Lock, Segment, SegmentOptions, Space};
use rocket_store::{
    Engine, Flush, LocalPolicy, NoEvents, Promise, PutStatus, Step, Store, StoreConfig,
};

use crate::support::{Tell, clock, message};

/// Calls for files of the log.
#[derive(Default)]
struct Calls {
    writes: AtomicU64,
    flushes: AtomicU64,
}

impl Calls {
    fn take(&self) -> (u64, u64) {
        (
            self.writes.swap(0, Ordering::SeqCst),
            self.flushes.swap(0, Ordering::SeqCst),
        )
    }
}

#[derive(Clone, Default)]
struct Counted {
    dir: MemoryDirectory,
    calls: Arc<Calls>,
}

impl Counted {
    fn count(&self, path: &str, segment: Arc<dyn Segment>) -> Arc<dyn Segment> {
        if !path.starts_with("commitlog/") {
            return segment;
        }
        Arc::new(CountedSegment {
            segment,
            calls: Arc::clone(&self.calls),
        })
    }
}

impl Directory for Counted {
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
        Ok(self.count(path, self.dir.create(path, len, options)?))
    }

    fn open(&self, path: &str, options: SegmentOptions) -> io::Result<Arc<dyn Segment>> {
        Ok(self.count(path, self.dir.open(path, options)?))
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
        self.dir.replace(path, content)
    }

    fn space(&self) -> io::Result<Space> {
        self.dir.space()
    }

    fn lock(&self, path: &str) -> io::Result<Box<dyn Lock>> {
        self.dir.lock(path)
    }
}

struct CountedSegment {
    segment: Arc<dyn Segment>,
    calls: Arc<Calls>,
}

impl Segment for CountedSegment {
    fn len(&self) -> u64 {
        self.segment.len()
    }

    fn write_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        self.calls.writes.fetch_add(1, Ordering::SeqCst);
        self.segment.write_at(offset, parts)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.segment.read_at(offset, into)
    }

    fn zero(&self, from: u64, to: u64) -> io::Result<()> {
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
        self.calls.flushes.fetch_add(1, Ordering::SeqCst);
        self.segment.flush(lane)
    }

    fn forget_cache(&self) -> io::Result<()> {
        self.segment.forget_cache()
    }
}

fn config(flush: Flush) -> StoreConfig {
    StoreConfig {
        flush,
        segment_bytes: 1 << 20,
        consume_queue_file_bytes: 2000,
        index_slots: 128,
        index_entries: 512,
        ..StoreConfig::default()
    }
}

#[test]
fn what_was_appended_together_is_one_write_and_one_flush() {
    let dir = Counted::default();
    let (engine, _) = Engine::open(
        config(Flush::Sync),
        Arc::new(dir.clone()),
        clock(1),
        Arc::new(LocalPolicy { flush: Flush::Sync }),
        Arc::new(NoEvents),
    )
    .unwrap();
    dir.calls.take();
    let (tell, told) = channel();
    for together in [1, 64, 1000] {
        for number in 0..together {
            let message = message("t", number % 8, "body", "");
            let taken = engine.append(&[message.as_ref()], Promise::Kept, Tell(tell.clone()));
            assert!(taken.is_ok());
        }
        assert_eq!(engine.write_step(), Step::Worked);
        assert_eq!(engine.write_step(), Step::Idle);
        assert!(
            told.try_recv().is_err(),
            "nobody is answered before the flush"
        );
        assert_eq!(engine.flush_step(0), Step::Worked);
        assert_eq!(engine.flush_step(0), Step::Idle);
        assert_eq!(dir.calls.take(), (1, 1));
        let answered = told
            .try_iter()
            .filter(|outcome| outcome.status == PutStatus::Ok);
        assert_eq!(answered.count(), usize::try_from(together).unwrap());
    }
}

#[test]
fn with_async_flush_the_caller_writes_once_and_has_its_answers_when_it_returns() {
    let dir = Counted::default();
    let flush = Flush::Async;
    let (store, _) = Store::open_in(
        Arc::new(dir.clone()),
        config(flush),
        clock(1),
        Arc::new(LocalPolicy { flush }),
        Arc::new(NoEvents),
    )
    .unwrap();
    let (tell, told) = channel();
    let message = message("t", 0, "body", "");
    dir.calls.take();
    for _ in 0..64 {
        let taken = store.append(&[message.as_ref()], Promise::Kept, Tell(tell.clone()));
        assert!(taken.is_ok());
    }
    assert!(told.try_recv().is_err(), "nothing is written yet");
    store.write_out();
    assert_eq!(told.try_iter().count(), 64);
    assert_eq!(dir.calls.take().0, 1);
    store.write_out();
    assert_eq!(dir.calls.take().0, 0, "nothing waits");
}

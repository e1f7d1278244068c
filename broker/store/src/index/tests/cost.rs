//! What the index writes and reads, counted: the numbers do not vary.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rocket_mapped_file::memory::{Dice, MemoryDirectory};
use rocket_mapped_file::{Directory, Entry, Lock, Segment, SegmentOptions, Space};
use rocket_protocol::UnixMillis;

use super::NEW;
use crate::index::Index;

#[derive(Default)]
struct Counts {
    writes: AtomicU64,
    bytes: AtomicU64,
    /// Pages of 4 KiB that a write touched, each counted once per write: what a device writes at most.
    pages: AtomicU64,
    reads: AtomicU64,
    flushes: AtomicU64,
}

impl Counts {
    fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}

#[derive(Clone)]
struct Counted {
    dir: MemoryDirectory,
    counts: Arc<Counts>,
}

struct CountedSegment {
    segment: Arc<dyn Segment>,
    counts: Arc<Counts>,
}

impl Counted {
    fn wrap(&self, segment: Arc<dyn Segment>) -> Arc<dyn Segment> {
        Arc::new(CountedSegment {
            segment,
            counts: Arc::clone(&self.counts),
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
    fn create(&self, path: &str, len: u64, o: SegmentOptions) -> io::Result<Arc<dyn Segment>> {
        Ok(self.wrap(self.dir.create(path, len, o)?))
    }
    fn open(&self, path: &str, options: SegmentOptions) -> io::Result<Arc<dyn Segment>> {
        Ok(self.wrap(self.dir.open(path, options)?))
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

impl Segment for CountedSegment {
    fn len(&self) -> u64 {
        self.segment.len()
    }
    fn write_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let len = parts.iter().map(|part| part.len() as u64).sum::<u64>();
        Counts::add(&self.counts.writes, 1);
        Counts::add(&self.counts.bytes, len);
        let pages = (offset + len).div_ceil(4096) - offset / 4096;
        Counts::add(&self.counts.pages, pages);
        self.segment.write_at(offset, parts)
    }
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        Counts::add(&self.counts.reads, 1);
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
        Counts::add(&self.counts.flushes, 1);
        self.segment.flush(lane)
    }
    fn forget_cache(&self) -> io::Result<()> {
        self.segment.forget_cache()
    }
}

/// Messages of 1.2 KiB with one key each, a checkpoint for every so many.
const KEYS: u64 = 1_000_000;
const PER_CHECKPOINT: u64 = 10_000;

#[test]
fn a_key_costs_few_bytes_and_a_lookup_few_reads() {
    let counted = Counted {
        dir: MemoryDirectory::default(),
        counts: Arc::default(),
    };
    // A sixteenth of the keys per table, so that runs of the second level come up; hashes lie further apart then, which
    // costs a byte more per key.
    let (index, _) = Index::open_with(Arc::new(counted.clone()), NEW, 1 << 13, 32).unwrap();
    let mut dice = Dice::new(1);
    let mut last = 0;
    for number in 0..KEYS {
        last = i32::try_from(dice.roll() >> 33).unwrap();
        let time = UnixMillis(i64::try_from(number / 40).unwrap());
        index.lock().add(last, number * 1200, time);
        if number % 1000 == 999 {
            while index.step(u64::MAX, 0).unwrap() {}
        }
        if number % PER_CHECKPOINT == PER_CHECKPOINT - 1 {
            index.save((number + 1) * 1200).unwrap();
            index.take_unflushed();
        }
    }
    let counts = &counted.counts;
    let per_key = |count: u64| count * 100 / KEYS;
    let (bytes, pages) = (
        per_key(Counts::get(&counts.bytes)),
        per_key(Counts::get(&counts.pages) * 4096),
    );
    let (writes, flushes) = (Counts::get(&counts.writes), Counts::get(&counts.flushes));
    let runs = index.lock().runs.len() as u64;
    let reads = Counts::get(&counts.reads);
    let mut found = 0;
    index
        .lookup(last, 0, i64::MAX, |_| {
            found += 1;
            true
        })
        .unwrap();
    let reads = Counts::get(&counts.reads) - reads;
    println!(
        "per key {} B written, {} B in pages; {writes} writes, {flushes} flushes; {runs} runs, {reads} reads in a lookup",
        bytes / 100,
        pages / 100
    );
    assert_eq!(found, 1);
    assert!(bytes <= 2200 && pages <= 2500, "{bytes} {pages}");
    assert!(writes <= KEYS / 1000, "{writes}");
    assert!(runs <= 2 * 31 + 3 && reads <= runs * 3, "{runs} {reads}");
}

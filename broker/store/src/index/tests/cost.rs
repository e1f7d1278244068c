//! What the index writes and reads, counted: the numbers do not vary.

use std::sync::Arc;

use rocket_mapped_file::memory::{Dice, MemoryDirectory};
use rocket_protocol::UnixMillis;

use super::NEW;
use crate::index::Index;

/// Messages of 1.2 KiB with one key each, a checkpoint for every so many.
const KEYS: u64 = 1_000_000;
const PER_CHECKPOINT: u64 = 10_000;

#[test]
fn a_key_costs_few_bytes_and_a_lookup_few_reads() {
    let dir = MemoryDirectory::default();
    // A sixteenth of the keys per table, so that runs of the second level come up; hashes lie further apart then, which
    // costs a byte more per key.
    let (index, _) = Index::open_with(Arc::new(dir.clone()), NEW, 1 << 13, 32).unwrap();
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
    let counts = dir.counts();
    let per_key = |count: u64| count * 100 / KEYS;
    let (bytes, pages) = (
        per_key(counts.bytes_written),
        per_key(counts.pages_written * 4096),
    );
    let (writes, flushes) = (counts.writes, counts.flushes);
    let runs = index.lock().runs.len() as u64;
    let mut found = 0;
    index
        .lookup(last, 0, i64::MAX, |_| {
            found += 1;
            true
        })
        .unwrap();
    let reads = dir.counts().reads - counts.reads;
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

//! The files of the queues as the fuzzer makes them; see [`crate::fuzzing`].
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a finding is a panic"
)]

use std::sync::Arc;

use rocket_mapped_file::Directory;
use rocket_mapped_file::memory::MemoryDirectory;

use super::extent::HEAD;
use super::{Queues, Secured};
use crate::config::QueueLogConfig;
use crate::deleted::Deleted;
use crate::fuzzing::part;
use crate::unit::UNIT;

const LOG_END: u64 = 1 << 20;

/// A table, a journal and the extents that they may name, all dressed; opened, and every queue read from both ends.
pub(crate) fn queues(data: &[u8]) {
    let mut data = data;
    let (table, journal, mut extents) = (part(&mut data), part(&mut data), data);
    let dir = MemoryDirectory::default();
    let units = units(&mut extents);
    let name = |number: u64, suffix: &str| format!("{}/{number:020}.{suffix}", super::FOLDER);
    dir.replace(&name(0, "units"), &units).unwrap();
    let end = units.len() as u64;
    dir.replace(&name(1, "table"), &dressed_table(table, end))
        .unwrap();
    dir.replace(&name(0, "journal"), &dressed_journal(journal))
        .unwrap();
    let dir: Arc<dyn Directory> = Arc::new(dir);
    let deleted = Deleted::open(Arc::clone(&dir)).unwrap();
    let secured = Some(Secured {
        log_min: 0,
        dispatched: LOG_END,
    });
    let config = QueueLogConfig {
        file_bytes: 4096,
        journal_bytes: 700,
        extent_units: 4,
        table_units: 24,
    };
    let Ok((queues, Some(_))) = Queues::open(dir, config, secured, &deleted) else {
        return;
    };
    for queue in queues.all() {
        let (min, max) = queue.range();
        for index in [min, min.midpoint(max), max.saturating_sub(1), max] {
            let mut units = Vec::new();
            let _ = queue.get(index);
            let _ = queue.read(index, 8, &mut units);
            assert!(units.len() <= 8);
        }
    }
    let _ = queues.remove_before(LOG_END / 2);
}

fn dressed_table(entries: &[u8], units_end: u64) -> Vec<u8> {
    let mut table = b"RKT1\0\0\0\0".to_vec();
    for field in [1, 0, LOG_END, units_end, 0] {
        table.extend_from_slice(&u64::to_be_bytes(field));
    }
    table.extend_from_slice(&[0, 0, 1, 0, 0, 0, 0, 0]);
    table.extend_from_slice(&(entries.len() as u64).to_be_bytes());
    table.extend_from_slice(&crc32fast::hash(entries).to_be_bytes());
    table.resize(512, 0);
    let crc = crc32fast::hash(&table[8..80]).to_be_bytes();
    table[4..8].copy_from_slice(&crc);
    table.extend_from_slice(entries);
    table
}

fn dressed_journal(entries: &[u8]) -> Vec<u8> {
    let mut frame = b"RKJ1\0\0\0\0".to_vec();
    frame.extend_from_slice(&u32::try_from(entries.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    for field in [0, 0, LOG_END] {
        frame.extend_from_slice(&u64::to_be_bytes(field));
    }
    frame.extend_from_slice(entries);
    let crc = crc32fast::hash(&frame[8..]).to_be_bytes();
    frame[4..8].copy_from_slice(&crc);
    frame
}

/// A file of extents: from each 61 bytes of the input one whose checksums fit, with the units that its head asks for as far as
/// they are small.
fn units(data: &mut &[u8]) -> Vec<u8> {
    let mut file = b"RKU1\0\0\0\0".to_vec();
    file.extend_from_slice(&[0; 16]);
    let crc = crc32fast::hash(&file[8..24]).to_be_bytes();
    file[4..8].copy_from_slice(&crc);
    file.resize(64, 0);
    while let Some((head, rest)) = data.split_first_chunk::<61>()
        && file.len() < 3000
    {
        *data = rest;
        let (&count, fields) = head.split_first().unwrap();
        let units = vec![count; usize::from(count % 8) * UNIT];
        let mut extent = b"RKX1\0\0\0\0".to_vec();
        extent.extend_from_slice(&crc32fast::hash(&units).to_be_bytes());
        extent.extend_from_slice(fields);
        extent[24..28].copy_from_slice(&u32::from(count % 8).to_be_bytes());
        assert_eq!(extent.len(), HEAD);
        let crc = crc32fast::hash(&extent[8..]).to_be_bytes();
        extent[4..8].copy_from_slice(&crc);
        file.extend_from_slice(&extent);
        file.extend_from_slice(&units);
    }
    file
}

//! The next log file is made beside the work, and how a log of written zeros is written.

use std::sync::Arc;
use std::sync::mpsc::channel;

use rocket_mapped_file::memory::MemoryDirectory;
use rocket_store::{
    Engine, Flush, LocalPolicy, NoEvents, Preallocate, Promise, PutStatus, StoreConfig,
};

use crate::support::{Tell, clock, message_of, small};
use crate::wrapped::Wrapped;

const MIB: u64 = 1 << 20;

fn open(dir: &MemoryDirectory, segment_bytes: u64, preallocate: Preallocate) -> Engine<Tell> {
    open_on(Wrapped::new(dir.clone()), segment_bytes, preallocate)
}

fn open_on(disk: Wrapped, segment_bytes: u64, preallocate: Preallocate) -> Engine<Tell> {
    let config = StoreConfig {
        segment_bytes,
        preallocate,
        // A file is never done in time.
        prepare_bytes_per_second: 1,
        ..small("unused".as_ref())
    };
    let opened = Engine::open(
        config,
        Arc::new(disk),
        clock(1_800_000_000_000),
        Arc::new(LocalPolicy { flush: Flush::Sync }),
        Arc::new(NoEvents),
    );
    opened.unwrap().0
}

fn send(engine: &Engine<Tell>, body: usize) {
    let (tell, told) = channel();
    let message = message_of("t", 0, body);
    engine
        .append(&[message.as_ref()], Promise::Kept, Tell(tell))
        .map_err(|_| "refused")
        .unwrap();
    engine.write_step();
    engine.flush_step(0);
    assert_eq!(told.recv().unwrap().status, PutStatus::Ok);
}

#[test]
fn nobody_who_sends_waits_for_a_file_to_be_filled() {
    let dir = MemoryDirectory::default();
    let (begun, begins) = channel();
    let disk = Wrapped::new(dir.clone()).making(move |_| {
        let _ = begun.send(());
    });
    let engine = open_on(disk, 4 * MIB, Preallocate::Zeros);
    for _ in 0..3 {
        send(&engine, 900_000);
    }
    assert_eq!(dir.list_names("commitlog").len(), 1);
    while begins.try_recv().is_ok() {}
    std::thread::scope(|scope| {
        let making = scope.spawn(|| engine.prepare_step());
        // Begun later it would be the file after that, which nobody needs here.
        begins.recv().unwrap();
        for _ in 0..5 {
            send(&engine, 900_000);
        }
        making.join().unwrap();
    });
    assert_eq!(dir.list_names("commitlog").len(), 2);
}

#[test]
fn a_store_that_stops_does_not_wait_for_a_file_and_leaves_none_half_made() {
    let dir = MemoryDirectory::default();
    let engine = open(&dir, 4 * MIB, Preallocate::Zeros);
    for _ in 0..3 {
        send(&engine, 900_000);
    }
    std::thread::scope(|scope| {
        let making = scope.spawn(|| engine.prepare_step());
        engine.stop_preparing();
        making.join().unwrap();
    });
    assert_eq!(dir.list_names("commitlog").len(), 1);
}

/// A page that is not in the page cache would have to be read before a part of it is written.
#[test]
fn where_zeros_were_written_whole_pages_are_written() {
    for (preallocate, page) in [(Preallocate::Zeros, 4096), (Preallocate::Reserve, 1)] {
        let dir = MemoryDirectory::default();
        let engine = open(&dir, MIB, preallocate);
        let mut end = 0;
        for body in [1000, 700, 3000, 9000, 100] {
            let message = message_of("t", 0, body);
            let (tell, _told) = channel();
            let taken = engine.append(&[message.as_ref()], Promise::Kept, Tell(tell));
            assert!(taken.is_ok());
            dir.reset_counts();
            engine.write_step();
            let from = std::mem::replace(&mut end, engine.positions().appended.0);
            let written: u64 = end.next_multiple_of(page) - from;
            assert_eq!(dir.counts().bytes_written, written, "{body}");
        }
    }
}

#[test]
fn a_file_that_ends_within_a_page_is_filled_to_its_end() {
    let dir = MemoryDirectory::default();
    let engine = open(&dir, 10_000, Preallocate::Zeros);
    for _ in 0..100 {
        send(&engine, 700);
    }
    assert_eq!(dir.list_names("commitlog").len(), 9);
}

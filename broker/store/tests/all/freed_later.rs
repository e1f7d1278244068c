//! A file system that frees what is removed a while later, as it does on all of them where a reader still has a part of it.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use rocket_mapped_file::Space;
use rocket_mapped_file::memory::MemoryDirectory;
use rocket_store::{Engine, Flush, LocalPolicy, NoEvents, Promise, Step, StoreConfig};

use crate::support::{Tell, clock, message_of, small};
use crate::wrapped::Wrapped;

const FILE: u64 = 4096;
const FILES: u64 = 20;

#[test]
fn at_the_hard_limit_no_second_file_goes_for_room_that_is_not_told_yet() {
    let dir = MemoryDirectory::default();
    let told: Arc<Mutex<Option<Space>>> = Arc::default();
    let instead = Arc::clone(&told);
    let lagging =
        Wrapped::new(dir.clone()).telling(move |space| instead.lock().unwrap().unwrap_or(space));
    // Little else lies on the disk: the first file is enough to be below the mark.
    let config = StoreConfig {
        segment_bytes: FILE,
        index_slots: 16,
        index_entries: 100,
        ..small("unused".as_ref())
    };
    let opened = Engine::<Tell>::open(
        config,
        Arc::new(lagging),
        clock(1_800_000_000_000),
        Arc::new(LocalPolicy { flush: Flush::Sync }),
        Arc::new(NoEvents),
    );
    let (engine, _) = opened.unwrap();
    for _ in 0..FILES {
        let (tell, _told) = channel();
        let message = message_of("t", 0, 3800);
        let taken = engine.append(&[message.as_ref()], Promise::Kept, Tell(tell));
        assert!(taken.is_ok());
        engine.write_step();
        engine.flush_step(0);
        while engine.dispatch_step() == Step::Worked {}
    }
    engine.checkpoint_step();
    engine.look_at_disk();
    let used = engine.disk_usage().used;
    let capacity = used * 100 / 86;
    dir.set_capacity(capacity);
    *told.lock().unwrap() = Some(Space {
        capacity,
        available: capacity - used,
    });
    engine.retention_step();
    assert_eq!(engine.positions().min.0, FILE, "one is enough");
    *told.lock().unwrap() = None;
    engine.retention_step();
    assert_eq!(engine.positions().min.0, FILE, "and it is told by now");
}

//! Damage is repaired in a file that retention wants to remove, on a real file system, where a file without a name cannot be
//! opened any more.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use rocket_mapped_file::disk::DiskDirectory;
use rocket_protocol::PhysicalOffset;
use rocket_store::{
    Arrival, Engine, Flush, FlushFailure, Health, LocalPolicy, Removed, Retention, Step,
    StoreConfig, StoreEvents,
};

use crate::damage::{FIRST, consumed};
use crate::opening::{config, fill};
use crate::support::{Tell, clock};

const T0: i64 = 1_800_000_000_000;

/// Retention comes when a write begins, once it is armed.
#[derive(Default)]
struct Meddling {
    engine: OnceLock<Weak<Engine<Tell>>>,
    is_armed: AtomicBool,
    has_met: AtomicBool,
}

impl StoreEvents for Meddling {
    fn arrived(&self, _: &[Arrival]) {}
    fn failed(&self, _: &FlushFailure) {}
    fn removed(&self, _: &Removed) {}
    fn flush_begins(&self) {
        if self.is_armed.swap(false, Ordering::Relaxed) {
            let engine = self.engine.get().and_then(Weak::upgrade).unwrap();
            assert_eq!(engine.retention_step(), Step::Worked, "to be asked again");
            assert_eq!(engine.positions().min.0, 0, "its file stays");
            self.has_met.store(true, Ordering::Relaxed);
        }
    }
}

fn open(folder: &std::path::Path, now: i64, events: Arc<Meddling>) -> Engine<Tell> {
    let defaults = StoreConfig::default();
    let config = StoreConfig {
        retention: Retention {
            reserved: Duration::from_hours(72),
            delete_when: (0..24).collect(),
            ..defaults.retention
        },
        ..config()
    };
    let opened = Engine::open(
        config,
        Arc::new(DiskDirectory::open(folder).unwrap()),
        clock(now),
        Arc::new(LocalPolicy { flush: Flush::Sync }),
        events,
    );
    opened.unwrap().0
}

#[test]
fn a_file_that_is_repaired_stays_until_that_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path(), T0, Arc::default());
    fill(&engine, 200);
    while engine.seal_step() == Step::Worked {}
    engine.checkpoint_step();
    drop(engine);
    let path = folder.path().join(FIRST);
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.unwrap();
    let mut block = vec![0; 4096];
    file.read_exact_at(&mut block, 3 * 4096).unwrap();
    file.write_all_at(&[block[15] ^ 1], 3 * 4096 + 15).unwrap();

    let events = Arc::new(Meddling::default());
    let later = T0 + 100 * 3_600_000;
    let engine = Arc::new(open(folder.path(), later, Arc::clone(&events)));
    events.engine.set(Arc::downgrade(&engine)).unwrap();
    assert!(consumed(&engine).len() < 200);
    events.is_armed.store(true, Ordering::Relaxed);
    engine.repair(PhysicalOffset(3 * 4096), &block).unwrap();
    assert!(events.has_met.load(Ordering::Relaxed));
    assert_eq!(
        (engine.damage(), engine.health()),
        (vec![], Health::Writable)
    );
    assert_eq!(consumed(&engine).len(), 200);
    assert_eq!(engine.retention_step(), Step::Idle);
    assert!(engine.positions().min.0 > 0, "and then it goes");
}

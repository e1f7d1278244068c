//! A block without a checksum is repaired while it is summed.

use std::sync::Arc;

use rocket_mapped_file::Directory as _;
use rocket_mapped_file::memory::MemoryDirectory;
use rocket_protocol::RecordView;
use rocket_store::{Engine, Flush, LocalPolicy, NoEvents, OnDamage, Step, StoreConfig};

use crate::damage::{FIRST, consumed};
use crate::opening::{config, fill, open};
use crate::support::{Tell, clock};
use crate::watched::Watched;

#[test]
fn what_was_damaged_when_it_was_read_gets_no_checksum() {
    let dir = MemoryDirectory::default();
    let (engine, _) = open(&dir);
    fill(&engine, 20);
    engine.mark_step();
    drop(engine);
    let before = dir.read(FIRST).unwrap().unwrap();
    let (_, len) = RecordView::parse(&before).unwrap();
    let damaged = 7 * len + 300;
    let dir = dir.killed();
    dir.flip(FIRST, damaged);
    let watched = Watched::new(dir);
    let opened = Engine::<Tell>::open(
        // What is damaged is waited for, so that all is in the queue in the end.
        StoreConfig {
            on_damage: OnDamage::Hold,
            ..config()
        },
        watched.disk(),
        clock(1_800_000_000_000),
        Arc::new(LocalPolicy { flush: Flush::Sync }),
        Arc::new(NoEvents),
    );
    let engine = Arc::new(opened.unwrap().0);
    assert_eq!(engine.damage().len(), 1);
    let weak = Arc::downgrade(&engine);
    watched.when_read(FIRST, damaged as u64, move || {
        let repair = move || {
            let engine = weak.upgrade().unwrap();
            for span in engine.damaged_spans() {
                let index = |offset: u64| usize::try_from(offset).unwrap();
                let bytes = &before[index(span.from.0)..index(span.to.0)];
                engine.repair(span.from, bytes).unwrap();
            }
        };
        std::thread::spawn(repair).join().unwrap();
    });
    while engine.seal_step() == Step::Worked {}
    assert_eq!(engine.damage(), [], "it is repaired");
    engine.scrub_step(u64::MAX);
    assert_eq!(engine.damage(), [], "and no checksum says otherwise");
    while engine.dispatch_step() == Step::Worked {}
    assert_eq!(consumed(&engine).len(), 20);
}

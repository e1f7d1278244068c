//! A repair that somebody's reading keeps off, on a true disk: blocks are hidden whole, with what is sound in them.

use rocket_mapped_file::disk::DiskDirectory;
use tempfile::TempDir;

use super::*;
use crate::{Damaged, OnDamage, RepairError, Span};

/// A copy of `master` on a disk, whose third record is damaged, and the blocks of that.
fn damaged_copy(master: &Node) -> (TempDir, Engine<Tell>, Arc<Role>, Span) {
    let folder = tempfile::tempdir().unwrap();
    let role = Arc::new(Role::default());
    let config = StoreConfig {
        on_damage: OnDamage::Hold,
        ..config(4096)
    };
    let (engine, _) = Engine::open(
        config,
        Arc::new(DiskDirectory::open(folder.path()).unwrap()),
        Arc::new(Time(AtomicI64::new(NOON))),
        Arc::clone(&role) as Arc<dyn CommitPolicy>,
        Arc::new(NoEvents),
    )
    .unwrap();
    let (mut end, all) = (at(0), at(master.end()));
    while end < all {
        let records = master.engine.read_records(end, all, 1000).unwrap();
        end = engine
            .append_copied(end, records.file_end, &records.bytes)
            .unwrap();
    }
    while engine.flush_step(0) == crate::Step::Worked {}
    let records = master.records();
    engine.log.damage().note(&Damaged {
        file: "commitlog/00000000000000000000".to_owned(),
        from: at(records[2].0),
        to: at(records[3].0),
        reason: "flipped".to_owned(),
    });
    let span = engine.damaged_spans()[0];
    assert!(span.from.0 < records[2].0, "something sound is beside it");
    (folder, engine, role, span)
}

fn bytes_of(master: &Node, span: Span) -> bytes::Bytes {
    let len = usize::try_from(span.to.since(span.from)).unwrap();
    master.engine.read_range(span.from, len).unwrap()
}

#[test]
fn a_repair_that_is_to_be_tried_again_hides_nothing_meanwhile() {
    let master = master_with(9);
    let (_folder, engine, _, span) = damaged_copy(&master);
    let file = engine.log.file_at(0).unwrap();
    let beside = || file.segment.lease(span.from.0, 1).unwrap();
    let lent = beside().unwrap();
    let bytes = bytes_of(&master, span);
    let later = engine.repair(span.from, &bytes);
    assert!(matches!(later, Err(RepairError::Later { .. })), "{later:?}");
    assert!(beside().is_some());
    drop(lent);
    engine.repair(span.from, &bytes).unwrap();
    assert_eq!(engine.damage(), []);
}

#[test]
fn what_is_hidden_beside_damage_comes_to_its_queue_all_the_same() {
    let master = master_with(9);
    let (_folder, engine, role, span) = damaged_copy(&master);
    let file = engine.log.file_at(0).unwrap();
    let _lent = file.segment.lease(span.from.0, 1).unwrap().unwrap();
    let hidden = file
        .segment
        .replace_at(span.from.0, &bytes_of(&master, span));
    assert!(hidden.is_err(), "somebody reads there");
    engine.pass_over(&[span]);
    role.confirm.store(master.end(), Ordering::Relaxed);
    engine.settle();
    while engine.dispatch_step() == crate::Step::Worked {}
    assert_eq!(engine.positions().dispatched.0, master.end());
    assert_eq!(engine.stats().messages_dispatched, 8);
}

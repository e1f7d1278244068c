//! Damage that is written again from another copy: only by what was written there, only in whole blocks, and found again when a
//! crash comes between.

use std::sync::Arc;

use rocket_mapped_file::Directory as _;
use rocket_mapped_file::memory::{Faults, MemoryDirectory};
use rocket_protocol::{PhysicalOffset, QueueId, RecordView};
use rocket_store::{
    Engine, Flush, GetStatus, Health, LocalPolicy, NoEvents, OnDamage, Opening, ReadLimits,
    RecordsError, RepairError, Span, StoreConfig,
};

use crate::damage::{FIRST, consumed, world};
use crate::opening::{SEGMENT, config, fill, open};
use crate::support::{Tell, clock, topic};

const BLOCK: u64 = 4096;

fn span(from: u64, to: u64) -> Span {
    Span {
        from: PhysicalOffset(from),
        to: PhysicalOffset(to),
    }
}

fn open_holding(dir: &MemoryDirectory) -> Engine<Tell> {
    let opened = Engine::open(
        StoreConfig {
            on_damage: OnDamage::Hold,
            ..config()
        },
        Arc::new(dir.clone()),
        clock(1_800_000_000_000),
        Arc::new(LocalPolicy { flush: Flush::Sync }),
        Arc::new(NoEvents),
    );
    opened.unwrap().0
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

/// Writes all that is damaged here from the other copy.
fn repair_from(other: &Engine<Tell>, engine: &Engine<Tell>) -> Result<(), RepairError> {
    for Span { from, to } in engine.damaged_spans() {
        engine.repair(from, &other.read_range(from, index(to.0 - from.0)).unwrap())?;
    }
    Ok(())
}

#[test]
fn a_damaged_block_is_had_from_another_copy_and_served_again() {
    let (dir, before) = world();
    let (other, _) = open(&dir.killed());
    dir.flip(FIRST, 3 * 4096 + 15);
    let (engine, _) = open(&dir);
    assert!(consumed(&engine).len() < 200);
    let changes = engine.damage_changes();
    assert_eq!(engine.damaged_spans(), [span(3 * BLOCK, 4 * BLOCK)]);
    repair_from(&other, &engine).unwrap();
    assert!(engine.damage_changes() > changes);
    assert_eq!((engine.damage(), engine.damaged_spans()), (vec![], vec![]));
    assert_eq!(engine.stats().repaired_bytes, BLOCK);
    assert_eq!(consumed(&engine).len(), 200);
    drop(engine);
    for next in [dir.killed(), dir.crashed(3)] {
        assert_eq!(next.read(FIRST).unwrap().unwrap(), before);
        let (engine, report) = open(&next);
        assert_eq!((report.damaged_ranges, consumed(&engine).len()), (0, 200));
    }
}

#[test]
fn a_file_that_is_missing_is_not_asked_for() {
    let (dir, _) = world();
    dir.remove(&format!("commitlog/{SEGMENT:020}")).unwrap();
    dir.flip(FIRST, 3 * 4096 + 15);
    let (engine, _) = open(&dir);
    consumed(&engine);
    assert_eq!(engine.damage().len(), 2);
    assert_eq!(engine.damaged_spans(), [span(3 * BLOCK, 4 * BLOCK)]);
    assert_eq!(engine.missing_spans(), [span(SEGMENT, 2 * SEGMENT)]);
}

#[test]
fn blocks_that_cannot_be_read_are_written_again() {
    let (dir, _) = world();
    let (other, _) = open(&dir.killed());
    dir.break_sectors(FIRST, 20 << 10, (20 << 10) + 512);
    let (engine, _) = open(&dir);
    assert!(consumed(&engine).len() < 200);
    repair_from(&other, &engine).unwrap();
    assert_eq!(consumed(&engine).len(), 200);
    engine.scrub_step(u64::MAX);
    assert_eq!(engine.damage(), []);
}

#[test]
fn bytes_that_were_not_written_there_are_refused_and_nothing_is_changed() {
    let (dir, before) = world();
    dir.flip(FIRST, 3 * 4096 + 15);
    let (engine, _) = open(&dir);
    consumed(&engine);
    let at = PhysicalOffset(3 * BLOCK);
    let good = &before[3 * 4096..4 * 4096];
    for index in [0, 15, 4095] {
        let mut bytes = good.to_vec();
        bytes[index] ^= 4;
        let refused = engine.repair(at, &bytes);
        assert!(
            matches!(refused, Err(RepairError::Otherwise { .. })),
            "{refused:?}"
        );
    }
    // Its last block is not a whole one any more.
    for bytes in [&good[1..], &before[3 * 4096..=4 * 4096]] {
        let refused = engine.repair(at, bytes);
        assert!(
            matches!(refused, Err(RepairError::Later { .. })),
            "{refused:?}"
        );
    }
    for (at, bytes) in [
        (at.plus(1), good),
        (at, &[][..]),
        (PhysicalOffset(1 << 40), good),
    ] {
        let refused = engine.repair(at, bytes);
        assert!(
            matches!(refused, Err(RepairError::NotThere { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(engine.damaged_spans(), [span(3 * BLOCK, 4 * BLOCK)]);
    assert_eq!(engine.stats().repaired_bytes, 0);
    let after = dir.read(FIRST).unwrap().unwrap();
    assert_eq!(after.iter().zip(&before).filter(|(a, b)| a != b).count(), 1);
    engine.repair(at, good).unwrap();
    let sound = vec![7; 4096];
    engine.repair(PhysicalOffset(0), &sound).unwrap();
    assert_eq!(
        dir.read(FIRST).unwrap().unwrap(),
        before,
        "what is sound is never written over"
    );
}

#[test]
fn a_copy_hands_out_nothing_that_is_damaged_or_missing() {
    let (dir, before) = world();
    dir.flip(FIRST, 3 * 4096 + 15);
    let (engine, _) = open(&dir);
    let read = |at: u64, len| engine.read_range(PhysicalOffset(at), len);
    assert_eq!(read(2 * BLOCK, 4096).unwrap(), before[2 * 4096..3 * 4096]);
    assert!(matches!(
        read(2 * BLOCK, 2 * 4096),
        Err(RecordsError::Damaged(_))
    ));
    let end = engine.positions().appended.0;
    for (at, len) in [(end, 1), (end - 1, 2), (0, 0), (u64::MAX, 9)] {
        let refused = read(at, len);
        assert!(
            matches!(refused, Err(RecordsError::Nothing)),
            "{at} {len} {refused:?}"
        );
    }
    // Also when it rots after it was compared.
    dir.flip(FIRST, 2 * 4096 + 15);
    assert!(matches!(
        read(2 * BLOCK, 4096),
        Err(RecordsError::Damaged(_))
    ));
}

/// Of blocks that have no checksum: the start reads records up to the floor.
#[test]
fn where_there_is_no_checksum_records_and_what_is_sound_around_them_vouch() {
    for number in [7, 19] {
        let dir = MemoryDirectory::default();
        let (engine, _) = open(&dir);
        fill(&engine, 20);
        engine.mark_step();
        drop(engine);
        let before = dir.read(FIRST).unwrap().unwrap();
        // Their keys have one digit or two.
        let damaged = (0..number).fold(0, |at, _| {
            let (_, len) = RecordView::parse(&before[at..]).unwrap();
            at + len
        });
        dir.flip(FIRST, damaged + 300);
        let (engine, report) = open(&dir.killed());
        assert_eq!(report.damaged_ranges, 1);
        let spans = engine.damaged_spans();
        let (first, last) = (spans[0].from.0, spans[spans.len() - 1].to.0);
        assert_eq!(first, damaged as u64 / BLOCK * BLOCK);
        assert!(last <= engine.positions().durable.0);
        let repair = |change: usize| {
            let mut bytes = before.clone();
            bytes[change] ^= 4;
            let piece = |span: &Span| {
                engine.repair(span.from, &bytes[index(span.from.0)..index(span.to.0)])
            };
            spans.iter().map(piece).find(Result::is_err)
        };
        for (change, why) in [
            (damaged + 301, "a body"),
            (damaged + 1, "a length that is too large"),
            (damaged + 2, "a length"),
            (damaged + 33, "a place"),
            (index(first), "what is sound"),
        ] {
            assert!(
                matches!(repair(change), Some(Err(RepairError::Otherwise { .. }))),
                "{why} of message {number}"
            );
        }
        assert!(repair(before.len() - 1).is_none(), "beyond the log's end");
        assert_eq!(engine.damage(), []);
        assert_eq!(messages(&engine), 20);
    }
}

/// The checksums are gone, and a block in the middle cannot be read: its bytes begin amid a message.
#[test]
fn what_nothing_here_vouches_for_is_refused() {
    let (dir, before) = world();
    for name in dir.list("rocket/checksums").unwrap() {
        dir.remove(&format!("rocket/checksums/{}", name.name))
            .unwrap();
    }
    dir.break_sectors(FIRST, 20 << 10, (20 << 10) + 512);
    let (engine, _) = open(&dir);
    consumed(&engine);
    let spans = engine.damaged_spans();
    assert_eq!(spans, [span(5 * BLOCK, 6 * BLOCK)]);
    let bytes = &before[index(5 * BLOCK)..index(6 * BLOCK)];
    let refused = engine.repair(spans[0].from, bytes);
    assert!(
        matches!(refused, Err(RepairError::Otherwise { .. })),
        "{refused:?}"
    );
    assert_eq!(engine.damaged_spans(), spans);
}

/// How many messages lie in the log, be they in a queue or not.
fn messages(engine: &Engine<Tell>) -> usize {
    let (mut at, end) = (PhysicalOffset(0), engine.positions().appended);
    let mut count = 0;
    while at < end {
        at = engine.read_records(at, end, 1).unwrap().to;
        count += 1;
    }
    count
}

#[test]
fn a_crash_in_the_middle_leaves_damage_that_is_known_and_can_be_repaired() {
    let mut ends = 0;
    for changes in 0..20 {
        for seed in 0..8 {
            let (dir, before) = world();
            let (other, _) = open(&dir.killed());
            dir.flip(FIRST, 3 * 4096 + 15);
            let (engine, _) = open(&dir);
            consumed(&engine);
            dir.set_faults(Faults {
                dies_after: Some(changes),
                ..Faults::default()
            });
            let done = repair_from(&other, &engine);
            drop(engine);
            let next = if seed == 0 {
                dir.killed()
            } else {
                dir.crashed(seed)
            };
            let (engine, _) = open(&next);
            ends += usize::from(done.is_err());
            let is_sound = next.read(FIRST).unwrap().unwrap() == before;
            assert!(
                is_sound || !engine.damage().is_empty(),
                "{changes} {seed}: damage that nobody knows"
            );
            repair_from(&other, &engine).unwrap();
            assert_eq!(engine.damage(), [], "{changes} {seed}");
            assert_eq!(next.read(FIRST).unwrap().unwrap(), before);
            assert_eq!(consumed(&engine).len(), 200);
        }
    }
    assert!(ends > 0, "no crash came between");
}

#[test]
fn a_write_or_flush_that_fails_is_final_and_the_damage_stays() {
    for faults in [
        Faults {
            write_error_at: Some((1, 5)),
            ..Faults::default()
        },
        Faults {
            short_write_at: Some(1),
            ..Faults::default()
        },
        Faults {
            flush_error_at: Some(1),
            ..Faults::default()
        },
    ] {
        let (dir, _) = world();
        let (other, _) = open(&dir.killed());
        dir.flip(FIRST, 3 * 4096 + 15);
        let (engine, _) = open(&dir);
        consumed(&engine);
        dir.set_faults(faults);
        let failed = repair_from(&other, &engine);
        assert!(matches!(failed, Err(RepairError::Failed(_))), "{failed:?}");
        assert!(matches!(engine.health(), Health::ReadOnly { .. }));
        assert_eq!(engine.damage().len(), 1);
    }
}

#[test]
fn readers_wait_for_what_another_copy_may_have_or_pass_it_over() {
    let (dir, _) = world();
    let (other, _) = open(&dir.killed());
    dir.flip(FIRST, 3 * 4096 + 15);
    let engine = open_holding(&dir);
    let mut next = 0;
    let mut get = || {
        let limits = ReadLimits {
            messages_max: 1,
            bytes_max: 64 << 10,
        };
        let result = engine.get(&topic("t"), QueueId(0), next, limits, &|_, _| true);
        next = result.next_begin;
        result.status
    };
    while get() == GetStatus::Found {}
    assert_eq!(get(), GetStatus::OffsetOverflowOne, "it is held");
    engine.pass_over(&[span(0, 3 * BLOCK), span(4 * BLOCK, 8 * BLOCK)]);
    assert_eq!(get(), GetStatus::OffsetOverflowOne, "it is not that");
    engine.pass_over(&engine.damaged_spans());
    assert_eq!(get(), GetStatus::MessageWasRemoving);
    engine.pass_over(&[]);
    assert_eq!(get(), GetStatus::OffsetOverflowOne);
    repair_from(&other, &engine).unwrap();
    assert_eq!(get(), GetStatus::Found);
}

#[test]
fn what_lies_behind_damage_comes_to_its_queue_when_that_is_repaired() {
    let dir = MemoryDirectory::default();
    let (engine, _) = open(&dir);
    fill(&engine, 20);
    let before = dir.read(FIRST).unwrap().unwrap();
    let (_, len) = RecordView::parse(&before).unwrap();
    engine.mark_step();
    let (other, _) = open(&dir.killed());
    dir.flip(FIRST, 7 * len + 300);
    let next = dir.killed();
    drop(engine);
    let engine = open_holding(&next);
    assert_eq!(consumed(&engine), (0..7).collect::<Vec<_>>());
    let leads = engine.become_writer();
    assert!(
        matches!(leads, Ok(Opening::Later(_))),
        "offsets that are not known would be given twice: {leads:?}"
    );
    assert_eq!(engine.health(), Health::Writable, "nothing failed");
    repair_from(&other, &engine).unwrap();
    assert_eq!(engine.become_writer().unwrap(), Opening::Open);
    while engine.dispatch_step() == rocket_store::Step::Worked {}
    assert_eq!(consumed(&engine), (0..20).collect::<Vec<_>>());
}

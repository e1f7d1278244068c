//! Bytes that are not what was written: found, told, never served, never cut.

use std::sync::{Arc, Mutex};

use rocket_mapped_file::memory::MemoryDirectory;
use rocket_protocol::{QueueId, RecordView};
use rocket_store::{
    Damaged, Engine, Flush, FlushFailure, GetStatus, Health, LocalPolicy, OpenError, ReadLimits,
    Removed, StoreConfig, StoreEvents,
};

use crate::opening::{SEGMENT, config, fill, open};
use crate::support::{Tell, clock, small, topic};
use crate::wrapped::Wrapped;

pub(crate) const FIRST: &str = "commitlog/00000000000000000000";

/// The numbers of the messages that a consumer from the beginning gets.
pub(crate) fn consumed(engine: &Engine<Tell>) -> Vec<u32> {
    let mut numbers = Vec::new();
    let end = engine
        .queue_range(&topic("t"), QueueId(0))
        .unwrap()
        .max
        .to_wire();
    let mut next = 0;
    while next < end {
        let limits = ReadLimits {
            messages_max: 5,
            bytes_max: 64 << 10,
        };
        let result = engine.get(&topic("t"), QueueId(0), next, limits, &|_, _| true);
        assert!(
            matches!(
                result.status,
                GetStatus::Found | GetStatus::MessageWasRemoving
            ),
            "{result:?}"
        );
        assert!(result.next_begin > next, "a consumer gets on: {result:?}");
        next = result.next_begin;
        for chunk in result.chunks {
            let mut rest = &chunk[..];
            while !rest.is_empty() {
                let (view, len) = RecordView::parse(rest).unwrap();
                numbers.push(
                    std::str::from_utf8(&view.body()[..8])
                        .unwrap()
                        .parse()
                        .unwrap(),
                );
                rest = &rest[len..];
            }
        }
    }
    numbers
}

/// A log of 200 messages in four files, summed, its process killed.
pub(crate) fn world() -> (MemoryDirectory, Vec<u8>) {
    let dir = MemoryDirectory::default();
    let (engine, _) = open(&dir);
    fill(&engine, 200);
    while engine.seal_step() == rocket_store::Step::Worked {}
    engine.checkpoint_step();
    drop(engine);
    let next = dir.killed();
    let bytes = rocket_mapped_file::Directory::read(&next, FIRST)
        .unwrap()
        .unwrap();
    (next, bytes)
}

#[test]
fn a_flipped_bit_that_no_record_checksum_covers_is_not_served() {
    let (dir, before) = world();
    // The queue id of a record in the fourth block: its body is still good.
    let (_, len) = RecordView::parse(&before).unwrap();
    let record = 3 * 4096 / len + 1;
    dir.flip(FIRST, record * len + 15);
    let (engine, report) = open(&dir);
    assert_eq!(report.damaged_ranges, 0, "below what a start looks at");
    let numbers = consumed(&engine);
    assert!(!numbers.contains(&u32::try_from(record).unwrap()));
    assert!(
        numbers.len() >= 200 - 4096 / len - 2,
        "only its block is missing: {}",
        numbers.len()
    );
    let damage = engine.damage();
    assert_eq!(damage.len(), 1, "{damage:?}");
    assert_eq!(
        (damage[0].file.as_str(), damage[0].from.0, damage[0].to.0),
        (FIRST, 12288, 16384)
    );
    assert_eq!(engine.stats().damaged_bytes, 4096);
    assert_eq!(
        engine.health(),
        Health::Writable,
        "what is sound is served, and more is taken"
    );
    let after = rocket_mapped_file::Directory::read(&dir, FIRST)
        .unwrap()
        .unwrap();
    assert_eq!(
        after.iter().zip(&before).filter(|(a, b)| a != b).count(),
        1,
        "nothing was changed"
    );
    let next = dir.killed();
    drop(engine);
    let (engine, report) = open(&next);
    assert_eq!(report.damaged_ranges, 1, "it is remembered");
    assert_eq!(consumed(&engine), numbers);
}

#[test]
fn a_sector_that_cannot_be_read_is_passed_over_and_never_met_through_a_map() {
    let (dir, _) = world();
    dir.break_sectors(FIRST, 20 << 10, (20 << 10) + 512);
    let (engine, _) = open(&dir);
    let numbers = consumed(&engine);
    assert!((190..200).contains(&numbers.len()), "{}", numbers.len());
    assert_eq!(engine.damage().len(), 1);
}

#[test]
fn a_checksum_file_that_is_gone_or_wrong_condemns_nothing_and_is_made_again() {
    let (dir, _) = world();
    let sums = "rocket/checksums/00000000000000000000";
    dir.flip(sums, 64 + 8 * 3 + 1);
    let (engine, _) = open(&dir);
    assert_eq!(consumed(&engine).len(), 200);
    engine.scrub_step(u64::MAX);
    assert_eq!((engine.stats().scrub_passes, engine.damage().len()), (1, 0));
    drop(engine);
    let next = dir.killed();
    dir.flip(FIRST, 3 * 4096 + 7);
    next.flip(FIRST, 3 * 4096 + 7);
    let (engine, _) = open(&next);
    engine.scrub_step(u64::MAX);
    assert_eq!(
        engine.damage().len(),
        1,
        "the scrubber had made the entry again"
    );
}

#[derive(Default)]
struct Heard(Mutex<Vec<Damaged>>);

impl StoreEvents for Heard {
    fn arrived(&self, _: &[rocket_store::Arrival]) {}
    fn failed(&self, _: &FlushFailure) {}
    fn removed(&self, _: &Removed) {}
    fn damaged(&self, damaged: &Damaged) {
        self.0.lock().unwrap().push(damaged.clone());
    }
}

#[test]
fn the_scrubber_finds_damage_that_nobody_reads_goes_on_where_it_was_and_sees_it_healed() {
    let (dir, _) = world();
    dir.flip(FIRST, 5 * 4096);
    let heard = Arc::new(Heard::default());
    let opened = Engine::<Tell>::open(
        StoreConfig {
            segment_bytes: SEGMENT,
            consume_queue_file_bytes: 200_000,
            index_slots: 1024,
            index_entries: 100_000,
            checksum_block_bytes: 4096,
            ..small("unused".as_ref())
        },
        Arc::new(dir.clone()),
        clock(1_800_000_000_000),
        Arc::new(LocalPolicy { flush: Flush::Sync }),
        Arc::clone(&heard) as Arc<dyn StoreEvents>,
    );
    let (engine, _) = opened.unwrap();
    for _ in 0..5 {
        engine.scrub_step(4096);
    }
    assert_eq!(
        (engine.stats().scrubbed_bytes, engine.damage().len()),
        (5 * 4096, 0)
    );
    engine.scrub_step(4096);
    assert_eq!(engine.damage().len(), 1);
    assert_eq!(heard.0.lock().unwrap().len(), 1, "it was told");
    engine.checkpoint_step();
    let next = dir.killed();
    drop(engine);
    next.flip(FIRST, 5 * 4096);
    let (engine, report) = open(&next);
    assert_eq!(report.damaged_ranges, 1);
    engine.scrub_step(u64::MAX);
    let first = engine.stats();
    assert_eq!(first.scrub_passes, 1);
    assert!(
        first.scrubbed_bytes < 200 * 1200 - 6 * 4096 + 4096,
        "it went on where it was"
    );
    assert_eq!(
        engine.damage().len(),
        1,
        "that block was not read again yet"
    );
}

#[test]
fn damage_that_a_start_meets_below_the_floor_is_told_and_what_lies_behind_it_stays() {
    let dir = MemoryDirectory::default();
    let (engine, _) = open(&dir);
    fill(&engine, 20);
    let bytes = rocket_mapped_file::Directory::read(&dir, FIRST)
        .unwrap()
        .unwrap();
    let (_, len) = RecordView::parse(&bytes).unwrap();
    // Flushed and known to be, and nothing else secured: the start reads all of it.
    engine.mark_step();
    dir.flip(FIRST, 7 * len + 300);
    let next = dir.killed();
    drop(engine);
    let (engine, report) = open(&next);
    assert_eq!(
        (
            report.damaged_ranges,
            report.records_scanned,
            report.tail_cut
        ),
        (1, 19, false),
        "{report:?}"
    );
    let damage = engine.damage();
    assert_eq!(
        (damage[0].from.0, damage[0].to.0),
        (7 * len as u64, 8 * len as u64),
        "{damage:?}"
    );
    let wanted: Vec<u32> = (0..20).filter(|&n| n != 7).collect();
    assert_eq!(consumed(&engine), wanted);
    fill(&engine, 1);
    assert_eq!(consumed(&engine).len(), 20, "more is taken");
}

/// Twenty messages that are known to be flushed, in blocks without checksums, one of them with a flipped bit in its body.
fn rotten_and_not_summed() -> MemoryDirectory {
    let dir = MemoryDirectory::default();
    let (engine, _) = open(&dir);
    fill(&engine, 20);
    engine.mark_step();
    drop(engine);
    let dir = dir.killed();
    let bytes = rocket_mapped_file::Directory::read(&dir, FIRST)
        .unwrap()
        .unwrap();
    let (_, len) = RecordView::parse(&bytes).unwrap();
    dir.flip(FIRST, 7 * len + 300);
    dir
}

/// What a start has found, when everything behind it is secured and no later start looks there.
fn secured(dir: &MemoryDirectory) -> Vec<Damaged> {
    let (engine, report) = open(dir);
    assert_eq!(report.damaged_ranges, 1, "{report:?}");
    while engine.seal_step() == rocket_store::Step::Worked {}
    engine.checkpoint_step();
    // Nobody vouches for it.
    engine.scrub_step(u64::MAX);
    engine.damage()
}

#[test]
fn a_start_that_cannot_note_the_damage_that_it_finds_does_not_open_and_forgets_nothing() {
    let dir = rotten_and_not_summed();
    let full = |path: &str| match path {
        "rocket/damage.json" => Err(std::io::ErrorKind::StorageFull.into()),
        _ => Ok(()),
    };
    let opened = Engine::<Tell>::open(
        config(),
        Arc::new(Wrapped::new(dir.clone()).replacing(full)),
        clock(1),
        Arc::new(LocalPolicy { flush: Flush::Sync }),
        Arc::new(rocket_store::NoEvents),
    );
    let Err(error) = opened.map(|_| ()) else {
        panic!("it opened, and the next start will know nothing");
    };
    assert!(matches!(error, OpenError::DamageNotNoted { .. }), "{error}");
    let found = secured(&dir);
    assert_eq!(found.len(), 1);
    assert_eq!(secured(&dir.killed()), found, "by the note alone");
}

#[test]
fn a_note_of_damage_that_cannot_be_read_is_none_of_a_sound_log() {
    let dir = rotten_and_not_summed();
    let places = |damage: Vec<Damaged>| -> Vec<(u64, u64)> {
        let place = |it: &Damaged| (it.from.0, it.to.0);
        damage.iter().map(place).collect()
    };
    let found = places(secured(&dir));
    let dir = dir.killed();
    rocket_mapped_file::Directory::replace(&dir, "rocket/damage.json", b"[{").unwrap();
    assert_eq!(places(secured(&dir)), found, "all of it is looked through");
    assert_eq!(places(secured(&dir.killed())), found, "and noted again");
}

#[test]
fn a_log_whose_end_is_gone_does_not_open_and_is_not_changed() {
    let (dir, _) = world();
    let last = dir.list_names("commitlog").pop().unwrap();
    rocket_mapped_file::Directory::remove(&dir, &format!("commitlog/{last}")).unwrap();
    let opened = Engine::<Tell>::open(
        StoreConfig {
            segment_bytes: SEGMENT,
            ..small("unused".as_ref())
        },
        Arc::new(dir.clone()),
        clock(1),
        Arc::new(LocalPolicy { flush: Flush::Sync }),
        Arc::new(rocket_store::NoEvents),
    );
    assert!(matches!(opened.map(|_| ()), Err(OpenError::Damaged { .. })));
}

#[test]
fn a_log_file_that_lost_the_end_of_the_log_does_not_open_though_the_next_one_was_made() {
    let dir = MemoryDirectory::default();
    let (engine, _) = open(&dir);
    // More than half of a file: the next one is made ahead.
    fill(&engine, 40);
    engine.prepare_step();
    engine.checkpoint_step();
    let next = dir.killed();
    drop(engine);
    assert_eq!(next.list_names("commitlog").len(), 2);
    next.truncate(FIRST, 1000);
    let opened = Engine::<Tell>::open(
        StoreConfig {
            segment_bytes: SEGMENT,
            ..small("unused".as_ref())
        },
        Arc::new(next),
        clock(1),
        Arc::new(LocalPolicy { flush: Flush::Sync }),
        Arc::new(rocket_store::NoEvents),
    );
    assert!(matches!(opened.map(|_| ()), Err(OpenError::Damaged { .. })));
}

#[test]
fn a_file_that_is_missing_between_others_is_damage_and_the_rest_is_served() {
    let (dir, _) = world();
    rocket_mapped_file::Directory::remove(&dir, &format!("commitlog/{SEGMENT:020}")).unwrap();
    let (engine, report) = open(&dir);
    assert_eq!(report.damaged_ranges, 1);
    let numbers = consumed(&engine);
    assert!((120..150).contains(&numbers.len()), "{}", numbers.len());
    assert_eq!(numbers.last(), Some(&199));
}

/// Queues and index find no room, so nothing is noted of how far they are; how far the log is flushed is noted all the same.
#[test]
fn damage_is_no_torn_tail_though_the_disk_had_no_room_for_the_queues() {
    let dir = MemoryDirectory::default();
    let (engine, _) = open(&dir);
    dir.set_capacity(engine.disk_usage().used);
    fill(&engine, 20);
    engine.checkpoint_step();
    assert_eq!(engine.health(), Health::Writable);
    let end = engine.positions().durable;
    drop(engine);
    let next = dir.crashed(1);
    next.set_capacity(u64::MAX);
    next.flip(FIRST, usize::try_from(end.0 / 2).unwrap());
    let (engine, report) = open(&next);
    assert!(!report.tail_cut);
    assert_eq!((report.damaged_ranges, report.log_end), (1, end));
    assert_eq!(engine.damage().len(), 1);
}

//! What is handed out, taken and refused.

use bytes::Bytes;
use rocket_protocol::message::write_blank;

use super::*;
use crate::{Aside, CopyError};

#[test]
fn a_copy_has_the_same_bytes_files_queues_and_keys_whatever_its_own_settings_say() {
    let master = master_with(40);
    master.dispatch();
    for target in [1, 700, 1 << 20] {
        let slave = Node::new(9000);
        slave.engine.prepare_step();
        slave.copy(&master, master.end(), target);
        assert_eq!(slave.records(), master.records());
        assert_eq!(slave.files(), master.files());
        assert_eq!(slave.seen(), BTreeMap::new(), "nothing is committed");
        slave.confirm(slave.end());
        slave.dispatch();
        assert_eq!(slave.seen(), master.seen());
        slave.flush();
        let again = Node::open(slave.dir.crashed(1), config(9000), slave.end())
            .unwrap()
            .0;
        assert_eq!(again.records(), master.records());
        assert_eq!(again.seen(), master.seen());
    }
}

#[test]
fn what_is_handed_out_is_whole_records_of_one_file_about_as_many_as_wanted() {
    let master = master_with(40);
    let records = master.records();
    let starts: Vec<u64> = records.iter().map(|(start, _)| *start).collect();
    let mut from = 0;
    while from < master.end() {
        let found = master
            .engine
            .read_records(at(from), at(master.end()), 1000)
            .unwrap();
        let to = found.to.0;
        assert_eq!(found.bytes.len() as u64, to - from);
        assert!(
            to == master.end() || starts.contains(&to),
            "between records"
        );
        assert!(found.file_end.0.is_multiple_of(4096) && to <= found.file_end.0);
        assert_eq!(found.file_end.0 - 4096, from / 4096 * 4096, "of one file");
        let count = starts
            .iter()
            .filter(|start| (from..to).contains(start))
            .count();
        assert!(
            to - from <= 1000 || count == 1,
            "{count} records from {from} to {to}"
        );
        from = to;
    }
    let (second, third) = (starts[1], starts[2]);
    let limited = master
        .engine
        .read_records(at(0), at(third), 1 << 20)
        .unwrap();
    assert_eq!(limited.to.0, third, "not beyond the limit");
    let none = |from, to| master.engine.read_records(at(from), at(to), 1000);
    assert!(matches!(none(second, second), Err(RecordsError::Nothing)));
    assert!(matches!(none(0, second - 1), Err(RecordsError::Nothing)));
    assert!(matches!(
        none(master.end(), u64::MAX),
        Err(RecordsError::Nothing)
    ));
}

#[test]
fn what_may_be_taken_back_is_read_into_memory_and_what_is_visible_is_lent() {
    let master = master_with(3);
    let first_end = master.records()[1].0;
    let slave = Node::new(4096);
    slave.copy(&master, master.end(), 1 << 20);
    slave.confirm(first_end);
    let read = |to| {
        slave.dir.reset_counts();
        let found = slave.engine.read_records(at(0), at(to), 1 << 20).unwrap();
        let leases = slave.dir.counts_in("commitlog").leases;
        (found.bytes, leases)
    };
    let ((lent, some), (copied, none)) = (read(first_end), read(master.end()));
    assert_eq!((some, none), (1, 0));
    slave.engine.cut(at(first_end), 2, Aside::Nothing).unwrap();
    let all: Vec<u8> = master
        .records()
        .into_iter()
        .flat_map(|(_, bytes)| bytes)
        .collect();
    assert_eq!(lent, all[..lent.len()]);
    assert_eq!(copied, all, "a cut changes nothing that was handed out");
}

#[test]
fn what_is_damaged_is_not_handed_out_and_what_lies_before_it_is() {
    let master = master_with(12);
    master.flush();
    master.dispatch();
    while master.engine.seal_step() == crate::Step::Worked {}
    master.engine.checkpoint_step();
    let records = master.records();
    let dir = master.dir.killed();
    dir.flip("commitlog/00000000000000000000", 1600);
    let master = Node::open(dir, config(4096), master.end()).unwrap().0;
    let end = at(master.end());
    let before = master.engine.read_records(at(0), end, 1 << 20).unwrap();
    assert!(before.to.0 <= 1536, "the block from 1536 on is damaged");
    let error = master
        .engine
        .read_records(before.to, end, 1 << 20)
        .unwrap_err();
    assert!(
        matches!(&error, RecordsError::Damaged(damaged) if damaged.from.0 == 1536),
        "{error}"
    );
    let behind = records.iter().find(|(start, _)| *start >= 2048).unwrap().0;
    assert!(master.engine.read_records(at(behind), end, 1).is_ok());
}

/// A slave that has the first records of a file of a master's, and what it is to get next: several records, and the first.
fn amid_a_file() -> (Node, [Bytes; 2]) {
    let master = master_with(20);
    let slave = Node::new(4096);
    let end = at(master.end());
    slave.copy_one(&master, end.0, 900);
    let here = at(slave.end());
    let next = |target| master.engine.read_records(here, end, target).unwrap().bytes;
    slave.dir.reset_counts();
    (slave, [next(900), next(1)])
}

fn is_as_it_was(slave: &Node, end: u64) {
    assert_eq!(slave.end(), end);
    assert_eq!(slave.dir.counts_in("commitlog").writes, 0);
    assert_eq!(slave.files(), [(0, 4096)]);
}

#[test]
fn what_is_no_whole_records_of_one_file_is_refused_and_nothing_written() {
    let (slave, [next, one]) = amid_a_file();
    let (here, len, file_end) = (slave.end(), next.len() as u64, 4096);
    let mut filler = Vec::new();
    write_blank(100, &mut filler);
    filler.resize(100, 0);
    let flipped = |index: usize| {
        let mut bytes = next.to_vec();
        bytes[index] ^= 1;
        Bytes::from(bytes)
    };
    let with = |more: &[u8]| Bytes::from([&one[..], more].concat());
    let whole = || next.clone();
    let not_records = [
        ("nothing", here, file_end, Bytes::new()),
        ("a part", here, file_end, next.slice(..next.len() - 1)),
        ("a head", here, file_end, next.slice(..20)),
        ("a part behind whole", here, file_end, with(&one[..9])),
        ("the same twice", here, file_end, with(&one)),
        ("of another place", here, file_end, flipped(35)),
        ("no magic", here, file_end, flipped(7)),
        ("a filler too short", here, file_end, filler.into()),
        ("beyond the file", here, here + len - 1, whole()),
        ("no room for a filler", here, here + len + 7, whole()),
        ("a file too large", here, here + (1 << 31) + 1, whole()),
        ("an end too large", u64::MAX, u64::MAX, whole()),
    ];
    for (what, from, file_end, bytes) in not_records {
        let taken = slave.engine.append_copied(at(from), at(file_end), &bytes);
        assert!(
            matches!(taken, Err(CopyError::NotRecords { .. })),
            "{what}: {taken:?}"
        );
    }
    is_as_it_was(&slave, here);
}

#[test]
fn what_goes_on_elsewhere_or_in_another_file_is_refused_and_nothing_written() {
    let (slave, [next, _]) = amid_a_file();
    let here = at(slave.end());
    let all = slave.engine.read_records(at(0), here, 1 << 20).unwrap();
    let taken = slave.engine.append_copied(at(0), at(4096), &all.bytes);
    assert!(
        matches!(taken, Err(CopyError::Elsewhere { end }) if end == here),
        "{taken:?}"
    );
    let taken = slave.engine.append_copied(here, at(4096 + 512), &next);
    assert!(
        matches!(taken, Err(CopyError::OtherFile { end }) if end.0 == 4096),
        "{taken:?}"
    );
    is_as_it_was(&slave, here.0);
    slave.engine.append_copied(here, at(4096), &next).unwrap();
}

#[test]
fn a_write_that_fails_is_final_and_no_room_for_a_file_is_not() {
    let master = master_with(20);
    let slave = Node::new(4096);
    slave.copy(&master, 4096, 1 << 20);
    slave.dir.set_capacity(0);
    let more = master
        .engine
        .read_records(at(4096), at(master.end()), 1)
        .unwrap();
    let error = slave
        .engine
        .append_copied(at(4096), more.file_end, &more.bytes)
        .unwrap_err();
    assert!(matches!(error, CopyError::NoRoom(_)), "{error}");
    assert_eq!(slave.engine.health(), crate::Health::Writable);
    slave.dir.set_capacity(u64::MAX);
    slave
        .engine
        .append_copied(at(4096), more.file_end, &more.bytes)
        .unwrap();
    let end = slave.end();
    slave.dir.set_faults(rocket_mapped_file::memory::Faults {
        short_write_at: Some(1),
        seed: 3,
        ..Default::default()
    });
    let more = master
        .engine
        .read_records(at(end), at(master.end()), 1)
        .unwrap();
    for _ in 0..2 {
        let error = slave
            .engine
            .append_copied(at(end), more.file_end, &more.bytes)
            .unwrap_err();
        assert!(matches!(error, CopyError::Failed(_)), "{error}");
    }
    assert_eq!(slave.end(), end);
}

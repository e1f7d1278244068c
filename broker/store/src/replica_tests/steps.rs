//! A cut, or a beginning anew, that a crash ends at each of its steps, and whose end by the next start a crash ends again at
//! each of *its* steps: with lost sectors and undone changes of folders. What comes out is the log as it was, or the log as
//! it was to be.

use super::*;
use crate::mutant::{self, Mutant};
use crate::{Aside, CutError};
use rocket_mapped_file::memory::Faults;

/// A slave of three files, flushed, summed and secured, of which all before `confirm` is visible; and its records.
fn template(confirm: usize) -> (MemoryDirectory, u64, Vec<Record>) {
    let master = Node::new(4096);
    master.lead();
    for number in 0..28 {
        master.send(number, u32::try_from(number).unwrap() % QUEUES, 220);
    }
    master.confirm(master.end());
    let slave = Node::new(4096);
    slave.copy(&master, master.end(), 1 << 20);
    let records = slave.records();
    let confirm = records
        .get(confirm)
        .map_or(slave.end(), |(start, _)| *start);
    slave.confirm(confirm);
    slave.flush();
    slave.dispatch();
    while slave.engine.seal_step() == crate::Step::Worked {}
    slave.engine.checkpoint_step();
    slave.engine.mark_step();
    (slave.dir.killed(), confirm, records)
}

/// What is done to the log.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Cut(u64),
    Anew(u64),
}

impl Deed {
    fn run(self, node: &Node) -> Result<(), CutError> {
        match self {
            Self::Cut(to) => {
                let kept = Aside::Kept { bytes_max: 5000 };
                node.engine.cut(PhysicalOffset(to), 2, kept)
            }
            Self::Anew(begin) => {
                let kept = Aside::Kept { bytes_max: 5000 };
                node.engine.start_anew(PhysicalOffset(begin), 2, kept)
            }
        }
    }

    /// What the log holds then.
    fn left(self, records: &[Record]) -> Vec<Record> {
        match self {
            Self::Cut(to) => records
                .iter()
                .filter(|(start, _)| *start < to)
                .cloned()
                .collect(),
            Self::Anew(_) => Vec::new(),
        }
    }
}

fn dies_after(changes: u64) -> Faults {
    Faults {
        dies_after: Some(changes),
        ..Faults::default()
    }
}

/// What the next process finds.
fn crashes(dir: &MemoryDirectory) -> impl Iterator<Item = MemoryDirectory> {
    // The crash takes what the folder knows of its changes along, so each gets a copy of its own.
    let killed = dir.killed();
    let lost = dir.crashed(dir.changes());
    [killed, lost].into_iter()
}

/// Opens what is left, and looks. Whether the deed was done.
fn look(dir: MemoryDirectory, deed: Deed, confirm: u64, records: &[Record]) -> bool {
    let opened = Node::open(dir, config(4096), confirm);
    let (node, report) = opened.unwrap_or_else(|error| panic!("{deed:?}: {error}"));
    assert_eq!(report.index_missing, 0, "{deed:?}");
    assert_eq!(node.engine.damage(), [], "{deed:?}");
    let found = node.records();
    let is_done = match deed {
        Deed::Cut(_) => found != records,
        Deed::Anew(begin) => node.engine.positions().min.0 == begin,
    };
    let expected = if is_done {
        deed.left(records)
    } else {
        records.to_vec()
    };
    assert_eq!(found, expected, "{deed:?}");
    assert_eq!(node.seen(), node.to_be_seen(&found), "{deed:?}");
    goes_on(&node, &found);
    is_done
}

/// A copy that is left is as good as any: it takes what a new master has, and a loss of power leaves a part of that.
fn goes_on(node: &Node, found: &[Record]) {
    let master = Node::new(4096);
    if node.engine.positions().min.0 > 0 {
        master
            .engine
            .start_anew(node.engine.positions().min, 1, Aside::Nothing)
            .unwrap();
    }
    master.copy(node, node.end(), 1 << 20);
    master.lead();
    for number in 100..110 {
        master.send(number, 0, 220);
    }
    master.confirm(master.end());
    node.copy(&master, master.end(), 1 << 20);
    assert_eq!(node.records(), master.records());
    let again = Node::open(node.dir.crashed(11), config(4096), 0).unwrap().0;
    let left = again.records();
    assert!(left.len() >= found.len(), "what was flushed is there");
    assert_eq!(left, master.records()[..left.len()]);
}

/// Ends the deed by a crash at each step. How many steps it has.
fn crash_at_each_step(
    deed: Deed,
    confirm: u64,
    template: &MemoryDirectory,
    records: &[Record],
) -> u64 {
    let mut step = 0;
    loop {
        let (node, _) = Node::open(template.killed(), config(4096), confirm).unwrap();
        node.dir.set_faults(dies_after(step));
        let result = deed.run(&node);
        let is_over = matches!(result, Ok(()) | Err(CutError::NeedsRestart));
        if !is_over {
            assert!(
                matches!(result, Err(CutError::Failed(_) | CutError::Aside(_))),
                "{result:?}"
            );
        }
        for dir in crashes(&node.dir) {
            let is_done = crash_start_at_each_step(&dir, deed, confirm, records);
            assert!(is_done || !is_over, "{deed:?} is done once that was said");
        }
        if is_over {
            return step;
        }
        step += 1;
    }
}

/// Ends the start by a crash at each step. Whether the deed is done in the end.
fn crash_start_at_each_step(
    dir: &MemoryDirectory,
    deed: Deed,
    confirm: u64,
    records: &[Record],
) -> bool {
    let mut step = 0;
    loop {
        let begun = dir.killed();
        begun.set_faults(dies_after(step));
        if Node::open(begun.clone(), config(4096), confirm).is_ok() {
            return look(dir.killed(), deed, confirm, records);
        }
        look(begun.crashed(step), deed, confirm, records);
        step += 1;
    }
}

#[test]
fn a_cut_of_what_nobody_saw_is_finished_by_the_next_start_wherever_it_ended() {
    let (dir, confirm, records) = template(2);
    for index in [2, 12, 20] {
        let steps = crash_at_each_step(Deed::Cut(records[index].0), confirm, &dir, &records);
        assert!(steps > 10, "{steps}");
    }
}

#[test]
fn a_cut_of_what_was_visible_is_done_by_the_next_start_wherever_that_ended() {
    let (dir, confirm, records) = template(20);
    for index in [0, 14] {
        let (node, _) = Node::open(dir.killed(), config(4096), confirm).unwrap();
        let deed = Deed::Cut(records[index].0);
        assert!(matches!(deed.run(&node), Err(CutError::NeedsRestart)));
        assert!(
            matches!(deed.run(&node), Err(CutError::NeedsRestart)),
            "until then"
        );
        let master = Node::new(4096);
        master.copy(&node, node.end(), 1 << 20);
        master.lead();
        master.send(100, 0, 10);
        let at = PhysicalOffset(node.end());
        let more = master
            .engine
            .read_records(at, PhysicalOffset(master.end()), 1)
            .unwrap();
        let error = node
            .engine
            .append_copied(at, more.file_end, &more.bytes)
            .unwrap_err();
        assert!(matches!(error, crate::CopyError::NeedsRestart), "{error}");
        node.role.leads.store(true, Ordering::Relaxed);
        assert!(
            node.append(100, 0, 10).is_err(),
            "nothing is appended meanwhile"
        );
        crash_at_each_step(deed, confirm, &dir, &records);
    }
}

#[test]
fn a_log_begins_anew_wherever_a_crash_ended_that() {
    let (dir, confirm, records) = template(20);
    for begin in [3, 100_000] {
        crash_at_each_step(Deed::Anew(begin), confirm, &dir, &records);
    }
    let empty = Node::new(4096).dir.killed();
    let steps = crash_at_each_step(Deed::Anew(12_345), 0, &empty, &[]);
    assert!(steps > 5, "{steps}");
}

#[test]
fn a_cut_without_a_note_of_what_it_is_about_to_do_is_seen() {
    let (dir, confirm, records) = template(2);
    let to = records[5].0;
    let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        mutant::with(Some(Mutant::CutWithoutIntent), || {
            crash_at_each_step(Deed::Cut(to), confirm, &dir, &records)
        })
    }));
    mutant::with(None, || ());
    assert!(seen.is_err());
}

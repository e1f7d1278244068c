use rocket_mapped_file::memory::MemoryDirectory;
use rocket_replication::epochs::Epochs;

use super::*;

const DISK: DiskId = DiskId(9);

/// A data folder and memory-backed storage, on which one process runs after the other.
struct Machine {
    items: Items,
    shelf: MemoryDirectory,
    boot: u128,
    folder: u128,
    mutations: Mutations,
}

impl Machine {
    fn new() -> Self {
        let items = Items::new(Arc::new(MemoryDirectory::default()));
        items.format(DISK, &Epochs::default()).unwrap();
        Self {
            items,
            shelf: MemoryDirectory::default(),
            boot: 1,
            folder: 1,
            mutations: Mutations::default(),
        }
    }

    /// A process that has locked the folder.
    fn locked(&self) -> Residence {
        let shelf = Shelf {
            dir: Arc::new(self.shelf.clone()),
            boot: BootId(self.boot),
        };
        let residence = Residence::on(shelf).with_mutations(self.mutations);
        residence.look(&self.items, FolderId(self.folder));
        residence
    }

    /// A process that has come as far as run `run` of the replica, and for which former runs the proof speaks.
    fn start(&self, run: u128) -> (Residence, Vec<u128>) {
        let residence = self.locked();
        residence.flush_begins();
        residence.flush_succeeded();
        let former = residence.begin(DISK, Incarnation(run));
        (residence, former.into_iter().map(|run| run.0).collect())
    }

    fn former(&self, run: u128) -> Vec<u128> {
        self.start(run).1
    }

    fn file(&self) -> Option<Vec<u8>> {
        self.shelf.read(&path(DISK)).unwrap()
    }
}

#[test]
fn each_start_adds_its_run_to_the_proof_that_it_finds() {
    let machine = Machine::new();
    assert!(machine.former(1).is_empty());
    assert_eq!(machine.former(2), [1]);
    // One that ended before it came so far leaves it as it was.
    drop(machine.locked());
    assert_eq!(machine.former(3), [1, 2]);
}

#[test]
fn start_without_a_valid_proof_makes_one_with_itself_alone() {
    let mut machine = Machine::new();
    machine.former(1);
    machine.shelf = MemoryDirectory::default();
    assert!(machine.former(2).is_empty(), "the machine lost power");
    assert_eq!(machine.former(3), [2]);
}

/// Somebody has put it on a disk.
#[test]
fn proof_of_another_boot_is_none() {
    let mut machine = Machine::new();
    machine.former(1);
    machine.boot = 2;
    assert!(machine.former(2).is_empty());
    machine.boot = 1;
    assert!(machine.former(3).is_empty(), "it was made anew");
}

#[test]
fn proof_of_another_disk_is_none() {
    let machine = Machine::new();
    machine.former(1);
    let other = DiskId(10);
    let proof = machine.file().unwrap();
    machine.shelf.replace(&path(other), &proof).unwrap();
    let items = Items::new(Arc::new(MemoryDirectory::default()));
    items.format(other, &Epochs::default()).unwrap();
    let moved = Machine { items, ..machine };
    assert!(moved.locked().begin(other, Incarnation(2)).is_empty());
}

/// It was restored from a backup, or copied, and its log is that of another time.
#[test]
fn proof_of_another_folder_with_the_same_disk_id_is_none() {
    let mut machine = Machine::new();
    machine.former(1);
    machine.folder = 2;
    assert!(machine.former(2).is_empty());
    assert_eq!(machine.former(3), [2], "it was made anew");
    machine.folder = 1;
    assert!(machine.former(4).is_empty(), "also for the first one");
}

/// Which files they are is not known, or nobody asked.
#[test]
fn folder_that_nobody_looked_at_has_no_proof() {
    let machine = Machine::new();
    machine.former(1);
    let shelf = Shelf {
        dir: Arc::new(machine.shelf.clone()),
        boot: BootId(machine.boot),
    };
    let residence = Residence::on(shelf);
    assert!(residence.begin(DISK, Incarnation(2)).is_empty());
}

#[test]
fn process_that_ends_during_a_flush_leaves_no_proof() {
    let machine = Machine::new();
    let (first, _) = machine.start(1);
    first.flush_begins();
    first.flush_begins();
    first.flush_succeeded();
    drop(first);
    assert!(machine.former(2).is_empty(), "one had not ended");
    let (second, _) = machine.start(3);
    second.flush_begins();
    second.flush_begins();
    second.flush_succeeded();
    second.flush_succeeded();
    drop(second);
    assert_eq!(machine.former(4), [2, 3]);
    // Also the flush that a start makes of what it finds.
    machine.locked().flush_begins();
    assert!(machine.former(5).is_empty());
}

#[test]
fn run_whose_flush_failed_has_no_proof_and_makes_none() {
    let machine = Machine::new();
    machine.former(1);
    let (second, former) = machine.start(2);
    assert_eq!(former, [1]);
    second.flush_begins();
    second.flush_begins();
    second.lost();
    assert_eq!(machine.file(), None, "it is gone at once");
    second.flush_succeeded();
    second.flush_succeeded();
    assert!(second.begin(DISK, Incarnation(2)).is_empty());
    assert_eq!(machine.file(), None, "and stays so");
    assert!(machine.former(3).is_empty());
}

/// It failed, and its process was gone before it could delete the proof.
#[test]
fn proof_of_a_run_that_is_known_to_have_failed_is_not_believed() {
    let machine = Machine::new();
    machine.former(1);
    let second = machine.locked();
    second.distrust();
    assert!(second.begin(DISK, Incarnation(2)).is_empty());
    drop(second);
    assert_eq!(machine.former(3), [2], "the next one has its own");
}

#[test]
fn bytes_that_are_not_those_that_were_written_are_no_proof() {
    let machine = Machine::new();
    machine.former(1);
    let good = machine.file().unwrap();
    let told = 8 + 16 + 16 + 16 + 16 + 4;
    for at in (0..told).chain([BUSY_AT]) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        machine.shelf.replace(&path(DISK), &bad).unwrap();
        assert!(machine.locked().proof.lock().file.is_none(), "byte {at}");
    }
    for short in [&good[..BUSY_AT], &[]] {
        machine.shelf.replace(&path(DISK), short).unwrap();
        assert!(machine.locked().proof.lock().file.is_none());
    }
    machine.shelf.replace(&path(DISK), &good).unwrap();
    assert_eq!(machine.former(2), [1]);
}

#[test]
fn without_room_for_it_there_is_no_proof_and_no_error() {
    let machine = Machine::new();
    machine.shelf.set_capacity(100);
    assert!(machine.former(1).is_empty());
    assert!(machine.former(2).is_empty());
    assert_eq!(machine.file(), None);
}

#[test]
fn of_very_many_runs_the_latest_are_listed() {
    let machine = Machine::new();
    let runs = 3 * RUNS_MAX as u128;
    for run in 0..runs {
        machine.former(run);
    }
    let listed: Vec<u128> = (runs - RUNS_MAX as u128..runs).collect();
    assert_eq!(machine.former(runs), listed);
}

/// §13.3.
#[cfg(feature = "mutants")]
#[test]
fn broken_rules_are_seen() {
    let with = |mutant| Machine {
        mutations: Mutations::default().with(mutant),
        ..Machine::new()
    };
    let busy = with(Mutant::M47);
    busy.start(1).0.flush_begins();
    assert_eq!(busy.former(2), [1], "M47");
    let failed = with(Mutant::M48);
    let (first, _) = failed.start(1);
    first.flush_begins();
    first.lost();
    assert_eq!(failed.former(2), [1], "M48");
    let mut booted = with(Mutant::M49);
    booted.former(1);
    booted.boot = 2;
    assert_eq!(booted.former(2), [1], "M49");
}

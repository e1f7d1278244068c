//! Units of several queues that come to the same files at once.

use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;

use super::*;
use crate::queues::extent::Chain;

/// Whether the thread sleeps: where it has but one lock to wait for, it waits for that.
fn is_asleep(thread: &Path) -> bool {
    let stat = std::fs::read_to_string(thread.join("stat")).unwrap();
    let (_, behind_its_name) = stat.rsplit_once(')').unwrap();
    behind_its_name.trim_start().starts_with('S')
}

/// One thread wants to put units into an extent while another one fills the file. The first one begins the next file then.
#[test]
fn a_file_names_the_end_of_all_units_before_it_whoever_put_them_there() {
    const ALL_OF_A_FILE: u64 = 193;
    const UNITS: &str = ".units";
    let dir = MemoryDirectory::default();
    let shared: Arc<dyn Directory> = Arc::new(dir.clone());
    let world = World::new(&shared, small(), 1);
    let queue = world.queues.get_or_make(&topic(), QueueId(0));
    queue.put(0, unit_at(0)).unwrap();
    let home = &world.queues.0.home;
    let upper = (ALL_OF_A_FILE + 1) * RECORD;
    std::thread::scope(|scope| {
        let mut log = home.units.write();
        let (tell, told) = channel::<PathBuf>();
        let queue = &queue;
        let saving = scope.spawn(move || {
            tell.send(std::fs::read_link("/proc/thread-self").unwrap())
                .unwrap();
            queue.save().unwrap()
        });
        let thread = Path::new("/proc").join(told.recv().unwrap());
        while !is_asleep(&thread) {
            std::thread::yield_now();
        }
        home.upper.fetch_max(upper, Ordering::AcqRel);
        let units: Vec<_> = (1..=ALL_OF_A_FILE)
            .map(|n| unit_at(n * RECORD).pack())
            .collect();
        log.append(9, 0, &units, 0, Chain::EMPTY, upper).unwrap();
        drop(log);
        saving.join().unwrap();
    });
    let files = dir.list_names(FOLDER).into_iter();
    let files: Vec<_> = files.filter(|name| name.ends_with(UNITS)).collect();
    assert_eq!(files.len(), 2);
    let head = dir.read(&format!("{FOLDER}/{}", files[1])).unwrap();
    assert_eq!(head.unwrap()[16..24], upper.to_be_bytes());
}

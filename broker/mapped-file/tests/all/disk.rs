//! What only a real file system shows.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rocket_mapped_file::disk::DiskDirectory;
use rocket_mapped_file::{Advice, Directory, Segment, SegmentOptions};

const LEN: u64 = 4 << 20;

/// How many descriptors and maps this process has of files below `folder`.
fn held(folder: &std::path::Path) -> (usize, usize) {
    let is_below = |path: &std::path::Path| path.starts_with(folder);
    let descriptors = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|path| is_below(path))
        .count();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let maps = maps
        .lines()
        .filter(|line| line.contains(folder.to_str().unwrap()))
        .count();
    (descriptors, maps)
}

#[test]
fn files_that_nobody_reads_cost_no_descriptor_and_no_map() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let dir = DiskDirectory::open(&root).unwrap();
    let options = SegmentOptions {
        lanes: 3,
        ..SegmentOptions::default()
    };
    for name in 0..100 {
        drop(dir.create(&format!("{name}"), 4096, options).unwrap());
    }
    let known: Vec<_> = (0..100)
        .map(|name| dir.open_later(&format!("{name}"), 4096, options).unwrap())
        .collect();
    for segment in &known {
        segment.publish(4096);
    }
    assert_eq!(held(&root), (0, 0));
    let lease = known[7].lease(0, 4096).unwrap().unwrap();
    assert_eq!((lease[0], held(&root)), (0, (1, 1)));
    let later = dir.open_later("8", 4096, options).unwrap();
    later.write_at(0, &[IoSlice::new(b"x")]).unwrap();
    assert_eq!(held(&root).0, 5, "one to write and three to flush");
    later.retire();
    assert_eq!(held(&root), (1, 1));
}

/// The store lists a folder in one thread while another one makes files there.
#[test]
fn a_folder_is_listed_while_files_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let dir = DiskDirectory::open(folder.path()).unwrap();
    let options = SegmentOptions::default();
    // The more there are, the longer lies between the names and the lengths.
    for name in 0..200 {
        drop(dir.create(&format!("stays-{name:03}"), 1, options).unwrap());
    }
    std::thread::scope(|scope| {
        let making = scope.spawn(|| {
            for name in 0..200 {
                let name = format!("goes-{name}");
                drop(dir.create(&name, 1, options).unwrap());
                dir.remove(&name).unwrap();
            }
        });
        while !making.is_finished() {
            let names = dir.list("").unwrap().into_iter();
            let stays = names.filter(|entry| entry.name.starts_with("stays-"));
            assert_eq!(stays.count(), 200);
        }
    });
}

/// A file of 4 MiB of sevens, nothing of which is in the page cache; or why that cannot be seen here.
fn forgotten() -> Result<(tempfile::TempDir, Arc<dyn Segment>, PathBuf), &'static str> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let dir = DiskDirectory::open(folder.path()).unwrap();
    let segment = dir.create("s", LEN, SegmentOptions::default()).unwrap();
    segment
        .write_at(0, &[IoSlice::new(&vec![7; 4 << 20])])
        .unwrap();
    segment.flush(0).unwrap();
    segment.forget_cache().unwrap();
    let path = folder.path().join("s");
    if std::process::Command::new("fincore")
        .arg("-V")
        .output()
        .is_err()
    {
        return Err("there is no fincore here");
    }
    if resident(&path) > 0 {
        return Err("this file system gives up no pages");
    }
    // As a later process has it.
    let segment = dir.open("s", SegmentOptions::default()).unwrap();
    Ok((folder, segment, path))
}

/// How much of the file is in the page cache when all of it was looked at aside.
fn left_by_a_look_aside(segment: &dyn Segment, path: &Path) -> u64 {
    let mut bytes = vec![0; 64 << 10];
    for block in 0..LEN / (64 << 10) {
        segment.read_aside(block * (64 << 10), &mut bytes).unwrap();
        assert!(bytes.iter().all(|&byte| byte == 7));
    }
    resident(path)
}

#[test]
fn a_look_aside_leaves_the_page_cache_as_it_was() {
    // A page that the kernel itself holds at that moment stays, so a second file is looked at, and a third.
    let mut left = Vec::new();
    let (_folder, segment, path) = loop {
        let (folder, segment, path) = match forgotten() {
            Ok(forgotten) => forgotten,
            Err(why) => return println!("skipped, nothing was shown about the page cache: {why}"),
        };
        left.push(left_by_a_look_aside(&*segment, &path));
        if left.last() == Some(&0) {
            break (folder, segment, path);
        }
        assert!(
            left.len() < 3,
            "what was not there before is there after: {left:?}"
        );
    };
    let mut bytes = vec![0; 64 << 10];
    segment.read_at(0, &mut bytes).unwrap();
    let before = resident(&path);
    segment.read_aside(0, &mut bytes).unwrap();
    assert!(
        before > 0 && resident(&path) >= before,
        "what was there stays"
    );
}

/// Of what readers bring in unasked nobody knows, so nobody would give it up.
#[test]
fn a_read_and_a_look_bring_in_what_they_ask_for_and_nothing_ahead() {
    let (_folder, segment, path) = match forgotten() {
        Ok(forgotten) => forgotten,
        Err(why) => return println!("skipped, nothing was shown about the page cache: {why}"),
    };
    assert!(!segment.is_resident(1 << 20, 1 << 20));
    let mut bytes = vec![0; 4096];
    for page in 0..16 {
        segment.read_at(page * 4096, &mut bytes).unwrap();
    }
    let pages = resident(&path) / 4096;
    assert!((16..=17).contains(&pages), "{pages}");
    segment.advise(64 << 10, 64 << 10, Advice::WillNeed);
    segment.read_at(64 << 10, &mut bytes).unwrap();
    let pages = resident(&path) / 4096;
    assert!((32..=33).contains(&pages), "{pages}");
}

/// Who reads on and on through the map says what he will need.
#[test]
fn a_fault_of_the_map_brings_in_its_page_and_nothing_ahead() {
    let (_folder, segment, path) = match forgotten() {
        Ok(forgotten) => forgotten,
        Err(why) => return println!("skipped, nothing was shown about the page cache: {why}"),
    };
    segment.publish(LEN);
    for page in [0, 1, 2, 3, 700] {
        let lent = segment.lease(page * 4096, 4096).unwrap().unwrap();
        assert_eq!(lent.first(), Some(&7));
    }
    let pages = resident(&path) / 4096;
    assert!((5..=6).contains(&pages), "{pages}");
}

/// Bytes of a file in the page cache, by util-linux: to ask the kernel by reading would read ahead.
fn resident(path: &Path) -> u64 {
    let out = std::process::Command::new("fincore")
        .args(["--bytes", "--noheadings", "--output", "RES"])
        .arg(path)
        .output()
        .unwrap();
    String::from_utf8(out.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}
